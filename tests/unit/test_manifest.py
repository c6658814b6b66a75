"""Entries and chunk lists: canonical, bound to their place, and nothing else opens."""

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given, strategies as st

from dfs.core import encoding, limits, manifest
from dfs.core.errors import CorruptEntryError, IntegrityError
from dfs.core.types import (
    Ballot,
    Chunk,
    ChunkId,
    DirectoryId,
    Entry,
    EntryKind,
    Geometry,
    Manifest,
    NameId,
    Recipe,
    RegisterKey,
    RegisterRow,
    Version,
)

KEY = bytes(range(32))
NONCE = b"n" * 12
REGISTER = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16))
BALLOT = Ballot(b"b" * 24)
RECIPE = Recipe("dfs:aes-gcm@1", "dfs:zstd@1", "dfs:reed-solomon@1", "dfs:rendezvous@1", Geometry(2, 4))
CHUNKS = tuple(Chunk(ChunkId(bytes((number,)) * 32), 1, 4 * limits.MIB, 1000 + number) for number in range(3))
MANIFEST = Manifest(RECIPE, b"\x02", CHUNKS, listed=False, chunks_digest=manifest.chunks_digest(CHUNKS))
FILE = Entry(
    "folder/file",
    EntryKind.FILE,
    Version(b"v" * 16),
    12 * limits.MIB,
    10**18,
    0o640,
    manifest=MANIFEST,
    previous=b"p" * 32,
)
SMALL = Entry(
    "small",
    EntryKind.FILE,
    Version(b"v" * 16),
    5,
    content=b"bytes",
    content_codec=0,
    content_compressor="dfs:zstd@1",
)
FOLDER = Entry("folder", EntryKind.FOLDER, Version(b"v" * 16), mode=0o700)
TOMBSTONE = Entry("gone", EntryKind.TOMBSTONE, Version(b"v" * 16))
EMPTY = Entry("empty", EntryKind.FILE, Version(b"v" * 16), content=b"", content_compressor="dfs:zstd@1")


def row(value: bytes, ballot: Ballot = BALLOT) -> RegisterRow:
    return RegisterRow(ballot, ballot, value)


chunks = st.builds(
    Chunk,
    st.binary(min_size=32, max_size=32).map(ChunkId),
    st.integers(0, 255),
    st.integers(0, limits.CHUNK_SIZE_MAX),
    st.integers(0, limits.CHUNK_SIZE_MAX),
)


# --- Entries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [FILE, SMALL, FOLDER, TOMBSTONE, EMPTY], ids=lambda entry: entry.path)
def test_an_entry_comes_back(entry: Entry) -> None:
    assert manifest.decode_entry(manifest.encode_entry(entry)) == entry


@given(
    st.text(max_size=60),
    st.sampled_from(EntryKind),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 0o7777),
    st.none() | st.binary(max_size=64),
    st.none() | st.lists(chunks, max_size=4),
)
def test_any_entry_comes_back(
    path: str, kind: EntryKind, size: int, mode: int, content: bytes | None, listed: list[Chunk] | None
) -> None:
    made = None if listed is None else evolve(MANIFEST, chunks=tuple(listed))
    entry = Entry(path, kind, Version(b"v" * 16), size, size, mode, content, manifest=made)
    assert manifest.decode_entry(manifest.encode_entry(entry)) == entry


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_the_error(encoded: bytes) -> None:
    try:
        entry = manifest.decode_entry(encoded)
    except CorruptEntryError:
        return
    assert manifest.encode_entry(entry) == encoded


@pytest.mark.parametrize(
    "entry",
    [
        evolve(FILE, path="p" * 4097),
        evolve(FILE, version=Version(b"v")),
        evolve(FILE, mode=0o10000),
        evolve(FILE, previous=b"p"),
        evolve(FILE, manifest=evolve(MANIFEST, facts=bytes(65))),
        evolve(FILE, manifest=evolve(MANIFEST, chunks_digest=b"")),
        evolve(FILE, manifest=evolve(MANIFEST, recipe=evolve(RECIPE, cipher="c" * 161))),
        evolve(
            FILE, manifest=evolve(MANIFEST, chunks=(evolve(CHUNKS[0], plain_size=limits.CHUNK_SIZE_MAX + 1),))
        ),
        evolve(SMALL, content=bytes(1025)),
        evolve(SMALL, content_codec=256),
    ],
)
def test_bounds(entry: Entry) -> None:
    with pytest.raises(CorruptEntryError):
        manifest.decode_entry(manifest.encode_entry(entry))


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_other_kinds_are_refused(kind: int) -> None:
    encoded = encoding.encode((1, "p", kind, b"v" * 16, 0, 0, 0, (), (), b""))
    with pytest.raises(CorruptEntryError):
        manifest.decode_entry(encoded)


@pytest.mark.parametrize("version", [0, 2])
def test_other_formats_are_refused(version: int) -> None:
    encoded = bytearray(manifest.encode_entry(FOLDER))
    assert encoded[1] == manifest.ENTRY_FORMAT
    encoded[1] = version
    with pytest.raises(CorruptEntryError, match="expected 1"):
        manifest.decode_entry(bytes(encoded))


def test_two_manifests_or_contents_are_refused() -> None:
    fields = [1, "p", 1, b"v" * 16, 0, 0, 0, [[0, "c", b""]] * 2, [], b""]
    with pytest.raises(CorruptEntryError):
        manifest.decode_entry(encoding.encode(fields))


