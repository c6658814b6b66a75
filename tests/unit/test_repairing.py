"""Repair in a small world: what is missing or bad is made again, and a second run finds nothing to do."""

import os
from collections.abc import Sequence

import pytest
from attrs import evolve
from xxhash import xxh3_128_digest

from dfs.core import messages
from dfs.core.bulk_rows import decode_lacking
from dfs.core.folders import make_folder, remove_entries
from dfs.core.keys import register_key
from dfs.core.pipeline import Slot
from dfs.core.repairing import Scope, repair
from dfs.core.standing import Repaired
from dfs.core.transfer import Vault
from dfs.core.types import EntryKind, RegisterRow, ShareKey, VaultState
from tests.unit.histories import PATH, get, put
from tests.unit.world import Server, World

BODY = os.urandom(300_000)


def repaired(world: World, vault: Vault | None = None, scope: Scope | None = None) -> Repaired:
    world.flush()
    return world.run(repair(vault or world.vault(), scope or Scope(), [Slot(), Slot()]))


def healer(world: World) -> Vault:
    return evolve(world.vault(), keyless=True)


def count_shares(server: Server) -> int:
    return server.store.view(lambda view: view.counts())[0]


def settle(world: World, vault: Vault | None = None) -> None:
    """A run after a repair finds nothing to do."""
    again = repaired(world, vault)
    assert (again.planned.registers, again.planned.shares, again.shares, again.registers) == (0, 0, 0, 0)
    assert again.left == ()


def lacking(world: World, server: Server) -> int:
    answer = server.answer(messages.Lacking(world.digest, b""), b"")
    return len(decode_lacking(b"".join(bytes(part) for part in answer.bulk)))


def test_a_healthy_cluster_needs_nothing() -> None:
    world = World(1)
    world.run(put(world, BODY))
    settle(world)


@pytest.mark.parametrize("size", [0, 700, 5_000, 300_000])
@pytest.mark.parametrize("node_count", [3, 4, 5])
def test_a_node_that_missed_a_file_gets_exactly_its_part(node_count: int, size: int) -> None:
    world = World(2, node_count=node_count)
    body = BODY[:size]
    world.servers[1].up = False
    world.run(put(world, body))
    world.servers[1].up = True
    before = [count_shares(server) for server in world.servers]
    done = repaired(world)
    assert done.left == ()
    assert done.registers == 1
    assert (done.shares, done.read_size, done.written_size) == (
        done.planned.shares,
        done.planned.read_size,
        done.planned.written_size,
    )
    assert [count_shares(server) for server in world.servers] == [
        before[0] if index != 1 else done.shares for index in range(node_count)
    ]
    settle(world)
    for gone in range(node_count - 1 if node_count < 4 else 2):
        world.servers[(gone + 2) % node_count].up = False
    assert world.run(get(world))[1] == body


def test_a_plan_changes_nothing() -> None:
    world = World(3)
    world.servers[1].up = False
    world.run(put(world, BODY))
    world.servers[1].up = True
    world.flush()
    planned = world.run(repair(world.vault(), Scope(), [Slot()], plan_only=True))
    assert planned.planned.shares == planned.planned.registers == 1
    assert count_shares(world.servers[1]) == 0
    assert repaired(world).planned == planned.planned


def test_older_claims_are_released_once_all_shares_are_there() -> None:
    world = World(3)
    world.servers[1].up = False
    world.run(put(world, BODY))
    world.servers[1].up = True
    world.flush()
    key = register_key(world.vault().keys, PATH)

    def rows() -> list[RegisterRow]:
        found = [server.store.view(lambda view: view.register(key)) for server in world.servers]
        return [row for row in found if row is not None]

    for server, row in zip((world.servers[0], *world.servers[2:]), rows(), strict=True):
        unsafe = evolve(row, safe=False)
        server.store.transact(lambda transaction, row=unsafe: transaction.set_register(key, row))  # type: ignore[misc]
    repaired(world)
    assert [row.safe for row in rows()] == [False] * 4
    repaired(world)
    assert [row.safe for row in rows()] == [True] * 4


def test_only_what_was_asked_for_is_repaired() -> None:
    world = World(4)
    world.servers[1].up = False
    world.run(put(world, BODY, "a"))
    world.run(put(world, BODY[:200_000], "b"))
    world.servers[1].up = True
    key = register_key(world.vault().keys, "a")
    done = repaired(world, scope=Scope(frozenset({key.directory}), frozenset({key})))
    assert (done.registers, done.shares, done.left) == (1, 1, ())
    done = repaired(world)
    assert (done.registers, done.shares, done.left) == (1, 1, ())


@pytest.mark.parametrize("keyless", [False, True])
def test_bad_shares_are_replaced(*, keyless: bool) -> None:
    world = World(5)
    world.run(put(world, BODY))
    for server in world.servers[:2]:
        (key,) = server.store.shares(None, 10)
        server.store.transact(lambda transaction, key=key: transaction.mark_corrupt(key))  # type: ignore[misc]
    done = repaired(world, healer(world) if keyless else None)
    assert (done.shares, done.left) == (2, ())
    settle(world)
    world.servers[2].up = world.servers[3].up = False
    assert world.run(get(world))[1] == BODY


