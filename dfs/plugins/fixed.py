"""The chunker `fixed`: all chunks but the last have one size. Option ``size``: 64 KiB to 16 MiB (4 MiB)."""

import re
from collections.abc import Iterable
from typing import Final

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
NAME: Final = "fixed"
SIZE_MIN: Final = 64 * limits.KIB
SIZE_PATTERN: Final = re.compile(r"([0-9]{1,9}) ?(B|KiB|MiB)?", re.ASCII)
UNITS: Final = {None: 1, "B": 1, "KiB": limits.KIB, "MiB": limits.MIB}


class Fixed:
    """Boundaries are multiples of one size, so nobody need look at the bytes."""

    fixed = True

    def __init__(self, size: int) -> None:
        self.chunk_size_max: Final = size

    def cut(self, window: Buffer, *, final: bool) -> int:
        """Return the whole window."""
        size = len(window)
        if not 1 <= size <= self.chunk_size_max or (size < self.chunk_size_max and not final):
            raise ValueError(f"a window has {self.chunk_size_max} bytes, fewer only at the end, not {size}")
        return size


def make(options: Options) -> Chunker:
    """Make the chunker."""
    for key in options.values:
        if key != "size":
            raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has size")
    text = options.values.get("size", f"{limits.CHUNK_SIZE} B")
    match = SIZE_PATTERN.fullmatch(text)
    size = int(match[1]) * UNITS[match[2]] if match else 0
    if not SIZE_MIN <= size <= limits.CHUNK_SIZE_MAX:
        raise ConfigError(f"plugin {NAME}: size is 64 KiB to 16 MiB, not {text!r}")
    return Fixed(size)


@hookimpl
def dfs_chunkers() -> Iterable[ChunkerPlugin]:
    """Declare fixed."""
    return (ChunkerPlugin(name=NAME, summary="chunks of one size, 4 MiB, the default", make=make),)
