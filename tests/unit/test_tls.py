"""The transport tls: who is who; what it shares with the others is in test_sockets.py."""

import gc
import hashlib
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from dfs.core import identity
from dfs.core.errors import (
    CertificateRefusedError,
    ConfigError,
    DfsError,
    LocalProtocolError,
    PeerIdentityError,
    RemoteProtocolError,
    TimedOutError,
    UnreachableError,
)
from dfs.core.interface import Listener, Stream, TransportOptions
from dfs.plugins import tcp, tls
from tests.unit.tls_kit import Authority

OTHER_PIN = bytes(32)


def soon() -> float:
    return time.monotonic() + 10.0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, bytes]:
    return identity.ensure_certificate(str(tmp_path_factory.mktemp("certificate")), "node")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield pool


def listen(certificate_path: str, key_path: str, ca_path: str | None = None) -> Listener:
    options = TransportOptions(certificate_path=certificate_path, key_path=key_path, ca_path=ca_path)
    return tls.make(options).listen("127.0.0.1:0")


@pytest.fixture
def listener(certificate: tuple[str, str, bytes]) -> Iterator[Listener]:
    listener = listen(*certificate[:2])
    yield listener
    listener.close()


class Meeting:
    """Both sides of one handshake; ``failure`` is what the server met."""

    def __init__(self, threads: ThreadPoolExecutor, listener: Listener, options: TransportOptions) -> None:
        self.client = tls.make(options).connect(listener.address, soon())
        self.server = listener.accept(soon())
        self._greeting = threads.submit(self.server.handshake, soon())

    def failure(self) -> BaseException | None:
        return self._greeting.exception(10.0)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def received(stream: Stream, size: int) -> bytes:
    target = memoryview(bytearray(size))
    offset = 0
    while offset < size:
        offset += stream.receive_into(target[offset:], soon())
    return bytes(target)


def test_a_pinned_peer_is_known(
    listener: Listener, certificate: tuple[str, str, bytes], threads: ThreadPoolExecutor
) -> None:
    meeting = Meeting(threads, listener, TransportOptions(pins={listener.address: certificate[2]}))
    meeting.client.handshake(soon())
    assert meeting.failure() is None
    assert meeting.client.channel_binding == meeting.server.channel_binding == certificate[2]
    meeting.close()


def test_another_certificate_than_the_pinned_one_is_refused(
    listener: Listener, certificate: tuple[str, str, bytes], threads: ThreadPoolExecutor
) -> None:
    meeting = Meeting(threads, listener, TransportOptions(pins={listener.address: OTHER_PIN}))
    with pytest.raises(PeerIdentityError) as caught:
        meeting.client.handshake(soon())
    assert listener.address in caught.value.what
    assert tls.fingerprint(certificate[2]) in caught.value.what
    assert tls.fingerprint(OTHER_PIN) in caught.value.what
    meeting.close()


def test_the_pin_of_another_address_says_nothing(listener: Listener, threads: ThreadPoolExecutor) -> None:
    meeting = Meeting(threads, listener, TransportOptions(pins={"127.0.0.1:1": OTHER_PIN}))
    meeting.client.handshake(soon())
    assert len(meeting.client.channel_binding) == 32
    meeting.close()


def test_it_is_tls_1_3_and_nothing_older(listener: Listener, threads: ThreadPoolExecutor) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    name, port = listener.address.split(":")
    with socket.create_connection((name, int(port)), timeout=10.0) as raw:
        server = listener.accept(soon())
        greeting = threads.submit(server.handshake, soon())
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(raw)
        assert isinstance(greeting.exception(10.0), RemoteProtocolError)
        server.close()


def test_an_authority_vouches(authority: Authority, threads: ThreadPoolExecutor) -> None:
    listener = listen(*authority.issue("node", "127.0.0.1"))
    meeting = Meeting(threads, listener, TransportOptions(ca_path=authority.path))
    meeting.client.handshake(soon())
    assert meeting.failure() is None
    meeting.close()
    listener.close()


