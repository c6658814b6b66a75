"""Large files: W1 random bytes, W2 Python sources, W4 with one and two nodes killed, W5 4 KiB changed.

Client and nodes share this machine; whatever is said to be stored is durable. Each figure stands beside its
floor, measured right before each operation, twice, so that both find pages of memory that were just given
back; the bytes are compared outside the timed part, and a mismatch ends the program.
Warm: everything was written, fetched and replaced once before. --cold: new nodes and new output at each turn.

Run: python bench/large.py [--quick] [--transport tls|tcp] [--geometry 2,4] [--repeat 5] [--size MIB] [--cold]
"""

import argparse
import filecmp
import signal
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from attrs import define, field

import floors
from inputs import change_middle, freshen, make_random, make_sources, sizes
from lines import Report
from rig import (
    MIB,
    BenchError,
    Cluster,
    Meter,
    Sample,
    main,
    make_parser,
    positive,
    repeats,
    stored_size,
    workshop,
)

DEGRADED = (0, 3)  # 3: stored, but a node that is down lacks its shares


@define
class Work:
    """The inputs of a run, and the samples of each operation."""

    folder: Path
    size: int
    sources_size: int
    geometry: tuple[int, int]
    repeat: int
    cold: bool
    turn: int = 0
    samples: dict[tuple[str, str], list[Sample]] = field(factory=dict)
    floors_s: dict[tuple[str, str], list[float]] = field(factory=dict)
    at_rest: dict[str, int] = field(factory=dict)

    @property
    def random(self) -> Path:
        """W1."""
        return self.folder / "W1"

    @property
    def sources(self) -> Path:
        """W2."""
        return self.folder / "W2"

    def keep(self, work: str, op: str, sample: Sample, *, timed: bool) -> None:
        """Note a sample, unless the run only warmed up."""
        if timed:
            self.samples.setdefault((work, op), []).append(sample)

    def floor(self, work: str, op: str, *, timed: bool) -> None:
        """Measure what the disk does with the bytes of an operation that follows at once."""
        path = self.random if work == "W1" else self.sources
        if op == "put":
            seconds = floors.append_s(self.folder, path.stat().st_size, self.geometry, 1, cold=self.cold)
        else:
            seconds = floors.copy_s(path, 1, cold=self.cold)
        if timed:
            self.floors_s.setdefault((work, op), []).extend(seconds)

    def fresh(self) -> None:
        """Let every chunk of W1 and W2 have bytes that were never stored."""
        self.turn += 1
        freshen(self.random, self.turn)
        freshen(self.sources, self.turn)


def put(meter: Meter, path: Path, accept: Sequence[int] = (0,)) -> Sample:
    """Store a file under its own name and see what a `sync` still has to write."""
    return meter.command("put", str(path), "--to", path.name, accept=accept, sync=True)


def get(meter: Meter, path: Path, target: Path, accept: Sequence[int] = (0,)) -> Sample:
    """Fetch a file and compare it with its source; the time of comparing is not counted."""
    sample = meter.command("get", path.name, "-o", str(target), accept=accept)
    if not filecmp.cmp(path, target, shallow=False):
        raise BenchError(f"{path.name}: the bytes that came back are others")
    return sample


def turn(work: Work, cluster: Cluster, *, timed: bool) -> None:
    """Put and get W1 and W2 once, W1 also again: as it is, and as W5."""
    meter = Meter(cluster)
    work.fresh()
    for name, path in (("W1", work.random), ("W2", work.sources)):
        work.floor(name, "put", timed=timed)
        work.keep(name, "put", put(meter, path), timed=timed)
        back = work.folder / f"back{work.turn}.{name}"
        work.floor(name, "get", timed=timed)
        work.keep(name, "get", get(meter, path, back), timed=timed)
        if not work.cold:
            back.unlink()
    if work.cold:
        return
    work.keep("W1", "put again", put(meter, work.random), timed=timed)
    change_middle(work.random, work.turn)
    work.keep("W5", "put", put(meter, work.random), timed=timed)
    back = work.folder / "back"
    get(meter, work.random, back)
    back.unlink()


