"""The chunker `fastcdc`: the bytes say where chunks end, so an insertion changes only those near it.

Source: Xia and others, "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
Systems" (2020), in the package pyfastcdc. Option ``mean``: 64 KiB to 4 MiB (1 MiB); chunks have a quarter of
it to four times as much.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from dfs.core.api import (
    Buffer,
    Chunker,
    ChunkerPlugin,
    ConfigError,
    Options,
    UnknownKeyError,
    hookimpl,
    limits,
)

DFS_API_VERSION: Final = 1
NAME: Final = "fastcdc"
MEAN_MIN: Final = 64 * limits.KIB
MEAN_MAX: Final = 4 * limits.MIB
MEAN_DEFAULT: Final = 1 * limits.MIB
SIZE_RATIO: Final = 4  # of the largest chunk to the mean, and of the mean to the smallest
MEAN_PATTERN: Final = re.compile(r"([0-9]{1,7}) ?(B|KiB|MiB)?", re.ASCII)
UNITS: Final = {None: 1, "B": 1, "KiB": limits.KIB, "MiB": limits.MIB}


class FastCdc:
    """Boundaries follow from the bytes before them, since the chunk began."""

    fixed = False

    def __init__(self, library: Any, mean: int) -> None:  # noqa: ANN401 - a module
        self._library: Final = library
        self._mean: Final = mean
        self.chunk_size_max: Final = mean * SIZE_RATIO

    def cut(self, window: Buffer, *, final: bool) -> int:
        """Return where the first chunk of the window ends."""
        size = len(window)
        if not 1 <= size <= self.chunk_size_max or (size < self.chunk_size_max and not final):
            raise ValueError(f"a window has {self.chunk_size_max} bytes, fewer only at the end, not {size}")
        # One each time: the library's object is not for several threads, and making it costs little.
        cutter = self._library.FastCDC(
            self._mean, min_size=self._mean // SIZE_RATIO, max_size=self.chunk_size_max
        )
        first = next(cutter.cut_buf(window))
        return int(first.length)


def make(options: Options) -> Chunker:
    """Make the chunker. Raises: ConfigError: the option is wrong, or the package is not installed."""
    for key in options.values:
        if key != "mean":
            raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has mean")
    text = options.values.get("mean", f"{MEAN_DEFAULT} B")
    match = MEAN_PATTERN.fullmatch(text)
    mean = int(match[1]) * UNITS[match[2]] if match else 0
    if not MEAN_MIN <= mean <= MEAN_MAX:
        raise ConfigError(f"plugin {NAME}: mean is 64 KiB to 4 MiB, not {text!r}")
    try:
        import pyfastcdc
    except ImportError:
        raise ConfigError(
            f"plugin {NAME} needs the package pyfastcdc", next_step="Install it: pip install 'dfs[fastcdc]'."
        ) from None
    return FastCdc(pyfastcdc, mean)


@hookimpl
def dfs_chunkers() -> Iterable[ChunkerPlugin]:
    """Declare fastcdc."""
    summary = "content decides where chunks end, 1 MiB on average"
    return (ChunkerPlugin(name=NAME, summary=summary, make=make),)
