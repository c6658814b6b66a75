"""Registers of many paths at once, client side: read them, change them; pure operations over the group's nodes.

A read answers in one round trip when the top value is proven; otherwise it completes the value first (an identity
change). A change is PREPARE, ACCEPT, CONFIRM; see register.py for the decisions and PROTOCOL for the rules.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import define, evolve, field, frozen

from dfs.core import limits, messages, register
from dfs.core.effects import Answers, Operation, Send, ask, sleep, together
from dfs.core.encoding import chop
from dfs.core.errors import (
    CorruptEntryError,
    DfsError,
    DiskFullError,
    IncompleteError,
    LocalProtocolError,
    QuorumError,
    QuotaError,
    RemoteProtocolError,
    UnknownOutcomeError,
    invariant,
)
from dfs.core.keys import confirm_tag
from dfs.core.manifest import ENTRY_NONCE_SIZE, open_entry, seal_entry
from dfs.core.messages import AcceptItem, RowState, ShareBody
from dfs.core.quorum import share_threshold
from dfs.core.register import Reading, Verdict, decide_read
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
    ShareKey,
)

ATTEMPT_COUNT_MAX = 12  # ballots tried before a contended write gives up
ACCEPT_ROWS_SIZE_MAX = 4 * limits.MIB
CLAIMS_INLINE_SIZE_MAX = 8 * limits.KIB  # longer claims are staged before the ACCEPT


@frozen
class Found:
    """A register as read. ``entry``: None when the path holds nothing. ``stale``: a newer version may exist.

    ``rows``: by node, of those that hold the top value. ``shares``: small shares that came along.
    """

    key: RegisterKey
    entry: Entry | None
    row: RegisterRow | None
    stale: bool
    rows: Mapping[NodeId, RegisterRow] = field(factory=dict, repr=False)
    shares: Mapping[ShareKey, ShareBody] = field(factory=dict, repr=False)
    answered: frozenset[NodeId] = frozenset()
    corrupt: frozenset[NodeId] = frozenset()


@frozen
class Proposal:
    """What a change writes. ``claims``: of the entry; None for an identity change (they follow from the entry).

    ``strict``: nodes that hold all shares they should. ``threshold``: how many of them make it safe (H).
    """

    entry: Entry
    claims: Sequence[Claim] | None = field(default=(), repr=False)
    strict: frozenset[NodeId] = frozenset()
    threshold: int = 0


Decide: TypeAlias = Callable[[Entry | None], "Proposal | None"]  # may raise; None = leave it as it is


@frozen
class Change:
    """A register to change. ``decide`` gets the current entry (None: nothing or a tombstone), perhaps several times.

    ``after``: the highest ballot seen of it so far, which saves a refused attempt.
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


def too_few(vault: Vault, group: Group, answers: Answers, needed: int) -> QuorumError:
    """Return the error of an operation that too few nodes answered."""
    there = len(group.nodes) - len(answers.errors)
    return QuorumError(
        f"{there} of {len(group.nodes)} nodes answer, {needed} needed ({vault.reasons(answers.errors)})"
    )


def _grouped(vault: Vault, keys: Iterable[RegisterKey]) -> dict[tuple[int, ...], tuple[Group, list[RegisterKey]]]:
    groups: dict[tuple[int, ...], tuple[Group, list[RegisterKey]]] = {}
    for key in keys:
        group = vault.group(key.directory)
        groups.setdefault(group.indexes, (group, []))[1].append(key)
    return groups


def _slices(keys: Sequence[RegisterKey]) -> Iterator[Sequence[RegisterKey]]:
    for first in range(0, len(keys), limits.REGISTER_COUNT):
        yield keys[first : first + limits.REGISTER_COUNT]


# --- Reading -----------------------------------------------------------------------------------------------------


def proven(vault: Vault, key: RegisterKey, row: RegisterRow) -> bool:
    """Return whether a row's confirm tag shows that its ballot was chosen."""
    return row.confirmed != b"" and row.confirmed == confirm_tag(vault.keys, key, row.accepted, row.digest)


