"""Rules of clients, broken one by one: quorums, ballots, reads, conditions, what is said of an outcome.

Each function returns the patches of one mutant, with fresh state; `mutants.py` says which is which.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve

from dfs.core import (
    confirming,
    consensus,
    folders,
    getting,
    messages,
    putting,
    quorum,
    reading,
    register,
    renaming,
    transfer,
    vaults,
)
from dfs.core.bulk_rows import AcceptItem
from dfs.core.consensus import Change, Changed
from dfs.core.effects import Answers, Operation, work
from dfs.core.errors import ConflictError, DfsError, IncompleteError, NotFoundError, QuorumError
from dfs.core.interface import Env, Transaction
from dfs.core.keys import register_key
from dfs.core.messages import AcceptResult
from dfs.core.node import VaultNode
from dfs.core.putting import PutItem
from dfs.core.quorum import Quorum
from dfs.core.reading import Found
from dfs.core.register import Reading, Verdict
from dfs.core.transfer import Group, Vault, sources_of
from dfs.core.types import NO_BALLOT, Ballot, Entry, EntryKind, Manifest, RegisterRow, Version
from tests.simulation.mutants_patching import Function, Patch, Patches

CLOCK_START_S = 1e10  # clocks are years apart, but none shows less than zero then


# --- Quorums ------------------------------------------------------------------------------------------------


def _other_quorum(change: Callable[[Quorum], Quorum]) -> Patches:
    def changed(original: Function) -> Function:
        return lambda total, tolerance: change(original(total, tolerance))

    return [Patch(quorum, "quorum_of", changed)]


def no_intersection() -> Patches:
    """M3: R + W = n."""
    return _other_quorum(lambda right: evolve(right, tolerance=0, read=max(1, right.total - right.write)))


def writes_at_needed() -> Patches:
    """M4: W = k."""
    return _other_quorum(lambda right: evolve(right, write=quorum.default_geometry(right.total).needed))


def no_tolerance() -> Patches:
    """M5: r = 0, though nodes may be rolled back."""

    def changed(original: Function) -> Function:
        return lambda total, _tolerance: original(total, 0)

    return [Patch(quorum, "quorum_of", changed)]


# --- Reads --------------------------------------------------------------------------------------------------


def no_write_back() -> Patches:
    """M1: a value that may be half-written is answered as it is."""

    def changed(_original: Function) -> Function:
        def complete(_vault: Vault, _group: Group, found: Sequence[Found]) -> Operation[list[Found]]:
            yield from ()
            return list(found)

        return complete

    return [Patch(reading, "complete", changed)]


def narrow_write_back() -> Patches:
    """M2: a completed value is answered although fewer than W nodes took it."""

    def changed(original: Function) -> Function:
        def judge(vault: Vault, group: Group, attempt: Any, statuses: Mapping[Any, int], errors: Any) -> Any:
            outcome = original(vault, group, attempt, statuses, errors)
            taken = frozenset(node for node, status in statuses.items() if status == messages.ACCEPTED)
            if attempt.own or isinstance(outcome, Changed) or not taken:
                return outcome
            return Changed(attempt.proposal.entry, taken, taken, safe=False)

        return judge

    return [Patch(consensus, "_judge", changed)]


def _decides(answers: Callable[[Reading, int, Quorum], bool]) -> Patches:
    """Reads that answer as soon as ``answers`` says so of a reading and how many nodes that count replied."""

    def changed(original: Function) -> Function:
        def decide_read(replies: Mapping[Any, Any], right: Quorum, **named: Any) -> Reading:
            found: Reading = original(replies, right, **named)
            counting = [node for node in named["counted"] if node in replies and not replies[node].corrupt]
            early = found.verdict in {Verdict.COMPLETE, Verdict.WAIT} and len(counting) >= right.read
            return (
                evolve(found, verdict=Verdict.ANSWER)
                if early and answers(found, len(counting), right)
                else found
            )

        return decide_read

    return [Patch(register, "decide_read", changed)]


def equal_replies() -> Patches:
    """M6: R equal replies are enough, though R < W."""
    return _decides(lambda found, replied, _right: len(found.holders) == replied)


def any_top() -> Patches:
    """M6: the highest of R replies is enough."""
    return _decides(lambda _found, _replied, _right: True)


def absence_for_certain() -> Patches:
    """M27: fewer than R nodes know nothing of a name, so it does not exist."""

    def changed(original: Function) -> Function:
        def file_of(vault: Vault, found: Any) -> Any:
            try:
                return original(vault, found)
            except QuorumError as error:
                raise NotFoundError(error.what) from None

        return file_of

    return [Patch(getting, "_file_of", changed)]


def tag_unread() -> Patches:
    """M26: what a node calls confirmed is believed without its tag."""

    def changed(_original: Function) -> Function:
        return lambda _vault, _key, row: row.confirmed != b""

    return [Patch(consensus, "proven", changed)]


def below_needed() -> Patches:
    """M30: a value is completed though fewer than k shares of it exist."""

    def changed(_original: Function) -> Function:
        def require_readable(*_arguments: object) -> Operation[None]:
            yield from ()

        return require_readable

    return [Patch(consensus, "require_readable", changed)]


def plain_union() -> Patches:
    """M20: LIST shows what any node has."""

    def union(_original: Function) -> Function:
        def decide(
            _vault: Vault, _group: Group, _key: Any, states: Mapping[Any, Any], *, final: bool
        ) -> Reading:
            rows = [state.row for state in states.values() if state.row is not None and state.row.accepted]
            live = [row for row in rows if row.value[:1] != bytes((EntryKind.TOMBSTONE,))]
            top: RegisterRow | None = max(live or rows, key=lambda row: row.accepted, default=None)
            return Reading(Verdict.ANSWER, top)

        return decide

    def valued(original: Function) -> Function:
        def listed(node: VaultNode, request: messages.List, bulk: memoryview) -> Any:
            return original(node, evolve(request, with_values=True), bulk)

        return listed

    # Only lists are patched; single registers are still read by the rule.
    return [Patch(folders, "decide", union, everywhere=False), Patch(VaultNode, "list", valued)]


def mixed_versions() -> Patches:
    """M21: once shares of a version are gone, the chunks still missing are taken from the next one."""

    def changed(original: Function) -> Function:
        def get_chunks(
            vault: Vault, getting_: Any, entry: Entry, manifest: Manifest, slots: Any, *rest: Any
        ) -> Any:
            if manifest.listed:
                yield from original(vault, getting_, entry, manifest, slots, *rest)
                return
            group = vault.group(getting_.found.key.directory)
            sink = getting_.sink = getting_.item.open_sink(entry)
            offset = index = 0
            while index < len(manifest.chunks):
                source = list(sources_of(vault, group, manifest, manifest.chunks))[index]
                write = partial(sink.write, offset)
                try:
                    yield from transfer.fetch_chunk(vault, source, slots[0], getting_.ledger, write)
                except IncompleteError:
                    now = yield from _next_version(vault, getting_, index)
                    if now is None:
                        raise
                    manifest = now
                else:
                    offset += source.chunk.plain_size
                    index += 1
            yield from work(lambda: sink.finish(entry))

        return get_chunks

    return [Patch(getting, "_get_chunks", changed)]


def _next_version(vault: Vault, getting_: Any, index: int) -> Operation[Manifest | None]:
    """Return the manifest that took the place of another one, if it has a chunk at ``index`` too."""
    replaced = yield from getting._read_again(vault, getting_)
    now = getting_.found.entry.manifest if replaced and getting_.found.entry is not None else None
    return now if now is not None and not now.listed and index < len(now.chunks) else None


# --- Ballots ------------------------------------------------------------------------------------------------


def clock_ballots() -> Patches:
    """M7: the writers' clocks order versions: no promise is asked for, the later time stamp stays."""
    clock_ms = 0

    def reading_the_clock(original: Function) -> Function:
        def prepare(vault: Vault, *arguments: Any) -> Operation[None]:
            nonlocal clock_ms
            client: Env = vault.entropy.__self__  # type: ignore[attr-defined] # a bound method of it
            clock_ms = int((client.wall_s() + CLOCK_START_S) * 1000)
            yield from original(vault, *arguments)

        return prepare

    def stamp(_original: Function) -> Function:
        return lambda _seen: clock_ms

    def never(_original: Function) -> Function:
        return lambda _row, _floor, _ballot: NO_BALLOT

    def last_wins(original: Function) -> Function:
        def accept(node: VaultNode, transaction: Transaction, item: AcceptItem) -> AcceptResult:
            row = node._row_state(transaction, item.key).row
            if row is not None and row.accepted > item.ballot:
                return AcceptResult(messages.ACCEPTED)
            accepted: AcceptResult = original(node, transaction, item)
            return accepted

        return accept

    return [
        Patch(consensus, "_prepare", reading_the_clock),
        Patch(register, "next_counter", stamp),
        Patch(register, "obstacle", never),
        Patch(VaultNode, "_accept", last_wins),
    ]


