"""Renaming and copying: the entry under the new name first, then a tombstone; pure operations.

After a crash in between both names are there, never none. Inside a group no share moves: the new entry
claims those of the old one. Between groups sealed shares are copied as they are; nothing is encrypted again.
A folder is one rename for each file below it; a second run goes on where the first one ended.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from dfs.core import limits, pipeline
from dfs.core.consensus import Change, Proposal, change_registers
from dfs.core.effects import Operation, parallel
from dfs.core.errors import (
    ConflictError,
    DfsError,
    IncompleteError,
    NotFoundError,
    QuorumError,
    RollbackError,
    UnknownOutcomeError,
)
from dfs.core.folders import ballot_after, ensure_folders, remove_entries, remove_folder, stat, walk
from dfs.core.keys import register_key
from dfs.core.paths import ancestors, printable
from dfs.core.pipeline import Slot
from dfs.core.quorum import share_threshold
from dfs.core.reading import Found, read_registers
from dfs.core.records import evolve, frozen
from dfs.core.repairing import Result, Task, rebuild
from dfs.core.transfer import Group, Ledger, Vault, chunks_of, claims_on
from dfs.core.types import Claim, Entry, EntryKind, NodeId, Version


@frozen
class Terms:
    """``replace``: a file at the new path gives way. ``if_version``: of the old path, or ConflictError."""

    replace: bool = False
    if_version: Version | None = None


ANY: Final = Terms()


def rename(
    vault: Vault, old: str, new: str, slots: Sequence[Slot], terms: Terms = ANY
) -> Operation[list[str]]:
    """Rename a file or a folder and return the new paths, folders first.

    Raises:
        NotFoundError: nothing is there. ConflictError: something is at the new path already. QuorumError,
            UnknownOutcomeError, IncompleteError: some files may have both names.
    """
    moved, is_folder = yield from _second_names(vault, old, new, slots, terms, moved=True)
    if is_folder:
        yield from remove_folder(vault, old)
    return moved


def copy(vault: Vault, old: str, new: str, slots: Sequence[Slot], terms: Terms = ANY) -> Operation[list[str]]:
    """Give a file, or all below a folder, second names and return those, folders first.

    Nothing is encrypted or, inside a group, sent again: both names claim the same shares.
    Raises: as `rename`; what is copied stays copied.
    """
    copied, _ = yield from _second_names(vault, old, new, slots, terms, moved=False)
    return copied


def _second_names(
    vault: Vault, old: str, new: str, slots: Sequence[Slot], terms: Terms, *, moved: bool
) -> Operation[tuple[list[str], bool]]:
    """Return the new paths, and whether it is a folder; files that are ``moved`` have lost their old name."""
    if f"{new}/".startswith(f"{old}/"):
        deed = "moved" if moved else "copied"
        raise ConflictError(f"{printable(old)} cannot be {deed} into itself", kept="Nothing was changed.")
    item = yield from stat(vault, old)
    _require_version(item.entry, terms.if_version)
    below = (yield from walk(vault, old)) if item.entry.kind is EntryKind.FOLDER else []
    entries = [item.entry, *(below_item.entry for below_item in below)]
    paths = [new + entry.path[len(old) :] for entry in entries]
    yield from _make_folders(
        vault,
        [
            *ancestors(new),
            *(path for path, entry in zip(paths, entries, strict=True) if entry.kind is EntryKind.FOLDER),
        ],
    )
    second_name = _rename_file if moved else copy_entry
    each = evolve(terms, if_version=None) if below else terms
    for path, entry in zip(paths, entries, strict=True):
        if entry.kind is EntryKind.FILE:
            yield from second_name(vault, entry.path, path, slots, each)
    return paths, item.entry.kind is EntryKind.FOLDER


def _require_version(entry: Entry, wanted: Version | None) -> None:
    if wanted is not None and entry.version != wanted:
        raise ConflictError(
            f"{printable(entry.path)} is at version {entry.version.hex()}, not {wanted.hex()}",
            kept="Nothing was changed.",
        )


def _make_folders(vault: Vault, paths: Sequence[str]) -> Operation[None]:
    ensured = yield from ensure_folders(vault, paths)
    for error in ensured.errors.values():
        raise error


def _rename_file(vault: Vault, old: str, new: str, slots: Sequence[Slot], terms: Terms) -> Operation[Entry]:
    entry = yield from copy_entry(vault, old, new, slots, terms)
    yield from drop_name(vault, old, entry.version)
    return entry


def copy_entry(
    vault: Vault, old: str, new: str, slots: Sequence[Slot], terms: Terms = ANY
) -> Operation[Entry]:
    """Put a file under a second name and return its entry under the first. Raises: as `rename`."""
    key, new_key = register_key(vault.keys, old), register_key(vault.keys, new)
    found = (yield from read_registers(vault, [key], wait_all=True))[key]
    entry = found.entry
    if found.error is not None:
        raise found.error
    if found.stale:
        raise QuorumError(f"cannot say what {printable(old)} is: too few nodes answer")
    if entry is None or entry.kind is not EntryKind.FILE:
        raise NotFoundError(f"{printable(old)} does not exist")
    _require_version(entry, terms.if_version)
    there = (yield from read_registers(vault, [new_key]))[new_key]
    if isinstance(there.error, RollbackError):
        raise there.error
    version = Version(vault.entropy(limits.OPERATION_ID_SIZE))
    copy = evolve(entry, path=new, version=version)
    source, target = vault.group(key.directory), vault.group(new_key.directory)
    claims, holders = yield from _claims_in(vault, source, target, found, slots)
    threshold = max(
        (share_threshold(claim.geometry, claim.nodes, target.quorum) for claim in claims), default=0
    )
    if claims and len(holders) < threshold:
        raise IncompleteError(
            f"{printable(old)}: {len(holders)} nodes hold their shares, {threshold} needed",
            kept="Nothing was changed.",
            next_step=f"Bring its nodes back, or repair it: dfs repair {printable(old)}",
        )

    def decide(current: Entry | None) -> Proposal | None:
        if current is not None and current.version != version:
            if _same_file(current, entry):  # an earlier run was cut off here
                return None
            if not terms.replace or current.kind is not EntryKind.FILE:
                raise ConflictError(f"{printable(new)} exists already", kept="Nothing was changed.")
        return Proposal(copy, claims, holders, threshold)

    outcome = (yield from change_registers(vault, [Change(new_key, new, decide, ballot_after(there))]))[
        new_key
    ]
    if isinstance(outcome, DfsError):
        raise outcome
    if not outcome.safe:
        raise UnknownOutcomeError(
            f"{printable(new)} was written, but shares were lost before: both names are kept"
        )
    return entry


def _same_file(one: Entry, other: Entry) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("kind", "size", "manifest", "content"))


def drop_name(vault: Vault, old: str, version: Version) -> Operation[None]:
    """Remove the first name, if its file is still the one that was copied."""
    outcome = (yield from remove_entries(vault, [old], kind=EntryKind.FILE, if_version=version))[old]
    if isinstance(outcome, DfsError):
        raise outcome


def _claims_in(
    vault: Vault, source: Group, target: Group, found: Found, slots: Sequence[Slot]
) -> Operation[tuple[tuple[Claim, ...], frozenset[NodeId]]]:
    """Return the claims of a file in the target's group, and the nodes there that hold all their shares."""
    manifest = found.entry.manifest if found.entry is not None else None
    if manifest is None:
        return (), frozenset()
    chunks = yield from chunks_of(vault, source, manifest, Ledger())
    stages = vault.stages_of(manifest.recipe)
    everything = (*chunks, *(manifest.chunks if manifest.listed else ()))
    claims = claims_on(vault, target, stages, manifest.facts, everything)
    if source.nodes == target.nodes:
        rows = found.rows.items()
        return claims, frozenset(node for node, row in rows if not row.owed_count and not row.corrupt_count)
    before = {claim.stripe: claim for claim in claims_on(vault, source, stages, manifest.facts, everything)}
    by_stripe = {pipeline.name_stripe(stages, vault.keys, chunk): chunk for chunk in everything}
    result = Result()
    failed: set[NodeId] = set()

    def job(slot: Slot, claim: Claim) -> Operation[None]:
        wanted: dict[NodeId, set[int]] = {}
        for index, nodes in enumerate(vault.nodes_of(claim.nodes)):
            for node in nodes:
                wanted.setdefault(node, set()).add(index)
        task = Task(before[claim.stripe], wanted, (stages, by_stripe[claim.stripe]), copying=True)
        stored = yield from rebuild(vault, task, slot, result)
        failed.update(wanted.keys() - stored)

    yield from parallel([partial(job, claim=claim) for claim in claims], slots)
    return claims, frozenset(target.nodes) - failed
