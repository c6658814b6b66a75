"""A package that implements the hook dfs_cipher, which does not exist."""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import Buffer, Cipher, CipherPlugin, Options, hookimpl

DFS_API_VERSION: Final = 1


class Clear:
    """Copies the bytes."""

    key_size = 32
    overhead_size = 0
    authenticated = False

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Copy."""
        target[:] = source

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Copy."""
        target[:] = source


def make(options: Options) -> Cipher:
    """Make it."""
    return Clear()


@hookimpl
def dfs_cipher() -> Iterable[CipherPlugin]:
    """Declare it."""
    return (CipherPlugin(name="thistle", summary="copies the bytes", make=make),)
