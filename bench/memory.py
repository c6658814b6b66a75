"""How much memory client and nodes take: for files of 64 MiB to 8 GiB, and for 1, 8 and 64 connections.

The peak resident size of the client and of the largest node, and of all nodes together. Connections: so many
clients, each with one connection to every node, that store and fetch a file of their own all at once.

Run: python bench/memory.py [--quick] [--transport tls|tcp] [--geometry 2,4]
"""

import argparse
import filecmp
import sys
import threading
from pathlib import Path

from inputs import make_random
from lines import Report, significant
from rig import (
    MIB,
    PYTHON,
    BenchError,
    Cluster,
    Meter,
    Sample,
    command,
    forget_peak,
    main,
    make_parser,
    peak_mib,
    positive,
    workshop,
)

QUICK_SIZES = (64 * MIB, 1024 * MIB)
FULL_SIZES = (64 * MIB, 1024 * MIB, 8192 * MIB)
QUICK_CONNECTIONS = (1, 8)
FULL_CONNECTIONS = (1, 8, 64)
CONNECTED_SIZE = 32 * MIB  # what each of them stores
JOIN_S = 600.0


def large(folder: Path, cluster: Cluster, size: int, report: Report) -> None:
    """Put and get one file and tell the peaks."""
    meter = Meter(cluster)
    source, back = folder / "source", folder / "back"
    make_random(source, size, seed=size)
    for op, words in (("put", ("put", str(source))), ("get", ("get", source.name, "-o", str(back)))):
        sample = meter.command(*words)
        together = significant(sum(sample.peak_nodes_mib)) if sample.peak_nodes_mib else None
        report.add("client", op, [sample], size=size, rss_all_nodes_mib=together)
    if not filecmp.cmp(source, back, shallow=False):
        raise BenchError("the bytes that came back are others")
    back.unlink()
    source.unlink()


def crowd(conf: Path, state: Path, count: int, size: int) -> None:
    """Be so many clients in one process that work at the same time; any failure ends it with status 1."""
    import random
    from io import BytesIO

    from attrs import evolve

    from dfs.cluster import load_conf, open_cluster
    from dfs.core.errors import DfsError

    settings = evolve(load_conf(str(conf)), jobs=1)  # one chunk under way: one connection to each node
    vaults = [open_cluster(settings, state=state) for _ in range(count)]
    begin = threading.Barrier(count)
    vaults[0].mkdir("crowd")  # who makes it is not the question here, and only so many tries are made
    failed = dict.fromkeys(range(count), "other bytes, or none")

    def work(number: int) -> None:
        body, target = random.Random(number).randbytes(size), BytesIO()
        begin.wait()
        try:
            vaults[number].put(f"crowd/{number}", BytesIO(body))
            vaults[number].get(f"crowd/{number}", target)
        except DfsError as error:
            failed[number] = str(error)
        if target.getvalue() == body:
            del failed[number]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    for vault in vaults:
        vault.close()
    if failed:
        raise SystemExit(f"{len(failed)} clients did not get back what they stored: {failed}")


def connections(folder: Path, cluster: Cluster, count: int, size: int, report: Report) -> None:
    """Let a crowd work and tell the peaks of the nodes."""
    for pid in cluster.pids:
        forget_peak(pid)
    words = [*PYTHON, __file__, "crowd", str(cluster.conf), str(folder / "state"), str(count), str(size)]
    sample = Sample(command(words, cluster.environment).wall_s)
    sample.peak_nodes_mib = [peak for pid in cluster.pids if (peak := peak_mib(pid)) is not None]
    together = significant(sum(sample.peak_nodes_mib)) if sample.peak_nodes_mib else None
    op = f"{count} connection{'s' if count > 1 else ''}"
    report.add("nodes", op, [sample], size=count * size, files=count, rss_all_nodes_mib=together)


def _run() -> None:
    parser = make_parser(__doc__, limit_s=5400)
    parser.add_argument("--sizes", type=_numbers, metavar="MIB,MIB", help="of the files, not the usual ones")
    parser.add_argument("--connections", type=_numbers, metavar="N,N", help="how many, not the usual ones")
    options = parser.parse_args()
    with workshop(options) as folder:
        report = Report("memory", options, folder)
        for size in _sizes(options):
            with Cluster(folder / f"cluster{size}", options) as cluster:
                large(folder, cluster, size, report)
        for count in _connections(options):
            size = CONNECTED_SIZE // 4 if options.quick else CONNECTED_SIZE
            with Cluster(folder / f"connections{count}", options) as cluster:
                connections(folder, cluster, count, size, report)
        report.end()


def _sizes(options: argparse.Namespace) -> list[int]:
    if options.sizes:
        return [size * MIB for size in options.sizes]
    return list(QUICK_SIZES if options.quick else FULL_SIZES)


def _connections(options: argparse.Namespace) -> list[int]:
    if options.connections:
        return list(options.connections)
    return list(QUICK_CONNECTIONS if options.quick else FULL_CONNECTIONS)


def _numbers(text: str) -> list[int]:
    return [positive(word) for word in text.split(",")]


if __name__ == "__main__":
    if sys.argv[1:2] == ["crowd"]:
        crowd(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        main(_run)
