"""Small files: W3, 2,000 files of 4 KiB, as whole commands and inside the library.

`put -r`, `ls` and `get -r` from nothing; then through `dfs.open_cluster` one by one and in batches, the
connection being open. What is acknowledged is durable. The floor is what as many SQLite databases need to
commit the rows of the same files. Files are compared outside the timed part, and a mismatch ends the
program.

Run: python bench/small.py [--quick] [--transport tls|tcp] [--geometry 2,4] [--repeat 5] [--files N]
"""

import argparse
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median

from attrs import define, field

import floors
from dfs.cluster import Cluster as Vault, Download, Upload, open_cluster
from dfs.core.local import FileContent
from inputs import SEED, SMALL_SIZE, digest, make_small, sizes
from lines import Report
from rig import (
    BenchError,
    Cluster,
    Meter,
    Sample,
    all_done,
    main,
    make_parser,
    positive,
    repeats,
    stored_size,
    workshop,
)

ONE_BY_ONE_COUNT_MAX = 500  # files; each waits for its own commits
BATCHES = {"library put, batches of 64": 64, "library put, batched": 2000}
GET_BATCHES = {"library get, batches of 64": 64, "library get, batched": 2000}


@define
class Work:
    """Inputs and samples of a run. ``source``: the folder of W3, another one each turn."""

    folder: Path
    count: int
    samples: dict[str, list[Sample]]
    counts: dict[str, int]
    source: Path = field(init=False)

    def make(self, turn: int) -> list[Path]:
        """Write other files in another folder, so that nothing of them is stored, and return them."""
        self.source = self.folder / f"W3-{turn}"
        make_small(self.source, self.count, seed=SEED + turn)
        return sorted(self.source.iterdir())

    def keep(self, op: str, sample: Sample, count: int, *, timed: bool) -> None:
        """Note a sample, unless the run only warmed up."""
        if timed:
            self.samples.setdefault(op, []).append(sample)
            self.counts[op] = count

    def new_back(self) -> Path:
        """Make an empty folder for what comes back.

        It stays to the end: some file systems make files slowly for minutes after others were removed.
        """
        return Path(tempfile.mkdtemp(prefix="back", dir=self.folder))

    def compare(self, back: Path) -> None:
        """Raise unless a folder has exactly the files of W3."""
        if digest(back) != digest(self.source):
            raise BenchError("W3: the files that came back are others")


def commands(work: Work, meter: Meter, turn: int) -> None:
    """Put, list and get all files with one command each."""
    work.make(turn)
    back = work.new_back()
    remote = work.source.name
    timed = turn > 0
    work.keep("put -r", meter.command("put", "-r", str(work.source), sync=True), work.count, timed=timed)
    work.keep("ls", meter.command("ls", remote), work.count, timed=timed)
    work.keep("get -r", meter.command("get", "-r", remote, "-o", str(back)), work.count, timed=timed)
    work.compare(back / remote)


def one_by_one(work: Work, vault: Vault, meter: Meter, turn: int) -> None:
    """Put and get files each with a call of its own."""
    files = work.make(1000 + turn)[:ONE_BY_ONE_COUNT_MAX]
    bodies = {f"single{turn}/{file.name}": file.read_bytes() for file in files}
    got: dict[str, BytesIO] = {path: BytesIO() for path in bodies}

    def put() -> None:
        for path, body in bodies.items():
            vault.put(path, BytesIO(body))

    def get() -> None:
        for path, target in got.items():
            vault.get(path, target)

    work.keep("library put, one by one", meter.call(put, vault, sync=True), len(bodies), timed=turn > 0)
    work.keep("library get, one by one", meter.call(get, vault), len(bodies), timed=turn > 0)
    if any(got[path].getvalue() != body for path, body in bodies.items()):
        raise BenchError("W3: bytes that came back are others")


def batched(work: Work, vault: Vault, meter: Meter, turn: int) -> None:
    """Put and get all files in batches, and list them."""
    timed = turn > 0
    files: list[Path] = []
    remote = ""
    for number, (op, batch) in enumerate(BATCHES.items()):
        files = work.make(2000 + 10 * turn + number)
        remote = work.source.name

        def put(files: list[Path] = files, batch: int = batch, remote: str = remote) -> None:
            for first in range(0, len(files), batch):
                uploads = [
                    Upload(FileContent(str(file)), f"{remote}/{file.name}")
                    for file in files[first : first + batch]
                ]
                all_done(list(vault.put_files(uploads)), len(uploads))

        work.keep(op, meter.call(put, vault, sync=True), work.count, timed=timed)
    listed: list[object] = []
    work.keep(
        "library ls", meter.call(lambda: listed.extend(vault.ls(remote)), vault), work.count, timed=timed
    )
    if len(listed) != work.count:
        raise BenchError(f"W3: {len(listed)} files are listed, not {work.count}")
    for op, batch in GET_BATCHES.items():
        back = work.new_back()
        names = [file.name for file in files]

        def get(batch: int = batch, names: list[str] = names, back: Path = back) -> None:
            for first in range(0, len(names), batch):
                downloads = [
                    Download(f"{remote}/{name}", str(back / name)) for name in names[first : first + batch]
                ]
                all_done(list(vault.get_files(downloads)), len(downloads))

        work.keep(op, meter.call(get, vault), work.count, timed=timed)
        work.compare(back)


def report_all(work: Work, report: Report, floor_s: dict[int, float], at_rest: int) -> None:
    """Print a line for each operation; puts stand beside databases that commit as often."""
    for op, samples in work.samples.items():
        count = work.counts[op]
        batch = 1 if op.endswith("one by one") else 100 if op.endswith("64") else 500
        label = f"SQLite, {batch} a commit"
        report.add(
            "W3",
            op,
            samples,
            figure="files_s",
            size=0 if op.endswith("ls") else count * SMALL_SIZE,
            files=count,
            floor=(label, floor_s[batch] * count / work.count) if "put" in op else None,
            at_rest_bytes=at_rest if op == "put -r" else None,
            requests_per_file=round((samples[-1].request_count or 0) / count, 3),
        )
    report.end()


def measure(work: Work, cluster: Cluster, repeat: int) -> None:
    """Do all turns, the first only to warm up."""
    meter = Meter(cluster)
    for turn in range(repeat + 1):
        commands(work, meter, turn)
    parts: list[Callable[[Work, Vault, Meter, int], None]] = [one_by_one, batched]
    with open_cluster(str(cluster.conf), state=work.folder / "library") as vault:
        for part in parts:
            for turn in range(repeat + 1):
                part(work, vault, meter, turn)


def _run(options: argparse.Namespace) -> None:
    repeat = repeats(options, 2, 5)
    count = options.files or sizes(quick=options.quick).small_count
    with workshop(options) as folder:
        report = Report("small", options, folder)
        work = Work(folder, count, {}, {})
        floor_s = {
            batch: median(floors.commits_s(folder, count, batch, options.geometry, repeat))
            for batch in (1, 100, 500)
        }
        work.make(0)
        at_rest = stored_size(folder / "at-rest", options, "put", "-r", str(work.source))
        with Cluster(folder / "cluster", options) as cluster:
            measure(work, cluster, repeat)
        report_all(work, report, floor_s, at_rest)


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, limit_s=3600)
    parser.add_argument("--files", type=positive, metavar="N", help="how many; default: those of W3")
    return parser.parse_args()


if __name__ == "__main__":
    main(lambda: _run(_options()))
