"""A node's answer to each message: a function of the message, its store and its `Env`; no socket, no thread.

`VaultNode` answers for one vault; who may ask what is conversation.py's business. Writes go through a commit
function that the server (which groups commits) or the simulator passes in.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeAlias, TypeVar

from attrs import define, evolve

from dfs.core import bulk_rows, limits, messages, register
from dfs.core.bulk_rows import AcceptItem, Promise, RowState, ShareBody
from dfs.core.errors import (
    ConflictError,
    CorruptEntryError,
    CorruptShareError,
    DfsError,
    NotFoundError,
    RemoteProtocolError,
)
from dfs.core.interface import Buffer, Env, ShareSlice, Transaction, VaultStore, View
from dfs.core.messages import AcceptResult
from dfs.core.records import frozen
from dfs.core.roster import decode_roster, roster_digest
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Claim,
    EntryKind,
    NodeId,
    RegisterKey,
    RegisterRow,
    ShareKey,
    VaultState,
)
from dfs.core.wire import RosterDiffersError

T = TypeVar("T")
Work: TypeAlias = Callable[[Transaction], object]

META_STATE = "state"
META_ROSTER = "roster"
META_MARK = "mark"
REPLY_ROWS_SIZE_MAX = 4 * limits.MIB  # a LIST or READ reply stops growing here
COLLECT_COUNT = 1000  # shares dropped in one transaction


@frozen
class Answer:
    """A reply and its bulk: buffers, or open shares the server sends and closes."""

    reply: messages.Response
    bulk: tuple[Buffer, ...] = ()
    shares: tuple[ShareSlice, ...] = ()


class Commit(Protocol):
    """How a write reaches the store: `run` waits until it is durable, `later` does not."""

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Commit ``work``, possibly with others, and return its result or raise its error."""

    def later(self, work: Work) -> None:
        """Commit ``work`` with the next others; losing it in a crash is harmless."""


def transact(store: VaultStore, works: Sequence[Work]) -> tuple[list[object], int]:
    """Run several works in one transaction, adding one to the vault's mark; returns results and the new mark.

    If one of them raises, each runs in a transaction of its own and its error takes the place of its result.
    """

    def together(transaction: Transaction) -> tuple[list[object], int]:
        results = [work(transaction) for work in works]
        mark = int.from_bytes(transaction.meta(META_MARK) or b"", "big") + 1
        transaction.set_meta(META_MARK, mark.to_bytes(8, "big"))
        return results, mark

    if len(works) == 1:
        return store.transact(together)
    try:
        return store.transact(together)
    except DfsError:
        if store.read_only_reason is not None:
            raise
    results: list[object] = []
    mark = 0
    for work in works:
        try:
            (result,), mark = transact(store, [work])
        except DfsError as error:
            result = error
        results.append(result)
    return results, mark


