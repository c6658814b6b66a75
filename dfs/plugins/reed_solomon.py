"""The code `reed-solomon`, the default: any k of n shares bring a stripe back; the first k are the stripe.

Shares are products of a matrix with the stripe over GF(2^8), polynomial 0x11d. The matrix is the k x k
identity on top of the Cauchy matrix 1 / (i ^ j), row i = k..n-1, column j = 0..k-1 (J. Bloemer et al., "An
XOR-Based Erasure-Resilient Coding Scheme", 1995), as ISA-L's gf_gen_cauchy1_matrix makes it. Every square
part of a Cauchy matrix has an inverse, so any k rows do.

The matrices are made here; only the long products go over a *link*: ISA-L in the pyeclib wheel, else the
system's ISA-L, else tables of our own. All links give the same bytes; one that does not pass its check at
load is passed over. Option ``link``: auto (default), isal or table. ISA-L checks nothing and takes addresses,
so nothing reaches it but buffers that were exported, measured and held here for the length of the call.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final, TypeAlias

from attrs import frozen

from dfs.core.api import (
    Buffer,
    Code,
    CodeOptions,
    CodePlugin,
    ConfigError,
    Geometry,
    IncompleteError,
    PluginError,
    UnknownKeyError,
    hookimpl,
    limits,
)

DFS_API_VERSION: Final = 1
NAME: Final = "reed-solomon"
POLYNOMIAL: Final = 0x11D
PIECE_SIZE: Final = 64 * 1024  # bounds the integers the table link makes on the way
LOSSES_KEPT_MAX: Final = 256  # prepared products of one code; at most 8 KiB each
WHEEL_FOLDER: Final = "pyeclib.libs"
WHEEL_PREFIX: Final = "libisal"
SYSTEM_NAMES: Final = ("libisal.so.2", "libisal.2.dylib", "isa-l.dll")
PYBUF_SIMPLE: Final = 0  # contiguous bytes, else BufferError
PYBUF_WRITABLE: Final = 1
CHECK_SIZES: Final = (1, 31, 65, 259)

Rows: TypeAlias = tuple[bytes, ...]  # a matrix, row by row
Product: TypeAlias = Callable[[Sequence[Buffer], Sequence[memoryview]], None]  # rows x sources -> targets


@frozen
class Link:
    """A way to multiply. ``prepare`` takes the matrix once; its `Product` may run in many threads."""

    name: str
    prepare: Callable[[Rows], Product]


# --- The field and its matrices -----------------------------------------------------------------------------


@cache
def _logarithms() -> tuple[list[int], list[int]]:
    """Return powers of 2 (twice round, so a sum of two logarithms needs no modulo) and logarithms."""
    powers, logarithms, value = [0] * 510, [0] * 256, 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        logarithms[value] = exponent
        value <<= 1
        if value > 0xFF:
            value ^= POLYNOMIAL
    return powers, logarithms


def _inverse(value: int) -> int:
    powers, logarithms = _logarithms()
    return powers[255 - logarithms[value]]


@lru_cache(maxsize=256)
def _times(coefficient: int) -> bytes:
    """Return the table for `bytes.translate` that multiplies each byte by ``coefficient``, not 0."""
    powers, logarithms = _logarithms()
    shift = logarithms[coefficient]
    return bytes((0, *(powers[shift + logarithms[value]] for value in range(1, 256))))


def _combined(coefficients: bytes, rows: Sequence[bytes]) -> bytes:
    """Return the sum of ``coefficients[j] * rows[j]``."""
    total = 0
    for coefficient, row in zip(coefficients, rows, strict=True):
        if coefficient:
            total ^= int.from_bytes(row.translate(_times(coefficient)), "little")
    return total.to_bytes(len(rows[0]), "little")


def _unit(index: int, size: int) -> bytes:
    return bytes(index) + b"\1" + bytes(size - index - 1)


def _generator(geometry: Geometry) -> Rows:
    """Return the n rows that make the shares from the k parts of a stripe."""
    needed = geometry.needed
    return (
        *(_unit(index, needed) for index in range(needed)),
        *(bytes(_inverse(i ^ j) for j in range(needed)) for i in range(needed, geometry.total)),
    )


def _inverted(rows: Sequence[bytes]) -> Rows:
    """Return the inverse of a square matrix that has one (Gauss and Jordan)."""
    size = len(rows)
    work = [row + _unit(index, size) for index, row in enumerate(rows)]
    for column in range(size):
        pivot = next(index for index in range(column, size) if work[index][column])
        work[column], work[pivot] = work[pivot], work[column]
        work[column] = work[column].translate(_times(_inverse(work[column][column])))
        for index in range(size):
            if index != column and work[index][column]:
                work[index] = _combined(bytes((1, work[index][column])), (work[index], work[column]))
    return tuple(row[size:] for row in work)


# --- The table link -----------------------------------------------------------------------------------------


def _prepare_table(rows: Rows) -> Product:
    def multiply(sources: Sequence[Buffer], targets: Sequence[memoryview]) -> None:
        views = [memoryview(source) for source in sources]
        for offset in range(0, len(views[0]), PIECE_SIZE):
            pieces = [bytes(view[offset : offset + PIECE_SIZE]) for view in views]
            for row, target in zip(rows, targets, strict=True):
                target[offset : offset + PIECE_SIZE] = _combined(row, pieces)

    return multiply


TABLE: Final = Link("table", _prepare_table)


# --- The ISA-L links ----------------------------------------------------------------------------------------


class _Export(ctypes.Structure):
    """Py_buffer of CPython's stable interface; ``owner`` is an address, so that ctypes does not count it."""

    _fields_ = [  # type: ignore[mutable-override]  # ctypes reads it once
        ("address", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("size", ctypes.c_ssize_t),
        ("item_size", ctypes.c_ssize_t),
        ("read_only", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


@cache
def _exporter() -> tuple[Callable[[Buffer, object, int], int], Callable[[object], None]]:
    """Return PyObject_GetBuffer and PyBuffer_Release: the only way to the address of a read-only slice."""
    get = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Export), ctypes.c_int)
    release = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_Export))
    return get(("PyObject_GetBuffer", ctypes.pythonapi)), release(("PyBuffer_Release", ctypes.pythonapi))


