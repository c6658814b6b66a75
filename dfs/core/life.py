"""The life of a vault on a node: its state, roster and mark; how it joins, and counts again after a loss.

How a vault that lost state comes back is told in docs/formats.md, section 7.1, and why that is safe in
docs/decisions/0006-lost-state.md. Writes go through a commit function that the server (which groups commits)
or the simulator passes in.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeAlias, TypeVar

from dfs.core import limits, messages, register
from dfs.core.auth import Rekeyed, decode_rekeyed, encode_rekeyed, verify_rekey
from dfs.core.bulk_rows import ReplayItem
from dfs.core.errors import (
    ConflictError,
    DfsError,
    LoginError,
    NotInitialisedError,
    RemoteProtocolError,
    SpaceError,
    StoreError,
)
from dfs.core.interface import Buffer, Env, ShareSlice, Transaction, VaultStore, View
from dfs.core.records import define, evolve, field, frozen
from dfs.core.roster import decode_roster, roster_digest, succeeds
from dfs.core.types import NO_BALLOT, RESTORED, RETURNING, Ballot, NodeId, VaultState
from dfs.core.wire import RosterDiffersError

T = TypeVar("T")
Work: TypeAlias = Callable[[Transaction], object]

LEAP: Final = 1 << 32  # more commits than a vault ever sees: beyond all marks it told before it lost state

META_STATE: Final = "state"
META_ROSTER: Final = "roster"
META_MARK: Final = "mark"  # u64, one more with every commit, LEAP more when the vault counts again
META_INCARNATION: Final = "incarnation"  # u32, of the node when the vault last counted
META_CEILING: Final = "ceiling"  # u64, the highest counter of any ballot promised in this vault
META_SCRUBBED: Final = "scrubbed"  # u64, seconds since 1970: when the last scrub ended
META_REKEYED: Final = "rekeyed"  # the login key that its owner changed to, see auth.Rekeyed; b"" = none


def _number(view: View, name: str, default: int = 0) -> int:
    kept = view.meta(name)
    return default if kept is None else int.from_bytes(kept, "big")


def mark_of(view: View) -> int:
    """Return how many commits the vault has seen."""
    return _number(view, META_MARK)


def scrubbed_s(view: View) -> int:
    """Return when the last scrub ended, 0 = never."""
    return _number(view, META_SCRUBBED)


def add_mark(transaction: Transaction) -> int:
    """Count this transaction; returns the new mark."""
    mark = mark_of(transaction) + 1
    _set_mark(transaction, mark)
    return mark


def _set_mark(transaction: Transaction, mark: int) -> None:
    transaction.set_meta(META_MARK, mark.to_bytes(8, "big"))


# --- States -------------------------------------------------------------------------------------------------


def state_of(view: View, incarnation: int) -> VaultState:
    """Return the state of a vault on a node of this incarnation.

    One that was last used under another comes from an older copy, or from another disk. One that its store
    brought back, because its machine was lost, joins like one that lost everything: the loss is known.
    """
    kept = _number(view, META_STATE)
    if kept not in set(VaultState):
        raise StoreError(f"the vault has the unknown state {kept}")
    state = VaultState(kept)
    if view.meta(RESTORED) and view.meta(META_ROSTER) is not None:
        return VaultState.JOINING
    if state is not VaultState.NEW and _number(view, META_INCARNATION, 1) != incarnation:
        return VaultState.QUARANTINED
    return state


def _settle(transaction: Transaction, state: VaultState, incarnation: int) -> None:
    transaction.set_meta(META_STATE, bytes((state,)))
    transaction.set_meta(META_INCARNATION, incarnation.to_bytes(4, "big"))
    if transaction.meta(RESTORED):
        transaction.set_meta(RESTORED, b"")


def create(transaction: Transaction, roster: bytes, incarnation: int) -> None:
    """Keep the roster of a NEW vault; one that has a roster takes the same one in a later epoch only."""
    kept = transaction.meta(META_ROSTER)
    if kept is None:
        transaction.set_meta(META_ROSTER, roster)
        _settle(transaction, VaultState.NEW, incarnation)
    elif succeeds(roster, kept):
        transaction.set_meta(META_ROSTER, roster)


def require_roster(view: View, digest: bytes) -> None:
    """Check that a roster is the one in force.

    Raises:
        RosterDiffersError: it is not, or not any more.
    """
    roster = view.meta(META_ROSTER) or b""
    if roster_digest(roster) != digest:
        raise RosterDiffersError(roster)


def activate(transaction: Transaction, incarnation: int) -> None:
    """Make a NEW vault ACTIVE."""
    if state_of(transaction, incarnation) is VaultState.NEW:
        _settle(transaction, VaultState.ACTIVE, incarnation)


def join(transaction: Transaction, roster: bytes, incarnation: int) -> None:
    """Make a vault that is NEW and has no roster JOINING under this one."""
    if transaction.meta(META_ROSTER) is None:
        transaction.set_meta(META_ROSTER, roster)
        _settle(transaction, VaultState.JOINING, incarnation)


def quarantine(transaction: Transaction, mark: int, incarnation: int) -> None:
    """Make a vault QUARANTINED that is behind a mark it once told; without a roster there is nothing lost."""
    lost = mark_of(transaction) < mark and transaction.meta(META_ROSTER) is not None
    if lost and state_of(transaction, incarnation) not in RETURNING:
        _settle(transaction, VaultState.QUARANTINED, incarnation)


def end_join(transaction: Transaction, mark: int, incarnation: int) -> None:
    """Make a vault ACTIVE again that everything was replayed into, with a mark above all it ever told.

    Else clients that heard more of it than the one that repaired it would take it for rolled back once more.

    Raises:
        ConflictError: it is behind ``mark``, told during the replay: it lost state meanwhile.
    """
    if state_of(transaction, incarnation) not in RETURNING:
        return
    if mark_of(transaction) < mark:
        raise ConflictError("the node lost state while it was brought up to date")
    _set_mark(transaction, mark_of(transaction) + LEAP)
    _settle(transaction, VaultState.ACTIVE, incarnation)


# --- Promises beyond a lost row -----------------------------------------------------------------------------


def raise_ceiling(transaction: Transaction, ballots: Iterable[Ballot]) -> None:
    """Remember the highest counter among ballots that are about to be promised or accepted."""
    counter = max(map(register.counter_of, ballots), default=0)
    if counter > _number(transaction, META_CEILING):
        transaction.set_meta(META_CEILING, counter.to_bytes(8, "big"))


def ceiling(view: View) -> Ballot:
    """Return a ballot at least as high as any this vault promised: what a lost row may have promised."""
    counter = _number(view, META_CEILING)
    return register.make_ballot(counter, b"\xff" * limits.OPERATION_ID_SIZE) if counter else NO_BALLOT


def check_replay(item: ReplayItem) -> None:
    """Check that the parts of a replayed register fit each other.

    Raises:
        RemoteProtocolError: they do not.
    """
    if item.ballot:
        sound = register.value_digest(item.value, item.claim_set) == item.digest
        sound = sound and bool(item.value) and not (item.safe and not item.confirmed)
    else:
        sound = not (
            item.value or item.digest or item.claim_set or item.claims or item.confirmed or item.safe
        )
    if not sound:
        raise RemoteProtocolError("a REPLAY whose parts do not fit each other")


# --- Login keys ---------------------------------------------------------------------------------------------


def rekeyed_in(view: View) -> Rekeyed | None:
    """Return the login key that the owner changed to, None when it is still that of the users file."""
    kept = view.meta(META_REKEYED)
    return decode_rekeyed(kept) if kept else None


def rekey(transaction: Transaction, request: messages.Rekey, line: bytes, signer: bytes) -> None:
    """Put another login key in the place of that in the users file, ``line``; both are good until it is used.

    A key that signs itself is used by that.

    Raises:
        ConflictError: a later change was made already.
    """
    kept = rekeyed_in(transaction)
    if kept is None or kept.line != line:  # the administrator's line counts again
        kept = Rekeyed(line, 0, line, b"")
    if request.public_key == kept.public_key:
        use_key(transaction, line, signer)
        return
    if request.epoch <= kept.epoch:
        raise ConflictError("the login key was changed meanwhile, by another client")
    changed = Rekeyed(line, request.epoch, request.public_key, signer)
    transaction.set_meta(META_REKEYED, encode_rekeyed(changed))


def use_key(transaction: Transaction, line: bytes, public_key: bytes) -> None:
    """Note a login: the key before is over with the first use of the new one, and all with a new line."""
    kept = rekeyed_in(transaction)
    if kept is not None and kept.line != line:
        transaction.set_meta(META_REKEYED, b"")
    elif kept is not None and kept.former and kept.public_key == public_key:
        transaction.set_meta(META_REKEYED, encode_rekeyed(evolve(kept, former=b"")))


# --- Answers and commits ------------------------------------------------------------------------------------


@frozen
class Answer:
    """A reply and its bulk: buffers, or open shares the server sends and closes. ``last``: it ends the
    connection.
    """

    reply: messages.Response
    bulk: tuple[Buffer, ...] = ()
    shares: tuple[ShareSlice, ...] = ()
    last: bool = False


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
        return results, add_mark(transaction)

    if len(works) == 1:
        return store.transact(together)
    try:
        return store.transact(together)
    except DfsError as error:
        if isinstance(error, StoreError) and store.read_only_reason is not None:
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
class VaultLife:
    """One vault on this node, as far as its life goes. Thread-safe as far as store and commit are.

    ``lease_s``: how long what was uploaded is kept before anything claims it. ``quota``: how many bytes the
    vault may take here, None = no bound; asked anew for every request.
    """

    node_id: NodeId
    incarnation: int
    store: VaultStore
    commit: Commit
    env: Env
    lease_s: float = field(factory=lambda: limits.PIN_LEASE_S)
    quota: Callable[[], int | None] = lambda: None
    mark: int = 0
    collectable: bool = True
    state: VaultState = VaultState.NEW
    roster: bytes = b""
    rekeyed: Rekeyed | None = None
    _digest: bytes = b""
    _index: int = -1
    _renewed: bool = False
    _held_until_s: float = 0.0  # when the last pin of this run ends

    def __attrs_post_init__(self) -> None:
        self.store.view(self._load)

    def _load(self, view: View) -> None:
        self.state = state_of(view, self.incarnation)
        self.advance(mark_of(view))
        self.rekeyed = rekeyed_in(view)
        roster = view.meta(META_ROSTER) or b""
        if roster != self.roster:
            self.roster = roster
            self._digest = roster_digest(roster)
            try:
                nodes = decode_roster(roster).nodes
            except RemoteProtocolError as error:
                raise StoreError(f"the roster of the vault is damaged: {error.what}") from None
            places = (index for index, node in enumerate(nodes) if node.node_id == self.node_id)
            self._index = next(places, -1)

    def advance(self, mark: int) -> None:
        """Take over the mark of a commit; it only grows."""
        self.mark = max(self.mark, mark)

    # Vault life

    def login_reply(self) -> messages.LoginReply:
        """Return what a client learns at its login."""
        read_only = self.store.read_only_reason is not None and self.state is VaultState.ACTIVE
        return messages.LoginReply(VaultState.READ_ONLY if read_only else self.state, self.roster)

    def _live(self, change: Callable[[Transaction], None]) -> None:
        """Commit a change of state or roster and take it over."""
        self.commit.run(change)
        self.store.view(self._load)

    def _require_named(self, roster: bytes) -> None:
        if self.node_id not in {node.node_id for node in decode_roster(roster).nodes}:
            raise ConflictError("the roster does not name this node")

    def create(self, request: messages.Create, _bulk: memoryview) -> Answer:
        """Keep the roster of a NEW vault, or that of a later epoch: then no request of before counts."""
        self._require_named(request.roster)
        if not self.roster or succeeds(request.roster, self.roster):
            self._live(lambda transaction: create(transaction, request.roster, self.incarnation))
        return Answer(messages.CreateReply(self.roster))

    def activate(self, _request: messages.Activate, _bulk: memoryview) -> Answer:
        """Make a NEW vault ACTIVE."""
        if self.state is VaultState.NEW:
            self._live(lambda transaction: activate(transaction, self.incarnation))
        return Answer(messages.Empty())

    def join(self, request: messages.Join, _bulk: memoryview) -> Answer:
        """Make a vault without a roster JOINING: it takes writes, and does not count before END_JOIN."""
        self._require_named(request.roster)
        if not self.roster:
            self._live(lambda transaction: join(transaction, request.roster, self.incarnation))
        return Answer(messages.StateReply(self.state))

    def quarantine(self, request: messages.Quarantine, _bulk: memoryview) -> Answer:
        """Count no longer if this node once told a higher mark than it has now: it was rolled back."""
        if self.mark < request.mark:
            self._live(lambda transaction: quarantine(transaction, request.mark, self.incarnation))
        return Answer(messages.StateReply(self.state))

    def end_join(self, request: messages.EndJoin, _bulk: memoryview) -> Answer:
        """Count again: everything was replayed."""
        if self.state in RETURNING:
            self._live(lambda transaction: end_join(transaction, request.mark, self.incarnation))
        return Answer(messages.StateReply(self.state))

    def rekey(self, request: messages.Rekey, *, line: bytes, signer: bytes, realm: str, user: str) -> Answer:
        """Take another login key. ``line``: the key in the users file; ``signer``: of who asks.

        Raises:
            LoginError: not signed by that key. ConflictError: a later change was made already.
        """
        if not self.roster:
            raise NotInitialisedError("there is no vault here yet")
        signed = verify_rekey(
            request.signature,
            realm=realm,
            user=user,
            node_id=self.node_id,
            old=signer,
            new=request.public_key,
            epoch=request.epoch,
        )
        if not signed:
            raise LoginError("the change of the login key is not signed by the present key")
        self._live(lambda transaction: rekey(transaction, request, line, signer))
        return Answer(messages.Empty())

    def logged_in(self, line: bytes, public_key: bytes) -> None:
        """Note the use of a key. On a broken disk, nothing is noted and the former key stays good."""
        kept = self.rekeyed
        if kept is not None and (kept.line != line or (kept.former and kept.public_key == public_key)):
            with suppress(StoreError, SpaceError):
                self._live(lambda transaction: use_key(transaction, line, public_key))

    def status(self, _request: messages.Status, _bulk: memoryview) -> Answer:
        """Say how the vault is."""
        store, reason = self.store, (self.store.read_only_reason or "").encode("utf-8", "replace")
        told = reason[: messages.REASON_SIZE_MAX].decode("utf-8", "ignore")  # cut between characters
        counts, ended_s = store.view(lambda view: (view.counts(), scrubbed_s(view)))
        sizes = store.used_size, store.free_size
        return Answer(messages.StatusReply(self.state, *sizes, told, *counts, ended_s))
