"""Folders made, listed and removed, with nodes away, behind and lying, and others at work."""

from collections.abc import Sequence

import pytest
from attrs import evolve

from dfs.core import bulk_rows, limits, messages, reading
from dfs.core.errors import (
    ConflictError,
    DiskFullError,
    NotFoundError,
    QuorumError,
    UnknownOutcomeError,
)
from dfs.core.folders import (
    Health,
    ensure_folders,
    list_folder,
    make_folder,
    remove_entries,
    remove_folder,
    stat,
    walk,
)
from dfs.core.keys import register_key
from dfs.core.node import Answer
from dfs.core.register import is_tombstone
from dfs.core.types import NO_BALLOT, EntryKind, NameId
from tests.unit.histories import get, names, put, remove
from tests.unit.world import Tamper, World


@pytest.fixture
def world() -> World:
    return World()


def mkdir(world: World, path: str, *, fine: bool = False) -> None:
    world.run(make_folder(world.vault(), path, existing_is_fine=fine))


def down(world: World, *places: int) -> None:
    for place, server in enumerate(world.servers):
        server.up = place not in places


# --- Making -------------------------------------------------------------------------------------------------


def test_folders_above_are_made_too(world: World) -> None:
    mkdir(world, "a/b/c")
    assert [item.entry.path for item in world.run(walk(world.vault(), ""))] == ["a", "a/b", "a/b/c"]
    with pytest.raises(ConflictError, match="a/b/ already exists"):
        mkdir(world, "a/b")
    mkdir(world, "a/b", fine=True)


def test_a_file_is_no_folder(world: World) -> None:
    world.run(put(world, b"one", "file"))
    for path in ("file", "file/below"):
        with pytest.raises(ConflictError, match="file is a file, not a folder"):
            mkdir(world, path)
    with pytest.raises(ConflictError, match="file is a file"):
        world.run(list_folder(world.vault(), "file"))
    ensured = world.run(ensure_folders(world.vault(), ["file", "file/below", "other"]))
    assert ensured.made == ["other"]
    assert set(ensured.errors) == {"file", "file/below"}


def test_of_two_who_make_a_folder_one_has_made_it() -> None:
    for seed in range(10):
        world = World(seed)
        runnings = [world.start(make_folder(world.vault(), "box")) for _ in range(2)]
        world.settle(runnings)
        assert sum(running.error is None for running in runnings) <= 1
        assert all(
            isinstance(running.error, ConflictError | UnknownOutcomeError | None) for running in runnings
        )
        assert names(world) == ["box"]


def test_too_few_nodes_make_nothing(world: World) -> None:
    down(world, 0, 1)
    with pytest.raises(QuorumError, match="2 of 4 nodes"):
        mkdir(world, "box")


# --- Listing ------------------------------------------------------------------------------------------------


def test_names_are_sorted_as_bytes(world: World) -> None:
    for name in ("b", "a", "é", "Z", "a b"):
        world.run(put(world, b"", name))
    assert names(world) == ["Z", "a", "a b", "b", "é"]


def test_what_is_not_there_is_said(world: World) -> None:
    assert names(world) == []
    for listing in (list_folder(world.vault(), "box"), stat(world.vault(), "box")):
        with pytest.raises(NotFoundError):
            world.run(listing)
    down(world, 0, 1)
    with pytest.raises(QuorumError, match="cannot say whether box exists"):
        world.run(stat(world.vault(), "box"))
    down(world, 0, 1, 2, 3)
    with pytest.raises(QuorumError, match="0 of 4 nodes answer"):
        names(world)


@pytest.mark.parametrize(
    ("away", "health", "stale"),
    [
        ((), Health.COMPLETE, False),
        ((0,), Health.DEGRADED, False),
        ((0, 1), Health.DEGRADED, True),
        ((1, 2, 3), Health.INCOMPLETE, True),
    ],
)
def test_what_remains_is_listed_as_healthy_as_it_is(
    world: World, away: tuple[int, ...], health: Health, stale: bool
) -> None:
    world.run(put(world, world.random.randbytes(3000)))
    down(world, *away)
    (item,) = world.run(list_folder(world.vault(), ""))
    assert (item.health, item.stale, item.node_count) == (health, stale, 4 - len(away))
    assert item.holders == {server.node_id for place, server in enumerate(world.servers) if place not in away}
    found = world.run(stat(world.vault(), "letter"))
    assert (found.health, found.node_count) == (health, 4 - len(away))


