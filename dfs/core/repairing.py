"""Repair: registers are replayed, then exactly the shares that are missing or bad are made again.

Pure operations. Nodes know by their claims what they lack, so the same steps work with and without keys. An
owner opens every chunk before a share of it is made again, so that one lying node spoils no other; a healer
compares with one share more than it needs, where there is one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, messages, pipeline, register
from dfs.core.bulk_rows import LackingStripe
from dfs.core.effects import Operation, Reply, Send, ask, parallel, together, work
from dfs.core.errors import DfsError, IntegrityError, RemoteProtocolError
from dfs.core.interface import Buffer
from dfs.core.manifest import open_entry
from dfs.core.pipeline import Slot, Stages
from dfs.core.records import define, evolve, field, frozen
from dfs.core.replaying import Found, Replayed, directories_of, end_join, gap, replay, survey
from dfs.core.standing import Planned, Repaired
from dfs.core.transfer import Ledger, Vault, chunks_of, claims_of_row
from dfs.core.types import Chunk, Claim, DirectoryId, NodeId, RegisterKey, RegisterRow, ShareKey, StripeId

SURVEY_COUNT = 8  # directories looked at side by side


@frozen
class Scope:
    """What to repair: all (``directories`` None), some directories, or of those only some registers."""

    directories: frozenset[DirectoryId] | None = None
    keys: frozenset[RegisterKey] | None = None

    def holds(self, key: RegisterKey) -> bool:
        """Return whether a register is to be repaired."""
        return self.keys is None or key in self.keys


@define
class Task:
    """A stripe of which nodes lack shares. ``chunk``: its stages and chunk, where an owner knows them.

    ``copying``: nodes of another group lack them; those of the claim have theirs.
    """

    claim: Claim
    lacking: dict[NodeId, set[int]] = field(factory=dict)
    chunk: tuple[Stages, Chunk] | None = None
    copying: bool = False

    @property
    def count(self) -> int:
        """Shares to make."""
        return sum(map(len, self.lacking.values()))

    @property
    def written_size(self) -> int:
        """Bytes of the shares to make."""
        return self.claim.share_size * self.count


Tasks = dict[Claim, Task]  # by claim, not by stripe: a false one must not hide those of others


def _ignore(_size: int) -> None:
    """Nobody watches."""


@define
class Result:
    """What was made and moved. ``left``: what could not be done, and why."""

    progress: Callable[[int], object] = _ignore
    shares: int = 0
    read_size: int = 0
    written_size: int = 0
    left: list[str] = field(factory=list)


def repair(
    vault: Vault,
    scope: Scope,
    slots: Sequence[Slot],
    *,
    plan_only: bool = False,
    progress: Callable[[int], object] = _ignore,
) -> Operation[Repaired]:
    """Bring nodes up to date and make missing or bad shares again; nodes that lost state count again then.

    Args:
        slots: one for each stripe worked on at once.
        progress: told the bytes of shares as they are written.

    Raises:
        QuorumError: no node answers.
    """
    known, told = yield from directories_of(vault)
    wanted = known if scope.directories is None or vault.returning else scope.directories
    everything = evolve(scope, directories=None, keys=None) if vault.returning else scope
    surveys = yield from _survey(vault, sorted(wanted))
    tasks = yield from _tasks(vault, everything, surveys, planning=True)
    planned = _planned(everything, surveys, tasks)
    if plan_only:
        return Repaired(planned, left=_undecided(surveys))
    replayed = Replayed(marks={node: mark for node, mark in told.items() if node in vault.returning})
    for found in surveys:
        done = yield from replay(vault, _within(everything, found))
        replayed.take(done)
    surveys = yield from _survey(vault, sorted(wanted))
    tasks = yield from _tasks(vault, everything, surveys, planning=False)
    made = yield from _rebuild_all(vault, tasks, slots, progress)
    joined, left = yield from _come_back(vault, told, surveys, replayed)
    return Repaired(
        planned,
        replayed.count,
        made.shares,
        made.read_size,
        made.written_size,
        tuple(joined),
        (*_undecided(surveys), *vault.clauses(replayed.errors), *made.left, *left),
    )


def _survey(vault: Vault, directories: Sequence[DirectoryId]) -> Operation[list[Found]]:
    found = yield from together([survey(vault, directory) for directory in directories], SURVEY_COUNT)
    return found


def _within(scope: Scope, found: Found) -> Found:
    """Return what is to be done within the scope."""
    return evolve(
        found,
        due=[due for due in found.due if scope.holds(due.key)],
        forgettable=[row for row in found.forgettable if scope.holds(row[0])],
    )


def _undecided(surveys: Sequence[Found]) -> list[str]:
    count = sum(len(found.undecided) for found in surveys)
    if not count:
        return []
    remedy = "bring back the nodes that are away, or decide with dfs rm or dfs put --allow-degraded"
    return [f"{count} undecided: versions that can neither be excluded nor rebuilt; {remedy}"]


def _planned(scope: Scope, surveys: Sequence[Found], tasks: Tasks) -> Planned:
    registers = sum(len(due.lacking) for found in surveys for due in found.due if scope.holds(due.key))
    return Planned(
        registers,
        sum(task.count for task in tasks.values()),
        sum(task.claim.share_size * task.claim.geometry.needed for task in tasks.values()),
        sum(task.written_size for task in tasks.values()),
    )


def _come_back(
    vault: Vault, told: Mapping[NodeId, int], surveys: Sequence[Found], replayed: Replayed
) -> Operation[tuple[Collection[NodeId], list[str]]]:
    """Let nodes count again into which everything was replayed."""
    returning = sorted(vault.returning)
    if not returning:
        return (), []
    reason = gap(vault, told, surveys)
    ready = {node: replayed.marks[node] for node in returning if node in replayed.marks}
    ready = {node: mark for node, mark in ready.items() if node not in replayed.errors}
    if reason or not ready:
        return (), [f"{vault.named(returning)} cannot count again yet: {reason or 'it does not answer'}"]
    joined, answers = yield from end_join(vault, ready)
    return joined, vault.clauses(answers.errors)


# --- What is lacking ----------------------------------------------------------------------------------------


def _tasks(vault: Vault, scope: Scope, surveys: Sequence[Found], *, planning: bool) -> Operation[Tasks]:
    """Return the stripes of which nodes lack shares; ``planning``: those of rows still to be replayed too."""
    tasks: Tasks = {}
    rows = [row for found in surveys for row in found.claiming if scope.holds(row[0])]
    if scope.directories is None and scope.keys is None:
        yield from _lacking(vault, tasks, None)
    else:
        stripes: set[StripeId] = set()
        for key, row, holders in rows:
            claims = yield from claims_of_row(vault, key, row, holders)
            stripes.update(claim.stripe for claim in claims or ())
        if stripes:
            yield from _lacking(vault, tasks, stripes)
    if planning:
        for found in surveys:
            yield from _add_due(vault, scope, found, tasks)
    elif not vault.keyless:
        yield from _name_chunks(vault, rows, tasks)
    return tasks


def _lacking(vault: Vault, tasks: Tasks, stripes: Collection[StripeId] | None) -> Operation[None]:
    """Add what nodes say they lack, of these stripes or of all."""
    after: dict[NodeId, bytes] = {node.node_id: b"" for node in vault.roster.nodes}

    def take(node: NodeId, reply: Reply) -> None:
        told = bulk_rows.decode_lacking(reply.bulk)
        more = isinstance(reply.response, messages.LackingReply) and reply.response.more
        if more and (not told or told[-1].claim.stripe <= asked[node]):
            raise RemoteProtocolError("lacking shares that do not go on")
        for row in told:
            _require_possible(vault, row)
        for row in told:
            if stripes is None or row.claim.stripe in stripes:
                task = tasks.setdefault(row.claim, Task(row.claim))
                task.lacking.setdefault(node, set()).update(row.indexes)
        if more:
            after[node] = told[-1].claim.stripe

    while after:
        asked, after = after, {}
        sends = [
            Send(node, node, messages.Lacking(vault.roster_digest, last)) for node, last in asked.items()
        ]
        yield from ask(sends, take=take, quick=True)


def _require_possible(vault: Vault, row: LackingStripe) -> None:
    """Check that a claim speaks of nodes and shares that can be.

    Raises:
        RemoteProtocolError: it does not.
    """
    claim = row.claim
    known = all(index < len(vault.roster.nodes) for nodes in claim.nodes for index in nodes)
    if (
        not known
        or len(claim.nodes) != claim.geometry.total
        or max(row.indexes, default=0) >= claim.geometry.total
    ):
        raise RemoteProtocolError("a claim on shares or nodes that are not")


def _add_due(vault: Vault, scope: Scope, found: Found, tasks: Tasks) -> Operation[None]:
    """Add the shares that nodes will owe once they know of a register."""
    for due in found.due:
        if due.row is None or not due.row.claim_set or not scope.holds(due.key):
            continue
        late = set(due.lacking) - set(due.holders)
        claims = yield from claims_of_row(vault, due.key, due.row, due.holders)
        for claim in claims or ():
            for index, nodes in enumerate(vault.nodes_of(claim.nodes)):
                for node in late.intersection(nodes):
                    task = tasks.setdefault(claim, Task(claim))
                    task.lacking.setdefault(node, set()).add(index)


def _name_chunks(
    vault: Vault, rows: Sequence[tuple[RegisterKey, RegisterRow, tuple[NodeId, ...]]], tasks: Tasks
) -> Operation[None]:
    """Tell each task its chunk, so that what is made again is checked first."""
    by_stripe: dict[StripeId, list[Task]] = {}
    for task in tasks.values():
        by_stripe.setdefault(task.claim.stripe, []).append(task)
    for key, row, holders in rows:
        value = row.value or (yield from _value_of(vault, key, row, holders))
        if not value or not row.claim_set:
            continue
        group = vault.group(key.directory)
        try:
            entry = open_entry(vault.keys.entry, key, evolve(row, value=value))
            if entry.manifest is None:
                continue
            chunks = yield from chunks_of(vault, group, entry.manifest, Ledger())
            stages = vault.stages_of(entry.manifest.recipe)
        except DfsError:
            continue  # its list cannot be read now: its stripes are compared instead
        for chunk in (*chunks, *(entry.manifest.chunks if entry.manifest.listed else ())):
            size = pipeline.stripe_size(stages, chunk)[1]
            for task in by_stripe.get(pipeline.name_stripe(stages, vault.keys, chunk), ()):
                claim = task.claim
                if (claim.share_size, claim.code, claim.geometry) == (
                    size,
                    stages.code_name,
                    stages.recipe.geometry,
                ):
                    task.chunk = stages, chunk


def _value_of(
    vault: Vault, key: RegisterKey, row: RegisterRow, holders: Sequence[NodeId]
) -> Operation[bytes]:
    request = messages.Read(vault.roster_digest, with_values=True, with_shares=False, keys=(key,))
    values: list[bytes] = []

    def take(_node: NodeId, reply: Reply) -> None:
        for state in bulk_rows.decode_states(reply.bulk):
            value = state.row.value if state.row is not None else b""
            if register.value_digest(value, row.claim_set) == row.digest:
                values.append(value)

    yield from ask([Send(node, node, request) for node in holders], take=take, quick=True)
    return values[0] if values else b""


# --- Making shares again ------------------------------------------------------------------------------------


def _rebuild_all(
    vault: Vault, tasks: Tasks, slots: Sequence[Slot], progress: Callable[[int], object]
) -> Operation[Result]:
    result = Result(progress)

    def job(slot: Slot, task: Task) -> Operation[None]:
        yield from rebuild(vault, task, slot, result)

    yield from parallel([partial(job, task=task) for task in tasks.values()], slots)
    result.left = _summed(result.left)
    return result


def _summed(reasons: Sequence[str]) -> list[str]:
    """Return each reason once, with how often it came."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return [
        f"{count} chunks: {reason}" if count > 1 else f"1 chunk: {reason}" for reason, count in counts.items()
    ]


