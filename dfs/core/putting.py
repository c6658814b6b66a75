"""Put files: from their bytes to confirmed entries; pure operations.

Many files travel together: small ones share requests, large ones go chunk by chunk through the slots.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

from dfs.core import limits, pipeline
from dfs.core.consensus import Change, Changed, Changing, Outcomes, Proposal
from dfs.core.effects import Operation, beside, parallel, together, work
from dfs.core.errors import (
    ConflictError,
    DfsError,
    QuorumError,
    RollbackError,
    SpaceError,
    UnknownOutcomeError,
)
from dfs.core.folders import Ensured, ballot_after, ensure_folders, require_quorum
from dfs.core.interface import Chunker
from dfs.core.keys import register_key
from dfs.core.manifest import chunks_digest, encode_chunks
from dfs.core.paths import ancestors, name_of, printable
from dfs.core.pipeline import Slot, Stages, Stripe
from dfs.core.quorum import share_threshold, survives
from dfs.core.reading import Found, read_registers
from dfs.core.records import define, evolve, field, frozen
from dfs.core.transfer import Group, Vault
from dfs.core.types import (
    Chunk,
    ChunkId,
    Claim,
    Entry,
    EntryKind,
    Manifest,
    NodeId,
    Outcome,
    OutcomeKind,
    Plain,
    RegisterKey,
    Scope,
    Version,
)
from dfs.core.uploading import Placed, store_stripes

T = TypeVar("T")
SMALL_BATCH_SIZE: Final = 4 * limits.MIB
STORE_CHUNK_COUNT: Final = 2  # chunks that share their requests and commits; each costs nodes a millisecond
SMALL_BATCH_COUNT: Final = limits.BATCH_COUNT_MAX // 2


class Content(Protocol):
    """Bytes to store. ``size``: None when only reading to the end will tell (a pipe)."""

    size: int | None
    mtime_ns: int
    mode: int

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill ``target`` from ``offset``, less only at the end; in order when ``size`` is None."""

    def md5(self) -> bytes:
        """Return the MD5 of all bytes, for placements by content. Raises: ConfigError: it is a pipe."""


@frozen
class PutItem:
    """One file to store. ``path``: canonical. ``if_version``: the version to replace; ``if_absent``: must be
    new.
    """

    path: str
    content: Content
    version: Version  # the operation id: fresh for every put, kept over its retries
    if_version: Version | None = None
    if_absent: bool = False

    @property
    def conditional(self) -> bool:
        """Whether what is there now decides."""
        return self.if_absent or self.if_version is not None


@frozen
class Making:
    """How new files are made."""

    stages: Stages
    chunker: Chunker
    slots: Sequence[Slot]
    allow_degraded: bool = False
    progress: Callable[[int], object] = lambda _size: None


@frozen
class _Body:
    """A file's bytes, stored: entry without its place, claims, who holds them."""

    entry: Entry
    claims: Sequence[Claim] = field(default=(), repr=False)
    holders: frozenset[NodeId] = frozenset()
    sent_size: int = 0
    errors: Mapping[NodeId, Exception] = field(factory=dict)


Put: TypeAlias = Outcome | DfsError


# --- Put ----------------------------------------------------------------------------------------------------


def put_files(vault: Vault, items: Sequence[PutItem], making: Making) -> Operation[list[Put]]:
    """Store files and return an Outcome or the error of each, in order.

    Raises:
        QuorumError: too few nodes answer; nothing was read or changed.
    """
    keys = {item.path: register_key(vault.keys, item.path) for item in items}
    above = dict.fromkeys(folder for item in items for folder in ancestors(item.path))
    wanted_keys = dict.fromkeys([*keys.values(), *(register_key(vault.keys, folder) for folder in above)])
    found = yield from read_registers(vault, list(wanted_keys), wait_all=True)
    states = {path: found[key] for path, key in keys.items()}
    require_quorum(vault, states.values(), making.stages, degraded=making.allow_degraded)
    errors: dict[str, DfsError] = {}
    for item in items:
        if (refusal := _refusal(item, states[item.path])) is not None:
            errors[item.path] = refusal
    folders = sorted({folder for item in items if item.path not in errors for folder in ancestors(item.path)})
    ensured = yield from ensure_folders(vault, folders, found)
    errors |= _below(items, errors, ensured)
    wanted = [item for item in items if item.path not in errors]
    bodies: dict[str, _Body | DfsError] = {}
    changes = [_change(vault, keys[item.path], item, bodies, states[item.path], making) for item in wanted]
    changing = Changing(vault, changes)
    yield from _store_bodies(vault, wanted, states, making, bodies, changing.prepare)
    errors |= {path: body for path, body in bodies.items() if isinstance(body, DfsError)}
    stored = {path: body for path, body in bodies.items() if isinstance(body, _Body)}
    yield from changing.accept()
    if folders:
        _, ensured = yield from beside(changing.confirm(), _ensure_again(vault, folders))
    else:
        yield from changing.confirm()
    outcomes = changing.outcomes()
    for path, error in _below(items, errors, ensured).items():
        if not isinstance(outcomes[keys[path]], DfsError):
            errors[path] = UnknownOutcomeError(
                f"{printable(path)} is stored, but not its folder: {error.what}"
            )
    return [
        errors.get(item.path) or _outcome(vault, keys[item.path], stored[item.path], outcomes, making)
        for item in items
    ]


