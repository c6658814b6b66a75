"""The pipeline: every combination of stages there and back, wrong shares named, no memory beside the slot."""

import random
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product

import pytest
from hypothesis import given, settings, strategies as st

from dfs.core import keys, limits, pipeline
from dfs.core.api import Buffer, Cipher, Code, CodeOptions, Compressor, Options, Placement, PlacementOptions
from dfs.core.errors import ConfigError, IncompleteError, IntegrityError
from dfs.core.pipeline import Packer, Slot, Stages, Stripe
from dfs.core.quorum import readable
from dfs.core.roster import rank
from dfs.core.types import CODEC_PLAIN, Chunk, Geometry, Node, NodeId, Plain, Recipe, Scope, StripeId
from dfs.plugins import (
    aes_gcm,
    chacha20_poly1305,
    none,
    reed_solomon,
    rendezvous,
    replicate,
    ring,
    split,
    xor,
    zstd,
)

VAULT = keys.vault_keys(bytes(range(32)))
CIPHERS: Mapping[str, Callable[[Options], Cipher]] = {
    "aes-gcm": aes_gcm.make,
    "chacha20-poly1305": chacha20_poly1305.make,
    "xor": xor.make,
}
COMPRESSORS: Mapping[str, tuple[Callable[[Options], Compressor], int]] = {
    "zstd": (zstd.make, 1),
    "none": (none.make, CODEC_PLAIN),
}
CODES: Mapping[str, tuple[Callable[[CodeOptions], Code], Geometry]] = {
    "reed-solomon": (reed_solomon.make, Geometry(2, 4)),
    "split": (split.make, Geometry(4, 4)),
    "replicate": (replicate.make, Geometry(1, 4)),
}
PLACEMENTS: Mapping[str, Callable[[PlacementOptions], Placement]] = {
    "rendezvous": rendezvous.make,
    "ring": ring.make,
}
NODES = tuple(Node(NodeId(bytes((number,)) * 16)) for number in range(6))
GROUP = (0, 2, 3, 5)
TEXT = b"the same words again and again, " * 400
NOISE = random.Random(1).randbytes(10_001)


def make_stages(
    cipher: str = "aes-gcm",
    compressor: str = "zstd",
    code: str = "reed-solomon",
    placement: str = "rendezvous",
    geometry: Geometry | None = None,
) -> Stages:
    make_code, usual = CODES[code]
    geometry = geometry or usual
    make_compressor, codec = COMPRESSORS[compressor]
    made = make_compressor(Options())
    recipe = Recipe(f"dfs:{cipher}@1", f"dfs:{compressor}@1", f"dfs:{code}@1", f"dfs:{placement}@1", geometry)
    return Stages(
        recipe=recipe,
        cipher=CIPHERS[cipher](Options()),
        code=make_code(CodeOptions(geometry=geometry)),
        placement=PLACEMENTS[placement](PlacementOptions(rank=rank)),
        packer=Packer(lambda: made, codec),
    )


def make(stages: Stages, plain: bytes) -> tuple[Stripe, dict[int, bytes]]:
    stripe = pipeline.make_stripe(stages, VAULT, Slot(), Plain(memoryview(plain)))
    return stripe, {index: bytes(share) for index, share in enumerate(stripe.shares)}


def open_from(stages: Stages, chunk: Chunk, shares: Mapping[int, Buffer], slot: Slot | None = None) -> bytes:
    target = bytearray(chunk.plain_size)
    pipeline.open_stripe(stages, VAULT, slot or Slot(), chunk, shares, memoryview(target))
    return bytes(target)


def open_doubtful(
    stages: Stages, stripe: Stripe, shares: Mapping[int, Buffer]
) -> tuple[bytes, pipeline.Found]:
    target = bytearray(stripe.chunk.plain_size)
    checksums = dict(enumerate(stripe.checksums))
    found = pipeline.open_doubtful(stages, VAULT, stripe.chunk, shares, checksums, memoryview(target))
    return bytes(target), found


def flipped(share: bytes, place: int = 0) -> bytes:
    changed = bytearray(share)
    changed[place] ^= 1
    return bytes(changed)


