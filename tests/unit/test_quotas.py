"""A node with a quota: everything counts, removing always works, and a lowered quota stops only growth."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dfs.core import bulk_rows, limits, messages
from dfs.core.charges import Purpose, bound, share_charge
from dfs.core.env import RealFiles
from dfs.core.errors import QuotaError
from dfs.core.interface import StoreOptions
from dfs.core.messages import PrepareItem
from dfs.core.types import NO_BALLOT
from dfs.plugins import memory_store, volumes
from dfs.testing.stores import ballot, register_key
from tests.unit.node_bench import DIGEST, KEY, TAG, Bench, TestEnv, bench_of, claim, item, mine

PLUGINS: dict[str, Callable[..., Any]] = {"memory": memory_store.make, "volumes": volumes.make}
QUOTA = 320_000  # the last 10,000 are not for new bytes, the last 5,000 for removals alone
MUCH = b"\x01" + bytes(90_000)


@pytest.fixture(params=sorted(PLUGINS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    options = StoreOptions(
        directory=str(tmp_path / "node"), files=RealFiles(), env=TestEnv(), inline_size_max=64, reserve_size=0
    )
    with closing(PLUGINS[request.param](options)) as store:
        bench = bench_of(store).active()
        bench.vault.quota = lambda: QUOTA
        yield bench


def used(bench: Bench) -> int:
    reply = bench.reply(messages.Quota())
    assert reply.quota in {(), (bench.vault.quota(),)}
    return int(reply.used_size)


def fill(bench: Bench, left: int = 0) -> None:
    """Use the room for new bytes up but for ``left``."""
    size = bound(QUOTA, Purpose.NEW) - used(bench) - left - share_charge(0)
    bench.keep(mine(99), body=bytes(size))
    assert used(bench) == bound(QUOTA, Purpose.NEW) - left


def test_what_is_used_is_told_and_without_a_quota_nothing_is_refused(bench: Bench) -> None:
    assert bench.reply(messages.Quota()) == messages.QuotaReply(0, (QUOTA,))
    bench.vault.quota = lambda: None
    bench.keep(mine(1), body=bytes(QUOTA * 2))
    assert bench.reply(messages.Quota()) == messages.QuotaReply(share_charge(QUOTA * 2), ())


def test_shares_fit_to_the_byte(bench: Bench) -> None:
    fill(bench, share_charge(100))
    with pytest.raises(QuotaError, match=r"no room in the quota, 302\.5 KiB of 312\.5 KiB are used"):
        bench.keep(mine(1), body=bytes(101))
    assert bench.has(mine(1)) == (False,)
    bench.keep(mine(1), body=bytes(100))
    with pytest.raises(QuotaError):
        bench.keep(mine(2), body=b"")


def test_a_refused_batch_leaves_nothing_and_what_is_here_costs_nothing_again(bench: Bench) -> None:
    fill(bench, share_charge(100))
    with pytest.raises(QuotaError):
        bench.keep(mine(1), mine(2), body=bytes(100))
    assert bench.has(mine(1), mine(2), mine(99)) == (False, False, True)
    before = used(bench)
    bench.keep(mine(99), body=bytes(50))
    assert used(bench) == before


def test_promises_entries_and_claims_count(bench: Bench) -> None:
    assert bench.prepare(1).granted
    promised = used(bench)
    bench.keep(mine(1))
    kept = used(bench)
    bench.accept(item(1, MUCH, [claim(1)]))
    assert 0 < promised < kept < used(bench) - len(MUCH)
    request = messages.Claims(bytes(32), 0)
    before = used(bench)
    bench.ask(request, bulk_rows.encode_claim(claim(1)))
    part = used(bench) - before
    before = used(bench)
    bench.ask(request, bulk_rows.encode_claim(claim(2)))
    assert used(bench) - before == used(bench) - before > 0, "a pin on what is not here counts"
    assert part > 0


def test_without_room_new_names_get_no_promise_and_old_ones_do(bench: Bench) -> None:
    bench.prepare(1)
    fill(bench)
    refused = bench.prepare(1, register_key(2))
    assert (refused.granted, refused.ballot, refused.state.corrupt) == (False, NO_BALLOT, False)
    assert bench.prepare(2).granted
    answer = bench.ask(
        messages.Prepare(DIGEST, tuple(PrepareItem(register_key(number), ballot(3)) for number in (2, 1, 3)))
    )
    promises = bulk_rows.decode_promises(answer.bulk[0])
    assert [promise.granted for promise in promises] == [False, True, False]


def test_without_room_claims_are_refused(bench: Bench) -> None:
    fill(bench)
    with pytest.raises(QuotaError):
        bench.ask(messages.Claims(bytes(32), 0), bulk_rows.encode_claim(claim(1)))


def test_values_have_a_reserve_and_removals_another(bench: Bench) -> None:
    bench.prepare(1)
    fill(bench)
    assert bench.accept(item(1, b"\x01" + bytes(4_800))).status == messages.ACCEPTED
    assert bench.accept(item(2, b"\x01" + bytes(6_000))).status == messages.OVER_QUOTA
    assert bench.read().row is not None
    assert bench.accept(item(3, b"\x03" + bytes(6_000))).status == messages.ACCEPTED
    assert used(bench) <= QUOTA
    assert bench.accept(item(4, b"\x03" + bytes(20_000))).status == messages.OVER_QUOTA


def test_owed_shares_count_from_the_accept_on_and_once(bench: Bench) -> None:
    size = 200_000
    first = item(1, claims=[claim(1, size=size)], lenient=True)
    assert bench.accept(first).status == messages.OWING
    charged = used(bench)
    assert charged > size
    assert bench.accept(first).status == messages.OWING
    assert used(bench) == charged, "the same again"
    second = item(2, claims=[claim(1, size=size)], lenient=True)
    assert bench.accept(second).status == messages.OWING
    assert used(bench) - charged < 1_000, "one share, owed for two reasons"
    too_much = item(3, claims=[claim(2, size=size)], lenient=True)
    assert bench.accept(too_much).status == messages.OVER_QUOTA
    before = used(bench)
    bench.keep(mine(1), body=bytes(size))
    assert used(bench) == before, "it was paid for"


def test_what_is_owed_may_come_though_there_is_no_room(bench: Bench) -> None:
    bench.accept(item(1, claims=[claim(1, size=500)], lenient=True))
    bench.vault.quota = lambda: 10
    bench.keep(mine(1), body=bytes(500))
    assert bench.has(mine(1)) == (True,)
    with pytest.raises(QuotaError):
        bench.keep(mine(2), body=bytes(5))


def test_replays_are_bounded_too(bench: Bench) -> None:
    def replay(value: bytes) -> int:
        made = item(1, value, [claim(1, size=300)])
        rows = [
            bulk_rows.ReplayItem(
                KEY, NO_BALLOT, made.ballot, value, made.digest, made.claim_set, made.claims, TAG, safe=False
            )
        ]
        reply = bench.reply(messages.Replay(DIGEST, 1), bulk_rows.encode_replays(rows))
        return int(reply.results[0].status)

    fill(bench)
    assert replay(MUCH) == messages.OVER_QUOTA
    assert bench.read().row is None
    assert replay(b"\x01small") == messages.OWING


def test_a_quota_below_what_is_used_stops_growth_alone(bench: Bench) -> None:
    bench.prepare(1)
    bench.keep(mine(1), body=bytes(1000))
    bench.accept(item(1, b"\x01" + bytes(100), [claim(1, size=1000)]))
    bench.confirm(1)
    bench.vault.quota = lambda: 10
    assert bench.read(values=True).row is not None
    assert bench.has(mine(1)) == (True,)
    with pytest.raises(QuotaError):
        bench.keep(mine(2))
    assert bench.prepare(2).granted
    assert bench.accept(item(2, b"\x01" + bytes(101), [claim(1, size=1000)])).status == messages.OVER_QUOTA
    assert bench.accept(item(2, b"\x03" + bytes(150))).status == messages.ACCEPTED
    assert bench.confirm(2) == (True,)
    bench.ask(messages.Forget(DIGEST, (PrepareItem(KEY, ballot(2)),)))
    bench.vault.tidy()
    bench.env.now_s += limits.PIN_LEASE_S + 1
    bench.vault.tidy()
    assert bench.vault.store.shares(None, 9) == []
    assert used(bench) == share_charge(0), "the floor of the directory is left"


def test_what_was_never_claimed_is_free_again_with_its_lease(bench: Bench) -> None:
    bench.vault.tidy()
    fill(bench)
    bench.env.now_s += limits.PIN_LEASE_S + 1
    bench.vault.tidy()
    assert used(bench) == 0


def test_below_what_is_used_a_value_that_never_came_can_be_removed(bench: Bench) -> None:
    bench.keep(mine(1), body=bytes(1000))
    bench.prepare(1)
    bench.vault.quota = lambda: 10
    assert bench.accept(item(1, b"\x01" + bytes(100))).status == messages.OVER_QUOTA
    assert bench.accept(item(1, b"\x03" + bytes(100))).status == messages.ACCEPTED
    assert not bench.prepare(1, register_key(2)).granted