def _below(items: Sequence[PutItem], known: Mapping[str, DfsError], ensured: Ensured) -> dict[str, DfsError]:
    """Return the error of each item that has none yet and whose folder cannot be had."""
    errors = {item.path: ensured.error_above(item.path) for item in items if item.path not in known}
    return {path: error for path, error in errors.items() if error is not None}


def _ensure_again(vault: Vault, folders: Sequence[str]) -> Operation[Ensured]:
    """Make folders again that were removed meanwhile; what fails now must not hide that files are stored."""
    try:
        return (yield from ensure_folders(vault, folders))
    except QuorumError as error:
        return Ensured(errors=dict.fromkeys(folders, error))


def _refusal(item: PutItem, found: Found) -> DfsError | None:
    current = found.entry
    shown = printable(item.path)
    if found.error is not None and (item.conditional or isinstance(found.error, RollbackError)):
        return found.error
    if found.stale or (current is not None and current.version == item.version):
        return None  # what cannot be read may be written over; PREPARE tells the rest
    if current is not None and current.kind is EntryKind.FOLDER:
        return ConflictError(f"{shown} is a folder")
    if item.if_absent and current is not None:
        return ConflictError(f"{shown} exists already, version {current.version.hex()}")
    if item.if_version is not None and (current is None or current.version != item.if_version):
        there = "is not there" if current is None else f"is at version {current.version.hex()}"
        return ConflictError(f"{shown} {there}, not at {item.if_version.hex()}")
    return None


def _change(
    vault: Vault,
    key: RegisterKey,
    item: PutItem,
    bodies: Mapping[str, "_Body | DfsError"],
    found: Found,
    making: Making,
) -> Change:
    """``bodies``: of all files, once they are stored."""
    group = vault.group(key.directory)

    def decide(current: Entry | None) -> Proposal:
        body = bodies[item.path]
        if isinstance(body, DfsError):
            raise body
        error = _refusal(item, evolve(found, entry=current, stale=False, error=None))
        if error is not None:
            raise error
        threshold = _threshold(group, body.claims)
        _require_holders(vault, group, body, threshold, making)
        return Proposal(body.entry, body.claims, body.holders, threshold)

    return Change(key, item.path, decide, ballot_after(found))


def _threshold(group: Group, claims: Sequence[Claim]) -> int:
    return max((share_threshold(claim.geometry, claim.nodes, group.quorum) for claim in claims), default=0)


def _require_holders(vault: Vault, group: Group, body: _Body, threshold: int, making: Making) -> None:
    if _suffices(group, body.claims, body.holders, threshold, making):
        return
    full = (type(error) for error in body.errors.values() if isinstance(error, SpaceError))
    raise next(full, QuorumError)(
        f"{len(body.holders)} of {len(group.nodes)} nodes hold their shares, {threshold} needed"
        f" ({vault.reasons(body.errors)})"
    )


def _suffices(
    group: Group, claims: Sequence[Claim], holders: Collection[NodeId], threshold: int, making: Making
) -> bool:
    """Return whether shares on these nodes are enough to say that a file is stored."""
    if making.allow_degraded:
        indexes = {index for index, node in zip(group.indexes, group.nodes, strict=True) if node in holders}
        return all(survives(claim.geometry, claim.nodes, indexes) >= 0 for claim in claims)
    return not claims or len(holders) >= threshold


def _outcome(vault: Vault, key: RegisterKey, body: _Body, outcomes: Outcomes, making: Making) -> Put:
    changed = outcomes[key]
    if isinstance(changed, DfsError):
        return changed
    group = vault.group(key.directory)
    if (
        changed.entry is None or changed.entry.version != body.entry.version
    ):  # replaced by others as soon as it was there
        changed = Changed(changed.entry, frozenset(group.nodes), body.holders)
    threshold = _threshold(group, body.claims)
    if not _suffices(group, body.claims, changed.strict, threshold, making):
        return UnknownOutcomeError(
            f"{printable(body.entry.path)} was written, but shares were lost before:"
            f" {len(changed.strict)} of {len(group.nodes)} nodes hold theirs, {threshold} needed"
        )
    return report(vault, group, body.entry, body.claims, changed, body.sent_size)


