"""Things in a row, cut into runs that fit a request."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def runs(
    items: Iterable[T], size_of: Callable[[T], int], size_max: int, count_max: int = sys.maxsize
) -> Iterator[list[T]]:
    """Yield items in order, in runs of at most ``size_max`` and ``count_max``; a larger one goes alone."""
    run: list[T] = []
    run_size = 0
    for item in items:
        size = size_of(item)
        if run and (len(run) == count_max or run_size + size > size_max):
            yield run
            run, run_size = [], 0
        run.append(item)
        run_size += size
    if run:
        yield run
