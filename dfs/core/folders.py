"""Folders: making, listing and removing; pure operations.

A folder is a marker entry in its parent. LIST merges what at least R nodes say, hides tombstones and
completes every value that is not proven. Recursive commands are not atomic.
"""

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypedDict

from dfs.core import limits
from dfs.core.consensus import (
    Change,
    Changed,
    Outcomes,
    Proposal,
    change_registers,
)
from dfs.core.effects import Operation
from dfs.core.errors import (
    ConflictError,
    DfsError,
    InsecureError,
    NotFoundError,
    QuorumError,
    RollbackError,
    UnknownOutcomeError,
)
from dfs.core.keys import directory_id, register_key
from dfs.core.paths import ancestors, printable
from dfs.core.pipeline import Stages, name_stripe, place_stripe, some_place, stripe_size
from dfs.core.quorum import share_threshold, survives
from dfs.core.reading import Found, Page, decide, found_in, list_page, read_registers
from dfs.core.records import evolve, field, frozen
from dfs.core.refusals import require_open
from dfs.core.register import Verdict, counter_of, jumps
from dfs.core.transfer import Group, Vault
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    DirectoryId,
    Entry,
    EntryKind,
    Manifest,
    NodeId,
    RegisterKey,
    Version,
)

# --- Making -------------------------------------------------------------------------------------------------


def require_quorum(vault: Vault, found: Iterable[Found], stages: Stages | None, *, degraded: bool) -> None:
    """Check before any work that writes can succeed: max(R, W, H) nodes of each group answer.

    Raises:
        QuorumError: too few do. BusyError: nobody may write now.
    """
    require_open(vault)
    answered = dict.fromkeys((vault.group(state.key.directory), state.answered) for state in found)
    for group, nodes in answered:
        needed = _needed(vault, group, stages, degraded=degraded)
        there = len(vault.counted & nodes)
        if there < needed:
            away = [node for node in group.nodes if node not in nodes]
            behind = [node for node in group.nodes if node in nodes and node not in vault.counted]
            reasons = {"no answer": away, "to be brought up to date by dfs repair": behind}
            told = "; ".join(f"{reason}: {vault.named(names)}" for reason, names in reasons.items() if names)
            raise QuorumError(f"{there} of {len(group.nodes)} nodes reachable, {needed} needed ({told})")


def _needed(vault: Vault, group: Group, stages: Stages | None, *, degraded: bool) -> int:
    """Return how many nodes of a group a write needs; one of ``stages`` also needs its shares kept."""
    quorum = group.quorum
    needed = max(quorum.read, quorum.write)
    if stages is None or degraded:
        return needed
    nodes = vault.roster.nodes
    facts, stripe = some_place(stages, [nodes[index] for index in group.indexes])
    rows = place_stripe(stages, facts, stripe, group.indexes, nodes)
    return max(needed, share_threshold(stages.recipe.geometry, rows, quorum))


def _marker(vault: Vault, path: str) -> Entry:
    return Entry(path, EntryKind.FOLDER, Version(vault.entropy(limits.OPERATION_ID_SIZE)), mode=0o700)


@frozen
class Ensured:
    """What became of folders that were asked for: those ``made`` now, and why others cannot be had."""

    made: list[str] = field(factory=list)
    errors: dict[str, DfsError] = field(factory=dict)

    def error_above(self, path: str) -> DfsError | None:
        """Return why a folder above a path cannot be had, None if all can."""
        return next((self.errors[folder] for folder in ancestors(path) if folder in self.errors), None)


