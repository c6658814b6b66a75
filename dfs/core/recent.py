"""What was worked out lately, kept to be asked for again; bounded."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Recent(Generic[K, T]):
    """At most ``count_max`` results by what they follow from; the oldest make room. Thread-safe."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._results: OrderedDict[K, T] = OrderedDict()

    def get(self, key: K, make: Callable[[], T]) -> T:
        """Return what was made for ``key``, making it if need be; what `make` raises is not kept."""
        try:
            return self._results[key]
        except KeyError:
            result = make()
        self._results[key] = result
        if len(self._results) > self._count_max:
            self._results.popitem(last=False)
        return result
