"""Replaying in a small world: what a node lost comes back as the others hold it, or one is told why not."""

import os

import pytest
from attrs import evolve

from dfs.core import limits, messages, reading, replaying
from dfs.core.errors import ConflictError
from dfs.core.folders import remove_entries
from dfs.core.keys import register_key
from dfs.core.replaying import directories_of, end_join, gap, replay, survey
from dfs.core.transfer import Vault
from dfs.core.types import NO_BALLOT, Ballot, EntryKind, RegisterKey, RegisterRow, VaultState
from dfs.core.vaults import join
from tests.unit.histories import PATH, get, put
from tests.unit.world import Server, World

BODY = os.urandom(200_000)


def key_of(world: World, path: str = PATH) -> RegisterKey:
    return register_key(world.vault().keys, path)


def row_of(server: Server, key: RegisterKey) -> RegisterRow | None:
    return server.store.view(lambda view: view.register(key))


def empty(world: World, index: int) -> Vault:
    """Give a node an empty disk, and return the vault with it JOINING."""
    world.servers[index] = server = Server(world.servers[index].node_id, world.env)
    world.by_id = {each.node_id: each for each in world.servers}
    joined = world.run(join(world.roster_bytes, [server.node_id]))
    assert joined == {server.node_id}
    vault = world.vault()
    assert server.node_id not in vault.counted
    return evolve(vault, returning=joined)


def test_join_leaves_other_states_alone() -> None:
    world = World(1)
    assert world.run(join(world.roster_bytes, [world.servers[0].node_id])) == frozenset()
    assert world.servers[0].vault.state is VaultState.ACTIVE


@pytest.mark.parametrize("inline_size", [10, 1 << 20])
def test_a_row_comes_back_as_the_others_hold_it(monkeypatch: pytest.MonkeyPatch, inline_size: int) -> None:
    monkeypatch.setattr(replaying, "CLAIMS_INLINE_SIZE_MAX", inline_size)
    monkeypatch.setattr(reading, "PAGE_COUNT", 2)
    world = World(2)
    for index in range(7):
        world.run(put(world, BODY[: 10_000 * index], f"f{index}"))
    world.flush()
    vault = empty(world, 1)
    key = key_of(world, "f6")
    found = world.run(survey(vault, key.directory))
    assert len(found.due) == 7
    done = world.run(replay(vault, found))
    assert (done.count, done.errors) == (7, {})
    here, there = row_of(world.servers[1], key), row_of(world.servers[0], key)
    assert here is not None
    assert there is not None
    assert here == evolve(there, owed_count=here.owed_count)
    assert here.owed_count == here.claimed_count
    claims = [server.store.view(lambda view: view.claims(key, here.accepted)) for server in world.servers[:2]]
    assert claims[0] == claims[1]
    assert world.run(survey(vault, key.directory)).due == []


def test_promises_come_back_too() -> None:
    world = World(3)
    key = key_of(world)
    ballot = Ballot(b"\0" * 7 + b"\5" + b"p" * 16)
    item = (messages.PrepareItem(key, ballot),)
    for server in world.servers[:3]:
        server.answer(messages.Prepare(world.digest, item), b"")
    vault = empty(world, 2)
    world.run(replay(vault, world.run(survey(vault, key.directory))))
    row = row_of(world.servers[2], key)
    assert row is not None
    assert (row.promised, row.accepted) == (ballot, NO_BALLOT)


def test_a_floor_comes_back() -> None:
    world = World(4)
    world.run(put(world, BODY))
    world.run(remove_entries(world.vault(), [PATH], kind=EntryKind.FILE))
    key = key_of(world)
    floor = world.servers[0].store.view(lambda view: view.floor(key.directory))
    assert floor
    vault = empty(world, 3)
    known, told = world.run(directories_of(vault))
    assert key.directory in known
    assert len(told) == 4
    world.run(replay(vault, world.run(survey(vault, key.directory))))
    assert world.servers[3].store.view(lambda view: view.floor(key.directory)) == floor


def test_a_healer_tells_nodes_that_count_nothing() -> None:
    world = World(5)
    world.servers[1].up = False
    world.run(put(world, BODY))
    world.servers[1].up = True
    vault = evolve(world.vault(), keyless=True)
    assert world.run(survey(vault, key_of(world).directory)).due == []


def test_without_keys_one_word_is_no_proof() -> None:
    """Two of four hold it and one says it was confirmed: a liar may."""
    world = World(6)
    world.run(put(world, BODY))
    world.flush()
    key = key_of(world)
    for server in world.servers[2:]:
        server.store.transact(lambda transaction: transaction.set_register(key, None))
    row = row_of(world.servers[1], key)
    assert row is not None
    bare = evolve(row, confirmed=b"", safe=False)
    world.servers[1].store.transact(lambda transaction: transaction.set_register(key, bare))
    vault = evolve(world.vault(), keyless=True)
    found = world.run(survey(vault, key.directory))
    assert found.undecided == [key]
    assert "undecided" in gap(vault, {server.node_id for server in world.servers}, [found])
    world.servers[1].store.transact(lambda transaction: transaction.set_register(key, row))
    assert world.run(survey(vault, key.directory)).undecided == []


def test_an_owner_completes_what_is_half_written() -> None:
    world = World(7)
    world.run(put(world, BODY))
    key = key_of(world)
    for server in world.servers:
        row = row_of(server, key)
        assert row is not None
        bare = evolve(row, confirmed=b"", safe=False)
        server.store.transact(lambda transaction, bare=bare: transaction.set_register(key, bare))  # type: ignore[misc]
    for server in world.servers[2:]:
        server.store.transact(lambda transaction: transaction.set_register(key, None))
    found = world.run(survey(world.vault(), key.directory))
    assert found.undecided == []
    assert world.run(get(world))[1] == BODY


