"""The code split: the parts are the stripe, all are needed, each goes on two nodes."""

import pytest
from hypothesis import given, strategies as st

from dfs.core.api import Code, CodeOptions, ConfigError, Geometry, IncompleteError, UnknownKeyError
from dfs.plugins import split


def make(total: int) -> Code:
    return split.make(CodeOptions(geometry=Geometry(total, total)))


@given(st.binary(max_size=200), st.integers(1, 16))
def test_round_trip(text: bytes, total: int) -> None:
    code = make(total)
    size = code.share_size(len(text))
    assert size == (len(text) + total - 1) // total
    stripe = memoryview(text.ljust(size * total, b"\0"))
    code.encode_into(stripe, [])
    shares = {index: stripe[index * size : (index + 1) * size] for index in range(total)}
    again = bytearray(b"\xa5" * (size * total + 8))
    wanted = {index: memoryview(again)[index * size : (index + 1) * size] for index in range(total)}
    code.decode_into(shares, wanted)
    assert again == bytes(stripe) + b"\xa5" * 8


def test_every_part_is_needed() -> None:
    with pytest.raises(IncompleteError, match="3 of the 4"):
        make(4).decode_into({0: b"a", 1: b"b", 3: b"d"}, {0: memoryview(bytearray(1))})


def test_other_sizes_counts_and_indexes_are_refused() -> None:
    code, room = make(2), memoryview(bytearray(2))
    with pytest.raises(ValueError):
        code.encode_into(b"odd", [])
    with pytest.raises(ValueError):
        code.encode_into(b"even", [room])
    for shares, index in (
        ({0: b"ab", 1: b"c"}, 0),
        ({0: b"a", 1: b"c"}, 0),
        ({0: b"ab", 1: b"cd"}, 2),
        ({0: b"ab", -1: b"cd"}, 0),
    ):
        with pytest.raises(ValueError):
            code.decode_into(shares, {index: room})


def test_declaration() -> None:
    (plugin,) = split.dfs_codes()
    code = plugin.make(CodeOptions(geometry=Geometry(4, 4)))
    assert (plugin.name, plugin.format_version, code.copies, code.geometry) == ("split", 1, 2, Geometry(4, 4))
    with pytest.raises(ConfigError, match="k = n, not 2 of 4"):
        plugin.make(CodeOptions(geometry=Geometry(2, 4)))
    with pytest.raises(UnknownKeyError, match="split has no option 'link'"):
        plugin.make(CodeOptions(geometry=Geometry(4, 4), values={"link": "table"}))