def report(
    vault: Vault, group: Group, entry: Entry, claims: Sequence[Claim], changed: Changed, sent_size: int
) -> Outcome:
    """Return what a chosen change means for its file: who has it, and how many further losses it survives."""
    whole = changed.strict if claims else changed.accepted
    indexes = {index for index, node in zip(group.indexes, group.nodes, strict=True) if node in whole}
    if claims:
        survived = min(survives(claim.geometry, claim.nodes, indexes) for claim in claims)
    else:
        survived = max(0, len(whole & vault.counted) - (group.quorum.total - group.quorum.write + 1))
    stored = sum(
        claim.share_size * sum(1 for row in claim.nodes for index in row if index in indexes)
        for claim in claims
    )
    missing = tuple(node for node in group.nodes if node not in whole)
    return Outcome(
        path=entry.path,
        kind=OutcomeKind.DEGRADED if missing else OutcomeKind.OK,
        version=entry.version,
        size=entry.size,
        node_count=len(whole),
        node_total=len(group.nodes),
        survives=survived,
        sent_size=sent_size,
        stored_size=stored,
        missing=missing,
    )


# --- The bytes of files, stored -----------------------------------------------------------------------------


def _store_bodies(
    vault: Vault,
    items: Sequence[PutItem],
    states: Mapping[str, Found],
    making: Making,
    bodies: dict[str, "_Body | DfsError"],
    prepare: Callable[[], Operation[None]],
) -> Operation[None]:
    """Store the bytes of files, and note in ``bodies`` what became of each.

    ``prepare``: asks for the promises of all of them. It is called if that may go on beside the only request
    that stores: promises that are old when they are needed may be worth nothing.
    """
    small: list[PutItem] = []
    large: list[PutItem] = []
    for item in items:
        is_small = item.content.size is not None and item.content.size <= limits.SMALL_SIZE_MAX
        (small if is_small else large).append(item)
    batches = list(_small_batches(vault, small))
    preparing = prepare if len(batches) == 1 and not large else None
    parts = [_store_small(vault, group, batch, states, making, preparing) for group, batch in batches]
    for part in (yield from together(parts, len(making.slots))):
        bodies.update(part)
    for item in large:
        bodies[item.path] = yield from _caught(_store_large(vault, item, making))


def _caught(operation: Operation[T]) -> Operation[T | DfsError]:
    try:
        return (yield from operation)
    except UnknownOutcomeError:
        raise
    except DfsError as error:
        return error


def _small_batches(vault: Vault, items: Iterable[PutItem]) -> Iterator[tuple[Group, list[PutItem]]]:
    open_batches: dict[tuple[int, ...], tuple[Group, list[PutItem], int]] = {}
    for item in items:
        group = vault.group(register_key(vault.keys, item.path).directory)
        _, batch, size = open_batches.get(group.indexes, (group, [], 0))
        item_size = item.content.size or 0
        if batch and (size + item_size > SMALL_BATCH_SIZE or len(batch) == SMALL_BATCH_COUNT):
            yield group, batch
            batch, size = [], 0
        batch.append(item)
        open_batches[group.indexes] = (group, batch, size + item_size)
    for group, batch, _ in open_batches.values():
        yield group, batch


def _facts(vault: Vault, group: Group, item: PutItem, stages: Stages) -> bytes:
    members = [vault.roster.nodes[index] for index in group.indexes]
    if stages.placement.scope is Scope.CONTENT:
        return stages.placement.facts(item.content.md5(), members)
    key = name_of(item.path).encode() if stages.placement.scope is Scope.NAME else b""
    return stages.placement.facts(key, members)


def _entry(item: PutItem, size: int) -> Entry:
    content = item.content
    return Entry(
        path=item.path,
        kind=EntryKind.FILE,
        version=item.version,
        size=size,
        mtime_ns=max(0, content.mtime_ns),
        mode=content.mode & 0o7777,
    )


def _place(vault: Vault, group: Group, stages: Stages, facts: bytes, stripe: Stripe) -> tuple[Placed, Claim]:
    rows = pipeline.place_stripe(stages, facts, stripe.stripe, group.indexes, vault.roster.nodes)
    claim = Claim(stripe.stripe, stripe.share_size, stages.code_name, stages.recipe.geometry, rows)
    return Placed(stripe, vault.nodes_of(rows)), claim


