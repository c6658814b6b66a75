"""What every transport that comes with dfs must do, and the parts that those over sockets share."""

import errno
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from dfs.core import identity, sockets
from dfs.core.errors import BusyError, ConfigError, DfsError, TimedOutError, UnknownKeyError, UnreachableError
from dfs.core.interface import Listener, Stream, Transport, TransportOptions
from dfs.plugins import memory_transport, tcp, tls

T = TypeVar("T")
MIB = 1024 * 1024
MAKERS = {"tcp": tcp.make, "tls": tls.make, "memory": memory_transport.make}
ADDRESSES = {"tcp": "127.0.0.1:0", "tls": "127.0.0.1:0", "memory": "node:0"}


class Pair(NamedTuple):
    client: Stream
    server: Stream


def soon() -> float:
    """Far enough for what must happen, near enough to fail a test that hangs."""
    return time.monotonic() + 10.0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder: Path = tmp_path_factory.mktemp("certificate")
    return identity.ensure_certificate(str(folder), "node")[:2]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool


@pytest.fixture(params=list(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def transport(kind: str, certificate: tuple[str, str]) -> Transport:
    return MAKERS[kind](TransportOptions(certificate_path=certificate[0], key_path=certificate[1]))


@pytest.fixture
def listener(transport: Transport, kind: str) -> Iterator[Listener]:
    listener = transport.listen(ADDRESSES[kind])
    yield listener
    listener.close()


@pytest.fixture
def pair(transport: Transport, listener: Listener, threads: ThreadPoolExecutor) -> Iterator[Pair]:
    client = transport.connect(listener.address, soon())
    server = listener.accept(soon())
    greeting = threads.submit(server.handshake, soon())
    client.handshake(soon())
    greeting.result()
    yield Pair(client, server)
    client.close()
    server.close()


def received(stream: Stream, size: int) -> bytes:
    target = memoryview(bytearray(size))
    offset = 0
    while offset < size:
        part_size = stream.receive_into(target[offset:], soon())
        if part_size == 0:
            break
        offset += part_size
    return bytes(target[:offset])


def error_of(future: "Future[T]") -> DfsError:
    error = future.exception(10.0)
    assert isinstance(error, DfsError)
    return error


@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [0, 1, 0],
        [64, 200, 3 * MIB],
        [3 * MIB, 1, 2 * MIB, 64],
        [1] * 2500,  # more than one call takes
        [16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1],
    ],
    ids=["one", "empty", "frame", "mixed", "many", "records"],
)
def test_bytes_arrive_in_order(pair: Pair, threads: ThreadPoolExecutor, sizes: list[int]) -> None:
    buffers = [bytes([index % 251]) * size for index, size in enumerate(sizes)]
    arrival = threads.submit(received, pair.server, sum(sizes))
    pair.client.send([memoryview(buffer) for buffer in buffers], soon())
    assert arrival.result() == b"".join(buffers)


def test_both_sides_send_and_receive_at_once(pair: Pair, threads: ThreadPoolExecutor) -> None:
    there, back = b"t" * (4 * MIB), b"b" * (4 * MIB)
    arrivals = [
        threads.submit(received, pair.server, len(there)),
        threads.submit(received, pair.client, len(back)),
    ]
    sendings = [
        threads.submit(pair.client.send, [there], soon()),
        threads.submit(pair.server.send, [back], soon()),
    ]
    for sending in sendings:
        sending.result()
    assert [arrival.result() for arrival in arrivals] == [there, back]


def test_offsets_and_odd_slices_are_kept(pair: Pair) -> None:
    source = memoryview(bytes(range(256)))
    pair.client.send([source[3:5], source[7:8]], soon())
    target = bytearray(b"-" * 6)
    view = memoryview(target)[1:4]
    size = pair.server.receive_into(view, soon())
    while size < 3:
        size += pair.server.receive_into(view[size:], soon())
    assert target == b"-\x03\x04\x07--"


def test_end_of_stream_is_zero_and_stays_zero(pair: Pair) -> None:
    pair.client.send([b"last"], soon())
    pair.client.close()
    assert received(pair.server, 100) == b"last"
    assert pair.server.receive_into(memoryview(bytearray(1)), soon()) == 0


def test_receive_keeps_its_deadline(pair: Pair) -> None:
    with pytest.raises(TimedOutError, match="did not answer in time"):
        pair.client.receive_into(memoryview(bytearray(1)), time.monotonic() + 0.01)


def test_send_keeps_its_deadline(pair: Pair) -> None:
    with pytest.raises(TimedOutError):
        pair.client.send([bytes(32 * MIB)], time.monotonic() + 0.02)


