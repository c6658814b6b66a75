"""The compressor none: the contract of compressors; it keeps everything, copies back, holds the cap."""

import pytest

from dfs.core.api import IntegrityError, Options
from dfs.plugins import none
from dfs.testing import CompressorContract
from dfs.testing.contracts.compressor import CompressorVector


class TestNone(CompressorContract):
    (plugin,) = none.dfs_compressors()
    codecs = (0,)
    vectors = (CompressorVector(packed=b"text".hex(), plain=b"text".hex()),)


def test_keeps_every_chunk_plain() -> None:
    assert none.make(Options()).compress(bytes(1000)) is None


@pytest.mark.parametrize("room", [4, 5, 9])
def test_copies_up_to_the_cap(room: int) -> None:
    target = bytearray(b"\xa5" * 9)
    assert none.make(Options()).decompress_into(memoryview(b"text"), memoryview(target)[:room]) == 4
    assert target == b"text" + b"\xa5" * 5


def test_more_than_the_cap_is_refused() -> None:
    with pytest.raises(IntegrityError):
        none.make(Options()).decompress_into(b"text", memoryview(bytearray(3)))


def test_declaration() -> None:
    assert (TestNone.plugin.name, TestNone.plugin.format_version) == ("none", 1)