def test_nodes_that_are_away_leave_a_gap() -> None:
    world = World(8)
    world.run(put(world, BODY))
    world.flush()
    vault = empty(world, 1)
    world.servers[2].up = False
    known, told = world.run(directories_of(vault))
    surveys = [world.run(survey(vault, directory)) for directory in sorted(known)]
    assert gap(vault, told, surveys)
    world.servers[2].up = True
    known, told = world.run(directories_of(vault))
    surveys = [world.run(survey(vault, directory)) for directory in sorted(known)]
    assert gap(vault, told, surveys) == ""


def test_a_node_that_lost_state_again_does_not_count() -> None:
    world = World(9)
    vault = empty(world, 1)
    joined, answers = world.run(end_join(vault, {world.servers[1].node_id: 1_000}))
    assert joined == frozenset()
    assert isinstance(answers.errors[world.servers[1].node_id], ConflictError)
    joined, _ = world.run(end_join(vault, {world.servers[1].node_id: 1}))
    assert joined == {world.servers[1].node_id}


def test_a_value_below_a_floor_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 of the simulator: a node missed a file, but not the removal of another one beside it."""
    world = World(10)
    world.servers[2].up = False
    version = world.run(put(world, BODY)).version
    world.servers[2].up = True
    for _ in range(3):
        world.run(put(world, b"other", "other"))
    world.run(remove_entries(world.vault(), ["other"], kind=EntryKind.FILE))
    world.flush()
    key = key_of(world)
    row = row_of(world.servers[0], key)
    assert row is not None
    assert world.servers[2].store.view(lambda view: view.floor(key.directory)) > row.accepted
    monkeypatch.setattr(limits, "REGISTER_COUNT", 1)
    done = world.run(replay(world.vault(), world.run(survey(world.vault(), key.directory))))
    assert (done.count, done.errors) == (1, {})
    again = row_of(world.servers[2], key)
    assert again is not None
    assert again.accepted > row.accepted
    got, body = world.run(get(world))
    assert (got.entry.version, body) == (version, BODY)
    world.flush()
    assert world.run(survey(world.vault(), key.directory)).due == []


def test_without_keys_a_value_below_a_floor_is_left() -> None:
    world = World(11)
    world.run(put(world, BODY))
    world.flush()
    vault = evolve(empty(world, 1), keyless=True)
    key = key_of(world)
    row = row_of(world.servers[0], key)
    assert row is not None
    floor = row.accepted
    world.servers[1].store.transact(lambda transaction: transaction.set_floor(key.directory, floor))
    done = world.run(replay(vault, world.run(survey(vault, key.directory))))
    assert set(done.errors) == {world.servers[1].node_id}


def test_what_was_never_chosen_is_buried() -> None:
    """Seed 249 of the simulator: one node kept a value of which the others lack the shares."""
    world = World(12)
    world.run(put(world, BODY))
    world.flush()
    key = key_of(world)
    row = row_of(world.servers[0], key)
    assert row is not None
    bare = evolve(row, confirmed=b"", safe=False)
    world.servers[0].store.transact(lambda transaction: transaction.set_register(key, bare))
    for server in world.servers[1:]:
        server.store.transact(lambda transaction: transaction.set_register(key, None))
        server.store.transact(lambda transaction: transaction.unclaim(key, Ballot(b"\xff" * 24)))
        server.store.transact(lambda transaction: transaction.unpin(world.env.now_s + 2 * limits.PIN_LEASE_S))
        assert server.store.transact(lambda transaction: transaction.collect(9)) > 0
    found = world.run(survey(world.vault(), key.directory))
    assert found.undecided == []
    world.run(replay(world.vault(), found))
    assert [row_of(server, key) for server in world.servers] == [None] * 4
    assert world.run(survey(world.vault(), key.directory)).due == []


def test_an_owner_confirms_what_nobody_did() -> None:
    """Seed 38 of the simulator: all nodes held a tombstone, so its old shares were claimed for ever."""
    world = World(13)
    world.run(put(world, BODY))
    key = key_of(world)
    for server in world.servers:
        server.refuses[messages.Confirm] = ConflictError("not now")
    world.run(remove_entries(world.vault(), [PATH], kind=EntryKind.FILE))
    for server in world.servers:
        server.refuses.clear()
    healer = evolve(world.vault(), keyless=True)
    assert world.run(survey(healer, key.directory)).due == []
    world.run(replay(world.vault(), world.run(survey(world.vault(), key.directory))))
    rows = [row_of(server, key) for server in world.servers]
    assert all(row is not None and row.confirmed and row.safe for row in rows)
    world.run(replay(world.vault(), world.run(survey(world.vault(), key.directory))))
    assert [row_of(server, key) for server in world.servers] == [None] * 4


def test_a_tombstone_that_one_node_has_forgotten_goes_everywhere() -> None:
    """Seed 400077 of the simulator: it was brought back there, refused, and brought back again."""
    world = World(15)
    world.run(put(world, BODY))
    key = key_of(world)
    for server in world.servers[1:]:
        server.refuses[messages.Forget] = ConflictError("not now")
    world.run(remove_entries(world.vault(), [PATH], kind=EntryKind.FILE))
    for server in world.servers[1:]:
        server.refuses.clear()
    assert [row_of(server, key) is None for server in world.servers] == [True, False, False, False]
    found = world.run(survey(world.vault(), key.directory))
    assert found.due == []
    done = world.run(replay(world.vault(), found))
    assert (done.count, done.errors) == (0, {})
    assert [row_of(server, key) for server in world.servers] == [None] * 4
