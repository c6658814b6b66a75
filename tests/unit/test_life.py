"""How a vault comes to count on a node, stops counting when it lost something, and counts again."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from attrs import evolve

from dfs.core import life, messages
from dfs.core.errors import ConflictError, RemoteProtocolError, StoreError
from dfs.core.interface import Store, Transaction
from dfs.core.node import Commit, VaultNode
from dfs.core.roster import decode_roster, encode_roster
from dfs.core.types import NO_BALLOT, RESTORED, Ballot, Roster, VaultState
from dfs.core.wire import RosterDiffersError
from dfs.testing.stores import ballot
from tests.unit.node_bench import (
    DIGEST,
    HERE,
    KEY,
    NODES,
    ROSTER,
    Bench,
    Direct,
    TestEnv,
    bench_of,
    item,
    mine,
    opened_store,
)

T = TypeVar("T")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(opened_store(tmp_path)) as opened:
        yield opened


@pytest.fixture
def new(store: Store) -> Bench:
    return bench_of(store)


def under(store: Store, incarnation: int) -> Bench:
    """The same vault on a node of another incarnation."""
    vault_store = store.vault("ines", create=True)
    commit, env = Direct(vault_store), TestEnv()
    commit.vault = VaultNode(NODES[HERE].node_id, incarnation, vault_store, commit, env)
    return Bench(commit.vault, env)


def joined(new: Bench) -> Bench:
    assert new.reply(messages.Join(ROSTER)) == messages.StateReply(VaultState.JOINING)
    return new


def test_an_empty_vault_joins_and_counts_after_the_replay(store: Store, new: Bench) -> None:
    joined(new)
    assert new.vault.login_reply() == messages.LoginReply(VaultState.JOINING, ROSTER)
    assert new.prepare(1).granted, "it takes part in everything meanwhile"
    assert bench_of(store).vault.state is VaultState.JOINING, "also after a restart"
    assert new.reply(messages.EndJoin(DIGEST, new.vault.mark)) == messages.StateReply(VaultState.ACTIVE)
    assert bench_of(store).vault.state is VaultState.ACTIVE


def test_only_a_vault_without_roster_joins(new: Bench) -> None:
    with pytest.raises(ConflictError):
        new.ask(messages.Join(encode_roster(Roster(1, NODES[2:], 2, 0))))
    with pytest.raises(RemoteProtocolError):
        new.ask(messages.Join(b"\x00"))
    new.ask(messages.Create(ROSTER))
    mark = new.vault.mark
    assert new.reply(messages.Join(ROSTER)).state is VaultState.NEW
    new.ask(messages.Activate(DIGEST))
    assert new.reply(messages.Join(ROSTER)).state is VaultState.ACTIVE
    assert new.vault.mark == mark + 1, "what changes nothing commits nothing"


def test_a_joining_vault_is_neither_created_nor_activated(new: Bench) -> None:
    joined(new)
    other = encode_roster(Roster(2, NODES, 3, 1))
    assert new.reply(messages.Create(other)) == messages.CreateReply(ROSTER)
    new.ask(messages.Activate(DIGEST))
    assert new.vault.state is VaultState.JOINING


def later(epoch: int) -> bytes:
    return encode_roster(evolve(decode_roster(ROSTER), epoch=epoch))


def test_a_later_epoch_of_the_same_roster_takes_its_place(store: Store, new: Bench) -> None:
    new.active()
    assert new.reply(messages.Create(later(3))) == messages.CreateReply(later(3))
    assert new.vault.state is VaultState.ACTIVE
    with pytest.raises(RosterDiffersError) as caught:
        new.prepare(1)
    assert caught.value.roster == later(3)
    mark = new.vault.mark
    for epoch in (1, 2, 3):
        assert new.reply(messages.Create(later(epoch))) == messages.CreateReply(later(3))
    assert new.vault.mark == mark, "what changes nothing commits nothing"
    assert bench_of(store).vault.login_reply() == messages.LoginReply(VaultState.ACTIVE, later(3))


def test_a_joining_vault_takes_a_later_epoch_and_goes_on_joining(new: Bench) -> None:
    joined(new)
    assert new.reply(messages.Create(later(2))) == messages.CreateReply(later(2))
    assert new.vault.state is VaultState.JOINING


class Late:
    """Commits what comes first only after something else was done."""

    def __init__(self, inside: Commit, before: Callable[[], object]) -> None:
        self.inside, self.before = inside, [before]

    def run(self, work: Callable[[Transaction], T]) -> T:
        if self.before:
            self.before.pop()()
        return self.inside.run(work)

    def later(self, work: Callable[[Transaction], object]) -> None:
        self.inside.later(work)


def test_nothing_is_accepted_that_waited_while_the_epoch_changed(new: Bench) -> None:
    """It was looked at before, and its turn to be committed came after."""
    new.active()
    new.prepare(1)
    new.vault.commit = Late(new.vault.commit, lambda: new.ask(messages.Create(later(2))))
    with pytest.raises(RosterDiffersError):
        new.accept(item(1))
    state = new.vault.store.view(lambda view: view.register(KEY))
    assert state is not None
    assert not state.accepted


def test_another_roster_ends_no_join(new: Bench) -> None:
    joined(new)
    with pytest.raises(RosterDiffersError):
        new.ask(messages.EndJoin(bytes(32), 0))
    assert new.vault.state is VaultState.JOINING


def test_a_join_does_not_end_if_state_was_lost_meanwhile(new: Bench) -> None:
    joined(new)
    with pytest.raises(ConflictError):
        new.ask(messages.EndJoin(DIGEST, new.vault.mark + 2))
    assert new.vault.state is VaultState.JOINING


def test_a_vault_behind_its_own_mark_is_quarantined(store: Store, new: Bench) -> None:
    bench = new.active()
    mark = bench.vault.mark
    assert bench.reply(messages.Quarantine(mark)).state is VaultState.ACTIVE
    assert bench.reply(messages.Quarantine(mark + 1)).state is VaultState.QUARANTINED
    assert bench_of(store).vault.login_reply().state is VaultState.QUARANTINED
    assert bench.reply(messages.Quarantine(mark + 9)).state is VaultState.QUARANTINED
    bench.keep(mine(1))
    assert bench.reply(messages.EndJoin(DIGEST, bench.vault.mark)).state is VaultState.ACTIVE


def test_whoever_heard_more_of_a_vault_does_not_take_it_for_rolled_back_twice(new: Bench) -> None:
    bench = new.active()
    heard = bench.vault.mark + 1_000  # by a client that is not the one that brings it up to date
    assert bench.reply(messages.Quarantine(bench.vault.mark + 1)).state is VaultState.QUARANTINED
    assert bench.reply(messages.EndJoin(DIGEST, bench.vault.mark)).state is VaultState.ACTIVE
    assert bench.vault.mark > heard
    assert bench.reply(messages.Quarantine(heard)).state is VaultState.ACTIVE


def test_what_has_no_roster_has_nothing_to_lose(new: Bench) -> None:
    assert new.reply(messages.Quarantine(7)).state is VaultState.NEW
    assert joined(new).reply(messages.Quarantine(99)).state is VaultState.JOINING


@pytest.mark.parametrize("incarnation", [1, 3])
def test_a_vault_of_another_incarnation_is_quarantined_until_it_is_up_to_date(
    store: Store, incarnation: int
) -> None:
    under(store, 2).active()
    returned = under(store, incarnation)
    assert returned.vault.state is VaultState.QUARANTINED
    assert returned.prepare(1).granted
    assert under(store, incarnation).vault.state is VaultState.QUARANTINED
    ended = returned.reply(messages.EndJoin(DIGEST, returned.vault.mark))
    assert ended.state is VaultState.ACTIVE
    assert under(store, incarnation).vault.state is VaultState.ACTIVE
    assert under(store, 2).vault.state is VaultState.QUARANTINED


def test_a_new_vault_stays_new_under_another_incarnation(store: Store) -> None:
    under(store, 1).ask(messages.Create(ROSTER))
    again = under(store, 2)
    assert again.vault.state is VaultState.NEW
    again.ask(messages.Activate(DIGEST))
    assert under(store, 2).vault.state is VaultState.ACTIVE


def restore(store: Store) -> None:
    """What a store does that brings a vault back from an older copy."""
    store.vault("ines", create=True).transact(lambda transaction: transaction.set_meta(RESTORED, b"\1"))


@pytest.mark.parametrize("incarnation", [1, 2])
@pytest.mark.parametrize("state", [VaultState.NEW, VaultState.ACTIVE, VaultState.QUARANTINED])
def test_a_vault_that_its_store_brought_back_joins(
    store: Store, new: Bench, state: VaultState, incarnation: int
) -> None:
    new.ask(messages.Create(ROSTER))
    if state is not VaultState.NEW:
        new.ask(messages.Activate(DIGEST))
    if state is VaultState.QUARANTINED:
        new.ask(messages.Quarantine(new.vault.mark + 1))
    restore(store)
    back = under(store, incarnation)
    assert back.vault.state is VaultState.JOINING
    back.ask(messages.Activate(DIGEST))
    assert back.reply(messages.Quarantine(back.vault.mark + 100)) == messages.StateReply(VaultState.JOINING)
    assert under(store, incarnation).vault.state is VaultState.JOINING, "also after a restart"
    assert back.reply(messages.EndJoin(DIGEST, back.vault.mark)) == messages.StateReply(VaultState.ACTIVE)
    assert under(store, incarnation).vault.state is VaultState.ACTIVE, "once, not for ever"


def test_a_vault_brought_back_from_before_its_making_is_new_and_joins_like_one(store: Store) -> None:
    restore(store)
    back = under(store, 2)
    assert back.vault.state is VaultState.NEW
    joined(back)
    assert back.reply(messages.EndJoin(DIGEST, back.vault.mark)) == messages.StateReply(VaultState.ACTIVE)
    assert under(store, 2).vault.state is VaultState.ACTIVE


def test_a_refusal_is_not_handed_to_others_while_a_store_takes_no_shares(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that can write again later still commits rows, and each work has its own result."""
    kept = store.vault("ines", create=True)
    monkeypatch.setattr(type(kept), "read_only_reason", "the bucket does not answer")

    def refused(_transaction: Transaction) -> None:
        raise ConflictError("not now")

    results, _ = life.transact(kept, [refused, lambda transaction: transaction.set_meta("a", b"b")])
    assert isinstance(results[0], ConflictError)
    assert results[1] is None
    assert kept.view(lambda view: view.meta("a")) == b"b"


def test_an_end_changes_nothing_where_nothing_was_lost(new: Bench) -> None:
    bench = new.active()
    assert bench.reply(messages.EndJoin(DIGEST, 10**6)).state is VaultState.ACTIVE


@pytest.mark.parametrize(("name", "value"), [("state", b"\x63"), ("roster", b"rot")])
def test_a_vault_that_no_longer_knows_itself_is_not_opened(
    store: Store, new: Bench, name: str, value: bytes
) -> None:
    new.active()
    new.vault.store.transact(lambda transaction: transaction.set_meta(name, value))
    with pytest.raises(StoreError):
        bench_of(store)


def test_the_ceiling_is_above_every_promise(new: Bench) -> None:
    def ceiling() -> Ballot:
        return new.vault.store.view(life.ceiling)

    assert ceiling() == NO_BALLOT
    new.active().prepare(5)
    new.prepare(3)
    assert ballot(5) <= ceiling() < ballot(6)
    new.vault.store.transact(lambda transaction: life.raise_ceiling(transaction, ()))
    assert ballot(5) <= ceiling() < ballot(6)
