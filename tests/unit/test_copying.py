"""A vault copied into another generation: what is there, what is beyond it, and what cannot be read."""

import random

import pytest
from attrs import evolve

from dfs.core import messages
from dfs.core.copying import Pending, bury, copy, pending
from dfs.core.errors import DfsError, DiskFullError, IncompleteError, QuorumError, UnreachableError
from dfs.core.folders import make_folder, stat, walk
from dfs.core.keys import vault_keys
from dfs.core.pipeline import Slot
from dfs.core.transfer import Vault
from dfs.plugins import fixed
from tests.unit.histories import get, making_of, put, remove
from tests.unit.world import World

BODY = random.Random(5).randbytes(200_000)
OTHER = vault_keys(b"o" * 32)


def both(world: World) -> tuple[Vault, Vault]:
    return world.vault(), world.vault(OTHER)


def copied(world: World) -> tuple[Pending, dict[str, str]]:
    source, target = both(world)
    todo = world.run(pending(source, target))
    sizes: list[int] = []
    done = world.run(copy(source, target, todo, [Slot(), Slot()], sizes.append))
    world.run(bury(target, todo.unwanted))
    if not done.failed:
        assert sum(sizes) == todo.size == done.size
    return todo, {path: str(error) for path, error in done.failed.items()}


def names(world: World) -> list[str]:
    return [item.entry.path for item in world.run(walk(both(world)[1], ""))]


@pytest.mark.parametrize("code", ["reed-solomon", "split", "replicate"])
@pytest.mark.parametrize("placement", ["rendezvous", "ring"])
def test_every_file_is_there_with_its_version(code: str, placement: str) -> None:
    world = World(1)
    making = evolve(making_of(world), stages=world.stages(code, placement))
    for path, size in (("a", 0), ("d/b", 700), ("d/e/c", len(BODY))):
        world.run(put(world, BODY[:size], path, making=making))
    todo, failed = copied(world)
    assert (len(todo.files), len(todo.folders), todo.total, failed) == (3, 2, 3, {})
    source, target = both(world)
    for path, size in (("a", 0), ("d/b", 700), ("d/e/c", len(BODY))):
        assert world.run(get(world, path, vault=target))[1] == BODY[:size]
        before, after = (world.run(stat(vault, path)) for vault in (source, target))
        assert after.entry.version == before.entry.version
        assert after.survives == before.survives
        if before.entry.manifest is not None and after.entry.manifest is not None:
            assert after.entry.manifest.recipe == before.entry.manifest.recipe
    todo, _ = copied(world)
    assert todo.is_done


def test_a_file_of_many_chunks_goes_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its list of chunks lies in chunks of its own, which is as it was."""
    world = World(2)
    monkeypatch.setattr("dfs.core.limits.CHUNK_LIST_INLINE_SIZE_MAX", 150)
    monkeypatch.setattr("dfs.core.limits.SMALL_SIZE_MAX", 1000)
    making = evolve(making_of(world), chunker=fixed.Fixed(30_000))
    world.run(put(world, BODY, "big", making=making))
    entry = world.run(stat(world.vault(), "big")).entry
    assert entry.manifest is not None
    assert entry.manifest.listed
    copied(world)
    _, target = both(world)
    after = world.run(stat(target, "big")).entry
    assert after.manifest is not None
    assert after.manifest.listed
    assert world.run(get(world, "big", vault=target))[1] == BODY


@pytest.mark.parametrize("seed", range(4))
def test_groups_of_another_generation_may_be_others(seed: int) -> None:
    world = World(seed, node_count=7, group_size=4)
    world.run(put(world, BODY, "d/e/a"))
    copied(world)
    assert world.run(get(world, "d/e/a", vault=both(world)[1]))[1] == BODY
    assert copied(world)[0].is_done


def test_what_changed_since_is_copied_again_and_what_went_is_buried() -> None:
    world = World(3)
    for path in ("kept", "changed", "gone", "d/e/gone"):
        world.run(put(world, BODY[:3000], path))
    copied(world)
    world.run(put(world, BODY[:4000], "changed"))
    world.run(remove(world, "gone"))
    world.run(remove(world, "d/e/gone"))
    todo, _ = copied(world)
    assert [item.entry.path for item in todo.files if item.entry] == ["changed"]
    assert {item.entry.path for item in todo.unwanted if item.entry} == {"gone", "d/e/gone"}
    assert names(world) == ["changed", "d", "d/e", "kept"]
    assert copied(world)[0].is_done


def test_a_half_written_copy_is_written_over_or_buried() -> None:
    world = World(4)
    world.run(put(world, b"short", "a"))
    source, target = both(world)
    todo = world.run(pending(source, target))
    for server in world.servers[:3]:
        server.refuses = {messages.Accept: UnreachableError("slow")}
    with pytest.raises(DfsError):
        world.run(copy(source, target, todo, [Slot()], str))
    for server in world.servers:
        server.refuses = {}
    world.servers[3].up = False
    world.run(remove(world, "a"))
    todo = world.run(pending(source, target))
    assert len(todo.unwanted) == 1  # promised only, on those that answer
    world.run(bury(target, todo.unwanted))
    world.servers[3].up = True
    assert names(world) == []


def test_a_file_that_cannot_be_read_is_told_and_the_others_go_on() -> None:
    world = World(5)
    world.run(put(world, BODY, "bad"))
    world.run(put(world, b"short", "good"))
    for server in world.servers[:3]:
        server.refuses = {messages.Fetch: UnreachableError("its disk failed")}
    _, failed = copied(world)
    assert list(failed) == ["bad"]
    assert names(world) == ["good"]


def test_too_few_nodes_or_no_room_end_it() -> None:
    world = World(6)
    world.run(put(world, BODY, "a"))
    source, target = both(world)
    todo = world.run(pending(source, target))
    for server in world.servers:
        server.refuses = {messages.Store: DiskFullError("full")}
    with pytest.raises(DiskFullError):
        world.run(copy(source, target, todo, [Slot()], str))
    for server in world.servers[:2]:
        server.up = False
    with pytest.raises((QuorumError, IncompleteError)):
        world.run(pending(source, target))


def test_folders_are_buried_from_below() -> None:
    world = World(7)
    world.run(make_folder(both(world)[1], "x/y/z"))
    todo = world.run(pending(*both(world)))
    assert len(todo.unwanted) == 3
    world.run(bury(both(world)[1], todo.unwanted))
    assert world.run(pending(*both(world))).is_done