def test_an_authority_vouches_for_the_address_only(authority: Authority, threads: ThreadPoolExecutor) -> None:
    listener = listen(*authority.issue("elsewhere", "192.0.2.7"))
    meeting = Meeting(threads, listener, TransportOptions(ca_path=authority.path))
    with pytest.raises(PeerIdentityError, match="IP address mismatch"):
        meeting.client.handshake(soon())
    meeting.close()
    listener.close()


def test_a_certificate_of_nobody_is_refused(
    listener: Listener, authority: Authority, threads: ThreadPoolExecutor
) -> None:
    meeting = Meeting(threads, listener, TransportOptions(ca_path=authority.path))
    with pytest.raises(PeerIdentityError, match="not valid"):
        meeting.client.handshake(soon())
    assert isinstance(meeting.failure(), DfsError)
    meeting.close()


def test_a_client_shows_its_certificate(authority: Authority, threads: ThreadPoolExecutor) -> None:
    listener = listen(*authority.issue("node", "127.0.0.1"), ca_path=authority.path)
    certificate_path, key_path = authority.issue("client", "127.0.0.2")
    meeting = Meeting(
        threads, listener, TransportOptions(certificate_path=certificate_path, key_path=key_path)
    )
    meeting.client.handshake(soon())
    assert meeting.failure() is None
    meeting.server.send([b"in"], soon())
    assert received(meeting.client, 2) == b"in"
    node = (authority.folder / "node.pem").read_text()
    assert meeting.server.channel_binding == hashlib.sha256(ssl.PEM_cert_to_DER_cert(node)).digest()
    meeting.close()
    listener.close()


def test_a_client_without_certificate_is_refused(authority: Authority, threads: ThreadPoolExecutor) -> None:
    listener = listen(*authority.issue("node", "127.0.0.1"), ca_path=authority.path)
    meeting = Meeting(threads, listener, TransportOptions())
    meeting.client.handshake(soon())  # the server's verdict comes after it
    assert isinstance(meeting.failure(), RemoteProtocolError)
    with pytest.raises(CertificateRefusedError, match="wants a certificate of ours"):
        meeting.client.receive_into(memoryview(bytearray(1)), soon())
    meeting.close()
    listener.close()


def test_a_refusal_is_heard_also_by_who_writes_when_the_server_is_gone(
    authority: Authority, certificate: tuple[str, str, bytes], threads: ThreadPoolExecutor
) -> None:
    listener = listen(*authority.issue("node", "127.0.0.1"), ca_path=authority.path)
    options = TransportOptions(certificate_path=certificate[0], key_path=certificate[1])
    meeting = Meeting(threads, listener, options)
    meeting.client.handshake(soon())
    meeting.failure()
    meeting.server.close()
    many = [bytes(10_000)] * 1000  # the first ones may only fill buffers
    with pytest.raises(CertificateRefusedError, match="does not take our certificate"):
        meeting.client.send(many, soon())
    meeting.close()
    listener.close()


def test_a_client_of_nobody_is_refused(
    authority: Authority, certificate: tuple[str, str, bytes], threads: ThreadPoolExecutor
) -> None:
    listener = listen(*authority.issue("node", "127.0.0.1"), ca_path=authority.path)
    options = TransportOptions(certificate_path=certificate[0], key_path=certificate[1])
    meeting = Meeting(threads, listener, options)
    meeting.client.handshake(soon())
    assert isinstance(meeting.failure(), PeerIdentityError)
    meeting.close()
    listener.close()


def test_a_server_without_tls_is_told_apart() -> None:
    listener = tcp.make(TransportOptions()).listen("127.0.0.1:0")
    client = tls.make(TransportOptions()).connect(listener.address, soon())
    server = listener.accept(soon())
    server.send([b"220 mail.example ESMTP\r\n"], soon())
    with pytest.raises(RemoteProtocolError, match="does not speak TLS with us"):
        client.handshake(soon())
    for each in (client, server, listener):
        each.close()