def with_dead_nodes(work: Work, cluster: Cluster) -> None:
    """Do W4: get W1 and put W2 with one node killed, get W1 with as many killed as still let it be read."""
    meter = Meter(cluster)
    needed, total = work.geometry
    for killed in range(1, min(2, total - needed) + 1):
        cluster.signal(killed - 1, signal.SIGKILL)
        for number in range(work.repeat + 1):
            back = work.folder / "back"
            work.floor("W1", "get", timed=False)  # so that memory is as warm as with all nodes alive
            work.keep(
                "W4", f"get, {killed} killed", get(meter, work.random, back, DEGRADED), timed=number > 0
            )
            back.unlink()
            if killed == 1 and total - needed > 1:  # a write wants to survive one more loss
                work.turn += 1
                freshen(work.sources, work.turn)
                work.keep("W4", "put, 1 killed", put(meter, work.sources, DEGRADED), timed=number > 0)
        if killed == 1 and total - needed > 1:
            back = work.folder / "back"
            get(meter, work.sources, back, DEGRADED)
            back.unlink()


def measure(work: Work, options: argparse.Namespace) -> None:
    """Do all turns."""
    if work.cold:
        for number in range(work.repeat):
            with Cluster(work.folder / f"cluster{number}", options, preload=options.preload) as cluster:
                turn(work, cluster, timed=True)
        return
    with Cluster(work.folder / "cluster", options, preload=options.preload) as cluster:
        for number in range(work.repeat + 1):
            turn(work, cluster, timed=number > 0)
        with_dead_nodes(work, cluster)


def report_all(work: Work, report: Report, options: argparse.Namespace) -> None:
    """Print a line for each operation, beside what the disk does, or dfs itself while all nodes are alive."""
    middle = {key: median(sample.wall_s for sample in samples) for key, samples in work.samples.items()}
    append, copy = "append shares", "cp"
    floor_s = {key: median(seconds) for key, seconds in work.floors_s.items()}
    copied = floor_s["W1", "get"]
    floor_of = {
        ("W1", "put"): (append, floor_s["W1", "put"]),
        ("W1", "get"): (copy, copied),
        ("W1", "put again"): (copy, copied),
        ("W2", "put"): (f"{append} of random bytes", floor_s["W2", "put"]),
        ("W2", "get"): (copy, floor_s["W2", "get"]),
        ("W5", "put"): (copy, copied),
        ("W4", "get, 1 killed"): ("dfs, all alive", middle.get(("W1", "get"))),
        ("W4", "get, 2 killed"): ("dfs, all alive", middle.get(("W1", "get"))),
        ("W4", "put, 1 killed"): ("dfs, all alive", middle.get(("W2", "put"))),
    }
    variant = {"durable": not options.preload, "pages": "cold" if work.cold else "warm"}
    for (name, op), samples in work.samples.items():
        of_sources = name == "W2" or op == "put, 1 killed"
        label, seconds = floor_of[name, op]
        report.add(
            name,
            op,
            samples,
            size=work.sources_size if of_sources else work.size,
            files=1,
            floor=(label, seconds) if seconds else None,
            variant=variant,
            at_rest_bytes=work.at_rest.get(name) if op == "put" else None,  # W5 adds to what is there
        )
    report.end()


def _run() -> None:
    parser = make_parser(__doc__, limit_s=7200)
    parser.add_argument("--size", type=positive, metavar="MIB", help="of W1; W2 is half of it")
    parser.add_argument(
        "--cold", action="store_true", help="new nodes and new output at each turn, no warm-up"
    )
    parser.add_argument(
        "--preload",
        default="",
        metavar="LIBRARY",
        help="into the nodes, so that syncs do nothing: libeatmydata.so",
    )
    options = parser.parse_args()
    if options.preload and not Path(options.preload).is_file():
        parser.error(f"{options.preload} is no file: the loader would go on without it")
    wanted, repeat = sizes(quick=options.quick), repeats(options, 2, 5)
    size = options.size * MIB if options.size else wanted.random
    sources_size = options.size * MIB // 2 if options.size else wanted.sources
    with workshop(options) as folder:
        report = Report("large", options, folder)
        work = Work(folder, size, sources_size, options.geometry, repeat, options.cold)
        make_random(work.random, size)
        make_sources(work.sources, sources_size)
        for path in (work.random, work.sources):
            work.at_rest[path.name] = stored_size(folder / "at-rest", options, "put", str(path))
        measure(work, options)
        report_all(work, report, options)


if __name__ == "__main__":
    main(_run)
