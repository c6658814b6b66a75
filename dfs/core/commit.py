"""Group commit: the works of all who wait go into one transaction of their vault, made by one thread.

A commit costs a flush of the disk, whatever is in it; so while one is under way the next gathers, and nobody
ever waits for company on purpose. Only works whose loss in a crash is harmless are kept back for a moment.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
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
    """A work, and the lock its bringer waits on; without one nobody waits."""

    __slots__ = ("done", "result", "work")

    def __init__(self, work: Work, done: "threading.Lock | None") -> None:
        self.work = work
        self.done = done
        self.result: object = None

    def finish(self, result: object) -> None:
        """Hand over what came out: a value, or the exception to raise."""
        self.result = result
        if self.done is not None:
            self.done.release()
        elif isinstance(result, Exception):
            log.warning("a write that nobody waited for failed: %s", result)


class CommitQueue:
    """The way of all writes into one vault (node.Commit). Thread-safe; works from `start` to `close`.

    ``on_mark`` is told the vault's mark after each commit, before anybody who waited for it goes on.
    """

    def __init__(self, store: VaultStore) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._urgent_count = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self, on_mark: Callable[[int], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(on_mark,), name="dfs-commit", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Commit ``work``, possibly with others, and return its result or raise its error."""
        done = threading.Lock()
        done.acquire()
        waiting = _Waiting(work, done)
        with self._condition:
            self._add(waiting)
            self._urgent_count += 1
        done.acquire()
        if isinstance(waiting.result, Exception):
            raise waiting.result
        return cast("T", waiting.result)

    def later(self, work: Work) -> None:
        """Commit ``work`` with the next others; wait for it only if too many are kept back already."""
        with self._condition:
            crowded = len(self._waiting) >= LATER_COUNT_MAX
            if not crowded:
                self._add(_Waiting(work, None))
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
        self._condition.notify_all()

    def _run(self, on_mark: Callable[[int], None]) -> None:
        told = False
        while batch := self._take():
            try:
                results, mark = transact(self._store, [waiting.work for waiting in batch])
            except Exception as error:  # noqa: BLE001 - raised again by everybody who waits
                results, mark = [error] * len(batch), 0
            on_mark(mark)
            if self._store.read_only_reason is not None and not told:
                log.error("a vault is read-only from now on: %s", self._store.read_only_reason)
                told = True
            for waiting, result in zip(batch, results, strict=True):
                waiting.finish(result)

    def _take(self) -> list[_Waiting]:
        """Return the works of the next transaction; none when the queue is closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._waiting)
            self._condition.wait_for(self._is_due, LATER_S)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_COUNT_MAX))]
            self._urgent_count -= sum(waiting.done is not None for waiting in batch)
            return batch

    def _is_due(self) -> bool:
        return self._closed or self._urgent_count > 0 or len(self._waiting) >= BATCH_COUNT_MAX