def read_registers(
    vault: Vault, keys: Sequence[RegisterKey], *, with_shares: bool = False, wait_all: bool = False
) -> Operation[dict[RegisterKey, Found]]:
    """Read registers linearizably; below R nodes the answer is `stale`.

    Args:
        wait_all: wait for every node that makes progress, to know who holds what.

    Raises:
        QuorumError: no node answers. IncompleteError: a half-written value can neither be excluded nor rebuilt.
    """
    reads = [
        _read_group(vault, group, part, with_shares=with_shares, wait_all=wait_all)
        for group, members in _grouped(vault, keys).values()
        for part in _slices(members)
    ]
    found: dict[RegisterKey, Found] = {}
    for part in (yield from together(reads)):
        found.update(part)
    return found


def _read_group(
    vault: Vault, group: Group, keys: Sequence[RegisterKey], *, with_shares: bool, wait_all: bool
) -> Operation[dict[RegisterKey, Found]]:
    request = messages.Read(vault.roster_digest, with_values=True, with_shares=with_shares, keys=tuple(keys))
    states: dict[NodeId, Sequence[RowState]] = {}

    def verdicts(answers: Answers, *, final: bool) -> list[Reading]:
        for node in answers.replies.keys() - states.keys():
            states[node] = _checked_states(vault, keys, messages.decode_states(answers.replies[node].bulk))
        return [
            decide(vault, group, key, {node: rows[index] for node, rows in states.items()}, final=final)
            for index, key in enumerate(keys)
        ]

    def enough(answers: Answers) -> bool:
        return all(reading.verdict is Verdict.ANSWER for reading in verdicts(answers, final=False))

    sends = [Send(node, node, request) for node in group.nodes]
    answers = yield from ask(sends, enough, stragglers=wait_all, quick=True)
    if not answers.replies:
        raise too_few(vault, group, answers, group.quorum.read)
    readings = dict(zip(keys, verdicts(answers, final=True), strict=True))
    found = {
        key: found_in(vault, key, reading, {node: rows[index] for node, rows in states.items()})
        for index, (key, reading) in enumerate(readings.items())
    }
    undecided = [key for key, reading in readings.items() if reading.verdict is Verdict.COMPLETE]
    if undecided:
        completed = yield from complete(vault, group, [found[key] for key in undecided])
        found.update({item.key: item for item in completed})
    return found


def _checked_states(vault: Vault, keys: Sequence[RegisterKey], states: Sequence[RowState]) -> Sequence[RowState]:
    if len(states) != len(keys):
        raise RemoteProtocolError("a READ reply of another length")
    return [checked(vault, key, state) for key, state in zip(keys, states, strict=True)]


def checked(vault: Vault, key: RegisterKey, state: RowState) -> RowState:
    """Return the state, as corrupt if its value is not authentic (a damaged or lying row is no vote)."""
    row = state.row
    if row is None or not row.accepted or not row.value:
        return state
    try:
        open_entry(vault.keys.entry, key, row)
    except CorruptEntryError:
        return RowState(corrupt=True)
    return state


def decide(
    vault: Vault, group: Group, key: RegisterKey, states: Mapping[NodeId, RowState], *, final: bool
) -> Reading:
    """Return what the states read so far allow, see `register.decide_read`."""
    counted = vault.counted.intersection(group.nodes)
    return decide_read(
        states, group.quorum, counted=counted, confirmed=lambda row: proven(vault, key, row), final=final
    )


def found_in(vault: Vault, key: RegisterKey, reading: Reading, states: Mapping[NodeId, RowState]) -> Found:
    """Return what a reading found, opened."""
    top = reading.top
    return Found(
        key=key,
        entry=visible(open_entry(vault.keys.entry, key, top)) if top is not None else None,
        row=top,
        stale=reading.stale,
        rows=reading.holders,
        shares={share.key: share for state in states.values() for share in state.shares},
        answered=frozenset(states),
        corrupt=frozenset(node for node, state in states.items() if state.corrupt),
    )