def test_a_client_without_tls_is_told_apart(listener: Listener) -> None:
    client = tcp.make(TransportOptions()).connect(listener.address, soon())
    server = listener.accept(soon())
    client.send([b"GET / HTTP/1.1\r\n\r\n"], soon())
    with pytest.raises(RemoteProtocolError, match="http request"):
        server.handshake(soon())
    client.close()
    server.close()


def test_a_peer_that_leaves_during_the_handshake(listener: Listener) -> None:
    client = tcp.make(TransportOptions()).connect(listener.address, soon())
    server = listener.accept(soon())
    client.close()
    with pytest.raises(UnreachableError):
        server.handshake(soon())
    server.close()


def test_a_peer_that_has_left_before_the_handshake() -> None:
    """Its reset is met before there is a session; the socket is closed even so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        name, port = server.getsockname()
        client = tls.make(TransportOptions()).connect(f"{name}:{port}", soon())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        poller = select.poll()
        poller.register(client.fileno(), select.POLLIN)
        assert poller.poll(10_000), "the reset has come"
    with pytest.raises(UnreachableError):
        client.handshake(soon())
    client.close()
    gc.collect()  # a socket that was left open is told of here


def test_a_silent_peer_meets_the_deadline(listener: Listener) -> None:
    client = tcp.make(TransportOptions()).connect(listener.address, soon())
    server = listener.accept(soon())
    with pytest.raises(TimedOutError):
        server.handshake(time.monotonic() + 0.01)
    client.close()
    server.close()


def wakes(stream: Stream, within_ms: int) -> bool:
    poller = select.poll()
    poller.register(stream.fileno(), select.POLLIN)
    return bool(poller.poll(within_ms))


@pytest.mark.skipif(sys.platform == "win32", reason="has no low-water mark")
def test_a_greeting_that_comes_byte_by_byte_wakes_nobody(listener: Listener) -> None:
    """Each byte would cost the node a turn, and a few hundred such peers its clients."""
    client = tcp.make(TransportOptions()).connect(listener.address, soon())
    server = listener.accept(soon())
    greeting = client_hello()
    for size in range(1, len(greeting)):
        client.send([greeting[size - 1 : size]], soon())
        if size in {1, 5}:  # until then it is not known how long it will be
            assert wakes(server, 10_000)
            with pytest.raises(TimedOutError):
                server.handshake(time.monotonic())
    assert not wakes(server, 0)
    client.send([greeting[-1:]], soon())
    assert wakes(server, 10_000)
    with pytest.raises(TimedOutError):
        server.handshake(time.monotonic())
    assert wakes(client, 10_000), "it has answered"
    client.close()
    server.close()


@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_a_peer_that_leaves_within_its_greeting(listener: Listener, size: int) -> None:
    client = tcp.make(TransportOptions()).connect(listener.address, soon())
    server = listener.accept(soon())
    client.send([client_hello()[:size]], soon())
    with pytest.raises(TimedOutError):
        server.handshake(time.monotonic() + 0.01)
    client.close()
    with pytest.raises(UnreachableError):
        server.handshake(soon())
    server.close()


def client_hello() -> bytes:
    """Return the first record of a client."""
    written = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), written, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return written.read()


def test_close_wakes_a_handshake(listener: Listener, threads: ThreadPoolExecutor) -> None:
    client = tls.make(TransportOptions()).connect(listener.address, soon())
    greeting = threads.submit(client.handshake, soon())
    client.close()
    assert isinstance(greeting.exception(10.0), UnreachableError)


def test_a_close_just_after_the_keys_are_agreed(
    listener: Listener, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may close while, or just before, this one looks at the certificate."""
    greet, identify = tls.ClientStream._greet, tls.ClientStream.identify

    def greet_and_close(stream: tls.ClientStream) -> None:
        greet(stream)
        stream.close()

    def close_and_identify(stream: tls.ClientStream, session: ssl.SSLSocket) -> bytes:
        stream.close()
        return identify(stream, session)

    monkeypatch.setattr(tls.ClientStream, "_greet", greet_and_close)
    before = Meeting(threads, listener, TransportOptions())
    with pytest.raises(UnreachableError, match="was closed"):
        before.client.handshake(soon())
    monkeypatch.setattr(tls.ClientStream, "_greet", greet)
    monkeypatch.setattr(tls.ClientStream, "identify", close_and_identify)
    during = Meeting(threads, listener, TransportOptions())
    during.client.handshake(soon())
    for meeting in (before, during):
        meeting.close()


