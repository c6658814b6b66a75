"""The power of all nodes is cut at once, again and again: what was acknowledged is on the disk.

The disk is a file. The writer is stopped, so that nothing is on its way, and the file is copied: this is what
a disk holds that lost its power now. What was written and not synced is in the page cache of the mounted file
system, not in the file. The copy is mounted (its journal is replayed) and the town in it started.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field

from tests.chaos.deeds import STEP_COUNT, Step, busy, inspect, told
from tests.chaos.kit import ROOT, disk, mounted, needs, python_environment, tally

LIFE_S_MAX = 0.8
SIZES = {"ext4": 96 << 20, "xfs": 320 << 20}


@define
class Storm:
    """A busy town on a disk, and its cuts."""

    mount: Path
    seed: int
    process: "subprocess.Popen[bytes]"
    steps: list[Step]
    cuts: int = 0
    acknowledged: int = 0
    bad: list[str] = field(factory=list)

    @property
    def ledger(self) -> Path:
        """It lies on another disk, whose power stays on."""
        return self.mount.with_suffix(".ledger")

    def live_for(self, seconds: float) -> None:
        """Let the town be busy."""
        with pytest.raises(subprocess.TimeoutExpired):  # else the writer has ended
            self.process.wait(seconds)

    def cut(self) -> None:
        """Copy the disk as it is now, start the town in the copy and note what is lost."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        image = self.mount.with_suffix(".image")
        copy = image.with_suffix(".copy")
        before = None
        while before != (before := writes_of(self.mount)):  # the journal's thread may still be at work
            subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True, timeout=60)
        said = told(self.ledger)
        with mounted(
            self.mount.with_suffix(".cut"), "-o", "loop,nouuid" if is_xfs(self.mount) else "loop", str(copy)
        ) as cut:
            shutil.copy(self.ledger, cut / "ledger")
            problems = inspect(cut, {}, self.steps, f"cut {self.cuts}", self.cuts % 4 + 1)
        self.cuts += 1
        self.acknowledged = sum(line[0] == "done" for line in said)
        self.bad += [
            f"cut {self.cuts} after {len(said)} lines, seed {self.seed}: {problem}" for problem in problems
        ]
        os.kill(self.process.pid, signal.SIGCONT)


def is_xfs(mount: Path) -> bool:
    """Its copies have the same id, which must be allowed."""
    return mount.name.startswith("xfs")


def writes_of(mount: Path) -> str:
    """What the device below a mount has written so far, and has on its way."""
    device = os.stat(mount).st_dev
    fields = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    return " ".join((fields[4], fields[6], fields[8]))


@contextmanager
def storm(memory: Path, kind: str, seed: int, *how: str) -> Iterator[Storm]:
    with disk(kind, SIZES[kind], memory / f"{kind}-{seed}") as mount:
        ledger = mount.with_suffix(".ledger")
        ledger.touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.writer", str(mount), str(ledger), str(seed), *how],
            env=python_environment(),
            cwd=ROOT,
        )
        try:
            made = Storm(mount, seed, process, busy(seed, STEP_COUNT))
            while not told(ledger):  # until the town is founded
                made.live_for(LIFE_S_MAX)
            yield made
        finally:
            process.kill()
            process.wait()
            mount.with_suffix(".copy").unlink(missing_ok=True)


def weather(memory: Path, kind: str, seed: int, cuts: int) -> Storm:
    dice = random.Random(seed)
    with storm(memory, kind, seed) as made:
        for _ in range(cuts):
            made.live_for(dice.random() * LIFE_S_MAX)
            made.cut()
    return made


@needs("loop")
@pytest.mark.parametrize("kind", ["ext4"])
def test_a_power_cut_loses_nothing(memory: Path, kind: str) -> None:
    made = weather(memory, kind, 1, 6)
    tally(f"power, {kind}", cuts=made.cuts, acknowledged=made.acknowledged, lost=len(made.bad))
    assert made.bad == []


@needs("loop")
@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=needs("xfs"))])
def test_a_thousand_power_cuts_lose_nothing(memory: Path, kind: str) -> None:
    made = [weather(memory, kind, seed, 40) for seed in range(100, 125)]
    bad = [problem for each in made for problem in each.bad]
    cuts, acknowledged = sum(each.cuts for each in made), sum(each.acknowledged for each in made)
    tally(f"power, {kind}, long", cuts=cuts, acknowledged=acknowledged, lost=len(bad))
    assert bad == []


@needs("loop")
def test_a_store_that_never_syncs_is_found_out(memory: Path) -> None:
    with storm(memory, "ext4", 2, "careless") as made:
        while made.acknowledged < 5:
            made.live_for(LIFE_S_MAX)
            made.cut()
    assert made.bad != []
