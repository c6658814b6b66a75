"""The code split: the contract of codes; the parts are the stripe, all are needed, each goes on two nodes."""

import pytest

from dfs.core.api import Code, CodeOptions, ConfigError, Geometry, IncompleteError
from dfs.plugins import split
from dfs.testing import CodeContract
from dfs.testing.contracts.code import CodeVector


def make(total: int) -> Code:
    return split.make(CodeOptions(geometry=Geometry(total, total)))


class TestSplit(CodeContract):
    (plugin,) = split.dfs_codes()
    vectors = (CodeVector(needed=2, total=2, stripe=b"abcd".hex(), shares=(b"ab".hex(), b"cd".hex())),)


@pytest.mark.parametrize("size", [0, 1, 4, 15, 200])
def test_a_share_is_a_part_rounded_up(size: int) -> None:
    assert make(4).share_size(size) == (size + 3) // 4


def test_every_part_is_needed() -> None:
    with pytest.raises(IncompleteError, match="3 of the 4"):
        make(4).decode_into({0: b"a", 1: b"b", 3: b"d"}, {0: memoryview(bytearray(1))})


def test_declaration() -> None:
    plugin, code = TestSplit.plugin, make(4)
    assert (plugin.name, plugin.format_version, code.copies, code.geometry) == ("split", 1, 2, Geometry(4, 4))
    with pytest.raises(ConfigError, match="k = n, not 2 of 4"):
        plugin.make(CodeOptions(geometry=Geometry(2, 4)))