def test_what_too_few_nodes_do_not_know_is_not_called_absent(world: World) -> None:
    """Seed 30278 of the simulator: one of three nodes listed a folder without a file it had missed."""
    down(world, 3)
    world.run(put(world, b"one", "box/letter"))
    mkdir(world, "box/lid")
    down(world, 0, 1, 2)
    with pytest.raises(QuorumError, match="cannot say what box/ holds: too few nodes answer"):
        world.run(list_folder(world.vault(), "box"))
    down(world, 3)
    world.run(make_folder(world.vault(), "box/box"))
    down(world, 1, 2)
    assert [(item.entry.path, item.stale) for item in world.run(walk(world.vault(), "box"))] == [
        ("box/box", True),
        ("box/letter", True),
        ("box/lid", True),
    ]


def test_a_folder_is_not_called_removed_when_too_few_nodes_say_it_is_empty(world: World) -> None:
    mkdir(world, "box")
    running = world.start(remove_folder(world.vault(), "box"))
    while not any(isinstance(request, messages.Forget) for request in world.servers[3].requests):
        world.tick()
    down(world, 0, 1)
    world.settle([running])
    down(world)
    assert isinstance(running.error, QuorumError)


def test_a_removal_that_may_be_half_done_is_not_called_done() -> None:
    """Seed 200564 of the simulator: one of two nodes held a tombstone, the other was full."""
    world = World(1, node_count=2)
    world.run(put(world, b"one"))
    world.run(put(world, b"two", "other"))
    world.servers[0].refuses[messages.Accept] = DiskFullError("no room")
    with pytest.raises(UnknownOutcomeError):
        world.run(remove(world))
    listed = {item.entry.path: item.stale for item in world.run(list_folder(world.vault(), ""))}
    assert listed == {"other": True}
    world.servers[0].refuses.clear()
    assert not any(item.stale for item in world.run(list_folder(world.vault(), "")))


def test_the_root_is_always_there(world: World) -> None:
    assert world.run(stat(world.vault(), "")).entry.kind is EntryKind.FOLDER


def test_a_file_that_a_node_missed_is_listed(world: World) -> None:
    down(world, 0)
    world.run(put(world, world.random.randbytes(3000)))
    down(world)
    (item,) = world.run(list_folder(world.vault(), ""))
    assert (item.health, item.node_count) == (Health.DEGRADED, 3)


def test_a_listing_never_flips_between_half_done_writes(world: World) -> None:
    """Whoever lists first decides."""
    for seed in range(20):
        world = World(seed)
        running = world.start(put(world, b"one"))
        for _ in range(world.random.randrange(60)):
            if running.ended is None:
                world.tick()
        world.crash(running)
        down(world, seed % 4)
        first = names(world)
        down(world, (seed + 1) % 4)
        assert names(world) == first or not first, "what was listed once stays"


def make_many(world: World, wanted: Sequence[str]) -> None:
    world.run(ensure_folders(world.vault(), wanted))


def test_more_names_than_one_page(world: World) -> None:
    wanted = [f"name{index:04}" for index in range(1100)]
    make_many(world, wanted)
    assert names(world) == wanted


@pytest.mark.parametrize("away", [(), (0,), (0, 1)])
def test_pages_merge_what_each_node_knows(
    world: World, monkeypatch: pytest.MonkeyPatch, away: tuple[int, ...]
) -> None:
    monkeypatch.setattr(reading, "PAGE_COUNT", 7)
    wanted = [f"name{index:02}" for index in range(40)]
    for part in range(4):  # each node misses a quarter
        down(world, part)
        make_many(world, wanted[part::4])
    down(world)
    for path in wanted[::5]:
        world.run(remove_entries(world.vault(), [path], kind=EntryKind.FOLDER))
    down(world, *away)
    remaining = sorted(set(wanted) - set(wanted[::5]))
    assert names(world) == remaining


def repeating(request: messages.Request, answer: Answer) -> Answer:
    """The same page again and again, with more to come."""
    if not isinstance(request, messages.List):
        return answer
    listed = [(NameId(b"\x01" * 16), bulk_rows.RowState())]
    return Answer(messages.ListReply(1, True, NO_BALLOT), (bulk_rows.encode_listed(listed),))


def garbled(request: messages.Request, answer: Answer) -> Answer:
    return evolve(answer, bulk=(b"garbled",)) if isinstance(request, messages.List) else answer


def out_of_place(request: messages.Request, answer: Answer) -> Answer:
    return Answer(messages.Empty()) if isinstance(request, messages.List) else answer


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("tamper", [repeating, garbled, out_of_place])
def test_a_lying_node_cannot_spoil_a_listing(world: World, tamper: Tamper, place: int) -> None:
    make_many(world, ["a", "b", "c"])
    world.servers[place].tamper = tamper
    assert names(world) == ["a", "b", "c"]