def visible(entry: Entry | None) -> Entry | None:
    """Return the entry, a tombstone as nothing."""
    return None if entry is None or entry.kind is EntryKind.TOMBSTONE else entry


def complete(vault: Vault, group: Group, found: Sequence[Found]) -> Operation[list[Found]]:
    """Make half-written values chosen (identity changes), and return what the registers hold then.

    Raises:
        DfsError: of the first that could not be completed.
    """
    changes = [Change(item.key, "", _identity, item.row.accepted if item.row else NO_BALLOT) for item in found]
    outcomes = yield from change_group(vault, group, changes)
    done: list[Found] = []
    for item in found:
        outcome = outcomes[item.key]
        if isinstance(outcome, DfsError):
            raise outcome
        done.append(evolve(item, entry=visible(outcome.entry), stale=False, shares={}))
    return done


def _identity(current: Entry | None) -> Proposal | None:
    return None if current is None else Proposal(current, claims=None)


# --- Changing ----------------------------------------------------------------------------------------------------


def change_registers(vault: Vault, changes: Sequence[Change]) -> Operation[Outcomes]:
    """Change registers; each ends as Changed or with its own error.

    The errors: what ``decide`` raised, QuorumError (nothing was accepted), UnknownOutcomeError, SpaceError,
    IncompleteError (an earlier value can neither be excluded nor rebuilt; nothing was changed).
    """
    by_key = {change.key: change for change in changes}
    operations = [
        change_group(vault, group, [by_key[key] for key in part])
        for group, members in _grouped(vault, by_key).values()
        for part in _slices(members)
    ]
    outcomes: Outcomes = {}
    for part in (yield from together(operations)):
        outcomes.update(part)
    return outcomes


@define
class _Attempt:
    """One register on its way through the phases; ``outcome`` is set when it has ended."""

    change: Change
    seen: list[Ballot]
    ballot: Ballot = NO_BALLOT
    promises: dict[NodeId, RegisterRow | None] = field(factory=dict)
    base: RegisterRow | None = None
    proposal: Proposal | None = None
    item: AcceptItem | None = None
    claims: bytes = b""
    accepted: set[NodeId] = field(factory=set)
    strict: set[NodeId] = field(factory=set)
    sent: bool = False
    outcome: Changed | DfsError | None = None


def change_group(vault: Vault, group: Group, changes: Sequence[Change]) -> Operation[Outcomes]:
    """Change registers of one group, at most REGISTER_COUNT; see `change_registers`."""
    attempts = [_Attempt(change, [change.after]) for change in changes]
    for round_index in range(ATTEMPT_COUNT_MAX):
        running = [attempt for attempt in attempts if attempt.outcome is None]
        if not running:
            break
        if round_index > 1:  # duelling writers: random, growing pauses
            drawn = int.from_bytes(vault.entropy(2), "big") / 65536
            yield from sleep(drawn * round_index * limits.BACKOFF_S_MAX)
        yield from _prepare(vault, group, running)
        yield from _propose(vault, group, [attempt for attempt in running if _promised(vault, group, attempt)])
        yield from _accept(vault, group, [attempt for attempt in running if attempt.item is not None])
    for attempt in attempts:
        if attempt.outcome is None:
            attempt.outcome = _gave_up(attempt, "other clients keep writing it")
    yield from _confirm(vault, group, [attempt for attempt in attempts if isinstance(attempt.outcome, Changed)])
    return {attempt.change.key: attempt.outcome for attempt in attempts if attempt.outcome is not None}


def _gave_up(attempt: _Attempt, reason: str) -> DfsError:
    if attempt.sent:
        return UnknownOutcomeError(f"{attempt.change.path or 'a change'}: not confirmed ({reason})")
    return QuorumError(f"{attempt.change.path or 'a change'}: {reason}")


