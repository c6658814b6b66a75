"""The threads of a node that listen: one watches all silent connections, a crew serves the others."""

import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dfs.core.connection import SCRATCH_SIZE, Connection
from dfs.core.interface import Env, Listener

SWEEP_S: Final = 1.0  # how often silent connections are looked through for those to give up


class Crew:
    """Up to ``count_max`` threads that give turns to the connections handed to them, in that order."""

    def __init__(self, count_max: int, give_turn: Callable[[Connection, memoryview], None]) -> None:
        self._count_max = count_max
        self._give_turn = give_turn
        self._condition = threading.Condition()
        self._ready: deque[Connection] = deque()
        self._threads: list[threading.Thread] = []
        self._running_count = 0
        self._idle_count = 0
        self._closed = False

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for a thread and none is idle; at the end, all threads are wanted back.

        One that was just woken still counts as idle: who parked its connection for it would only wake more.
        """
        return self._closed or len(self._ready) > self._idle_count

    def submit(self, connection: Connection) -> None:
        """Hand a connection over; after `close` it is ended instead."""
        with self._condition:
            if self._closed:
                connection.abort()
                return
            connection.hold()
            self._ready.append(connection)
            if len(self._ready) <= self._idle_count or len(self._threads) == self._count_max:
                self._condition.notify()
                return
            name = f"dfs-crew-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            self._running_count += 1
        thread.start()

    def close(self) -> None:
        """Drop who waits; each thread ends after the request it is at."""
        with self._condition:
            self._closed = True
            while self._ready:
                self._ready.popleft().abort()
            self._condition.notify_all()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until all threads have ended, after `close`; False when they had not in time."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._running_count == 0, timeout_s):
                return False
        for thread in self._threads:
            thread.join()
        return True

    def _run(self) -> None:
        scratch = memoryview(bytearray(SCRATCH_SIZE))
        while (connection := self._next()) is not None:
            self._give_turn(connection, scratch)
        with self._condition:
            self._running_count -= 1
            self._condition.notify_all()

    def _next(self) -> Connection | None:
        with self._condition:
            self._idle_count += 1
            self._condition.wait_for(lambda: self._closed or self._ready)
            self._idle_count -= 1
            return self._ready.popleft() if self._ready else None


class Watch:
    """The thread that waits for new connections and for all silent ones, and gives up those silent too long.

    A connection is silent when its peer sends nothing, or does not read what it asked for.

    ``admit``: takes new connections in, False when the system has no room for them just now.
    ``ready``: gets a connection where something came. ``give_up``: ends one.
    """

    def __init__(
        self,
        listener: Listener,
        env: Env,
        *,
        admit: Callable[[], bool],
        ready: Callable[[Connection], None],
        give_up: Callable[[Connection], None],
    ) -> None:
        self._door = listener.fileno()
        self._env = env
        self._admit = admit
        self._ready = ready
        self._give_up = give_up
        self._lock = threading.Lock()
        self._parking: list[Connection] = []  # handed over, not yet watched
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._open_door()
        self._sweep_s = 0.0
        self._thread = threading.Thread(target=self._run, name="dfs-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def park(self, connection: Connection) -> None:
        """Watch a connection until something comes; from any thread."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._parking.append(connection)
                if len(self._parking) == 1:
                    self._button.send(b"\0")
        if closed:
            self._give_up(connection)

    def close(self) -> None:
        """End the thread and every connection it watched."""
        with self._lock:
            self._closed = True
            self._button.send(b"\0")
        self._thread.join()
        self._button.close()

    def _run(self) -> None:
        while not self._closed:
            # The bell is watched always. A connection has a deadline, and so has a door that is closed.
            idle = self._is_open() and len(self._selector.get_map()) == (1 if self._door < 0 else 2)
            for key, _ in self._selector.select(None if idle else SWEEP_S):
                if key.data is not None:
                    self._selector.unregister(key.fd)
                    self._ready(key.data)
                elif key.fileobj is self._bell:
                    with suppress(BlockingIOError):
                        self._bell.recv(4096)
                elif not self._admit():
                    self._selector.unregister(key.fd)
            self._sweep()
            self._take_parked()
        self._take_parked()
        for connection in self._watched():
            self._give_up(connection)
        self._selector.close()
        self._bell.close()

    def _watched(self) -> list[Connection]:
        return [key.data for key in self._selector.get_map().values() if key.data is not None]

    def _take_parked(self) -> None:
        with self._lock:
            parked, self._parking = self._parking, []
        for connection in parked:
            event = selectors.EVENT_WRITE if connection.waits_to_send else selectors.EVENT_READ
            self._selector.register(connection.stream.fileno(), event, connection)

    def _sweep(self) -> None:
        now_s = self._env.monotonic_s()
        if now_s < self._sweep_s:
            return
        self._sweep_s = now_s + SWEEP_S
        for connection in self._watched():
            if now_s >= connection.deadline_s:
                self._selector.unregister(connection.stream.fileno())
                self._give_up(connection)
        self._open_door()

    def _is_open(self) -> bool:
        return self._door < 0 or self._door in self._selector.get_map()

    def _open_door(self) -> None:
        if not self._is_open():
            self._selector.register(self._door, selectors.EVENT_READ)
