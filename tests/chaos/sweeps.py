"""Sweeps: a deed done again and again, each time with one fault at the next of its system calls."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from tests.chaos.deeds import DEEDS, Possible, Step, inspect, possible, told
from tests.chaos.kit import Nursery, strace
from tests.chaos.town import USER, Town

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
    abrupt: bool = False
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

    def calls(self, kinds: Sequence[str]) -> dict[str, list[str]]:
        """Return the calls of each kind that the deed makes, in order."""
        self.reset()
        return self.nursery.calls(self.town, self.deed, kinds, abrupt=self.abrupt)

    def over(
        self, kind: str, count: int, fault: str, numbers: Sequence[int], *, lasting: bool = False
    ) -> Iterator[tuple[int, int]]:
        """Let ``fault`` happen at each of these calls; yields the call's number and the child's status.

        ``lasting``: it happens at all later calls of that kind, too.
        """
        spec = f"inject={kind}:{fault}:when={count}{'+' if lasting else ''}"
        log = self.nursery.folder / "calls"
        if not numbers:
            return
        with strace(self.nursery.process.pid, "-e", f"trace={kind}", "-e", spec, "-o", str(log)):
            for number in numbers:
                self.reset()
                yield (
                    number,
                    self.nursery.live(
                        self.town, self.deed, kind=kind, burn=count - number, abrupt=self.abrupt
                    )[1],
                )

    def judge(self, point: str, *, mend: bool = False) -> None:
        """Start the town again and note what is wrong; ``mend``: after a repair."""
        self.points += 1
        away = self.points % 4 + 1
        steps = DEEDS[self.deed]
        mend = mend or Step("mend") in steps
        problems = inspect(self.town, self.scene.possible, steps, point, away, mend=mend)
        self.bad += [f"{self.deed}, {point}: {problem}" for problem in problems]


def every(count: int, stride: int, offset: int = 0) -> range:
    """Return the numbers of calls to try: each ``stride``-th of ``count``, and always the last."""
    return range(count - offset % stride, 0, -stride)


def kill_sweep(nursery: Nursery, scene: Scene, deed: str, stride: int = 1) -> Sweep:
    """Kill the deed before each ``stride``-th changing call of each kind and look at what is left."""
    sweep = Sweep(nursery, scene, deed)
    for kind, calls in sorted(sweep.calls(CHANGING).items()):
        count = len(calls)
        for number, status in sweep.over(kind, count, "signal=KILL", every(count, stride)):
            if status != -signal.SIGKILL:
                sweep.bad.append(f"{deed}: {kind} {number} of {count} was not reached")
            sweep.judge(f"killed at {kind} {number} of {count}")
    return sweep


@frozen
class Fault:
    """What a call returns instead of doing its work. ``lasting``: and all later calls of its kind, too."""

    kind: str
    result: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.result.partition('=')[2]}{' for good' if self.lasting else ''}"


FAULTS: Final = (
    *(Fault("pwritev2", f"error={error}") for error in ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    *(Fault("pwrite64", f"error={error}") for error in ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    Fault("pwritev2", "retval=0"),  # a short write: nothing of it was taken
    Fault("pwrite64", "retval=0"),
    *(Fault("fdatasync", f"error={error}") for error in ("EIO", "ENOSPC", "EDQUOT")),
    *(Fault("fsync", f"error={error}") for error in ("EIO", "ENOSPC")),
    *(Fault("openat", f"error={error}") for error in ("EMFILE", "ENFILE", "ENOSPC", "EIO")),
    *(Fault("fallocate", f"error={error}") for error in ("EIO", "ENOSPC", "EDQUOT")),
    *(Fault("ftruncate", f"error={error}") for error in ("EIO", "ENOSPC")),
    *(Fault("unlink", f"error={error}") for error in ("EIO", "ENOSPC")),
    Fault("mkdir", "error=ENOSPC"),
    Fault("pread64", "error=EIO"),
    Fault("preadv2", "error=EIO"),
    Fault("statfs", "error=EIO"),
    Fault("pwritev2", "error=EIO", lasting=True),
    Fault("pwritev2", "error=ENOSPC", lasting=True),
    Fault("pwrite64", "error=EIO", lasting=True),
    Fault("pwrite64", "error=ENOSPC", lasting=True),
    Fault("fdatasync", "error=EIO", lasting=True),
    Fault("fsync", "error=EIO", lasting=True),
    Fault("openat", "error=EMFILE", lasting=True),
    Fault("pread64", "error=EIO", lasting=True),
)
WOUNDED: Final = 3
SYNCS: Final = {"fdatasync", "fsync"}
READS: Final = {"preadv2", "pread64"}


def error_sweep(nursery: Nursery, scene: Scene, deed: str, stride: int = 1) -> Sweep:
    """Let every call that one node makes fail, and look at what was acknowledged.

    The nodes are alike, so the calls of one are enough; which one, follows from the deed. They end abruptly,
    as a node does whose disk failed: then all calls lie before their end.
    """
    sweep = Sweep(nursery, scene, deed, abrupt=True)
    calls = sweep.calls(sorted({fault.kind for fault in FAULTS}))
    mark = f"/DFS{len(deed) % 4 + 1}"
    for index, fault in enumerate(FAULTS):
        made = calls.get(fault.kind, [])
        numbers = [number for number, line in enumerate(made, 1) if mark in line][index % stride :: stride]
        for number, status in sweep.over(fault.kind, len(made), fault.result, numbers, lasting=fault.lasting):
            point = f"{fault} at {number} of {len(made)}"
            if status:
                sweep.bad.append(f"{deed}, {point}: the process ended with {status}")
            words = {line[0] for line in told(sweep.town / "ledger")}
            synced = made[number - 1].rpartition(">")[0]
            # SQLite looks at no failed sync of a folder; the name of its log was synced before it came.
            folder = synced.endswith(f"/{USER}")
            # A new volume whose folder cannot be synced for want of room is taken back: it meant nothing yet.
            taken_back = "ENOSPC" in fault.result and synced.endswith(f"/{USER}/volumes")
            passed_over = not folder and not taken_back and not words & {"lost", "read-only"}
            if fault.kind in SYNCS and passed_over:
                sweep.bad.append(f"{deed}, {point}: a failed sync was passed over")
            sweep.judge(point, mend=fault.kind in READS)  # what cannot be read is lost until repaired
    return sweep


def wounded(scene: Scene, folder: Path) -> Scene:
    """Return a scene where one node missed files and lost two volumes: there is something to repair."""
    shutil.copytree(scene.folder, folder)
    town = Town(folder, "wounded")
    town.residents[WOUNDED].up = False
    contents = dict(scene.possible)
    for step in (Step("put", "late/large", 51, 600_000), Step("put", "late/small", 52, 20_000)):
        town.put(step.path, step.content or b"")
        contents[step.path] = {step.content}
    town.close()
    first, second, *_ = sorted((folder / f"DFS{WOUNDED}" / USER / "volumes").iterdir())
    first.unlink()
    raw = bytearray(second.read_bytes())
    raw[len(raw) // 2] ^= 1
    second.write_bytes(raw)
    return Scene(folder, contents)


def crashed(nursery: Nursery, scene: Scene, deed: str, kind: str, part: float, folder: Path) -> Scene:
    """Return the scene a kill leaves after that part of the deed's calls of a kind."""
    sweep = Sweep(nursery, scene, deed)
    count = len(sweep.calls([kind])[kind])
    ((_, status),) = sweep.over(kind, count, "signal=KILL", [max(1, round(count * part))])
    assert status == -signal.SIGKILL
    shutil.move(sweep.town, folder)
    after = possible(scene.possible, DEEDS[deed], told(folder / "ledger"))
    (folder / "ledger").unlink()
    return Scene(folder, after)
