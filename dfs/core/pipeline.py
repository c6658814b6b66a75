"""One chunk: plain → packed → named → sealed → stripe → shares, and back, in the buffers of a slot.

No stage knows its neighbours; no chunk-sized bytes object is made on the way (a compressor's own result
excepted).
"""

from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest
from itertools import combinations, islice
from typing import Final

from xxhash import xxh3_128_digest

from dfs.core import keys as keyring, limits
from dfs.core.errors import IntegrityError
from dfs.core.interface import Buffer, Cipher, Code, Compressor, Placement
from dfs.core.keys import VaultKeys
from dfs.core.records import define, field, frozen
from dfs.core.types import CODEC_PLAIN, Chunk, Claim, Node, Plain, Recipe, Scope, ShareKey, StripeId

# Constant associated data: path, version and index are bound in the manifest.
CHUNK_CONTEXT: Final = b"dfs 1 chunk"
PACK_SIZE_MIN: Final = 256  # bytes; the entry around so little takes more
SUBSET_COUNT_MAX: Final = 256  # decodes tried for one chunk when a tag fails


@frozen
class Packer:
    """A compressor as stages use it. ``compressor``: the calling thread's. ``codec``: of what it packs."""

    compressor: Callable[[], Compressor]
    codec: int

    def pack(self, plain: Plain) -> tuple[int, Buffer]:
        """Return codec and packed bytes of a plain chunk; they are valid until the thread packs again.

        What is tiny stays plain: it would hardly shrink, and its compressor need not be loaded.
        """
        if len(plain) < PACK_SIZE_MIN:
            return CODEC_PLAIN, plain
        packed = self.compressor().compress(plain)
        return (CODEC_PLAIN, plain) if packed is None else (self.codec, packed)

    def unpack_into(self, codec: int, packed: Buffer, target: memoryview) -> None:
        """Fill ``target`` from packed bytes.

        Raises:
            IntegrityError: they are of another codec, broken, or of another size.
        """
        if codec == CODEC_PLAIN:
            if len(packed) != len(target):
                raise IntegrityError("plain content of another size than its entry says")
            target[:] = packed
            return
        if codec != self.codec:
            raise IntegrityError(f"codec {codec} is not the one its manifest names")
        if self.compressor().decompress_into(packed, target) != len(target):
            raise IntegrityError("a chunk unpacks to another size than its manifest says")


@frozen
class Stages:
    """The behaviours behind a recipe."""

    recipe: Recipe
    cipher: Cipher
    code: Code
    placement: Placement
    packer: Packer

    @property
    def cipher_name(self) -> str:
        """``name@format``, as it goes into ids."""
        return self.recipe.cipher.partition(":")[2]

    @property
    def code_name(self) -> str:
        """``name@format``, as it goes into ids and claims."""
        return self.recipe.code.partition(":")[2]


def _allocate(size: int) -> memoryview:
    return memoryview(bytearray(size))