def test_nothing_is_sent_before_the_handshake(listener: Listener) -> None:
    client = tls.make(TransportOptions()).connect(listener.address, soon())
    with pytest.raises(LocalProtocolError, match="before its handshake"):
        client.send([b"secret"], soon())
    assert client.pending() == 0
    client.close()


def test_what_a_selector_cannot_see_is_pending(listener: Listener, threads: ThreadPoolExecutor) -> None:
    meeting = Meeting(threads, listener, TransportOptions())
    meeting.client.handshake(soon())
    assert meeting.failure() is None
    meeting.client.send([b"12345"], soon())
    assert received(meeting.server, 2) == b"12"
    assert meeting.server.pending() == 3
    assert received(meeting.server, 3) == b"345"
    assert meeting.server.pending() == 0
    meeting.close()


def test_files_are_not_sent_by_the_kernel(listener: Listener) -> None:
    client = tls.make(TransportOptions()).connect(listener.address, soon())
    assert not client.can_send_file
    with pytest.raises(LocalProtocolError):
        client.send_file(0, 0, 1, soon())
    client.close()


def test_it_is_confidential() -> None:
    assert tls.make(TransportOptions()).confidential


def test_a_node_needs_a_certificate() -> None:
    with pytest.raises(ConfigError, match="needs a certificate"):
        tls.make(TransportOptions()).listen("127.0.0.1:0")


def test_unusable_files_are_named(certificate: tuple[str, str, bytes], tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    unusable = [
        (TransportOptions(certificate_path=str(other), key_path=certificate[1]), str(other)),
        (TransportOptions(certificate_path=certificate[0], key_path=str(other)), certificate[0]),
        (
            TransportOptions(
                certificate_path=certificate[0], key_path=certificate[1], ca_path=str(tmp_path / "absent")
            ),
            str(tmp_path / "absent"),
        ),
    ]
    for options, path in unusable:
        with pytest.raises(ConfigError) as caught:
            tls.make(options).listen("127.0.0.1:0")
        assert caught.value.file == path


def test_a_key_with_a_password_is_refused_without_asking(
    certificate: tuple[str, str, bytes], tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(Path(certificate[1]).read_bytes(), None)
    locked = tmp_path / "key.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError):
        tls.make(TransportOptions(certificate_path=certificate[0], key_path=str(locked))).listen(
            "127.0.0.1:0"
        )


def test_the_first_certificate_of_a_chain_counts(
    certificate: tuple[str, str, bytes], authority: Authority, tmp_path: Path
) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_text("leaf\n" + Path(certificate[0]).read_text() + "ca\n" + Path(authority.path).read_text())
    assert tls.certificate_digest(str(chain)) == certificate[2]
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigError, match="holds no certificate"):
        tls.certificate_digest(str(tmp_path / "empty.pem"))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([0, 0], []),
        ([64, 200], [264]),
        ([64, 200, 65536], [264, 65536]),
        ([65536, 10, 65536, 5, 6], [65536, 10, 65536, 11]),
        ([16383, 16383, 16383], [32766, 16383]),
    ],
)
def test_only_small_neighbours_are_joined(sizes: list[int], expected: list[int]) -> None:
    buffers = [bytes([index + 1]) * size for index, size in enumerate(sizes)]
    pieces = [bytes(piece) for piece in tls.joined(buffers)]
    assert b"".join(pieces) == b"".join(buffers)
    assert [len(piece) for piece in pieces if piece] == expected
