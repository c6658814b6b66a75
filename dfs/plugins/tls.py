"""The transport `tls`: TLS 1.3 over TCP; a node is known by its certificate or by an authority.

OpenSSL allows one call at a time on a connection, even if one thread sends and another receives: a lock is
held for each call and never while waiting, so neither of them stops the other.
"""

import hashlib
import select
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from dfs.core.api import (
    Buffer,
    CertificateRefusedError,
    ConfigError,
    DfsError,
    Listener,
    LocalProtocolError,
    PeerIdentityError,
    RemoteProtocolError,
    SocketListener,
    SocketStream,
    Stream,
    TimedOutError,
    Transport,
    TransportOptions,
    TransportPlugin,
    UnknownKeyError,
    UnreachableError,
    bind,
    dial,
    hookimpl,
    split_address,
)

DFS_API_VERSION: Final = 1
NAME: Final = "tls"
HEAD_SIZE: Final = 5  # of a record (RFC 8446, 5.1): type, version, size of the rest
HANDSHAKE_RECORD: Final = 22
RECORD_SIZE_MAX: Final = 16 * 1024
JOIN_SIZE_MAX: Final = RECORD_SIZE_MAX  # smaller neighbours are joined, larger buffers go as they are
GONE: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)  # what sending to such a server gives
REFUSALS: Final = (  # OpenSSL's names of the alerts by which a server says that it does not take a client's
    *("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED"),
    *("CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN"),
)
PEM_FIRST: Final = "-----BEGIN CERTIFICATE-----"
PEM_LAST: Final = "-----END CERTIFICATE-----"


def fingerprint(digest: bytes) -> str:
    """Return a certificate digest as people tell it from another; ``dfs cert show`` has all of it."""
    return f"SHA256:{digest.hex()[:4]}..{digest.hex()[-2:]}"


