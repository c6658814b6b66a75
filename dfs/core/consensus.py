"""Registers of many paths changed at once, client side: PREPARE, ACCEPT, CONFIRM as pure operations.

Each register ends as Changed or with its own error; a node that answers nonsense counts as one that did not
answer. The decisions are in register.py, the rules in PROTOCOL.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from dfs.core import bulk_rows, limits, messages, register
from dfs.core.believing import checked, proven
from dfs.core.bulk_rows import AcceptItem, RowState
from dfs.core.confirming import confirm
from dfs.core.effects import Answers, Operation, Reply, Send, ask, sleep, together
from dfs.core.encoding import chop
from dfs.core.errors import (
    DfsError,
    IncompleteError,
    LocalProtocolError,
    QuorumError,
    RemoteProtocolError,
    UnknownOutcomeError,
    invariant,
)
from dfs.core.manifest import ENTRY_NONCE_SIZE, seal_entry
from dfs.core.quorum import share_threshold
from dfs.core.records import define, evolve, field, frozen
from dfs.core.refusals import no_room, require_open, space_errors, too_few, without_room
from dfs.core.register import Memory
from dfs.core.runs import runs
from dfs.core.transfer import Group, Vault, claims_of, require_readable
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Claim,
    Entry,
    EntryKind,
    NodeId,
    RegisterKey,
    RegisterRow,
    Version,
)

ATTEMPT_COUNT_MAX = 24  # ballots before a contended write gives up; with 12, 64 writers did not all end
ACCEPT_ROWS_SIZE_MAX = 4 * limits.MIB
CLAIMS_INLINE_SIZE_MAX = 8 * limits.KIB  # longer claims are staged before the ACCEPT


@frozen
class Proposal:
    """What a change writes. ``claims``: of the entry; None for an identity change (they follow from the
    entry).

    ``strict``: nodes that hold all shares they should. ``threshold``: how many of them make it safe (H).
    """

    entry: Entry
    claims: Sequence[Claim] | None = field(default=(), repr=False)
    strict: frozenset[NodeId] = frozenset()
    threshold: int = 0


Decide: TypeAlias = Callable[[Entry | None], "Proposal | None"]  # may raise; None = leave it as it is


@frozen
class Change:
    """A register to change. ``decide`` gets the current entry (None: nothing or a tombstone), perhaps several
    times. ``after``: the highest ballot seen of it so far, which saves a refused attempt.
    """

    key: RegisterKey
    path: str
    decide: Decide = field(repr=False)
    after: Ballot = NO_BALLOT


@frozen
class Changed:
    """A change that was chosen. ``accepted``: nodes that have it; ``strict``: those with all their shares.

    ``safe``: H was reached. ``entry``: what the register holds now, None when nothing.
    """

    entry: Entry | None
    accepted: frozenset[NodeId] = frozenset()
    strict: frozenset[NodeId] = frozenset()
    safe: bool = True


Outcomes: TypeAlias = dict[RegisterKey, "Changed | DfsError"]


def batches(vault: Vault, keys: Iterable[RegisterKey]) -> Iterator[tuple[Group, Sequence[RegisterKey]]]:
    """Yield keys by group, as many at a time as fit one request and its reply."""
    groups: dict[tuple[int, ...], tuple[Group, list[RegisterKey]]] = {}
    for key in keys:
        group = vault.group(key.directory)
        groups.setdefault(group.indexes, (group, []))[1].append(key)
    for group, members in groups.values():
        for first in range(0, len(members), limits.REGISTER_COUNT):
            yield group, members[first : first + limits.REGISTER_COUNT]


def visible(entry: Entry | None) -> Entry | None:
    """Return the entry, a tombstone as nothing."""
    return None if entry is None or entry.kind is EntryKind.TOMBSTONE else entry


def change_registers(vault: Vault, changes: Sequence[Change]) -> Operation[Outcomes]:
    """Change registers; each ends as Changed or with its own error.

    The errors: what ``decide`` raised, QuorumError (nothing was accepted), UnknownOutcomeError, SpaceError,
    IncompleteError (an earlier value can neither be excluded nor rebuilt; nothing was changed).

    Raises:
        BusyError: the vault is closed; nothing was changed.
    """
    changing = Changing(vault, changes)
    yield from changing.accept()
    yield from changing.confirm()
    return changing.outcomes()


class Changing:
    """Registers being changed step by step, for who does something else beside a step.

    Raises: BusyError: the vault is closed.
    """

    def __init__(self, vault: Vault, changes: Sequence[Change]) -> None:
        require_open(vault)
        by_key = {change.key: change for change in changes}
        self._vault = vault
        self._parts = [
            (group, _attempts([by_key[key] for key in part])) for group, part in batches(vault, by_key)
        ]
        self._prepared = False

    def prepare(self) -> Operation[None]:
        """Ask for promises; nothing is decided yet. To be left out where `accept` follows at once."""
        self._prepared = True
        yield from together([_prepare(self._vault, group, attempts) for group, attempts in self._parts])

    def accept(self) -> Operation[None]:
        """Decide, and have the values chosen or the attempts fail."""
        yield from together([_choose(self._vault, *part, prepared=self._prepared) for part in self._parts])

    def confirm(self) -> Operation[None]:
        """Tell the nodes what was chosen, so that readers need not complete it."""
        yield from together(
            [confirm(self._vault, group, _chosen_of(attempts)) for group, attempts in self._parts]
        )

    def outcomes(self) -> Outcomes:
        """Return how each register ended."""
        return {key: outcome for _, attempts in self._parts for key, outcome in _outcomes(attempts).items()}


@frozen
class _Sent:
    """A value of our own that may have been accepted. ``foundation``: digest of what it replaces."""

    ballot: Ballot
    digest: bytes
    foundation: bytes


@define
class _Attempt:
    """One register on its way through the phases; ``outcome`` is set when it has ended.

    ``own``: it proposes what the change wants, as ``version``; no mere identity change. ``sent``: with which
    ballots so far. ``refusal``: what decide raised over a value that must be completed before it is true.
    ``thorough``: all nodes are waited for, as more of them may exclude a value that cannot be rebuilt.
    """

    change: Change
    seen: list[Ballot]
    ballot: Ballot = NO_BALLOT
    promises: dict[NodeId, RowState] = field(factory=dict)
    base: RegisterRow | None = None
    proposal: Proposal | None = None
    item: AcceptItem | None = None
    claims: bytes = b""
    own: bool = False
    sent: list[_Sent] = field(factory=list)
    version: Version | None = None
    refusal: DfsError | None = None
    thorough: bool = False
    outcome: Changed | DfsError | None = None


def change_group(vault: Vault, group: Group, changes: Sequence[Change]) -> Operation[Outcomes]:
    """Change registers of one group, at most REGISTER_COUNT; see `change_registers`."""
    attempts = _attempts(changes)
    yield from _choose(vault, group, attempts, prepared=False)
    yield from confirm(vault, group, _chosen_of(attempts))
    return _outcomes(attempts)


def _attempts(changes: Sequence[Change]) -> list[_Attempt]:
    return [_Attempt(change, [change.after]) for change in changes]


def _choose(vault: Vault, group: Group, attempts: Sequence[_Attempt], *, prepared: bool) -> Operation[None]:
    """Bring attempts to their ends. ``prepared``: the nodes have been asked for the first promises."""
    for round_index in range(ATTEMPT_COUNT_MAX):
        running = [attempt for attempt in attempts if attempt.outcome is None]
        if not running:
            break
        if round_index > 1:  # duelling writers: random, growing pauses
            drawn = int.from_bytes(vault.entropy(2), "big") / 65536
            yield from sleep(drawn * round_index * limits.BACKOFF_S_MAX)
        if round_index or not prepared:
            yield from _prepare(vault, group, running)
        for attempt in running:
            if _promised(vault, group, attempt):
                yield from _propose(vault, group, attempt)
        yield from _accept(vault, group, [attempt for attempt in running if attempt.item is not None])
    for attempt in attempts:
        if attempt.outcome is None:
            attempt.outcome = _gave_up(attempt, "other clients keep writing it")
        elif isinstance(attempt.outcome, Changed) and attempt.item is not None:
            vault.floors.saw(attempt.change.key, attempt.ballot)


def _chosen_of(attempts: Sequence[_Attempt]) -> list[tuple[AcceptItem, bool]]:
    """Return what was chosen, each with whether it is safe."""
    return [
        (attempt.item, attempt.outcome.safe)
        for attempt in attempts
        if attempt.item is not None and isinstance(attempt.outcome, Changed)
    ]


def _outcomes(attempts: Sequence[_Attempt]) -> Outcomes:
    return {
        attempt.change.key: attempt.refusal
        if isinstance(attempt.outcome, Changed) and attempt.refusal
        else attempt.outcome
        for attempt in attempts
        if attempt.outcome is not None
    }


def _shown(attempt: _Attempt) -> str:
    return attempt.change.path or "a change"


def _gave_up(attempt: _Attempt, reason: str) -> DfsError:
    if attempt.sent:
        return UnknownOutcomeError(f"{_shown(attempt)}: not confirmed ({reason})")
    return QuorumError(f"{_shown(attempt)}: {reason}")


# --- Prepare ------------------------------------------------------------------------------------------------


def _promised(vault: Vault, group: Group, attempt: _Attempt) -> bool:
    counting = vault.counted.intersection(attempt.promises)
    return attempt.outcome is None and len(counting) >= group.quorum.read


def _prepare(vault: Vault, group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    for attempt in attempts:
        attempt.ballot = register.make_ballot(register.next_counter(attempt.seen), vault.entropy(16))
        attempt.promises, attempt.item = {}, None
    refused: dict[RegisterKey, set[NodeId]] = {attempt.change.key: set() for attempt in attempts}
    over: dict[NodeId, set[RegisterKey]] = {node: set() for node in group.nodes}

    def take(node: NodeId, reply: Reply) -> None:
        promises = bulk_rows.decode_promises(reply.bulk)
        if len(promises) != len(attempts):
            raise RemoteProtocolError("a PREPARE reply of another length")
        for attempt, promise in zip(attempts, promises, strict=True):
            state = checked(vault, [node], attempt.change.key, promise.state)
            if promise.granted and not state.corrupt:
                attempt.promises[node] = state
            elif promise.ballot:
                _note(attempt, promise.ballot)
                refused[attempt.change.key].add(node)
            elif not state.corrupt:
                over[node].add(attempt.change.key)

    def enough(_answers: Answers) -> bool:
        return all(
            (_promised(vault, group, attempt) and not attempt.thorough)
            or len(group.nodes) - len(refused[attempt.change.key]) < group.quorum.read
            for attempt in attempts
        )

    items = tuple(messages.PrepareItem(attempt.change.key, attempt.ballot) for attempt in attempts)
    request = messages.Prepare(vault.roster_digest, items)
    sends = [Send(node, node, request) for node in group.nodes]
    answers = yield from ask(sends, enough, take=take, stragglers=False)
    full = yield from space_errors({node: [messages.OVER_QUOTA] for node, keys in over.items() if keys})
    vault.note(answers.errors)
    for attempt in attempts:
        if not _promised(vault, group, attempt) and not refused[attempt.change.key]:
            mine = {node: error for node, error in full.items() if attempt.change.key in over[node]}
            if mine and not attempt.sent:
                attempt.outcome = no_room(vault, _shown(attempt), {**answers.errors, **mine})
            else:
                attempt.outcome = _gave_up(attempt, too_few(vault, group, answers, group.quorum.read).what)


def _note(attempt: _Attempt, ballot: Ballot) -> None:
    """Remember a ballot to go beyond.

    Raises:
        RemoteProtocolError: it is implausibly far beyond all others.
    """
    if register.jumps(ballot, register.next_counter(attempt.seen)):
        raise RemoteProtocolError("a ballot far beyond all others")
    attempt.seen.append(ballot)


# --- Propose ------------------------------------------------------------------------------------------------


def _propose(vault: Vault, group: Group, attempt: _Attempt) -> Operation[None]:
    states = {node: state for node, state in attempt.promises.items() if node in vault.counted}
    rolled_back = len(vault.rolled_back.intersection(group.nodes))
    memories = register.memories(states, group.quorum, rolled_back=rolled_back)
    rows = [
        None if state.row is None or memories.get(state.row.accepted) is Memory.FORGOTTEN else state.row
        for state in states.values()
    ]
    bases, may_be_empty = register.candidates(rows, group.quorum, rolled_back)
    for base in (*bases, *([None] if may_be_empty else [])):
        doubtful = base is not None and memories[base.accepted] is Memory.DOUBTFUL
        attempt.outcome = None
        try:
            claims = yield from _proposal(vault, group, attempt, base, doubtful=doubtful)
        except IncompleteError as error:
            attempt.outcome = error
            continue  # a lower value is allowed, if there is one
        except DfsError as error:
            attempt.outcome = error
            break
        if attempt.proposal is not None:
            _seal(vault, attempt, attempt.proposal, claims)
        break
    if isinstance(attempt.outcome, IncompleteError) and not attempt.thorough:
        attempt.outcome, attempt.thorough = None, True
    if attempt.sent and isinstance(attempt.outcome, DfsError):  # what was sent may yet be chosen
        attempt.outcome = _gave_up(attempt, attempt.outcome.what)


def _proposal(
    vault: Vault, group: Group, attempt: _Attempt, base: RegisterRow | None, *, doubtful: bool
) -> Operation[Sequence[Claim]]:
    """Decide what to propose over ``base`` and return its claims; nothing to propose sets the outcome
    instead.
    """
    change = attempt.change
    current = None if base is None else vault.open(change.key, base)
    attempt.base, attempt.refusal, attempt.proposal = base, None, None
    settled = base is None or (not doubtful and _chosen(vault, group, attempt, base))
    try:
        if current is not None and current.version == attempt.version and visible(current) is None:
            attempt.proposal = Proposal(current)  # our own tombstone, which a change would not see
        elif not _overtaken(attempt, base, current):
            if doubtful:
                change.decide(None)  # what holds only over a value that may have been forgotten must wait
            attempt.proposal = change.decide(visible(current))
    except DfsError as error:
        if settled:
            raise
        attempt.refusal = error  # true only once the value it speaks of is chosen
    attempt.own = attempt.proposal is not None and attempt.proposal.claims is not None
    if attempt.proposal is not None and attempt.proposal.claims is not None:
        attempt.version = attempt.proposal.entry.version
        return attempt.proposal.claims
    if attempt.proposal is None and (current is None or settled):
        attempt.outcome = Changed(visible(current))
        return ()
    if doubtful:
        raise IncompleteError(
            f"{change.path or 'a name'}: only nodes that are away know whether it was deleted"
        )
    claims = yield from claims_of(vault, group, current)  # type: ignore[arg-type] # None was settled above
    whole = {
        node
        for node, state in attempt.promises.items()
        if base is not None and state.row is not None and state.row.accepted == base.accepted
        if not state.row.owed_count and not state.row.corrupt_count
    }
    yield from require_readable(vault, group, claims, whole)
    threshold = max(
        (share_threshold(claim.geometry, claim.nodes, group.quorum) for claim in claims), default=0
    )
    attempt.proposal = Proposal(current, claims, threshold=threshold)  # type: ignore[arg-type]
    return claims


def _chosen(vault: Vault, group: Group, attempt: _Attempt, base: RegisterRow) -> bool:
    holding = {
        node: state.row
        for node, state in attempt.promises.items()
        if state.row is not None and (state.row.accepted, state.row.digest) == (base.accepted, base.digest)
    }
    if any(proven(vault, attempt.change.key, row) for row in holding.values()):
        return True
    return len(vault.counted.intersection(holding)) >= group.quorum.write


def _overtaken(attempt: _Attempt, base: RegisterRow | None, current: Entry | None) -> bool:
    """Return whether somebody built upon the value that was sent: then it took effect.

    Raises:
        UnknownOutcomeError: others wrote meanwhile, and what is there does not tell whether over it.
    """
    if not attempt.sent:
        return False
    first = attempt.sent[0].ballot
    forgotten = max(state.floor for state in attempt.promises.values()) >= first
    if base is None or current is None:
        unknown = forgotten  # perhaps it took effect, was removed, and that forgotten
    elif base.accepted <= first or attempt.version == current.version:
        return False
    elif current.previous in {sent.digest for sent in attempt.sent}:
        return True
    else:  # built upon what was there before: then what was sent never took effect
        same = {current.previous} == {sent.foundation for sent in attempt.sent}
        unknown = not same or (forgotten and not current.previous)
    if unknown:
        raise UnknownOutcomeError(f"{attempt.change.path or 'a change'}: others have written it meanwhile")
    return False


def _seal(vault: Vault, attempt: _Attempt, proposal: Proposal, claims: Sequence[Claim]) -> None:
    change = attempt.change
    previous = attempt.base.digest if attempt.base is not None else b""
    entry = proposal.entry if proposal.entry.previous else evolve(proposal.entry, previous=previous)
    value = seal_entry(vault.keys.entry, vault.entropy(ENTRY_NONCE_SIZE), entry, change.key, attempt.ballot)
    attempt.proposal = evolve(proposal, entry=entry)
    attempt.claims = b"".join(bulk_rows.encode_claim(claim) for claim in claims)
    claim_set = register.claim_set_digest(attempt.claims)
    small = attempt.claims if len(attempt.claims) <= CLAIMS_INLINE_SIZE_MAX else b""
    digest = register.value_digest(value, claim_set)
    attempt.item = AcceptItem(change.key, attempt.ballot, value, digest, claim_set, small, lenient=False)


# --- Accept -------------------------------------------------------------------------------------------------


@define
class _Judged:
    """What nodes said to one ACCEPT: statuses by register, why others said nothing, or took nothing.

    ``again``: one may have got it twice, so that it refuses what it accepted before.
    """

    statuses: dict[RegisterKey, dict[NodeId, int]]
    errors: dict[NodeId, Exception] = field(factory=dict)
    full: dict[NodeId, Exception] = field(factory=dict)
    again: bool = False


def _accept(vault: Vault, group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    yield from _stage_claims(group, attempts)
    for batch in runs(attempts, _item_size, ACCEPT_ROWS_SIZE_MAX):
        for attempt in batch:
            if attempt.own and attempt.item is not None:
                foundation = attempt.base.digest if attempt.base is not None else b""
                attempt.sent.append(_Sent(attempt.ballot, attempt.item.digest, foundation))
        judged = _Judged({attempt.change.key: {} for attempt in batch})
        first = {node: [attempt for attempt in batch if not _waits(attempt, node)] for node in group.nodes}
        yield from _accept_at(vault, group, judged, first, lenient=False)
        late = {node: _owing(batch, judged, node) for node in group.nodes}
        yield from _accept_at(vault, group, judged, late, lenient=True)
        given = {node: [told.get(node, -1) for told in judged.statuses.values()] for node in group.nodes}
        judged.full = {**judged.errors, **(yield from space_errors(given))}
        for attempt in batch:
            statuses = judged.statuses[attempt.change.key]
            silent = [node for node in group.nodes if node not in statuses and not _waits(attempt, node)]
            if attempt.own and not silent and not _accepting(statuses) and not judged.again:
                attempt.sent.pop()  # all refused it: it never took effect
            attempt.outcome = _judge(vault, group, attempt, statuses, judged.full)


def _waits(attempt: _Attempt, node: NodeId) -> bool:
    """Return whether a node owes its shares and is asked last: else W nodes might have a value but not k."""
    proposal = attempt.proposal
    return proposal is not None and bool(proposal.strict) and _lenient(attempt, node)


def _owing(batch: Sequence[_Attempt], judged: _Judged, node: NodeId) -> list[_Attempt]:
    """Return the attempts whose shares a node lacks and owes: enough others hold theirs."""
    return [
        attempt
        for attempt in batch
        if judged.statuses[attempt.change.key].get(node) == messages.MISSING or _waits(attempt, node)
        if (proposal := attempt.proposal) is not None
        if len(_strict(judged.statuses[attempt.change.key])) >= min(proposal.threshold, len(proposal.strict))
    ]


def _strict(statuses: Mapping[NodeId, int]) -> set[NodeId]:
    return {node for node, status in statuses.items() if status == messages.ACCEPTED}


def _accepting(statuses: Mapping[NodeId, int]) -> set[NodeId]:
    return {node for node, status in statuses.items() if status in {messages.ACCEPTED, messages.OWING}}


def _item_size(attempt: _Attempt) -> int:
    return len(attempt.item.value) + len(attempt.item.claims) if attempt.item is not None else 0


def _stage_claims(group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    for attempt in attempts:
        if attempt.item is None or attempt.item.claims or not attempt.claims or attempt.proposal is None:
            continue
        parts = [bulk_rows.encode_claim(claim) for claim in attempt.proposal.claims or ()]
        for index, part in enumerate(chop(parts, ACCEPT_ROWS_SIZE_MAX)):
            request = messages.Claims(attempt.item.claim_set, index)
            sends = [Send(node, node, request, (part,)) for node in group.nodes]
            yield from ask(sends, lambda answers: len(answers.replies) >= group.quorum.write)


def _accept_at(
    vault: Vault,
    group: Group,
    judged: _Judged,
    wanted: Mapping[NodeId, Sequence[_Attempt]],
    *,
    lenient: bool,
) -> Operation[None]:
    def take(node: NodeId, reply: Reply) -> None:
        results = reply.response.results if isinstance(reply.response, messages.AcceptReply) else ()
        if len(results) != len(wanted[node]):
            raise RemoteProtocolError("an ACCEPT reply of another length")
        judged.again = judged.again or reply.again
        for attempt, result in zip(wanted[node], results, strict=True):
            judged.statuses[attempt.change.key][node] = result.status
            if result.ballot:
                _note(attempt, result.ballot)

    sends = []
    for node, attempts in wanted.items():
        if not attempts:
            continue
        items = [
            evolve(attempt.item, lenient=lenient or _lenient(attempt, node))
            for attempt in attempts
            if attempt.item is not None
        ]
        request = messages.Accept(vault.roster_digest, len(items))
        sends.append(Send(node, node, request, (bulk_rows.encode_accepts(items),)))
    enough = 0 if lenient else min(group.quorum.write, len(sends))  # those who owe need not be waited for
    answers = yield from ask(sends, lambda answers: len(answers.replies) >= enough, take=take)
    judged.errors.update(answers.errors)
    vault.note(answers.errors)


def _lenient(attempt: _Attempt, node: NodeId) -> bool:
    proposal = attempt.proposal
    return proposal is not None and bool(proposal.claims) and node not in proposal.strict


def _judge(
    vault: Vault,
    group: Group,
    attempt: _Attempt,
    statuses: Mapping[NodeId, int],
    errors: Mapping[NodeId, Exception],
) -> Changed | DfsError | None:
    """Return how an attempt ended; None = a higher ballot stands in the way, try again."""
    proposal = attempt.proposal
    invariant(proposal is not None, "an attempt was accepted that proposed nothing")
    if messages.CONTRADICTED in statuses.values():
        return LocalProtocolError("one ballot was used for two values")
    strict = _strict(statuses)
    accepted = _accepting(statuses)
    if len(vault.counted.intersection(accepted)) >= group.quorum.write:
        safe = not proposal.claims or len(strict) >= proposal.threshold  # type: ignore[union-attr]
        return Changed(proposal.entry, frozenset(accepted), frozenset(strict), safe)  # type: ignore[union-attr]
    if messages.REFUSED in statuses.values():
        return None
    full = without_room(statuses, errors)
    asked = {node for node in group.nodes if not _waits(attempt, node)}
    if full and not accepted and asked <= statuses.keys() | full.keys():  # all refused for good
        return no_room(vault, _shown(attempt), full)
    reasons = f" ({vault.reasons(full)})" if full else ""
    reached = f"{len(accepted)} of {len(group.nodes)} nodes accepted, {group.quorum.write} needed"
    return _gave_up(attempt, reached + reasons)
