"""One connection over a scripted stream: half frames, turns, buffers, replies that fail halfway."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from dfs.core import connection, limits, messages, wire
from dfs.core.connection import SCRATCH_SIZE, BufferPool, Connection, Turn
from dfs.core.conversation import House
from dfs.core.errors import (
    CorruptShareError,
    DfsError,
    InvariantError,
    NotFoundError,
    RemoteProtocolError,
    TimedOutError,
    UnreachableError,
)
from dfs.core.interface import Buffer, Env, ShareSlice, Stream
from dfs.core.node import Answer
from dfs.core.types import NodeId, ShareKey, StripeId

HELLO = messages.Hello(b"c" * 32, "", ())
KEY = ShareKey(StripeId(b"s" * 32), 0)
END = b""


class FakeStream:
    """Gives out what was put in, piece by piece, and keeps what was sent. An empty piece: the peer ends."""

    peer = "192.0.2.1:5000"
    channel_binding = b""
    can_send_file = False

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.sent = bytearray()
        self.files: list[tuple[int, int, int]] = []
        self.pending_size = 0
        self.greeted = True
        self.closed = False

    def pending(self) -> int:
        return self.pending_size

    def handshake(self, deadline_s: float) -> None:
        if not self.greeted:
            raise TimedOutError("not yet")

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        if not self.pieces:
            raise TimedOutError("nothing came")
        piece = self.pieces.popleft()
        size = min(len(piece), len(target))
        target[:size] = piece[:size]
        if size < len(piece):
            self.pieces.appendleft(piece[size:])
        return size

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        for buffer in buffers:
            self.sent += buffer

    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        self.files.append((descriptor, offset, size))

    def close(self) -> None:
        self.closed = True


class FakeEnv:
    now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 0.0

    def random_bytes(self, size: int) -> bytes:
        return bytes(size)


class FakeShare:
    def __init__(
        self, body: bytes, *, real_size: int | None = None, place: tuple[int, int] | None = None
    ) -> None:
        self.size = len(body)
        self.checksum = bytes(16)
        self.file_range = place
        self.closed = False
        self._body = body[:real_size]

    def read_into(self, target: memoryview, offset: int) -> int:
        body = self._body[offset : offset + len(target)]
        target[: len(body)] = body
        return len(body)

    def close(self) -> None:
        self.closed = True


class FakeVault:
    """Answers whatever it is told to, or raises it."""

    incarnation = 1
    mark = 1

    def __init__(self) -> None:
        self.asked: list[tuple[messages.Request, bytes]] = []
        self.answers: deque[Answer | Exception] = deque()

    def answer(self, request: messages.Request, bulk: memoryview) -> Answer:
        self.asked.append((request, bytes(bulk)))
        answer = self.answers.popleft() if self.answers else Answer(messages.Empty())
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeHouse:
    greeting = messages.HelloReply(NodeId(bytes(16)), 1, "orchard", bytes(32), "attic", "1", ())

    def admits(self, user: str, public_key: bytes) -> bool:
        return True

    def is_healer(self, user: str) -> bool:
        return False


class Scene:
    """A connection with everything round it; `log_in` skips to where requests are answered."""

    def __init__(self, pool_size: int = limits.BULK_POOL_SIZE) -> None:
        self.stream = FakeStream()
        self.env = FakeEnv()
        self.vault = FakeVault()
        self.buffers = BufferPool(pool_size)
        self.crowded = False
        self.resumed: list[Connection] = []
        self.connection = self.another(self.stream)

    def another(self, stream: FakeStream) -> Connection:
        return Connection(
            cast("Stream", stream),
            cast("House", FakeHouse()),
            cast("Env", self.env),
            self.buffers,
            lambda: self.crowded,
            self.resumed.append,
        )

    def log_in(self, given: Connection | None = None) -> None:
        given = given or self.connection
        assert given.turn(0, SCRATCH) is Turn.PARKED
        conversation = given._conversation
        assert conversation is not None
        conversation.vault = cast("Any", self.vault)
        conversation.session.phase = wire.Phase.AUTHENTICATED

    def turn(self, *pieces: bytes) -> Turn:
        self.stream.pieces.extend(pieces)
        return self.connection.turn(0, SCRATCH)

    def replies(self) -> list[Any]:
        """Take what was sent, as replies or as the errors they stand for."""
        found = []
        while self.stream.sent:
            header = wire.decode_header(self.stream.sent[: limits.HEADER_SIZE])
            end = limits.HEADER_SIZE + header.control_size
            message, _ = wire.decode_control(header, bytes(self.stream.sent[limits.HEADER_SIZE : end]))
            bulk = bytes(self.stream.sent[end : end + header.bulk_size])
            del self.stream.sent[: end + header.bulk_size]
            found.append(
                wire.fault_of(message) if isinstance(message, messages.ErrorReply) else (message, bulk)
            )
        return found


SCRATCH = memoryview(bytearray(SCRATCH_SIZE))


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def inside(scene: Scene) -> Scene:
    scene.log_in()
    return scene


def frame(request: messages.Request, bulk: bytes = b"") -> bytes:
    return wire.encode_request(request, 7, [bulk] if bulk else ()) + bulk


def claims(size: int) -> bytes:
    return frame(messages.Claims(bytes(32), 0), bytes(size))


# --- Receiving ----------------------------------------------------------------------------------------------


def test_a_frame_is_answered_and_the_connection_parked(scene: Scene) -> None:
    assert scene.turn(frame(HELLO)) is Turn.PARKED
    ((hello, _),) = scene.replies()
    assert hello.realm == "orchard"


@given(cuts=st.lists(st.integers(1, 40)))
def test_frames_may_come_in_any_pieces(cuts: list[int]) -> None:
    scene = Scene()
    scene.log_in()
    sent = frame(messages.Ping()) + claims(50) + frame(messages.Ping())
    for size in [*cuts, len(sent)]:
        assert scene.turn(*([sent[:size]] if sent[:size] else ())) is Turn.PARKED
        sent = sent[size:]
    assert [type(request) for request, _ in scene.vault.asked] == [
        messages.Ping,
        messages.Claims,
        messages.Ping,
    ]
    assert scene.vault.asked[1][1] == bytes(50)
    assert len(scene.replies()) == 3


def test_a_handshake_goes_on_in_a_later_turn(scene: Scene) -> None:
    scene.stream.greeted = False
    assert scene.turn(frame(HELLO)) is Turn.PARKED
    assert not scene.stream.sent
    scene.stream.greeted = True
    assert scene.turn() is Turn.PARKED
    assert len(scene.replies()) == 1


def test_the_end_of_the_peer_is_the_end(inside: Scene) -> None:
    assert inside.turn(END) is Turn.CLOSED
    assert inside.stream.closed


def test_who_is_crowded_serves_one_frame_a_turn(inside: Scene) -> None:
    inside.crowded = True
    inside.stream.pending_size = 1
    assert inside.turn(frame(messages.Ping()), frame(messages.Ping())) is Turn.AGAIN
    inside.stream.pending_size = 0
    assert inside.turn() is Turn.PARKED
    assert len(inside.vault.asked) == 2


def test_deadlines_follow_how_far_it_has_come(scene: Scene) -> None:
    start_s = scene.env.now_s
    assert scene.connection.deadline_s == start_s + limits.HANDSHAKE_TIMEOUT_S
    scene.env.now_s += 5
    scene.turn(frame(HELLO))
    assert scene.connection.deadline_s == start_s + limits.LOGIN_TIMEOUT_S
    scene.log_in()
    scene.turn(frame(messages.Ping()))
    assert scene.connection.deadline_s == start_s + 5 + limits.IDLE_TIMEOUT_S
    scene.env.now_s += 5
    scene.turn(frame(messages.Ping())[:20])
    assert scene.connection.deadline_s == start_s + 10 + limits.REQUEST_TIMEOUT_S


# --- Broken frames ------------------------------------------------------------------------------------------


def broken(offset: int, value: bytes, request: messages.Request = HELLO) -> bytes:
    whole = frame(request)
    return whole[:offset] + value + whole[offset + len(value) :]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (broken(0, b"HTTP"), "does not speak"),
        (broken(4, b"\x09"), "wire version 9"),
        (broken(5, b"\x01"), "a reply where"),
        (broken(6, b"\xff\xff"), "unknown message"),
        (broken(16, b"\xff\xff\xff\xff"), "too large"),
        (broken(16, b"\x00\x00\xff\xff"), "too large"),
        (broken(24, b"\xff" * 8), "too large"),
        (broken(24, bytes(7) + b"\x01"), "no bulk"),
        (broken(64, b"\x00"), "damaged"),
        (frame(messages.Has((KEY,))), "may not come"),
    ],
)
def test_a_broken_frame_gets_a_last_word_and_ends_it(scene: Scene, sent: bytes, reason: str) -> None:
    assert scene.turn(sent) is Turn.CLOSED
    (error,) = scene.replies()
    assert isinstance(error, RemoteProtocolError)
    assert reason in error.what


def test_damaged_bulk_ends_it_and_gives_the_buffer_back(inside: Scene) -> None:
    sent = bytearray(claims(100))
    sent[-1] ^= 1
    assert inside.turn(bytes(sent)) is Turn.CLOSED
    assert sum(map(len, inside.buffers._free.values())) == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(garbage: bytes) -> None:
    scene = Scene()
    for inside in (False, True):
        if inside:
            scene = Scene()
            scene.log_in()
        turn = scene.turn(*([garbage] if garbage else ()))
        assert turn in {Turn.PARKED, Turn.CLOSED}
        assert scene.vault.asked == []


# --- Answering ----------------------------------------------------------------------------------------------


def test_a_last_answer_ends_the_connection(inside: Scene) -> None:
    inside.vault.answers.append(Answer(messages.Empty(), last=True))
    assert inside.turn(frame(messages.Ping()), frame(messages.Ping())) is Turn.CLOSED
    assert len(inside.vault.asked) == len(inside.replies()) == 1
    assert inside.stream.closed


def test_a_refusal_goes_back_and_the_connection_on(inside: Scene) -> None:
    inside.vault.answers.append(NotFoundError("nothing there"))
    assert inside.turn(frame(messages.Ping()), frame(messages.Ping())) is Turn.PARKED
    error, (reply, _) = inside.replies()
    assert isinstance(error, NotFoundError)
    assert reply == messages.Empty()


def test_an_invariant_that_broke_is_logged_with_its_trace(
    inside: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    inside.vault.answers.append(InvariantError("the row would be lost"))
    assert inside.turn(frame(messages.Ping())) is Turn.PARKED
    assert type(inside.replies()[0]) is DfsError
    assert "Traceback" in caplog.text


def test_a_bug_is_logged_and_ends_only_its_connection(
    inside: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    inside.vault.answers.append(ZeroDivisionError())
    assert inside.turn(frame(messages.Ping())) is Turn.CLOSED
    assert "ZeroDivisionError" in caplog.text
    assert inside.stream.closed


def test_a_peers_faults_are_no_news(inside: Scene, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert inside.turn(b"x" * 64) is Turn.CLOSED
    assert caplog.records == []


def test_a_reply_that_fits_no_frame_is_an_error_reply(
    inside: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    inside.vault.answers.append(Answer(messages.ReadReply(1), (bytes(limits.BULK_SIZE_MAX + 1),)))
    assert inside.turn(frame(messages.Read(bytes(32), True, True, ()))) is Turn.PARKED
    (error,) = inside.replies()
    assert "too large" in error.what
    assert "a reply failed" in caplog.text


def fetched(*shares: FakeShare) -> Answer:
    results = tuple(messages.FetchResult(messages.FOUND, share.size, share.checksum) for share in shares)
    return Answer(messages.FetchReply(results), shares=tuple(cast("ShareSlice", share) for share in shares))


FETCH = frame(messages.Fetch((KEY,)))


@pytest.mark.parametrize("sizes", [(), (0,), (1, 0, 5), (SCRATCH_SIZE,) * 2, (SCRATCH_SIZE * 3 + 1, 7)])
def test_shares_are_sent_whole_and_closed(inside: Scene, sizes: tuple[int, ...]) -> None:
    shares = [FakeShare(bytes((i + 1,)) * size) for i, size in enumerate(sizes)]
    inside.vault.answers.append(fetched(*shares))
    inside.turn(FETCH)
    ((reply, bulk),) = inside.replies()
    assert bulk == b"".join(bytes((i + 1,)) * size for i, size in enumerate(sizes))
    assert [result.size for result in reply.results] == list(sizes)
    assert all(share.closed for share in shares)


def test_the_kernel_sends_what_lies_in_files(inside: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PIECE_SIZE", 60)
    inside.stream.can_send_file = True
    inside.vault.answers.append(
        fetched(FakeShare(b"a"), FakeShare(bytes(100), place=(9, 50)), FakeShare(b"b"))
    )
    inside.turn(FETCH)
    assert inside.stream.files == [(9, 50, 60), (9, 110, 40)]
    assert inside.stream.sent.endswith(b"ab")


def test_bytes_that_are_gone_halfway_end_the_connection(
    inside: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    share = FakeShare(bytes(1000), real_size=400)
    inside.vault.answers.append(fetched(share))
    assert inside.turn(FETCH) is Turn.CLOSED
    assert share.closed
    assert CorruptShareError.__name__ in caplog.text


def test_a_peer_that_went_away_while_sending_leaves_no_share_open(
    inside: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise UnreachableError("gone")

    share = FakeShare(b"body")
    inside.vault.answers.append(fetched(share))
    monkeypatch.setattr(inside.stream, "send", gone)
    assert inside.turn(FETCH) is Turn.CLOSED
    assert share.closed


# --- Buffers ------------------------------------------------------------------------------------------------


def fits(_buffer: memoryview) -> None:
    raise AssertionError("this one had not to wait")


def test_who_finds_no_buffer_is_resumed_with_one(inside: Scene) -> None:
    inside.buffers._size_max = size = 128 * limits.KIB
    held = inside.buffers.take(size, fits)
    assert held is not None
    assert inside.turn(claims(size)) is Turn.STARVED
    assert inside.resumed == []
    inside.buffers.give(held)
    assert inside.resumed == [inside.connection]
    assert inside.turn() is Turn.PARKED
    assert inside.vault.asked[0][1] == bytes(size)
    assert inside.buffers.take(size, fits) is not None, "it came back before the reply"


def test_one_that_closes_halfway_gives_its_buffer_back(inside: Scene) -> None:
    inside.buffers._size_max = size = 128 * limits.KIB
    assert inside.turn(claims(size)[:-1]) is Turn.PARKED
    inside.connection.close()
    assert inside.buffers.take(size, fits) is not None


def test_buffers_are_used_again() -> None:
    pool = BufferPool(limits.MIB)
    first = pool.take(100_000, fits)
    assert first is not None
    assert len(first) == 100_000
    whole = first.obj
    pool.give(first)
    second = pool.take(99_000, fits)
    assert second is not None
    assert second.obj is whole
    assert len(second) == 99_000


def test_free_buffers_of_another_size_make_room() -> None:
    pool = BufferPool(limits.MIB)
    for size in (limits.MIB, 64 * limits.KIB, limits.MIB):
        buffer = pool.take(size, fits)
        assert buffer is not None
        pool.give(buffer)
    assert pool._size <= limits.MIB


@given(st.lists(st.integers(1, limits.MIB), max_size=30))
def test_the_pool_never_grows_over_its_size_and_serves_in_order(sizes: list[int]) -> None:
    pool = BufferPool(2 * limits.MIB)
    served: list[tuple[int, memoryview]] = []

    def taker(index: int) -> Callable[[memoryview], None]:
        return lambda buffer: served.append((index, buffer))

    for index, size in enumerate(sizes):
        buffer = pool.take(size, taker(index))
        if buffer is not None:
            served.append((index, buffer))
        assert pool._size <= 2 * limits.MIB
    given = 0
    while given < len(served):
        index, buffer = served[given]
        assert len(buffer) == sizes[index]
        given += 1
        pool.give(buffer)
    assert [index for index, _ in served] == list(range(len(sizes)))


def test_rounding_wastes_an_eighth_at_most() -> None:
    for size in (1, 65536, 65537, 2 * limits.MIB + 8, limits.SHARE_SIZE_MAX, limits.BULK_SIZE_MAX):
        rounded = connection._rounded(size)
        assert size <= rounded <= size + max(size // 8, connection.BUFFER_SIZE_MIN)
