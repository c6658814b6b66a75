"""The threads that listen: who gets a turn, on how many threads, and what ends with them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from dfs.core import crew
from dfs.core.connection import SCRATCH_SIZE, Connection
from dfs.core.crew import Crew, Watch
from dfs.core.env import RealEnv
from dfs.core.errors import TimedOutError
from dfs.core.interface import Stream
from dfs.core.sockets import SocketStream
from dfs.plugins import memory_transport

Transport = memory_transport.MemoryTransport


class FakeConnection:
    """Notes what happens to it."""

    def __init__(self, stream: SocketStream | None = None) -> None:
        self.stream = stream
        self.deadline_s = float("inf")
        self.waits_to_send = False
        self.held = self.aborted = False

    def hold(self) -> None:
        self.held = True

    def abort(self) -> None:
        self.aborted = True


def real(connection: FakeConnection) -> Connection:
    return cast("Connection", connection)


# --- The crew -----------------------------------------------------------------------------------------------


def test_turns_are_given_in_order_on_so_many_threads() -> None:
    gate, done = threading.Event(), threading.Semaphore(0)
    turns: list[Any] = []

    def give_turn(connection: Connection, scratch: memoryview) -> None:
        assert len(scratch) == SCRATCH_SIZE
        turns.append(connection)
        assert gate.wait(10)
        done.release()

    band = Crew(2, give_turn)
    connections = [FakeConnection() for _ in range(5)]
    for connection in connections:
        band.submit(real(connection))
        assert connection.held, "it waits for us from now on"
    assert len(band._threads) == 2
    assert band.crowded
    gate.set()
    for _ in connections:
        assert done.acquire(timeout=10)
    assert turns[2:] == connections[2:]
    band.close()
    assert band.join(10)


def test_who_waits_for_a_thread_that_was_woken_for_it_crowds_nobody() -> None:
    served = threading.Semaphore(0)
    band = Crew(1, lambda _connection, _scratch: served.release())
    band.submit(real(FakeConnection()))
    assert served.acquire(timeout=10)
    with band._condition:
        while band._idle_count == 0:
            band._condition.wait(0.001)
        band.submit(real(FakeConnection()))  # nobody takes it while this thread has the lock
        crowded = [band.crowded]
        band.submit(real(FakeConnection()))
        crowded.append(band.crowded)
    assert crowded == [False, True], "only for the second one there is no thread"
    band.close()
    assert band.join(10)


def test_who_waits_or_comes_after_the_end_is_dropped() -> None:
    gate, begun = threading.Event(), threading.Event()

    def give_turn(_connection: Connection, _scratch: memoryview) -> None:
        begun.set()
        assert gate.wait(10)

    band = Crew(1, give_turn)
    served, waiting, late = FakeConnection(), FakeConnection(), FakeConnection()
    band.submit(real(served))
    assert begun.wait(10)
    band.submit(real(waiting))
    band.close()
    band.submit(real(late))
    assert (served.aborted, waiting.aborted, late.aborted) == (False, True, True)
    assert not band.join(0), "one is still at work"
    gate.set()
    assert band.join(10)


# --- The watch ----------------------------------------------------------------------------------------------


class Scene:
    """A watch over a real listener; what it hands on can be waited for."""

    def __init__(self) -> None:
        self.listener = Transport().listen("attic:0")
        self.admitted, self.ready, self.given_up = (threading.Semaphore(0) for _ in range(3))
        self.handed: list[FakeConnection] = []
        self.ended: list[FakeConnection] = []
        self.callers: list[Stream] = []
        self.room = True
        self.watch = Watch(
            self.listener, RealEnv(), admit=self._admit, ready=self._ready, give_up=self._give_up
        )
        self.watch.start()

    def _admit(self) -> bool:
        if self.room:
            self.listener.accept(0).close()
        self.admitted.release()
        return self.room

    def _ready(self, connection: Connection) -> None:
        self.handed.append(cast("FakeConnection", connection))
        self.ready.release()

    def _give_up(self, connection: Connection) -> None:
        self.ended.append(cast("FakeConnection", connection))
        self.given_up.release()

    def knock(self) -> None:
        self.callers.append(Transport().connect(self.listener.address, 0))


@contextmanager
def pair() -> Iterator[tuple[SocketStream, SocketStream]]:
    listener = Transport().listen("shed:0")
    near = cast("SocketStream", Transport().connect(listener.address, 0))
    far = cast("SocketStream", listener.accept(0))
    yield near, far
    for end in (near, far, listener):
        end.close()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(crew, "SWEEP_S", 0.01)
    scene = Scene()
    yield scene
    if scene.watch._thread.is_alive():
        scene.watch.close()
    scene.listener.close()
    for caller in scene.callers:
        caller.close()


def test_who_sends_something_is_handed_on(scene: Scene) -> None:
    with pair() as (near, far):
        connection = FakeConnection(near)
        scene.watch.park(real(connection))
        far.send([b"x"], 0)
        assert scene.ready.acquire(timeout=10)
        assert scene.handed == [connection]


def test_who_must_read_first_is_handed_on_when_it_reads(scene: Scene) -> None:
    with pair() as (near, far):
        with pytest.raises(TimedOutError):
            near.send([bytes(8 << 20)], 0)
        connection = FakeConnection(near)
        connection.waits_to_send = True
        far.send([b"x"], 0)  # that it sends does not count
        scene.watch.park(real(connection))
        scene.knock()
        assert scene.admitted.acquire(timeout=10)
        assert scene.handed == []
        left_size = (8 << 20) - near.unsent_size
        while left_size:
            left_size -= far.receive_into(memoryview(bytearray(left_size)), 0)
        assert scene.ready.acquire(timeout=10)
        assert scene.handed == [connection]


def test_who_is_silent_too_long_is_given_up(scene: Scene) -> None:
    with pair() as (near, _):
        connection = FakeConnection(near)
        connection.deadline_s = 0.0
        scene.watch.park(real(connection))
        assert scene.given_up.acquire(timeout=10)
        assert scene.ended == [connection]


def test_a_door_closed_for_want_of_room_opens_again(scene: Scene) -> None:
    with pair() as (near, _):
        scene.watch.park(real(FakeConnection(near)))  # so that it sweeps
        scene.room = False
        scene.knock()
        for _ in range(3):
            assert scene.admitted.acquire(timeout=10)
        scene.room = True
        assert scene.admitted.acquire(timeout=10)


def test_the_end_of_the_watch_is_the_end_of_all_it_watched(scene: Scene) -> None:
    with pair() as (near, _), pair() as (other, _):
        first, late = FakeConnection(near), FakeConnection(other)
        scene.watch.park(real(first))
        scene.watch.close()
        scene.watch.park(real(late))
        assert scene.ended == [first, late]