def test_what_is_tiny_stays_plain_and_loads_no_compressor() -> None:
    def unwanted() -> Compressor:
        raise AssertionError("the compressor was made")

    plain = memoryview(bytes(pipeline.PACK_SIZE_MIN - 1))
    packer = Packer(unwanted, zstd.CODEC)
    assert packer.pack(Plain(plain)) == (CODEC_PLAIN, plain)
    target = bytearray(len(plain))
    packer.unpack_into(CODEC_PLAIN, plain, memoryview(target))
    assert target == plain
    codec, packed = make_stages().packer.pack(Plain(memoryview(bytes(pipeline.PACK_SIZE_MIN))))
    assert codec == zstd.CODEC
    assert len(packed) < pipeline.PACK_SIZE_MIN


# --- There and back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [TEXT, NOISE, b"x"], ids=["text", "noise", "one-byte"])
@pytest.mark.parametrize(
    ("cipher", "compressor", "code"), list(product(CIPHERS, COMPRESSORS, CODES)), ids="-".join
)
def test_every_combination_comes_back_from_any_k_shares(
    cipher: str, compressor: str, code: str, plain: bytes
) -> None:
    stages = make_stages(cipher, compressor, code)
    stripe, shares = make(stages, plain)
    chunk, needed = stripe.chunk, stages.recipe.geometry.needed
    assert chunk.plain_size == len(plain)
    assert chunk.codec == (1 if compressor == "zstd" and plain is TEXT else CODEC_PLAIN)
    assert {len(share) for share in shares.values()} == {stripe.share_size}
    for subset in combinations(shares, needed):
        assert open_from(stages, chunk, {index: shares[index] for index in subset}) == plain


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=3000), st.integers(1, 6), st.integers(0, 4))
def test_any_bytes_come_back(plain: bytes, needed: int, spare: int) -> None:
    stages = make_stages(geometry=Geometry(needed, needed + spare))
    stripe, shares = make(stages, plain)
    last = dict(sorted(shares.items())[spare:])
    assert open_from(stages, stripe.chunk, last) == plain


def test_shares_bear_their_checksums_and_names() -> None:
    from xxhash import xxh3_128_digest

    stages = make_stages()
    stripe, shares = make(stages, TEXT)
    assert stripe.checksums == [xxh3_128_digest(shares[index]) for index in range(4)]
    assert stripe.key(3).index == 3
    assert stripe.stripe == pipeline.name_stripe(stages, VAULT, stripe.chunk)
    sealed_size, share_size = pipeline.stripe_size(stages, stripe.chunk)
    assert (sealed_size, share_size) == (stripe.chunk.packed_size + 16, stripe.share_size)


def test_equal_chunks_have_equal_shares() -> None:
    first, second = make(make_stages(), TEXT), make(make_stages(), TEXT)
    assert first[1] == second[1]
    assert first[0].stripe == second[0].stripe


def test_no_setting_shares_a_name_with_another() -> None:
    stripes = {
        make(make_stages(cipher, compressor, code), TEXT)[0].stripe
        for cipher, compressor, code in product(CIPHERS, COMPRESSORS, CODES)
    }
    assert len(stripes) == 18


def test_the_padding_is_zero() -> None:
    stages = make_stages(compressor="none", geometry=Geometry(3, 3))
    stripe, shares = make(stages, NOISE[:10_000])
    whole = b"".join(shares[index] for index in range(3))
    sealed_size, _ = pipeline.stripe_size(stages, stripe.chunk)
    assert len(whole) > sealed_size
    assert not any(whole[sealed_size:])


# --- What must not open -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", CIPHERS)
def test_changed_shares_do_not_open(cipher: str) -> None:
    stages = make_stages(cipher)
    stripe, shares = make(stages, TEXT)
    for index in range(4):
        changed = {index: flipped(shares[index], 1), (index + 1) % 4: shares[(index + 1) % 4]}
        with pytest.raises(IntegrityError):
            open_from(stages, stripe.chunk, changed)


def test_shares_of_another_stripe_do_not_open() -> None:
    stages = make_stages(compressor="none")
    stripe, _ = make(stages, NOISE)
    _, others = make(stages, NOISE[::-1])
    with pytest.raises(IntegrityError):
        open_from(stages, stripe.chunk, others)


def test_too_few_shares_are_incomplete() -> None:
    stages = make_stages()
    stripe, shares = make(stages, TEXT)
    with pytest.raises(IncompleteError):
        open_from(stages, stripe.chunk, {3: shares[3]})


