"""A node's answer to each message: a function of the message, its store and its `Env`; no socket, no thread.

`VaultNode` answers for one vault; who may ask what is conversation.py's business. Writes go through a commit
function that the server (which groups commits) or the simulator passes in.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from dfs.core import bulk_rows, life, limits, messages, register, scrubbing
from dfs.core.bulk_rows import AcceptItem, Promise, ReplayItem, RowState, ShareBody
from dfs.core.charges import ROW_SIZE, Purpose
from dfs.core.errors import (
    CorruptEntryError,
    CorruptShareError,
    DiskFullError,
    NotFoundError,
    RemoteProtocolError,
    SpaceError,
    StoreError,
)
from dfs.core.interface import ShareSlice, Transaction, View
from dfs.core.life import Answer as Answer, Commit as Commit, VaultLife, Work as Work, transact as transact
from dfs.core.messages import AcceptResult
from dfs.core.quotas import has_room, may_remove, require_room, value_growth, within
from dfs.core.records import define, evolve
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Claim,
    EntryKind,
    RegisterKey,
    RegisterRow,
    ShareKey,
)
from dfs.core.wire import RosterDiffersError

REPLY_ROWS_SIZE_MAX = 4 * limits.MIB  # a LIST or READ reply stops growing here
COLLECT_COUNT = 1000  # shares dropped in one transaction
SCRUB_COUNT = 256  # rows or shares read in one step
CLAIMED_COUNT = 4096  # claims of one reply; the largest claim has less than 1 KiB


@define
class VaultNode(VaultLife):
    """One vault on this node. Thread-safe as far as store and commit are."""

    def answer(self, request: messages.Request, bulk: memoryview) -> Answer:
        """Return the answer to a request that came after the login.

        Raises:
            DfsError: the request is refused; nothing of it happened.
        """
        digest = getattr(request, "roster_digest", None)
        if digest is not None and digest != self._digest:
            raise RosterDiffersError(self.roster)
        return _ANSWERS[type(request)](self, request, bulk)

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

    def list_digest(self, request: messages.ListDigest, bulk: memoryview) -> Answer:
        """Return the digest of the next rows of a directory."""
        return digest_of(self.list(in_full(request), bulk))

    def prepare(self, request: messages.Prepare, _bulk: memoryview) -> Answer:
        """Promise ballots; all promises are durable before the reply."""

        def work(transaction: Transaction) -> list[Promise]:
            life.raise_ceiling(transaction, (item.ballot for item in request.items))
            return [self._promise(transaction, item) for item in request.items]

        promises = self.commit.run(within(work, self.quota(), Purpose.REMOVAL))
        return Answer(messages.PrepareReply(len(promises)), (bulk_rows.encode_promises(promises),))

    def _promise(self, transaction: Transaction, item: messages.PrepareItem) -> Promise:
        state = self._row_state(transaction, item.key)
        if state.corrupt:
            return Promise(granted=False, ballot=NO_BALLOT, state=state)
        ballot = register.obstacle(state.row, transaction.floor(item.key.directory), item.ballot)
        if ballot:
            return Promise(granted=False, ballot=ballot, state=state)
        if state.row is None and not has_room(transaction, self.quota(), ROW_SIZE, Purpose.NEW):
            return Promise(granted=False, ballot=NO_BALLOT, state=state)
        row = register.promised(state.row, item.ballot)
        transaction.set_register(item.key, row)
        floor = transaction.floor(item.key.directory)  # a writer asks what may be gone, whatever is there
        return Promise(granted=True, ballot=NO_BALLOT, state=RowState(row, floor=floor))

    def claims(self, request: messages.Claims, bulk: memoryview) -> Answer:
        """Stage one part of a claim set and pin what it names."""
        claims = bulk_rows.decode_claims(bulk)
        if self.store.free_size < len(bulk):
            raise DiskFullError("the node has no room for more claims")
        until_s = self._lease()
        part = (request.claim_set, request.part_index, claims)

        def work(transaction: Transaction) -> None:
            transaction.stage_claims(*part, until_s)

        self.commit.run(within(work, self.quota(), Purpose.NEW))
        return Answer(messages.Empty())

    def accept(self, request: messages.Accept, bulk: memoryview) -> Answer:
        """Accept values whose claims hold."""
        accepts = bulk_rows.decode_accepts(bulk)
        if len(accepts) != request.count:
            raise RemoteProtocolError("an ACCEPT whose count does not fit its rows")
        for item in accepts:
            if register.value_digest(item.value, item.claim_set) != item.digest:
                raise RemoteProtocolError("an ACCEPT whose digest does not fit its value")

        def work(transaction: Transaction) -> list[AcceptResult]:
            life.require_roster(transaction, request.roster_digest)  # it may have waited for its turn
            life.raise_ceiling(transaction, (item.ballot for item in accepts))
            return [self._accept(transaction, item) for item in accepts]

        results = self.commit.run(within(work, self.quota(), Purpose.REMOVAL))
        return Answer(messages.AcceptReply(tuple(results)))

    def _accept(self, transaction: Transaction, item: AcceptItem) -> AcceptResult:
        state = self._row_state(transaction, item.key)
        refusal = self._refusal(state, transaction.floor(item.key.directory), item)
        if refusal is not None:
            return refusal
        claims = self._claims_of(transaction, item.claim_set, item.claims)
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
        if not self._fits(transaction, state.row, row, claims, absent):
            return AcceptResult(messages.OVER_QUOTA)
        transaction.set_register(item.key, row)
        transaction.claim(item.key, item.ballot, claims)
        if absent:
            transaction.owe(item.key, item.ballot, absent)
        return AcceptResult(messages.OWING if absent else messages.ACCEPTED)

    def _refusal(self, state: RowState, floor: Ballot, item: AcceptItem) -> AcceptResult | None:
        """Return what keeps a register from accepting a value, whatever it claims."""
        if state.corrupt:  # what it promised is not known
            return AcceptResult(messages.DAMAGED)
        ballot = register.obstacle(state.row, floor, item.ballot)
        if ballot:
            return AcceptResult(messages.REFUSED, ballot)
        return self._objection(state.row, item)

    def _objection(self, row: RegisterRow | None, item: AcceptItem | ReplayItem) -> AcceptResult | None:
        """Return what speaks against a value under any ballot."""
        if row is not None and row.accepted == item.ballot and row.digest != item.digest:
            return AcceptResult(messages.CONTRADICTED)
        return None if self._has_room(row, item) else AcceptResult(messages.FULL)

    def _has_room(self, row: RegisterRow | None, item: AcceptItem | ReplayItem) -> bool:
        """Leave what is kept free of a full disk to tombstones, and to values no larger than the one before.

        Small files lie in their entries: without this they would use it up, and nothing could be removed.
        """
        if item.value[:1] == bytes((EntryKind.TOMBSTONE,)):
            return True
        size_before = len(row.value) if row is not None else 0
        return len(item.value) <= size_before or self.store.free_size >= len(item.value) + len(item.claims)

    def _fits(
        self,
        view: View,
        before: RegisterRow | None,
        after: RegisterRow,
        claims: Sequence[Claim],
        absent: Sequence[ShareKey],
    ) -> bool:
        quota = self.quota()
        if quota is None:
            return True
        growth = value_growth(view, before, after, claims, absent)
        if not register.is_tombstone(after):
            return has_room(view, quota, growth, Purpose.VALUE)
        return has_room(view, quota, growth, Purpose.REMOVAL) or may_remove(view, quota, before)

    def _claims_of(self, view: View, claim_set: bytes, encoded: bytes) -> Sequence[Claim]:
        """Return the claims of a value, from the message or staged; none when parts are missing."""
        if not claim_set:
            return ()
        if not encoded:
            staged = view.staged_claims(claim_set)
            encoded = b"".join(bulk_rows.encode_claim(claim) for claim in staged)
            # A part that never came would leave shares unclaimed, which collection then takes.
            return staged if register.claim_set_digest(encoded) == claim_set else ()
        if register.claim_set_digest(encoded) != claim_set:
            raise RemoteProtocolError("claims do not fit their digest")
        return bulk_rows.decode_claims(encoded)

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
        """Drop tombstones that every node holds, and promises without a value, leaving a floor."""

        def work(transaction: Transaction) -> None:
            for item in request.items:
                row = self._row_state(transaction, item.key).row
                if row is not None and row.promised == item.ballot and _is_forgettable(row):
                    transaction.set_register(item.key, None)
                    transaction.unclaim(item.key, item.ballot)
                    transaction.set_floor(item.key.directory, item.ballot)

        self.commit.run(work)
        return Answer(messages.Empty())

    # Registers that were lost

    def replay(self, request: messages.Replay, bulk: memoryview) -> Answer:
        """Take over registers as others hold them: chosen values under their own ballots, and promises."""
        replays = bulk_rows.decode_replays(bulk)
        if len(replays) != request.count:
            raise RemoteProtocolError("a REPLAY whose count does not fit its rows")
        for item in replays:
            life.check_replay(item)

        def work(transaction: Transaction) -> list[AcceptResult]:
            life.raise_ceiling(transaction, (max(item.promised, item.ballot) for item in replays))
            return [self._replay(transaction, item) for item in replays]

        self.collectable = True
        results = self.commit.run(within(work, self.quota(), Purpose.REMOVAL))
        return Answer(messages.AcceptReply(tuple(results)))

    def _replay(self, transaction: Transaction, item: ReplayItem) -> AcceptResult:
        state = self._row_state(transaction, item.key)
        row, floor = state.row, transaction.floor(item.key.directory)
        forgotten = row is None and not state.corrupt and (item.ballot or item.promised) <= floor
        objection = AcceptResult(messages.REFUSED, floor) if forgotten else self._objection(row, item)
        if objection is not None:
            return objection
        claims = self._claims_of(transaction, item.claim_set, item.claims)
        if item.claim_set and not claims:
            return AcceptResult(messages.UNCLAIMED)
        own = self._own(claims)
        promised = life.ceiling(transaction) if state.corrupt else NO_BALLOT
        after = register.replayed(row, item, promised, len(own))
        absent = transaction.missing(list(own)) if item.ballot and after.accepted == item.ballot else ()
        if not self._fits(transaction, row, after, claims, absent):
            return AcceptResult(messages.OVER_QUOTA)
        transaction.set_register(item.key, after)
        if not item.ballot:
            return AcceptResult(messages.ACCEPTED)
        if after.accepted != item.ballot:
            return AcceptResult(messages.REFUSED, after.accepted)
        transaction.claim(item.key, item.ballot, claims)
        transaction.owe(item.key, item.ballot, absent)
        if after.safe:
            transaction.unclaim(item.key, item.ballot)
        return AcceptResult(messages.OWING if absent else messages.ACCEPTED)

    def damaged(self, replays: Sequence[ReplayItem]) -> bool:
        """Return whether the row of each of these registers is corrupt here."""
        return self.store.view(lambda view: all(self._row_state(view, item.key).corrupt for item in replays))

    def raise_floors(self, request: messages.RaiseFloors, _bulk: memoryview) -> Answer:
        """Take over floors; a lower one changes nothing."""

        def work(transaction: Transaction) -> None:
            for floor in request.floors:
                transaction.set_floor(floor.directory, floor.ballot)

        self.commit.run(within(work, self.quota(), Purpose.VALUE))
        return Answer(messages.Empty())

    def directories(self, request: messages.Directories, _bulk: memoryview) -> Answer:
        """Return the next directories."""
        bound = limits.BATCH_COUNT_MAX
        found = self.store.view(lambda view: view.directories(request.after, bound))
        told = tuple(messages.DirectoryState(*columns) for columns in found)
        return Answer(messages.DirectoriesReply(told, len(told) == bound))

    def claimed(self, request: messages.Claimed, _bulk: memoryview) -> Answer:
        """Return the claims of an accepted value from a position on."""
        place = (request.key, request.ballot, request.position, CLAIMED_COUNT)
        claims = self.store.view(lambda view: view.claims(*place))
        encoded = b"".join(bulk_rows.encode_claim(claim) for claim in claims)
        return Answer(messages.ClaimedReply(len(claims), len(claims) == CLAIMED_COUNT), (encoded,))

    # Shares

    def has(self, request: messages.Has, _bulk: memoryview) -> Answer:
        """Say which shares are here; those that are, are pinned (asking is pinning)."""
        absent = set(self.store.view(lambda view: view.missing(request.keys)))
        held = [key for key in request.keys if key not in absent]
        if held:
            until_s = self._lease()

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
        quota = self.quota()
        if quota is not None:
            self.store.view(lambda view: require_room(view, quota, request.shares))
        staged = []
        offset = 0
        for head in request.shares:
            staged.append(self.store.stage(head.key, head.checksum, bulk[offset : offset + head.size]))
            offset += head.size
        keys = [head.key for head in request.shares]
        until_s = self._lease()

        def work(transaction: Transaction) -> None:
            transaction.keep(staged)
            transaction.pin(keys, until_s)

        self.commit.run(within(work, quota, Purpose.NEW))
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

    def verify(self, request: messages.Verify, _bulk: memoryview) -> Answer:
        """Read shares from disk and hash them; the bad ones are known as corrupt from then on."""
        statuses = tuple(self._verified(key) for key in request.keys)
        bad = [key for key, status in zip(request.keys, statuses, strict=True) if status == messages.CORRUPT]
        if bad:
            with suppress(StoreError, SpaceError):  # it is said anyway, and found again
                self._mark_bad(bad)
        return Answer(messages.VerifyReply(statuses))

    def _verified(self, key: ShareKey) -> int:
        try:
            self.store.verify(key)
        except NotFoundError:
            return messages.ABSENT
        except CorruptShareError:
            return messages.CORRUPT
        return messages.FOUND

    def _mark_bad(self, keys: Sequence[ShareKey]) -> None:
        def work(transaction: Transaction) -> None:
            for key in keys:
                scrubbing.mark_if_bad(transaction, self.store, key)

        self.commit.run(work)

    def condemn(self, request: messages.Condemn, _bulk: memoryview) -> Answer:
        """Take the owner's word that shares are wrong though their checksums are right."""

        def work(transaction: Transaction) -> None:
            for key in request.keys:
                transaction.mark_corrupt(key)

        self.commit.run(work)
        return Answer(messages.Empty())

    def lacking(self, request: messages.Lacking, _bulk: memoryview) -> Answer:
        """Return the next claimed stripes of which shares are owed or corrupt."""
        bound = limits.LIST_COUNT_MAX
        found = self.store.view(lambda view: view.lacking(request.after, bound))
        stripes = [bulk_rows.LackingStripe(claim, indexes) for claim, indexes in found]
        reply = messages.LackingReply(len(stripes), len(stripes) == bound)
        return Answer(reply, (bulk_rows.encode_lacking(stripes),))

    def lacks(self, keys: Sequence[ShareKey]) -> bool:
        """Return whether all of these shares are owed or corrupt here."""
        return len(self.store.view(lambda view: view.owed(keys))) == len(keys)

    # Housekeeping

    def tell_quota(self, _request: messages.Quota, _bulk: memoryview) -> Answer:
        """Say how much of the quota is used."""
        quota = self.quota()
        used_size = self.store.view(lambda view: view.usage())
        return Answer(messages.QuotaReply(used_size, () if quota is None else (quota,)))

    def _lease(self) -> float:
        """Return when a pin made now ends."""
        self._held_until_s = self.env.monotonic_s() + self.lease_s
        return self._held_until_s

    def tidy(self) -> bool:
        """Drop ended pins and shares nobody claims; returns whether there may be more to do."""
        now_s = self.env.monotonic_s()
        if not self.collectable and not 0 < self._held_until_s <= now_s:
            return False

        def work(transaction: Transaction) -> int:
            if self._renewed:
                transaction.unpin(now_s)
            else:  # their ends are times of another start's clock, which tell nothing now
                transaction.renew(self._lease())
            return transaction.collect(COLLECT_COUNT)

        self.collectable = False  # before the commit: a confirmation meanwhile sets it again
        if self._held_until_s <= now_s:
            self._held_until_s = 0.0
        more = self.commit.run(work) >= COLLECT_COUNT
        self.collectable = self.collectable or more
        self._renewed = True
        return more

    def scrub(
        self, count_max: int = SCRUB_COUNT, stopped: Callable[[], bool] = lambda: False
    ) -> scrubbing.Step:
        """Read the next of what is kept again, note what is bad, and say how it went."""
        run, wall_s = self.commit.run, self.env.wall_s()
        return scrubbing.scrub(self.store, count_max, self._own, wall_s, run, stopped)

    def scrubbed_s(self) -> int:
        """Return when the last scrub ended, in seconds since 1970; 0 = never."""
        return self.store.view(life.scrubbed_s)