@frozen
class _Small:
    entry: Entry
    stripe: Stripe | None
    facts: bytes


def _make_small(vault: Vault, group: Group, item: PutItem, making: Making) -> "_Small | DfsError":
    """Read and make one small file; with content that packs into the entry there is no stripe."""
    stages = making.stages
    plain = memoryview(bytearray((item.content.size or 0) + 1))
    size = item.content.read_into(plain, 0)
    if size != item.content.size:
        return ConflictError(f"{printable(item.path)} changed while it was read", next_step="Put it again.")
    plain = plain[:size]
    entry = _entry(item, size)
    codec, packed = stages.packer.pack(Plain(plain))
    if len(packed) <= limits.CONTENT_INLINE_SIZE_MAX:
        inline = evolve(
            entry, content=bytes(packed), content_codec=codec, content_compressor=stages.recipe.compressor
        )
        return _Small(inline, None, b"")
    facts = _facts(vault, group, item, stages)
    stripe = pipeline.make_stripe(stages, vault.keys, Slot(), Plain(plain))
    return _Small(evolve(entry, manifest=_manifest(stages, facts, [stripe.chunk])), stripe, facts)


def _manifest(stages: Stages, facts: bytes, chunks: Sequence[Chunk]) -> Manifest:
    return Manifest(stages.recipe, facts, tuple(chunks), listed=False, chunks_digest=chunks_digest(chunks))


def _store_small(
    vault: Vault,
    group: Group,
    items: Sequence[PutItem],
    states: Mapping[str, Found],
    making: Making,
    preparing: Callable[[], Operation[None]] | None,
) -> Operation[dict[str, "_Body | DfsError"]]:
    def make() -> list[_Small | DfsError]:
        made = []
        for item in items:
            try:
                made.append(_make_small(vault, group, item, making))
            except DfsError as error:
                made.append(error)
        return made

    made = yield from work(make)
    placed = {
        small.stripe.stripe: _place(vault, group, making.stages, small.facts, small.stripe)
        for small in made
        if isinstance(small, _Small) and small.stripe is not None
    }
    is_new = not any(
        _has_had(states[item.path].entry, small.stripe.chunk)
        for item, small in zip(items, made, strict=True)
        if isinstance(small, _Small) and small.stripe is not None
    )
    storing = store_stripes(group, [stripe for stripe, _ in placed.values()], expect_new=is_new, hasty=True)
    if preparing is not None and placed:
        stored, _ = yield from beside(storing, preparing())
    else:
        stored = yield from storing
    share = stored.sent_size // max(1, len(placed))
    bodies: dict[str, _Body | DfsError] = {}
    for item, small in zip(items, made, strict=True):
        making.progress(item.content.size or 0)
        if isinstance(small, DfsError):
            bodies[item.path] = small
        elif small.stripe is None:
            bodies[item.path] = _Body(small.entry)
        else:
            _, claim = placed[small.stripe.stripe]
            bodies[item.path] = _Body(small.entry, (claim,), stored.holders, share, stored.errors)
    return bodies


def _has_had(entry: Entry | None, chunk: Chunk) -> bool:
    """Return whether a file has these very bytes already: then nodes have most of its shares."""
    return entry is not None and entry.manifest is not None and chunk in entry.manifest.chunks


@define
class _Progress:
    """A large file on its way: chunks by index, their claims, and who holds all of them so far.

    ``expect_new``: nobody had the chunk that was stored last.
    """

    holders: frozenset[NodeId]
    chunks: dict[int, Chunk] = field(factory=dict)
    claims: dict[ChunkId, Claim] = field(factory=dict)
    sent_size: int = 0
    expect_new: bool = False
    errors: dict[NodeId, Exception] = field(factory=dict)


def _store_large(vault: Vault, item: PutItem, making: Making) -> Operation[_Body]:
    group = vault.group(register_key(vault.keys, item.path).directory)
    stages = making.stages
    facts = yield from work(lambda: _facts(vault, group, item, stages))
    state = _Progress(frozenset(group.nodes))
    if item.content.size is not None and making.chunker.fixed:
        yield from _store_fixed(vault, group, item, making, facts, state)
        size = item.content.size
    else:
        size = yield from _store_stream(vault, group, item, making, facts, state)
    chunks = [state.chunks[index] for index in sorted(state.chunks)]
    manifest = _manifest(stages, facts, chunks)
    claimed: list[Chunk] = chunks
    encoded = encode_chunks(chunks)
    if len(encoded) > limits.CHUNK_LIST_INLINE_SIZE_MAX:
        listed = yield from _store_list(vault, group, making, facts, state, encoded)
        manifest = evolve(manifest, chunks=tuple(listed), listed=True)
        claimed = [*chunks, *listed]
    claims = [state.claims[name] for name in dict.fromkeys(chunk.chunk_id for chunk in claimed)]
    entry = evolve(_entry(item, size), manifest=manifest)
    return _Body(entry, claims, state.holders, state.sent_size, state.errors)


