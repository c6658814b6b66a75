"""The same works with whatever else is installed: W1, W2, W3 and W6 by cp, rclone, restic, a mount.

dfs itself stands in the same table. A peer that is not installed is skipped with a line. What a peer
encrypts, how it keeps copies and whether it waits for the disk differs: docs/performance.md says what to
set beside what.

--mount NAME=DIR        a folder of a mounted file system: cp into it, then `sync` of what was written
--command NAME PUT GET  any two commands, with {source}, {name} and {target} in them

Run: python bench/peers.py [--quick] [--only cp,restic] [--mount nfs=/mnt/nfs]
     python bench/peers.py --command s3 'aws s3 cp {source} s3://b/{name}' 'aws s3 cp s3://b/{name} {target}'
"""

import argparse
import filecmp
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field, frozen

from inputs import SEED, digest, freshen, make_random, make_small, make_sources, make_tiny, sizes
from lines import Report
from rig import BenchError, Cluster, Sample, command, environment, main, make_parser, repeats, workshop

Words = Sequence[str]


@frozen
class Peer:
    """How a system stores and fetches: lists of commands. ``listing``: of a folder; None: not compared."""

    name: str
    put: Callable[[Path, str], Sequence[Words]]
    get: Callable[[str, Path], Sequence[Words]]
    listing: Callable[[str], Sequence[Words]] | None = None
    folders: bool = True
    came_back: Callable[[Path, Path], Path] = lambda _source, target: target
    environment: dict[str, str] = field(factory=dict)


@define
class Bench:
    """What the peers work with."""

    folder: Path
    report: Report
    repeat: int
    quick: bool
    environment: dict[str, str]
    skipped: list[str] = field(factory=list)
    count: int = 0  # of targets so far


# --- Peers --------------------------------------------------------------------------------------------------


def folder_peer(name: str, folder: Path, *, durable: bool) -> Peer:
    """Return a peer that copies into a folder. ``durable``: and waits until it is on disk there."""

    def put(source: Path, label: str) -> Sequence[Words]:
        copy = ["cp", "-rT", str(source), str(folder / label)]
        return [copy, ["sync", "-f", str(folder / label)]] if durable else [copy]

    return Peer(
        name,
        put,
        lambda label, target: [["cp", "-rT", str(folder / label), str(target)]],
        lambda label: [["ls", "-l", str(folder / label)]],
    )


def rclone(folder: Path, environ: dict[str, str]) -> Peer:
    """Return rclone with its crypt over a local folder: encrypted by the client, one copy, not durable."""
    obscured = command(["rclone", "obscure", "a fair password"], environ).output.strip()
    conf = folder / "rclone.conf"
    conf.write_text(f"[peer]\ntype = crypt\nremote = {folder / 'rclone'}\npassword = {obscured}\n")
    first = ["rclone", "--config", str(conf)]

    def put(source: Path, label: str) -> Sequence[Words]:
        return [[*first, "copy" if source.is_dir() else "copyto", str(source), f"peer:{label}"]]

    def get(label: str, target: Path) -> Sequence[Words]:
        verb = "copy" if label == "W3" else "copyto"
        return [[*first, verb, f"peer:{label}", str(target)]]

    return Peer("rclone crypt, local", put, get, lambda label: [[*first, "lsl", f"peer:{label}"]])


def restic(folder: Path, environ: dict[str, str]) -> Peer:
    """Return restic with a local repository: encrypted by the client, one copy, compressed."""
    own = {"RESTIC_PASSWORD": "a fair password", "RESTIC_REPOSITORY": str(folder / "restic")}
    command(["restic", "init"], {**environ, **own})
    return Peer(
        "restic, local",
        lambda source, label: [["restic", "backup", "--tag", label, str(source)]],
        lambda label, target: [["restic", "restore", "latest", "--tag", label, "--target", str(target)]],
        lambda label: [["restic", "ls", "latest", "--tag", label]],
        came_back=lambda source, target: target / str(source).lstrip("/"),
        environment=own,
    )


def template_peer(name: str, put: str, get: str) -> Peer:
    """Return a peer of two commands as people write them."""

    def filled(template: str, **values: str) -> Sequence[Words]:
        return [[word.format(**values) for word in shlex.split(template)]]

    return Peer(
        name,
        lambda source, label: filled(put, source=str(source), name=label, target=""),
        lambda label, target: filled(get, source="", name=label, target=str(target)),
        folders=False,
    )


def dfs_peer(cluster: Cluster) -> Peer:
    """Return dfs: encrypted by the client, any k of n nodes are enough, durable."""

    def put(source: Path, label: str) -> Sequence[Words]:
        if source.is_dir():  # into the root: with --to, a folder that is there would get another in it
            return [cluster.client("put", "-r", str(source))]
        return [cluster.client("put", str(source), "--to", label)]

    def get(label: str, target: Path) -> Sequence[Words]:
        if label == "W3":
            target.mkdir()
            return [cluster.client("get", "-r", label, "-o", str(target))]
        return [cluster.client("get", label, "-o", str(target))]

    needed, total = cluster.geometry
    return Peer(
        f"dfs, {cluster.transport}, {needed} of {total}",
        put,
        get,
        lambda label: [cluster.client("ls", "-l", label)],
        came_back=lambda source, target: target / source.name if source.is_dir() else target,
    )