def ensure_folders(
    vault: Vault, paths: Sequence[str], found: Mapping[RegisterKey, Found] | None = None
) -> Operation[Ensured]:
    """Make the markers that are missing, outermost first. ``found``: the markers, if they were read already.

    The errors: ConflictError (one is a file), QuorumError, UnknownOutcomeError.
    """
    ensured = Ensured()
    keys = {path: register_key(vault.keys, path) for path in paths}
    if found is None:
        found = yield from read_registers(vault, list(keys.values()))
    for depth in sorted({path.count("/") for path in paths}):
        markers: dict[str, Entry] = {}
        for path in paths:
            if path.count("/") == depth:
                error = ensured.error_above(path) or _obstacle(path, found[keys[path]])
                if error is not None:
                    ensured.errors[path] = error
                elif found[keys[path]].entry is None:
                    markers[path] = _marker(vault, path)
        changes = [_make_change(marker, found[keys[path]]) for path, marker in markers.items()]
        outcomes = yield from change_registers(vault, changes)
        unsure = [keys[path] for path in markers if isinstance(outcomes[keys[path]], UnknownOutcomeError)]
        there = (yield from read_registers(vault, unsure)) if unsure else {}
        for path, marker in markers.items():
            outcome = outcomes[keys[path]]
            if keys[path] in there and _is_folder(there[keys[path]]):
                continue  # whoever made it
            if isinstance(outcome, DfsError):
                ensured.errors[path] = outcome
            elif outcome.entry is not None and outcome.entry.version == marker.version:
                ensured.made.append(path)  # else somebody made it meanwhile
    return ensured


def _is_folder(found: Found) -> bool:
    sure = found.error is None and not found.stale
    return sure and found.entry is not None and found.entry.kind is EntryKind.FOLDER


def _obstacle(path: str, found: Found) -> DfsError | None:
    if found.error is None and found.entry is not None and found.entry.kind is EntryKind.FILE:
        return ConflictError(f"{printable(path)} is a file, not a folder")
    return found.error


def _make_change(marker: Entry, found: Found) -> Change:
    path = marker.path

    def decide_marker(current: Entry | None) -> Proposal | None:
        if current is None or current.version == marker.version:
            return Proposal(marker)
        if current.kind is EntryKind.FILE:
            raise ConflictError(f"{printable(path)} is a file, not a folder")
        return None

    return Change(found.key, path, decide_marker, ballot_after(found))


def ballot_after(found: Found) -> Ballot:
    """Return the highest plausible ballot seen of a register."""
    ballots = [
        row.promised for row in found.rows.values() if not jumps(row.promised, counter_of(row.accepted))
    ]
    return max([NO_BALLOT, *ballots])


def make_folder(vault: Vault, path: str, *, existing_is_fine: bool = False) -> Operation[None]:
    """Make a folder and the folders above it.

    Raises:
        ConflictError: it is there already. QuorumError, UnknownOutcomeError.
    """
    ensured = yield from ensure_folders(vault, [*ancestors(path), path])
    if path in ensured.errors:
        raise ensured.errors[path]
    if path not in ensured.made and not existing_is_fine:
        raise ConflictError(f"{printable(path)}/ already exists")


# --- Listing ------------------------------------------------------------------------------------------------


class Health(enum.Enum):
    """Whether a file can be had from the nodes that answer."""

    COMPLETE = "complete"
    DEGRADED = "degraded"
    INCOMPLETE = "incomplete"


@frozen
class Listed:
    """One name of a folder. ``node_count``: nodes that hold all they should; ``stale``: it may have changed.

    ``members``: the nodes of its group, ``holders``: those that hold all they should. ``survives``: further
    losses of any of them it bears. ``packed_size``: its bytes compressed (its plain size where the chunk list
    is stored itself, as that is not read). ``stored_size``: share bytes on the holders. ``insecure``: its
    cipher does not protect it. In a listing the entry comes without its content.
    """

    entry: Entry
    health: Health
    node_count: int
    node_total: int
    stale: bool
    holders: frozenset[NodeId] = frozenset()
    members: frozenset[NodeId] = frozenset()
    survives: int = 0
    packed_size: int = 0
    stored_size: int = 0
    insecure: bool = False


def list_folder(vault: Vault, path: str) -> Operation[list[Listed]]:
    """Return the entries of a folder, sorted by name as UTF-8; all are stale if fewer than R nodes answer.

    Raises:
        QuorumError: no node answers, or too few to say that the folder is empty. NotFoundError: there is no
            such folder. ConflictError: it is a file.
    """
    listed, sure = yield from _list(vault, path)
    if not listed and not sure:
        raise QuorumError(f"cannot say what {printable(path)}/ holds: too few nodes answer")
    return listed


