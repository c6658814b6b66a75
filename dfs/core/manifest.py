"""Entries and chunk lists to and from canonical bytes, and entries sealed for one register and ballot.

Source: AES-256-GCM-SIV, RFC 8452 (nonce misuse costs no keys). The associated data binds an entry to its
place: kind, directory id, name id and ballot. See docs/formats.md.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from blake3 import blake3

from dfs.core import encoding, limits
from dfs.core.encoding import (
    DIGEST_OR_NONE,
    IDENTIFIER,
    exactly,
    flag,
    items,
    raw,
    raw_max,
    record,
    text,
    uint,
)
from dfs.core.errors import CorruptEntryError, IntegrityError
from dfs.core.types import (
    Ballot,
    Chunk,
    ChunkId,
    Entry,
    EntryKind,
    Geometry,
    Manifest,
    Recipe,
    RegisterKey,
    RegisterRow,
    Version,
)

ENTRY_FORMAT: Final = 1
ENTRY_NONCE_SIZE: Final = 12
PLUGIN_SIZE_MAX: Final = 160
CHUNK_COUNT_MAX: Final = limits.CHUNK_LIST_INLINE_SIZE_MAX // 40
_CHUNK_LIST_SIZE_MAX: Final = 1 << 40

_CHUNK = record(
    lambda chunk_id, codec, plain, packed: Chunk(ChunkId(chunk_id), codec, plain, packed),
    raw(limits.CHUNK_ID_SIZE),
    uint(255),
    uint(limits.CHUNK_SIZE_MAX),
    uint(limits.CHUNK_SIZE_MAX),
)
_PLUGIN = text(PLUGIN_SIZE_MAX)
_GEOMETRY = record(Geometry, uint(limits.GROUP_SIZE_MAX), uint(limits.GROUP_SIZE_MAX))
_RECIPE = record(lru_cache(maxsize=64)(Recipe), _PLUGIN, _PLUGIN, _PLUGIN, _PLUGIN, _GEOMETRY)
# Files have few recipes, and many files are listed at once: one object for each.
_MANIFEST = record(
    Manifest, _RECIPE, raw_max(limits.FACTS_SIZE_MAX), items(_CHUNK, CHUNK_COUNT_MAX), flag, IDENTIFIER
)
_CONTENT = record(
    lambda codec, compressor, content: (codec, compressor, content),
    uint(255),
    _PLUGIN,
    raw_max(limits.CONTENT_INLINE_SIZE_MAX),
)


def _entry(  # noqa: PLR0917 - one argument a field, in wire order
    _format: int,
    path: str,
    kind: EntryKind,
    version: bytes,
    size: int,
    mtime_ns: int,
    mode: int,
    contents: tuple[tuple[int, str, bytes], ...],
    manifests: tuple[Manifest, ...],
    previous: bytes,
) -> Entry:
    codec, compressor, content = contents[0] if contents else (0, "", None)
    return Entry(
        path=path,
        kind=kind,
        version=Version(version),
        size=size,
        mtime_ns=mtime_ns,
        mode=mode,
        content=content,
        content_codec=codec,
        content_compressor=compressor,
        manifest=manifests[0] if manifests else None,
        previous=previous,
    )


_ENTRY = record(
    _entry,
    exactly(ENTRY_FORMAT),
    text(limits.PATH_SIZE_MAX),
    lambda value: EntryKind(uint(EntryKind.TOMBSTONE)(value)),
    raw(limits.OPERATION_ID_SIZE),
    uint(),
    uint(),
    uint(0o7777),
    items(_CONTENT, 1),
    items(_MANIFEST, 1),
    DIGEST_OR_NONE,
)


def encode_entry(entry: Entry) -> bytes:
    """Return the canonical bytes of an entry."""
    content = (
        () if entry.content is None else ((entry.content_codec, entry.content_compressor, entry.content),)
    )
    manifest = () if entry.manifest is None else (entry.manifest,)
    return encoding.encode(
        (
            ENTRY_FORMAT,
            entry.path,
            entry.kind,
            entry.version,
            entry.size,
            entry.mtime_ns,
            entry.mode,
            content,
            manifest,
            entry.previous,
        )
    )


def decode_entry(encoded: bytes) -> Entry:
    """Return the entry of canonical bytes.

    Raises:
        CorruptEntryError: they are none.
    """
    entry: Entry = encoding.decode(
        encoded, _ENTRY, what="an entry", error=CorruptEntryError, size_max=limits.ENTRY_SIZE_MAX
    )
    return entry


def encode_chunks(chunks: Sequence[Chunk]) -> bytes:
    """Return the canonical bytes of a chunk list: its chunks one after the other."""
    return b"".join(encoding.encode(chunk) for chunk in chunks)


def decode_chunks(encoded: bytes) -> tuple[Chunk, ...]:
    """Return the chunks of a chunk list.

    Raises:
        IntegrityError: it is none.
    """
    chunks: tuple[Chunk, ...] = encoding.decode_run(
        encoded, _CHUNK, what="a chunk list", error=IntegrityError, size_max=_CHUNK_LIST_SIZE_MAX
    )
    return chunks


def chunks_digest(chunks: Sequence[Chunk]) -> bytes:
    """Return the hash over the ordered (chunk id, size) pairs that binds a whole file."""
    hasher = blake3(derive_key_context="dfs 1 chunk list")
    for chunk in chunks:
        hasher.update(chunk.chunk_id + chunk.plain_size.to_bytes(8, "big"))
    return hasher.digest()


# --- Sealed entries ---------------------------------------------------------------------------------------


def _context(kind: int, register: RegisterKey, ballot: Ballot) -> bytes:
    return encoding.encode(("dfs 1 entry", ENTRY_FORMAT, kind, register.directory, register.name, ballot))


def seal_entry(key: bytes, nonce: bytes, entry: Entry, register: RegisterKey, ballot: Ballot) -> bytes:
    """Return the value of a register: kind byte, nonce (12 fresh random bytes), sealed entry."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    context = _context(entry.kind, register, ballot)
    return bytes((entry.kind,)) + nonce + AESGCMSIV(key).encrypt(nonce, encode_entry(entry), context)


def open_entry(key: bytes, register: RegisterKey, row: RegisterRow) -> Entry:
    """Return the entry in a row.

    Raises:
        CorruptEntryError: it was not sealed for this register and ballot.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    kind, nonce, sealed = (
        row.value[:1],
        row.value[1 : 1 + ENTRY_NONCE_SIZE],
        row.value[1 + ENTRY_NONCE_SIZE :],
    )
    try:
        plain = AESGCMSIV(key).decrypt(nonce, sealed, _context(kind[0], register, row.accepted))
    except (InvalidTag, ValueError, IndexError):
        raise CorruptEntryError("an entry is not authentic") from None
    entry = decode_entry(plain)
    if entry.kind != kind[0]:
        raise CorruptEntryError("an entry's kind is not the one it says outside")
    return entry
