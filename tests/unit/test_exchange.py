"""One request over one connection: a reply may come in any pieces, and after one that nobody needs."""

import socket
from collections.abc import Iterator

import pytest

from dfs.core import messages
from dfs.core.effects import Send
from dfs.core.env import RealEnv
from dfs.core.errors import ConflictError, RemoteProtocolError, TimedOutError, UnreachableError
from dfs.core.exchange import Connection, Exchange, Job, Told, Traffic
from dfs.core.messages import CODES
from dfs.core.sockets import SocketStream
from dfs.core.types import NodeId, ShareKey, StripeId
from dfs.core.wire import Mark, Phase, Session, encode_error, encode_fetch_reply, encode_reply

PING = CODES[messages.Ping]
PIECE_SIZE = 512


class Line:
    """A connection after its login, and the other end of it, where a test plays the node."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        ours, self.node = socket.socketpair()
        self.connection = Connection(SocketStream(ours, "the node"), Session(Phase.AUTHENTICATED), timeout_s)
        self.job = Job(Send("asked", NodeId(bytes(16)), messages.Ping()), lambda _job, _event: None)
        self.traffic = Traffic()

    def exchange(
        self, request: messages.Request | None = None, into: list[memoryview] | None = None
    ) -> Exchange:
        request = request or messages.Ping()
        return Exchange(self.job, self.connection, request, (), into, env=RealEnv(), traffic=self.traffic)

    def two_sent(self) -> tuple[Exchange, Exchange]:
        first, second = self.exchange(), self.exchange()
        first.send(PIECE_SIZE)
        second.send(PIECE_SIZE)
        return first, second

    def close(self) -> None:
        self.connection.stream.close()
        self.node.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def pong(request_id: int, mark: int = 7) -> bytes:
    return encode_reply(PING, request_id, messages.Empty(), Mark(1, mark))


def fetched(request_id: int, *bodies: bytes) -> bytes:
    results = tuple(messages.FetchResult(messages.FOUND, len(body), bytes(16)) for body in bodies)
    return encode_fetch_reply(request_id, messages.FetchReply(results), Mark()) + b"".join(bodies)


def test_a_reply_may_come_byte_by_byte(line: Line) -> None:
    exchange = line.exchange()
    exchange.send(PIECE_SIZE)
    assert exchange.is_sent
    frame = pong(1)
    told: list[Told | None] = []
    for offset in range(len(frame)):
        line.node.sendall(frame[offset : offset + 1])
        told.append(exchange.go_on())
    assert told == [None] * (len(frame) - 1) + [(messages.Empty(), b"", Mark(1, 7))]
    assert line.traffic.received_size == len(frame)
    assert line.traffic.request_count == 1
    assert line.job.progress_s > 0


def test_shares_go_where_they_belong(line: Line) -> None:
    targets = [memoryview(bytearray(5)), memoryview(bytearray(700))]
    keys = tuple(ShareKey(StripeId(bytes(32)), index) for index in range(2))
    exchange = line.exchange(messages.Fetch(keys), targets)
    exchange.send(PIECE_SIZE)
    line.node.sendall(fetched(1, b"a" * 5, b"b" * 700))
    exchange.answer()
    assert [bytes(target) for target in targets] == [b"a" * 5, b"b" * 700]


@pytest.mark.parametrize("sizes", [(5,), (5, 6), (6, 5, 5), ()])
def test_shares_of_other_sizes_are_not_taken(line: Line, sizes: tuple[int, ...]) -> None:
    targets = [memoryview(bytearray(6)), memoryview(bytearray(5))]
    keys = tuple(ShareKey(StripeId(bytes(32)), index) for index in range(2))
    exchange = line.exchange(messages.Fetch(keys), targets)
    exchange.send(PIECE_SIZE)
    line.node.sendall(fetched(1, *(bytes(size) for size in sizes)))
    with pytest.raises(RemoteProtocolError, match="other sizes"):
        exchange.answer()


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("answered", [pong(1), encode_error(PING, 1, ConflictError("no"))])
def test_a_reply_that_nobody_needs_comes_first(line: Line, answered: bytes, *, wait: bool) -> None:
    left = line.exchange()
    left.send(PIECE_SIZE)
    left.job = None
    exchange = line.exchange()
    exchange.send(PIECE_SIZE)
    assert exchange.go_on() is None
    line.node.sendall(answered)
    assert exchange.go_on() is None
    line.node.sendall(pong(2, mark=8))
    assert (exchange.answer() if wait else exchange.go_on()) == (messages.Empty(), b"", Mark(1, 8))
    line.connection.move_up()
    assert not line.connection.line


def test_who_waits_behind_leaves_a_reply_to_who_waits_for_it(line: Line) -> None:
    first, second = line.two_sent()
    line.node.sendall(pong(1, mark=8) + pong(2, mark=9))
    assert second.go_on() is None
    assert first.go_on() == (messages.Empty(), b"", Mark(1, 8))
    assert second.go_on() is None, "whose turn it is is not for the exchanges to say"
    line.connection.move_up()
    line.connection.move_up()
    assert second.go_on() == (messages.Empty(), b"", Mark(1, 9))


def test_a_refusal_is_of_the_one_that_was_refused(line: Line) -> None:
    first, second = line.two_sent()
    line.node.sendall(encode_error(PING, 1, ConflictError("no")) + pong(2))
    with pytest.raises(ConflictError):
        first.go_on()
    line.connection.move_up()
    assert second.go_on() == (messages.Empty(), b"", Mark(1, 7))


def test_after_nonsense_nobody_waits_for_ever(line: Line) -> None:
    first, second = line.two_sent()
    line.node.sendall(pong(7) + pong(2))
    with pytest.raises(RemoteProtocolError, match="another request"):
        first.answer()
    first.job = None
    for waiting in (second.answer, second.go_on):
        with pytest.raises(UnreachableError):
            waiting()


def test_a_node_that_answers_those_before_is_not_silent(line: Line) -> None:
    first, second = line.two_sent()
    before_s = second.deadline_s
    line.node.sendall(pong(1))
    assert first.go_on() is not None
    assert second.deadline_s > before_s


def test_a_line_is_cleared_for_who_is_not_in_it(line: Line) -> None:
    left = line.exchange()
    left.send(PIECE_SIZE)
    exchange = line.exchange()
    line.node.sendall(pong(1))
    exchange.clear_line()
    assert not line.connection.line
    exchange.encode()
    exchange.clear_line()
    assert list(line.connection.line) == [exchange]


def test_a_node_that_ends_the_connection_is_unreachable(line: Line) -> None:
    exchange = line.exchange()
    exchange.send(PIECE_SIZE)
    line.node.close()
    with pytest.raises(UnreachableError):
        exchange.go_on()


def test_a_silent_node_has_its_time() -> None:
    line = Line(timeout_s=0.01)
    exchange = line.exchange()
    exchange.send(PIECE_SIZE)
    assert exchange.go_on() is None, "it may take its time as long as nobody waits"
    with pytest.raises(TimedOutError):
        exchange.answer()
    line.close()


def test_a_request_goes_in_pieces(line: Line) -> None:
    keys = tuple(ShareKey(StripeId(bytes((index,)) * 32), index) for index in range(100))
    exchange = line.exchange(messages.Has(keys))
    exchange.encode()
    size = exchange.unsent_size
    assert size > 2 * PIECE_SIZE
    exchange.send(PIECE_SIZE)
    assert exchange.unsent_size == 0
    assert line.traffic.sent_size == size