@define
class _Gathering:
    """The good shares of a stripe that came, by index, with who gave them; ``bad``: those that did not."""

    task: Task
    came: dict[int, tuple[NodeId, bytes]] = field(factory=dict)
    untried: list[tuple[int, NodeId]] = field(factory=list)
    bad: list[tuple[int, NodeId]] = field(factory=list)


def rebuild(vault: Vault, task: Task, slot: Slot, result: Result) -> Operation[set[NodeId]]:
    """Make the lacking shares of a stripe again and store them; returns the nodes that have theirs now."""
    claim = task.claim
    gathering = _Gathering(task)
    gathering.untried = [
        (index, node)
        for index, nodes in enumerate(vault.nodes_of(claim.nodes))
        for node in nodes
        if task.copying or index not in task.lacking.get(node, ())
    ]
    spare = 1 if task.chunk is None else 0
    yield from _gather(gathering, claim.geometry.needed + spare, result)
    if len(gathering.came) < claim.geometry.needed:
        there = len(gathering.came)
        result.left.append(f"{there} of {claim.geometry.needed} needed shares are within reach")
        return set()
    try:
        shares = yield from _remade(vault, gathering, slot, result)
    except DfsError as error:
        result.left.append(error.what)
        return set()
    yield from _replace_bad(vault, gathering)
    return (yield from _store(vault, task, shares, result))


