"""A vault copied into another generation of its master key: entries and chunks sealed anew; pure operations.

Versions stay, so what is there already is known by its version, and a second run goes on where one ended.
Nothing is changed in the generation that is copied. See docs/decisions/
0015-a-rotation-copies-beside-what-is-there.md.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from dfs.core import limits, pipeline, register
from dfs.core.consensus import Change, Proposal, change_registers
from dfs.core.effects import Operation, parallel, work
from dfs.core.errors import DfsError, IncompleteError, QuorumError, SpaceError, invariant
from dfs.core.folders import Health, ballot_after, registers_of, standing
from dfs.core.keys import directory_id, register_key
from dfs.core.manifest import chunks_digest, encode_chunks
from dfs.core.paths import printable
from dfs.core.pipeline import Slot, Stages
from dfs.core.quorum import share_threshold
from dfs.core.reading import Found
from dfs.core.records import define, evolve, field, frozen
from dfs.core.transfer import (
    Group,
    Ledger,
    Source,
    Vault,
    chunks_of,
    claims_on,
    fetch_chunk,
    sources_of,
)
from dfs.core.types import (
    Chunk,
    Claim,
    Entry,
    EntryKind,
    Manifest,
    NodeId,
    Plain,
    RegisterKey,
    Version,
)
from dfs.core.uploading import Placed, store_stripes

BATCH_COUNT: Final = 200  # entries written by one change


@define
class Copied:
    """What one pass did. ``failed``: files that could not be copied, and why."""

    entries: int = 0
    size: int = 0
    buried: int = 0
    failed: dict[str, DfsError] = field(factory=dict)


@frozen
class Pending:
    """What a pass has to do. ``files``: to copy, ``size``: their plain bytes; ``total``: all files there.

    ``unwanted``: registers of the target that hold something else, or may come to. ``sure``: whether it is
    known of all registers there.
    """

    folders: tuple[Found, ...] = field(default=(), repr=False)
    files: tuple[Found, ...] = field(default=(), repr=False)
    unwanted: tuple[Found, ...] = field(default=(), repr=False)
    size: int = 0
    total: int = 0
    sure: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the target is the source, and surely so."""
        return self.sure and not (self.folders or self.files or self.unwanted)


# --- What is to be copied -----------------------------------------------------------------------------------


def pending(source: Vault, target: Vault) -> Operation[Pending]:
    """Return what the target lacks of the source, and what it has, or may come to have, beyond it.

    Raises:
        QuorumError: too few nodes answer to know everything. IncompleteError, RollbackError: an entry of the
            source cannot be known.
    """
    wanted = yield from _tree(source)
    folders = ["", *(path for path, item in wanted.items() if _is_folder(item))]
    there, sure = yield from _registers(target, folders)
    keys = {register_key(target.keys, path): item for path, item in wanted.items()}
    lacking = [
        item for key, item in keys.items() if not (key in there and _is_copy(target, there[key], item))
    ]
    unwanted = tuple(found for key, found in there.items() if key not in keys and not _is_over(found))
    files = tuple(item for item in lacking if not _is_folder(item))
    return Pending(
        folders=tuple(item for item in lacking if _is_folder(item)),
        files=files,
        unwanted=unwanted,
        size=sum(_entry_of(item).size for item in files),
        total=sum(1 for item in wanted.values() if not _is_folder(item)),
        sure=sure,
    )


def _entry_of(item: Found) -> Entry:
    invariant(item.entry is not None, "only what has an entry is copied")
    return item.entry  # type: ignore[return-value] # see above


def _is_folder(item: Found) -> bool:
    return item.entry is not None and item.entry.kind is EntryKind.FOLDER


def _is_copy(target: Vault, there: Found, item: Found) -> bool:
    entry, other = _entry_of(item), there.entry
    if other is None or there.error is not None or there.stale:
        return False
    if (other.version, other.kind, other.path) != (entry.version, entry.kind, entry.path):
        return False
    whole = {node for node, row in there.rows.items() if not row.owed_count and not row.corrupt_count}
    group = target.group(there.key.directory)
    return standing(target, group, other, whole)["health"] is not Health.INCOMPLETE


def _is_over(found: Found) -> bool:
    """Return whether a register holds a tombstone that was chosen: nothing older comes back there."""
    return found.row is not None and register.is_tombstone(found.row) and not found.stale


def _tree(vault: Vault) -> Operation[dict[str, Found]]:
    """Return all entries of a vault by path, folders before what is in them. Raises: see `pending`."""
    entries: dict[str, Found] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop(0)
        for item in (yield from _folder(vault, folder)):
            if item.error is not None or (item.stale and item.entry is not None):
                raise item.error or QuorumError(f"cannot say what {printable(folder)}/ holds")
            if item.entry is not None:
                entries[item.entry.path] = item
                waiting.extend([item.entry.path] if _is_folder(item) else [])
    return entries