def in_full(request: messages.ListDigest) -> messages.List:
    """Return the LIST whose bulk is asked for as a digest."""
    place = (request.roster_digest, request.directory, request.after, request.count_max)
    return messages.List(*place, with_values=True)


def digest_of(listed: Answer) -> Answer:
    """Return the answer to a LIST with its rows as a digest."""
    reply = listed.reply
    if not isinstance(reply, messages.ListReply):
        return listed
    digest = bulk_rows.listed_digest(listed.bulk)
    return Answer(messages.ListDigestReply(reply.count, reply.more, reply.floor, digest))


def _without_value(state: RowState) -> RowState:
    return state if state.row is None else evolve(state, row=evolve(state.row, value=b""))


def _is_forgettable(row: RegisterRow) -> bool:
    """Return whether a floor at what was promised can take the place of a row."""
    chosen = row.accepted == row.promised and row.confirmed != b""
    return row.accepted == NO_BALLOT or (chosen and register.is_tombstone(row))


_ANSWERS: dict[type[messages.Request], Callable[..., Answer]] = {
    messages.Create: VaultNode.create,
    messages.Activate: VaultNode.activate,
    messages.Join: VaultNode.join,
    messages.Quarantine: VaultNode.quarantine,
    messages.EndJoin: VaultNode.end_join,
    messages.Ping: lambda _vault, _request, _bulk: Answer(messages.Empty()),
    messages.Status: VaultNode.status,
    messages.Read: VaultNode.read,
    messages.List: VaultNode.list,
    messages.ListDigest: VaultNode.list_digest,
    messages.Prepare: VaultNode.prepare,
    messages.Claims: VaultNode.claims,
    messages.Accept: VaultNode.accept,
    messages.Confirm: VaultNode.confirm,
    messages.Forget: VaultNode.forget,
    messages.Replay: VaultNode.replay,
    messages.RaiseFloors: VaultNode.raise_floors,
    messages.Directories: VaultNode.directories,
    messages.Claimed: VaultNode.claimed,
    messages.Has: VaultNode.has,
    messages.Store: VaultNode.keep,
    messages.Fetch: VaultNode.fetch,
    messages.Verify: VaultNode.verify,
    messages.Condemn: VaultNode.condemn,
    messages.Lacking: VaultNode.lacking,
    messages.Quota: VaultNode.tell_quota,
}