def _gather(gathering: _Gathering, count: int, result: Result) -> Operation[None]:
    """Fetch shares until so many good ones with different indexes are there, or nobody is left to ask."""
    claim = gathering.task.claim
    while len(gathering.came) < count and gathering.untried:
        chosen: dict[int, NodeId] = {}
        for index, node in gathering.untried:
            if len(gathering.came) + len(chosen) < count and index not in gathering.came:
                chosen.setdefault(index, node)
        if not chosen:
            return
        gathering.untried = [pair for pair in gathering.untried if chosen.get(pair[0]) != pair[1]]
        asked: dict[NodeId, list[int]] = {}
        for index, node in chosen.items():
            asked.setdefault(node, []).append(index)
        sends = [
            Send(node, node, messages.Fetch(tuple(ShareKey(claim.stripe, index) for index in indexes)))
            for node, indexes in asked.items()
        ]
        answers = yield from ask(sends)
        for node, reply in answers.replies.items():
            _take(gathering, node, asked[node], reply, result)


def _take(gathering: _Gathering, node: NodeId, indexes: Sequence[int], reply: Reply, result: Result) -> None:
    results = reply.response.results if isinstance(reply.response, messages.FetchReply) else ()
    offset = 0
    for index, told in zip(indexes, results, strict=False):
        size = told.size if told.status == messages.FOUND else 0
        body = bytes(reply.bulk[offset : offset + size])
        offset += size
        result.read_size += size
        right = size == gathering.task.claim.share_size and xxh3_128_digest(body) == told.checksum
        if told.status == messages.FOUND and right:
            gathering.came[index] = node, body
        else:
            gathering.bad.append((index, node))


