"""Charts in a small world: what nodes say they hold, lack, or hold badly."""

import os

from dfs.core.charting import chart
from dfs.core.pipeline import Slot
from dfs.core.repairing import Scope, repair
from dfs.core.standing import CellState
from tests.unit.histories import put
from tests.unit.world import World

BODY = os.urandom(120_000)


def states(world: World, *, chunks: bool = False) -> list[list[str]]:
    rows = world.run(chart(world.vault(), "", chunks=chunks))
    return [[cell.state.value for cell in row.cells] for row in rows]


def test_whole_files_and_tiny_ones() -> None:
    world = World(1)
    world.run(put(world, BODY, "a"))
    world.run(put(world, b"tiny", "b"))
    first, second = world.run(chart(world.vault(), ""))
    assert (first.path, second.path) == ("a", "b")
    assert {(cell.held, cell.total) for cell in first.cells} == {(1, 1)}
    assert {(cell.held, cell.total, cell.state) for cell in second.cells} == {(0, 0, CellState.OK)}
    assert states(world, chunks=True) == [["ok"] * 4, ["ok"] * 4]


def test_a_node_that_was_away_misses_its_share_until_repaired() -> None:
    world = World(2)
    world.run(put(world, BODY, "old"))
    world.servers[3].up = False
    world.run(put(world, BODY[::-1], "new"))
    assert [row[3] for row in states(world)] == ["away", "away"]
    assert [row[3] for row in states(world, chunks=True)] == ["away", "away"]
    world.servers[3].restart()
    assert states(world) == [["ok", "ok", "ok", "missing"], ["ok"] * 4]
    assert states(world, chunks=True) == [["ok", "ok", "ok", "missing"], ["ok"] * 4]
    world.run(repair(world.vault(), Scope(), [Slot()]))
    assert states(world) == [["ok"] * 4] * 2
