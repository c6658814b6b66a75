"""A vault's answer to every message, asked directly: the memory store, a clock to turn, no threads."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, evolve, field
from xxhash import xxh3_128_digest

from dfs.core import limits, messages, node, register
from dfs.core.env import RealFiles
from dfs.core.errors import (
    ConflictError,
    CorruptShareError,
    DfsError,
    RemoteProtocolError,
)
from dfs.core.interface import Store, StoreOptions, Transaction, VaultStore
from dfs.core.messages import AcceptItem, AcceptResult, ConfirmItem, PrepareItem, Promise, RowState, ShareHead
from dfs.core.node import Answer, VaultNode, Work, transact
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.types import (
    NO_BALLOT,
    Claim,
    Geometry,
    Node,
    NodeId,
    Roster,
    ShareKey,
    VaultState,
)
from dfs.core.wire import RosterDiffersError
from dfs.plugins import memory_store
from dfs.testing.stores import DIRECTORY, ballot, register_key, share_key

T = TypeVar("T")

NODES = tuple(Node(NodeId(bytes((i,)) * 16)) for i in range(1, 5))
ROSTER = encode_roster(Roster(1, NODES, 4, 1))
DIGEST = roster_digest(ROSTER)
HERE = 1  # place of the node under test in the roster
FILE, TOMBSTONE = b"\x01sealed", b"\x03gone"
KEY = register_key(1)
TAG = b"t" * 32


class TestEnv:
    __test__ = False

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.nonce = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 0.0

    def random_bytes(self, size: int) -> bytes:
        self.nonce += 1
        return self.nonce.to_bytes(size, "big")


@define
class Direct:
    """Commits at once; keeps what may come later until the next."""

    store: VaultStore
    kept: list[Work] = field(factory=list)
    vault: VaultNode | None = None

    def run(self, work: Callable[[Transaction], T]) -> T:
        works, self.kept = [*self.kept, work], []
        results, mark = transact(self.store, works)
        if self.vault is not None:
            self.vault.advance(mark)
        if isinstance(results[-1], DfsError):
            raise results[-1]
        return results[-1]  # type: ignore[return-value]

    def later(self, work: Work) -> None:
        self.kept.append(work)


@define
class Bench:
    """A vault under test and the requests of a client."""

    vault: VaultNode
    env: TestEnv

    def ask(self, request: messages.Request, bulk: bytes = b"") -> Answer:
        return self.vault.answer(request, memoryview(bulk))

    def reply(self, request: messages.Request, bulk: bytes = b"") -> Any:
        return self.ask(request, bulk).reply

    def active(self) -> "Bench":
        self.ask(messages.Create(ROSTER))
        self.ask(messages.Activate(DIGEST))
        return self

    def prepare(self, counter: int, key: Any = KEY) -> Promise:
        answer = self.ask(messages.Prepare(DIGEST, (PrepareItem(key, ballot(counter)),)))
        return messages.decode_promises(answer.bulk[0])[0]

    def accept(self, *items: AcceptItem) -> AcceptResult:
        result: AcceptResult = self.reply(
            messages.Accept(DIGEST, len(items)), messages.encode_accepts(items)
        ).results[0]
        return result

    def confirm(self, counter: int, *, safe: bool = True, durable: bool = True) -> tuple[bool, ...]:
        item = ConfirmItem(KEY, ballot(counter), TAG, safe)
        held: tuple[bool, ...] = self.reply(messages.Confirm(DIGEST, durable, (item,))).held
        return held

    def read(self, *, values: bool = True, shares: bool = False) -> RowState:
        return messages.decode_states(self.ask(messages.Read(DIGEST, values, shares, (KEY,))).bulk[0])[0]

    def keep(self, *keys: ShareKey, body: bytes = b"body!") -> None:
        heads = tuple(ShareHead(key, len(body), xxh3_128_digest(body)) for key in keys)
        self.ask(messages.Store(heads), body * len(keys))

    def has(self, *keys: ShareKey) -> tuple[bool, ...]:
        held: tuple[bool, ...] = self.reply(messages.Has(keys)).held
        return held


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = memory_store.make(
        StoreOptions(
            directory=str(tmp_path), files=RealFiles(), env=TestEnv(), inline_size_max=64, reserve_size=0
        )
    )
    yield opened
    opened.close()


def bench_of(store: Store) -> Bench:
    vault_store = store.vault("ines", create=True)
    commit, env = Direct(vault_store), TestEnv()
    vault = VaultNode(NODES[HERE].node_id, 1, vault_store, commit, env)
    commit.vault = vault
    return Bench(vault, env)


@pytest.fixture
def new(store: Store) -> Bench:
    return bench_of(store)


@pytest.fixture
def bench(new: Bench) -> Bench:
    return new.active()


def claim(
    number: int, *, nodes: Sequence[Sequence[int]] = ((0,), (HERE,), (2,), (3,)), size: int = 5
) -> Claim:
    return Claim(share_key(number).stripe, size, "rs@1", Geometry(2, len(nodes)), tuple(map(tuple, nodes)))


def mine(number: int) -> ShareKey:
    """The share of a stripe that this node should hold."""
    return share_key(number, HERE)


def item(
    counter: int,
    value: bytes = FILE,
    claims: Sequence[Claim] = (),
    *,
    staged: bool = False,
    lenient: bool = False,
) -> AcceptItem:
    encoded = b"".join(map(messages.encode_claim, claims))
    claim_set = register.claim_set_digest(encoded)
    digest = register.value_digest(value, claim_set)
    return AcceptItem(KEY, ballot(counter), value, digest, claim_set, b"" if staged else encoded, lenient)


# --- Vault life ---


def test_a_new_vault_takes_its_roster_once(new: Bench) -> None:
    assert new.vault.login_reply() == messages.LoginReply(VaultState.NEW, b"")
    assert new.reply(messages.Create(ROSTER)) == messages.CreateReply(ROSTER)
    other = encode_roster(Roster(2, NODES, 4, 1))
    assert new.reply(messages.Create(other)) == messages.CreateReply(ROSTER)
    assert new.vault.login_reply() == messages.LoginReply(VaultState.NEW, ROSTER)
    new.ask(messages.Activate(DIGEST))
    assert new.vault.login_reply().state is VaultState.ACTIVE


def test_a_roster_without_this_node_is_refused(new: Bench) -> None:
    with pytest.raises(ConflictError):
        new.ask(messages.Create(encode_roster(Roster(1, NODES[2:], 2, 0))))
    with pytest.raises(RemoteProtocolError):
        new.ask(messages.Create(b"\x00"))


def test_state_and_roster_are_there_after_a_restart(store: Store, bench: Bench) -> None:
    again = bench_of(store).vault
    assert (again.state, again.roster, again.mark) == (VaultState.ACTIVE, ROSTER, bench.vault.mark)
    assert again.mark == 2


def test_status_tells_what_is_used_and_why_it_is_read_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.keep(mine(1))
    status = bench.reply(messages.Status())
    assert (status.state, status.used_size, status.read_only) == (VaultState.ACTIVE, 5, "")
    assert status.free_size > 0
    monkeypatch.setattr(type(bench.vault.store), "read_only_reason", "the disk broke")
    assert bench.reply(messages.Status()).read_only == "the disk broke"
    assert bench.vault.login_reply().state is VaultState.READ_ONLY


@pytest.mark.parametrize(
    "request_of",
    [
        messages.Activate,
        lambda digest: messages.Read(digest, True, False, ()),
        lambda digest: messages.List(digest, DIRECTORY, b"", 1, True),
        lambda digest: messages.Prepare(digest, ()),
        lambda digest: messages.Accept(digest, 0),
        lambda digest: messages.Confirm(digest, True, ()),
        lambda digest: messages.Forget(digest, ()),
    ],
)
def test_another_roster_is_answered_with_ours(
    bench: Bench, request_of: Callable[[bytes], messages.Request]
) -> None:
    with pytest.raises(RosterDiffersError) as caught:
        bench.ask(request_of(bytes(32)))
    assert caught.value.roster == ROSTER


def test_ping_is_answered(bench: Bench) -> None:
    assert bench.reply(messages.Ping()) == messages.Empty()


# --- Promises ---


def test_a_promise_holds_against_lower_ballots_only(bench: Bench) -> None:
    assert bench.prepare(5).granted
    refused = bench.prepare(4)
    assert (refused.granted, refused.ballot) == (False, ballot(5))
    assert bench.prepare(5).granted, "the same proposer may ask again"
    assert bench.prepare(6).granted


def test_a_promise_tells_what_was_accepted(bench: Bench) -> None:
    bench.accept(item(1))
    promise = bench.prepare(2)
    assert promise.state.row is not None
    assert (promise.state.row.accepted, promise.state.row.value) == (ballot(1), FILE)
    assert promise.state.row.promised == ballot(2)


def test_a_corrupt_row_promises_nothing_and_is_told_as_such(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.accept(item(1))
    monkeypatch.setattr(VaultNode, "_row_state", lambda *_: RowState(corrupt=True))
    promise = bench.prepare(2)
    assert not promise.granted
    assert promise.state.corrupt
    assert bench.read().corrupt


# --- Accepting ---


def test_a_value_is_accepted_under_its_ballot(bench: Bench) -> None:
    assert bench.accept(item(3)) == AcceptResult(messages.ACCEPTED)
    row = bench.read().row
    assert row is not None
    assert (row.promised, row.accepted, row.value) == (ballot(3), ballot(3), FILE)
    assert bench.read(values=False).row == evolve(row, value=b"")


def test_a_lower_ballot_than_promised_is_refused(bench: Bench) -> None:
    bench.prepare(5)
    assert bench.accept(item(4)) == AcceptResult(messages.REFUSED, ballot(5))
    assert bench.accept(item(5)).status == messages.ACCEPTED


def test_the_same_ballot_with_another_value_is_a_contradiction(bench: Bench) -> None:
    bench.accept(item(1))
    assert bench.accept(item(1, b"\x01other")).status == messages.CONTRADICTED
    assert bench.accept(item(1)).status == messages.ACCEPTED


def test_the_same_again_keeps_its_confirmation(bench: Bench) -> None:
    bench.accept(item(1))
    bench.confirm(1)
    bench.accept(item(1))
    row = bench.read().row
    assert row is not None
    assert (row.confirmed, row.safe) == (TAG, True)


def test_strict_names_what_is_missing_and_stores_nothing(bench: Bench) -> None:
    bench.keep(mine(1))
    claims = [claim(1), claim(2), claim(3, nodes=((0,), (2,))), claim(4)]
    assert bench.accept(item(1, claims=claims)) == AcceptResult(messages.MISSING, missing=(1, 3))
    assert bench.read().row is None
    bench.keep(mine(2), mine(4))
    assert bench.accept(item(1, claims=claims)).status == messages.ACCEPTED
    row = bench.read().row
    assert row is not None
    assert (row.claimed_count, row.owed_count) == (3, 0)


def test_lenient_records_what_it_owes(bench: Bench) -> None:
    bench.keep(mine(1))
    assert bench.accept(item(1, claims=[claim(1), claim(2)], lenient=True)).status == messages.OWING
    row = bench.read().row
    assert row is not None
    assert (row.claimed_count, row.owed_count) == (2, 1)
    bench.keep(mine(2))
    row = bench.read().row
    assert row is not None
    assert row.owed_count == 0


def test_a_node_counts_every_copy_it_should_hold(bench: Bench) -> None:
    copies = claim(1, nodes=((0, HERE), (HERE, 2)))
    bench.keep(share_key(1, 0))
    assert bench.accept(item(1, claims=[copies])).status == messages.MISSING
    bench.keep(share_key(1, 1))
    assert bench.accept(item(1, claims=[copies])).status == messages.ACCEPTED


def test_claims_may_come_before_in_parts(bench: Bench) -> None:
    claims = [claim(1), claim(2)]
    bench.keep(mine(1), mine(2))
    accepted = item(1, claims=claims, staged=True)
    assert bench.accept(accepted).status == messages.UNCLAIMED
    bench.ask(messages.Claims(accepted.claim_set, 0), messages.encode_claim(claims[0]))
    assert bench.accept(accepted).status == messages.UNCLAIMED, "a part is not the whole"
    bench.ask(messages.Claims(accepted.claim_set, 1), messages.encode_claim(claims[1]))
    assert bench.accept(accepted).status == messages.ACCEPTED
    assert bench.vault.store.view(lambda view: view.claims(KEY, ballot(1))) == claims


def test_a_batch_is_answered_item_by_item(bench: Bench) -> None:
    bench.prepare(5)
    items = [item(1), evolve(item(1), key=register_key(2))]
    reply = bench.reply(messages.Accept(DIGEST, 2), messages.encode_accepts(items))
    assert [result.status for result in reply.results] == [messages.REFUSED, messages.ACCEPTED]


@pytest.mark.parametrize(
    ("count", "broken"),
    [
        (2, item(1)),
        (1, evolve(item(1), digest=bytes(32))),
        (1, evolve(item(1, claims=[claim(1)]), claims=messages.encode_claim(claim(2)))),
        (1, evolve(item(1, claims=[claim(1)]), claims=b"\x00")),
    ],
)
def test_an_accept_that_contradicts_itself_breaks_the_protocol(
    bench: Bench, count: int, broken: AcceptItem
) -> None:
    with pytest.raises(RemoteProtocolError):
        bench.ask(messages.Accept(DIGEST, count), messages.encode_accepts([broken]))
    assert bench.read().row is None


# --- Confirming and forgetting ---


def test_only_the_accepted_ballot_can_be_confirmed(bench: Bench) -> None:
    assert bench.confirm(1) == (False,)
    bench.accept(item(1))
    assert bench.confirm(2) == (False,)
    assert bench.confirm(1, safe=False) == (True,)
    row = bench.read().row
    assert row is not None
    assert (row.confirmed, row.safe) == (TAG, False)


def test_a_confirmation_nobody_waits_for_goes_with_the_next_commit(bench: Bench) -> None:
    bench.accept(item(1))
    assert bench.confirm(1, durable=False) == ()
    bench.keep(mine(1))
    row = bench.read().row
    assert row is not None
    assert row.confirmed == TAG


def test_only_a_safe_confirmation_releases_older_claims(bench: Bench) -> None:
    bench.keep(mine(1), mine(2))
    bench.accept(item(1, claims=[claim(1)]))
    bench.accept(item(2, claims=[claim(2)]))

    def claims_of(counter: int) -> Sequence[Claim]:
        return bench.vault.store.view(lambda view: view.claims(KEY, ballot(counter)))

    bench.confirm(2, safe=False)
    assert claims_of(1) == [claim(1)]
    bench.confirm(2, safe=True)
    assert (claims_of(1), claims_of(2)) == ([], [claim(2)])
    bench.confirm(2, safe=False)
    row = bench.read().row
    assert row is not None
    assert row.safe, "what was safe once stays so"


def forget(bench: Bench, counter: int) -> None:
    bench.ask(messages.Forget(DIGEST, (PrepareItem(KEY, ballot(counter)),)))


def test_a_forgotten_tombstone_leaves_a_floor(bench: Bench) -> None:
    bench.keep(mine(1))
    bench.accept(item(1, claims=[claim(1)]))
    bench.accept(item(4, TOMBSTONE))
    bench.confirm(4, safe=False)
    forget(bench, 4)
    assert bench.read().row is None
    assert bench.vault.store.view(lambda view: view.claims(KEY, ballot(1))) == []
    for low in (3, 4):
        assert bench.prepare(low) == Promise(False, ballot(4), RowState(floor=ballot(4)))
        assert bench.accept(item(low)) == AcceptResult(messages.REFUSED, ballot(4))
    assert bench.prepare(3, register_key(9)).ballot == ballot(4), "the floor is the directory's"
    assert bench.read().floor == ballot(4)
    assert bench.ask(messages.List(DIGEST, DIRECTORY, b"", 100, True)).reply == messages.ListReply(
        0, False, ballot(4)
    )
    promise = bench.prepare(5)
    assert promise.granted
    assert promise.state.floor == bench.read().floor == ballot(4), "a promise alone is no value"
    bench.accept(item(5))
    assert bench.read().floor == NO_BALLOT, "a value speaks for itself"


@pytest.mark.parametrize("case", ["file", "unconfirmed", "other ballot", "promised since", "absent"])
def test_nothing_but_a_confirmed_tombstone_is_forgotten(bench: Bench, case: str) -> None:
    if case != "absent":
        bench.accept(item(4, FILE if case == "file" else TOMBSTONE))
    if case not in {"absent", "unconfirmed"}:
        bench.confirm(4)
    if case == "promised since":
        bench.prepare(5)
    before = bench.read()
    forget(bench, 3 if case == "other ballot" else 4)
    assert bench.read() == before
    assert bench.vault.store.view(lambda view: view.floor(DIRECTORY)) == NO_BALLOT


# --- Reading and listing ---


def test_absence_is_an_answer(bench: Bench) -> None:
    assert bench.read() == RowState()


def test_small_shares_come_with_their_row(bench: Bench) -> None:
    bench.keep(mine(1))
    bench.accept(item(1, claims=[claim(1)]))
    assert bench.read().shares == ()
    (share,) = bench.read(shares=True).shares
    assert (share.key, share.body, share.checksum) == (mine(1), b"body!", xxh3_128_digest(b"body!"))


def test_large_shares_stay_even_if_the_claim_calls_them_small(bench: Bench) -> None:
    bench.keep(mine(1), body=bytes(limits.SHARE_INLINE_SIZE_MAX + 1))
    bench.accept(item(1, claims=[claim(1)]))
    assert bench.read(shares=True).shares == ()
    bench.accept(item(2, claims=[claim(1, size=limits.SHARE_INLINE_SIZE_MAX + 1)]))
    assert bench.read(shares=True).shares == ()


def test_a_corrupt_small_share_is_left_out(bench: Bench) -> None:
    bench.keep(mine(1))
    bench.accept(item(1, claims=[claim(1)]))
    bench.vault.store.transact(lambda transaction: transaction.mark_corrupt(mine(1)))
    state = bench.read(shares=True)
    assert state.shares == ()
    assert state.row is not None
    assert state.row.corrupt_count == 1


def test_a_reply_stops_growing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "REPLY_ROWS_SIZE_MAX", 10)
    rows = [register_key(i) for i in range(4)]
    bench.accept(*(evolve(item(1), key=key) for key in rows))
    answer = bench.ask(messages.List(DIGEST, DIRECTORY, b"", 100, True))
    assert [name for name, _ in messages.decode_listed(answer.bulk[0])] == [rows[0].name, rows[1].name]
    assert answer.reply == messages.ListReply(2, True, NO_BALLOT)


def test_values_are_always_told_and_shares_while_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.keep(mine(1))
    bench.accept(item(1, claims=[claim(1)]))
    assert bench.read(shares=True).shares
    monkeypatch.setattr(node, "REPLY_ROWS_SIZE_MAX", 1)
    state = bench.read(shares=True)
    assert state.shares == ()
    assert state.row is not None
    assert state.row.value


def test_a_directory_is_listed_page_by_page(bench: Bench) -> None:
    rows = [register_key(i) for i in range(3)]
    bench.accept(*(evolve(item(1), key=key) for key in rows))

    def page(after: bytes, count_max: int) -> tuple[list[bytes], bool]:
        answer = bench.ask(messages.List(DIGEST, DIRECTORY, after, count_max, False))
        listed = messages.decode_listed(answer.bulk[0])
        assert all(state.row is not None and state.row.value == b"" for _, state in listed)
        assert isinstance(answer.reply, messages.ListReply)
        return [name for name, _ in listed], answer.reply.more

    assert page(b"", 2) == ([rows[0].name, rows[1].name], True)
    assert page(rows[1].name, 2) == ([rows[2].name], False)
    assert page(b"", 0) == ([rows[0].name], True)


# --- Shares ---


def test_shares_kept_can_be_fetched(bench: Bench) -> None:
    bench.keep(mine(1), mine(2))
    answer = bench.ask(messages.Fetch((mine(2), mine(3), mine(1))))
    assert isinstance(answer.reply, messages.FetchReply)
    statuses = [result.status for result in answer.reply.results]
    assert statuses == [messages.FOUND, messages.ABSENT, messages.FOUND]
    assert [share.size for share in answer.shares] == [5, 5]
    for share in answer.shares:
        share.close()


def test_a_corrupt_share_is_neither_found_nor_absent(bench: Bench) -> None:
    bench.keep(mine(1))
    bench.vault.store.transact(lambda transaction: transaction.mark_corrupt(mine(1)))
    answer = bench.ask(messages.Fetch((mine(1),)))
    assert answer.reply == messages.FetchReply((messages.FetchResult(messages.CORRUPT, 0, b""),))
    assert bench.has(mine(1)) == (False,)


def test_a_fetch_larger_than_a_frame_is_refused_and_leaves_nothing_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slice:
        size = limits.SHARE_SIZE_MAX
        checksum = bytes(16)
        closed = False

        def close(self) -> None:
            self.closed = True

    slices = [Slice(), Slice()]
    opened = iter(slices)
    monkeypatch.setattr(type(bench.vault.store), "share", lambda *_: next(opened))
    with pytest.raises(RemoteProtocolError):
        bench.ask(messages.Fetch((mine(1), mine(2))))
    assert all(opened_slice.closed for opened_slice in slices)


def test_damaged_or_ill_described_shares_are_not_kept(bench: Bench) -> None:
    head = ShareHead(mine(1), 4, xxh3_128_digest(b"body"))
    with pytest.raises(CorruptShareError):
        bench.ask(messages.Store((head,)), b"bodY")
    for bulk in (b"bod", b"body!"):
        with pytest.raises(RemoteProtocolError):
            bench.ask(messages.Store((head,)), bulk)
    assert bench.has(mine(1)) == (False,)


def test_shares_live_while_pinned_or_claimed(bench: Bench) -> None:
    bench.keep(mine(1), mine(2), mine(3))
    bench.accept(item(1, claims=[claim(1)]))
    bench.env.now_s += limits.PIN_LEASE_S - 1
    assert bench.has(mine(2)) == (True,), "asking is pinning"
    bench.env.now_s += 2
    bench.confirm(1)
    assert not bench.vault.tidy()
    assert bench.has(mine(1), mine(2), mine(3)) == (True, True, False)


def test_tidying_goes_on_while_there_is_more_and_rests_until_something_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "COLLECT_COUNT", 2)
    bench.keep(*(mine(i) for i in range(3)))
    bench.env.now_s += limits.PIN_LEASE_S + 1
    assert bench.vault.tidy()
    assert not bench.vault.tidy()
    mark = bench.vault.mark
    assert not bench.vault.tidy()
    assert bench.vault.mark == mark, "at rest it commits nothing"
    bench.confirm(1)
    assert bench.vault.collectable


# --- Commits ---


def test_every_commit_adds_one_to_the_mark(bench: Bench) -> None:
    mark = bench.vault.mark
    bench.keep(mine(1))
    bench.prepare(1)
    assert bench.vault.mark == mark + 2
    bench.read()
    assert bench.vault.mark == mark + 2
    bench.vault.advance(1)
    assert bench.vault.mark == mark + 2
