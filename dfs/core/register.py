"""The decisions of a replicated register, for both sides, as functions of values.

Source: CASPaxos (Rystsov, "CASPaxos: Replicated State Machines without logs", 2018), with the rules that
PROTOCOL section 3 adds: confirmation tags, floors for forgotten tombstones, and the exclusion of ballots that
cannot have been chosen.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence

from blake3 import blake3

from dfs.core import limits
from dfs.core.bulk_rows import ReplayItem, RowState
from dfs.core.quorum import Quorum
from dfs.core.records import evolve, field, frozen
from dfs.core.types import NO_BALLOT, Ballot, EntryKind, NodeId, RegisterRow

EMPTY_ROW = RegisterRow()


def make_ballot(counter: int, attempt: bytes) -> Ballot:
    """Return the ballot of a counter and a fresh random 128-bit attempt id; bytes compare as ballots do."""
    return Ballot(counter.to_bytes(8, "big") + attempt)


def counter_of(ballot: Ballot) -> int:
    """Return the counter of a ballot, 0 for NO_BALLOT."""
    return int.from_bytes(ballot[:8], "big")


def value_digest(value: bytes, claim_set: bytes) -> bytes:
    """Return the digest that names a value together with its claims."""
    return blake3(claim_set + value, derive_key_context="dfs 1 value digest").digest()


def claim_set_digest(encoded: bytes) -> bytes:
    """Return the digest of encoded claims; b"" claims nothing and has the digest b""."""
    return blake3(encoded, derive_key_context="dfs 1 claim set").digest() if encoded else b""


# --- The node's side --------------------------------------------------------------------------------------


def obstacle(row: RegisterRow | None, floor: Ballot, ballot: Ballot) -> Ballot:
    """Return the ballot that keeps a node from promising or accepting ``ballot``; NO_BALLOT when nothing
    does.
    """
    if row is None:
        return floor if ballot <= floor else NO_BALLOT
    return row.promised if row.promised > ballot else NO_BALLOT


def promised(row: RegisterRow | None, ballot: Ballot) -> RegisterRow:
    """Return the row after a promise."""
    return evolve(row or EMPTY_ROW, promised=ballot)


def accepted(
    ballot: Ballot, value: bytes, digest: bytes, claim_set: bytes, claimed_count: int
) -> RegisterRow:
    """Return the row after an accept."""
    return RegisterRow(
        promised=ballot,
        accepted=ballot,
        value=value,
        digest=digest,
        claim_set=claim_set,
        claimed_count=claimed_count,
    )


def replayed(row: RegisterRow | None, item: ReplayItem, promised: Ballot, claimed_count: int) -> RegisterRow:
    """Return the row after the replay of a value that was chosen, or of a promise alone.

    ``row`` None: it is missing or lost. ``promised``: the highest ballot it may have promised if it was lost.
    A chosen value may be accepted below the promise: whoever was promised more has it from another node, as
    any R nodes and the W that chose it have one in common that was not rolled back. The promise itself stays.
    """
    before = row or EMPTY_ROW
    promised = max(before.promised, promised, item.promised, item.ballot)
    if not item.ballot or before.accepted > item.ballot:
        return evolve(before, promised=promised)
    if before.accepted < item.ballot:
        before = accepted(item.ballot, item.value, item.digest, item.claim_set, claimed_count)
    confirmed = before.confirmed or item.confirmed
    return evolve(before, promised=promised, confirmed=confirmed, safe=before.safe or item.safe)


# --- The client's side ------------------------------------------------------------------------------------


class Verdict(enum.Enum):
    """What the replies read so far allow."""

    ANSWER = "answer"  # the top value (or absence) is the register's
    COMPLETE = "complete"  # the top value may be half-written: complete it first
    DEGRADED = "degraded"  # fewer than R nodes: the top value may be stale
    WAIT = "wait"


@frozen
class Reading:
    """The state of one register from several nodes.

    ``top``: the accepted row with the highest ballot, None when no reply holds one. ``holders``: nodes that
    hold exactly it. ``stale``: fewer than R nodes that count answered.
    """

    verdict: Verdict
    top: RegisterRow | None
    holders: Mapping[NodeId, RegisterRow] = field(factory=dict)

    @property
    def stale(self) -> bool:
        """Whether a newer version may exist."""
        return self.verdict is Verdict.DEGRADED


def _same(row: RegisterRow, top: RegisterRow) -> bool:
    return row.accepted == top.accepted and row.digest == top.digest


class Memory(enum.Enum):
    """What a group may still know of a ballot that few of its nodes hold."""

    HELD = "held"
    DOUBTFUL = (
        "doubtful"  # forgotten, and kept by nodes that were rolled back; or others were: nobody can say
    )
    FORGOTTEN = "forgotten"  # it is not the register's value


def memories(
    states: Mapping[NodeId, RowState],
    quorum: Quorum,
    others: Iterable[RegisterRow] = (),
    *,
    rolled_back: int = 0,
) -> dict[Ballot, Memory]:
    """Return, for each ballot accepted by some node, whether it may have been forgotten since.

    All n nodes hold a tombstone before it is forgotten, so of a forgotten ballot's holders each was rolled
    back: they are r at most. Every other node then has no value there and a floor at least as high. For a
    tombstone itself there is no doubt: forgotten or not, nothing is there.

    Args:
        states: of the nodes that count.
        others: what nodes hold that do not count: they may have been rolled back, so they vouch for nothing.
        rolled_back: how many of those are known to be, so that fewer than r of the ones that count may be.
    """
    rows = [state.row for state in states.values() if state.row is not None and state.row.accepted]
    floors = [state.floor for state in states.values() if state.row is None or not state.row.accepted]
    strangers = list(others)
    if len(floors) <= quorum.total - quorum.write:  # too few could have forgotten anything: the usual case
        return dict.fromkeys((row.accepted for row in (*rows, *strangers)), Memory.HELD)

    def memory(ballot: Ballot) -> Memory:
        holding = [row for row in rows if row.accepted == ballot]
        floored = sum(1 for floor in floors if floor >= ballot)
        remembering = bool(holding) and len(holding) + rolled_back > quorum.tolerance
        if remembering or floored <= quorum.total - quorum.write:
            return Memory.HELD
        if floored >= quorum.excluded(rolled_back):
            return Memory.FORGOTTEN
        shown = [*holding, *(row for row in strangers if row.accepted == ballot)]
        return Memory.HELD if any(map(is_tombstone, shown)) else Memory.DOUBTFUL

    return {row.accepted: memory(row.accepted) for row in (*rows, *strangers)}


def is_tombstone(row: RegisterRow) -> bool:
    """Return whether a row holds a tombstone; its kind is the byte in front of every value."""
    return row.value[:1] == bytes((EntryKind.TOMBSTONE,))


def decide_read(
    replies: Mapping[NodeId, RowState],
    quorum: Quorum,
    *,
    counted: frozenset[NodeId],
    confirmed: Callable[[RegisterRow], bool],
    final: bool,
    rolled_back: int = 0,
) -> Reading:
    """Return what a reader may answer.

    Args:
        replies: what nodes said; a corrupt row is no vote.
        counted: the nodes whose replies count in R (ACTIVE ones).
        confirmed: whether a row's confirm tag verifies.
        final: no further reply will come.
        rolled_back: how many nodes that do not count are known to be.
    """
    votes = {node: reply for node, reply in replies.items() if not reply.corrupt}
    counting = {node: reply for node, reply in votes.items() if node in counted}
    held = {node: reply.row for node, reply in votes.items() if reply.row is not None and reply.row.accepted}
    others = (row for node, row in held.items() if node not in counting)
    known = memories(counting, quorum, others, rolled_back=rolled_back)
    rows = {node: row for node, row in held.items() if known[row.accepted] is not Memory.FORGOTTEN}
    top = max(rows.values(), key=lambda row: (row.accepted, bool(row.value)), default=None)
    holders = {node: row for node, row in rows.items() if top is not None and _same(row, top)}
    doubtful = top is not None and known[top.accepted] is Memory.DOUBTFUL
    if len(counting) < quorum.read or doubtful:
        return Reading(Verdict.DEGRADED if final else Verdict.WAIT, top, holders)
    proven = top is None or any(confirmed(row) for row in holders.values())
    if proven or len(counting.keys() & holders.keys()) >= quorum.write:
        return Reading(Verdict.ANSWER, top, holders)
    return Reading(Verdict.COMPLETE if final else Verdict.WAIT, top, holders)


def candidates(
    rows: Sequence[RegisterRow | None], quorum: Quorum, rolled_back: int = 0
) -> tuple[list[RegisterRow], bool]:
    """Return the values a proposer may continue from, highest ballot first, and whether "nothing" is one too.

    ``rows``: of the nodes that promised. The list ends at the first value that may have been chosen; a value
    that at least n - W + 1 + r promising nodes lack cannot have been, so the next lower one is allowed as
    well. A node with a higher ballot does not lack a lower one: it may have accepted it before.
    ``rolled_back``: how many of the others are known to be, so that fewer than r of these may be.
    """
    accepted_rows = [row for row in rows if row is not None and row.accepted]
    allowed: list[RegisterRow] = []
    for ballot in sorted({row.accepted for row in accepted_rows}, reverse=True):
        allowed.append(next(row for row in accepted_rows if row.accepted == ballot))
        lacking = sum(1 for row in rows if row is None or row.accepted < ballot)
        if lacking < quorum.excluded(rolled_back):
            return allowed, False
    return allowed, True


def next_counter(seen: Sequence[Ballot]) -> int:
    """Return a counter above every ballot seen."""
    return 1 + max((counter_of(ballot) for ballot in seen), default=0)


def jumps(ballot: Ballot, expected: int) -> bool:
    """Return whether a ballot's counter is implausibly far ahead (a lying node)."""
    return counter_of(ballot) > expected + limits.BALLOT_COUNTER_JUMP_MAX