@define
class Slot:
    """The buffers of one chunk on its way; each grows to the largest size asked for and is used again.

    ``allocate``: returns so many writable bytes.
    """

    allocate: Callable[[int], memoryview] = _allocate
    _buffers: dict[str, memoryview] = field(factory=dict, repr=False)

    def view(self, name: str, size: int) -> memoryview:
        """Return ``size`` bytes of the buffer of that name; what it held is still there."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = self.allocate(size)
        return buffer[:size]


@frozen
class Stripe:
    """A chunk made into shares: its manifest row, name, share bodies and their xxh3-128."""

    chunk: Chunk
    stripe: StripeId
    share_size: int
    shares: Sequence[Buffer] = field(repr=False)
    checksums: Sequence[bytes] = field(repr=False)

    def key(self, index: int) -> ShareKey:
        """Name of a share."""
        return ShareKey(self.stripe, index)


def name_stripe(stages: Stages, keys: VaultKeys, chunk: Chunk) -> StripeId:
    """Return the stripe id of a chunk under these stages."""
    geometry = stages.recipe.geometry
    return keyring.stripe_id(keys, chunk.chunk_id, stages.cipher_name, stages.code_name, geometry)


def make_stripe(stages: Stages, keys: VaultKeys, slot: Slot, plain: Plain) -> Stripe:
    """Pack, name, seal and encode one chunk; the shares lie in the slot."""
    codec, packed = stages.packer.pack(plain)
    chunk = Chunk(keyring.chunk_id(keys, codec, packed), codec, len(plain), len(packed))
    sealed_size = len(packed) + stages.cipher.overhead_size
    share_size = stages.code.share_size(sealed_size)
    stripe = slot.view("stripe", stages.recipe.geometry.needed * share_size)
    key = keyring.chunk_key(keys, chunk.chunk_id, stages.cipher_name, stages.cipher.key_size)
    stages.cipher.seal_into(key, CHUNK_CONTEXT, packed, stripe[:sealed_size])
    stripe[sealed_size:] = bytes(len(stripe) - sealed_size)
    shares = _encode(stages, slot, stripe, share_size)
    checksums = [xxh3_128_digest(share) for share in shares]
    return Stripe(chunk, name_stripe(stages, keys, chunk), share_size, shares, checksums)


def _encode(stages: Stages, slot: Slot, stripe: memoryview, share_size: int) -> list[memoryview]:
    """Return all shares of a padded stripe: pieces of it, then the slot's parity."""
    needed, total = stages.recipe.geometry.needed, stages.recipe.geometry.total
    parity = pieces(slot.view("parity", (total - needed) * share_size), share_size)
    if parity:
        stages.code.encode_into(stripe, parity)
    return pieces(stripe, share_size) + parity


def pieces(buffer: memoryview, size: int) -> list[memoryview]:
    """Return a buffer in pieces of ``size`` bytes."""
    return [buffer[offset : offset + size] for offset in range(0, len(buffer), size)]


def stripe_size(stages: Stages, chunk: Chunk) -> tuple[int, int]:
    """Return (bytes of the sealed chunk, bytes of one share)."""
    sealed_size = chunk.packed_size + stages.cipher.overhead_size
    return sealed_size, stages.code.share_size(sealed_size)


def open_stripe(
    stages: Stages,
    keys: VaultKeys,
    slot: Slot,
    chunk: Chunk,
    shares: Mapping[int, Buffer],
    target: memoryview,
) -> None:
    """Bring back one chunk from any k shares into ``target``, which is chunk.plain_size long.

    Data shares that already lie at their place in the slot's "stripe" buffer are not copied.

    Raises:
        IntegrityError: the bytes are not those that were sealed. IncompleteError: fewer than k shares.
    """
    sealed_size, share_size = stripe_size(stages, chunk)
    stripe = slot.view("stripe", stages.recipe.geometry.needed * share_size)
    places = pieces(stripe, share_size)
    absent = {index: place for index, place in enumerate(places) if index not in shares}
    if absent:
        stages.code.decode_into(shares, absent)
    for index, place in enumerate(places):
        share = shares.get(index)
        if share is not None and share is not place and not _is_place(share, place):
            place[:] = share
    _open_sealed(stages, keys, slot, chunk, stripe[:sealed_size], target)


def _is_place(share: Buffer, place: memoryview) -> bool:
    return isinstance(share, memoryview) and share.obj is place.obj


def _open_sealed(
    stages: Stages, keys: VaultKeys, slot: Slot, chunk: Chunk, sealed: memoryview, target: memoryview
) -> None:
    kept_plain = chunk.codec == CODEC_PLAIN
    packed = target if kept_plain else slot.view("packed", chunk.packed_size)
    if len(packed) != chunk.packed_size:
        raise IntegrityError("a manifest gives a plain chunk two sizes")
    key = keyring.chunk_key(keys, chunk.chunk_id, stages.cipher_name, stages.cipher.key_size)
    stages.cipher.open_into(key, CHUNK_CONTEXT, sealed, packed)
    if not stages.cipher.authenticated and not compare_digest(
        keyring.chunk_id(keys, chunk.codec, packed), chunk.chunk_id
    ):
        raise IntegrityError("a chunk is not what its name says")
    if not kept_plain:
        stages.packer.unpack_into(chunk.codec, packed, target)


