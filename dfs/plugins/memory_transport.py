"""The transport `memory`: connections inside one process; an address lives as long as its listener."""

import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from dfs.core.api import (
    BusyError,
    ConfigError,
    Listener,
    SocketStream,
    Stream,
    Transport,
    TransportOptions,
    TransportPlugin,
    UnknownKeyError,
    UnreachableError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "memory"
BACKLOG: Final = 128  # connections not yet accepted
PORT_FREE_MIN: Final = 49152  # where free ports are looked for

_listeners: dict[str, "MemoryListener"] = {}  # of the process, like the addresses a kernel keeps
_lock: Final = threading.Lock()  # guards it and what waits in each listener


class MemoryListener:
    """A bound address. Each waiting connection has a byte in the bell, a stream that a selector can watch."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._waiting: deque[SocketStream] = deque()
        bell, button = socket.socketpair()
        self._bell = SocketStream(bell, f"the listener on {address}")
        self._button = SocketStream(button, address)

    @property
    def address(self) -> str:
        """The name in this process."""
        return self._address

    def fileno(self) -> int:
        """Readable while a connection waits."""
        return self._bell.fileno()

    def accept(self, deadline_s: float) -> Stream:
        """Return the connection that waited longest."""
        self._bell.receive_into(memoryview(bytearray(1)), deadline_s)
        with _lock:
            if not self._waiting:
                raise UnreachableError(f"the listener on {self._address} was closed")
            return self._waiting.popleft()

    def close(self) -> None:
        """Free the address and refuse the connections that wait."""
        with _lock:
            if _listeners.get(self._address) is self:
                del _listeners[self._address]
            self._bell.close()
            self._button.close()
            while self._waiting:
                self._waiting.popleft().close()

    def admit(self) -> Stream:
        """Return our end of a new connection; the caller holds the lock."""
        if len(self._waiting) >= BACKLOG:
            raise UnreachableError(f"{self._address} refused the connection: too many wait already")
        near, far = socket.socketpair()
        self._waiting.append(SocketStream(far, self._address))
        self._button.send([b"\0"], time.monotonic())  # never waits: there is room for BACKLOG bytes
        return SocketStream(near, self._address)


class MemoryTransport:
    """Connects and listens in this process."""

    @property
    def confidential(self) -> bool:
        """Yes: there is no wire."""
        return True

    def connect(self, address: str, deadline_s: float) -> Stream:
        """Connect at once or not at all."""
        del deadline_s
        with _lock:
            listener = _listeners.get(address)
            if listener is None:
                raise UnreachableError(f"{address} refused the connection")
            return listener.admit()

    def listen(self, address: str) -> Listener:
        """Take an address; the names are free to choose."""
        name, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal():
            raise ConfigError(f"expected name:port, got {address!r}")
        with _lock:
            if int(port) == 0:
                ports = range(PORT_FREE_MIN, PORT_FREE_MIN + len(_listeners) + 1)
                address = next(free for each in ports if (free := f"{name}:{each}") not in _listeners)
            if address in _listeners:
                raise BusyError(f"something listens on {address} already")
            _listeners[address] = listener = MemoryListener(address)
            return listener


def make(options: TransportOptions) -> Transport:
    """Make the transport; it has no settings."""
    for key in options.values:
        raise UnknownKeyError(f"the transport memory has no setting {key!r}")
    return MemoryTransport()


@hookimpl
def dfs_transports() -> Iterable[TransportPlugin]:
    """Declare it."""
    return (TransportPlugin(name=NAME, summary="inside one process, for tests", make=make),)
