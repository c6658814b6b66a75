"""Canonical encoding: one value, one string of bytes; anything else is the caller's error, no more."""

import struct
import tracemalloc

import attrs
import msgpack
import pytest
from hypothesis import given, strategies as st

from dfs.core import encoding, limits
from dfs.core.encoding import Shape, chop, decode, decode_run, encode
from dfs.core.errors import IntegrityError

SIZE_MAX = 4096

values = st.recursive(
    st.integers(0, (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=40) | st.booleans(),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def anything(value: object) -> object:
    return value


def read(encoded: bytes, shape: Shape = anything, size_max: int = SIZE_MAX) -> object:
    return decode(encoded, shape, what="a thing", error=IntegrityError, size_max=size_max)


@attrs.frozen
class Pair:
    first: int
    second: tuple[bytes, ...]


PAIR = encoding.record(Pair, encoding.uint(9), encoding.items(encoding.raw(2), 3))


@given(values)
def test_a_value_comes_back(value: object) -> None:
    assert read(encode(value), size_max=1 << 20) == value


@given(st.binary(max_size=120))
def test_any_bytes_are_one_value_or_the_error(encoded: bytes) -> None:
    try:
        value = read(encoded)
    except IntegrityError:
        return
    assert msgpack.packb(value) == encoded


@given(st.binary(max_size=60))
def test_any_bytes_are_a_run_or_the_error(encoded: bytes) -> None:
    number = encoding.uint()
    try:
        run = decode_run(encoded, number, what="a number", error=IntegrityError, size_max=SIZE_MAX)
    except IntegrityError:
        return
    assert b"".join(map(encode, run)) == encoded


@pytest.mark.parametrize(
    "encoded",
    [
        b"\xcc\x05",  # 5 in two bytes
        b"\xcd\x00\x05",
        b"\xd0\x05",  # signed
        b"\xd9\x01a",  # a short text in the long form
        b"\xc5\x00\x01x",  # short bytes in the long form
        b"\xdc\x00\x00",  # an empty array in the long form
        b"\x05\x05",  # two values
        b"\x92\x05",  # cut off
        b"\xa5abc",
        b"",
        b"\xc1",  # never used by msgpack
    ],
)
def test_only_the_canonical_form_is_understood(encoded: bytes) -> None:
    with pytest.raises(IntegrityError):
        read(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x81\xa1a\x01",  # a map
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\xd4\x05x",  # an extension
        b"\xc7\x00\x05",
        b"\xa1\xff",  # no UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate
    ],
)
def test_what_dfs_never_writes_is_refused_by_the_reader(encoded: bytes) -> None:
    with pytest.raises(IntegrityError):
        read(encoded)


@pytest.mark.parametrize("encoded", [b"\xc0", b"\xcb" + bytes(8), b"\xff", b"\x80"])
def test_nil_floats_negatives_and_maps_fit_no_shape(encoded: bytes) -> None:
    shapes = (encoding.uint(), encoding.flag, encoding.raw(1), encoding.raw_max(9), encoding.text(9))
    for shape in (*shapes, encoding.items(anything, 9), encoding.exactly(1), PAIR):
        with pytest.raises(IntegrityError):
            read(encoded, shape)


@pytest.mark.parametrize(
    ("shape", "fitting", "misfits"),
    [
        (encoding.uint(9), [0, 9], [10, True, -1, b"", "1"]),
        (encoding.exactly(3), [3], [0, 2, 4, True, "3"]),
        (encoding.exactly(1), [1], [True, 0]),
        (encoding.flag, [True, False], [0, 1, "true"]),
        (encoding.raw(0, 2), [b"", b"ab"], [b"a", "ab", 0]),
        (encoding.raw_max(2), [b"", b"ab"], [b"abc", "ab"]),
        (encoding.text(2), ["", "ab", "é"], ["abc", "éa", b"ab"]),
    ],
)
def test_shapes(shape: Shape, fitting: list[object], misfits: list[object]) -> None:
    for value in fitting:
        assert read(encode(value), shape) == value
    for value in misfits:
        with pytest.raises(IntegrityError, match="a thing is not understood"):
            read(encode(value), shape)


def test_records_are_arrays_of_their_fields() -> None:
    pair = Pair(7, (b"ab", b"cd"))
    assert encode(pair) == encode([7, [b"ab", b"cd"]])
    assert read(encode(pair), PAIR) == pair


@pytest.mark.parametrize(
    "value", [[7], [7, [], 1], [10, []], [7, [b"a"]], [7, [b"ab"] * 4], [7, b"ab"], 7, [[7, []]]]
)
def test_records_of_another_form_are_refused(value: object) -> None:
    with pytest.raises(IntegrityError):
        read(encode(value), PAIR)


def test_what_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(IntegrityError, match="has 5 bytes, at most 4 are allowed"):
        read(b"\xc1" * 5, size_max=4)


def test_what_has_no_encoding_is_a_fault_of_ours() -> None:
    with pytest.raises((TypeError, attrs.exceptions.NotAnAttrsClassError)):
        encode(object())


@pytest.mark.parametrize(
    "bomb",
    [
        struct.pack(">BI", 0xDD, (1 << 32) - 1),
        b"\x91" * 4000,
        b"".join(struct.pack(">BI", 0xDD, limits.ARRAY_COUNT_MAX) for _ in range(800)),
        b"".join(struct.pack(">BI", 0xDD, limits.ARRAY_COUNT_MAX + 1) for _ in range(800)),
        struct.pack(">BI", 0xC6, (1 << 32) - 1),
    ],
)
def test_announced_sizes_cost_little(bomb: bytes) -> None:
    """An array is allocated when it is announced; thousands of them nested must not fill the memory."""
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            read(bomb, PAIR, size_max=limits.BULK_SIZE_MAX)
        assert tracemalloc.get_traced_memory()[1] < 40 * limits.MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("item", [b"\x90", b"\x91\x00", b"\xa2ab", b"\xc4\x02ab", b"\xcf" + b"\xff" * 8])
def test_many_small_items_cost_little(item: bytes) -> None:
    """One byte on the wire must not become a hundred here, however it is packed."""
    row = struct.pack(">BH", 0xDC, 2048) + item * 2048
    bomb = struct.pack(">BH", 0xDC, 2048) + row * (2048 // len(item))
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            read(bomb, PAIR, size_max=limits.BULK_SIZE_MAX)
        assert tracemalloc.get_traced_memory()[1] < 60 * limits.MIB
    finally:
        tracemalloc.stop()


def test_a_run_of_what_does_not_fit_is_not_gathered() -> None:
    encoded = bytes(limits.MIB)  # as many small numbers
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            decode_run(encoded, PAIR, what="a pair", error=IntegrityError, size_max=2 * limits.MIB)
        assert tracemalloc.get_traced_memory()[1] < 5 * limits.MIB
    finally:
        tracemalloc.stop()


def test_an_empty_run_is_empty() -> None:
    assert decode_run(b"", PAIR, what="a pair", error=IntegrityError, size_max=0) == ()


@given(st.lists(st.binary(max_size=6)), st.integers(1, 12))
def test_chop_keeps_everything_in_order(parts: list[bytes], size_max: int) -> None:
    runs = list(chop(parts, size_max))
    assert b"".join(runs) == b"".join(parts)
    longest = max(map(len, parts), default=0)
    assert all(len(run) <= max(size_max, longest) for run in runs)