@pytest.mark.parametrize("kind_of_buffer", [bytes, bytearray])
def test_a_send_that_ran_out_of_time_goes_on(
    pair: Pair, threads: ThreadPoolExecutor, kind_of_buffer: type[bytes | bytearray]
) -> None:
    body = kind_of_buffer(bytes(range(251)) * (32 * MIB // 251))
    sent = bytes(body)
    with pytest.raises(TimedOutError):
        pair.client.send([b"head", body, b"tail"], time.monotonic() + 0.02)
    left_size = pair.client.unsent_size
    assert 0 < left_size <= len(sent) + 8
    if isinstance(body, bytearray):
        body[:] = bytes(len(body))  # it may serve for something else meanwhile
    with pytest.raises(TimedOutError):
        pair.client.send([b"more"], time.monotonic())
    assert pair.client.unsent_size <= left_size + 4
    arrival = threads.submit(received, pair.server, len(sent) + 12)
    pair.client.send((), soon())
    assert pair.client.unsent_size == 0
    assert arrival.result() == b"head" + sent + b"tailmore"


def test_a_file_that_ran_out_of_time_goes_on(pair: Pair, threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    if not pair.client.can_send_file:
        pytest.skip("this transport sends no files")
    body = bytes(range(251)) * (32 * MIB // 251)
    (tmp_path / "volume").write_bytes(b"before" + body)
    with (tmp_path / "volume").open("rb") as volume:
        with pytest.raises(TimedOutError):
            pair.client.send_file(volume.fileno(), 6, len(body), time.monotonic() + 0.02)
        assert 0 < pair.client.unsent_size < len(body)
        with pytest.raises(TimedOutError):
            pair.client.send((), time.monotonic())
        arrival = threads.submit(received, pair.server, len(body) + 4)
        pair.client.send([b"tail"], soon())
    assert arrival.result() == body + b"tail"


def test_deadlines_of_the_two_directions_are_apart(pair: Pair, threads: ThreadPoolExecutor) -> None:
    arrival = threads.submit(received, pair.client, 5)
    with pytest.raises(TimedOutError):
        pair.client.send([bytes(32 * MIB)], time.monotonic() + 0.02)
    assert not arrival.done()
    pair.server.send([b"hello"], soon())
    assert arrival.result() == b"hello"


def test_close_wakes_a_receiver(pair: Pair, threads: ThreadPoolExecutor) -> None:
    waiting = threads.submit(pair.client.receive_into, memoryview(bytearray(1)), soon())
    pair.client.close()
    assert isinstance(error_of(waiting), UnreachableError)


def test_close_wakes_a_sender(pair: Pair, threads: ThreadPoolExecutor) -> None:
    waiting = threads.submit(pair.client.send, [bytes(32 * MIB)], soon())
    assert len(received(pair.server, MIB)) == MIB  # so it is under way
    pair.client.close()
    assert isinstance(error_of(waiting), UnreachableError)


def test_a_closed_stream_refuses_everything(pair: Pair) -> None:
    pair.client.close()
    pair.client.close()
    assert pair.client.fileno() == -1
    assert pair.client.pending() == 0
    with pytest.raises(UnreachableError, match="was closed"):
        pair.client.send([b"x"], soon())
    with pytest.raises(UnreachableError, match="was closed"):
        pair.client.receive_into(memoryview(bytearray(1)), soon())


def test_sending_to_a_peer_that_left_fails(pair: Pair) -> None:
    pair.server.close()
    with pytest.raises(UnreachableError, match="broke off"):
        pair.client.send([bytes(32 * MIB)], soon())


def test_both_ends_agree_on_the_channel_binding(pair: Pair, kind: str) -> None:
    assert pair.client.channel_binding == pair.server.channel_binding
    assert len(pair.client.channel_binding) == (32 if kind == "tls" else 0)


def test_a_selector_sees_connections_and_bytes(transport: Transport, listener: Listener, pair: Pair) -> None:
    def readable(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 10.0)[0])

    client = transport.connect(listener.address, soon())
    assert readable(listener.fileno())
    listener.accept(soon()).close()
    client.close()
    pair.client.send([b"x"], soon())
    assert readable(pair.server.fileno())


def test_streams_name_their_peer(pair: Pair, listener: Listener) -> None:
    assert pair.client.peer == listener.address
    assert pair.server.peer.rpartition(":")[0] == listener.address.rpartition(":")[0]


def test_accept_keeps_its_deadline(listener: Listener) -> None:
    with pytest.raises(TimedOutError):
        listener.accept(time.monotonic() + 0.01)


def test_close_wakes_accept(listener: Listener, threads: ThreadPoolExecutor) -> None:
    waiting = threads.submit(listener.accept, soon())
    listener.close()
    listener.close()
    assert isinstance(error_of(waiting), UnreachableError)
    assert listener.fileno() == -1
    with pytest.raises(UnreachableError):
        listener.accept(soon())


def test_nobody_listens_any_more(transport: Transport, listener: Listener) -> None:
    listener.close()
    with pytest.raises(UnreachableError, match="refused"):
        transport.connect(listener.address, soon())


def test_an_address_is_taken_once(transport: Transport, listener: Listener) -> None:
    assert not listener.address.endswith(":0")
    with pytest.raises(BusyError, match="listens on"):
        transport.listen(listener.address)


@pytest.mark.parametrize("address", ["", "node", "node:port"])
def test_no_address(transport: Transport, address: str) -> None:
    with pytest.raises(ConfigError):
        transport.listen(address)


def test_an_unknown_setting_is_refused(kind: str) -> None:
    with pytest.raises(UnknownKeyError, match="speed"):
        MAKERS[kind](TransportOptions(values={"speed": "high"}))


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
