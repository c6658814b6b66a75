"""The compressor `none`: keeps every chunk as it is."""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import (
    Buffer,
    Compressor,
    CompressorPlugin,
    IntegrityError,
    Options,
    UnknownKeyError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "none"
CODEC: Final = 0  # the codec byte of plain chunks


class Keep:
    """Nothing is packed."""

    def compress(self, plain: Buffer) -> Buffer | None:
        """Say "keep it plain"."""
        return None

    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        """Copy ``packed``."""
        if len(packed) > len(target):
            raise IntegrityError(f"a plain chunk has {len(packed)} bytes, not {len(target)}")
        target[: len(packed)] = packed
        return len(packed)


def make(options: Options) -> Compressor:
    """Make the compressor; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has none")
    return Keep()


@hookimpl
def dfs_compressors() -> Iterable[CompressorPlugin]:
    """Declare none."""
    return (CompressorPlugin(name=NAME, summary="no compression", make=make, codec=CODEC),)