def reused_attempt() -> Patches:
    """M9: ballots are counters alone; every attempt has the same id."""

    def changed(original: Function) -> Function:
        return lambda counter, attempt: original(counter, bytes(len(attempt)))

    return [Patch(register, "make_ballot", changed)]


# --- Conditions and outcomes --------------------------------------------------------------------------------


def unconditional() -> Patches:
    """M8: conditions are checked by a GET, then the value is written without them."""

    def changed(original: Function) -> Function:
        def change(vault: Vault, key: Any, item: PutItem, *rest: Any) -> Change:
            made: Change = original(vault, key, evolve(item, if_version=None, if_absent=False), *rest)
            return made

        return change

    return [Patch(putting, "_change", changed)]


def failed_after_accept() -> Patches:
    """M10: FAILED is said although an ACCEPT was sent."""

    def changed(original: Function) -> Function:
        return lambda attempt, reason: QuorumError(original(attempt, reason).what)

    return [Patch(consensus, "_gave_up", changed)]


def retried_as_new() -> Patches:
    """M10: a retry does not know its own value when it finds it."""

    def changed(original: Function) -> Function:
        def refusal(item: PutItem, found: Found) -> DfsError | None:
            error: DfsError | None = original(evolve(item, version=Version(b"")), found)
            return error

        return refusal

    return [Patch(putting, "_refusal", changed)]