def test_a_deleted_name_stays_away_with_an_old_copy_of_a_node(world: World) -> None:
    world.run(put(world, b"one"))
    copy = world.servers[0].copy()
    world.run(remove(world))
    world.servers[0].restore(copy)
    assert names(world) == []


# --- Removing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [(), (2,)])
def test_what_is_removed_stays_removed(world: World, away: tuple[int, ...]) -> None:
    world.run(put(world, world.random.randbytes(3000)))
    down(world, *away)
    world.run(remove(world))
    down(world)
    with pytest.raises(NotFoundError):
        world.run(get(world))
    with pytest.raises(NotFoundError):
        world.run(remove(world))
    assert names(world) == []


def test_removing_needs_enough_nodes(world: World) -> None:
    world.run(put(world, b"one"))
    down(world, 0, 1)
    with pytest.raises(QuorumError, match="2 of 4 nodes reachable, 3 needed"):
        world.run(remove(world))


def test_a_node_that_answers_but_does_not_count_is_named_with_the_remedy(world: World) -> None:
    lagging = world.servers[1].node_id
    vault = world.vault()
    behind = evolve(vault, counted=vault.counted - {lagging})
    down(world, 0)
    told = (
        r"2 of 4 nodes reachable, 3 needed \(no answer: dfs1; to be brought up to date by .* repair: dfs2\)"
    )
    with pytest.raises(QuorumError, match=told):
        world.run(remove_entries(behind, ["letter"], kind=EntryKind.FILE))


def test_only_the_version_named_is_removed(world: World) -> None:
    first = world.run(put(world, b"one"))
    world.run(put(world, b"two"))
    with pytest.raises(ConflictError, match=f"not {first.version.hex()}"):
        world.run(remove(world, if_version=first.version))
    assert names(world) == ["letter"]


@pytest.mark.parametrize("node_count", [1, 4])
def test_of_two_who_remove_one_version_one_does(node_count: int) -> None:
    for seed in range(30):
        world = World(seed, node_count=node_count)
        version = world.run(put(world, b"one")).version
        runnings = [world.start(remove(world, if_version=version)) for _ in range(2)]
        world.settle(runnings)
        errors = [type(running.error) for running in runnings if running.error is not None]
        assert errors in ([NotFoundError], [UnknownOutcomeError])
        assert names(world) == []


def test_files_and_folders_are_not_removed_for_each_other(world: World) -> None:
    mkdir(world, "box")
    with pytest.raises(ConflictError, match="box is a folder"):
        world.run(remove(world, "box"))


def test_a_removed_file_takes_its_shares_along(world: World) -> None:
    world.run(put(world, world.random.randbytes(3000)))
    world.run(remove(world))
    for server in world.servers:
        server.store.transact(lambda transaction: transaction.unpin(1e12))
        server.vault.tidy()
        assert server.store.used_size == 0


def test_a_folder_goes_with_everything_below(world: World) -> None:
    for path in ("box/a", "box/deep/b", "box/deep/er/c", "other"):
        world.run(put(world, b"one", path))
    removed = world.run(remove_folder(world.vault(), "box"))
    assert set(removed) == {"box/a", "box/deep/b", "box/deep/er/c", "box/deep/er", "box/deep", "box"}
    assert names(world) == ["other"]
    with pytest.raises(NotFoundError):
        world.run(remove_folder(world.vault(), "box"))


def test_the_root_is_emptied(world: World) -> None:
    for path in ("box/a", "b"):
        world.run(put(world, b"one", path))
    world.run(remove_folder(world.vault(), ""))
    assert names(world) == []
    world.run(put(world, b"one", "box/a"))
    assert names(world, "box") == ["box/a"]


@pytest.mark.parametrize("page", [limits.LIST_COUNT_MAX, 2])
def test_a_folder_that_gets_a_new_entry_meanwhile_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Behind however many tombstones it lies."""
    monkeypatch.setattr(reading, "PAGE_COUNT", page)
    down(world, 3)  # so that tombstones stay
    for index in range(8):
        world.run(put(world, b"one", f"box/{index}"))
    for late in range(3):
        path = f"box/late{late}"
        running = world.start(remove_folder(world.vault(), "box"))
        while running.ended is None and not tombstone_of_the_box(world):
            world.tick()
        world.run(put(world, b"late", path))
        world.settle([running])
        assert names(world) == ["box"], "the entry can be found"
        assert path in names(world, "box")


def tombstone_of_the_box(world: World) -> bool:
    """Whether the marker is gone on a node."""
    key = register_key(world.vault().keys, "box")
    row = world.servers[0].store.view(lambda view: view.register(key))
    return row is not None and is_tombstone(row)
