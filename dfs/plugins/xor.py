"""The toy cipher `xor`: each byte XOR the key, repeated. It hides nothing from who knows some bytes.

It is here to show what a cipher plugin is and to compare with. It is not authenticated, so it may be used
only where the conf allows it by name; a changed byte is then found by the chunk id, not here.
"""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import Buffer, Cipher, CipherPlugin, Options, UnknownKeyError, hookimpl

DFS_API_VERSION: Final = 1
NAME: Final = "xor"
KEY_SIZE: Final = 32
PIECE_SIZE: Final = 64 * 1024  # bounds the integers made on the way; a multiple of KEY_SIZE


class Xor:
    """The repeated key over the bytes, in pieces."""

    key_size = KEY_SIZE
    overhead_size = 0
    authenticated = False

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Seal ``source``; the context plays no part."""
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key of {NAME} has {KEY_SIZE} bytes, not {len(key)}")
        if len(source) != len(target):
            raise ValueError(f"{len(source)} bytes become as many, not {len(target)}")
        piece_size = min(PIECE_SIZE, len(source) + -len(source) % KEY_SIZE)
        stream = int.from_bytes(key * (piece_size // KEY_SIZE), "little")
        with memoryview(source) as view:
            for offset in range(0, len(view), PIECE_SIZE):
                piece = view[offset : offset + PIECE_SIZE]
                # Little-endian, so a short last piece meets the front of the stream; the rest is cut off.
                if len(piece) < piece_size:
                    stream &= (1 << 8 * len(piece)) - 1
                mixed = int.from_bytes(piece, "little") ^ stream
                target[offset : offset + len(piece)] = mixed.to_bytes(len(piece), "little")

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Open ``source``: the same again undoes it."""
        self.seal_into(key, context, source, target)


def make(options: Options) -> Cipher:
    """Make the cipher; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has none")
    return Xor()


@hookimpl
def dfs_ciphers() -> Iterable[CipherPlugin]:
    """Declare xor."""
    return (CipherPlugin(name=NAME, summary="toy XOR, NOT secure, needs allow_insecure", make=make),)
