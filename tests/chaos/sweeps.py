"""Sweeps: a deed done again and again, each time with one fault at the next of its system calls."""

import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from tests.chaos.deeds import DEEDS, Possible, inspect, possible, told
from tests.chaos.kit import Nursery, strace

# Calls that change what is on disk. A kill before any other call leaves what the kill before the next of
# these leaves, so these are all points there are.
CHANGING: Final = (
    *("openat", "mkdir", "unlink"),
    *("pwrite64", "pwritev2", "ftruncate", "fallocate", "fsync", "fdatasync"),
)


@frozen
class Scene:
    """A town at rest below ``folder``, and what its paths may hold."""

    folder: Path
    possible: Possible = field(repr=False)


@define
class Sweep:
    """Points tried so far and what was wrong at which."""

    nursery: Nursery
    scene: Scene
    deed: str
    careless: bool = False
    points: int = 0
    bad: list[str] = field(factory=list)

    @property
    def town(self) -> Path:
        """Where the deed is done."""
        return self.nursery.folder / "town"

    def reset(self) -> None:
        """Put the town back to where the scene begins."""
        shutil.rmtree(self.town, ignore_errors=True)
        shutil.copytree(self.scene.folder, self.town)

    def counts(self, kinds: Sequence[str]) -> Counter[str]:
        """Return how many calls of each kind the deed makes."""
        self.reset()
        return self.nursery.counts(self.town, self.deed, kinds)

    def over(
        self, kind: str, count: int, fault: str, numbers: Sequence[int], *, lasting: bool = False
    ) -> Iterator[tuple[int, int]]:
        """Let ``fault`` happen at each of these calls; yields the call's number and the child's status.

        ``lasting``: it happens at all later calls of that kind, too.
        """
        spec = f"inject={kind}:{fault}:when={count}{'+' if lasting else ''}"
        log = self.nursery.folder / "calls"
        with strace(self.nursery.process.pid, "-e", f"trace={kind}", "-e", spec, "-o", str(log)):
            for number in numbers:
                self.reset()
                yield (
                    number,
                    self.nursery.live(
                        self.town, self.deed, kind=kind, burn=count - number, careless=self.careless
                    )[1],
                )

    def judge(self, point: str) -> None:
        """Start the town again and note what is wrong."""
        self.points += 1
        away = self.points % 4 + 1
        problems = inspect(self.town, self.scene.possible, DEEDS[self.deed], point, away)
        self.bad += [f"{self.deed}, {point}: {problem}" for problem in problems]


def every(count: int, stride: int, offset: int = 0) -> range:
    """Return the numbers of calls to try: each ``stride``-th of ``count``, and always the last."""
    return range(count - offset % stride, 0, -stride)


def kill_sweep(
    nursery: Nursery, scene: Scene, deed: str, stride: int = 1, *, careless: bool = False
) -> Sweep:
    """Kill the deed before each ``stride``-th changing call of each kind and look at what is left."""
    sweep = Sweep(nursery, scene, deed, careless)
    for kind, count in sorted(sweep.counts(CHANGING).items()):
        for number, status in sweep.over(kind, count, "signal=KILL", every(count, stride)):
            if status != -signal.SIGKILL:
                sweep.bad.append(f"{deed}: {kind} {number} of {count} was not reached")
            sweep.judge(f"killed at {kind} {number} of {count}")
    return sweep


def crashed(nursery: Nursery, scene: Scene, deed: str, kind: str, part: float, folder: Path) -> Scene:
    """Return the scene a kill leaves after that part of the deed's calls of a kind."""
    sweep = Sweep(nursery, scene, deed)
    count = sweep.counts([kind])[kind]
    ((_, status),) = sweep.over(kind, count, "signal=KILL", [max(1, round(count * part))])
    assert status == -signal.SIGKILL
    shutil.move(sweep.town, folder)
    after = possible(scene.possible, DEEDS[deed], told(folder / "ledger"))
    (folder / "ledger").unlink()
    return Scene(folder, after)
