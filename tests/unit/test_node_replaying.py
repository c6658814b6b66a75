"""Registers and shares that were lost: what a node takes over from others, what it tells, what it refuses."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from dfs.core import bulk_rows, messages, node, register
from dfs.core.bulk_rows import LackingStripe, ReplayItem, RowState
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import RemoteProtocolError
from dfs.core.interface import Store, StoreOptions
from dfs.core.messages import AcceptResult, DirectoryState, Floor, PrepareItem
from dfs.core.types import NO_BALLOT, Ballot, Claim, RegisterKey
from dfs.plugins import volumes
from dfs.plugins.memory_store import MemoryVault
from dfs.testing.stores import DIRECTORY, ballot, register_key, share_key
from tests.unit.node_bench import (
    DIGEST,
    FILE,
    HERE,
    KEY,
    TAG,
    TOMBSTONE,
    Bench,
    bench_of,
    claim,
    item,
    mine,
    opened_store,
)

ACCEPTED = AcceptResult(messages.ACCEPTED)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(opened_store(tmp_path)) as store:
        yield bench_of(store).active()


def past(
    counter: int,
    value: bytes = FILE,
    claims: Sequence[Claim] = (),
    *,
    promised: int = 0,
    confirmed: bytes = b"",
    safe: bool = False,
    key: RegisterKey = KEY,
) -> ReplayItem:
    """A register as others hold it; ``counter`` 0: a promise alone."""
    highest = ballot(promised) if promised else NO_BALLOT
    if not counter:
        return ReplayItem(key, highest, NO_BALLOT, b"", b"", b"", b"", b"", False)
    made = item(counter, value, claims)
    columns = (made.ballot, made.value, made.digest, made.claim_set, made.claims)
    return ReplayItem(key, highest, *columns, confirmed, safe)


def replay(bench: Bench, *items: ReplayItem) -> AcceptResult:
    request = messages.Replay(DIGEST, len(items))
    result: AcceptResult = bench.reply(request, bulk_rows.encode_replays(items)).results[0]
    return result


def row_of(bench: Bench) -> tuple[Ballot, Ballot, bytes, bytes, bool]:
    row = bench.read().row
    assert row is not None
    return row.promised, row.accepted, row.value, row.confirmed, row.safe


# --- Values and promises ---


def test_a_value_is_taken_over_as_it_was(bench: Bench) -> None:
    assert replay(bench, past(3, confirmed=TAG, promised=5)) == ACCEPTED
    assert row_of(bench) == (ballot(5), ballot(3), FILE, TAG, False)
    before = bench.read()
    assert replay(bench, past(3, confirmed=TAG, promised=5)) == ACCEPTED
    assert bench.read() == before


def test_a_chosen_value_is_accepted_below_the_promise_which_stays(bench: Bench) -> None:
    bench.accept(item(1))
    bench.prepare(7)
    assert replay(bench, past(3, b"\x01newer")) == ACCEPTED
    assert row_of(bench) == (ballot(7), ballot(3), b"\x01newer", b"", False)
    assert not bench.prepare(6).granted


def test_what_is_newer_here_stays(bench: Bench) -> None:
    bench.accept(item(5))
    assert replay(bench, past(3, b"\x01older", promised=8)) == AcceptResult(messages.REFUSED, ballot(5))
    assert row_of(bench) == (ballot(8), ballot(5), FILE, b"", False)


def test_a_confirmation_is_added_and_never_taken_away(bench: Bench) -> None:
    bench.keep(mine(1), mine(2))
    bench.accept(item(1, claims=[claim(1)]))
    bench.accept(item(2, claims=[claim(2)]))
    assert replay(bench, past(2, claims=[claim(2)], confirmed=TAG, safe=True)) == ACCEPTED
    assert row_of(bench) == (ballot(2), ballot(2), FILE, TAG, True)
    assert bench.vault.store.view(lambda view: view.claims(KEY, ballot(1))) == [], (
        "safe releases older claims"
    )
    assert replay(bench, past(2, claims=[claim(2)])) == ACCEPTED
    assert row_of(bench) == (ballot(2), ballot(2), FILE, TAG, True)


def test_the_same_ballot_with_another_value_is_a_contradiction(bench: Bench) -> None:
    bench.accept(item(3))
    assert replay(bench, past(3, b"\x01other")).status == messages.CONTRADICTED
    assert row_of(bench)[2] == FILE


def test_a_promise_alone_is_taken_over(bench: Bench) -> None:
    assert replay(bench, past(0, promised=4)) == ACCEPTED
    refused = bench.prepare(3)
    assert (refused.granted, refused.ballot) == (False, ballot(4))
    assert replay(bench, past(0, promised=2)) == ACCEPTED
    assert not bench.prepare(3).granted
    bench.accept(item(6))
    assert replay(bench, past(0, promised=9)) == ACCEPTED
    assert row_of(bench)[:3] == (ballot(9), ballot(6), FILE)


def test_what_was_forgotten_is_not_brought_back(bench: Bench) -> None:
    bench.ask(messages.RaiseFloors(DIGEST, (Floor(DIRECTORY, ballot(5)),)))
    assert replay(bench, past(5)) == AcceptResult(messages.REFUSED, ballot(5))
    assert replay(bench, past(0, promised=4)) == AcceptResult(messages.REFUSED, ballot(5))
    assert bench.read() == RowState(floor=ballot(5))
    assert replay(bench, past(6)) == ACCEPTED


def test_absent_shares_are_owed(bench: Bench) -> None:
    bench.keep(mine(1))
    claims = [claim(1), claim(2), claim(3, nodes=((0,), (2,)))]
    assert replay(bench, past(1, claims=claims)).status == messages.OWING
    row = bench.read().row
    assert row is not None
    assert (row.claimed_count, row.owed_count) == (2, 1)
    assert lacking(bench) == [LackingStripe(claim(2), (HERE,))]
    bench.keep(mine(2))
    assert lacking(bench) == []
    assert replay(bench, past(1, claims=claims)) == ACCEPTED


def test_claims_of_a_replay_may_be_staged(bench: Bench) -> None:
    staged = evolve(past(1, claims=[claim(1)]), claims=b"")
    assert replay(bench, staged).status == messages.UNCLAIMED
    bench.ask(messages.Claims(staged.claim_set, 0), bulk_rows.encode_claim(claim(1)))
    assert replay(bench, staged).status == messages.OWING


@pytest.mark.parametrize(
    "broken",
    [
        evolve(past(1), digest=bytes(32)),
        evolve(past(1), value=b""),
        evolve(past(1), safe=True),
        evolve(past(0, promised=1), value=FILE),
        evolve(past(0, promised=1), confirmed=TAG),
        evolve(past(1, claims=[claim(1)]), claims=bulk_rows.encode_claim(claim(2))),
    ],
)
def test_a_replay_that_contradicts_itself_breaks_the_protocol(bench: Bench, broken: ReplayItem) -> None:
    with pytest.raises(RemoteProtocolError):
        replay(bench, broken)
    assert bench.read().row is None


def test_the_count_of_a_replay_must_fit(bench: Bench) -> None:
    with pytest.raises(RemoteProtocolError):
        bench.ask(messages.Replay(DIGEST, 2), bulk_rows.encode_replays([past(1)]))


# --- Corrupt rows, in the real store ---


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    options = StoreOptions(
        directory=str(tmp_path / "node"), files=RealFiles(), env=RealEnv(), inline_size_max=64, reserve_size=0
    )
    with closing(volumes.make(options)) as opened:
        yield opened


@pytest.fixture
def rotten(store: Store, tmp_path: Path) -> Bench:
    """A vault that promised 9 and holds 4 in a row that has become corrupt."""
    bench = bench_of(store).active()
    bench.accept(item(4))
    bench.prepare(9)
    rot(tmp_path)
    assert bench.read().corrupt
    return bench


def rot(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "node" / "ines" / "vault.db")) as database, database:
        database.execute("UPDATE registers SET value = x'0173'")


def test_a_corrupt_row_takes_no_part(rotten: Bench) -> None:
    promise = rotten.prepare(20)
    assert (promise.granted, promise.ballot, promise.state.corrupt) == (False, NO_BALLOT, True)
    assert rotten.accept(item(20)) == AcceptResult(messages.DAMAGED)
    assert rotten.accept(item(20, lenient=True)) == AcceptResult(messages.DAMAGED)
    assert rotten.confirm(4) == (False,)
    rotten.ask(messages.Forget(DIGEST, (PrepareItem(KEY, ballot(4)),)))
    assert rotten.read().corrupt
    listed = bulk_rows.decode_listed(rotten.ask(messages.List(DIGEST, DIRECTORY, b"", 9, True)).bulk[0])
    assert [state.corrupt for _, state in listed] == [True]


def test_a_replayed_row_keeps_promises_that_are_no_longer_known(rotten: Bench) -> None:
    assert replay(rotten, past(4, promised=6, confirmed=TAG)) == ACCEPTED
    row = rotten.read().row
    assert row is not None
    assert (row.accepted, row.value, row.confirmed) == (ballot(4), FILE, TAG)
    assert row.promised >= ballot(9)
    assert not rotten.prepare(9).granted
    assert rotten.accept(item(9)).status == messages.REFUSED
    assert rotten.prepare(20).granted


def test_a_corrupt_row_that_nobody_else_holds_becomes_an_empty_one(rotten: Bench) -> None:
    assert replay(rotten, past(0)) == ACCEPTED
    row = rotten.read().row
    assert row is not None
    assert (row.accepted, row.value) == (NO_BALLOT, b"")
    assert not rotten.prepare(9).granted


def test_a_corrupt_row_may_be_below_the_floor(rotten: Bench) -> None:
    rotten.ask(messages.RaiseFloors(DIGEST, (Floor(DIRECTORY, ballot(30)),)))
    assert replay(rotten, past(4)) == ACCEPTED
    assert not rotten.read().corrupt


def test_only_corrupt_rows_count_as_damaged(rotten: Bench) -> None:
    assert rotten.vault.damaged([past(4)])
    assert not rotten.vault.damaged([past(4), past(4, key=register_key(2))])


# --- Directories, floors, claims ---


def test_floors_only_rise(bench: Bench) -> None:
    for counter in (5, 3):
        bench.ask(messages.RaiseFloors(DIGEST, (Floor(DIRECTORY, ballot(counter)),)))
    assert bench.read().floor == ballot(5)


def test_directories_are_told_page_by_page(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.core.limits.BATCH_COUNT_MAX", 1)
    bench.prepare(1)
    bench.accept(evolve(item(1), key=register_key(2)))
    other = type(DIRECTORY)(b"e" * 16)
    bench.ask(messages.RaiseFloors(DIGEST, (Floor(other, ballot(5)),)))
    first, second = DirectoryState(DIRECTORY, 2, NO_BALLOT), DirectoryState(other, 0, ballot(5))
    assert bench.reply(messages.Directories(DIGEST, b"")) == messages.DirectoriesReply((first,), True)
    assert bench.reply(messages.Directories(DIGEST, DIRECTORY)) == messages.DirectoriesReply((second,), True)
    assert bench.reply(messages.Directories(DIGEST, other)) == messages.DirectoriesReply((), False)


def test_claims_are_told_from_a_position_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "CLAIMED_COUNT", 2)
    claims = [claim(number) for number in range(3)]
    bench.accept(item(1, claims=claims, lenient=True))

    def told(position: int, counter: int = 1) -> tuple[list[Claim], bool]:
        answer = bench.ask(messages.Claimed(DIGEST, KEY, ballot(counter), position))
        found = list(bulk_rows.decode_claims(answer.bulk[0]))
        assert isinstance(answer.reply, messages.ClaimedReply)
        assert answer.reply.count == len(found)
        return found, answer.reply.more

    assert told(0) == (claims[:2], True)
    assert told(2) == (claims[2:], False)
    assert told(0, 2) == ([], False)


def test_the_largest_claims_fit_a_reply() -> None:
    rows = tuple(tuple(range(1008, 1024)) for _ in range(16))
    largest = evolve(claim(1, nodes=rows, size=1 << 24), code="c" * 64)
    assert len(bulk_rows.encode_claim(largest)) * node.CLAIMED_COUNT <= 4 << 20


# --- Shares ---


def lacking(bench: Bench, after: bytes = b"") -> list[LackingStripe]:
    answer = bench.ask(messages.Lacking(DIGEST, after))
    stripes = bulk_rows.decode_lacking(answer.bulk[0])
    assert answer.reply == messages.LackingReply(len(stripes), False)
    return list(stripes)


def verify(bench: Bench, *numbers: int) -> tuple[int, ...]:
    statuses: tuple[int, ...] = bench.reply(messages.Verify(tuple(map(mine, numbers)))).statuses
    return statuses


def damage(bench: Bench, number: int) -> None:
    vault = bench.vault.store
    assert isinstance(vault, MemoryVault)
    vault.damage(mine(number))


def test_verification_finds_and_remembers_what_is_bad(bench: Bench) -> None:
    bench.keep(mine(1), mine(2))
    bench.accept(item(1, claims=[claim(1), claim(2)]))
    assert verify(bench, 1, 2, 3) == (messages.FOUND, messages.FOUND, messages.ABSENT)
    damage(bench, 2)
    mark = bench.vault.mark
    assert verify(bench, 1, 2, 3) == (messages.FOUND, messages.CORRUPT, messages.ABSENT)
    assert bench.vault.mark == mark + 1
    assert lacking(bench) == [LackingStripe(claim(2), (HERE,))]
    assert bench.has(mine(2)) == (False,)
    bench.keep(mine(2))
    assert verify(bench, 2) == (messages.FOUND,)
    assert lacking(bench) == []


def test_a_share_replaced_meanwhile_is_not_marked(bench: Bench) -> None:
    bench.keep(mine(1))
    damage(bench, 1)
    vault, store = bench.vault, bench.vault.store
    bad = vault._verified(mine(1))
    assert bad == messages.CORRUPT
    store.transact(lambda transaction: transaction.mark_corrupt(mine(1)))
    bench.keep(mine(1))
    vault._mark_bad([mine(1)])
    assert bench.has(mine(1)) == (True,)


def test_the_owner_may_condemn_what_its_checksum_defends(bench: Bench) -> None:
    bench.keep(mine(1))
    bench.ask(messages.Condemn((mine(1), mine(2))))
    assert verify(bench, 1, 2) == (messages.CORRUPT, messages.ABSENT)
    bench.keep(mine(1), body=b"right")
    share = bench.vault.store.share(mine(1))
    assert share.size == 5
    share.close()


def test_lacking_is_what_a_claim_wants_and_no_more(bench: Bench) -> None:
    bench.keep(mine(1), mine(3))
    bench.accept(item(1, claims=[claim(1), claim(2)], lenient=True))
    bench.ask(messages.Condemn((mine(3),)))
    assert lacking(bench) == [LackingStripe(claim(2), (HERE,))]
    assert lacking(bench, claim(2).stripe) == []
    assert bench.vault.lacks([mine(2)])
    for keys in ([mine(1)], [mine(2), mine(3)], [share_key(2, 0)], [mine(9)]):
        assert not bench.vault.lacks(keys)


def test_status_counts_what_is_here_owed_and_bad(bench: Bench) -> None:
    bench.keep(mine(1), mine(3))
    bench.accept(item(1, claims=[claim(1), claim(2), claim(3)], lenient=True))
    bench.ask(messages.Condemn((mine(3),)))
    status = bench.reply(messages.Status())
    assert (status.share_count, status.owed_count, status.corrupt_count, status.scrubbed_s) == (2, 1, 1, 0)


def test_a_tombstone_can_be_replayed_and_forgotten(bench: Bench) -> None:
    assert replay(bench, past(4, TOMBSTONE, confirmed=TAG)) == ACCEPTED
    bench.ask(messages.Forget(DIGEST, (PrepareItem(KEY, ballot(4)),)))
    assert bench.read() == RowState(floor=ballot(4))


def test_rows_and_values_are_decided_by_the_same_function() -> None:
    row = register.replayed(None, past(2, promised=1), ballot(7), 3)
    assert (row.promised, row.accepted, row.claimed_count) == (ballot(7), ballot(2), 3)