def test_a_chunk_of_another_codec_is_refused() -> None:
    stages = make_stages()
    stripe, shares = make(stages, TEXT)
    chunk = stripe.chunk
    for codec, plain_size in ((2, chunk.plain_size), (1, chunk.plain_size + 1), (0, chunk.plain_size)):
        wrong = Chunk(chunk.chunk_id, codec, plain_size, chunk.packed_size)
        with pytest.raises(IntegrityError):
            open_from(stages, wrong, shares)


def test_plain_content_of_another_size_is_refused() -> None:
    packer = make_stages().packer
    with pytest.raises(IntegrityError):
        packer.unpack_into(CODEC_PLAIN, b"abc", memoryview(bytearray(4)))
    target = bytearray(3)
    packer.unpack_into(CODEC_PLAIN, b"abc", memoryview(target))
    assert target == b"abc"


# --- Wrong shares are found ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("bad", [{0}, {1}, {2}, {3}, {0, 1}, {1, 3}, {2, 3}, set()], ids=str)
def test_liars_are_named(cipher: str, bad: set[int]) -> None:
    stages = make_stages(cipher)
    stripe, shares = make(stages, TEXT)
    mixed = {index: flipped(share, 2) if index in bad else share for index, share in shares.items()}
    plain, found = open_doubtful(stages, stripe, mixed)
    assert plain == TEXT
    assert found == pipeline.Found(frozenset(set(range(4)) - bad), frozenset(bad))


def test_shares_with_a_wrong_checksum_are_tried_last(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = make_stages(geometry=Geometry(2, 5))
    stripe, shares = make(stages, TEXT)
    tried: list[set[int]] = []
    real = pipeline.open_stripe

    def counting(*arguments: object) -> None:
        tried.append(set(arguments[4]))  # type: ignore[call-overload]
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "open_stripe", counting)
    rotten = {**shares, 0: flipped(shares[0]), 1: flipped(shares[1])}
    assert open_doubtful(stages, stripe, rotten)[1].bad == {0, 1}
    assert tried == [{2, 3}]


def test_a_lie_in_the_padding_falls_on_its_teller() -> None:
    """No tag covers the padding: whoever changed it must not make the honest ones look wrong."""
    stages = make_stages(compressor="none", geometry=Geometry(3, 5))
    plain = NOISE[:10_000]
    stripe, shares = make(stages, plain)
    sealed_size, share_size = pipeline.stripe_size(stages, stripe.chunk)
    assert sealed_size < 3 * share_size
    padded = flipped(shares[2], share_size - 1)
    assert open_doubtful(stages, stripe, {**shares, 2: padded})[1].bad == {2}
    found = open_doubtful(stages, stripe, {**shares, 0: flipped(shares[0]), 2: padded})
    assert found == (plain, pipeline.Found(frozenset({1, 3, 4}), frozenset({0, 2})))
    only_damaged_padding = {0: shares[0], 1: shares[1], 2: padded}
    assert open_doubtful(stages, stripe, only_damaged_padding)[0] == plain


def test_with_too_few_good_shares_nothing_is_returned() -> None:
    stages = make_stages()
    stripe, shares = make(stages, TEXT)
    mixed = {0: shares[0], **{index: flipped(shares[index]) for index in (1, 2, 3)}}
    with pytest.raises(IntegrityError, match="no set of shares"):
        open_doubtful(stages, stripe, mixed)


def test_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = make_stages(geometry=Geometry(8, 16))
    stripe, shares = make(stages, b"short")
    attempts: Iterator[int] = iter(range(pipeline.SUBSET_COUNT_MAX))

    def failing(*_arguments: object) -> None:
        next(attempts)
        raise IntegrityError("bad")

    monkeypatch.setattr(pipeline, "open_stripe", failing)
    with pytest.raises(IntegrityError, match="no set of shares"):
        open_doubtful(stages, stripe, shares)
    assert next(attempts, None) is None


# --- Buffers ------------------------------------------------------------------------------------------------


def test_a_slot_grows_and_is_used_again() -> None:
    slot = Slot()
    small = slot.view("stripe", 10)
    small[:] = bytes(range(10))
    assert slot.view("stripe", 5).obj is small.obj
    assert bytes(slot.view("stripe", 10)) == bytes(range(10))
    large = slot.view("stripe", 20)
    assert large.obj is not small.obj
    assert slot.view("stripe", 15).obj is large.obj
    assert slot.view("parity", 20).obj is not large.obj
    assert len(slot.view("stripe", 0)) == 0


