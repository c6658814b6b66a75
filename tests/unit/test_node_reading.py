"""What a vault tells of its rows and shares: reading, listing, fetching, and what is kept how long."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, messages, node
from dfs.core.bulk_rows import RowState
from dfs.core.env import RealFiles
from dfs.core.errors import (
    CorruptShareError,
    DiskFullError,
    RemoteProtocolError,
)
from dfs.core.interface import StoreOptions
from dfs.core.messages import PrepareItem, ShareHead
from dfs.core.node import VaultNode
from dfs.core.types import (
    NO_BALLOT,
)
from dfs.plugins import memory_store
from dfs.testing.stores import DIRECTORY, ballot, register_key
from tests.unit.node_bench import (
    DIGEST,
    KEY,
    Bench,
    Direct,
    TestEnv,
    bench_of,
    claim,
    item,
    mine,
    opened_store,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(opened_store(tmp_path)) as store:
        yield bench_of(store).active()


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
    assert [name for name, _ in bulk_rows.decode_listed(answer.bulk[0])] == [rows[0].name, rows[1].name]
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
        listed = bulk_rows.decode_listed(answer.bulk[0])
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
    bench.vault.tidy()  # the first one only renews what an earlier start left
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
    bench.vault.tidy()
    bench.keep(*(mine(i) for i in range(3)))
    bench.env.now_s += limits.PIN_LEASE_S + 1
    assert bench.vault.tidy()
    assert not bench.vault.tidy()
    mark = bench.vault.mark
    assert not bench.vault.tidy()
    assert bench.vault.mark == mark, "at rest it commits nothing"
    bench.confirm(1)
    assert bench.vault.collectable


def again(bench: Bench, lease_s: float) -> Bench:
    """The vault after a restart, its clock at another time."""
    commit, env = Direct(bench.vault.store), TestEnv()
    vault = VaultNode(bench.vault.node_id, 1, bench.vault.store, commit, env, lease_s)
    commit.vault = vault
    return Bench(vault, env)


@pytest.mark.parametrize("clock_s", [0.0, 10.0**9])
def test_pins_of_an_earlier_start_are_granted_in_full_again(bench: Bench, clock_s: float) -> None:
    """Their ends were times of a clock that has begun anew, and may now be past or far ahead."""
    bench.keep(mine(1))
    claim_set = item(1, claims=[claim(2)]).claim_set
    bench.ask(messages.Claims(claim_set, 0), bulk_rows.encode_claim(claim(2)))
    restarted = again(bench, 100.0)
    restarted.env.now_s = clock_s
    assert not restarted.vault.tidy()
    restarted.env.now_s += 99
    restarted.vault.collectable = True
    restarted.vault.tidy()
    assert restarted.vault.store.shares(None, 10) == [mine(1)]
    restarted.env.now_s += 2
    restarted.vault.tidy()
    assert restarted.vault.store.shares(None, 10) == []
    assert (
        restarted.vault.store.view(lambda view: view.staged_claims(item(1, claims=[claim(2)]).claim_set))
        == []
    )


def test_pins_end_though_nothing_else_happens(bench: Bench) -> None:
    restarted = again(bench, 100.0)
    restarted.vault.tidy()
    restarted.keep(mine(1))
    restarted.env.now_s += 99
    mark = restarted.vault.mark
    restarted.vault.tidy()
    assert restarted.vault.mark == mark, "there is nothing to do yet"
    restarted.env.now_s += 2
    restarted.vault.tidy()
    assert restarted.vault.store.shares(None, 10) == []
    mark = restarted.vault.mark
    restarted.env.now_s += 1000
    restarted.vault.tidy()
    assert restarted.vault.mark == mark


# --- A full disk ---


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Bench]:
    """A disk of 1,000 bytes, of which 100 are the reserve."""
    options = StoreOptions(
        directory="",
        files=RealFiles(),
        env=TestEnv(),
        inline_size_max=64,
        reserve_size=100,
        values={"capacity": "1000"},
    )
    with closing(memory_store.make(options)) as store:
        bench = bench_of(store).active()
        bench.keep(mine(1), body=bytes(890))
        yield bench


def test_on_a_full_disk_deletes_and_collection_work_and_nothing_else_is_written(
    full: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = [claim(1, size=890)]
    assert full.accept(item(1, b"\x01" + bytes(50), claims)).status == messages.FULL
    assert full.read().row is None
    replayed = item(1, b"\x01" + bytes(50), claims)
    replay = bulk_rows.ReplayItem(
        replayed.key, NO_BALLOT, replayed.ballot, replayed.value, replayed.digest, replayed.claim_set,
        replayed.claims, b"", False,
    )  # fmt: skip
    reply = full.reply(messages.Replay(DIGEST, 1), bulk_rows.encode_replays([replay]))
    assert [result.status for result in reply.results] == [messages.FULL]
    with pytest.raises(DiskFullError):
        full.ask(messages.Claims(bytes(32), 0), bulk_rows.encode_claim(claim(1)))
    with pytest.raises(DiskFullError):
        full.keep(mine(2), body=bytes(11))
    assert full.accept(item(2, b"\x01" + bytes(9))).status == messages.ACCEPTED, "what fits is no problem"
    monkeypatch.setattr(type(full.vault.store), "free_size", 0)
    assert full.accept(item(2, b"\x01" + bytes(9))).status == messages.ACCEPTED, "nor what was there before"
    assert full.prepare(3).granted
    assert full.accept(item(3, b"\x03" + bytes(50))).status == messages.ACCEPTED
    assert full.confirm(3) == (True,)
    full.ask(messages.Forget(DIGEST, (PrepareItem(KEY, ballot(3)),)))
    full.vault.tidy()
    full.env.now_s += limits.PIN_LEASE_S + 1
    full.vault.tidy()
    monkeypatch.undo()
    full.keep(mine(2), body=bytes(500))


def test_a_digest_is_of_what_the_list_would_be(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [register_key(i) for i in range(3)]
    bench.accept(*(evolve(item(1), key=key) for key in rows))
    for size_max in (node.REPLY_ROWS_SIZE_MAX, 10):
        monkeypatch.setattr(node, "REPLY_ROWS_SIZE_MAX", size_max)
        for after in (b"", rows[1].name):
            listed = bench.ask(messages.List(DIGEST, DIRECTORY, after, 100, True))
            digest = bench.ask(messages.ListDigest(DIGEST, DIRECTORY, after, 100))
            assert isinstance(listed.reply, messages.ListReply)
            assert digest.reply == messages.ListDigestReply(
                listed.reply.count,
                listed.reply.more,
                listed.reply.floor,
                bulk_rows.listed_digest(listed.bulk),
            )
            assert digest.bulk == ()


def test_each_column_counts_in_a_digest(bench: Bench) -> None:
    def digest() -> bytes:
        reply = bench.ask(messages.ListDigest(DIGEST, DIRECTORY, b"", 100)).reply
        assert isinstance(reply, messages.ListDigestReply)
        return reply.digest

    bench.keep(mine(1))
    seen = [digest()]
    bench.accept(item(1, claims=[claim(1)]))
    seen.append(digest())
    bench.vault.store.transact(lambda transaction: transaction.mark_corrupt(mine(1)))
    seen.append(digest())
    bench.confirm(1, safe=False)
    seen.append(digest())
    bench.confirm(1, safe=True)
    seen.append(digest())
    bench.prepare(2)
    seen.append(digest())
    assert len(set(seen)) == len(seen)