def _prepare_isal(library: ctypes.CDLL, rows: Rows) -> Product:
    row_count, source_count = len(rows), len(rows[0])
    buffer_count = source_count + row_count
    tables = ctypes.create_string_buffer(32 * row_count * source_count)
    library.ec_init_tables(source_count, row_count, b"".join(rows), tables)
    get, release = _exporter()
    exports_type = _Export * buffer_count
    sources_type, targets_type = ctypes.c_void_p * source_count, ctypes.c_void_p * row_count

    def multiply(sources: Sequence[Buffer], targets: Sequence[memoryview]) -> None:
        size = len(targets[0])
        if len(sources) != source_count or len(targets) != row_count or size > limits.SHARE_SIZE_MAX:
            raise ValueError(f"{len(sources)} to {len(targets)} buffers of {size} bytes do not fit")
        exports = exports_type()  # zeroed, and releasing a zeroed export is allowed: it does nothing
        try:
            for index, buffer in enumerate((*sources, *targets)):
                get(buffer, exports[index], PYBUF_WRITABLE if index >= source_count else PYBUF_SIMPLE)
            # From here on no buffer can move or shrink, so this is where its size counts.
            if any(export.size != size for export in exports):
                raise ValueError(f"a buffer has not {size} bytes")
            addresses = [export.address for export in exports]
            library.ec_encode_data(
                size,
                source_count,
                row_count,
                tables,
                sources_type(*addresses[:source_count]),
                targets_type(*addresses[source_count:]),
            )
        finally:
            for export in exports:
                release(export)

    return multiply


def _isal(name: str, path: str) -> Link | None:
    """Return a link over the library at ``path`` if it loads and computes what the tables do."""
    pointers = ctypes.POINTER(ctypes.c_void_p)
    try:
        library = ctypes.CDLL(path)
        library.ec_init_tables.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
        library.ec_init_tables.restype = None
        library.ec_encode_data.argtypes = (*[ctypes.c_int] * 3, ctypes.c_char_p, pointers, pointers)
        library.ec_encode_data.restype = None
        _exporter()
    except (OSError, AttributeError):
        return None
    link = Link(name, lambda rows: _prepare_isal(library, rows))
    return link if _agrees(link) else None


def _agrees(link: Link) -> bool:
    """Whether a link gives the same bytes as the table link, and no other, at lengths round its strides."""
    rows = _generator(Geometry(4, 7))[4:]
    text = bytes(index * 167 + (index >> 8) & 0xFF for index in range(4 * CHECK_SIZES[-1]))
    for size in CHECK_SIZES:
        sources = [text[index * size : (index + 1) * size] for index in range(4)]
        found, right = bytearray(b"\xa5" * (3 * size + 64)), bytearray(b"\xa5" * (3 * size + 64))
        for prepare, target in ((link.prepare, memoryview(found)), (TABLE.prepare, memoryview(right))):
            starts = range(32, 32 + 3 * size, size)
            prepare(rows)(sources, [target[start : start + size] for start in starts])
        if found != right:
            return False
    return True