def _store_fixed(
    vault: Vault, group: Group, item: PutItem, making: Making, facts: bytes, state: _Progress
) -> Operation[None]:
    """Store content of known size, a few chunks a job: made side by side and sent together."""
    slots = making.slots
    count = min(STORE_CHUNK_COUNT, max(1, len(slots) // 2))  # while one job sends, another one makes
    teams = [slots[first : first + count] for first in range(0, len(slots) - count + 1, count)]
    size = item.content.size or 0
    step = making.chunker.chunk_size_max
    indexes = range(-(-size // step))

    def make(slot: Slot, index: int) -> Stripe:
        plain = slot.view("plain", min(step, size - index * step))
        if item.content.read_into(plain, index * step) != len(plain):
            raise ConflictError(
                f"{printable(item.path)} became shorter while it was read", next_step="Put it again."
            )
        return pipeline.make_stripe(making.stages, vault.keys, slot, Plain(plain))

    def job(slots: Sequence[Slot], part: range) -> Operation[None]:
        made = [work(partial(make, slot, index)) for slot, index in zip(slots, part, strict=False)]
        stripes = yield from together(made)
        yield from _store_chunks(vault, group, making, facts, state, dict(zip(part, stripes, strict=True)))

    yield from parallel(
        (partial(job, part=indexes[first : first + count]) for first in indexes[::count]), teams
    )


def _store_chunks(
    vault: Vault,
    group: Group,
    making: Making,
    facts: bytes,
    state: _Progress,
    stripes: Mapping[int, Stripe],
) -> Operation[None]:
    placed = {
        stripe.stripe: _place(vault, group, making.stages, facts, stripe) for stripe in stripes.values()
    }
    claims = [claim for _, claim in placed.values()]
    stored = yield from store_stripes(
        group, [stripe for stripe, _ in placed.values()], expect_new=state.expect_new
    )
    state.expect_new = not stored.found
    state.holders &= stored.holders
    state.sent_size += stored.sent_size
    state.errors.update(stored.errors)
    for index, stripe in stripes.items():
        state.chunks[index] = stripe.chunk
        _, state.claims[stripe.chunk.chunk_id] = placed[stripe.stripe]
    body = _Body(Entry("", EntryKind.FILE, Version(b"")), claims, state.holders, errors=state.errors)
    _require_holders(vault, group, body, _threshold(group, claims), making)
    making.progress(sum(stripe.chunk.plain_size for stripe in stripes.values()))


def _store_stream(
    vault: Vault, group: Group, item: PutItem, making: Making, facts: bytes, state: _Progress
) -> Operation[int]:
    """Store content whose end or boundaries only reading tells; one chunk after the other."""
    slot = making.slots[0]
    window = slot.view("window", making.chunker.chunk_size_max)
    filled = offset = index = 0
    final = False
    while not final or filled:
        if not final:
            count = yield from work(partial(item.content.read_into, window[filled:], offset + filled))
            final = count < len(window) - filled
            filled += count
            if not filled:
                break
        size = making.chunker.cut(window[:filled], final=final)

        plain = Plain(window[:size])
        stripe = yield from work(partial(pipeline.make_stripe, making.stages, vault.keys, slot, plain))
        yield from _store_chunks(vault, group, making, facts, state, {index: stripe})
        window[: filled - size] = bytes(window[size:filled])
        filled -= size
        offset += size
        index += 1
    return offset


def _store_list(
    vault: Vault, group: Group, making: Making, facts: bytes, state: _Progress, encoded: bytes
) -> Operation[list[Chunk]]:
    """Store a chunk list as chunks of its own and return them."""
    chunks: list[Chunk] = []
    step = making.chunker.chunk_size_max
    for offset in range(0, len(encoded), step):
        plain = Plain(memoryview(encoded)[offset : offset + step])
        stripe = yield from work(partial(pipeline.make_stripe, making.stages, vault.keys, Slot(), plain))
        yield from _store_chunks(vault, group, making, facts, state, {-1: stripe})
        chunks.append(state.chunks.pop(-1))
    return chunks
