"""The contract of a compressor: what is packed comes back, nothing else does, and no input costs too much."""

import contextlib
from typing import Any, ClassVar

import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from dfs.core.api import Buffer, Compressor, CompressorPlugin, IntegrityError, Options, Settings
from dfs.testing.contracts.base import (
    KIB,
    MIB,
    NOISE,
    TEXT,
    Guarded,
    OptionedContract,
    Source,
    check_bytes,
    in_threads,
    memory_bound,
    property_test,
)

WORKING_SIZE_MAX = 2 * MIB  # bytes a compressor may need beside its result, whatever it is given
SEAMS = (1, 4 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB + 1, 3 * MIB + 5)


@frozen
class CompressorVector:
    """Bytes of a format version, in hex: what ``packed`` must unpack to."""

    packed: str
    plain: str


class CompressorContract(OptionedContract[CompressorPlugin]):
    """Derive it and name the ``plugin``; ``vectors``: frozen bytes of its format version.

    ``codecs``: the codec bytes it may have; those below 128 belong to dfs.
    """

    kind = CompressorPlugin
    vectors: ClassVar[Any] = ()  # CompressorVector objects
    codecs: ClassVar[Any] = range(128, 256)

    def new(self) -> Compressor:
        """Return a compressor; they are not shared between threads."""
        compressor: Compressor = self.plugin.make(Options(values=self.values))
        return compressor

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(Options(values=values))

    def packed(self, plain: bytes = TEXT) -> bytes:
        """Return what a new compressor makes of bytes; skips the test for one that keeps them plain."""
        packed = self.new().compress(plain)
        if packed is None:
            pytest.skip("it keeps such bytes plain")
        return bytes(packed)

    def test_the_codec_byte_is_free(self) -> None:
        """The codec byte is written beside every chunk; no two compressors may have the same."""
        assert self.plugin.codec in self.codecs

    @property_test
    @given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 7), st.integers(0, 9))
    def test_what_is_packed_comes_back(self, word: bytes, repeats: int, offset: int, spare: int) -> None:
        """Round trip from read-only sources at any offset; only the bytes it says are written."""
        plain = word * repeats
        compressor, source = self.new(), Source(plain, offset)
        result = compressor.compress(source.view)
        packed = None if result is None else bytes(result)
        del result
        source.free()
        if packed is None:
            return
        room, again = Guarded(len(plain) + spare, offset), Source(packed, offset)
        assert compressor.decompress_into(again.view, room.target) == len(plain)
        again.free()
        assert room.content[: len(plain)] == plain
        assert room.content[len(plain) :].count(0xA5) == spare, "bytes behind the end were written"

    @pytest.mark.parametrize("size", SEAMS)
    def test_no_size_leaves_a_seam(self, size: int) -> None:
        """Round trip at the sizes round which compressors that work in pieces go wrong."""
        for plain in ((TEXT * 9)[:size], (TEXT[: size // 2] + NOISE * 4)[:size], bytes(size)):
            compressor = self.new()
            packed = compressor.compress(plain)
            if packed is None:
                continue
            room = Guarded(size)
            assert compressor.decompress_into(bytes(packed), room.target) == size
            check_bytes(room.content, plain)

    def test_known_answers(self) -> None:
        """Packed bytes of a format version unpack for ever, whatever a newer library would make."""
        if not self.vectors:
            pytest.skip(
                "no known answers: set `vectors`, so that what this format version packed stays readable"
            )
        for vector in self.vectors:
            plain = bytes.fromhex(vector.plain)
            room = Guarded(len(plain))
            assert self.new().decompress_into(bytes.fromhex(vector.packed), room.target) == len(plain)
            check_bytes(room.content, plain)

    @pytest.mark.parametrize("plain", [b"", b"a", b"short", NOISE[:1000], NOISE], ids=len)
    def test_a_result_gains_something(self, plain: bytes) -> None:
        """What would not shrink is kept plain: None, never a result as long as the source."""
        packed = self.new().compress(plain)
        assert packed is None or len(packed) < len(plain)

    def test_packing_is_deterministic(self) -> None:
        """The same bytes from every instance and after any other call: equal chunks get equal names."""
        compressor = self.new()
        first = compressor.compress(TEXT)
        first = None if first is None else bytes(first)
        for other in (NOISE, TEXT[:5000], b""):
            compressor.compress(other)
        again, anew = compressor.compress(TEXT), self.new().compress(TEXT)
        for later in (again, anew):
            assert (first is None) == (later is None)
            check_bytes(first or b"", later or b"")

    def test_a_result_is_no_view_of_the_source(self) -> None:
        """The source may be overwritten as soon as the call returned; the result stays until the next one."""
        plain = bytearray(TEXT)
        packed = self.new().compress(plain)
        if packed is None:
            pytest.skip("it keeps such bytes plain")
        before = bytes(packed)
        plain[:] = bytes(len(plain))
        check_bytes(packed, before)

    @pytest.mark.parametrize("room_size", [0, 1, 1000, len(TEXT) - 1])
    def test_more_than_the_target_is_refused(self, room_size: int) -> None:
        """IntegrityError when the plain bytes do not fit, and nothing is written behind the target."""
        packed, room = self.packed(), Guarded(room_size)
        with pytest.raises(IntegrityError):
            self.new().decompress_into(packed, room.target)
        assert room.intact()

    def test_a_bomb_costs_no_more_than_its_target(self) -> None:
        """IntegrityError, in bounded memory, for few bytes that unpack to very many."""
        packed = self.packed(bytes(48 * MIB))
        compressor, target = self.new(), memoryview(bytearray(1000))
        with memory_bound(WORKING_SIZE_MAX), pytest.raises(IntegrityError):
            compressor.decompress_into(packed, target)

    def test_a_result_cut_anywhere_is_refused(self) -> None:
        """IntegrityError for every prefix."""
        packed = self.packed(TEXT[:2000])
        compressor, target = self.new(), memoryview(bytearray(2000))
        for size in range(len(packed)):
            with pytest.raises(IntegrityError):
                compressor.decompress_into(packed[:size], target)

    @pytest.mark.parametrize("more", [b"\0", b"\xff" * 9, TEXT[:100], bytes(200_000)], ids=len)
    def test_bytes_behind_a_result_are_refused(self, more: bytes) -> None:
        """IntegrityError: two different packed texts must not stand for one plain one."""
        packed = self.packed()
        for appended in (more, packed):
            with pytest.raises(IntegrityError):
                self.new().decompress_into(packed + appended, memoryview(bytearray(2 * len(TEXT))))

    @property_test
    @given(st.binary(max_size=100), st.integers(0, 64))
    def test_any_bytes_give_a_size_or_a_refusal(self, junk: bytes, room_size: int) -> None:
        """Hostile input: at most the target's size, or an IntegrityError; never anything else."""
        room, source = Guarded(room_size), Source(junk)
        with contextlib.suppress(IntegrityError):
            assert 0 <= self.new().decompress_into(source.view, room.target) <= room_size
        assert room.intact()
        source.free()

    @property_test
    @given(st.integers(0, 1 << 30), st.integers(0, 7))
    def test_a_changed_bit_does_no_harm(self, position: int, bit: int) -> None:
        """A flipped bit of a real result: a size within the target, or an IntegrityError."""
        packed = bytearray(self.packed(TEXT[:5000]))
        packed[position % len(packed)] ^= 1 << bit
        room = Guarded(5000)
        with contextlib.suppress(IntegrityError):
            assert 0 <= self.new().decompress_into(packed, room.target) <= 5000
        assert room.intact()

    def test_it_works_on_after_a_refusal(self) -> None:
        """A worker keeps its compressor: what one bad chunk left behind must not spoil the next one."""
        packed = self.packed()
        compressor, target = self.new(), memoryview(bytearray(len(TEXT)))
        for bad in (packed[:-1], packed + b"\0", b"\xff" * 30, packed[: len(packed) // 2]):
            with pytest.raises(IntegrityError):
                compressor.decompress_into(bad, target)
            room = Guarded(len(TEXT))
            assert compressor.decompress_into(packed, room.target) == len(TEXT)
            check_bytes(room.content, TEXT)

    def test_each_thread_has_its_own(self) -> None:
        """Eight instances at once: nothing is shared behind their backs."""

        def work(index: int) -> bool:
            compressor, plain = self.new(), TEXT[1000 * index :]
            for _ in range(5):
                result = compressor.compress(plain)
                if result is None:
                    return True
                packed, room = bytes(result), Guarded(len(plain))
                if compressor.decompress_into(packed, room.target) != len(plain) or room.content != plain:
                    return False
            return True

        assert all(in_threads(work))

    def test_memory_is_bounded(self) -> None:
        """Packing 4 MiB needs the result and a little more; unpacking into a target only a little."""
        compressor, plain = self.new(), (TEXT * 12)[: 4 * MIB]
        compressor.compress(TEXT)  # so that what is made once is made
        with memory_bound(len(plain) + WORKING_SIZE_MAX):
            result: Buffer | None = compressor.compress(plain)
        if result is None:
            return
        packed, target = bytes(result), memoryview(bytearray(len(plain)))
        with memory_bound(WORKING_SIZE_MAX):
            compressor.decompress_into(packed, target)