class TlsStream(SocketStream):
    """One side of a TLS connection; the subclass knows who the other side must be."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        super().__init__(connection, peer)
        self._call_lock = threading.Lock()
        self._session: ssl.SSLSocket | None = None
        self._binding = b""

    @property
    def channel_binding(self) -> bytes:
        """SHA-256 of the server's certificate."""
        return self._binding

    @property
    def can_send_file(self) -> bool:
        """No: the bytes must be sealed here."""
        return False

    @property
    def session(self) -> ssl.SSLSocket:
        """The socket after `handshake` began."""
        if self._session is None:
            raise LocalProtocolError("a TLS connection was used before its handshake")
        return self._session

    def pending(self) -> int:
        """Bytes of a record that was opened but not yet fetched."""
        with self._call_lock:
            return 0 if self._session is None else self._session.pending()

    def handshake(self, deadline_s: float) -> None:
        """Agree on keys, then see who the peer is."""
        if self._session is None:  # else it goes on where it ran out of time
            with self._guard:
                try:
                    self.connection.getpeername()  # if it was reset already, ssl would lose the open socket
                    self.connection = self._session = self.secure(self.connection)
                except OSError as error:
                    raise self.explain(error) from error
        self.attempt(self._greet, select.POLLIN, deadline_s)
        with self._guard:  # a close of meanwhile waits: it would take the session away with its certificate
            self._binding = self.identify(self.session)

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return the connection as a TLS socket before its handshake."""
        raise NotImplementedError

    def identify(self, session: ssl.SSLSocket) -> bytes:
        """Return the digest of the server's certificate. Raises: PeerIdentityError: not the right peer."""
        raise NotImplementedError

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        """Send all buffers, each large one in as few calls as OpenSSL allows."""
        pieces = joined(self.queued(buffers))
        for piece in pieces:
            view = memoryview(piece)
            try:
                while view.nbytes:
                    view = view[self.attempt(partial(self._write, view), select.POLLOUT, deadline_s) :]
            except TimedOutError:
                self.keep([view, *(memoryview(left) for left in pieces)])
                raise

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        """Receive what is there, record after record, until the target is full."""
        size = self.attempt(partial(self._read, target), select.POLLIN, deadline_s)
        if size == 0:
            self._guard.check()
        return size

    def events_wanted(self, error: OSError, events: int) -> int:
        """OpenSSL says itself what it waits for."""
        if isinstance(error, ssl.SSLWantReadError):
            return select.POLLIN
        if isinstance(error, ssl.SSLWantWriteError):
            return select.POLLOUT
        return super().events_wanted(error, events)

    def explain(self, error: OSError) -> DfsError:
        """Return what a failed call means."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return PeerIdentityError(
                f"{self.peer} shows a certificate that is not valid: {error.verify_message}"
            )
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return UnreachableError(f"{self.peer} broke off the connection")
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or str(error)).lower().replace("_", " ")
            return RemoteProtocolError(f"{self.peer} does not speak TLS with us: {reason}")
        return super().explain(error)

    def _greet(self) -> None:
        with self._call_lock:
            self.session.do_handshake()

    def _write(self, view: memoryview) -> int:
        with self._call_lock:
            return self.session.send(view)

    def _read(self, target: memoryview) -> int:
        size = 0
        with self._call_lock:
            while size < len(target):
                try:
                    record_size = self.session.recv_into(target[size:])
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    if size == 0:
                        raise
                    break
                if record_size == 0:
                    break
                size += record_size
        return size


class ClientStream(TlsStream):
    """The connecting side: compares the peer with its pin, if there is one.

    ``shows_one``: the context has a certificate of ours.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        pin: bytes | None,
        connection: socket.socket,
        peer: str,
        *,
        shows_one: bool = False,
    ) -> None:
        super().__init__(connection, peer)
        self._context = context
        self._pin = pin
        self._shows_one = shows_one

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        """Greet as a client; the name is needed only where the authority's word about it counts."""
        name = split_address(self.peer)[0] if self._context.check_hostname else None
        return self._context.wrap_socket(connection, do_handshake_on_connect=False, server_hostname=name)

    def identify(self, session: ssl.SSLSocket) -> bytes:
        """Compare the certificate shown with the pinned one."""
        digest = hashlib.sha256(session.getpeercert(binary_form=True) or b"").digest()
        if self._pin is not None and digest != self._pin:
            raise PeerIdentityError(
                f"{self.peer} shows certificate {fingerprint(digest)}, but {fingerprint(self._pin)} is pinned"
            )
        return digest

    def explain(self, error: OSError) -> DfsError:
        """Tell a refusal of our certificate, which TLS 1.3 sends after the handshake, from other failures."""
        told = self._last_words() if isinstance(error, GONE) else error
        alert = (getattr(told, "reason", "") or "").rpartition("ALERT_")[2]
        if isinstance(told, ssl.SSLError) and alert in REFUSALS:
            return CertificateRefusedError(
                f"{self.peer} does not take our certificate ({alert.lower().replace('_', ' ')})"
                if self._shows_one
                else f"{self.peer} wants a certificate of ours, and the conf names none"
            )
        return super().explain(error)

    def _last_words(self) -> OSError | None:
        """Return the alert of a peer that is gone: what it sent before can still be read."""
        try:
            with self._call_lock:
                if self._session is not None:
                    self._session.recv(1)
        except OSError as error:
            return error
        return None


