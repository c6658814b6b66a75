"""The compressor zstd: the contract of compressors, what it gains and keeps plain, what frames it refuses."""

import random

import pytest
import pyzstd
from hypothesis import given, strategies as st

from dfs.core.api import Compressor, ConfigError, IntegrityError, Options, UnknownKeyError
from dfs.plugins import zstd
from dfs.testing import CompressorContract
from dfs.testing.contracts.compressor import CompressorVector

TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(9000))  # 370 kB
# What zstd made of a text at level 1: every later version must unpack it.
VECTORS = (
    CompressorVector(
        packed="28b52ffd20a81d0100e06120746578742074686174207265706561747320697473656c662c200100249e9a4e",
        plain=(b"a text that repeats itself, " * 6).hex(),
    ),
)
NOISE = random.Random(7).randbytes(300_000)


class TestZstd(CompressorContract):
    (plugin,) = zstd.dfs_compressors()
    codecs = (1,)
    vectors = VECTORS


class TestZstdAtALevel(CompressorContract):
    (plugin,) = zstd.dfs_compressors()
    codecs = (1,)
    values = {"level": "9"}
    vectors = VECTORS


@pytest.fixture(name="compressor")
def make_compressor() -> Compressor:
    return zstd.make(Options())


def pack(compressor: Compressor, plain: bytes) -> bytes:
    packed = compressor.compress(plain)
    assert packed is not None
    return bytes(packed)


@pytest.mark.parametrize("level", ["-7", "1", "3", "9"])
def test_round_trip_at_every_kind_of_level(level: str) -> None:
    compressor = zstd.make(Options(values={"level": level}))
    packed = pack(compressor, TEXT)
    assert len(packed) < len(TEXT) / 2
    target = bytearray(len(TEXT))
    assert compressor.decompress_into(packed, memoryview(target)) == len(TEXT)
    assert target == TEXT


@pytest.mark.parametrize("plain", [b"", b"a", b"short", NOISE[:1000], NOISE[: zstd.SAMPLES_SIZE], NOISE])
def test_what_gains_nothing_is_kept_plain(compressor: Compressor, plain: bytes) -> None:
    assert compressor.compress(plain) is None


def test_the_probe_spares_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = zstd.Zstd(1)
    seen: list[int] = []

    class Counting:
        FLUSH_FRAME = pyzstd.ZstdCompressor.FLUSH_FRAME

        def __init__(self) -> None:
            self.inner = pyzstd.ZstdCompressor(1)

        def compress(self, plain: bytes, mode: int) -> bytes:
            seen.append(len(plain))
            return self.inner.compress(plain, self.FLUSH_FRAME)

    monkeypatch.setattr(compressor, "_compressor", Counting())
    assert compressor.compress(NOISE) is None
    assert seen == []
    assert compressor.compress(NOISE[: zstd.SAMPLES_SIZE]) is None  # not probed
    assert compressor.compress(TEXT) is not None
    assert seen == [zstd.SAMPLES_SIZE, len(TEXT)]


def test_the_probe_looks_at_both_ends(compressor: Compressor) -> None:
    head, tail = TEXT[: zstd.SAMPLE_SIZE] + NOISE, NOISE + TEXT[: zstd.SAMPLE_SIZE]
    assert compressor.compress(head) is not None
    assert compressor.compress(tail) is not None


def test_a_window_above_the_limit_is_refused(compressor: Compressor) -> None:
    options: dict[int, int] = {
        pyzstd.CParameter.windowLog: zstd.WINDOW_LOG_MAX + 1,
        pyzstd.CParameter.contentSizeFlag: 0,
    }
    streamer = pyzstd.ZstdCompressor(options)
    packed = streamer.compress(b"text") + streamer.flush()
    with pytest.raises(IntegrityError):
        compressor.decompress_into(packed, memoryview(bytearray(100)))


@pytest.mark.parametrize("more", [b"\0", b"\x28\xb5\x2f\xfd", pyzstd.compress(b"text"), bytes(200_000)])
def test_bytes_behind_the_frame_are_refused(compressor: Compressor, more: bytes) -> None:
    packed = pack(compressor, TEXT)
    with pytest.raises(IntegrityError):
        compressor.decompress_into(packed + more, memoryview(bytearray(len(TEXT) + 100)))


def test_bytes_behind_a_frame_that_ends_with_a_piece_are_refused(
    compressor: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(compressor, TEXT)
    monkeypatch.setattr(zstd, "PACKED_PIECE_SIZE", len(packed))
    assert compressor.decompress_into(packed, memoryview(bytearray(len(TEXT)))) == len(TEXT)
    with pytest.raises(IntegrityError):
        compressor.decompress_into(packed + b"\0", memoryview(bytearray(len(TEXT))))


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_give_a_size_or_an_integrity_error(junk: bytes, framed: bool) -> None:
    target = bytearray(b"\xa5" * 72)
    try:
        written = zstd.make(Options()).decompress_into(
            b"\x28\xb5\x2f\xfd" * framed + junk, memoryview(target)[:64]
        )
    except IntegrityError:
        written = 0
    assert 0 <= written <= 64
    assert target[64:] == b"\xa5" * 8


@pytest.mark.parametrize("level", ["", "fast", "23", "-8", "1.5", " 1", "1_0", "\u0661"])
def test_a_level_that_is_none_is_refused(level: str) -> None:
    with pytest.raises(ConfigError, match="level is -7 to 22"):
        zstd.make(Options(values={"level": level}))


def test_declaration() -> None:
    (plugin,) = zstd.dfs_compressors()
    assert (plugin.name, plugin.codec, plugin.format_version) == ("zstd", 1, 1)
    with pytest.raises(UnknownKeyError, match="zstd has no option 'levle': it has level"):
        plugin.make(Options(values={"levle": "1"}))
