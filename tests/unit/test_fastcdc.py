"""The chunker fastcdc: an insertion changes the chunks near it, and boundaries do not depend on windows."""

import random
import sys
from itertools import accumulate

import pytest

from dfs.core.api import ConfigError, Options, UnknownKeyError
from dfs.core.interface import Chunker
from dfs.plugins import fastcdc

pytest.importorskip("pyfastcdc")
MEAN = 64 << 10


def made(mean: str = "64 KiB") -> Chunker:
    return fastcdc.make(Options(values={"mean": mean}))


def ends(chunker: Chunker, body: bytes) -> list[int]:
    """Return where each chunk ends, cut from windows as the core gives them."""
    sizes: list[int] = []
    offset = 0
    while offset < len(body):
        window = memoryview(body)[offset : offset + chunker.chunk_size_max]
        sizes.append(chunker.cut(window, final=offset + len(window) == len(body)))
        offset += sizes[-1]
    return list(accumulate(sizes))


@pytest.mark.parametrize(("text", "largest"), [("65536", 262_144), ("1 MiB", 4 << 20), ("4 MiB", 16 << 20)])
def test_sizes(text: str, largest: int) -> None:
    chunker = made(text)
    assert (chunker.chunk_size_max, chunker.fixed) == (largest, False)


@pytest.mark.parametrize("text", ["", "0", "63 KiB", "5 MiB", "1 MB", "-1", "\u0664 MiB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="mean is 64 KiB to 4 MiB"):
        made(text)


def test_chunks_are_neither_small_nor_large_and_lie_behind_each_other() -> None:
    body = random.Random(1).randbytes(40 * MEAN)
    found = ends(made(), body)
    sizes = [end - start for start, end in zip([0, *found[:-1]], found, strict=True)]
    assert found[-1] == len(body)
    assert all(MEAN // 4 <= size <= 4 * MEAN for size in sizes[:-1])
    assert found == ends(made(), body)


def test_a_byte_in_front_changes_the_first_chunks_only() -> None:
    body = random.Random(2).randbytes(40 * MEAN)
    before, after = ends(made(), body), ends(made(), b"!" + body)
    assert {end - 1 for end in after[2:]} <= set(before)


def test_bytes_without_boundaries_are_cut_at_the_largest_size() -> None:
    assert ends(made(), bytes(9 * MEAN)) == [4 * MEAN, 8 * MEAN, 9 * MEAN]


@pytest.mark.parametrize(
    ("size", "final"), [(0, True), (0, False), (65535, False), (4 * MEAN + 1, True), (4 * MEAN + 1, False)]
)
def test_a_window_of_another_size_is_refused(size: int, *, final: bool) -> None:
    with pytest.raises(ValueError):
        made().cut(bytes(size), final=final)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    with pytest.raises(ConfigError, match="needs the package pyfastcdc") as caught:
        made()
    assert "pip install 'dfs[fastcdc]'" in caught.value.next_step


def test_declaration() -> None:
    (plugin,) = fastcdc.dfs_chunkers()
    assert (plugin.name, plugin.make(Options()).chunk_size_max) == ("fastcdc", 4 << 20)
    with pytest.raises(UnknownKeyError, match="fastcdc has no option 'size': it has mean"):
        plugin.make(Options(values={"size": "1"}))
