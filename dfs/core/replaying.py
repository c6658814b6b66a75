"""Bringing nodes up to date: registers that a node missed or lost are replayed as the others hold them.

Pure operations. Only chosen values travel, under their own ballots; nothing is decided anew, so a second run
finds nothing to do. A healer has no keys: for it a value is chosen when W nodes hold it, or when more nodes
than may lie say that its writer confirmed it. Rules: docs/formats.md section 7.1; why they are safe:
docs/decisions/0006-lost-state.md.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from dfs.core import bulk_rows, limits, messages, register
from dfs.core.believing import proven
from dfs.core.bulk_rows import ReplayItem, RowState
from dfs.core.consensus import (
    ACCEPT_ROWS_SIZE_MAX,
    CLAIMS_INLINE_SIZE_MAX,
    Change,
    Changed,
    Proposal,
    change_registers,
)
from dfs.core.effects import Answers, Operation, Reply, Send, ask
from dfs.core.encoding import chop
from dfs.core.errors import NodeError, RemoteProtocolError
from dfs.core.folders import ballot_after
from dfs.core.generations import view_of
from dfs.core.keys import WRAP_REGISTER, confirm_tag
from dfs.core.manifest import open_entry
from dfs.core.quorum import quorum_of
from dfs.core.reading import Found as Read, Page, decide, list_page, read_registers
from dfs.core.records import define, evolve, field, frozen
from dfs.core.register import Memory, Reading, Verdict
from dfs.core.transfer import Group, Vault, claims_of_row
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Claim,
    DirectoryId,
    Entry,
    EntryKind,
    NodeId,
    RegisterKey,
    RegisterRow,
    VaultState,
    Version,
)

ATTEMPT_COUNT: Final = 3  # how often a page is read again after completing what is on it
TAKEN: Final = frozenset({messages.ACCEPTED, messages.OWING})


@frozen
class Due:
    """A register to replay: the chosen row (None: nothing is chosen), its holders, and who lacks it.

    ``promised``: the highest promise seen, for nodes that lost theirs.
    """

    key: RegisterKey
    row: RegisterRow | None
    holders: tuple[NodeId, ...]
    lacking: tuple[NodeId, ...]
    promised: Ballot


@define
class Found:
    """What is to be done about a directory. ``undecided``: registers nobody can replay now.

    ``forgettable``: tombstones to drop, with the nodes that still hold them. ``claiming``: registers of which
    some node lacks shares, with those who can tell the claims. ``absent``: nodes that did not answer.
    """

    directory: DirectoryId
    due: list[Due] = field(factory=list)
    undecided: list[RegisterKey] = field(factory=list)
    forgettable: list[tuple[RegisterKey, Ballot, tuple[NodeId, ...]]] = field(factory=list)
    claiming: list[tuple[RegisterKey, RegisterRow, tuple[NodeId, ...]]] = field(factory=list)
    floor: Ballot = NO_BALLOT
    absent: set[NodeId] = field(factory=set)
    view: Vault | None = None  # under the keys of its own generation


def directories_of(vault: Vault) -> Operation[tuple[set[DirectoryId], dict[NodeId, int]]]:
    """Return the directories that any node holds something of, and the marks of those that told them all."""
    found: set[DirectoryId] = set()
    after: dict[NodeId, bytes] = {node.node_id: b"" for node in vault.roster.nodes}
    complete: dict[NodeId, int] = {}

    def take(node: NodeId, reply: Reply) -> None:
        told = reply.response
        if not isinstance(told, messages.DirectoriesReply):
            raise RemoteProtocolError("no answer to a DIRECTORIES")
        last = told.directories[-1].directory if told.directories else b""
        if told.more and last <= asked[node]:
            raise RemoteProtocolError("directories that do not go on")
        found.update(item.directory for item in told.directories)
        if told.more:
            after[node] = last
        else:
            complete[node] = reply.mark

    while after:
        asked, after = after, {}
        sends = [
            Send(node, node, messages.Directories(vault.roster_digest, last)) for node, last in asked.items()
        ]
        yield from ask(sends, take=take, quick=True)
    return found, complete


# --- What is due --------------------------------------------------------------------------------------------


def survey(vault: Vault, directory: DirectoryId) -> Operation[Found]:
    """Return what nodes of a directory's group lack, completing values that an owner can complete.

    Raises:
        QuorumError: no node answers.
    """
    if directory == WRAP_REGISTER.directory:  # what lies there is under other keys
        vault = evolve(vault, keyless=True)
    elif vault.others:
        vault = (yield from view_of(vault, directory)) or vault
    group = vault.group(directory)
    found = Found(directory, view=vault)
    after, more = b"", True
    while more:
        page = yield from list_page(vault, group, directory, after)
        for _ in range(ATTEMPT_COUNT):
            undecided = [
                key for key, states in _registers(directory, page) if not _settled(vault, group, key, states)
            ]
            if not undecided or vault.keyless:
                break
            read = yield from read_registers(vault, undecided, wait_all=True)  # which completes them
            yield from _bury(vault, [item for item in read.values() if _is_excluded(item)])
            page = yield from list_page(vault, group, directory, after)
        rows = yield from _below_floors(vault, group, directory, page)
        for key, states in _registers(directory, page):
            _judge(vault, group, found, key, _valued(states, rows[key]) if key in rows else states)
        counted = [floor for node, floor in page.floors.items() if node in vault.counted]
        found.floor = max([found.floor, *counted])
        found.absent.update(set(group.nodes) - page.floors.keys())
        after, more = page.after, page.more
    return found


def _below_floors(
    vault: Vault, group: Group, directory: DirectoryId, page: Page
) -> Operation[dict[RegisterKey, RegisterRow]]:
    """Return those rows with their values that some nodes have below their floor: are they tombstones?"""
    if vault.keyless or directory == WRAP_REGISTER.directory:
        return {}
    keys = []
    for key, states in _registers(directory, page):
        top = _reading(vault, group, key, states).top
        if top is not None and not top.value and any(_is_above(state, top) for state in states.values()):
            keys.append(key)
    if not keys:
        return {}
    read = yield from read_registers(vault, keys, wait_all=True)
    return {key: item.row for key, item in read.items() if item.row is not None}


def _valued(states: Mapping[NodeId, RowState], read: RegisterRow) -> dict[NodeId, RowState]:
    """Return the states with the value where that was read alone: only by it a tombstone is known."""
    return {
        node: evolve(state, row=_with_value(state.row, read.value)) if state.row is not None else state
        for node, state in states.items()
    }


def _is_above(state: RowState, top: RegisterRow) -> bool:
    """Return whether a node has nothing in the place of a row, and takes nothing so old any more."""
    holds = state.row is not None and bool(state.row.accepted)
    return not state.corrupt and not holds and state.floor >= top.accepted


def _is_excluded(item: Read) -> bool:
    """Return whether a register holds nothing, though some node has a value of it that was never chosen."""
    if item.entry is not None or item.stale or item.error is not None or item.row is None:
        return False
    return not register.is_tombstone(item.row)


def _bury(vault: Vault, excluded: Sequence[Read]) -> Operation[None]:
    """Write tombstones over values that were never chosen and never can be.

    Else they stay undecided for ever, and what they claim is kept.
    """

    def change(item: Read, row: RegisterRow) -> Change:
        path = open_entry(vault.keys.entry, item.key, row).path
        tombstone = Entry(path, EntryKind.TOMBSTONE, Version(vault.entropy(limits.OPERATION_ID_SIZE)))

        def decide(current: Entry | None) -> Proposal | None:
            return Proposal(tombstone) if current is None else None

        return Change(item.key, path, decide, ballot_after(item))

    changes = [change(item, item.row) for item in excluded if item.row is not None]
    if changes:
        yield from change_registers(vault, changes)


def _registers(directory: DirectoryId, page: Page) -> Iterator[tuple[RegisterKey, Mapping[NodeId, RowState]]]:
    return ((RegisterKey(directory, name), states) for name, states in page.rows.items())


def _reading(vault: Vault, group: Group, key: RegisterKey, states: Mapping[NodeId, RowState]) -> Reading:
    """Return what is chosen; without keys the word of more than r nodes stands for the confirm tag."""
    reading = decide(vault, group, key, states, final=True)
    if reading.verdict is not Verdict.COMPLETE or not vault.keyless:
        return reading
    told = [node for node, row in reading.holders.items() if row.confirmed and node in vault.counted]
    chosen = len(told) > group.quorum.tolerance
    return Reading(Verdict.ANSWER, reading.top, reading.holders) if chosen else reading


def _settled(vault: Vault, group: Group, key: RegisterKey, states: Mapping[NodeId, RowState]) -> bool:
    return _reading(vault, group, key, states).verdict is Verdict.ANSWER


def _judge(
    vault: Vault,
    group: Group,
    found: Found,
    key: RegisterKey,
    states: Mapping[NodeId, RowState],
) -> None:
    """Note what is to be done about one register."""
    reading = _reading(vault, group, key, states)
    if reading.verdict is not Verdict.ANSWER:
        found.undecided.append(key)
        return
    top = reading.top
    if top is not None:
        top = _best_row(vault, group, key, reading)
        _note_shares(found, key, reading)
    promised = _promised(vault, states, top)
    lacking = tuple(node for node, state in states.items() if _lacks(vault, node, state, top, promised))
    if lacking:
        found.due.append(Due(key, top, tuple(reading.holders), lacking, promised))
    if not vault.keyless:
        _note_forgettable(vault, group, found, key, states, top)


def _promised(vault: Vault, states: Mapping[NodeId, RowState], top: RegisterRow | None) -> Ballot:
    """Return the highest plausible promise: two nodes with one beyond that would stop every writer."""
    told = [state.row.promised for node, state in states.items() if state.row and node in vault.counted]
    expected = register.counter_of(top.accepted) if top is not None else 0
    return max((ballot for ballot in told if not register.jumps(ballot, expected)), default=NO_BALLOT)


def _best_row(vault: Vault, group: Group, key: RegisterKey, reading: Reading) -> RegisterRow:
    """Return the chosen row with its value and the confirmation that counts.

    An owner confirms what nobody did: else the claims of older values are never released. It is safe where
    nothing is claimed, or where all nodes hold all their shares by now.
    """
    rows = list(reading.holders.values())
    confirmed = [row for row in rows if (proven(vault, key, row) or vault.keyless) and row.confirmed]
    best = max(confirmed or rows, key=lambda row: row.safe)
    value = max((row.value for row in rows), key=len)
    if vault.keyless or key.directory == WRAP_REGISTER.directory:
        return (
            evolve(best, value=value) if confirmed else evolve(best, value=value, confirmed=b"", safe=False)
        )
    whole_count = sum(1 for row in rows if not row.owed_count and not row.corrupt_count)
    safe = (bool(confirmed) and best.safe) or not best.claim_set or whole_count == len(group.nodes)
    tag = confirm_tag(vault.keys, key, best.accepted, best.digest)
    return evolve(best, value=value, confirmed=tag, safe=safe)


def _lacks(vault: Vault, node: NodeId, state: RowState, top: RegisterRow | None, promised: Ballot) -> bool:
    """Return whether a node is to be told of a register. A healer may tell those that do not count only."""
    row = state.row
    returning = node in vault.returning
    if vault.keyless and not returning and not state.corrupt:
        return False
    if state.corrupt or (returning and promised and (row is None or row.promised < promised)):
        return True
    if top is None or (row is not None and row.accepted > top.accepted) or _has_forgotten(state, top):
        return False
    if row is None or row.accepted < top.accepted:
        return True
    return bool(top.confirmed and row.confirmed != top.confirmed) or (top.safe and not row.safe)


def _has_forgotten(state: RowState, top: RegisterRow) -> bool:
    """Return whether a node may have forgotten a tombstone: it is as good there as on those that hold it."""
    return register.is_tombstone(top) and _is_above(state, top)


def _note_shares(found: Found, key: RegisterKey, reading: Reading) -> None:
    lacking = [node for node, row in reading.holders.items() if row.owed_count or row.corrupt_count]
    if lacking and reading.top is not None:
        found.claiming.append((key, reading.top, tuple(reading.holders)))


def _note_forgettable(
    vault: Vault,
    group: Group,
    found: Found,
    key: RegisterKey,
    states: Mapping[NodeId, RowState],
    top: RegisterRow | None,
) -> None:
    """Note tombstones that all n nodes hold confirmed, or that others have forgotten already."""
    everywhere = len(states) == len(group.nodes) and vault.counted.issuperset(group.nodes)
    if not everywhere:
        return
    rows = {node: state.row for node, state in states.items() if state.row and state.row.accepted}
    if top is not None:
        same = [
            row for row in rows.values() if row.accepted == top.accepted and row.confirmed == top.confirmed
        ]
        forgotten_count = sum(1 for state in states.values() if _has_forgotten(state, top))
        everywhere = len(same) + forgotten_count == len(group.nodes)
        if register.is_tombstone(top) and top.confirmed and everywhere:
            found.forgettable.append((key, top.accepted, tuple(rows)))
        return
    counting = {node: state for node, state in states.items() if not state.corrupt}
    for ballot, memory in register.memories(counting, group.quorum).items():
        if memory is Memory.FORGOTTEN:
            holders = tuple(node for node, row in rows.items() if row.accepted == ballot)
            found.forgettable.append((key, ballot, holders))


# --- Replaying ----------------------------------------------------------------------------------------------


@define
class Replayed:
    """``count``: rows that nodes took over. ``errors``: why some did not. ``marks``: what nodes told last.

    ``refused``: registers whose ballots some nodes take no more, with those nodes. ``obstacle``: the highest
    ballot that stood in the way.
    """

    count: int = 0
    refused: dict[RegisterKey, set[NodeId]] = field(factory=dict)
    obstacle: Ballot = NO_BALLOT
    errors: dict[NodeId, Exception] = field(factory=dict)
    marks: dict[NodeId, int] = field(factory=dict)

    def take(self, other: "Replayed") -> None:
        """Add what was done elsewhere."""
        self.count += other.count
        self.errors.update(other.errors)
        for node, mark in other.marks.items():
            self.marks[node] = max(mark, self.marks.get(node, 0))

    def heard(self, answers: Answers) -> None:
        """Take over the marks and errors of some answers."""
        self.errors.update(answers.errors)
        for node, reply in answers.replies.items():
            self.marks[node] = max(reply.mark, self.marks.get(node, 0))


def replay(vault: Vault, found: Found) -> Operation[Replayed]:
    """Tell nodes of the registers they lack, then of the floor, and drop tombstones all of them hold."""
    done = Replayed()
    vault = vault if found.view is None or vault.keyless else evolve(vault, keys=found.view.keys)
    for part in _parts(found.due):
        rows = yield from _rows_with_values(vault, part)
        claims = yield from _claims_of_rows(vault, part, rows, done)
        items = {due.key: _item(due, rows[due.key], claims[due.key]) for due in part if due.key in claims}
        yield from _stage(part, items, claims, done)
        yield from _send(vault, part, items, done)
    if done.refused and not vault.keyless:
        yield from _renew(vault, done)
    for node in {node for nodes in done.refused.values() for node in nodes}:
        done.errors[node] = NodeError("some entries could not be brought up to date there")
    yield from _raise_floor(vault, found, done)
    yield from _forget(vault, found)
    return done


def _parts(due: Sequence[Due]) -> Iterator[Sequence[Due]]:
    """Yield as many at a time as one request and its rows surely hold."""
    count = max(1, min(limits.REGISTER_COUNT, ACCEPT_ROWS_SIZE_MAX // limits.ENTRY_SIZE_MAX))
    return (due[first : first + count] for first in range(0, len(due), count))


def _rows_with_values(vault: Vault, part: Sequence[Due]) -> Operation[dict[RegisterKey, RegisterRow | None]]:
    """Return the row of each, its value read from a holder where it did not come with the list."""
    rows: dict[RegisterKey, RegisterRow | None] = {due.key: due.row for due in part}
    wanted: dict[NodeId, list[Due]] = {}

    def take(node: NodeId, reply: Reply) -> None:
        states = bulk_rows.decode_states(reply.bulk)
        for due, state in zip(wanted[node], states, strict=False):
            same = state.row is not None and due.row is not None and state.row.digest == due.row.digest
            if same and state.row is not None and due.row is not None:
                rows[due.key] = _with_value(due.row, state.row.value)

    for position in range(max((len(due.holders) for due in part), default=0)):
        wanted = {}
        for due in part:
            row = rows[due.key]
            if row is not None and not row.value and position < len(due.holders):
                wanted.setdefault(due.holders[position], []).append(due)
        sends = [Send(node, node, _reading_of(vault, asked)) for node, asked in wanted.items()]
        yield from ask(sends, take=take, quick=True)
    return rows


def _reading_of(vault: Vault, asked: Sequence[Due]) -> messages.Read:
    keys = tuple(due.key for due in asked)
    return messages.Read(vault.roster_digest, with_values=True, with_shares=False, keys=keys)


def _with_value(row: RegisterRow, value: bytes) -> RegisterRow:
    right = register.value_digest(value, row.claim_set) == row.digest
    return evolve(row, value=value) if right else row


def _claims_of_rows(
    vault: Vault, part: Sequence[Due], rows: Mapping[RegisterKey, RegisterRow | None], done: Replayed
) -> Operation[dict[RegisterKey, tuple[Claim, ...]]]:
    """Return the claims of each row; registers whose value or claims nobody gives are left out."""
    claims: dict[RegisterKey, tuple[Claim, ...]] = {}
    for due in part:
        row = rows[due.key]
        told = () if row is None else (yield from claims_of_row(vault, due.key, row, due.holders))
        if told is None or (row is not None and not row.value):
            lost = NodeError("it does not give what it holds")
            done.errors.update(dict.fromkeys(due.holders, lost))
        else:
            claims[due.key] = told
    return claims


def _item(due: Due, row: RegisterRow | None, claims: Sequence[Claim]) -> ReplayItem:
    if row is None:
        return ReplayItem(due.key, due.promised, NO_BALLOT, b"", b"", b"", b"", b"", safe=False)
    encoded = b"".join(map(bulk_rows.encode_claim, claims))
    return ReplayItem(
        due.key,
        due.promised,
        row.accepted,
        row.value,
        row.digest,
        row.claim_set,
        encoded if len(encoded) <= CLAIMS_INLINE_SIZE_MAX else b"",
        row.confirmed,
        row.safe,
    )


def _stage(
    part: Sequence[Due],
    items: Mapping[RegisterKey, ReplayItem],
    claims: Mapping[RegisterKey, Sequence[Claim]],
    done: Replayed,
) -> Operation[None]:
    """Send claims that are too long to go with their row."""
    for due in part:
        item = items.get(due.key)
        if item is None or not item.claim_set or item.claims:
            continue
        encoded = list(map(bulk_rows.encode_claim, claims[due.key]))
        for index, piece in enumerate(chop(encoded, ACCEPT_ROWS_SIZE_MAX)):
            request = messages.Claims(item.claim_set, index)
            done.heard((yield from ask([Send(node, node, request, (piece,)) for node in due.lacking])))


def _send(
    vault: Vault, part: Sequence[Due], items: Mapping[RegisterKey, ReplayItem], done: Replayed
) -> Operation[None]:
    wanted: dict[NodeId, list[ReplayItem]] = {}
    for due in part:
        for node in due.lacking:
            if due.key in items:
                wanted.setdefault(node, []).append(_for_node(vault, node, items[due.key]))

    batches: Mapping[NodeId, Sequence[ReplayItem]] = {}

    def take(node: NodeId, reply: Reply) -> None:
        results = reply.response.results if isinstance(reply.response, messages.AcceptReply) else ()
        if len(results) != len(batches[node]):
            raise RemoteProtocolError("a REPLAY reply of another length")
        done.count += sum(1 for result in results if result.status in TAKEN)
        for item, result in zip(batches[node], results, strict=True):
            if result.status not in TAKEN:
                done.refused.setdefault(item.key, set()).add(node)
                if not register.jumps(result.ballot, register.counter_of(item.ballot)):
                    done.obstacle = max(done.obstacle, result.ballot)

    for first in range(0, max(map(len, wanted.values()), default=0), limits.REGISTER_COUNT):
        batches = {node: rows[first : first + limits.REGISTER_COUNT] for node, rows in wanted.items()}
        sends = [
            Send(
                node, node, messages.Replay(vault.roster_digest, len(rows)), (bulk_rows.encode_replays(rows),)
            )
            for node, rows in batches.items()
            if rows
        ]
        answers = yield from ask(sends, take=take)
        done.errors.update(answers.errors)


def _renew(vault: Vault, done: Replayed) -> Operation[None]:
    """Write values again under new ballots that nodes refused under the chosen ones.

    A node that missed a value, but not the removal of another file of the directory, has a floor above its
    ballot; what lies below a floor must not come back, because it may have been forgotten.
    """

    def again(current: Entry | None) -> Proposal | None:
        return None if current is None else Proposal(current, claims=None)

    keys = [key for key in done.refused if key.directory != WRAP_REGISTER.directory]
    outcomes = yield from change_registers(vault, [Change(key, "", again, done.obstacle) for key in keys])
    for key, outcome in outcomes.items():
        if isinstance(outcome, Changed):
            done.count += len(done.refused[key] & outcome.accepted)
            done.refused[key] -= outcome.accepted


def _for_node(vault: Vault, node: NodeId, item: ReplayItem) -> ReplayItem:
    """A node that counts keeps its own promises; only one that lost some takes over those of others."""
    return item if node in vault.returning else evolve(item, promised=NO_BALLOT)


def _raise_floor(vault: Vault, found: Found, done: Replayed) -> Operation[None]:
    nodes = [node for node in vault.group(found.directory).nodes if node in vault.returning]
    if not found.floor or not nodes:
        return
    request = messages.RaiseFloors(vault.roster_digest, (messages.Floor(found.directory, found.floor),))
    done.heard((yield from ask([Send(node, node, request) for node in nodes])))


def _forget(vault: Vault, found: Found) -> Operation[None]:
    wanted: dict[NodeId, list[messages.PrepareItem]] = {}
    for key, ballot, nodes in found.forgettable:
        for node in nodes:
            wanted.setdefault(node, []).append(messages.PrepareItem(key, ballot))
    for node, items in wanted.items():
        for first in range(0, len(items), limits.REGISTER_COUNT):
            part = tuple(items[first : first + limits.REGISTER_COUNT])
            yield from ask([Send(node, node, messages.Forget(vault.roster_digest, part))])


# --- Coming back --------------------------------------------------------------------------------------------


def end_join(vault: Vault, marks: Mapping[NodeId, int]) -> Operation[tuple[frozenset[NodeId], Answers]]:
    """Make vaults count again that everything was replayed into; returns those that do, and what all said.

    ``marks``: what each told last while it was replayed into. One that lost state since then refuses.
    """
    answers = yield from ask(
        [Send(node, node, messages.EndJoin(vault.roster_digest, mark)) for node, mark in marks.items()]
    )
    joined = frozenset(
        node
        for node, reply in answers.replies.items()
        if isinstance(reply.response, messages.StateReply) and reply.response.state is VaultState.ACTIVE
    )
    return joined, answers


def gap(vault: Vault, told: Collection[NodeId], surveys: Sequence[Found]) -> str:
    """Return why not everything that was ever chosen can have been replayed; "" when it can.

    Whatever was chosen is held by W nodes of its group, one of which may have lost it. So of those that count
    R of each group must name their directories, and list them.
    """
    if any(found.undecided for found in surveys):
        return "entries are undecided"
    size = vault.roster.group_size
    silent = len(vault.roster.nodes) - len(vault.counted.intersection(told))
    if silent > size - quorum_of(size, vault.roster.tolerance).read:
        return "too few nodes answer"
    for found in surveys:
        group = vault.group(found.directory)
        if len(vault.counted.intersection(group.nodes) - found.absent) < group.quorum.read:
            return "too few nodes answer"
    return ""
