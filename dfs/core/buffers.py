"""The bulk buffers of a node: one pool, bounded in all and for each user."""

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from dfs.core import limits
from dfs.core.door import Tally

STEPS_A_DOUBLING: Final = 8  # buffer sizes are rounded up by an eighth at most
BUFFER_SIZE_MIN: Final = 64 * limits.KIB


class BufferPool:
    """All bulk buffers of a node: lent, taken back and lent again, never more than ``size_max`` bytes in all.

    One user gets ``share_max`` of them at most. Thread-safe. Nobody blocks: who comes when nothing is left is
    supplied later, in the order of coming; who has too much already is passed over meanwhile.
    """

    def __init__(self, size_max: int, share_max: float = math.inf) -> None:
        self._size_max = size_max
        self._size = 0  # of all buffers, lent or free
        self._lent = Tally[str](share_max=share_max)
        self._free: dict[int, list[bytearray]] = {}
        self._waiting: deque[tuple[int, str, Callable[[memoryview], None]]] = deque()
        self._lock = threading.Lock()

    def take(self, size: int, user: str, supply: Callable[[memoryview], None]) -> memoryview | None:
        """Return ``size`` bytes, or None: then ``supply`` is called with them once they are free."""
        with self._lock:
            self._waiting.append((size, user, supply))
            found = self._served()
        buffer = None
        for served, given in found:
            if served is supply:
                buffer = given
            else:
                served(given)
        return buffer

    def give(self, buffer: memoryview, user: str) -> None:
        """Take back what `take` or ``supply`` gave; nobody may use it any more."""
        whole = buffer.obj
        assert isinstance(whole, bytearray)
        with self._lock:
            self._free.setdefault(len(whole), []).append(whole)
            self._lent.give(user, len(whole))
            found = self._served()
        for supply, given in found:
            supply(given)

    def _served(self) -> list[tuple[Callable[[memoryview], None], memoryview]]:
        """Take those out of the queue who can have what they wait for, and return it with them."""
        found = []
        full: set[str] = set()
        for waiting in list(self._waiting):
            size, user, supply = waiting
            if user in full or not self._lent.take(user, rounded(size)):
                full.add(user)  # nor does a smaller request of this user overtake
                continue
            buffer = self._find(size)
            if buffer is None:
                self._lent.give(user, rounded(size))
                break
            self._waiting.remove(waiting)
            found.append((supply, buffer))
        return found

    def _find(self, size: int) -> memoryview | None:
        whole_size = rounded(size)
        if kept := self._free.get(whole_size):
            return memoryview(kept.pop())[:size]
        while self._size + whole_size > self._size_max:
            largest = max((size for size, kept in self._free.items() if kept), default=0)
            if largest == 0:
                return None
            self._free[largest].pop()
            self._size -= largest
        self._size += whole_size
        return memoryview(bytearray(whole_size))[:size]


def rounded(size: int) -> int:
    step = max(BUFFER_SIZE_MIN, (1 << (size - 1).bit_length()) // (2 * STEPS_A_DOUBLING))
    return -(-size // step) * step
