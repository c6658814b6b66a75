"""Whatever one of four nodes says, a client gets right bytes; where a lie shows, the liar is named.

Nobody honest is ever blamed. Against more liars than quorums bear helps what the client has seen before.
"""

import random
from typing import Any

import pytest

from dfs.core import folders
from dfs.core.effects import Operation
from dfs.core.errors import DfsError, NotFoundError, QuorumError, RollbackError
from dfs.core.transfer import Vault
from dfs.core.types import EntryKind
from dfs.testing.lying import LIES
from tests.unit.histories import get, names, put, remove
from tests.unit.world import World

OLD = {
    "letter": b"old letter " * 30,
    "photo": bytes(range(256)) * 900,
    "list": b"small",
    # Their shares are too large to come along with entries, and each node has some that are asked for.
    **{f"box/{index}": random.Random(index).randbytes(150_000) for index in range(7)},
}
EACH = pytest.mark.parametrize(("lie", "place"), [(lie, index % 4) for index, lie in enumerate(LIES)])


def filled(seed: int) -> World:
    world = World(seed)
    for path, body in OLD.items():
        world.run(put(world, body, path))
    return world


def got(world: World, path: str, vault: Vault) -> bytes:
    return world.run(get(world, path, vault=vault))[1]


@EACH
def test_one_liar_changes_nothing_that_is_read(lie: str, place: int) -> None:
    world, script = filled(1), LIES[lie]
    vault = world.vault()
    liar = world.servers[place]
    liar.lie = script.make()
    for _ in range(2):  # what a lie learns in the first round it can tell in the second
        for path, body in OLD.items():
            assert got(world, path, vault) == body
    assert names(world, "") == ["box", "letter", "list", "photo"]
    with pytest.raises(NotFoundError):
        got(world, "never", vault)
    assert vault.suspicions.keys() <= {liar.node_id}, "nobody honest is ever blamed"
    if script.detected:
        assert vault.suspicions.keys() == {liar.node_id}


@EACH
def test_beside_one_liar_all_can_be_changed(lie: str, place: int) -> None:
    world = filled(2)
    liar = world.servers[place]
    liar.lie = LIES[lie].make()
    vault = world.vault()
    new = {
        "letter": b"new letter " * 40,
        "photo": b"n" * 300_000,
        "note": b"note",
        "album/one": b"1" * 70_000,
    }
    for path, body in new.items():
        outcome = world.run(put(world, body, path, vault=vault))
        assert outcome is not None
    world.run(remove(world, "list"))
    world.run(folders.make_folder(vault, "attic"))
    for path, body in {**OLD, **new}.items():
        if path != "list":
            assert got(world, path, vault) == body
    with pytest.raises(NotFoundError):
        got(world, "list", vault)
    assert names(world, "") == ["album", "attic", "box", "letter", "note", "photo"]
    assert vault.suspicions.keys() <= {liar.node_id}
    liar.lie = None
    for path, body in new.items():
        assert got(world, path, world.vault()) == body


# --- More liars than one: what this client has seen before --------------------------------------------------


def rolled_back(world: World, copies: list[Any], nodes: tuple[int, ...]) -> None:
    for index in nodes:
        world.servers[index].restore(copies[index])


@pytest.mark.parametrize("nodes", [(0, 1), (1, 2, 3)])
def test_colluding_nodes_take_a_client_back_to_nothing_older(nodes: tuple[int, ...]) -> None:
    world = filled(3)
    vault = world.vault()
    copies = [server.copy() for server in world.servers]
    newer = {"letter": b"newer", "photo": b"newer" * 20_000}
    for path, body in newer.items():
        world.run(put(world, body, path, vault=vault))
    rolled_back(world, copies, nodes)
    for path, body in newer.items():
        try:
            found = got(world, path, vault)
        except DfsError:
            continue
        assert found == body


def test_all_nodes_cannot_take_a_client_back_that_has_seen_more() -> None:
    world = filled(3)
    vault = world.vault()
    copies = [server.copy() for server in world.servers]
    world.run(put(world, b"newer", "letter", vault=vault))
    rolled_back(world, copies, (0, 1, 2, 3))
    attempts: list[Operation[Any]] = [
        get(world, "letter", vault=vault),
        folders.list_folder(vault, ""),
        folders.stat(vault, "letter"),
        put(world, b"over it", "letter", vault=vault),
        folders.remove_entries(vault, ["letter"], kind=EntryKind.FILE),
    ]
    for attempt in attempts:
        with pytest.raises(RollbackError, match="hold an older version") as caught:
            world.run(attempt)
        assert caught.value.exit_code == 6
    assert vault.suspicions.keys() == {server.node_id for server in world.servers}
    assert got(world, "list", vault) == OLD["list"], "what is as new as ever can be read"
    assert got(world, "letter", world.vault()) == OLD["letter"], "who has seen nothing cannot know"


def test_a_file_that_all_nodes_hide_is_missed() -> None:
    world = World(4)
    vault = world.vault()
    copies = [server.copy() for server in world.servers]
    world.run(put(world, b"here", "letter", vault=vault))
    rolled_back(world, copies, (0, 1, 2, 3))
    with pytest.raises(RollbackError):
        got(world, "letter", vault)
    with pytest.raises(RollbackError):
        world.run(folders.list_folder(vault, ""))
    assert names(world, "") == []


def test_a_file_that_was_removed_and_forgotten_is_not_missed() -> None:
    world = filled(5)
    vault = world.vault()
    assert got(world, "letter", vault) == OLD["letter"]
    world.run(remove(world, "letter"))
    for server in world.servers:
        server.vault.commit.run(lambda _transaction: None)
    with pytest.raises(NotFoundError):
        got(world, "letter", vault)
    listed = world.run(folders.list_folder(vault, ""))
    assert "letter" not in {item.entry.path for item in listed}
    assert not vault.suspicions


def test_a_stale_node_alone_is_behind_and_no_liar() -> None:
    world = filled(6)
    vault = world.vault()
    world.servers[0].up = False
    world.run(put(world, b"newer", "letter", vault=vault))
    world.servers[0].up = True
    for server in world.servers[1:]:
        server.up = False
    with pytest.raises(QuorumError, match="older version"):
        got(world, "letter", vault)
    assert world.run(get(world, "letter"))[0].stale, (
        "who has not seen the newer one gets the old one, as stale"
    )
    assert not vault.suspicions


def test_what_others_write_meanwhile_is_not_taken_for_a_rollback() -> None:
    world = filled(7)
    mine, theirs = world.vault(), world.vault()
    for number in range(4):
        world.run(put(world, b"mine%d" % number, "letter", vault=mine))
        assert got(world, "letter", theirs) == b"mine%d" % number
        world.run(put(world, b"theirs%d" % number, "letter", vault=theirs))
        assert got(world, "letter", mine) == b"theirs%d" % number
    assert not mine.suspicions
    assert not theirs.suspicions