def make_stripe_again(stages: Stages, slot: Slot, chunk: Chunk) -> list[memoryview]:
    """Return all shares of the chunk that `open_stripe` has just opened in this slot.

    No tag covers the padding, so it is zeroed: a lie there goes no further.
    """
    sealed_size, share_size = stripe_size(stages, chunk)
    stripe = slot.view("stripe", stages.recipe.geometry.needed * share_size)
    stripe[sealed_size:] = bytes(len(stripe) - sealed_size)
    return _encode(stages, slot, stripe, share_size)


@frozen
class Found:
    """How a chunk with bad shares was opened: the shares that were right and those that were not."""

    good: frozenset[int]
    bad: frozenset[int]


def open_doubtful(
    stages: Stages,
    keys: VaultKeys,
    chunk: Chunk,
    shares: Mapping[int, Buffer],
    checksums: Mapping[int, bytes],
    target: memoryview,
) -> Found:
    """Bring back a chunk although some shares may be wrong, and tell which.

    Shares whose stored checksum does not fit go last; then k-subsets are tried, at most SUBSET_COUNT_MAX.
    From the subset that opens, every share is made again and compared.

    Raises:
        IntegrityError: no subset tried gives the chunk.
    """
    fitting = {index: xxh3_128_digest(body) == checksums[index] for index, body in shares.items()}
    ordered = sorted(shares, key=lambda index: (not fitting[index], index))
    for subset in islice(combinations(ordered, stages.recipe.geometry.needed), SUBSET_COUNT_MAX):
        slot = Slot()
        chosen = {index: shares[index] for index in subset}
        try:
            open_stripe(stages, keys, slot, chunk, chosen, target)
        except IntegrityError:
            continue
        remade = make_stripe_again(stages, slot, chunk)
        good = frozenset(index for index, body in shares.items() if remade[index] == body)
        return Found(good, frozenset(shares) - good)
    raise IntegrityError("no set of shares gives the chunk that was stored")


# --- Where shares go --------------------------------------------------------------------------------------


def some_place(stages: Stages, members: Sequence[Node]) -> tuple[bytes, StripeId]:
    """Return facts and stripe of no file that there is: to learn how shares would lie, whatever the scope."""
    scope = stages.placement.scope
    key = {Scope.CHUNK: b"", Scope.NAME: b"name", Scope.CONTENT: bytes(16)}[scope]
    stripe = StripeId(bytes(limits.STRIPE_ID_SIZE) if scope is Scope.CHUNK else b"")
    return stages.placement.facts(key, members), stripe


def place_stripe(
    stages: Stages, facts: bytes, stripe: StripeId, group: Sequence[int], nodes: Sequence[Node]
) -> tuple[tuple[int, ...], ...]:
    """Return row i = roster indexes of the nodes of share i, preferred first.

    Args:
        group: roster indexes of the directory's nodes, in roster order.
        nodes: the roster's nodes.
    """
    index_of = {nodes[index].node_id: index for index in group}
    key = stripe if stages.placement.scope is Scope.CHUNK else b""
    members = [nodes[index] for index in group]
    rows = stages.placement.place(facts, key, stages.recipe.geometry.total, stages.code.copies, members)
    return tuple(tuple(index_of[node.node_id] for node in row) for row in rows)


def claim_stripe(
    stages: Stages, keys: VaultKeys, facts: bytes, chunk: Chunk, group: Sequence[int], nodes: Sequence[Node]
) -> Claim:
    """Return the claim on a chunk's stripe."""
    stripe = name_stripe(stages, keys, chunk)
    _, share_size = stripe_size(stages, chunk)
    rows = place_stripe(stages, facts, stripe, group, nodes)
    return Claim(stripe, share_size, stages.code_name, stages.recipe.geometry, rows)
