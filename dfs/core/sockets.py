"""What transports over sockets share: addresses, connecting, listening and a stream that keeps its deadlines.

No call waits inside the kernel: it is tried first and then waited for with poll, so the sender and the
receiver of one stream keep different deadlines (a socket's own timeout is one for both). A descriptor is
closed by the last thread that uses it: its number could otherwise go to another connection while a thread
still waits on it.
"""

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

from dfs.core import limits
from dfs.core.errors import (
    BusyError,
    ConfigError,
    CorruptShareError,
    DfsError,
    LocalProtocolError,
    TimedOutError,
    UnreachableError,
)
from dfs.core.interface import Buffer, Stream
from dfs.core.units import join_address, split_address

T = TypeVar("T")

BACKLOG: Final = limits.CONNECTION_COUNT_MAX
BUFFER_COUNT_MAX: Final = 1024  # of one sendmsg; IOV_MAX of Linux and macOS
WAIT_S_MAX: Final = 3600.0  # of one poll; a longer wait is several
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def dial(address: str, deadline_s: float) -> socket.socket:
    """Return a connected TCP socket.

    A name's addresses are tried in turn, each with its part of the time that is left. Only looking up the
    name keeps no deadline: the system offers none.
    Raises: UnreachableError: refused, no route, unknown name. TimedOutError. ConfigError: it is no address.
    """
    name, port = split_address(address)
    plain = name.encode() if name.isascii() else name  # text of any kind would load the codec idna
    try:
        places = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(f"{address} cannot be reached: the name {name} is not known") from error
    failure: OSError = TimeoutError()
    for index, (family, kind, protocol, _, place) in enumerate(places):
        timeout_s = (deadline_s - time.monotonic()) / (len(places) - index)
        if timeout_s <= 0:
            break
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            connection.settimeout(min(timeout_s, WAIT_S_MAX))
            connection.connect(place)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise explain(failure, address) from failure


def bind(address: str) -> socket.socket:
    """Return a listening TCP socket; an empty name is every address, IPv6 and IPv4 where the system can.

    Raises: BusyError: the address is in use. ConfigError: it is none, or none of this machine.
    """
    everywhere = address.startswith(":")
    name, port = split_address(f"[::]{address}" if everywhere else address, port_min=0)
    try:
        if not everywhere:
            places = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, place = places[0]
            server = socket.create_server(place, family=family, backlog=BACKLOG)
        else:
            server = _bind_everywhere(port)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit this
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise BusyError(f"another process listens on {address}") from error
        raise ConfigError(f"cannot listen on {address}: {error}") from error
    return server


def _bind_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:  # IPv6 is there but switched off
                raise
    return socket.create_server(("", port), backlog=BACKLOG)