def test_a_slot_carries_nothing_over() -> None:
    """A short chunk behind a long one must not inherit its bytes, in either direction."""
    stages = make_stages()
    slot = Slot()
    for plain in (NOISE, TEXT, b"x", NOISE):
        stripe = pipeline.make_stripe(stages, VAULT, slot, Plain(memoryview(plain)))
        assert {index: bytes(share) for index, share in enumerate(stripe.shares)} == make(stages, plain)[1]
    for plain in (NOISE, TEXT, b"x", NOISE):
        stripe, shares = make(stages, plain)
        assert open_from(stages, stripe.chunk, {1: shares[1], 2: shares[2]}, slot) == plain


def test_shares_received_in_place_are_not_copied() -> None:
    stages = make_stages(compressor="none")
    stripe, shares = make(stages, NOISE)
    slot = Slot()
    places = slot.view("stripe", 2 * stripe.share_size)
    received = {
        index: places[index * stripe.share_size : (index + 1) * stripe.share_size] for index in (0, 1)
    }
    for index, place in received.items():
        place[:] = shares[index]
    assert open_from(stages, stripe.chunk, received, slot) == NOISE


@pytest.mark.parametrize("cipher", ["aes-gcm", "chacha20-poly1305"])
@pytest.mark.parametrize("code", CODES)
def test_no_memory_beside_the_slot(cipher: str, code: str) -> None:
    """Nothing as large as a share is allocated on the way, once the buffers are there."""
    stages = make_stages(cipher, "none", code)
    slot, plain = Slot(), random.Random(2).randbytes(limits.CHUNK_SIZE)
    target = memoryview(bytearray(len(plain)))
    stripe = pipeline.make_stripe(stages, VAULT, slot, Plain(memoryview(plain)))
    shares = {index: bytes(share) for index, share in enumerate(stripe.shares)}
    kept = dict(list(shares.items())[-stages.recipe.geometry.needed :])
    pipeline.open_stripe(stages, VAULT, slot, stripe.chunk, kept, target)
    tracemalloc.start()
    try:
        pipeline.make_stripe(stages, VAULT, slot, Plain(memoryview(plain)))
        pipeline.open_stripe(stages, VAULT, slot, stripe.chunk, kept, target)
        assert tracemalloc.get_traced_memory()[1] < 512 * limits.KIB  # of which msgpack takes half, always
    finally:
        tracemalloc.stop()
    assert target == plain


# --- Where shares go ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "placement"), list(product(CODES, PLACEMENTS)), ids="-".join)
def test_claims_say_where_shares_are(code: str, placement: str) -> None:
    stages = make_stages(code=code, placement=placement)
    stripe, _ = make(stages, TEXT)
    members = [NODES[index] for index in GROUP]
    facts = stages.placement.facts(b"name", members)
    claim = pipeline.claim_stripe(stages, VAULT, facts, stripe.chunk, GROUP, NODES)
    assert (claim.stripe, claim.share_size) == (stripe.stripe, stripe.share_size)
    assert (claim.code, claim.geometry) == (f"{code}@1", stages.recipe.geometry)
    assert claim.nodes == pipeline.place_stripe(stages, facts, stripe.stripe, GROUP, NODES)
    assert len(claim.nodes) == 4
    assert all(len(row) == len(set(row)) == stages.code.copies for row in claim.nodes)
    assert {node for row in claim.nodes for node in row} == set(GROUP)
    assert readable(claim.geometry, claim.nodes, GROUP)


def test_only_a_placement_by_chunk_looks_at_the_stripe() -> None:
    by_chunk, by_name = make_stages(), make_stages(placement="ring")
    stripes = [StripeId(bytes((number,)) * 32) for number in range(20)]
    assert by_chunk.placement.scope is Scope.CHUNK
    assert len({pipeline.place_stripe(by_chunk, b"", stripe, GROUP, NODES) for stripe in stripes}) > 5
    assert len({pipeline.place_stripe(by_name, b"\x01", stripe, GROUP, NODES) for stripe in stripes}) == 1


def test_a_group_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError):
        pipeline.place_stripe(make_stages(), b"", StripeId(b"s" * 32), GROUP[:3], NODES)