def _list(vault: Vault, path: str) -> Operation[tuple[list[Listed], bool]]:
    """Return the entries of a folder, and whether enough nodes answered to say that there are no others."""
    if path:
        key = register_key(vault.keys, path)
        marker = (yield from read_registers(vault, [key]))[key]
        if marker.error is not None and marker.entry is None:
            raise marker.error
        if marker.entry is None and not marker.stale:
            raise NotFoundError(f"{printable(path)}: there is no such folder")
        if marker.entry is not None and marker.entry.kind is EntryKind.FILE:
            raise ConflictError(f"{printable(path)} is a file, not a folder")
    directory = directory_id(vault.keys, path)
    group = vault.group(directory)
    listed: list[Listed] = []

    def note(found: Sequence[Found]) -> None:  # what nodes said of each is not kept: there may be many
        listed.extend(
            _without_content(_listed(vault, group, item, item.entry))
            for item in found
            if item.entry is not None
        )

    sure = yield from visit_registers(vault, group, directory, note)
    if not sure:
        listed = [evolve(item, stale=True) for item in listed]
    return sorted(listed, key=lambda item: item.entry.path.encode()), sure


def registers_of(vault: Vault, group: Group, directory: DirectoryId) -> Operation[tuple[list[Found], bool]]:
    """Return all registers of a directory, and whether it is sure that nothing else is there.

    Raises:
        RollbackError: nodes hide or roll back what this client has seen.
    """
    found: list[Found] = []
    sure = yield from visit_registers(vault, group, directory, found.extend)
    return found, sure


def visit_registers(
    vault: Vault, group: Group, directory: DirectoryId, visit: Callable[[Sequence[Found]], None]
) -> Operation[bool]:
    """Hand over all registers of a directory, a page at a time; returns whether it is sure that nothing else
    is there.

    It is not when fewer than R nodes spoke about a part of it, or when a removal may be half-done.

    Raises:
        RollbackError: nodes hide or roll back what this client has seen.
    """
    unseen = set(vault.floors.of(directory))
    sure = True
    after = b""
    more = True
    while more:
        page = yield from list_page(vault, group, directory, after)
        found = yield from _found(vault, group, directory, page)
        _require_none_rolled_back(found)
        unseen.difference_update(item.key.name for item in found)
        sure = sure and len(vault.counted.intersection(page.floors)) >= group.quorum.read
        sure = sure and not any(item.stale and item.entry is None for item in found)
        visit(found)
        after, more = page.after, page.more
    if unseen and sure:
        missed = [RegisterKey(directory, name) for name in sorted(unseen)]
        found = list((yield from read_registers(vault, missed, wait_all=True)).values())
        _require_none_rolled_back(found)
        visit(found)
    return sure


def _require_none_rolled_back(found: Iterable[Found]) -> None:
    for item in found:
        if isinstance(item.error, RollbackError):
            raise item.error


def stat(vault: Vault, path: str) -> Operation[Listed]:
    """Return one entry. Raises: NotFoundError, QuorumError."""
    if not path:
        root = Entry("", EntryKind.FOLDER, Version(b""))
        return Listed(root, Health.COMPLETE, len(vault.counted), vault.roster.group_size, stale=False)
    key = register_key(vault.keys, path)
    found = (yield from read_registers(vault, [key], wait_all=True))[key]
    if found.entry is None and found.error is not None:
        raise found.error
    if found.entry is None and found.stale:
        raise QuorumError(f"cannot say whether {printable(path)} exists: too few nodes answer")
    if found.entry is None:
        raise NotFoundError(f"{printable(path)} does not exist")
    return _listed(vault, vault.group(key.directory), found, found.entry)