@define
class VaultNode:
    """One vault on this node. Thread-safe as far as store and commit are."""

    node_id: NodeId
    incarnation: int
    store: VaultStore
    commit: Commit
    env: Env
    mark: int = 0
    collectable: bool = True
    state: VaultState = VaultState.NEW
    roster: bytes = b""
    _digest: bytes = b""
    _index: int = -1

    def __attrs_post_init__(self) -> None:
        self.store.view(self._load)

    def _load(self, view: View) -> None:
        self.state = VaultState(int.from_bytes(view.meta(META_STATE) or b"\0", "big"))
        self.mark = int.from_bytes(view.meta(META_MARK) or b"", "big")
        self._take_roster(view.meta(META_ROSTER) or b"")

    def _take_roster(self, roster: bytes) -> None:
        self.roster = roster
        if roster:
            self._digest = roster_digest(roster)
            nodes = decode_roster(roster).nodes
            places = (index for index, node in enumerate(nodes) if node.node_id == self.node_id)
            self._index = next(places, -1)

    def answer(self, request: messages.Request, bulk: memoryview) -> Answer:
        """Return the answer to a request that came after the login.

        Raises:
            DfsError: the request is refused; nothing of it happened.
        """
        digest = getattr(request, "roster_digest", None)
        if digest is not None and digest != self._digest:
            raise RosterDiffersError(self.roster)
        return _ANSWERS[type(request)](self, request, bulk)

    def advance(self, mark: int) -> None:
        """Take over the mark of a commit; it only grows."""
        self.mark = max(self.mark, mark)

    # Vault life

    def login_reply(self) -> messages.LoginReply:
        """Return what a client learns at its login."""
        read_only = self.store.read_only_reason is not None and self.state is VaultState.ACTIVE
        return messages.LoginReply(VaultState.READ_ONLY if read_only else self.state, self.roster)

    def create(self, request: messages.Create, _bulk: memoryview) -> Answer:
        """Keep the roster of a NEW vault, unless it has one."""
        if self.node_id not in {node.node_id for node in decode_roster(request.roster).nodes}:
            raise ConflictError("the roster does not name this node")

        def work(transaction: Transaction) -> bytes:
            kept = transaction.meta(META_ROSTER)
            if kept is None:
                transaction.set_meta(META_ROSTER, request.roster)
            return kept or request.roster

        self._take_roster(self.commit.run(work))
        return Answer(messages.CreateReply(self.roster))

    def activate(self, _request: messages.Activate, _bulk: memoryview) -> Answer:
        """Make a NEW vault ACTIVE."""
        if self.state is VaultState.NEW:
            state = bytes((VaultState.ACTIVE,))
            self.commit.run(lambda transaction: transaction.set_meta(META_STATE, state))
            self.state = VaultState.ACTIVE
        return Answer(messages.Empty())

    def status(self, _request: messages.Status, _bulk: memoryview) -> Answer:
        """Say how the vault is."""
        store, reason = self.store, (self.store.read_only_reason or "").encode("utf-8", "replace")
        told = reason[: messages.REASON_SIZE_MAX].decode("utf-8", "ignore")  # cut between characters
        return Answer(messages.StatusReply(self.state, store.used_size, store.free_size, told, 0, 0, 0, 0))

    # Registers

    def _row_state(self, view: View, key: RegisterKey) -> RowState:
        try:
            row = view.register(key)
        except CorruptEntryError:
            return RowState(corrupt=True)
        holds = row is not None and row.accepted != NO_BALLOT
        return RowState(row, floor=NO_BALLOT if holds else view.floor(key.directory))

    def read(self, request: messages.Read, _bulk: memoryview) -> Answer:
        """Return rows, on request with those small data shares that this node is preferred for."""

        def work(view: View) -> list[tuple[RowState, tuple[ShareKey, ...]]]:
            states = [self._row_state(view, key) for key in request.keys]
            return [
                (state, self._small_shares(view, key, state) if request.with_shares else ())
                for key, state in zip(request.keys, states, strict=True)
            ]

        found = self.store.view(work)
        size = sum(len(state.row.value) for state, _ in found if state.row)
        states: list[RowState] = []
        for state, keys in found:
            shares = self._bodies(keys) if size < REPLY_ROWS_SIZE_MAX else ()
            size += sum(len(share.body) for share in shares)
            states.append(evolve(state if request.with_values else _without_value(state), shares=shares))
        return Answer(messages.ReadReply(len(states)), (bulk_rows.encode_states(states),))

    def _small_shares(self, view: View, key: RegisterKey, state: RowState) -> tuple[ShareKey, ...]:
        if state.row is None or not 0 < state.row.claimed_count <= 2:  # one stripe; of split, two shares
            return ()
        claims = view.claims(key, state.row.accepted)
        if any(claim.share_size > limits.SHARE_INLINE_SIZE_MAX for claim in claims):
            return ()
        return tuple(
            ShareKey(claim.stripe, index)
            for claim in claims
            for index, nodes in enumerate(claim.nodes[: claim.geometry.needed])
            if nodes[:1] == (self._index,)
        )

    def _bodies(self, keys: Sequence[ShareKey]) -> tuple[ShareBody, ...]:
        bodies: list[ShareBody] = []
        for key in keys:
            with suppress(NotFoundError, CorruptShareError):  # who asked fetches it, and learns then
                share = self.store.share(key)
                try:
                    if share.size <= limits.SHARE_INLINE_SIZE_MAX:  # a claim may lie about it
                        body = bytearray(share.size)
                        share.read_into(memoryview(body), 0)
                        bodies.append(ShareBody(key, share.checksum, bytes(body)))
                finally:
                    share.close()
        return tuple(bodies)

    def list(self, request: messages.List, _bulk: memoryview) -> Answer:
        """Return the next rows of a directory."""
        count_max = max(1, request.count_max)

        def work(view: View) -> tuple[Sequence[tuple[RegisterKey, RegisterRow | None]], Ballot]:
            return view.registers(request.directory, request.after, count_max), view.floor(request.directory)

        found, floor = self.store.view(work)
        listed = []
        size = 0
        for key, row in found:
            state = RowState(row, corrupt=row is None)
            if not request.with_values:
                state = _without_value(state)
            size += len(state.row.value) if state.row else 0
            listed.append((key.name, state))
            if size >= REPLY_ROWS_SIZE_MAX:
                break
        more = len(listed) < len(found) or len(found) == count_max
        return Answer(messages.ListReply(len(listed), more, floor), (bulk_rows.encode_listed(listed),))

    def prepare(self, request: messages.Prepare, _bulk: memoryview) -> Answer:
        """Promise ballots; all promises are durable before the reply."""

        def work(transaction: Transaction) -> list[Promise]:
            return [self._promise(transaction, item) for item in request.items]

        promises = self.commit.run(work)
        return Answer(messages.PrepareReply(len(promises)), (bulk_rows.encode_promises(promises),))

    def _promise(self, transaction: Transaction, item: messages.PrepareItem) -> Promise:
        state = self._row_state(transaction, item.key)
        if state.corrupt:
            return Promise(granted=False, ballot=NO_BALLOT, state=state)
        ballot = register.obstacle(state.row, transaction.floor(item.key.directory), item.ballot)
        if ballot:
            return Promise(granted=False, ballot=ballot, state=state)
        row = register.promised(state.row, item.ballot)
        transaction.set_register(item.key, row)
        return Promise(granted=True, ballot=NO_BALLOT, state=RowState(row, floor=state.floor))

    def claims(self, request: messages.Claims, bulk: memoryview) -> Answer:
        """Stage one part of a claim set and pin what it names."""
        claims = bulk_rows.decode_claims(bulk)
        until_s = self.env.monotonic_s() + limits.PIN_LEASE_S
        part = (request.claim_set, request.part_index, claims)
        self.commit.run(lambda transaction: transaction.stage_claims(*part, until_s))
        return Answer(messages.Empty())

    def accept(self, request: messages.Accept, bulk: memoryview) -> Answer:
        """Accept values whose claims hold."""
        accepts = bulk_rows.decode_accepts(bulk)
        if len(accepts) != request.count:
            raise RemoteProtocolError("an ACCEPT whose count does not fit its rows")
        for item in accepts:
            if register.value_digest(item.value, item.claim_set) != item.digest:
                raise RemoteProtocolError("an ACCEPT whose digest does not fit its value")
        results = self.commit.run(lambda transaction: [self._accept(transaction, item) for item in accepts])
        return Answer(messages.AcceptReply(tuple(results)))

    def _accept(self, transaction: Transaction, item: AcceptItem) -> AcceptResult:
        state = self._row_state(transaction, item.key)
        ballot = register.obstacle(state.row, transaction.floor(item.key.directory), item.ballot)
        if ballot:
            return AcceptResult(messages.REFUSED, ballot)
        if state.row is not None and state.row.accepted == item.ballot and state.row.digest != item.digest:
            return AcceptResult(messages.CONTRADICTED)
        claims = self._claims_of(transaction, item)
        if item.claim_set and not claims:
            return AcceptResult(messages.UNCLAIMED)
        owner = self._own(claims)
        absent = transaction.missing(list(owner))
        if absent and not item.lenient:
            positions = sorted({owner[key] for key in absent})
            return AcceptResult(messages.MISSING, missing=tuple(positions[: limits.MISSING_COUNT_MAX]))
        row = register.accepted(item.ballot, item.value, item.digest, item.claim_set, len(owner))
        if state.row is not None and state.row.accepted == item.ballot:  # again; it may be confirmed by now
            row = evolve(row, confirmed=state.row.confirmed, safe=state.row.safe)
        transaction.set_register(item.key, row)
        transaction.claim(item.key, item.ballot, claims)
        if absent:
            transaction.owe(item.key, item.ballot, absent)
        return AcceptResult(messages.OWING if absent else messages.ACCEPTED)

    def _claims_of(self, view: View, item: AcceptItem) -> Sequence[Claim]:
        if not item.claim_set:
            return ()
        if not item.claims:
            staged = view.staged_claims(item.claim_set)
            encoded = b"".join(bulk_rows.encode_claim(claim) for claim in staged)
            # A part that never came would leave shares unclaimed, which collection then takes.
            return staged if register.claim_set_digest(encoded) == item.claim_set else ()
        if register.claim_set_digest(item.claims) != item.claim_set:
            raise RemoteProtocolError("an ACCEPT whose claims do not fit their digest")
        return bulk_rows.decode_claims(item.claims)

    def _own(self, claims: Sequence[Claim]) -> dict[ShareKey, int]:
        return {
            ShareKey(claim.stripe, index): position
            for position, claim in enumerate(claims)
            for index, nodes in enumerate(claim.nodes)
            if self._index in nodes
        }

    def confirm(self, request: messages.Confirm, _bulk: memoryview) -> Answer:
        """Remember that ballots were chosen; a safe confirmation releases older claims."""

        def work(transaction: Transaction) -> tuple[bool, ...]:
            return tuple(self._confirm(transaction, item) for item in request.items)

        self.collectable = True
        if request.durable:
            return Answer(messages.ConfirmReply(self.commit.run(work)))
        self.commit.later(work)
        return Answer(messages.ConfirmReply(()))

    def _confirm(self, transaction: Transaction, item: messages.ConfirmItem) -> bool:
        row = self._row_state(transaction, item.key).row
        if row is None or row.accepted != item.ballot:
            return False
        safe = row.safe or item.safe
        transaction.set_register(item.key, evolve(row, confirmed=item.tag, safe=safe))
        if safe:
            transaction.unclaim(item.key, item.ballot)
        return True

    def forget(self, request: messages.Forget, _bulk: memoryview) -> Answer:
        """Drop tombstones that every node holds, leaving a floor."""

        def work(transaction: Transaction) -> None:
            for item in request.items:
                row = self._row_state(transaction, item.key).row
                if row is not None and row.accepted == row.promised == item.ballot and _is_tombstone(row):
                    transaction.set_register(item.key, None)
                    transaction.unclaim(item.key, item.ballot)
                    transaction.set_floor(item.key.directory, item.ballot)

        self.commit.run(work)
        return Answer(messages.Empty())

    # Shares

    def has(self, request: messages.Has, _bulk: memoryview) -> Answer:
        """Say which shares are here; those that are, are pinned (asking is pinning)."""
        absent = set(self.store.view(lambda view: view.missing(request.keys)))
        held = [key for key in request.keys if key not in absent]
        if held:
            until_s = self.env.monotonic_s() + limits.PIN_LEASE_S

            def work(transaction: Transaction) -> set[ShareKey]:
                gone = set(transaction.missing(held))
                transaction.pin([key for key in held if key not in gone], until_s)
                return gone

            absent |= self.commit.run(work)
        return Answer(messages.HasReply(tuple(key not in absent for key in request.keys)))

    def keep(self, request: messages.Store, bulk: memoryview) -> Answer:
        """Keep and pin shares; durable before the reply."""
        if sum(head.size for head in request.shares) != len(bulk):
            raise RemoteProtocolError("a STORE whose sizes do not fit its bulk")
        staged = []
        offset = 0
        for head in request.shares:
            staged.append(self.store.stage(head.key, head.checksum, bulk[offset : offset + head.size]))
            offset += head.size
        keys = [head.key for head in request.shares]
        until_s = self.env.monotonic_s() + limits.PIN_LEASE_S

        def work(transaction: Transaction) -> None:
            transaction.keep(staged)
            transaction.pin(keys, until_s)

        self.commit.run(work)
        return Answer(messages.Empty())

    def fetch(self, request: messages.Fetch, _bulk: memoryview) -> Answer:
        """Return shares, unread: the server sends them from where they lie."""
        shares: list[ShareSlice] = []
        results: list[messages.FetchResult] = []
        size = 0
        for key in request.keys:
            try:
                share = self.store.share(key)
            except NotFoundError:
                results.append(messages.FetchResult(messages.ABSENT, 0, b""))
                continue
            except CorruptShareError:
                results.append(messages.FetchResult(messages.CORRUPT, 0, b""))
                continue
            shares.append(share)
            size += share.size
            if size > limits.BULK_SIZE_MAX:
                for opened in shares:
                    opened.close()
                raise RemoteProtocolError("a FETCH of more bytes than one frame carries")
            results.append(messages.FetchResult(messages.FOUND, share.size, share.checksum))
        return Answer(messages.FetchReply(tuple(results)), shares=tuple(shares))

    # Housekeeping

    def tidy(self) -> bool:
        """Drop ended pins and shares nobody claims; returns whether there may be more to do."""
        if not self.collectable:
            return False
        now_s = self.env.monotonic_s()

        def work(transaction: Transaction) -> int:
            transaction.unpin(now_s)
            return transaction.collect(COLLECT_COUNT)

        self.collectable = False  # before the commit: a confirmation meanwhile sets it again
        more = self.commit.run(work) >= COLLECT_COUNT
        self.collectable = self.collectable or more
        return more


def _without_value(state: RowState) -> RowState:
    return state if state.row is None else evolve(state, row=evolve(state.row, value=b""))


def _is_tombstone(row: RegisterRow) -> bool:
    return row.confirmed != b"" and row.value[:1] == bytes((EntryKind.TOMBSTONE,))


_ANSWERS: dict[type[messages.Request], Callable[..., Answer]] = {
    messages.Create: VaultNode.create,
    messages.Activate: VaultNode.activate,
    messages.Ping: lambda _vault, _request, _bulk: Answer(messages.Empty()),
    messages.Status: VaultNode.status,
    messages.Read: VaultNode.read,
    messages.List: VaultNode.list,
    messages.Prepare: VaultNode.prepare,
    messages.Claims: VaultNode.claims,
    messages.Accept: VaultNode.accept,
    messages.Confirm: VaultNode.confirm,
    messages.Forget: VaultNode.forget,
    messages.Has: VaultNode.has,
    messages.Store: VaultNode.keep,
    messages.Fetch: VaultNode.fetch,
}