def test_the_largest_entry_fits_its_bound() -> None:
    chunk = encoding.encode(Chunk(ChunkId(b"c" * 32), 255, limits.CHUNK_SIZE_MAX, limits.CHUNK_SIZE_MAX))
    count = limits.CHUNK_LIST_INLINE_SIZE_MAX // len(chunk)
    assert count <= manifest.CHUNK_COUNT_MAX
    largest = Chunk(ChunkId(b"c" * 32), 255, limits.CHUNK_SIZE_MAX, limits.CHUNK_SIZE_MAX)
    plugin = "p" * manifest.PLUGIN_SIZE_MAX
    recipe = Recipe(plugin, plugin, plugin, plugin, Geometry(16, 16))
    made = Manifest(recipe, bytes(64), (largest,) * count, listed=False, chunks_digest=b"d" * 32)
    entry = evolve(FILE, path="p" * 4096, manifest=made, content=bytes(1024), content_compressor="p" * 160)
    value = manifest.seal_entry(KEY, NONCE, entry, REGISTER, BALLOT)
    assert len(value) <= limits.ENTRY_SIZE_MAX
    assert manifest.open_entry(KEY, REGISTER, row(value)) == entry


# --- Chunk lists --------------------------------------------------------------------------------------------


@given(st.lists(chunks, max_size=10))
def test_a_chunk_list_comes_back(listed: list[Chunk]) -> None:
    assert manifest.decode_chunks(manifest.encode_chunks(listed)) == tuple(listed)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_chunk_list_or_the_error(encoded: bytes) -> None:
    try:
        listed = manifest.decode_chunks(encoded)
    except IntegrityError:
        return
    assert manifest.encode_chunks(listed) == encoded


def test_the_digest_covers_order_ids_and_sizes() -> None:
    first, second, third = CHUNKS
    digests = {
        manifest.chunks_digest(listed)
        for listed in (
            CHUNKS,
            (second, first, third),
            (first, second),
            (first, second, evolve(third, plain_size=1)),
            (first, second, evolve(third, chunk_id=ChunkId(b"x" * 32))),
            (),
        )
    }
    assert len(digests) == 6


def test_the_digest_leaves_out_how_a_chunk_was_packed() -> None:
    """The id covers codec and packed bytes already."""
    assert manifest.chunks_digest((evolve(CHUNKS[0], packed_size=1, codec=0),)) == manifest.chunks_digest(
        CHUNKS[:1]
    )


# --- Sealed entries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [FILE, SMALL, FOLDER, TOMBSTONE], ids=lambda entry: entry.path)
def test_a_sealed_entry_opens(entry: Entry) -> None:
    value = manifest.seal_entry(KEY, NONCE, entry, REGISTER, BALLOT)
    assert value[0] == entry.kind
    assert value[1:13] == NONCE
    assert manifest.open_entry(KEY, REGISTER, row(value)) == entry


def test_nothing_of_an_entry_shows_but_its_kind_and_size() -> None:
    value = manifest.seal_entry(KEY, NONCE, FILE, REGISTER, BALLOT)
    assert b"folder" not in value
    assert len(value) == 1 + 12 + len(manifest.encode_entry(FILE)) + 16


def test_an_entry_opens_in_its_place_only() -> None:
    value = manifest.seal_entry(KEY, NONCE, FILE, REGISTER, BALLOT)
    other_folder = evolve(REGISTER, directory=DirectoryId(b"e" * 16))
    other_name = evolve(REGISTER, name=NameId(b"m" * 16))
    for key, register, sealed in (
        (bytes(32), REGISTER, row(value)),
        (KEY, other_folder, row(value)),
        (KEY, other_name, row(value)),
        (KEY, REGISTER, row(value, Ballot(b"c" * 24))),
    ):
        with pytest.raises(CorruptEntryError, match="not authentic"):
            manifest.open_entry(key, register, sealed)


def test_no_byte_of_a_sealed_entry_may_change() -> None:
    value = manifest.seal_entry(KEY, NONCE, SMALL, REGISTER, BALLOT)
    for place in range(len(value)):
        changed = bytearray(value)
        changed[place] ^= 1
        with pytest.raises(CorruptEntryError):
            manifest.open_entry(KEY, REGISTER, row(bytes(changed)))


@given(st.binary(max_size=60))
def test_any_other_value_is_not_authentic(value: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        manifest.open_entry(KEY, REGISTER, row(value))


def test_a_file_cannot_pass_for_a_tombstone() -> None:
    """The kind stands outside for nodes, and is bound, so that no node turns a file into a tombstone."""
    value = bytearray(manifest.seal_entry(KEY, NONCE, FILE, REGISTER, BALLOT))
    value[0] = EntryKind.TOMBSTONE
    with pytest.raises(CorruptEntryError):
        manifest.open_entry(KEY, REGISTER, row(bytes(value)))


def test_the_kind_inside_is_the_kind_outside() -> None:
    context = encoding.encode(("dfs 1 entry", 1, 3, REGISTER.directory, REGISTER.name, BALLOT))
    value = b"\x03" + NONCE + AESGCMSIV(KEY).encrypt(NONCE, manifest.encode_entry(FILE), context)
    with pytest.raises(CorruptEntryError, match="kind is not the one"):
        manifest.open_entry(KEY, REGISTER, row(value))
