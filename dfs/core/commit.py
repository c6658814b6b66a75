"""Group commit: the works of all who wait go into one transaction of their vault, made by one of them.

A commit costs a flush of the disk, whatever is in it; so while one is under way the next gathers, and nobody
ever waits for company on purpose. Who finds nobody at it commits by itself: to wake a thread for it, and be
woken by that, costs more than a small commit. Only works whose loss in a crash is harmless are kept back for
a moment.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from dfs.core.errors import BusyError
from dfs.core.interface import Transaction, VaultStore
from dfs.core.node import Work, transact

T = TypeVar("T")

BATCH_COUNT_MAX: Final = 128  # works of one transaction
LATER_COUNT_MAX: Final = 1024  # works that may be kept back before those who bring more must wait
LATER_S: Final = 0.05  # how long a work that nobody waits for is kept back

log: Final = logging.getLogger("dfs")


class _Waiting:
    """A work, and the lock its bringer waits on; without one nobody waits.

    ``leads``: its bringer is to commit now, itself and all others.
    """

    __slots__ = ("done", "leads", "result", "work")

    def __init__(self, work: Work, done: "threading.Lock | None") -> None:
        self.work = work
        self.done = done
        self.leads = False
        self.result: object = _UNKNOWN

    def finish(self, result: object) -> None:
        """Hand over what came out: a value, or the exception to raise."""
        self.result = result
        if self.done is not None:
            self.done.release()
        elif isinstance(result, Exception):
            log.warning("a write that nobody waited for failed: %s", result)


_UNKNOWN: Final = object()


class CommitQueue:
    """The way of all writes into one vault (node.Commit). Thread-safe; works from `start` to `close`.

    One thread at a time commits, the leader. It takes along what waits, and when its own work is done it
    leaves the lead to one who came meanwhile. A thread of the queue's own leads for works that nobody waits
    for.
    ``on_mark`` is told the vault's mark after each commit, before anybody who waited for it goes on.
    """

    def __init__(self, store: VaultStore) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._led = False
        self._asleep = False  # the thread waits for a work that nobody waits for
        self._closed = False
        self._told = False
        self._thread: threading.Thread | None = None
        self._on_mark: Callable[[int], None] = _ignore

    def start(self, on_mark: Callable[[int], None]) -> None:
        self._on_mark = on_mark
        self._thread = threading.Thread(target=self._run, name="dfs-commit", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Commit ``work``, possibly with others, and return its result or raise its error."""
        waiting = _Waiting(work, None)
        with self._condition:
            self._add(waiting)
            leads = not self._led
            if leads:
                self._led = True
            else:
                waiting.done = threading.Lock()
                waiting.done.acquire()
        if waiting.done is not None:
            waiting.done.acquire()
            leads = waiting.leads
        if leads:
            self._lead(waiting)
        if isinstance(waiting.result, Exception):
            raise waiting.result
        return cast("T", waiting.result)

    def later(self, work: Work) -> None:
        """Commit ``work`` with the next others; wait for it only if too many are kept back already."""
        with self._condition:
            crowded = len(self._waiting) >= LATER_COUNT_MAX
            if not crowded:
                self._add(_Waiting(work, None))
                if self._asleep:
                    self._condition.notify_all()
        if crowded:
            self.run(work)

    def close(self) -> None:
        """Commit what waits and end the thread; twice is fine."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _add(self, waiting: _Waiting) -> None:
        if self._closed:
            raise BusyError("the node is stopping")
        self._waiting.append(waiting)

    # Leading

    def _lead(self, own: _Waiting | None) -> None:
        """Commit until one's own work is done, or all that waits; then one who came meanwhile leads."""
        heir: _Waiting | None = None
        try:
            while own is None or own.result is _UNKNOWN:
                with self._condition:
                    batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_COUNT_MAX))]
                if not batch:
                    break
                self._commit(batch, own)
        finally:
            with self._condition:
                heir = next((each for each in self._waiting if each.done is not None), None)
                self._led = heir is not None
                if self._closed:
                    self._condition.notify_all()
            if heir is not None and heir.done is not None:
                heir.leads = True
                heir.done.release()

    def _commit(self, batch: Sequence[_Waiting], own: _Waiting | None) -> None:
        try:
            results, mark = transact(self._store, [waiting.work for waiting in batch])
        except Exception as error:  # noqa: BLE001 - raised again by everybody who waits
            results, mark = [error] * len(batch), 0
        self._on_mark(mark)
        if self._store.read_only_reason is not None and not self._told:
            log.error("a vault is read-only from now on: %s", self._store.read_only_reason)
            self._told = True
        for waiting, result in zip(batch, results, strict=True):
            if waiting is own:
                waiting.result = result
            else:
                waiting.finish(result)

    def _run(self) -> None:
        """Commit what nobody waits for, some time after the first of it came; at the end, everything."""
        while True:
            with self._condition:
                self._asleep = True
                self._condition.wait_for(lambda: self._closed or self._waiting)
                self._asleep = False
                self._condition.wait_for(lambda: self._closed, LATER_S)
                if self._closed:
                    self._condition.wait_for(lambda: not self._led)
                    if not self._waiting:
                        return
                leads = not self._led and bool(self._waiting)
                self._led = self._led or leads
            if leads:
                self._lead(None)


def _ignore(_mark: int) -> None:
    """Nobody wants to know the mark yet."""
