"""Canonical msgpack with strict limits: the one way structures become bytes and come back.

Arrays, unsigned integers, bytes, UTF-8 text and booleans only: no maps, floats, nil or extension types, so
one value has exactly one encoding. A shape says what is expected where; anything else is refused with the
caller's error class.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgpack

from dfs.core import limits
from dfs.core.errors import DfsError
from dfs.core.records import described
from dfs.core.runs import runs
from dfs.core.types import Buffer

Shape: TypeAlias = Callable[[object], Any]  # returns the value, or raises ShapeError


class ShapeError(ValueError):
    """A value has not the expected shape; never leaves this module's callers."""


def encode(value: object) -> bytes:
    """Return the canonical bytes of nested arrays of ints, bytes, str, bool and attrs values (as arrays)."""
    encoded: bytes = msgpack.packb(value, use_bin_type=True, default=_as_array)
    return encoded


_READERS: Final[dict[type, Callable[[object], object]]] = {}  # attrs class -> what reads all its fields


def _as_array(value: object) -> object:
    read = _READERS.get(value.__class__)
    if read is None:
        names = [name for name, _ in described(value.__class__)]
        read = _READERS[value.__class__] = attrgetter(*names) if len(names) > 1 else _lister(names)
    return read(value)


def _lister(names: Sequence[str]) -> Callable[[object], object]:
    """Return what reads fewer than two fields; `attrgetter` gives no tuple of those."""
    return lambda value: tuple(getattr(value, name) for name in names)


def _refuse(what: str) -> ShapeError:
    return ShapeError(what)


def _no_extension(code: int, _body: bytes) -> object:
    raise _refuse(f"extension type {code}")


class _Allowance:
    """How many items one value may still have: a byte on the wire can be an item of eighty bytes here."""

    def __init__(self) -> None:
        self.left = limits.ITEM_COUNT_MAX

    def spend(self, items: list[object]) -> list[object]:
        self.left -= len(items)
        if self.left < 0:
            raise _refuse(f"more than {limits.ITEM_COUNT_MAX} items")
        return items


def _unpacker(size: int, size_max: int, allowance: _Allowance | None) -> msgpack.Unpacker:
    return msgpack.Unpacker(
        read_size=size,  # what it allocates; else that is a MiB for each message of some bytes
        raw=False,
        list_hook=None if allowance is None else allowance.spend,
        strict_map_key=True,
        ext_hook=_no_extension,
        max_buffer_size=size_max,
        max_array_len=min(size_max, limits.ARRAY_COUNT_MAX),  # an array is allocated when it is announced
        max_map_len=0,
        max_bin_len=size_max,
        max_str_len=size_max,
        max_ext_len=0,
    )


def decode_run(
    encoded: Buffer, shape: Shape, *, what: str, error: type[DfsError], size_max: int
) -> tuple[Any, ...]:
    """Return the values of canonical encodings that stand one after the other, each fitting ``shape``.

    Args:
        what: names one of them in the error.
        error: class raised for anything that does not fit.
        size_max: bytes accepted at most.
    """
    if len(encoded) > size_max:
        raise error(f"{what} has {len(encoded)} bytes, at most {size_max} are allowed")
    if not encoded:
        return ()
    fitting: list[object] = []
    packed: list[bytes] = []
    try:
        allowance = None if len(encoded) <= limits.ITEM_COUNT_MAX else _Allowance()
        unpacker = _unpacker(len(encoded), size_max, allowance)
        unpacker.feed(encoded)
        for value in unpacker:  # checked one by one: what does not fit is not gathered
            fitting.append(shape(value))
            packed.append(msgpack.packb(value, use_bin_type=True))
            if allowance is not None:
                allowance.left = limits.ITEM_COUNT_MAX
        if b"".join(packed) != encoded:
            raise _refuse("not in canonical form")
    except (ValueError, msgpack.UnpackException) as reason:
        raise error(f"{what} is not understood: {reason}") from None
    return tuple(fitting)


def decode(encoded: Buffer, shape: Shape, *, what: str, error: type[DfsError], size_max: int) -> Any:  # noqa: ANN401
    """Return the one value of ``encoded``; arguments and errors as `decode_run`."""
    values = decode_run(encoded, shape, what=what, error=error, size_max=size_max)
    if len(values) != 1:
        raise error(f"{what} is not understood: expected one value, got {len(values)}")
    return values[0]


def uint(maximum: int = (1 << 64) - 1) -> Shape:
    """An unsigned integer up to ``maximum``."""

    def check(value: object) -> int:
        if type(value) is not int or not 0 <= value <= maximum:
            raise _refuse(f"expected a number up to {maximum}")
        return value

    return check


def exactly(wanted: int) -> Shape:
    """The number ``wanted``, such as a format version: any other is not understood here."""

    def check(value: object) -> int:
        if type(value) is not int or value != wanted:
            raise _refuse(f"expected {wanted}, which is all this version of dfs understands")
        return value

    return check


def flag(value: object) -> bool:
    """A boolean."""
    if type(value) is not bool:
        raise _refuse("expected true or false")
    return value


def raw(*sizes: int) -> Shape:
    """Bytes of one of the given sizes."""

    def check(value: object) -> bytes:
        if type(value) is not bytes or len(value) not in sizes:
            raise _refuse(f"expected bytes of size {sizes}")
        return value

    return check


def raw_max(maximum: int) -> Shape:
    """Bytes, at most ``maximum``."""

    def check(value: object) -> bytes:
        if type(value) is not bytes or len(value) > maximum:
            raise _refuse(f"expected at most {maximum} bytes")
        return value

    return check


def text(maximum: int) -> Shape:
    """UTF-8 text of at most ``maximum`` bytes."""

    def check(value: object) -> str:
        if type(value) is not str or len(value.encode("utf-8", "surrogatepass")) > maximum:
            raise _refuse(f"expected text of at most {maximum} bytes")
        return value

    return check


def items(shape: Shape, maximum: int) -> Shape:
    """An array of at most ``maximum`` equal shapes, as a tuple."""

    def check(value: object) -> tuple[object, ...]:
        if type(value) is not list or len(value) > maximum:
            raise _refuse(f"expected an array of at most {maximum}")
        return tuple([shape(item) for item in value])  # a list: quicker than a generator

    return check


def record(make: Callable[..., Any], *shapes: Shape) -> Shape:
    """An array of exactly these shapes, handed to ``make`` as arguments."""

    def check(value: object) -> object:
        if type(value) is not list or len(value) != len(shapes):
            raise _refuse(f"expected an array of {len(shapes)}")
        return make(*[shape(item) for shape, item in zip(shapes, value, strict=True)])

    return check


def chop(parts: Sequence[bytes], size_max: int) -> Iterator[bytes]:
    """Join encoded parts into runs of at most ``size_max`` bytes (one larger part is a run of its own)."""
    return map(b"".join, runs(parts, len, size_max))


IDENTIFIER = raw(limits.DIGEST_SIZE)
BALLOT = raw(limits.BALLOT_SIZE)
BALLOT_OR_NONE = raw(0, limits.BALLOT_SIZE)
DIGEST_OR_NONE = raw(0, limits.DIGEST_SIZE)