def _candidates() -> Iterator[tuple[str, str]]:
    """Yield (name of the link, path of the library). Looking into the wheel's folder does not import it."""
    for folder in (os.path.join(entry, WHEEL_FOLDER) for entry in sys.path if os.path.isabs(entry)):
        if os.path.isdir(folder):
            names = sorted(name for name in os.listdir(folder) if name.startswith(WHEEL_PREFIX))
            yield from (("isal-pyeclib", os.path.join(folder, name)) for name in names)
    yield from (("isal-system", name) for name in SYSTEM_NAMES)


@cache
def _link_isal() -> Link | None:
    """Return the first ISA-L that works; looked for once a process."""
    return next((link for name, path in _candidates() if (link := _isal(name, path)) is not None), None)


# --- The code -----------------------------------------------------------------------------------------------


def _bytes_of(buffer: Buffer, *, writable: bool = False) -> memoryview:
    """Return a view of single bytes; ValueError when there is none, or none that can be written."""
    view = memoryview(buffer)
    if view.ndim != 1 or view.itemsize != 1 or not view.contiguous or (writable and view.readonly):
        raise ValueError("a buffer is a contiguous row of bytes, and a target can be written")
    return view.cast("B")


class ReedSolomon:
    """One geometry over one link; ``link`` is the link's name."""

    copies = 1

    def __init__(self, geometry: Geometry, link: Link) -> None:
        self.geometry: Final = geometry
        self.link: Final = link.name
        self._prepare: Final = link.prepare
        self._generator: Final = _generator(geometry)
        parity_rows = self._generator[geometry.needed :]
        self._encode: Final = link.prepare(parity_rows) if parity_rows else None
        self._product: Final = lru_cache(maxsize=LOSSES_KEPT_MAX)(self._make_product)

    def share_size(self, stripe_size: int) -> int:
        """Return a k-th of the stripe, rounded up."""
        return -(-stripe_size // self.geometry.needed)

    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        """Multiply the parts of the stripe by the Cauchy rows."""
        view = _bytes_of(stripe)
        size, rest = divmod(len(view), self.geometry.needed)
        targets = [_bytes_of(target, writable=True) for target in parity]
        if rest or len(targets) != self.geometry.total - self.geometry.needed:
            raise ValueError(
                f"{len(view)} bytes and {len(targets)} parity shares do not fit "
                f"{self.geometry.needed} of {self.geometry.total}"
            )
        if any(len(target) != size for target in targets):
            raise ValueError(f"each parity share of {len(view)} bytes has {size} bytes")
        if size and self._encode is not None:
            self._encode([view[start : start + size] for start in range(0, len(view), size)], targets)

    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        """Multiply the first k shares by the inverse of their rows; a wanted one among them is copied."""
        needed, total = self.geometry.needed, self.geometry.total
        views = {index: _bytes_of(share) for index, share in shares.items()}
        targets = {index: _bytes_of(target, writable=True) for index, target in wanted.items()}
        if any(not 0 <= index < total for index in (*views, *targets)):
            raise ValueError(f"a share index lies between 0 and {total - 1}")
        if len(views) < needed:
            raise IncompleteError(f"{len(views)} shares of a stripe are there, {needed} are needed")
        if len({len(view) for view in (*views.values(), *targets.values())}) != 1:
            raise ValueError("all shares of a stripe have one size")
        chosen = tuple(sorted(views)[:needed])
        lost = tuple(sorted(targets.keys() - set(chosen)))
        for index in targets.keys() & set(chosen):
            targets[index][:] = views[index]
        if lost and len(views[chosen[0]]):
            multiply = self._product(chosen, lost)
            multiply([views[index] for index in chosen], [targets[index] for index in lost])

    def _make_product(self, chosen: tuple[int, ...], lost: tuple[int, ...]) -> Product:
        inverse = _inverted([self._generator[index] for index in chosen])
        return self._prepare(tuple(_combined(self._generator[index], inverse) for index in lost))


def make(options: CodeOptions) -> Code:
    """Make the code over the first link that works, or the one the option names."""
    for key in options.values:
        if key != "link":
            raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has link")
    text = options.values.get("link", "auto")
    if text not in ("auto", "isal", "table"):
        raise ConfigError(f"plugin {NAME}: link is auto, isal or table, not {text!r}")
    isal = None if text == "table" else _link_isal()
    if text == "isal" and isal is None:
        next_step = "Install pyeclib, or use link = auto."
        raise PluginError(f"plugin {NAME}: no ISA-L that works was found", next_step=next_step)
    return ReedSolomon(options.geometry, isal or TABLE)


@hookimpl
def dfs_codes() -> Iterable[CodePlugin]:
    """Declare reed-solomon."""
    return (CodePlugin(name=NAME, summary="any k of n shares are enough, the default", make=make),)
