"""Renaming in a small world: a file has its new name, or both, never none; no share is sealed again."""

import os
from itertools import pairwise

import pytest
from attrs import evolve

from dfs.core import messages
from dfs.core.errors import ConflictError, DfsError, NotFoundError, UnknownOutcomeError
from dfs.core.folders import make_folder, stat, walk
from dfs.core.node import Answer
from dfs.core.pipeline import Slot
from dfs.core.renaming import copy_entry, rename
from dfs.core.repairing import Scope, repair
from dfs.core.types import Geometry
from tests.unit.histories import get, making_of, put
from tests.unit.world import World

BODY = os.urandom(120_000)


def renamed(world: World, old: str, new: str) -> list[str]:
    return world.run(rename(world.vault(), old, new, [Slot(), Slot()]))


def names(world: World) -> list[str]:
    return [item.entry.path for item in world.run(walk(world.vault(), ""))]


def stored_shares(world: World) -> int:
    stores = [request for server in world.servers for request in server.requests]
    return sum(isinstance(request, messages.Store) for request in stores)


@pytest.mark.parametrize("size", [0, 600, 120_000])
def test_a_file_gets_its_new_name_and_no_share_moves(size: int) -> None:
    world = World(1)
    world.run(put(world, BODY[:size], "a"))
    stored = stored_shares(world)
    before = world.run(stat(world.vault(), "a")).entry
    assert renamed(world, "a", "d/e/b") == ["d/e/b"]
    assert names(world) == ["d", "d/e", "d/e/b"]
    assert world.run(get(world, "d/e/b"))[1] == BODY[:size]
    assert stored_shares(world) == stored
    after = world.run(stat(world.vault(), "d/e/b")).entry
    assert after.manifest == before.manifest
    assert after.version != before.version


def test_a_folder_goes_with_everything_below() -> None:
    world = World(2)
    for path in ("x/a", "x/y/b"):
        world.run(make_folder(world.vault(), path.rpartition("/")[0]))
        world.run(put(world, BODY, path))
    assert renamed(world, "x", "z") == ["z", "z/a", "z/y", "z/y/b"]
    assert sorted(names(world)) == ["z", "z/a", "z/y", "z/y/b"]
    assert world.run(get(world, "z/y/b"))[1] == BODY


@pytest.mark.parametrize("seed", range(6))
def test_between_groups_sealed_shares_are_copied(seed: int) -> None:
    world = World(seed, node_count=6, group_size=4)
    paths = [f"d{index}" for index in range(4)]
    for path in paths:
        world.run(make_folder(world.vault(), path))
    world.run(put(world, BODY, "d0/a"))
    for old, new in pairwise(paths):
        renamed(world, f"{old}/a", f"{new}/a")
        assert world.run(get(world, f"{new}/a"))[1] == BODY
    settled = world.run(repair(world.vault(), Scope(), [Slot()], plan_only=True)).planned
    assert settled.shares == 0


def test_what_is_there_already_is_kept() -> None:
    world = World(3)
    world.run(put(world, BODY, "a"))
    world.run(put(world, BODY[::-1], "b"))
    with pytest.raises(ConflictError):
        renamed(world, "a", "b")
    assert world.run(get(world, "a"))[1] == BODY
    assert world.run(get(world, "b"))[1] == BODY[::-1]


def test_a_second_run_ends_what_the_first_began() -> None:
    world = World(4)
    world.run(put(world, BODY, "a"))
    world.run(copy_entry(world.vault(), "a", "b", [Slot()]))
    assert names(world) == ["a", "b"]
    assert renamed(world, "a", "b") == ["b"]
    assert names(world) == ["b"]


@pytest.mark.parametrize(("old", "new", "error"), [("a", "b", NotFoundError), ("d", "d/x", ConflictError)])
def test_what_cannot_be_renamed(old: str, new: str, error: type[DfsError]) -> None:
    world = World(5)
    world.run(make_folder(world.vault(), "d"))
    with pytest.raises(error):
        renamed(world, old, new)


@pytest.mark.parametrize("seed", range(20))
def test_a_client_that_dies_anywhere_leaves_a_name(seed: int) -> None:
    world = World(seed)
    world.run(put(world, BODY, "a"))
    running = world.start(rename(world.vault(), "a", "b", [Slot()]))
    for _ in range(seed * 3):
        if running.ended is None:
            world.tick()
    world.crash(running)
    left = names(world)
    assert left in (["a"], ["a", "b"], ["b"])
    for path in left:
        assert world.run(get(world, path))[1] == BODY


def test_the_old_name_stays_when_shares_were_lost_on_the_way() -> None:
    """All of 4 shares are needed; one is gone when the new name comes to its node."""
    world = World(7)
    making = making_of(world)
    stages = world.plugins.stages(evolve(making.stages.recipe, geometry=Geometry(4, 4)))
    world.run(put(world, BODY, "a", making=evolve(making, stages=stages)))

    def lose(request: messages.Request, answer: Answer) -> Answer:
        if isinstance(request, messages.Prepare):
            store = world.servers[1].store
            (key,) = store.shares(None, 9)
            store.transact(lambda transaction: transaction.mark_corrupt(key))
        return answer

    world.servers[1].tamper = lose
    with pytest.raises(UnknownOutcomeError, match="both names are kept"):
        renamed(world, "a", "b")
    assert names(world) == ["a", "b"]