def explain(error: OSError, peer: str) -> DfsError:
    """Return the DfsError that tells what a failed socket call means for the connection with ``peer``."""
    if isinstance(error, TimeoutError):
        return TimedOutError(f"{peer} did not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(f"{peer} refused the connection")
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return UnreachableError(f"{peer} broke off the connection")
    return UnreachableError(f"{peer} cannot be reached: {error.strerror or error}")


def wait(descriptor: int, events: int, deadline_s: float, peer: str) -> None:
    """Wait until the descriptor is ready, or for a while: the caller tries again in any case.

    Raises: TimedOutError: the deadline passed.
    """
    remaining_s = deadline_s - time.monotonic()
    if remaining_s > 0:
        poller = select.poll()
        poller.register(descriptor, events)
        if poller.poll(min(remaining_s, WAIT_S_MAX) * 1000) or remaining_s > WAIT_S_MAX:
            return
    raise TimedOutError(f"{peer} did not answer in time")


def ready_of(streams: Sequence[Stream], deadline_s: float) -> list[int]:
    """Wait until something came over some of the streams, or they were closed; return their indexes.

    Returns: nothing when the deadline passed first.
    """
    descriptors = [stream.fileno() for stream in streams]
    closed = [index for index, descriptor in enumerate(descriptors) if descriptor < 0]
    if closed:
        return closed
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    remaining_s = min(max(0.0, deadline_s - time.monotonic()), WAIT_S_MAX)
    told = {descriptor for descriptor, _ in poller.poll(remaining_s * 1000)}
    return [index for index, descriptor in enumerate(descriptors) if descriptor in told]


class Guard:
    """Counts the threads that use a thing; when it is closed the last of them releases it."""

    def __init__(self, name: str, release: Callable[[], None]) -> None:
        self.closed = False
        self._name = name
        self._release = release
        self._user_count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.check()
            self._user_count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._user_count -= 1
            last = self.closed and self._user_count == 0
        if last:
            self._release()

    def check(self) -> None:
        """Raise UnreachableError if it was closed."""
        if self.closed:
            raise UnreachableError(f"{self._name} was closed")

    def close(self, wake: Callable[[], None]) -> None:
        """Let nobody in any more and ``wake`` those who wait inside; twice is fine."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            wake()
            unused = self._user_count == 0
        if unused:
            self._release()


class SocketStream:
    """A Stream over a connected socket, which it owns. After another error than TimedOutError it is good for
    `close` only.
    """

    def __init__(self, connection: socket.socket, peer: str) -> None:
        connection.settimeout(0)
        self.connection = connection
        self._peer = peer
        self._guard = Guard(f"the connection with {peer}", self._release)
        self._unsent: list[memoryview] = []
        self._unsent_file = (0, 0, 0)  # descriptor, offset, end

    @property
    def peer(self) -> str:
        """Address of the other end."""
        return self._peer

    @property
    def channel_binding(self) -> bytes:
        """Nothing: there is no certificate."""
        return b""

    @property
    def can_send_file(self) -> bool:
        """Whether the kernel can send from a file by itself."""
        return hasattr(os, "sendfile")

    @property
    def unsent_size(self) -> int:
        """Bytes kept back when a deadline passed."""
        _, offset, end = self._unsent_file
        return sum(map(len, self._unsent)) + end - offset

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self._guard.closed else self.connection.fileno()

    def pending(self) -> int:
        """Nothing is kept in the stream."""
        return 0

    def handshake(self, deadline_s: float) -> None:
        """Nothing: the first bytes are the caller's."""

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        """Send all buffers with as few calls as the system allows, after what was kept back."""
        descriptor, offset, end = self._unsent_file
        if offset < end:
            self.send_file(descriptor, offset, end - offset, deadline_s)
        views = self.queued(buffers)
        index = 0
        try:
            while index < len(views):
                batch = views[index : index + BUFFER_COUNT_MAX]
                sent_size = self.attempt(partial(self.connection.sendmsg, batch), select.POLLOUT, deadline_s)
                while index < len(views) and sent_size >= len(views[index]):
                    sent_size -= len(views[index])
                    index += 1
                if sent_size:
                    views[index] = views[index][sent_size:]
        except TimedOutError:
            self.keep(views[index:])
            raise

    def queued(self, buffers: Iterable[Buffer]) -> list[memoryview]:
        """Return what is to be sent now: what was kept back, then these buffers."""
        kept, self._unsent = self._unsent, []
        return [*kept, *(memoryview(buffer) for buffer in buffers if len(buffer))]

    def keep(self, views: Iterable[memoryview]) -> None:
        """Keep back what could not be sent; its owners may use their buffers for something else."""
        self._unsent = [view if isinstance(view.obj, bytes) else memoryview(bytes(view)) for view in views]

    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        """Send a range of a file without taking it into memory."""
        if not self.can_send_file:
            raise LocalProtocolError("this transport cannot send files")
        end = offset + size
        self._unsent_file = (0, 0, 0)
        while offset < end:
            action = partial(os.sendfile, self.connection.fileno(), descriptor, offset, end - offset)
            try:
                sent_size = self.attempt(action, select.POLLOUT, deadline_s)
            except TimedOutError:
                self._unsent_file = (descriptor, offset, end)
                raise
            if sent_size == 0:
                raise CorruptShareError(f"a stored file ended {end - offset} bytes early")
            offset += sent_size

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        """Receive what is there, at most len(target) bytes."""
        size = self.attempt(partial(self.connection.recv_into, target), select.POLLIN, deadline_s)
        if size == 0:
            self._guard.check()  # woken by our own close, which is no end of the peer's
        return size

    def close(self) -> None:
        """End the connection both ways, which wakes whoever waits for it."""
        self._guard.close(self._wake)

    def attempt(self, action: Callable[[], T], events: int, deadline_s: float) -> T:
        """Return what ``action`` returns once it need not wait any more for ``events``.

        Raises: TimedOutError, UnreachableError, and what `explain` makes of a failure.
        """
        with self._guard:
            while True:
                try:
                    return action()
                except OSError as error:
                    self._guard.check()
                    events_wanted = self.events_wanted(error, events)
                    if events_wanted == 0:
                        raise self.explain(error) from error
                wait(self.connection.fileno(), events_wanted, deadline_s, self._peer)
                self._guard.check()

    def events_wanted(self, error: OSError, events: int) -> int:
        """Return what to wait for after ``error``; 0 when waiting does not help."""
        return events if isinstance(error, BlockingIOError) else 0

    def explain(self, error: OSError) -> DfsError:
        """Return what a failed call means."""
        return explain(error, self._peer)

    def _wake(self) -> None:
        with suppress(OSError):  # the peer may have ended it before
            # A TLS socket's own shutdown drops its session: a reader would go on with sealed bytes.
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def _release(self) -> None:
        self.connection.close()


class SocketListener:
    """A Listener over a listening socket, which it owns; ``wrap`` makes streams of its connections."""

    def __init__(self, server: socket.socket, wrap: Callable[[socket.socket, str], Stream]) -> None:
        server.settimeout(0)
        self._server = server
        self._wrap = wrap
        name, port = server.getsockname()[:2]
        self._address = join_address(name, port)
        self._awaited, self._alarm = (
            socket.socketpair()
        )  # not everywhere does shutdown wake who waits to accept
        self._guard = Guard(f"the listener on {self._address}", self._release)

    @property
    def address(self) -> str:
        """The bound address, after port 0 was resolved."""
        return self._address

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self._guard.closed else self._server.fileno()

    def accept(self, deadline_s: float) -> Stream:
        """Return the next connection.

        Raises: TimedOutError: none came. UnreachableError: closed. BusyError: no descriptor or memory left.
        """
        with self._guard:
            while True:
                self._guard.check()
                try:
                    connection, place = self._server.accept()
                except BlockingIOError:
                    self._wait(deadline_s)
                except OSError as error:
                    if error.errno in EXHAUSTED:
                        raise BusyError(f"{self._address} takes no connection: {error.strerror}") from error
                    # Anything else is the fault of one connection that broke too early; see accept(2).
                else:
                    name, port = place[:2]
                    name = name.removeprefix("::ffff:") if "." in name else name  # IPv4 in IPv6 clothes
                    return self._wrap(connection, join_address(name, port))

    def close(self) -> None:
        """Stop listening, which wakes whoever waits for a connection."""
        self._guard.close(self._alarm.close)

    def _wait(self, deadline_s: float) -> None:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimedOutError(f"no connection came to {self._address}")
        poller = select.poll()
        poller.register(self._server, select.POLLIN)
        poller.register(self._awaited, select.POLLIN)
        poller.poll(min(remaining_s, WAIT_S_MAX) * 1000)

    def _release(self) -> None:
        self._server.close()
        self._awaited.close()