def _remade(vault: Vault, gathering: _Gathering, slot: Slot, result: Result) -> Operation[Sequence[Buffer]]:
    """Return all shares of a stripe, made from those that came.

    Raises:
        IntegrityError: they contradict each other, or do not give the chunk.
    """
    task = gathering.task
    shares = {index: body for index, (_, body) in gathering.came.items()}
    if task.chunk is None:
        return (yield from work(partial(_encode_compared, vault, task.claim, shares)))
    stages, chunk = task.chunk
    try:
        return (yield from work(partial(_encode_checked, vault, stages, chunk, shares, slot)))
    except IntegrityError:
        yield from _gather(gathering, task.claim.geometry.total, result)
    shares = {index: body for index, (_, body) in gathering.came.items()}
    checksums = {index: xxh3_128_digest(body) for index, body in shares.items()}
    target = slot.view("plain", chunk.plain_size)
    found = yield from work(
        partial(pipeline.open_doubtful, stages, vault.keys, chunk, shares, checksums, target)
    )
    for index in found.bad:  # right checksum, wrong bytes: whoever keeps it is told, and it is replaced
        node, _ = gathering.came.pop(index)
        yield from ask([Send(node, node, messages.Condemn((ShareKey(task.claim.stripe, index),)))])
        task.lacking.setdefault(node, set()).add(index)
    good = {index: shares[index] for index in found.good}
    return (yield from work(partial(_encode_checked, vault, stages, chunk, good, slot)))


