"""Fuzz targets of what is sealed, signed or packed: entries, chunk lists, wraps, floors, keys, packed chunks.

An attacker without keys never gets behind a tag; these parsers hold without that, too.
"""

import zlib
from collections.abc import Iterator
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from dfs.core import encoding, floors, limits, manifest
from dfs.core.api import Compressor, Options
from dfs.core.auth import decode_rekeyed, encode_rekeyed, keys_in_force, verify_rekey
from dfs.core.keys import WRAP_FORMAT, KdfParameters, expand, unwrap_master, wrap_context
from dfs.core.pipeline import Packer
from dfs.core.types import Ballot, DirectoryId, NameId, NodeId, RegisterKey, RegisterRow
from dfs.core.wraps import (
    RING_FORMAT,
    RINGED_FORMAT,
    TURNED_RING_FORMAT,
    Kin,
    Ring,
    Stage,
    Turn,
    decode_ring,
    encode_ring,
    keys_of,
    open_wrapped,
    seal_wrap,
)
from dfs.plugins import zstd
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import bytes_of, golden

PLACE: Final = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16))
BALLOT: Final = Ballot(b"b" * limits.BALLOT_SIZE)
PLAIN_SIZE_MAX: Final = 1 * limits.MIB
GUARD: Final = b"guard"
KEK: Final = bytes(range(32))
OWNER: Final = ("dfs", "alice", KdfParameters())


def _entry(raw: bytes) -> object:
    entry = manifest.decode_entry(raw)
    assert manifest.encode_entry(entry) == raw
    return entry.path, entry.kind, entry.manifest


def _entries() -> Iterator[bytes]:
    for case in golden("entries", "entry"):
        yield bytes_of(case, "encoded")


def _chunks(raw: bytes) -> object:
    chunks = manifest.decode_chunks(raw)
    assert manifest.encode_chunks(chunks) == raw
    return manifest.chunks_digest(chunks)


def _chunk_lists() -> Iterator[bytes]:
    for case in golden("entries", "chunk_list"):
        yield bytes_of(case, "encoded")


def _value(raw: bytes) -> object:
    return manifest.open_entry(bytes(range(32)), PLACE, RegisterRow(BALLOT, BALLOT, raw))


def _values() -> Iterator[bytes]:
    for case in golden("entries", "entry", "value"):
        if case["kind"] == "value" or "value" in case.get("expected", {}):
            yield bytes_of(case, "value")


def _wrap(raw: bytes) -> object:
    return unwrap_master(raw, KEK, *OWNER)


def _wraps() -> Iterator[bytes]:
    for case in golden("keys", "wrap"):
        yield bytes_of(case, "wrap")


def _with_ring(ring: bytes) -> bytes:
    """Seal any bytes as the ring of a wrap."""
    master, nonce, bound = bytes(32), bytes(12), wrap_context(RINGED_FORMAT, *OWNER)
    sealed_ring = AESGCMSIV(expand(master, "ring")).encrypt(nonce, ring, bound)
    return encoding.encode((RINGED_FORMAT, nonce, AESGCMSIV(KEK).encrypt(nonce, master, bound), sealed_ring))


def _ringed_wrap(raw: bytes) -> object:
    """What follows a byte 1 is sealed as a ring, so that what is behind the seal is reached."""
    wrap = _with_ring(raw[1:]) if raw[:1] == b"\1" else raw
    master, ring = open_wrapped(wrap, KEK, OWNER)
    if wrap[1] == WRAP_FORMAT:
        assert ring == Ring()
    else:
        assert seal_wrap(master, ring, KEK, wrap[4:16], OWNER) == wrap
    assert all(keys_of(kin).kek == kin.kek for kin in ring.former)
    return ring.newest_epoch, ring.generation, ring.turn


