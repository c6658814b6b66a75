"""What transports over sockets share; the contract of all transports that come with dfs."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest

from dfs.core import sockets
from dfs.core.errors import BusyError, ConfigError, DfsError, TimedOutError, UnreachableError
from dfs.plugins import memory_transport, tcp, tls
from dfs.testing import TransportContract

T = TypeVar("T")


class TestTcp(TransportContract):
    (plugin,) = tcp.dfs_transports()


class TestTls(TransportContract):
    (plugin,) = tls.dfs_transports()


class TestMemory(TransportContract):
    (plugin,) = memory_transport.dfs_transports()
    address = "node:0"


def soon() -> float:
    return time.monotonic() + 10.0


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool


def error_of(future: "Future[T]") -> DfsError:
    error = future.exception(10.0)
    assert isinstance(error, DfsError)
    return error


# --- What is shared -----------------------------------------------------------------------------------------


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with sockets.bind("127.0.0.1:0") as server, sockets.bind("127.0.0.1:0") as gone:
        places = [gone.getsockname(), server.getsockname()]
        gone.close()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        with sockets.dial("name:1", soon()) as connection:
            assert connection.getpeername() == server.getsockname()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_unknown_name_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UnreachableError, match="the name nowhere is not known"):
        sockets.dial("nowhere:1", soon())


def test_dial_with_a_passed_deadline() -> None:
    with sockets.bind("127.0.0.1:0") as server, pytest.raises(TimedOutError):
        sockets.dial(f"127.0.0.1:{server.getsockname()[1]}", time.monotonic() - 1.0)


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0"):
        sockets.bind("192.0.2.1:0")


def test_everywhere_falls_back_to_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    create = socket.create_server

    def without_ipv6(place: tuple[str, int], family: int = socket.AF_INET, **options: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6")
        return create(place, backlog=options["backlog"])

    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with sockets.bind(":0") as server:
        assert server.getsockname()[0] == "0.0.0.0"  # noqa: S104 - the meaning of an empty name


class BrokenServer:
    """A listening socket whose accept fails as told, then as told next."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.closed = False

    def settimeout(self, timeout_s: float) -> None:
        assert timeout_s == 0

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 7771

    def accept(self) -> None:
        number = self.numbers.pop(0)
        raise OSError(number, "told to")

    def close(self) -> None:
        self.closed = True


def test_accept_outlives_a_broken_connection_and_tells_exhaustion() -> None:
    server = BrokenServer(errno.ECONNABORTED, errno.EPROTO, errno.EMFILE)
    listener = sockets.SocketListener(server, sockets.SocketStream)  # type: ignore[arg-type]
    with pytest.raises(BusyError, match="takes no connection"):
        listener.accept(soon())
    listener.close()
    assert server.numbers == []
    assert server.closed


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (TimeoutError(errno.ETIMEDOUT, "x"), TimedOutError, "n:1 did not answer in time"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), UnreachableError, "n:1 refused the connection"),
        (ConnectionResetError(errno.ECONNRESET, "x"), UnreachableError, "n:1 broke off the connection"),
        (BrokenPipeError(errno.EPIPE, "x"), UnreachableError, "n:1 broke off the connection"),
        (OSError(errno.EHOSTUNREACH, "No route"), UnreachableError, "n:1 cannot be reached: No route"),
    ],
)
def test_explain(error: OSError, expected: type[DfsError], text: str) -> None:
    explained = sockets.explain(error, "n:1")
    assert type(explained) is expected
    assert explained.what == text


def guard_and_log() -> tuple[sockets.Guard, list[str]]:
    log: list[str] = []
    return sockets.Guard("it", lambda: log.append("release")), log


def test_the_last_user_releases() -> None:
    guard, log = guard_and_log()
    with guard, guard:
        guard.close(lambda: log.append("wake"))
        guard.close(lambda: log.append("wake again"))
        assert log == ["wake"]
    assert log == ["wake", "release"]
    with pytest.raises(UnreachableError, match="it was closed"), guard:
        pytest.fail("a closed guard let somebody in")


def test_an_unused_thing_is_released_at_once() -> None:
    guard, log = guard_and_log()
    with guard:
        pass
    guard.close(lambda: log.append("wake"))
    assert log == ["wake", "release"]


def test_a_descriptor_outlives_its_waiters(threads: ThreadPoolExecutor) -> None:
    """A receiver that was waiting when the stream was closed never waits on somebody else's descriptor."""
    near, far = socket.socketpair()
    inside, leave = threading.Event(), threading.Event()

    class Slow(sockets.SocketStream):
        def attempt(self, action: Callable[[], sockets.T], events: int, deadline_s: float) -> sockets.T:
            with self._guard:
                inside.set()
                assert leave.wait(10.0)
                return super().attempt(action, events, deadline_s)

    stream = Slow(near, "peer")
    waiting = threads.submit(stream.receive_into, memoryview(bytearray(1)), soon())
    assert inside.wait(10.0)
    stream.close()
    assert near.fileno() >= 0
    leave.set()
    assert isinstance(error_of(waiting), UnreachableError)
    assert near.fileno() == -1
    far.close()
