"""One connection over a scripted stream: half frames, turns, buffers, replies that fail halfway."""

import logging
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from dfs.core import limits, messages, wire
from dfs.core.buffers import BufferPool
from dfs.core.connection import SCRATCH_SIZE, Connection, Turn
from dfs.core.conversation import House
from dfs.core.door import Door
from dfs.core.errors import (
    BusyError,
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
        self.room = sys.maxsize  # bytes that the peer takes before it stops reading
        self.unsent = bytearray()

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

    @property
    def unsent_size(self) -> int:
        return len(self.unsent)

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        self.unsent += b"".join(buffers)
        size = min(self.room, len(self.unsent))
        self.room -= size
        self.sent += self.unsent[:size]
        del self.unsent[:size]
        if self.unsent:
            raise TimedOutError("it does not read")

    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        self.files.append((descriptor, offset, size))
        self.send([bytes(size)], deadline_s)

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
    rekeyed = None

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
        self.door = Door()
        self.connection = self.another(self.stream)

    def another(self, stream: FakeStream, refusal: DfsError | None = None) -> Connection:
        return Connection(
            cast("Stream", stream),
            cast("House", FakeHouse()),
            cast("Env", self.env),
            self.buffers,
            lambda: self.crowded,
            self.resumed.append,
            door=self.door,
            refusal=refusal,
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


def test_a_frame_must_go_on_at_the_least_rate(inside: Scene) -> None:
    sent = claims(200_000)
    inside.turn(sent[:500])
    for start in range(500, 40_500, 1_000):  # about as slowly as is borne
        inside.env.now_s += 0.9
        assert inside.turn(sent[start : start + 1_000]) is Turn.PARKED
    start_s, first_s = inside.env.now_s, inside.connection.deadline_s
    assert start_s < first_s <= start_s + limits.PROGRESS_S
    for start in range(40_500, 41_500):  # a byte a second is not
        inside.env.now_s += 1
        if inside.turn(sent[start : start + 1]) is Turn.CLOSED:
            break
    assert limits.PROGRESS_S <= inside.env.now_s - start_s <= limits.PROGRESS_S + 2
    assert inside.buffers.take(limits.BULK_POOL_SIZE, "", fits) is not None, "its buffer came back"


def test_what_waits_for_us_is_not_slow(inside: Scene) -> None:
    inside.turn(frame(messages.Ping())[:20])
    inside.connection.hold()
    inside.env.now_s += 1000
    inside.connection.hold()
    assert inside.turn(frame(messages.Ping())[20:]) is Turn.PARKED
    assert len(inside.vault.asked) == 1


@pytest.mark.parametrize("greeted", [False, True])
def test_who_dribbles_is_given_up_in_its_own_turn(scene: Scene, greeted: bool) -> None:
    scene.stream.greeted = greeted
    end_s = scene.env.now_s + (limits.LOGIN_TIMEOUT_S if greeted else limits.HANDSHAKE_TIMEOUT_S)
    while scene.turn(*([frame(messages.Ping())] if scene.stream.sent else [])) is not Turn.CLOSED:
        scene.env.now_s += 7
        if greeted and not scene.stream.sent:
            scene.turn(frame(HELLO))
    assert end_s < scene.env.now_s <= end_s + 14


def test_who_does_not_log_in_gets_so_many_answers(scene: Scene) -> None:
    pings = [frame(messages.Ping())] * limits.GREETING_COUNT_MAX
    assert scene.turn(frame(HELLO), *pings) is Turn.CLOSED
    *answers, last = scene.replies()
    assert len(answers) == limits.GREETING_COUNT_MAX
    assert "without a login" in last.what


# --- Peers that do not read ---------------------------------------------------------------------------------


READ = frame(messages.Read(bytes(32), True, True, ()))


def read(size: int) -> Answer:
    return Answer(messages.ReadReply(1), (bytes(size),))


def test_an_answer_nobody_reads_waits_without_a_thread(inside: Scene) -> None:
    inside.vault.answers.append(read(5000))
    inside.stream.room = 100
    assert inside.turn(READ, frame(messages.Ping())) is Turn.PARKED
    assert inside.connection.waits_to_send
    assert len(inside.vault.asked) == 1, "nothing more is taken in meanwhile"
    for room in (1000, 1000, 1000, sys.maxsize):
        inside.stream.room = room
        assert inside.turn() is Turn.PARKED
    (_, bulk), _ = inside.replies()
    assert bulk == bytes(5000)


def test_shares_go_on_in_the_buffer_of_another_thread(inside: Scene) -> None:
    share = FakeShare(bytes(range(256)) * 4096)
    inside.vault.answers.append(fetched(share))
    inside.stream.room = 1000
    inside.turn(FETCH)
    while not share.closed:
        inside.stream.room = 300_000
        other = memoryview(bytearray(b"?" * SCRATCH_SIZE))
        assert inside.connection.turn(0, other) is Turn.PARKED
        other[:] = b"!" * SCRATCH_SIZE
    ((_, bulk),) = inside.replies()
    assert bulk == bytes(range(256)) * 4096


def test_who_reads_too_slowly_is_given_up(inside: Scene) -> None:
    inside.vault.answers.append(fetched(share := FakeShare(bytes(200_000))))
    start_s = inside.env.now_s
    inside.stream.room = 100
    assert inside.turn(FETCH) is Turn.PARKED
    assert inside.connection.deadline_s == start_s + limits.PROGRESS_S
    for _ in range(40):
        inside.env.now_s += 0.9
        inside.stream.room = 1_000
        assert inside.turn() is Turn.PARKED
    slow_s = inside.env.now_s
    inside.stream.room = 1
    while inside.turn() is not Turn.CLOSED:
        inside.env.now_s += 1
        inside.stream.room = 1
    assert inside.env.now_s - slow_s <= limits.PROGRESS_S + 2
    assert share.closed


def test_what_a_user_leaves_unread_has_an_end(inside: Scene) -> None:
    door = inside.connection._door
    assert door.unsent.take("", limits.UNSENT_SHARE_MAX - 6000)
    inside.vault.answers.append(read(5000))
    inside.stream.room = 0
    assert inside.turn(READ) is Turn.PARKED
    other = FakeStream()
    other.room = 0
    late = inside.another(other)
    inside.log_in(late)
    inside.vault.answers.append(read(5000))
    other.pieces.append(READ)
    assert late.turn(0, SCRATCH) is Turn.CLOSED
    inside.connection.close()
    assert door.unsent.total == limits.UNSENT_SHARE_MAX - 6000


def test_a_last_word_is_not_waited_for(inside: Scene) -> None:
    inside.stream.room = 0
    assert inside.turn(b"x" * 64) is Turn.CLOSED


def test_one_too_many_is_told_so(scene: Scene) -> None:
    stream = FakeStream()
    guest = scene.another(stream, BusyError("too many"))
    stream.pieces.append(frame(HELLO))
    assert guest.turn(0, SCRATCH) is Turn.CLOSED
    scene.stream.sent = stream.sent
    (error,) = scene.replies()
    assert isinstance(error, BusyError)
    assert guest.deadline_s == scene.env.now_s + limits.HANDSHAKE_TIMEOUT_S


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


def test_the_kernel_sends_what_lies_in_files_and_nothing_is_kept(inside: Scene) -> None:
    inside.stream.can_send_file, inside.stream.room = True, 500
    shares = FakeShare(b"a"), FakeShare(bytes(1000), place=(9, 50)), FakeShare(b"b")
    inside.vault.answers.append(fetched(*shares))
    assert inside.turn(FETCH) is Turn.PARKED
    assert (inside.stream.files, inside.connection._door.unsent.total) == ([(9, 50, 1000)], 0)
    inside.stream.room = sys.maxsize
    inside.turn()
    assert inside.stream.sent.endswith(b"a" + bytes(1000) + b"b")


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
    held = inside.buffers.take(size, "", fits)
    assert held is not None
    assert inside.turn(claims(size)) is Turn.STARVED
    assert inside.resumed == []
    inside.buffers.give(held, "")
    assert inside.resumed == [inside.connection]
    assert inside.turn() is Turn.PARKED
    assert inside.vault.asked[0][1] == bytes(size)
    assert inside.buffers.take(size, "", fits) is not None, "it came back before the reply"


def test_one_that_closes_halfway_gives_its_buffer_back(inside: Scene) -> None:
    inside.buffers._size_max = size = 128 * limits.KIB
    assert inside.turn(claims(size)[:-1]) is Turn.PARKED
    inside.connection.close()
    assert inside.buffers.take(size, "", fits) is not None