def tombstones_while_joining() -> Patches:
    """M14: a tombstone is dropped although a node that is JOINING may not have it."""

    def changed(original: Function) -> Function:
        def forget(vault: Vault, group: Group, items: Any, answers: Answers) -> Operation[None]:
            nodes = tuple(node for node in group.nodes if node not in vault.returning)
            replies = {node: reply for node, reply in answers.replies.items() if node in nodes}
            yield from original(vault, evolve(group, nodes=nodes), items, evolve(answers, replies=replies))

        return forget

    return [Patch(confirming, "_forget", changed)]


def joining_counts() -> Patches:
    """M18: nodes that lost state and have not caught up count in R."""

    def changed(original: Function) -> Function:
        def settled(vault: Vault, encoded: bytes, members: Mapping[Any, vaults.Member]) -> Vault:
            found: Vault = original(vault, encoded, members)
            return evolve(found, counted=found.counted | found.returning)

        return settled

    return [Patch(vaults, "settled", changed)]


def old_name_first() -> Patches:
    """M23: a rename removes the old name before the new one is there."""
    pending: dict[str, str] = {}
    dropped: set[str] = set()

    def renaming_file(original: Function) -> Function:
        def rename(vault: Vault, old: str, new: str, *rest: Any) -> Operation[None]:
            pending[new] = old
            try:
                yield from original(vault, old, new, *rest)
            except NotFoundError:
                if new not in dropped:
                    raise

        return rename

    def changing(original: Function) -> Function:
        def change(vault: Vault, changes: Sequence[Change]) -> Any:
            for item in changes:
                old = pending.pop(item.path, None)
                if old is not None:
                    key = register_key(vault.keys, old)
                    found = (yield from reading.read_registers(vault, [key], wait_all=True))[key]
                    if found.entry is not None:
                        yield from renaming.drop_name(vault, old, found.entry.version)
                        dropped.add(item.path)
            return (yield from original(vault, changes))

        return change

    return [
        Patch(renaming, "_rename_file", renaming_file),
        Patch(renaming, "change_registers", changing, everywhere=False),
    ]


def owed_as_held() -> Patches:
    """M24: nodes that owe their shares count in H and in s."""

    def strict(_original: Function) -> Function:
        return consensus._accepting

    def told(original: Function) -> Function:
        def report(vault: Vault, group: Group, entry: Any, claims: Any, changed: Changed, size: int) -> Any:
            return original(vault, group, entry, claims, evolve(changed, strict=changed.accepted), size)

        return report

    return [Patch(consensus, "_strict", strict), Patch(putting, "report", told)]


def always_safe() -> Patches:
    """M28: CONFIRM says `safe` though strict holders are below H."""

    def changed(original: Function) -> Function:
        def judge(*arguments: Any) -> Any:
            outcome = original(*arguments)
            return evolve(outcome, safe=True) if isinstance(outcome, Changed) else outcome

        return judge

    return [Patch(consensus, "_judge", changed)]


def versions_by_ballot() -> Patches:
    """M31: if-version compares the ballot under which a value was written, which completing it changes."""
    ballots: dict[Version, Ballot] = {}
    current = NO_BALLOT

    def sealing(original: Function) -> Function:
        def seal(vault: Vault, attempt: Any, proposal: Any, claims: Any) -> None:
            original(vault, attempt, proposal, claims)
            if attempt.own:
                ballots[proposal.entry.version] = attempt.ballot

        return seal

    def deciding(original: Function) -> Function:
        def proposal(vault: Vault, group: Group, attempt: Any, base: RegisterRow | None, **named: Any) -> Any:
            nonlocal current
            current = (
                NO_BALLOT if base is None else base.accepted
            )  # decide is called before anything is awaited
            return (yield from original(vault, group, attempt, base, **named))

        return proposal

    def comparing(original: Function) -> Function:
        def change(vault: Vault, key: Any, item: PutItem, *rest: Any) -> Change:
            made: Change = original(vault, key, item, *rest)

            def decide(entry: Entry | None) -> Any:
                if item.if_version is not None and ballots.get(item.if_version, current) != current:
                    raise ConflictError("it is at another ballot")
                return made.decide(entry)

            return evolve(made, decide=decide)

        return change

    return [
        Patch(consensus, "_seal", sealing),
        Patch(consensus, "_proposal", deciding),
        Patch(putting, "_change", comparing),
    ]
