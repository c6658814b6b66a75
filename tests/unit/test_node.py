"""A vault's answer to every message but those about shares, asked directly."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from dfs.core import bulk_rows, messages
from dfs.core.bulk_rows import AcceptItem, Promise, RowState
from dfs.core.errors import (
    ConflictError,
    RemoteProtocolError,
)
from dfs.core.interface import Store
from dfs.core.messages import AcceptResult, PrepareItem
from dfs.core.node import VaultNode
from dfs.core.roster import encode_roster
from dfs.core.types import (
    NO_BALLOT,
    Claim,
    Roster,
    VaultState,
)
from dfs.core.wire import RosterDiffersError
from dfs.testing.stores import DIRECTORY, ballot, register_key, share_key
from tests.unit.node_bench import (
    DIGEST,
    FILE,
    HERE,
    KEY,
    NODES,
    ROSTER,
    TAG,
    TOMBSTONE,
    Bench,
    bench_of,
    claim,
    item,
    mine,
    opened_store,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(opened_store(tmp_path)) as opened:
        yield opened


@pytest.fixture
def new(store: Store) -> Bench:
    return bench_of(store)


@pytest.fixture
def bench(new: Bench) -> Bench:
    return new.active()


# --- Vault life ---


def test_a_new_vault_takes_its_roster_once(new: Bench) -> None:
    assert new.vault.login_reply() == messages.LoginReply(VaultState.NEW, b"")
    assert new.reply(messages.Create(ROSTER)) == messages.CreateReply(ROSTER)
    other = encode_roster(Roster(2, NODES, 3, 1))
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
    ("reason", "told"),
    [
        ("ä" * 1000, "ä" * 512),
        ("x" + "ä" * 1000, "x" + "ä" * 511),
        ("x" * 2000, "x" * 1024),
        ("disk \udcff broke", "disk ? broke"),
    ],
)
def test_a_long_reason_is_cut_to_what_the_wire_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, reason: str, told: str
) -> None:
    monkeypatch.setattr(type(bench.vault.store), "read_only_reason", reason)
    assert bench.reply(messages.Status()).read_only == told


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
    bench.ask(messages.Claims(accepted.claim_set, 0), bulk_rows.encode_claim(claims[0]))
    assert bench.accept(accepted).status == messages.UNCLAIMED, "a part is not the whole"
    bench.ask(messages.Claims(accepted.claim_set, 1), bulk_rows.encode_claim(claims[1]))
    assert bench.accept(accepted).status == messages.ACCEPTED
    assert bench.vault.store.view(lambda view: view.claims(KEY, ballot(1))) == claims


def test_a_batch_is_answered_item_by_item(bench: Bench) -> None:
    bench.prepare(5)
    items = [item(1), evolve(item(1), key=register_key(2))]
    reply = bench.reply(messages.Accept(DIGEST, 2), bulk_rows.encode_accepts(items))
    assert [result.status for result in reply.results] == [messages.REFUSED, messages.ACCEPTED]


@pytest.mark.parametrize(
    ("count", "broken"),
    [
        (2, item(1)),
        (1, evolve(item(1), digest=bytes(32))),
        (1, evolve(item(1, claims=[claim(1)]), claims=bulk_rows.encode_claim(claim(2)))),
        (1, evolve(item(1, claims=[claim(1)]), claims=b"\x00")),
    ],
)
def test_an_accept_that_contradicts_itself_breaks_the_protocol(
    bench: Bench, count: int, broken: AcceptItem
) -> None:
    with pytest.raises(RemoteProtocolError):
        bench.ask(messages.Accept(DIGEST, count), bulk_rows.encode_accepts([broken]))
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


def test_a_promise_without_a_value_is_forgotten_into_the_floor(bench: Bench) -> None:
    bench.prepare(4)
    forget(bench, 3)
    assert bench.read().row is not None
    forget(bench, 4)
    assert bench.read() == RowState(floor=ballot(4))
    assert not bench.prepare(4).granted


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