def _promised(vault: Vault, group: Group, attempt: _Attempt) -> bool:
    counting = vault.counted.intersection(attempt.promises)
    return attempt.outcome is None and len(counting) >= group.quorum.read


def _prepare(vault: Vault, group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    for attempt in attempts:
        attempt.ballot = register.make_ballot(register.next_counter(attempt.seen), vault.entropy(16))
        attempt.promises, attempt.item = {}, None
    read: set[NodeId] = set()
    refused: dict[RegisterKey, set[NodeId]] = {attempt.change.key: set() for attempt in attempts}

    def enough(answers: Answers) -> bool:
        for node in answers.replies.keys() - read:
            read.add(node)
            _take_promises(vault, attempts, node, messages.decode_promises(answers.replies[node].bulk), refused)
        return all(
            _promised(vault, group, attempt)
            or len(group.nodes) - len(refused[attempt.change.key]) < group.quorum.read
            for attempt in attempts
        )

    items = tuple(messages.PrepareItem(attempt.change.key, attempt.ballot) for attempt in attempts)
    request = messages.Prepare(vault.roster_digest, items)
    answers = yield from ask([Send(node, node, request) for node in group.nodes], enough, stragglers=False)
    for attempt in attempts:
        if not _promised(vault, group, attempt) and not refused[attempt.change.key]:
            attempt.outcome = too_few(vault, group, answers, group.quorum.read)
            if attempt.sent:
                attempt.outcome = _gave_up(attempt, attempt.outcome.what)


def _take_promises(
    vault: Vault,
    attempts: Sequence[_Attempt],
    node: NodeId,
    promises: Sequence[messages.Promise],
    refused: dict[RegisterKey, set[NodeId]],
) -> None:
    if len(promises) != len(attempts):
        raise RemoteProtocolError(f"{vault.named([node])}: a PREPARE reply of another length")
    for attempt, promise in zip(attempts, promises, strict=True):
        state = checked(vault, attempt.change.key, promise.state)
        if promise.granted and not state.corrupt:
            attempt.promises[node] = state.row
            continue
        if register.jumps(promise.ballot, register.next_counter(attempt.seen)):
            raise RemoteProtocolError(f"{vault.named([node])}: a ballot far beyond all others")
        if promise.ballot:
            refused[attempt.change.key].add(node)
            attempt.seen.append(promise.ballot)


def _propose(vault: Vault, group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    for attempt in attempts:
        bases, may_be_empty = register.candidates(list(attempt.promises.values()), group.quorum)
        for base in (*bases, *([None] if may_be_empty else [])):
            try:
                claims = yield from _proposal(vault, group, attempt, base)
            except IncompleteError as error:
                attempt.outcome = error
                continue  # a lower value is allowed, if there is one
            except DfsError as error:
                attempt.outcome = error
                break
            attempt.outcome = None
            if attempt.proposal is None:
                attempt.outcome = Changed(None if base is None else _opened(vault, attempt, base))
            else:
                _seal(vault, attempt, claims)
            break


def _opened(vault: Vault, attempt: _Attempt, base: RegisterRow) -> Entry:
    return open_entry(vault.keys.entry, attempt.change.key, base)


def _proposal(
    vault: Vault, group: Group, attempt: _Attempt, base: RegisterRow | None
) -> Operation[Sequence[Claim]]:
    current = None if base is None else _opened(vault, attempt, base)
    attempt.base = base
    attempt.proposal = attempt.change.decide(visible(current))
    if attempt.proposal is None and current is not None and current.kind is EntryKind.TOMBSTONE:
        attempt.proposal = Proposal(current)  # leaving a tombstone as it is means completing it
    if attempt.proposal is None:
        return ()
    if attempt.proposal.claims is not None:
        return attempt.proposal.claims
    claims = yield from claims_of(vault, group, attempt.proposal.entry)
    whole = {
        node
        for node, row in attempt.promises.items()
        if base is not None and row is not None and row.accepted == base.accepted
        if not row.owed_count and not row.corrupt_count
    }
    yield from require_readable(vault, group, claims, whole)
    threshold = max((_threshold(group, claim) for claim in claims), default=0)
    attempt.proposal = evolve(attempt.proposal, claims=claims, threshold=threshold)
    return claims


def _threshold(group: Group, claim: Claim) -> int:
    return share_threshold(claim.geometry, claim.nodes, group.quorum)


def _seal(vault: Vault, attempt: _Attempt, claims: Sequence[Claim]) -> None:
    proposal, change = attempt.proposal, attempt.change
    if proposal is None:
        return
    previous = attempt.base.digest if attempt.base is not None else b""
    entry = proposal.entry if proposal.entry.previous else evolve(proposal.entry, previous=previous)
    value = seal_entry(vault.keys.entry, vault.entropy(ENTRY_NONCE_SIZE), entry, change.key, attempt.ballot)
    attempt.proposal = evolve(proposal, entry=entry)
    attempt.claims = b"".join(messages.encode_claim(claim) for claim in claims)
    claim_set = register.claim_set_digest(attempt.claims)
    small = attempt.claims if len(attempt.claims) <= CLAIMS_INLINE_SIZE_MAX else b""
    digest = register.value_digest(value, claim_set)
    attempt.item = AcceptItem(change.key, attempt.ballot, value, digest, claim_set, small, lenient=False)


def _accept(vault: Vault, group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    yield from _stage_claims(group, attempts)
    for batch in _accept_batches(attempts):
        for attempt in batch:
            attempt.sent, attempt.accepted, attempt.strict = True, set(), set()
        statuses = yield from _accept_at(vault, group, batch, dict.fromkeys(group.nodes, batch), lenient=False)
        again = {
            node: [attempt for attempt in batch if results.get(attempt.change.key) == messages.MISSING]
            for node, results in statuses.items()
        }
        lenient = {node: late for node, late in again.items() if late}
        if lenient:  # the shares went missing meanwhile: the node owes them
            for node, results in (yield from _accept_at(vault, group, batch, lenient, lenient=True)).items():
                statuses[node].update(results)
        for attempt in batch:
            found = {node: results[attempt.change.key] for node, results in statuses.items() if results}
            attempt.outcome = _judge(vault, group, attempt, found)


def _accept_batches(attempts: Sequence[_Attempt]) -> Iterator[list[_Attempt]]:
    batch: list[_Attempt] = []
    size = 0
    for attempt in attempts:
        item_size = len(attempt.item.value) + len(attempt.item.claims) if attempt.item is not None else 0
        if batch and size + item_size > ACCEPT_ROWS_SIZE_MAX:
            yield batch
            batch, size = [], 0
        batch.append(attempt)
        size += item_size
    if batch:
        yield batch


def _stage_claims(group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    for attempt in attempts:
        if attempt.item is None or attempt.item.claims or not attempt.claims or attempt.proposal is None:
            continue
        parts = [messages.encode_claim(claim) for claim in attempt.proposal.claims or ()]
        for index, part in enumerate(chop(parts, ACCEPT_ROWS_SIZE_MAX)):
            request = messages.Claims(attempt.item.claim_set, index)
            sends = [Send(node, node, request, (part,)) for node in group.nodes]
            yield from ask(sends, lambda answers: len(answers.replies) >= group.quorum.write)


def _accept_at(
    vault: Vault,
    group: Group,
    batch: Sequence[_Attempt],
    wanted: Mapping[NodeId, Sequence[_Attempt]],
    *,
    lenient: bool,
) -> Operation[dict[NodeId, dict[RegisterKey, int]]]:
    sends = []
    for node, attempts in wanted.items():
        items = [
            evolve(attempt.item, lenient=lenient or _lenient(attempt, node))
            for attempt in attempts
            if attempt.item is not None
        ]
        request = messages.Accept(vault.roster_digest, len(items))
        sends.append(Send(node, node, request, (messages.encode_accepts(items),)))
    answers = yield from ask(sends, lambda answers: len(answers.replies) >= group.quorum.write)
    statuses: dict[NodeId, dict[RegisterKey, int]] = {node: {} for node in wanted}
    for node, reply in answers.replies.items():
        results = reply.response.results if isinstance(reply.response, messages.AcceptReply) else ()
        if len(results) != len(wanted[node]):
            raise RemoteProtocolError(f"{vault.named([node])}: an ACCEPT reply of another length")
        for attempt, result in zip(wanted[node], results, strict=True):
            statuses[node][attempt.change.key] = result.status
            attempt.seen.extend([result.ballot] if result.ballot else [])
    return statuses


def _lenient(attempt: _Attempt, node: NodeId) -> bool:
    proposal = attempt.proposal
    return proposal is not None and bool(proposal.claims) and node not in proposal.strict


def _judge(
    vault: Vault, group: Group, attempt: _Attempt, statuses: Mapping[NodeId, int]
) -> Changed | DfsError | None:
    """Return how an attempt ended; None = a higher ballot stands in the way, try again."""
    proposal = attempt.proposal
    invariant(proposal is not None, "an attempt was accepted that proposed nothing")
    if messages.CONTRADICTED in statuses.values():
        return LocalProtocolError("one ballot was used for two values")
    strict = {node for node, status in statuses.items() if status == messages.ACCEPTED}
    accepted = strict | {node for node, status in statuses.items() if status == messages.OWING}
    if len(vault.counted.intersection(accepted)) >= group.quorum.write:
        safe = not proposal.claims or len(strict) >= proposal.threshold  # type: ignore[union-attr]
        return Changed(proposal.entry, frozenset(accepted), frozenset(strict), safe)  # type: ignore[union-attr]
    if messages.REFUSED in statuses.values():
        return None
    if not accepted and len(statuses) == len(group.nodes):  # every node refused for good: nothing happened
        if messages.OVER_QUOTA in statuses.values():
            return QuotaError("the quota is used up")
        if messages.FULL in statuses.values():
            return DiskFullError("the nodes are full")
    return _gave_up(attempt, f"{len(accepted)} of {len(group.nodes)} nodes accepted, {group.quorum.write} needed")


def _confirm(vault: Vault, group: Group, attempts: Sequence[_Attempt]) -> Operation[None]:
    for durable in (False, True):
        chosen = [
            (attempt, attempt.item, attempt.outcome)
            for attempt in attempts
            if attempt.item is not None and isinstance(attempt.outcome, Changed)
            if durable is (attempt.item.value[0] == EntryKind.TOMBSTONE)
        ]
        if not chosen:
            continue
        items = tuple(
            messages.ConfirmItem(
                item.key, item.ballot, confirm_tag(vault.keys, item.key, item.ballot, item.digest), outcome.safe
            )
            for _, item, outcome in chosen
        )
        request = messages.Confirm(vault.roster_digest, durable, items)
        answers = yield from ask(
            [Send(node, node, request) for node in group.nodes],
            lambda answers: len(answers.replies) >= group.quorum.write,
            quick=not durable,
        )
        if durable:
            yield from _forget(vault, group, [item for _, item, _ in chosen], answers)


def _forget(vault: Vault, group: Group, items: Sequence[AcceptItem], answers: Answers) -> Operation[None]:
    """Drop tombstones that all n nodes hold confirmed; with a node that does not count (JOINING) they stay."""
    if len(answers.replies) < len(group.nodes) or not vault.counted.issuperset(group.nodes):
        return
    held = [
        reply.response.held for reply in answers.replies.values() if isinstance(reply.response, messages.ConfirmReply)
    ]
    forgotten = tuple(
        messages.PrepareItem(item.key, item.ballot)
        for index, item in enumerate(items)
        if all(index < len(answer) and answer[index] for answer in held)
    )
    if forgotten:
        request = messages.Forget(vault.roster_digest, forgotten)
        yield from ask([Send(node, node, request) for node in group.nodes])
