"""The contract of a chunker: boundaries follow from the bytes alone, and every window gives a chunk."""

import random
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from dfs.core.api import Buffer, Chunker, ChunkerPlugin, Options, Settings, limits
from dfs.testing.contracts.base import (
    MIB,
    NOISE,
    TEXT,
    OptionedContract,
    Source,
    check_bytes,
    in_threads,
    memory_bound,
    property_test,
)

STREAM_COUNT = 24  # mean chunk sizes are looked at over so many windows
SMALL_FACTOR_MAX = 64  # the mean chunk is at least this part of the largest
SAME_PART_MIN = 0.5  # of the chunks behind a change must be found again


@frozen
class ChunkerVector:
    """Sizes of the chunks of ``repeats`` times ``unit`` (hex), as this version of the plugin cuts them."""

    unit: str
    repeats: int
    sizes: tuple[int, ...]


class ChunkerContract(OptionedContract[ChunkerPlugin]):
    """Derive it and name the ``plugin``; ``vectors``: frozen boundaries."""

    kind = ChunkerPlugin
    vectors: ClassVar[Any] = ()  # ChunkerVector objects

    def new(self) -> Chunker:
        """Return a chunker."""
        chunker: Chunker = self.plugin.make(Options(values=self.values))
        return chunker

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(Options(values=values))

    def chunks(self, content: Buffer, chunker: Chunker | None = None) -> Iterator[bytes]:
        """Cut a whole file as the core does."""
        cutter, view, offset = chunker or self.new(), memoryview(content), 0
        while offset < len(view):
            window = view[offset : offset + cutter.chunk_size_max]
            size = cutter.cut(window, final=offset + len(window) == len(view))
            assert isinstance(size, int)
            assert 1 <= size <= len(window), f"a chunk of {size} of {len(window)} bytes"
            yield bytes(window[:size])
            offset += size

    def test_the_largest_chunk_is_one_that_dfs_takes(self) -> None:
        """The bound is between 1 KiB and what a frame can carry, and every instance has the same."""
        first, second = self.new(), self.new()
        assert 1024 <= first.chunk_size_max <= limits.CHUNK_SIZE_MAX
        assert isinstance(first.fixed, bool)
        assert (first.chunk_size_max, first.fixed) == (second.chunk_size_max, second.fixed)

    @pytest.mark.parametrize("content", [NOISE, TEXT, bytes(MIB), b"\xff" * MIB, b"a"], ids=len)
    def test_the_chunks_are_the_file(self, content: bytes) -> None:
        """Nothing is lost, added or larger than the bound, with noise, text, zeros and a single byte."""
        size_max = self.new().chunk_size_max
        whole = content * (2 * size_max // len(content) + 1) + b"end"
        chunks = list(self.chunks(whole))
        check_bytes(b"".join(chunks), whole)
        assert max(map(len, chunks)) <= size_max

    def test_a_fixed_chunker_cuts_at_multiples(self) -> None:
        """With ``fixed`` nobody looks at the bytes, so every boundary must be a multiple of the bound."""
        chunker = self.new()
        if not chunker.fixed:
            pytest.skip("its boundaries follow from the bytes")
        content = NOISE * (3 * chunker.chunk_size_max // len(NOISE) + 1)
        sizes = [len(chunk) for chunk in self.chunks(content)]
        assert set(sizes[:-1]) <= {chunker.chunk_size_max}

    def test_chunks_are_not_tiny(self) -> None:
        """Each chunk costs a round of work on every node: the mean is no small part of the bound."""
        size_max = self.new().chunk_size_max
        content = random.Random(5).randbytes(min(STREAM_COUNT * size_max, 24 * MIB))  # noqa: S311 - same for all
        count = sum(1 for _ in self.chunks(content))
        assert len(content) / count >= size_max / SMALL_FACTOR_MAX

    def test_a_change_moves_few_boundaries(self) -> None:
        """A chunker that looks at the bytes finds most chunks again behind an insertion."""
        if self.new().fixed:
            pytest.skip("its boundaries do not follow from the bytes")
        size_max = self.new().chunk_size_max
        content = random.Random(6).randbytes(min(STREAM_COUNT * size_max, 24 * MIB))  # noqa: S311 - same for all
        before = set(self.chunks(content))
        after = list(self.chunks(b"inserted" + content))
        assert sum(chunk in before for chunk in after) >= SAME_PART_MIN * len(after)

    def test_known_answers(self) -> None:
        """Other boundaries would store again what is stored; a reader does not mind."""
        if not self.vectors:
            pytest.skip(
                "no known answers: set `vectors`, so that files stored again are found to be the same"
            )
        for vector in self.vectors:
            sizes = tuple(len(chunk) for chunk in self.chunks(bytes.fromhex(vector.unit) * vector.repeats))
            assert sizes == vector.sizes

    @property_test
    @given(st.integers(0, 1 << 16), st.integers(1, 3000))
    def test_cutting_is_deterministic(self, start: int, size: int) -> None:
        """The same window, at any address, from any instance, after any other: the same boundary."""
        chunker, content = self.new(), NOISE[start : start + size]
        first = chunker.cut(content, final=True)
        assert chunker.cut(content, final=True) == first
        chunker.cut(TEXT[: min(len(TEXT), chunker.chunk_size_max)], final=True)
        source = Source(content, start % 7)
        assert chunker.cut(source.view, final=True) == first == self.new().cut(content, final=True)
        source.free()

    def test_the_end_of_the_file_moves_no_earlier_boundary(self) -> None:
        """A full window is cut alike, whether more follows or not."""
        chunker = self.new()
        window = (NOISE * (chunker.chunk_size_max // len(NOISE) + 1))[: chunker.chunk_size_max]
        assert chunker.cut(window, final=False) == chunker.cut(window, final=True)

    def test_windows_of_another_size_are_refused(self) -> None:
        """ValueError for an empty window, one that is too large, and a short one that is not the last."""
        chunker = self.new()
        size_max = chunker.chunk_size_max
        for size, final in (
            (0, True),
            (0, False),
            (size_max + 1, True),
            (size_max + 1, False),
            (size_max - 1, False),
        ):
            with pytest.raises(ValueError):
                chunker.cut(bytes(size), final=final)

    def test_threads_share_one_chunker(self) -> None:
        """Eight threads cut with one object, each its own file."""
        chunker = self.new()
        files = [NOISE[1000 * index :] * (chunker.chunk_size_max // MIB + 2) for index in range(8)]
        right = [list(self.chunks(content)) for content in files]
        assert all(in_threads(lambda index: list(self.chunks(files[index], chunker)) == right[index]))

    def test_a_window_is_not_copied(self) -> None:
        """Looking for a boundary makes no object of the window's size."""
        chunker = self.new()
        window = bytearray((NOISE * (chunker.chunk_size_max // MIB + 1))[: chunker.chunk_size_max])
        with memory_bound(max(len(window) // 2, 64 * 1024)):
            chunker.cut(window, final=False)
