"""Two plugins of a third party, written against dfs.core.api alone: a cipher and a placement.

Foxglove is SHAKE-256 as key stream and a keyed BLAKE2b tag over context and sealed bytes; it needs no nonce,
since each key seals exactly one byte string. Meadow walks the group from where the key says.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final

from dfs.core.api import (
    Buffer,
    Cipher,
    CipherPlugin,
    ConfigError,
    IntegrityError,
    Node,
    Options,
    Placement,
    PlacementOptions,
    PlacementPlugin,
    Scope,
    UnknownKeyError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
KEY_SIZE: Final = 32
TAG_SIZE: Final = 16


class Foxglove:
    """Seals by encrypting first and tagging then; the tag stands behind the bytes."""

    key_size = KEY_SIZE
    overhead_size = TAG_SIZE
    authenticated = True

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Seal."""
        _check(holds=len(key) == KEY_SIZE and len(target) == len(source) + TAG_SIZE)
        target[:-TAG_SIZE] = _mixed(key, source)
        target[-TAG_SIZE:] = _tag(key, context, target[:-TAG_SIZE])

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Open; nothing is written unless the tag fits."""
        _check(holds=len(key) == KEY_SIZE and len(source) == len(target) + TAG_SIZE)
        sealed = memoryview(source)
        if not hmac.compare_digest(_tag(key, context, sealed[:-TAG_SIZE]), bytes(sealed[-TAG_SIZE:])):
            raise IntegrityError("the tag of a foxglove-sealed chunk does not fit")
        target[:] = _mixed(key, sealed[:-TAG_SIZE])


class Meadow:
    """Nodes in roster order, from the one that the key tells."""

    scope = Scope.CHUNK

    def facts(self, key: bytes, nodes: Sequence[Node]) -> bytes:
        """Nothing: a reader has the key."""
        return b""

    def place(
        self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]
    ) -> tuple[tuple[Node, ...], ...]:
        """Row i begins i places behind the first row."""
        if not max(count, copies) <= len(nodes):
            raise ConfigError(f"{count} shares with {copies} copies need more than {len(nodes)} nodes")
        first = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return tuple(
            tuple(nodes[(first + index + step) % len(nodes)] for step in range(copies))
            for index in range(count)
        )


def _check(*, holds: bool) -> None:
    if not holds:
        raise ValueError("a key or buffer has the wrong size")


def _mixed(key: bytes, source: Buffer) -> bytes:
    size = len(source)
    stream = int.from_bytes(hashlib.shake_256(b"foxglove stream" + key).digest(size), "big")
    return (int.from_bytes(source, "big") ^ stream).to_bytes(size, "big")


def _tag(key: bytes, context: bytes, sealed: Buffer) -> bytes:
    tag = hashlib.blake2b(len(context).to_bytes(8, "big") + context, key=key, digest_size=TAG_SIZE)
    tag.update(sealed)
    return tag.digest()


def make_cipher(options: Options) -> Cipher:
    """Make the cipher; it has no settings."""
    _refuse(options)
    return Foxglove()


def make_placement(options: PlacementOptions) -> Placement:
    """Make the placement; it has no settings."""
    _refuse(options)
    return Meadow()


def _refuse(options: Options) -> None:
    for key in options.values:
        raise UnknownKeyError(f"there is no setting {key!r}")


@hookimpl
def dfs_ciphers() -> Iterable[CipherPlugin]:
    """Declare the cipher."""
    return (CipherPlugin(name="foxglove", summary="SHAKE-256 stream with a BLAKE2b tag", make=make_cipher),)


@hookimpl
def dfs_placements() -> Iterable[PlacementPlugin]:
    """Declare the placement."""
    return (
        PlacementPlugin(name="meadow", summary="along the roster from a hashed start", make=make_placement),
    )