def _encode_checked(
    vault: Vault, stages: Stages, chunk: Chunk, shares: Mapping[int, Buffer], slot: Slot
) -> Sequence[Buffer]:
    """Open the chunk, then make all shares of it again.

    Raises:
        IntegrityError: the shares do not give the chunk.
    """
    target = slot.view("plain", chunk.plain_size)
    needed = dict(list(shares.items())[: stages.recipe.geometry.needed])
    pipeline.open_stripe(stages, vault.keys, slot, chunk, needed, target)
    return pipeline.make_stripe_again(stages, slot, chunk)


def _encode_compared(vault: Vault, claim: Claim, shares: Mapping[int, Buffer]) -> Sequence[Buffer]:
    """Make all shares again from k of them, and compare with one more if there is one.

    Raises:
        IntegrityError: they contradict each other.
    """
    code = vault.code_of(claim.code, claim.geometry)
    needed = dict(sorted(shares.items())[: claim.geometry.needed])
    stripe = memoryview(bytearray(claim.geometry.needed * claim.share_size))
    places = pipeline.pieces(stripe, claim.share_size)
    absent = {index: place for index, place in enumerate(places) if index not in needed}
    if absent:
        code.decode_into(needed, absent)
    for index, place in enumerate(places):
        if index in needed:
            place[:] = needed[index]
    parity_count = claim.geometry.total - claim.geometry.needed
    parity = pipeline.pieces(memoryview(bytearray(parity_count * claim.share_size)), claim.share_size)
    if parity:
        code.encode_into(stripe, parity)
    remade = [*places, *parity]
    if any(remade[index] != body for index, body in shares.items()):
        raise IntegrityError("its shares contradict each other; the owner's repair finds the wrong one")
    return remade


def _replace_bad(vault: Vault, gathering: _Gathering) -> Operation[None]:
    """Have shares that came damaged, or not at all, replaced as well; their nodes look at them first.

    Shares that were only compared follow from a claim that may be false: its own node must name it, too.
    """
    task = gathering.task
    for index, node in gathering.bad:
        yield from ask([Send(node, node, messages.Verify((ShareKey(task.claim.stripe, index),)))])
        if task.chunk is not None or (yield from _names(vault, node, task.claim, index)):
            task.lacking.setdefault(node, set()).add(index)


def _names(vault: Vault, node: NodeId, claim: Claim, index: int) -> Operation[bool]:
    """Return whether a node says that it lacks a share by just this claim."""
    before = (int.from_bytes(claim.stripe, "big") - 1) % (1 << 8 * limits.STRIPE_ID_SIZE)
    request = messages.Lacking(vault.roster_digest, before.to_bytes(limits.STRIPE_ID_SIZE, "big"))
    named: list[LackingStripe] = []

    def take(_node: NodeId, reply: Reply) -> None:
        named.extend(bulk_rows.decode_lacking(reply.bulk)[:1])

    yield from ask([Send(node, node, request)], take=take, quick=True)
    return any(row.claim == claim and index in row.indexes for row in named)


def _store(vault: Vault, task: Task, shares: Sequence[Buffer], result: Result) -> Operation[set[NodeId]]:
    sends = []
    counts: dict[NodeId, int] = {}
    for node, indexes in task.lacking.items():
        heads = tuple(
            messages.ShareHead(
                ShareKey(task.claim.stripe, index), task.claim.share_size, xxh3_128_digest(shares[index])
            )
            for index in sorted(indexes)
        )
        counts[node] = len(heads)
        sends.append(Send(node, node, messages.Store(heads), tuple(shares[head.key.index] for head in heads)))
    answers = yield from ask(sends)
    result.left.extend(vault.clauses(answers.errors))
    count = sum(counts[node] for node in answers.replies)
    result.shares += count
    result.written_size += count * task.claim.share_size
    result.progress(count * task.claim.share_size)
    return set(answers.replies)