def _folder(vault: Vault, folder: str) -> Operation[list[Found]]:
    directory = directory_id(vault.keys, folder)
    found, sure = yield from registers_of(vault, vault.group(directory), directory)
    if not sure:
        bad = next((item.error for item in found if item.error is not None), None)
        raise bad or QuorumError(f"cannot say what {printable(folder)}/ holds: too few nodes answer")
    return found


def _registers(target: Vault, folders: Sequence[str]) -> Operation[tuple[dict[RegisterKey, Found], bool]]:
    """Return all registers of some folders of the target and of those that it has beside them; is it sure?"""
    there: dict[RegisterKey, Found] = {}
    all_sure = True
    waiting = list(folders)
    known = set(folders)
    while waiting:
        directory = directory_id(target.keys, waiting.pop(0))
        found, sure = yield from registers_of(target, target.group(directory), directory)
        all_sure = all_sure and sure
        for item in found:
            there[item.key] = item
            if item.entry is not None and _is_folder(item) and item.entry.path not in known:
                known.add(item.entry.path)
                waiting.append(item.entry.path)
    return there, all_sure


# --- Copying ------------------------------------------------------------------------------------------------


def copy(
    source: Vault, target: Vault, todo: Pending, slots: Sequence[Slot], progress: Callable[[int], object]
) -> Operation[Copied]:
    """Copy what is pending: folders, then files; a file that cannot be is told of, and the others go on.

    Raises:
        QuorumError, SpaceError, UnknownOutcomeError: nothing more can be written now.
    """
    copied = Copied()
    by_depth: dict[int, list[Found]] = {}
    for item in todo.folders:
        by_depth.setdefault(_entry_of(item).path.count("/"), []).append(item)
    for depth in sorted(by_depth):
        yield from _write(target, [(_body_of(item), item) for item in by_depth[depth]], copied)
    small = [item for item in todo.files if _is_small(item)]
    for first in range(0, len(small), BATCH_COUNT):
        batch = small[first : first + BATCH_COUNT]
        jobs = [partial(_copy_small, source, target, item, copied, progress) for item in batch]
        bodies = yield from parallel(jobs, slots)
        pairs = [(body, item) for body, item in zip(bodies, batch, strict=True) if body is not None]
        yield from _write(target, pairs, copied)
    for item in todo.files:
        if not _is_small(item):
            body = yield from _copied(source, target, item, slots, copied, progress)
            yield from _write(target, [(body, item)] if body is not None else [], copied)
    return copied


@frozen
class _Body:
    """An entry for the target, with its claims there and who holds their shares."""

    entry: Entry
    claims: Sequence[Claim] = field(default=(), repr=False)
    holders: frozenset[NodeId] = frozenset()
    threshold: int = 0


def _body_of(item: Found) -> _Body:
    return _Body(evolve(_entry_of(item), previous=b""))


def _is_small(item: Found) -> bool:
    manifest = _entry_of(item).manifest
    return manifest is None or (len(manifest.chunks) == 1 and not manifest.listed)


def _copy_small(
    source: Vault,
    target: Vault,
    item: Found,
    copied: Copied,
    progress: Callable[[int], object],
    slot: Slot,
) -> Operation[_Body | None]:
    return (yield from _copied(source, target, item, [slot], copied, progress))


def _copied(
    source: Vault,
    target: Vault,
    item: Found,
    slots: Sequence[Slot],
    copied: Copied,
    progress: Callable[[int], object],
) -> Operation[_Body | None]:
    """Return a file's entry for the target, its chunks stored there; None where it cannot be read or stored.

    Raises:
        SpaceError: nodes are full.
    """
    entry = _entry_of(item)
    if entry.manifest is None:
        progress(entry.size)
        return _body_of(item)
    try:
        return (yield from _copied_chunks(source, target, item, entry.manifest, slots, progress))
    except SpaceError:
        raise
    except DfsError as error:
        copied.failed[entry.path] = error
        return None


@define
class _Storing:
    """A file on its way: the target's group, its new chunks by index, and who holds all of them so far."""

    target: Vault
    group: Group
    stages: Stages
    facts: bytes
    holders: set[NodeId]
    chunks: dict[int, Chunk] = field(factory=dict)

    def store(self, index: int, stripe: pipeline.Stripe) -> Operation[None]:
        """Bring a stripe to its nodes. Raises: QuorumError, SpaceError: too few of them take it."""
        nodes = self.target.roster.nodes
        rows = pipeline.place_stripe(self.stages, self.facts, stripe.stripe, self.group.indexes, nodes)
        placed = Placed(stripe, self.target.nodes_of(rows))
        stored = yield from store_stripes(self.group, [placed])
        self.holders &= stored.holders
        self.chunks[index] = stripe.chunk
        threshold = self.threshold([stripe.chunk])
        if len(self.holders) < threshold:
            full = (type(error) for error in stored.errors.values() if isinstance(error, SpaceError))
            raise next(full, QuorumError)(
                f"{len(self.holders)} of {len(self.group.nodes)} nodes hold their shares, {threshold} needed"
                f" ({self.target.reasons(stored.errors)})"
            )

    def claims(self, chunks: Sequence[Chunk]) -> tuple[Claim, ...]:
        """Return the claims on some chunks."""
        return claims_on(self.target, self.group, self.stages, self.facts, chunks)

    def threshold(self, chunks: Sequence[Chunk]) -> int:
        """Return how many nodes must hold their shares of them."""
        return max(
            share_threshold(claim.geometry, claim.nodes, self.group.quorum) for claim in self.claims(chunks)
        )


