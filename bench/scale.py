"""How the cost grows: with the size of a file, the count of files, of names in a folder, of folders, of nodes
and of clients.

All through the library on an open connection, but for the clients, which are commands that work at the same
time, and for names, which `dfs ls` lists. Clients begin at once; `unfairness` is how many times as long the
last of them took as the first. --plots DIR also draws each as SVG. The bytes are compared outside the timed
part.

Run: python bench/scale.py [--quick] [--transport tls|tcp] [--repeat 3] [--largest N] [--plots DIR]
"""

import argparse
import filecmp
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define, field

from dfs.cluster import Cluster as Vault, Download, Upload, open_cluster
from dfs.core.local import BytesContent, FileContent
from dfs.core.quorum import default_geometry
from dfs.output import DEGRADED
from inputs import SMALL_SIZE, freshen, make_random, make_small
from lines import Report
from plot import svg
from rig import (
    GIB,
    KIB,
    MIB,
    BenchError,
    Cluster,
    Meter,
    Sample,
    all_done,
    command,
    main,
    make_parser,
    positive,
    repeats,
    workshop,
)

NODE_COUNTS = (1, 2, 3, 4, 6, 8, 16, 32)


@define
class Bench:
    """What the parts share. ``points``: what is drawn, by plot and series."""

    folder: Path
    options: argparse.Namespace
    report: Report
    repeat: int
    points: dict[str, dict[str, list[tuple[float, float]]]] = field(factory=dict)

    @property
    def quick(self) -> bool:
        """Whether inputs are small."""
        return bool(self.options.quick)

    def keep(
        self,
        kind: str,
        op: str,
        at: int,
        samples: list[Sample],
        size: int,
        files: int,
        **more: Any,  # noqa: ANN401 - whatever the line shall say
    ) -> None:
        """Report an operation at a place of the axis, and remember the point."""
        figure = "mb_s" if kind in {"bytes", "nodes", "clients"} else "files_s"
        label = f"{op}, {at:,}"
        self.report.add(kind, label, samples, figure=figure, size=size, files=files, at={kind: at}, **more)
        seconds = median(sample.wall_s for sample in samples)
        self.points.setdefault(kind, {}).setdefault(op, []).append((at, seconds))