def _found(vault: Vault, group: Group, directory: DirectoryId, page: Page) -> Operation[list[Found]]:
    """Return the registers of a page, those completed that are half-written."""
    found: list[Found] = []
    unread: list[RegisterKey] = []
    for name, states in page.rows.items():
        key = RegisterKey(directory, name)
        reading = decide(vault, group, key, states, final=True)
        if reading.top is not None and (not reading.top.value or reading.verdict is Verdict.COMPLETE):
            unread.append(key)
        else:
            found.append(found_in(vault, key, reading, states))
    if unread:
        found.extend((yield from read_registers(vault, unread, wait_all=True)).values())
    return found


def _listed(vault: Vault, group: Group, found: Found, entry: Entry) -> Listed:
    whole = _set_of(
        tuple(node for node, row in found.rows.items() if not row.owed_count and not row.corrupt_count)
    )
    return Listed(
        entry=entry,
        node_count=len(whole),
        node_total=len(group.nodes),
        stale=found.stale,
        holders=whole,
        members=_set_of(group.nodes),
        packed_size=_packed_size(entry),
        insecure=_is_insecure(vault, entry),
        **standing(vault, group, entry, whole),
    )


def _packed_size(entry: Entry) -> int:
    if entry.manifest is None:
        return len(entry.content or b"")
    return entry.size if entry.manifest.listed else sum(chunk.packed_size for chunk in entry.manifest.chunks)


def _without_content(item: Listed) -> Listed:
    return evolve(item, entry=evolve(item.entry, content=None)) if item.entry.content else item


@lru_cache(maxsize=1024)
def _set_of(nodes: tuple[NodeId, ...]) -> frozenset[NodeId]:
    """Return one and the same set for the same nodes: most entries of a folder share theirs."""
    return frozenset(nodes)


def _is_insecure(vault: Vault, entry: Entry) -> bool:
    if entry.manifest is None:  # what lies in the entry itself is sealed as entries are
        return False
    try:
        return not vault.stages_of(entry.manifest.recipe).cipher.authenticated
    except InsecureError:
        return True
    except DfsError:  # a plugin is not installed
        return False


class _Standing(TypedDict):
    health: Health
    survives: int
    stored_size: int


def standing(vault: Vault, group: Group, entry: Entry, whole: Collection[NodeId]) -> _Standing:
    """Return what the nodes that hold all they should mean for an entry."""
    if entry.manifest is None:
        spare = len(vault.counted.intersection(whole)) - (group.quorum.total - group.quorum.write + 1)
        survived, stored_size = max(0, spare), 0
    else:
        survived, stored_size = _shares_standing(vault, group, entry, entry.manifest, whole)
    full = Health.COMPLETE if len(whole) == len(group.nodes) else Health.DEGRADED
    health = full if survived >= 0 else Health.INCOMPLETE
    return _Standing(health=health, survives=max(0, survived), stored_size=stored_size)


def _shares_standing(
    vault: Vault, group: Group, entry: Entry, manifest: Manifest, whole: Collection[NodeId]
) -> tuple[int, int]:
    """Return how many further losses the shares bear (-1: lost already) and what the whole nodes hold.

    A chunk list that is stored itself is not read for this: its file counts as packed to its plain size.
    """
    geometry = manifest.recipe.geometry
    spare = max(-1, len(whole) - geometry.needed)
    try:
        stages = vault.stages_of(manifest.recipe)
    except DfsError:
        return spare, 0
    share_size = sum(stripe_size(stages, chunk)[1] for chunk in manifest.chunks)
    if manifest.listed:
        share_size += entry.size // geometry.needed
    stored_size = share_size * geometry.total * stages.code.copies * len(whole) // len(group.nodes)
    if stages.code.copies == 1 and geometry.total == len(group.nodes):
        return spare, stored_size
    indexes = {index for index, node in zip(group.indexes, group.nodes, strict=True) if node in whole}
    nodes = vault.roster.nodes
    maps = {
        place_stripe(stages, manifest.facts, name_stripe(stages, vault.keys, chunk), group.indexes, nodes)
        for chunk in manifest.chunks
    }
    return min((survives(geometry, rows, indexes) for rows in maps), default=spare), stored_size


