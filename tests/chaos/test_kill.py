"""SIGKILL before every system call that changes a disk: whatever was acknowledged is there after a restart
without any other step, byte for byte, with every node counted in and with any one node away.
"""

import shutil

import pytest

from tests.chaos.deeds import DEEDS
from tests.chaos.kit import Nursery, needs, tally
from tests.chaos.sweeps import Scene, crashed, kill_sweep, wounded

WORK = sorted(set(DEEDS) - {"found", "repair", "start"})
SHORT_STRIDE = 151


@needs("strace")
@pytest.mark.parametrize("deed", WORK)
def test_a_kill_now_and_then(nursery: Nursery, founded: Scene, deed: str) -> None:
    sweep = kill_sweep(nursery, founded, deed, SHORT_STRIDE)
    tally(f"kill, {deed}, every {SHORT_STRIDE}th", points=sweep.points, bad=len(sweep.bad))
    assert sweep.points >= 5
    assert sweep.bad == []


@needs("strace")
@pytest.mark.chaos
@pytest.mark.parametrize("deed", WORK)
def test_a_kill_at_every_call(nursery: Nursery, founded: Scene, deed: str) -> None:
    sweep = kill_sweep(nursery, founded, deed)
    tally(f"kill, {deed}", points=sweep.points, bad=len(sweep.bad))
    assert sweep.points >= 200
    assert sweep.bad == []


def start_sweep(nursery: Nursery, founded: Scene, deed: str, part: float, stride: int) -> None:
    """Kill nodes while they start after a kill."""
    folder = nursery.folder / "crashed"
    sweep = kill_sweep(nursery, crashed(nursery, founded, deed, "pwrite64", part, folder), "start", stride)
    shutil.rmtree(folder)
    tally(f"kill, start after {deed} {part:.0%}", points=sweep.points, bad=len(sweep.bad))
    assert sweep.points >= 5
    assert sweep.bad == []


@needs("strace")
def test_a_kill_while_recovering_now_and_then(nursery: Nursery, founded: Scene) -> None:
    start_sweep(nursery, founded, "collect", 0.7, SHORT_STRIDE)


@needs("strace")
@pytest.mark.chaos
@pytest.mark.parametrize("deed", WORK)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_kill_at_every_call_while_recovering(
    nursery: Nursery, founded: Scene, deed: str, part: float
) -> None:
    start_sweep(nursery, founded, deed, part, 1)


def repair_sweep(nursery: Nursery, founded: Scene, stride: int) -> None:
    """Kill a repair; the next one ends it."""
    scene = wounded(founded, nursery.folder / "wounded")
    sweep = kill_sweep(nursery, scene, "repair", stride)
    shutil.rmtree(scene.folder)
    tally(f"kill, repair, every {stride}", points=sweep.points, bad=len(sweep.bad))
    assert sweep.points >= 5
    assert sweep.bad == []


@needs("strace")
def test_a_kill_while_repairing_now_and_then(nursery: Nursery, founded: Scene) -> None:
    repair_sweep(nursery, founded, SHORT_STRIDE)


@needs("strace")
@pytest.mark.chaos
def test_a_kill_at_every_call_while_repairing(nursery: Nursery, founded: Scene) -> None:
    repair_sweep(nursery, founded, 1)