def _put_get(
    vault: Vault, meter: Meter, source: Path, repeat: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Put and get one file so often, other bytes each time; once before to warm up, unless that is never."""
    back = source.with_suffix(".back")
    puts, gets = [], []
    for turn in range(repeat + 1):
        freshen(source, seed + turn)
        puts.append(meter.call(partial(vault.put, source.name, str(source)), vault))
        gets.append(meter.call(partial(vault.get, source.name, str(back)), vault))
        if not filecmp.cmp(source, back, shallow=False):
            raise BenchError("the bytes that came back are others")
        back.unlink()
    return puts[bool(repeat) :], gets[bool(repeat) :]


def by_size(bench: Bench) -> None:
    """Files from 1 KiB to 8 GiB."""
    exponents = range(0, 17, 4) if bench.quick else (*range(0, 21, 2), 23)
    with Cluster(bench.folder / "sizes", bench.options) as cluster:
        meter, source = Meter(cluster), bench.folder / "source"
        with open_cluster(str(cluster.conf), state=bench.folder / "library") as vault:
            for number, exponent in enumerate(exponents):
                size = KIB << exponent
                make_random(source, size)
                repeat = bench.repeat if size <= GIB else 0
                puts, gets = _put_get(vault, meter, source, repeat, 100 * number)
                bench.keep("bytes", "put", size, puts, size=size, files=1)
                bench.keep("bytes", "get", size, gets, size=size, files=1)


def by_count(bench: Bench) -> None:
    """Folders of 4 KiB files from 1 to 100,000."""
    counts = [1, 10, 100] if bench.quick else _up_to(bench, (1, 10, 100, 1000, 10_000, 100_000))
    with Cluster(bench.folder / "counts", bench.options) as cluster:
        meter = Meter(cluster)
        with open_cluster(str(cluster.conf), state=bench.folder / "library") as vault:
            for count in counts:
                samples: dict[str, list[Sample]] = {"put": [], "ls": [], "get": []}
                for turn in range(bench.repeat):
                    make_small(bench.folder / "many", count, seed=1000 * count + turn)
                    _files_turn(vault, bench.folder / "many", f"{count}.{turn}", samples, meter)
                for op, each in samples.items():
                    bench.keep("files", op, count, each, size=count * SMALL_SIZE, files=count)


def _files_turn(
    vault: Vault,
    source: Path,
    remote: str,
    samples: dict[str, list[Sample]],
    meter: Meter,
) -> None:
    """Put, list and get the files of a folder, and compare them."""
    files = sorted(source.iterdir())
    back = source.with_name(f"{remote}.back")  # stays: where files were just removed, new ones take long
    back.mkdir()
    uploads = [Upload(FileContent(str(file)), f"{remote}/{file.name}") for file in files]
    downloads = [Download(f"{remote}/{file.name}", str(back / file.name)) for file in files]
    samples["put"].append(meter.call(lambda: all_done(vault.put_files(uploads), len(files)), vault))
    samples["ls"].append(meter.call(lambda: vault.ls(remote), vault))
    samples["get"].append(meter.call(lambda: all_done(vault.get_files(downloads), len(files)), vault))
    _, other, failed = filecmp.cmpfiles(source, back, [file.name for file in files], shallow=False)
    if other or failed:
        raise BenchError("files that came back are others")


def by_nodes(bench: Bench) -> None:
    """One file on clusters of 1 to 32 nodes, each at the geometry dfs takes for so many."""
    size = 8 * MIB if bench.quick else 256 * MIB
    counts = [count for count in NODE_COUNTS if count <= (8 if bench.quick else 32)]
    source = bench.folder / "source"
    make_random(source, size)
    for number, count in enumerate(counts):
        geometry = default_geometry(count)
        options = argparse.Namespace(**{**vars(bench.options), "geometry": (geometry.needed, geometry.total)})
        with Cluster(bench.folder / f"nodes{count}", options, count=count) as cluster:
            state = bench.folder / f"library{count}"
            with open_cluster(str(cluster.conf), state=state) as vault:
                puts, gets = _put_get(vault, Meter(cluster), source, bench.repeat, 1000 + 100 * number)
        bench.keep("nodes", "put", count, puts, size=size, files=1)
        bench.keep("nodes", "get", count, gets, size=size, files=1)


def _tiny(vault: Vault, paths: Sequence[str]) -> None:
    """Store a few bytes under each path."""
    for first in range(0, len(paths), 1000):
        part = [Upload(BytesContent(path.encode(), 0), path) for path in paths[first : first + 1000]]
        all_done(vault.put_files(part), len(part))


def by_names(bench: Bench) -> None:
    """List folders with 100 names and more, each file so small that it lies in its entry."""
    with Cluster(bench.folder / "names", bench.options) as cluster:
        meter = Meter(cluster)
        for count in _up_to(bench, (100, 1000, 10_000, 100_000)):
            with open_cluster(str(cluster.conf), state=bench.folder / "library") as vault:
                _tiny(vault, [f"{count}/{number:06}" for number in range(count)])
            samples = [meter.command("ls", str(count)) for _ in range(bench.repeat + 1)][1:]
            bench.keep("names", "ls", count, samples, size=0, files=count)


def by_folders(bench: Bench) -> None:
    """List one folder of a thousand names beside no other folder and more; it is one of those told."""
    made = 0
    with Cluster(bench.folder / "folders", bench.options) as cluster:
        meter = Meter(cluster)
        with open_cluster(str(cluster.conf), state=bench.folder / "library") as vault:
            _tiny(vault, [f"one/{number}" for number in range(1000)])
            for count in _up_to(bench, (0, 100, 1000, 10_000)):
                _tiny(vault, [f"other{number}/file" for number in range(made, count)])
                made = count
                samples = [meter.call(lambda: vault.ls("one"), vault) for _ in range(2 + bench.repeat)][2:]
                bench.keep("folders", "ls", 1 + count, samples, size=0, files=1000)


def _up_to(bench: Bench, counts: Sequence[int]) -> list[int]:
    bound = min(bench.options.largest, 1000) if bench.quick else bench.options.largest
    return [count for count in counts if count <= bound]


def by_clients(bench: Bench) -> None:
    """Commands that store and fetch a file each, 1 to 64 at a time; how long all of them take."""
    size = 4 * MIB if bench.quick else 16 * MIB
    with Cluster(bench.folder / "clients", bench.options) as cluster:
        for count in (1, 2, 4, 8, 16, 32, 64):
            puts, gets = _Crowd(), _Crowd()
            for turn in range(bench.repeat):
                sources = [bench.folder / f"client{number}" for number in range(count)]
                for number, source in enumerate(sources):
                    make_random(source, size, seed=10_000 * count + 100 * turn + number)
                puts.add(_at_once(cluster, [("put", str(source)) for source in sources]))
                backs = [source.with_suffix(".back") for source in sources]
                words = [
                    ("get", source.name, "-o", str(back)) for source, back in zip(sources, backs, strict=True)
                ]
                gets.add(_at_once(cluster, words))
                for source, back in zip(sources, backs, strict=True):
                    if not filecmp.cmp(source, back, shallow=False):
                        raise BenchError("the bytes that came back are others")
            for op, crowd in (("put", puts), ("get", gets)):
                told = {"unfairness": crowd.unfairness, "degraded": crowd.degraded}
                bench.keep("clients", op, count, crowd.samples, count * size, count, **told)


@define
class _Crowd:
    """Clients at once: how long all took, turn by turn, and the worst of last / first.

    ``degraded``: how many of them stored their file on fewer nodes, because one did not answer in time.
    """

    samples: list[Sample] = field(factory=list)
    unfairness: float = 1.0
    degraded: int = 0

    def add(self, ended: Sequence[tuple[float, bool]]) -> None:
        """Note one turn."""
        times_s = [time_s for time_s, _ in ended]
        self.degraded += sum(degraded for _, degraded in ended)
        self.samples.append(Sample(max(times_s)))
        self.unfairness = max(self.unfairness, round(max(times_s) / min(times_s), 2))


def _at_once(cluster: Cluster, jobs: Sequence[Sequence[str]]) -> list[tuple[float, bool]]:
    """Run commands side by side, and return how long each took, and whether it ended degraded."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(partial(_timed_command, cluster, time.perf_counter()), jobs))


def _timed_command(cluster: Cluster, started_s: float, words: Sequence[str]) -> tuple[float, bool]:
    ended = command(cluster.client(*words), cluster.environment, accept=(0, DEGRADED))
    return time.perf_counter() - started_s, "degraded" in ended.told


PARTS = {
    "bytes": by_size,
    "files": by_count,
    "names": by_names,
    "folders": by_folders,
    "nodes": by_nodes,
    "clients": by_clients,
}


def _run() -> None:
    parser = make_parser(__doc__, limit_s=7200)
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw bytes.svg, files.svg and so on")
    parser.add_argument("--only", choices=list(PARTS), help="one of these")
    parser.add_argument(
        "--largest", type=positive, default=100_000, metavar="N", help="no more files, names and folders"
    )
    options = parser.parse_args()
    with workshop(options) as folder:
        bench = Bench(folder, options, Report("scale", options, folder), repeats(options, 1, 3))
        for name, part in PARTS.items():
            if options.only in {None, name}:
                part(bench)
        bench.report.end()
        if options.plots is not None:
            options.plots.mkdir(parents=True, exist_ok=True)
            for kind, series in bench.points.items():
                picture = svg(f"dfs, {options.transport}: seconds against {kind}", kind, "seconds", series)
                (options.plots / f"{kind}.svg").write_text(picture)


if __name__ == "__main__":
    main(_run)
