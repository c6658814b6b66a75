"""Check in a small world: every file's state follows from what nodes hold, and reading finds what is bad."""

import os

import pytest
from attrs import evolve

from dfs.core.checking import CORRUPT, MISSING, check, lost_without
from dfs.core.folders import make_folder
from dfs.core.standing import Checked, FileState
from dfs.core.types import NodeId
from tests.unit.histories import put
from tests.unit.world import Server, World

BODY = os.urandom(100_000)


def checked(world: World, path: str = "", ratio: float = 0.0) -> Checked:
    for server in world.servers:
        if server.up:
            server.vault.commit.run(lambda _transaction: None)
    return world.run(check(world.vault(), path, read_ratio=ratio))


def spoil(server: Server) -> None:
    """Let the disk change one byte of the only share."""
    (key,) = server.store.shares(None, 10)
    share = server.store._tables.shares[key]
    spoiled = bytearray(share.raw)
    spoiled[3] ^= 4
    server.store._tables.shares[key] = evolve(share, raw=bytes(spoiled))


def test_files_below_a_folder_are_counted() -> None:
    world = World(1)
    world.run(make_folder(world.vault(), "d"))
    world.run(put(world, BODY, "a"))
    world.run(put(world, BODY[:5], "d/b"))
    found = checked(world)
    assert [(file.path, file.state, file.held, file.survives) for file in found.files] == [
        ("a", FileState.COMPLETE, 4, 2),
        ("d/b", FileState.COMPLETE, 4, 2),
    ]
    assert [file.path for file in checked(world, "d").files] == ["d/b"]
    assert [file.path for file in checked(world, "a").files] == ["a"]
    assert found.read_size == 0


def test_a_node_that_is_away_and_one_that_missed_it() -> None:
    world = World(2)
    world.servers[1].up = False
    world.run(put(world, BODY, "a"))
    world.servers[1].up = True
    world.servers[3].up = False
    (file,) = checked(world).files
    assert (file.state, file.held, file.total, file.needed, file.survives) == (FileState.DEGRADED, 2, 4, 2, 0)
    assert [(flaw.node, flaw.what) for flaw in file.flaws] == [(world.servers[1].node_id, MISSING)]
    assert list(checked(world).away) == [world.servers[3].node_id]
    world.servers[2].up = False
    world.servers[3].up = True
    world.servers[0].up = False
    assert checked(world).files[0].state is FileState.INCOMPLETE


def test_a_byte_that_changed_is_found_by_reading() -> None:
    world = World(3)
    world.run(put(world, BODY, "a"))
    spoil(world.servers[2])
    assert checked(world).files[0].state is FileState.COMPLETE
    found = checked(world, ratio=1.0)
    (file,) = found.files
    assert file.state is FileState.CORRUPT
    assert [(flaw.node, flaw.what) for flaw in file.flaws] == [(world.servers[2].node_id, CORRUPT)]
    assert found.read_size >= 2 * len(BODY)
    assert checked(world).files[0].state is FileState.CORRUPT  # the node knows now


@pytest.mark.parametrize(("killed", "lost"), [((), 0), ((0, 1), 0), ((0, 1, 2), 1), ((1, 2, 3), 1)])
def test_what_if(killed: tuple[int, ...], lost: int) -> None:
    world = World(4)
    world.run(put(world, BODY, "a"))
    nodes: list[NodeId] = [world.servers[index].node_id for index in killed]
    assert len(world.run(lost_without(world.vault(), "", nodes))) == lost
