"""The code replicate: every share is the stripe, any one is enough."""

import pytest
from hypothesis import given, strategies as st

from dfs.core.api import Code, CodeOptions, ConfigError, Geometry, IncompleteError, UnknownKeyError
from dfs.plugins import replicate


def make(total: int) -> Code:
    return replicate.make(CodeOptions(geometry=Geometry(1, total)))


@given(st.binary(max_size=100), st.integers(1, 16), st.data())
def test_any_one_share_makes_every_share(text: bytes, total: int, draw: st.DataObject) -> None:
    code = make(total)
    assert code.share_size(len(text)) == len(text)
    parity = [bytearray(b"\xa5" * (len(text) + 8)) for _ in range(total - 1)]
    code.encode_into(text, [memoryview(share)[: len(text)] for share in parity])
    assert all(share == text + b"\xa5" * 8 for share in parity)
    kept = draw.draw(st.integers(0, total - 1))
    again = [bytearray(len(text)) for _ in range(total)]
    code.decode_into(
        {kept: memoryview(text)}, {index: memoryview(share) for index, share in enumerate(again)}
    )
    assert again == [text] * total


def test_other_sizes_counts_and_indexes_are_refused() -> None:
    code, room = make(2), memoryview(bytearray(2))
    for parity in ([], [room, room], [memoryview(bytearray(3))]):
        with pytest.raises(ValueError):
            code.encode_into(b"ab", parity)
    for shares, index in (
        ({0: b"abc"}, 1),
        ({0: b"ab", 1: b"c"}, 0),
        ({0: b"ab"}, 2),
        ({2: b"ab"}, 0),
        ({-1: b"ab"}, 0),
    ):
        with pytest.raises(ValueError):
            code.decode_into(shares, {index: room})
    with pytest.raises(IncompleteError):
        code.decode_into({}, {0: room})


def test_declaration() -> None:
    (plugin,) = replicate.dfs_codes()
    code = plugin.make(CodeOptions(geometry=Geometry(1, 3)))
    assert (plugin.name, plugin.format_version, code.copies, code.geometry) == (
        "replicate",
        1,
        1,
        Geometry(1, 3),
    )
    with pytest.raises(ConfigError, match="k = 1, not 2 of 4"):
        plugin.make(CodeOptions(geometry=Geometry(2, 4)))
    with pytest.raises(UnknownKeyError, match="replicate has no option 'link'"):
        plugin.make(CodeOptions(geometry=Geometry(1, 4), values={"link": "table"}))