# --- Works --------------------------------------------------------------------------------------------------


def performed(bench: Bench, peer: Peer, jobs: Sequence[Words]) -> Sample:
    """Run the commands of one operation; what servers of a peer use is not seen."""
    sample = Sample(cpu_client_s=0.0)
    for words in jobs:
        ended = command(words, {**bench.environment, **peer.environment}, cwd=bench.folder)
        sample.wall_s += ended.wall_s
        sample.cpu_client_s = (sample.cpu_client_s or 0.0) + ended.cpu_s
        sample.peak_client_mib = ended.peak_mib
    return sample


def same(left: Path, right: Path) -> bool:
    """Whether two files, or the files of two folders, are the same."""
    if left.is_dir():
        return right.is_dir() and digest(left) == digest(right)
    return right.is_file() and filecmp.cmp(left, right, shallow=False)


def one_work(bench: Bench, peer: Peer, source: Path, renew: Callable[[int], object]) -> None:
    """Put and get one input so often, other bytes each time, and compare."""
    label = source.name
    samples: dict[str, list[Sample]] = {}
    files = list(source.iterdir()) if source.is_dir() else [source]
    size = sum(file.stat().st_size for file in files)
    for turn in range(bench.repeat + 1):
        renew(turn)
        target = bench.folder / f"back-{bench.count}"
        bench.count += 1
        puts = performed(bench, peer, peer.put(source, label))
        gets = performed(bench, peer, peer.get(label, target))
        if not same(source, peer.came_back(source, target)):
            raise BenchError(f"{peer.name}, {label}: the bytes that came back are others")
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        if turn:
            samples.setdefault("put", []).append(puts)
            samples.setdefault("get", []).append(gets)
            if source.is_dir() and peer.listing is not None:
                samples.setdefault("ls", []).append(performed(bench, peer, peer.listing(label)))
    for op, each in samples.items():
        figure = {"W3": "files_s", "W6": "ms"}.get(label, "mb_s")
        bench.report.add(
            label,
            f"{op}: {peer.name}",
            each,
            figure=figure,
            size=size,
            files=len(files),
            variant={"peer": peer.name},
        )


def works(bench: Bench, peer: Peer) -> None:
    """Do W1, W2, W3 and W6 with a peer."""
    wanted, folder = sizes(quick=bench.quick), bench.folder
    for name in ("W1", "W2"):
        path = folder / name

        def renew(turn: int, path: Path = path) -> None:
            freshen(path, turn)

        one_work(bench, peer, path, renew)
    if peer.folders:
        count = wanted.small_count
        one_work(bench, peer, folder / "W3", lambda turn: make_small(folder / "W3", count, seed=SEED + turn))
    one_work(bench, peer, folder / "W6", lambda _turn: make_tiny(folder / "W6"))


def peers(bench: Bench, options: argparse.Namespace, stack: ExitStack) -> Iterator[Peer]:
    """Yield the peers that are here, and note which are not."""
    only = set(options.only.split(",")) if options.only else None
    local = bench.folder / "local"
    local.mkdir()
    makers: dict[str, Callable[[], Peer]] = {
        "dfs": lambda: dfs_peer(stack.enter_context(Cluster(bench.folder / "cluster", options))),
        "cp": lambda: folder_peer("cp", local, durable=False),
        "rclone": lambda: rclone(bench.folder, bench.environment),
        "restic": lambda: restic(bench.folder, bench.environment),
    }
    for name, make in makers.items():
        if only is not None and name not in only:
            continue
        if name != "dfs" and shutil.which(name) is None:
            bench.skipped.append(f"skipped: {name} is not installed")
            continue
        yield make()
    for text in options.mount:
        name, _, path = text.partition("=")
        if not Path(path).is_dir() or not os.access(path, os.W_OK):
            bench.skipped.append(f"skipped: {name}: {path or text!r} is no folder that can be written")
            continue
        own = Path(path) / f"dfs-bench-{os.getpid()}"
        own.mkdir()
        stack.callback(shutil.rmtree, own, ignore_errors=True)
        yield folder_peer(f"{name}, cp and sync", own, durable=True)
    for name, put, get in options.command:
        yield template_peer(name, put, get)


def _run() -> None:
    parser = make_parser(__doc__, limit_s=2 * 3600)
    parser.add_argument("--only", metavar="NAME,NAME", help="of dfs, cp, rclone and restic only these")
    parser.add_argument("--mount", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--command", action="append", default=[], nargs=3, metavar=("NAME", "PUT", "GET"))
    options = parser.parse_args()
    wanted = sizes(quick=options.quick)
    with workshop(options) as folder, ExitStack() as stack:
        report = Report("peers", options, folder, bare=True)
        bench = Bench(folder, report, repeats(options, 1, 3), options.quick, environment(folder))
        make_random(folder / "W1", wanted.random)
        make_sources(folder / "W2", wanted.sources)
        make_small(folder / "W3", wanted.small_count)
        make_tiny(folder / "W6")
        for peer in peers(bench, options, stack):
            try:
                works(bench, peer)
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                bench.skipped.append(f"failed: {peer.name}: {error}")
        report.end()
        print("", *bench.skipped, sep="\n")
    if any(line.startswith("failed") for line in bench.skipped):
        raise BenchError("not every peer gave back what it was given")


if __name__ == "__main__":
    main(_run)
