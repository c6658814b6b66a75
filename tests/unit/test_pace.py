"""Limits of rate, in virtual time: who books keeps to the rate, however many there are."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field

from dfs.core.interface import Buffer, TransportOptions
from dfs.core.pace import Pace, PacedStream, PacedTransport, piece_size
from dfs.plugins import memory_transport


@define
class Clock:
    """An `Env` whose time is set by hand."""

    now_s: float = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s

    def random_bytes(self, size: int) -> bytes:
        return bytes(size)


@define
class Sent:
    """A stream that takes everything and notes when; its bytes to receive never end."""

    clock: Clock
    sizes: list[tuple[float, int]] = field(factory=list)
    deadlines: list[float] = field(factory=list)
    closed: bool = False

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        self.sizes.append((self.clock.now_s, sum(map(len, buffers))))
        self.deadlines.append(deadline_s)

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        self.deadlines.append(deadline_s)
        return len(target)

    def close(self) -> None:
        self.closed = True


@define
class Waits:
    """In the place of an event: time passes at once."""

    clock: Clock
    total_s: float = 0.0

    def wait(self, seconds: float) -> None:
        self.total_s += seconds
        self.clock.now_s += seconds


def paced(clock: Clock, pace: Pace) -> tuple[PacedStream, Any]:
    inner: Any = Sent(clock)
    stream = PacedStream(inner, pace, pace)
    object.__setattr__(stream, "_closed", Waits(clock))
    return stream, inner


def test_turns_follow_one_another_at_the_rate() -> None:
    pace = Pace(1000, Clock())
    assert [pace.book(500) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    assert pace.wait_s() == 2.0


def test_time_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    pace.book(1000)
    clock.now_s += 60
    assert pace.wait_s() == 0.0
    assert [pace.book(1000), pace.book(1000)] == [0.0, 1.0]


def test_no_rate_is_no_limit() -> None:
    pace = Pace(None, Clock())
    assert [pace.book(1 << 40) for _ in range(3)] == [0.0] * 3
    assert pace.wait_s() == 0.0
    assert pace.piece_size >= 1 << 24


def test_streams_share_one_rate_and_waiting_costs_no_deadline() -> None:
    clock = Clock()
    pace = Pace(64_000, clock)
    (one, first), (two, second) = paced(clock, pace), paced(clock, pace)
    for _ in range(32):
        one.send([bytes(500), bytes(500)], clock.now_s + 1)
        two.send([bytes(1000)], clock.now_s + 1)
    sent = sorted(first.sizes + second.sizes)
    assert sum(size for _, size in sent) == 64_000
    assert sent[-1][0] - sent[0][0] == pytest.approx(1.0, abs=0.05)
    assert min(first.deadlines + second.deadlines) >= 101.0


def test_receiving_is_paced_in_small_pieces() -> None:
    clock = Clock()
    pace = Pace(640_000, clock)
    stream, _ = paced(clock, pace)
    received = 0
    while received < 640_000:
        received += stream.receive_into(memoryview(bytearray(1 << 20)), clock.now_s + 30)
    assert clock.now_s == pytest.approx(101.0, abs=0.05)


def test_closing_ends_a_wait() -> None:
    pace = Pace(1000, Clock())
    pace.book(10**9)
    inner: Any = Sent(Clock())
    stream = PacedStream(inner, pace, pace)
    waiting = threading.Thread(target=stream.send, args=([b"x"], 200.0))
    waiting.start()
    stream.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert inner.closed


def test_a_transport_paces_its_streams_and_says_the_size_of_pieces() -> None:
    inner = memory_transport.make(TransportOptions())
    pace = Pace(64_000, Clock())
    transport = PacedTransport(inner, pace, pace)
    assert transport.confidential is inner.confidential
    listener = transport.listen("paced:1")
    stream = transport.connect(listener.address, 1e9)
    assert isinstance(stream, PacedStream)
    stream.close()
    listener.close()
    assert piece_size(transport, 1 << 19) == 1024
    assert piece_size(inner, 1 << 19) == 1 << 19