def _copied_chunks(
    source: Vault,
    target: Vault,
    item: Found,
    manifest: Manifest,
    slots: Sequence[Slot],
    progress: Callable[[int], object],
) -> Operation[_Body]:
    entry = _entry_of(item)
    stages = source.stages_of(manifest.recipe)
    group = source.group(item.key.directory)
    ledger = Ledger()
    chunks = yield from chunks_of(source, group, manifest, ledger)
    new_group = target.group(register_key(target.keys, entry.path).directory)
    storing = _Storing(target, new_group, stages, manifest.facts, set(new_group.nodes))

    def job(slot: Slot, index: int, each: Source) -> Operation[None]:
        yield from fetch_chunk(source, each, slot, ledger, _keep)
        plain = Plain(slot.view("plain", each.chunk.plain_size))
        stripe = yield from work(partial(pipeline.make_stripe, stages, target.keys, slot, plain))
        yield from storing.store(index, stripe)
        progress(each.chunk.plain_size)

    sources = enumerate(sources_of(source, group, manifest, chunks))
    yield from parallel((partial(job, index=index, each=each) for index, each in sources), slots)
    new = [storing.chunks[index] for index in range(len(chunks))]
    copy_of = evolve(manifest, chunks=tuple(new), listed=False, chunks_digest=chunks_digest(new))
    claimed = new
    encoded = encode_chunks(new)
    if len(encoded) > limits.CHUNK_LIST_INLINE_SIZE_MAX:
        listed = yield from _store_list(storing, encoded)
        copy_of = evolve(copy_of, chunks=tuple(listed), listed=True)
        claimed = [*new, *listed]
    return _Body(
        evolve(entry, manifest=copy_of, previous=b""),
        storing.claims(claimed),
        frozenset(storing.holders),
        storing.threshold(claimed) if claimed else 0,
    )


def _keep(_plain: memoryview) -> None:
    """Leave a chunk where it was opened: in its slot."""


def _store_list(storing: _Storing, encoded: bytes) -> Operation[list[Chunk]]:
    """Store a chunk list as chunks of its own and return them."""
    listed: list[Chunk] = []
    for offset in range(0, len(encoded), limits.CHUNK_SIZE):
        plain = Plain(memoryview(encoded)[offset : offset + limits.CHUNK_SIZE])
        stripe = yield from work(
            partial(pipeline.make_stripe, storing.stages, storing.target.keys, Slot(), plain)
        )
        yield from storing.store(-1, stripe)
        listed.append(storing.chunks.pop(-1))
    return listed


def _write(target: Vault, pairs: Sequence[tuple[_Body, Found]], copied: Copied) -> Operation[None]:
    """Write entries into the target.

    Raises:
        QuorumError, SpaceError, UnknownOutcomeError, IncompleteError: the first error.
    """
    changes = []
    for body, _ in pairs:
        path = body.entry.path
        proposal = Proposal(body.entry, body.claims, body.holders, body.threshold)
        changes.append(Change(register_key(target.keys, path), path, partial(_always, proposal)))
    for outcome in (yield from change_registers(target, changes)).values():
        if isinstance(outcome, DfsError):
            raise outcome
        if not outcome.safe:
            raise IncompleteError(
                "a file was copied, but shares of it were lost before", next_step="Run it again."
            )
    copied.entries += len(pairs)
    copied.size += sum(body.entry.size for body, _ in pairs)


def _always(proposal: Proposal, _current: Entry | None) -> Proposal:
    """Propose it, whatever is there: nobody else works in the target yet."""
    return proposal


def bury(target: Vault, unwanted: Sequence[Found]) -> Operation[int]:
    """Put tombstones over what the target holds, or may come to hold, and the source does not any more.

    A copy of a file that was removed since may lie on a node that is away now: over a tombstone it never
    comes back. Folders go last, the deepest first. Returns how many.

    Raises:
        QuorumError, UnknownOutcomeError.
    """
    by_depth: dict[int, list[Change]] = {}
    for item in unwanted:
        path = item.entry.path if item.entry is not None else ""
        tombstone = Entry(path, EntryKind.TOMBSTONE, Version(target.entropy(limits.OPERATION_ID_SIZE)))
        change = Change(item.key, path, partial(_always, Proposal(tombstone)), ballot_after(item))
        depth = path.count("/") if _is_folder(item) else limits.PATH_DEPTH_MAX + 1
        by_depth.setdefault(depth, []).append(change)
    for depth in sorted(by_depth, reverse=True):
        for outcome in (yield from change_registers(target, by_depth[depth])).values():
            if isinstance(outcome, DfsError):
                raise outcome
    return len(unwanted)
