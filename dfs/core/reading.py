"""Registers of many paths read at once, client side; pure operations over the group's nodes.

A read answers in one round trip when the top value is proven; otherwise it completes the value first (an
identity change, consensus.py). See register.py for the decisions and PROTOCOL for the rules.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hmac import compare_digest
from typing import Final

from dfs.core import bulk_rows, limits, messages
from dfs.core.believing import checked, proven
from dfs.core.bulk_rows import RowState, ShareBody
from dfs.core.consensus import (
    Change,
    Changed,
    Proposal,
    batches,
    change_group,
    visible,
)
from dfs.core.effects import Answers, Operation, Reply, Send, ask, together
from dfs.core.errors import DfsError, QuorumError, RemoteProtocolError, RollbackError
from dfs.core.records import define, evolve, field, frozen
from dfs.core.refusals import too_few
from dfs.core.register import Reading, Verdict, decide_read
from dfs.core.transfer import Group, Vault
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Buffer,
    DirectoryId,
    Entry,
    Manifest,
    NameId,
    NodeId,
    RegisterKey,
    RegisterRow,
    ShareKey,
)

PAGE_COUNT: Final = limits.LIST_COUNT_MAX  # rows of one LIST


@frozen
class Found:
    """A register as read. ``entry``: None when the path holds nothing. ``stale``: a newer version may exist.

    ``rows``: by node, of those that hold the top value. ``shares``: small shares that came along, by the node
    that sent them. ``error``: why nobody can say what it holds; ``entry`` is then a value that may never have
    counted.
    """

    key: RegisterKey
    entry: Entry | None
    row: RegisterRow | None
    stale: bool
    rows: Mapping[NodeId, RegisterRow] = field(factory=dict, repr=False)
    shares: Mapping[tuple[NodeId, ShareKey], ShareBody] = field(factory=dict, repr=False)
    answered: frozenset[NodeId] = frozenset()
    corrupt: frozenset[NodeId] = frozenset()
    error: DfsError | None = None


def read_registers(
    vault: Vault,
    keys: Sequence[RegisterKey],
    *,
    with_shares: bool = False,
    wait_all: bool = False,
    any_of: bool = False,
) -> Operation[dict[RegisterKey, Found]]:
    """Read registers linearizably; what is not certain (below R nodes) is `stale`.

    Args:
        wait_all: wait for every node that makes progress, to know who holds what.
        any_of: the registers lie in one directory, and one that holds something is enough.

    Raises:
        QuorumError: no node answers.
    """
    reads = [
        _read_group(vault, group, part, with_shares=with_shares, wait_all=wait_all, any_of=any_of)
        for group, part in batches(vault, keys)
    ]
    found: dict[RegisterKey, Found] = {}
    for part in (yield from together(reads)):
        found.update(part)
    return found


def _read_group(
    vault: Vault,
    group: Group,
    keys: Sequence[RegisterKey],
    *,
    with_shares: bool,
    wait_all: bool,
    any_of: bool,
) -> Operation[dict[RegisterKey, Found]]:
    request = messages.Read(vault.roster_digest, with_values=True, with_shares=with_shares, keys=tuple(keys))
    states: dict[NodeId, Sequence[RowState]] = {}

    def take(node: NodeId, reply: Reply) -> None:
        rows = bulk_rows.decode_states(reply.bulk)
        if len(rows) != len(keys):
            raise RemoteProtocolError("a READ reply of another length")
        states[node] = [checked(vault, [node], key, row) for key, row in zip(keys, rows, strict=True)]

    def of_key(index: int) -> dict[NodeId, RowState]:
        return {node: rows[index] for node, rows in states.items()}

    def enough(_answers: Answers) -> bool:
        if len(states) < group.quorum.read:
            return False
        readings = [decide(vault, group, key, of_key(index), final=False) for index, key in enumerate(keys)]
        known = [reading for reading in readings if reading.verdict is Verdict.ANSWER]
        if len(known) < len(keys):
            return any_of and any(reading.top is not None for reading in known)
        return not with_shares or all(
            _has_shares(vault, key, reading, of_key(index).values())
            for index, (key, reading) in enumerate(zip(keys, readings, strict=True))
        )

    sends = [Send(node, node, request) for node in group.nodes]
    answers = yield from ask(sends, enough, take=take, stragglers=wait_all, quick=True)
    vault.note(answers.errors)
    if not states:
        raise too_few(vault, group, answers, group.quorum.read)
    found: dict[RegisterKey, Found] = {}
    undecided: list[Found] = []
    for index, key in enumerate(keys):
        reading = decide(vault, group, key, of_key(index), final=True)
        found[key] = found_in(vault, key, reading, of_key(index))
        if reading.verdict is Verdict.COMPLETE and found[key].error is None:
            undecided.append(found[key])
    if undecided:
        completed = yield from complete(vault, group, undecided)
        found.update({item.key: item for item in completed})
    return found


def _has_shares(vault: Vault, key: RegisterKey, reading: Reading, states: Iterable[RowState]) -> bool:
    """Return whether as many shares came along as a small file needs; others have none that could."""
    manifest = vault.open(key, reading.top).manifest if reading.top is not None else None
    if manifest is None or not comes_along(manifest):
        return True
    needed = manifest.recipe.geometry.needed
    return len({share.key.index for state in states for share in state.shares}) >= needed


def comes_along(manifest: Manifest) -> bool:
    """Return whether a file is so small that nodes send its shares with its register, if asked to."""
    if manifest.listed or len(manifest.chunks) != 1:
        return False
    return manifest.chunks[0].packed_size <= manifest.recipe.geometry.needed * limits.SHARE_INLINE_SIZE_MAX


@frozen
class Page:
    """The next registers of a directory, by name: what each node that answered says of them.

    ``after``: where it ends; ``more``: there may be further ones. ``floors``: of the directory, by node.
    """

    rows: Mapping[NameId, Mapping[NodeId, RowState]]
    after: bytes
    more: bool
    floors: Mapping[NodeId, Ballot]


@define
class _Telling:
    """What nodes say of the next registers, word for word the same; only their floors may differ.

    ``end``: the last name told if there may be further ones, else b"".
    """

    rows: Mapping[NameId, RowState]
    reply: messages.ListReply
    digest: bytes
    end: bytes
    nodes: list[NodeId]

    def is_what(self, told: messages.ListDigestReply) -> bool:
        """Return whether a node that told this digest says the same."""
        same = (told.count, told.more) == (self.reply.count, self.reply.more)
        return same and compare_digest(told.digest, self.digest)


def list_page(vault: Vault, group: Group, directory: DirectoryId, after: bytes) -> Operation[Page]:
    """Return the next registers of a directory as all nodes hold them, name id > ``after``.

    One node tells its rows, with their values. The others tell a digest of what they would have told, and
    their rows only where it is another one, then without values.

    Raises:
        QuorumError: no node answers.
    """
    tellings: dict[NodeId, _Telling] = {}
    digests: dict[NodeId, messages.ListDigestReply] = {}
    place = (vault.roster_digest, directory, after, PAGE_COUNT)

    def take(node: NodeId, reply: Reply) -> None:
        if isinstance(reply.response, messages.ListDigestReply):
            digests[node] = reply.response
        elif isinstance(reply.response, messages.ListReply):
            tellings[node] = _told(node, reply.response, reply.bulk, after)
        else:
            raise RemoteProtocolError("no answer to a LIST")

    def in_full(node: NodeId, *, with_values: bool) -> Send:
        return Send(node, node, messages.List(*place, with_values))

    first = next((node for node in group.nodes if node in vault.counted), group.nodes[0])
    digest = messages.ListDigest(*place)
    others = [Send(node, node, digest) for node in group.nodes if node != first]
    answers = yield from ask([in_full(first, with_values=True), *others], take=take, quick=True)
    vault.note(answers.errors)
    while not tellings and digests:  # that node is away: the next one tells its rows
        first = next(node for node in group.nodes if node in digests)
        del digests[first]
        yield from _ask_again(vault, [in_full(first, with_values=True)], take)
    if not tellings:
        raise too_few(vault, group, answers, group.quorum.read)
    floors = {node: told.floor for node, told in digests.items()}
    same = [node for node, told in digests.items() if tellings[first].is_what(told)]
    tellings[first].nodes.extend(same)
    different = [in_full(node, with_values=False) for node in digests if node not in same]
    if different:
        yield from _ask_again(vault, different, take)
    floors = {node: floors[node] for node in same} | {
        node: telling.reply.floor for node, telling in tellings.items()
    }
    return _page(vault, directory, tellings.values(), floors)


def _told(node: NodeId, reply: messages.ListReply, bulk: Buffer, after: bytes) -> _Telling:
    rows = {name: state for name, state in bulk_rows.decode_listed(bulk) if name > after}
    end = max(rows) if reply.more and rows else b""
    return _Telling(rows, reply, bulk_rows.listed_digest((bulk,)), end, [node])


def _ask_again(vault: Vault, sends: Sequence[Send], take: Callable[[NodeId, Reply], None]) -> Operation[None]:
    """Ask nodes that answered just now: they are hurried at once, as nobody else shows how long it takes."""
    answers = yield from ask(sends, lambda _answers: True, take=take)
    vault.note(answers.errors)


def _page(
    vault: Vault, directory: DirectoryId, tellings: Collection[_Telling], floors: Mapping[NodeId, Ballot]
) -> Page:
    """Return what nodes told, by name, up to where all of them have told theirs."""
    ends = [telling.end for telling in tellings if telling.end]
    horizon = min(ends, default=NameId(b"\xff" * limits.NAME_ID_SIZE))
    names = sorted({name for telling in tellings for name in telling.rows if name <= horizon})
    states: dict[NameId, dict[NodeId, RowState]] = {name: {} for name in names}
    for telling in tellings:
        for name in names:
            state, told = telling.rows.get(name), states[name]
            if state is not None and _holds(state):
                state = checked(vault, telling.nodes, RegisterKey(directory, name), state, valued=False)
                told.update(dict.fromkeys(telling.nodes, state))
            else:  # with its directory's floor
                told.update({node: evolve(state or RowState(), floor=floors[node]) for node in telling.nodes})
    return Page(states, horizon, bool(ends), floors)


def _holds(state: RowState) -> bool:
    return state.corrupt or (state.row is not None and state.row.accepted != NO_BALLOT)


def decide(
    vault: Vault, group: Group, key: RegisterKey, states: Mapping[NodeId, RowState], *, final: bool
) -> Reading:
    """Return what the states read so far allow, see `register.decide_read`."""
    counted = vault.counted.intersection(group.nodes)
    return decide_read(
        states,
        group.quorum,
        counted=counted,
        confirmed=lambda row: proven(vault, key, row),
        final=final,
        rolled_back=len(vault.rolled_back.intersection(group.nodes)),
    )


def found_in(vault: Vault, key: RegisterKey, reading: Reading, states: Mapping[NodeId, RowState]) -> Found:
    """Return what a reading found, opened; an error and nothing where this client has seen a newer one."""
    top = reading.top
    error = _below_floor(vault, key, reading, states)
    entry = vault.open(key, top) if top is not None and error is None else None
    return Found(
        key=key,
        entry=visible(entry),
        row=top,
        stale=reading.stale or error is not None,
        error=error,
        rows=reading.holders,
        shares={(node, share.key): share for node, state in states.items() for share in state.shares},
        answered=frozenset(states),
        corrupt=frozenset(node for node, state in states.items() if state.corrupt),
    )


def _below_floor(
    vault: Vault, key: RegisterKey, reading: Reading, states: Mapping[NodeId, RowState]
) -> DfsError | None:
    """Return what is wrong when this client has seen a newer version than the nodes tell; else remember it.

    A name may be gone because its removal was forgotten: then more than r nodes say so by their floor.
    """
    floor, top = vault.floors.at(key), reading.top
    if top is not None and top.accepted >= floor:
        if reading.verdict is Verdict.ANSWER:
            vault.floors.saw(key, top.accepted)
        return None
    if not floor or (top is None and reading.stale):
        return None
    if top is None:
        floored = sum(1 for node, state in states.items() if node in vault.counted and state.floor >= floor)
        if floored > vault.group(key.directory).quorum.tolerance:
            vault.floors.drop(key)
            return None
    told = sorted(node for node, state in states.items() if not state.corrupt)
    if reading.stale:
        return QuorumError(f"only nodes answer that hold an older version than was seen: {vault.named(told)}")
    vault.suspect(told, "an older version than was seen")
    return RollbackError(f"{vault.named(told)} hold an older version than this client has seen")


def complete(vault: Vault, group: Group, found: Sequence[Found]) -> Operation[list[Found]]:
    """Make half-written values chosen (identity changes), and return what the registers hold then.

    Where too few nodes answer for that, the value is `stale`; one that cannot be rebuilt has its `error`.
    """
    changes = [
        Change(item.key, "", _identity, item.row.accepted if item.row else NO_BALLOT) for item in found
    ]
    outcomes = yield from change_group(vault, group, changes)
    done: list[Found] = []
    for item in found:
        outcome = outcomes[item.key]
        if isinstance(outcome, QuorumError):
            done.append(evolve(item, stale=True))
        elif isinstance(outcome, DfsError):
            done.append(evolve(item, stale=True, error=outcome))
        else:
            done.append(
                evolve(item, entry=visible(outcome.entry), rows=_rows_after(item, outcome), shares={})
            )
    return done


def _rows_after(item: Found, outcome: Changed) -> Mapping[NodeId, RegisterRow]:
    """Return who holds a completed value: those of its acceptors that are not strict owe shares."""
    if item.row is None or not outcome.accepted:
        return item.rows
    return {
        node: evolve(item.row, owed_count=0 if node in outcome.strict else 1, corrupt_count=0)
        for node in outcome.accepted
    }


def _identity(current: Entry | None) -> Proposal | None:
    return None if current is None else Proposal(current, claims=None)