class ServerStream(TlsStream):
    """The accepting side; the context refuses clients that must show a certificate and do not."""

    def __init__(self, context: ssl.SSLContext, digest: bytes, connection: socket.socket, peer: str) -> None:
        super().__init__(connection, peer)
        self._context = context
        self._digest = digest
        self._awaited_size = 0  # of the client's first record, as far as it is known

    def handshake(self, deadline_s: float) -> None:
        """Begin once the client's first record is whole: come byte by byte, it must not cost a turn each."""
        if self._session is None:
            self.attempt(self._first_record, select.POLLIN, deadline_s)
        super().handshake(deadline_s)

    def _first_record(self) -> None:
        """Look for it. Raises: BlockingIOError: it is not whole; the system keeps silent until it is."""
        head = self.connection.recv(HEAD_SIZE, socket.MSG_PEEK)
        size = HEAD_SIZE
        if len(head) == HEAD_SIZE and head[0] == HANDSHAKE_RECORD:
            size += min(int.from_bytes(head[3:], "big"), RECORD_SIZE_MAX)
        # Woken for less than what was waited for: it ended, or this system keeps no low-water mark.
        woken, self._awaited_size = size == self._awaited_size, size
        whole = woken or len(self.connection.recv(size, socket.MSG_PEEK)) == size
        with suppress(OSError):  # Windows has none; a broken connection is told by the next call
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if whole else size)
        if not whole:
            raise BlockingIOError

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        """Greet as a server."""
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def identify(self, session: ssl.SSLSocket) -> bytes:
        """Return our own certificate's digest: a client is known by its login."""
        del session
        return self._digest


def joined(buffers: Sequence[Buffer]) -> Iterator[Buffer]:
    """Yield the bytes of all buffers in order, small neighbours as one: a call costs more than their copy."""
    small: list[Buffer] = []
    small_size = 0
    for buffer in buffers:
        if len(buffer) < JOIN_SIZE_MAX and small_size < JOIN_SIZE_MAX:
            small.append(buffer)
            small_size += len(buffer)
            continue
        yield b"".join(small)
        small, small_size = [], 0
        yield buffer
    yield b"".join(small)


class TlsTransport:
    """Connects and listens; contexts are made when first needed, so a client needs no certificate."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options

    @property
    def confidential(self) -> bool:
        """Yes."""
        return True

    def connect(self, address: str, deadline_s: float) -> Stream:
        """Connect; the peer is proven by the handshake."""
        context = self._client_context
        pin, shows_one = self._options.pins.get(address), self._options.certificate_path is not None
        return ClientStream(context, pin, dial(address, deadline_s), address, shows_one=shows_one)

    def listen(self, address: str) -> Listener:
        """Bind; raises ConfigError as well if certificate or key cannot be used."""
        certificate_path = self._options.certificate_path
        if certificate_path is None:
            raise ConfigError("a node that speaks TLS needs a certificate and a private key")
        wrap = partial(ServerStream, self._server_context, certificate_digest(certificate_path))
        return SocketListener(bind(address), wrap)

    @cached_property
    def _client_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._options.ca_path is None:  # the pin decides, or whoever trusts on first use
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return self._loaded(context)

    @cached_property
    def _server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = (
            0  # unread, they would turn the end of a connection into a reset that loses bytes
        )
        if self._options.ca_path is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._loaded(context)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        options = self._options
        path = ""
        try:
            if options.ca_path is not None:
                path = options.ca_path
                context.load_verify_locations(cafile=path)
            if options.certificate_path is not None:
                path = options.certificate_path
                # An empty password, since OpenSSL would otherwise ask for one on the terminal.
                context.load_cert_chain(path, options.key_path, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} or its private key cannot be used: {error}", file=path) from error
        return context


def certificate_digest(path: str) -> bytes:
    """Return SHA-256 of the first certificate of a PEM file: the one a server shows."""
    try:
        text = Path(path).read_text("ascii")
        first = text.index(PEM_FIRST)
        end = text.index(PEM_LAST, first) + len(PEM_LAST)
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[first:end])).digest()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} holds no certificate: {error}", file=path) from error


def make(options: TransportOptions) -> Transport:
    """Make the transport; it has no settings beside certificates and pins."""
    for key in options.values:
        raise UnknownKeyError(f"the transport tls has no setting {key!r}")
    return TlsTransport(options)


@hookimpl
def dfs_transports() -> Iterable[TransportPlugin]:
    """Declare it."""
    return (
        TransportPlugin(
            needs_certificate=True,
            name=NAME,
            summary="TLS 1.3 with pinned certificates, the default",
            make=make,
        ),
    )