def walk(vault: Vault, path: str) -> Operation[list[Listed]]:
    """Return everything below a folder, folders before what is in them."""
    listed = yield from list_folder(vault, path)
    return (yield from _with_below(vault, listed))


def _with_below(vault: Vault, listed: Sequence[Listed]) -> Operation[list[Listed]]:
    below: list[Listed] = []
    for item in listed:
        below.append(item)
        if item.entry.kind is EntryKind.FOLDER:
            inside, _ = yield from _list(vault, item.entry.path)
            below.extend((yield from _with_below(vault, inside)))
    return below


# --- Removing -----------------------------------------------------------------------------------------------


def remove_entries(
    vault: Vault, paths: Sequence[str], *, kind: EntryKind, if_version: Version | None = None
) -> Operation[Mapping[str, Changed | DfsError]]:
    """Put tombstones on paths; each ends as Changed or with its own error (NotFoundError, ConflictError)."""
    keys = {path: register_key(vault.keys, path) for path in paths}
    found = yield from read_registers(vault, list(keys.values()), wait_all=True)
    require_quorum(vault, found.values(), None, degraded=False)
    for state in found.values():
        if isinstance(state.error, RollbackError):
            raise state.error
    changes = [_remove_change(vault, path, found[key], kind, if_version) for path, key in keys.items()]
    outcomes: Outcomes = yield from change_registers(vault, changes)
    return {path: outcomes[key] for path, key in keys.items()}


def _remove_change(
    vault: Vault, path: str, found: Found, kind: EntryKind, if_version: Version | None
) -> Change:
    version = Version(vault.entropy(limits.OPERATION_ID_SIZE))

    def decide_tombstone(current: Entry | None) -> Proposal:
        if current is None:
            raise NotFoundError(f"{printable(path)} does not exist")
        if current.kind is not kind:
            is_folder = current.kind is EntryKind.FOLDER
            raise ConflictError(
                f"{printable(path)} is a {'folder' if is_folder else 'file'}", next_step="Use rm -r."
            )
        if if_version is not None and current.version != if_version:
            raise ConflictError(
                f"{printable(path)} is at version {current.version.hex()}, not {if_version.hex()}"
            )
        return Proposal(Entry(path, EntryKind.TOMBSTONE, version))

    return Change(found.key, path, decide_tombstone, ballot_after(found))


def remove_folder(vault: Vault, path: str) -> Operation[list[str]]:
    """Remove a folder and everything below it, deepest first; returns the paths removed.

    A folder that got a new entry meanwhile is restored. Raises: the first error; what is removed stays
    removed.
    """
    below = yield from walk(vault, path)
    removed: list[str] = []
    files = [item.entry.path for item in below if item.entry.kind is EntryKind.FILE]
    if files:
        removed.extend((yield from _removed(vault, files, EntryKind.FILE)))
    folders = [item.entry.path for item in below if item.entry.kind is EntryKind.FOLDER]
    for folder in sorted([*folders, *([path] if path else [])], key=lambda folder: -folder.count("/")):
        removed.extend((yield from _removed(vault, [folder], EntryKind.FOLDER)))
        directory = directory_id(vault.keys, folder)
        found, sure = yield from registers_of(vault, vault.group(directory), directory)
        there = any(item.entry is not None for item in found)
        if there or not sure:
            restored = yield from ensure_folders(vault, [folder])
            if folder in restored.errors:
                raise restored.errors[folder]
        if there:
            raise ConflictError(f"{printable(folder)}/ got a new entry while it was removed; it is kept")
        if not sure:
            raise QuorumError(f"cannot say whether {printable(folder)}/ is empty: too few nodes answer")
    return removed


def _removed(vault: Vault, paths: Sequence[str], kind: EntryKind) -> Operation[list[str]]:
    outcomes = yield from remove_entries(vault, paths, kind=kind)
    for outcome in outcomes.values():
        if isinstance(outcome, DfsError) and not isinstance(outcome, NotFoundError):
            raise outcome
    return list(outcomes)