def _ringed_wraps() -> Iterator[bytes]:
    for case in golden("keys", "wrap", "ringed_wrap"):
        yield bytes_of(case, "wrap")
    kin = (Kin(2, b"k" * 32, b"s" * 32), Kin(4, b"l" * 32))
    short = Kin(2, b"k" * 32, b"short")
    for ring in (Ring(), Ring(3, kin, (b"f" * 32,)), Ring(7, kin * 3, (b"f" * 32,) * 4), Ring(3, (short,))):
        yield b"\1" + encoding.encode((RING_FORMAT, ring.epoch, ring.kin, ring.further))
    turn = Turn(Stage.CLOSED, 7, b"m" * 32)
    for turned in (Ring(generation=2), Ring(3, kin, (b"f" * 32,), 9, turn), Ring(turn=turn)):
        yield b"\1" + encode_ring(turned)
    yield b"\1" + encoding.encode((TURNED_RING_FORMAT, 0, (), (), 1, ()))  # the former format says that


def _ring(raw: bytes) -> object:
    ring = decode_ring(raw)
    assert encode_ring(ring) == raw
    return ring.epoch, ring.kin, ring.generation, ring.turn


def _rings() -> Iterator[bytes]:
    for seed in _ringed_wraps():
        if seed[:1] == b"\1":
            yield seed[1:]


def _rekeyed(raw: bytes) -> object:
    """Every key in force is one that a signature can be checked against."""
    rekeyed = decode_rekeyed(raw)
    assert encode_rekeyed(rekeyed) == raw
    (realm, user, _), node_id, line = OWNER, NodeId(bytes(16)), rekeyed.line
    in_force = keys_in_force(line, rekeyed)
    for old in in_force:
        assert not verify_rekey(
            b"s" * 64, realm=realm, user=user, node_id=node_id, old=old, new=line, epoch=rekeyed.epoch
        )
    return in_force


def _rekeyeds() -> Iterator[bytes]:
    for case in golden("keys", "rekeyed"):
        yield bytes_of(case, "rekeyed")


@cache
def _compressor() -> Compressor:
    return zstd.make(Options())


def _packed(raw: bytes) -> object:
    """Bytes 0 to 2 are the size that the manifest says, the rest a zstd frame."""
    size = min(int.from_bytes(raw[:3], "big"), PLAIN_SIZE_MAX)
    buffer = bytearray(GUARD + bytes(size) + GUARD)
    target = memoryview(buffer)[len(GUARD) : len(GUARD) + size]
    try:
        Packer(_compressor, zstd.CODEC).unpack_into(zstd.CODEC, raw[3:], target)
    finally:
        assert buffer.startswith(GUARD), "nothing is written beside its place"
        assert buffer.endswith(GUARD), "nothing is written beside its place"
    return zlib.crc32(target)


def _packs() -> Iterator[bytes]:
    for plain in (b"", b"a", b"ab" * 500, bytes(range(256)) * 8):
        packed = bytes(_compressor().compress(plain * 2) or b"")
        yield (len(plain) * 2).to_bytes(3, "big") + packed
        yield (3).to_bytes(3, "big") + packed
    bomb = bytes(_compressor().compress(bytes(8 * limits.MIB)) or b"")
    yield (1024).to_bytes(3, "big") + bomb
    yield PLAIN_SIZE_MAX.to_bytes(3, "big") + bomb
    yield PLAIN_SIZE_MAX.to_bytes(3, "big") + bomb[:-3]


def _floors(raw: bytes) -> object:
    """The tag is made right, so that what is behind it is reached."""
    records, key = raw[1:], bytes(range(32))
    raw = floors.MAGIC + records + floors._tag(key, PLACE.directory, records) if raw[:1] == b"\1" else raw
    known = floors.decode_floors(key, PLACE.directory, raw)
    assert sum(map(len, known)) + sum(map(len, known.values())) <= len(raw)
    return known


def _floor_files() -> Iterator[bytes]:
    yield b"\1" + PLACE.name + BALLOT
    yield floors.encode_floors(bytes(range(32)), PLACE.directory, {PLACE.name: BALLOT})


TARGETS: Final = (
    Target("entry", _entry, _entries),
    Target("chunk-list", _chunks, _chunk_lists),
    Target("value", _value, _values),
    Target("wrap", _wrap, _wraps),
    Target("ringed-wrap", _ringed_wrap, _ringed_wraps),
    Target("ring", _ring, _rings),
    Target("rekeyed", _rekeyed, _rekeyeds),
    Target("floors", _floors, _floor_files),
    Target("packed", _packed, _packs),
)
