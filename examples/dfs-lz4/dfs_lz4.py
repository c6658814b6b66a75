"""The compressor `lz4`: LZ4 frames (the format of lz4 1.10). Option ``level``: 0 to 12, default 0."""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import (
    Buffer,
    Compressor,
    CompressorPlugin,
    ConfigError,
    IntegrityError,
    Options,
    UnknownKeyError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "lz4"
CODEC: Final = 128
LEVELS: Final = {str(level): level for level in range(13)}
PIECE_SIZE: Final = 128 * 1024  # unpacked at a time, so that no chunk-sized bytes object is made


class Lz4:
    """Frames without checksums: the core's own are stronger."""

    def __init__(self, level: int) -> None:
        import lz4.frame  # only when data flows

        self._frame: Final = lz4.frame
        self._level: Final = level

    def compress(self, plain: Buffer) -> Buffer | None:
        """Pack ``plain`` into one frame, None when that gains nothing."""
        packed: bytes = self._frame.compress(
            plain, compression_level=self._level, block_linked=False, store_size=False
        )
        return packed if len(packed) < len(plain) else None

    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        """Unpack exactly one frame. Raises: IntegrityError: broken, or larger than the target."""
        try:
            return self._unpack(packed, target)
        except (RuntimeError, EOFError) as error:  # what the library raises for bytes that are no frame
            raise IntegrityError("packed bytes are not an lz4 frame that dfs made") from error

    def _unpack(self, packed: Buffer, target: memoryview) -> int:
        decompressor = self._frame.LZ4FrameDecompressor()
        piece: Buffer = packed
        written = 0
        while not decompressor.eof:
            # One byte more than there is room for: only so does a frame that is too large show.
            plain = decompressor.decompress(piece, min(PIECE_SIZE, len(target) - written + 1))
            if written + len(plain) > len(target):
                raise IntegrityError(f"an lz4 frame holds more than the {len(target)} bytes it should")
            target[written : written + len(plain)] = plain
            written += len(plain)
            if decompressor.needs_input and not decompressor.eof:
                raise IntegrityError("an lz4 frame ends too early")
            piece = b""
        if decompressor.unused_data:
            raise IntegrityError("an lz4 frame is followed by other bytes")
        return written


def make(options: Options) -> Compressor:
    """Make the compressor, one a worker."""
    for key in options.values:
        if key != "level":
            raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has level")
    text = options.values.get("level", "0")
    if text not in LEVELS:
        raise ConfigError(f"plugin {NAME}: level is 0 to 12, not {text!r}")
    return Lz4(LEVELS[text])


@hookimpl
def dfs_compressors() -> Iterable[CompressorPlugin]:
    """Declare lz4."""
    return (CompressorPlugin(name=NAME, summary="LZ4 frames, very fast", make=make, codec=CODEC),)