def test_with_too_few_good_shares_it_says_so_and_changes_nothing() -> None:
    world = World(6)
    world.run(put(world, BODY))
    for server in world.servers[:3]:
        (key,) = server.store.shares(None, 10)
        server.store.transact(lambda transaction, key=key: transaction.mark_corrupt(key))  # type: ignore[misc]
    done = repaired(world)
    assert done.shares == 0
    assert any("1 of 2 needed shares" in reason for reason in done.left)


def lose(world: World, index: int) -> None:
    """Give a node an empty disk."""
    world.servers[index] = server = Server(world.servers[index].node_id, world.env)
    world.by_id = {each.node_id: each for each in world.servers}
    server.answer(messages.Join(world.roster_bytes), b"")


def returning(world: World, vault: Vault) -> Vault:
    states = {server.node_id: server.vault.state for server in world.servers}
    lost = {VaultState.JOINING, VaultState.QUARANTINED}
    return evolve(vault, returning=frozenset(node for node, state in states.items() if state in lost))


@pytest.mark.parametrize("keyless", [False, True])
@pytest.mark.parametrize("node_count", [3, 4, 6])
def test_every_node_lost_in_turn_loses_nothing(node_count: int, *, keyless: bool) -> None:
    world = World(7, node_count=node_count)
    bodies = {f"f{index}": os.urandom(size) for index, size in enumerate((10, 5_000, 200_000))}
    world.run(make_folder(world.vault(), "d"))
    for path, body in bodies.items():
        world.run(put(world, body, path))
        world.run(put(world, body[::-1], f"d/{path}"))
    world.run(remove_entries(world.vault(), ["d/f1"], kind=EntryKind.FILE))
    for index in range(node_count):
        lose(world, index)
        vault = returning(world, healer(world) if keyless else world.vault())
        done = repaired(world, vault)
        assert done.left == ()
        assert done.joined == (world.servers[index].node_id,)
        assert world.servers[index].vault.state is VaultState.ACTIVE
    settle(world)
    for path, body in bodies.items():
        assert world.run(get(world, path))[1] == body
    assert world.run(get(world, "d/f0"))[1] == bodies["f0"][::-1]


def test_an_owner_finds_the_share_that_lies_and_replaces_it() -> None:
    """A wrong share under a right checksum: nobody but the owner can tell."""
    world = World(8)
    world.run(put(world, BODY))
    by_index = {server.store.shares(None, 1)[0].index: server for server in world.servers}
    liar, victim = by_index[0], by_index[3]  # data shares are read first
    (key,) = liar.store.shares(None, 10)
    forge(liar, key)
    (lost,) = victim.store.shares(None, 10)
    victim.store.transact(lambda transaction: transaction.mark_corrupt(lost))
    done = repaired(world)
    assert (done.shares, done.left) == (2, ())
    by_index[1].up = by_index[2].up = False
    assert world.run(get(world))[1] == BODY


def test_a_healer_spreads_no_lie() -> None:
    world = World(9)
    world.run(put(world, BODY))
    by_index = {server.store.shares(None, 1)[0].index: server for server in world.servers}
    forge(by_index[0], by_index[0].store.shares(None, 10)[0])
    victim = by_index[3]
    (lost,) = victim.store.shares(None, 10)
    victim.store.transact(lambda transaction: transaction.mark_corrupt(lost))
    done = repaired(world, healer(world))
    assert done.shares == 0
    assert any("contradict" in reason for reason in done.left)


def forge(server: Server, key: ShareKey) -> None:
    """Put other bytes in the place of a share, with a checksum that fits."""
    share = server.store.share(key)
    body = bytearray(share.size)
    share.read_into(memoryview(body), 0)
    share.close()
    body[7] ^= 1
    server.store.transact(lambda transaction: transaction.mark_corrupt(key))
    staged = server.store.stage(key, xxh3_128_digest(body), body)
    server.store.transact(lambda transaction: transaction.keep([staged]))


def test_a_deleted_file_is_forgotten_once_all_are_back() -> None:
    world = World(10)
    world.run(put(world, BODY))
    world.servers[2].up = False
    world.run(remove_entries(world.vault(), ["letter"], kind=EntryKind.FILE))
    world.servers[2].up = True
    assert repaired(world).left == ()
    repaired(world)
    key = register_key(world.vault().keys, "letter")
    rows: Sequence[object] = [server.store.view(lambda view: view.register(key)) for server in world.servers]
    assert rows == [None] * 4
    assert len({server.store.view(lambda view: view.floor(key.directory)) for server in world.servers}) == 1
    settle(world)
    assert lacking(world, world.servers[2]) == 0
