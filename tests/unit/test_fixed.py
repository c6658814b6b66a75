"""The chunker fixed: the contract of chunkers, whole windows, and sizes as people write them."""

import pytest

from dfs.core.api import ConfigError, Options, UnknownKeyError
from dfs.plugins import fixed
from dfs.testing import ChunkerContract
from dfs.testing.contracts.chunker import ChunkerVector


class TestFixed(ChunkerContract):
    (plugin,) = fixed.dfs_chunkers()
    values = {"size": "64 KiB"}
    vectors = (ChunkerVector("0123456789", 30000, (65536, 65536, 18928)),)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536),
        ("100000 B", 100_000),
        ("64 KiB", 65536),
        ("64KiB", 65536),
        ("1 MiB", 1 << 20),
        ("16 MiB", 16 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    chunker = fixed.make(Options(values={"size": text}))
    assert (chunker.chunk_size_max, chunker.fixed) == (size, True)


@pytest.mark.parametrize(
    "text",
    ["", "0", "65535", "63 KiB", "17 MiB", "16777217", "4 MB", "4 mib", "-1", "4  MiB", "1e9", "\u0664 MiB"],
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="size is 64 KiB to 16 MiB"):
        fixed.make(Options(values={"size": text}))


def test_a_window_is_a_chunk() -> None:
    chunker = fixed.make(Options(values={"size": "64 KiB"}))
    window = bytes(65536)
    assert chunker.cut(window, final=False) == chunker.cut(memoryview(window), final=True) == 65536
    assert chunker.cut(b"end", final=True) == 3


def test_declaration() -> None:
    (plugin,) = fixed.dfs_chunkers()
    assert (plugin.name, plugin.make(Options()).chunk_size_max) == ("fixed", 4 << 20)
    with pytest.raises(UnknownKeyError, match="fixed has no option 'mean': it has size"):
        plugin.make(Options(values={"mean": "1"}))
