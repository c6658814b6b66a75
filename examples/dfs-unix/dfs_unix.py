"""The transport `unix`: sockets in the file system. Option ``directory``: where they lie (mode 0700 if made).

The address ``name:port`` is the socket ``name-port.sock`` there. One that a dead process left is replaced.
"""

import errno
import os
import re
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dfs.core.api import (
    BusyError,
    ConfigError,
    Listener,
    SocketStream,
    Stream,
    TimedOutError,
    Transport,
    TransportOptions,
    TransportPlugin,
    UnknownKeyError,
    UnreachableError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "unix"
ADDRESS_PATTERN: Final = re.compile(r"(?P<name>[\w.\[\]:-]*):(?P<port>[0-9]{1,5})", re.ASCII)
PATH_SIZE_MAX: Final = 100  # bytes; some systems have room for 104 in an address
PORT_FREE_MIN: Final = 49152
PORT_MAX: Final = 65535
BACKLOG: Final = 4096
WAIT_S_MAX: Final = 3600.0


class UnixListener:
    """A bound socket; an end of a pair wakes who waits when it is closed."""

    def __init__(self, server: socket.socket, address: str, path: str) -> None:
        server.setblocking(False)
        self._server: Final = server
        self._address: Final = address
        self._path: Final = path
        self._awaited, self._alarm = socket.socketpair()
        self._lock: Final = threading.Lock()
        self._waiting_count = 0
        self._closed = False

    @property
    def address(self) -> str:
        """The address, after port 0 was resolved."""
        return self._address

    def fileno(self) -> int:
        """The socket's descriptor, readable while a connection waits."""
        return -1 if self._closed else self._server.fileno()

    def accept(self, deadline_s: float) -> Stream:
        """Return the next connection. Raises: TimedOutError, UnreachableError: closed."""
        with self._lock:
            self._check()
            self._waiting_count += 1
        try:
            return self._accepted(deadline_s)
        finally:
            with self._lock:
                self._waiting_count -= 1
                last = self._closed and self._waiting_count == 0
            if last:
                self._release()

    def _accepted(self, deadline_s: float) -> Stream:
        poller = select.poll()
        poller.register(self._server, select.POLLIN)
        poller.register(self._awaited, select.POLLIN)
        while True:
            self._check()
            try:
                connection, _ = self._server.accept()
            except BlockingIOError:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0:
                    raise TimedOutError(f"no connection came to {self._address}") from None
                poller.poll(min(remaining_s, WAIT_S_MAX) * 1000)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    raise BusyError(f"{self._address} takes no connection: {error.strerror}") from error
                # Any other error is of one connection that broke too early; see accept(2).
            else:
                return SocketStream(connection, self._address)

    def close(self) -> None:
        """Stop listening; twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            unused = self._waiting_count == 0
            self._alarm.close()
            Path(self._path).unlink(missing_ok=True)
        if unused:
            self._release()

    def _check(self) -> None:
        if self._closed:
            raise UnreachableError(f"the listener on {self._address} was closed")

    def _release(self) -> None:
        self._server.close()
        self._awaited.close()


class UnixTransport:
    """Connects and listens in one folder; threads may share it."""

    def __init__(self, directory: str) -> None:
        self._directory: Final = directory

    @property
    def confidential(self) -> bool:
        """Yes: it never leaves the machine, and the folder's rights say who may connect."""
        return True

    def connect(self, address: str, deadline_s: float) -> Stream:
        """Connect. Raises: UnreachableError, TimedOutError: its queue is full. ConfigError: no address."""
        path = self._path(address, port_min=1)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, min(deadline_s - time.monotonic(), WAIT_S_MAX)))
            connection.connect(path)
        except TimeoutError as error:
            connection.close()
            raise TimedOutError(f"{address} did not answer in time") from error
        except OSError as error:
            connection.close()
            raise UnreachableError(f"{address} refused the connection ({path}: {error.strerror})") from error
        return SocketStream(connection, address)

    def listen(self, address: str) -> Listener:
        """Bind. Raises: BusyError: somebody listens there. ConfigError: no address, or no such folder."""
        self._path(address, port_min=0)
        name, _, port = address.rpartition(":")
        if int(port):
            return self._bound(address)
        for free in range(PORT_FREE_MIN, PORT_MAX + 1):
            try:
                return self._bound(f"{name}:{free}")
            except BusyError:
                continue
        raise BusyError(f"no free port in {self._directory}")

    def _bound(self, address: str) -> Listener:
        path = self._path(address, port_min=1)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            if os.path.exists(path):
                self._remove_dead(path, address)
            server.bind(path)
            server.listen(BACKLOG)
        except OSError as error:
            server.close()
            if error.errno == errno.EADDRINUSE:
                raise BusyError(f"another process listens on {address}") from error
            raise ConfigError(f"cannot listen on {address}: {path}: {error.strerror}") from error
        except BusyError:
            server.close()
            raise
        return UnixListener(server, address, path)

    def _remove_dead(self, path: str, address: str) -> None:
        """Remove a socket that nobody listens on. Raises: BusyError: somebody does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink(missing_ok=True)
                return
            except BlockingIOError:
                pass  # its queue is full: somebody is there
        raise BusyError(f"another process listens on {address}")

    def _path(self, address: str, *, port_min: int) -> str:
        match = ADDRESS_PATTERN.fullmatch(address)
        if match is None or not port_min <= int(match["port"]) <= PORT_MAX:
            raise ConfigError(f"expected name:port, got {address!r}")
        name = re.sub(r"[^\w.-]", "_", match["name"]) or "any"
        path = os.path.join(self._directory, f"{name}-{int(match['port'])}.sock")
        if len(os.fsencode(path)) > PATH_SIZE_MAX:
            raise ConfigError(f"{path} is too long for a socket", next_step="Set directory in [plugin.unix].")
        return path


def _default_directory() -> str:
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"dfs-{os.getuid()}")


def make(options: TransportOptions) -> Transport:
    """Make the transport from its section [plugin.unix]."""
    for key in options.values:
        if key != "directory":
            raise UnknownKeyError(f"the transport {NAME} has no setting {key!r}: it has directory")
    return UnixTransport(os.path.abspath(options.values.get("directory") or _default_directory()))


@hookimpl
def dfs_transports() -> Iterable[TransportPlugin]:
    """Declare it."""
    return (TransportPlugin(name=NAME, summary="Unix sockets, on one machine", make=make),)
