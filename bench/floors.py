"""What this machine gives without dfs: the floors that all other programs put beside their figures.

cp of a file; n processes that append the share bytes of a file, to new and to reused space; n SQLite
databases that commit the rows of small files; a bare Python; ping and bulk over TCP and TLS. Other programs
call the same functions, so that a figure and its floor are of the same minute.

Run: python bench/floors.py [--quick] [--size MIB] [--geometry 2,4] [--repeat 5]
"""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from inputs import SMALL_SIZE, freshen, make_random, sizes
from lines import Report
from rig import (
    MIB,
    OWN_FOLDER,
    PYTHON,
    BenchError,
    Sample,
    command,
    environment,
    main,
    make_parser,
    positive,
    repeats,
    workshop,
)
from workers import FRAME_SIZE, HEAD, PING_SIZE, receive

WORKERS = OWN_FOLDER / "workers.py"
SHARE_ROW_SIZE = 80  # bytes of a row beside the share itself
SEAL_SIZE = 16
GO_S = 60.0


# --- Processes that begin at the same moment ----------------------------------------------------------------


def race(jobs: Sequence[Sequence[str]]) -> float:
    """Return the seconds that several workers take, started and then set off together."""
    with ExitStack() as stack:
        workers = []
        for job in jobs:
            worker = subprocess.Popen(
                [*PYTHON, str(WORKERS), *job], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(_end, worker)
            workers.append(worker)
        for worker in workers:
            _expect(worker, "ready")
        started_s = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            _expect(worker, "done")
        return time.perf_counter() - started_s


def _expect(worker: "subprocess.Popen[str]", word: str) -> None:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if line != f"{word}\n":
        raise BenchError(f"a worker of a floor said {line!r}, not {word}")


def _end(worker: "subprocess.Popen[str]") -> None:
    if worker.poll() is None:
        worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            pipe.close()


# --- Disk ---------------------------------------------------------------------------------------------------


def copy_s(source: Path, repeat: int, *, cold: bool = False) -> list[float]:
    """Return seconds of `cp` to a new file; warm: a copy was made and removed before."""
    target, times = source.with_name(f"{source.name}.copy"), []
    for turn in range(repeat if cold else repeat + 1):
        path = target.with_name(f"{target.name}{turn}") if cold else target
        seconds = command(["cp", str(source), str(path)], dict(os.environ)).wall_s
        if cold or turn:
            times.append(seconds)
        if not cold:
            path.unlink()
    for turn in range(repeat if cold else 0):
        target.with_name(f"{target.name}{turn}").unlink()
    return times


def append_s(
    folder: Path,
    size: int,
    geometry: tuple[int, int],
    repeat: int,
    *,
    reused: bool = False,
    cold: bool = False,
) -> list[float]:
    """Return seconds in which n processes append the share bytes of a file of ``size`` and have them durable.

    ``reused``: into files that have the space already. ``cold``: to pages this machine never touched before.
    """
    needed, total = geometry
    times = []
    for turn in range(repeat if cold else repeat + 1):
        paths = [folder / f"floor{turn if cold else 0}.{number}" for number in range(total)]
        seconds = race([["append", str(path), str(-(-size // needed))] for path in paths])
        if cold or turn:
            times.append(seconds)
        if not reused and not cold:
            for path in paths:
                path.unlink()
    for path in folder.glob("floor*.*"):
        path.unlink()
    return times


def commits_s(folder: Path, count: int, batch: int, geometry: tuple[int, int], repeat: int) -> list[float]:
    """Return seconds in which n SQLite databases commit the rows of ``count`` files of 4 KiB."""
    needed, total = geometry
    share_size = -(-(SMALL_SIZE + SEAL_SIZE) // needed) + SHARE_ROW_SIZE
    times = []
    for turn in range(repeat + 1):
        paths = [str(folder / f"rows.{number}") for number in range(total)]
        seconds = race([["sqlite", path, str(count), str(batch), str(share_size)] for path in paths])
        if turn:
            times.append(seconds)
        for path in folder.glob("rows.*"):
            path.unlink()
    return times


def bare_start_s(environ: dict[str, str], repeat: int) -> list[float]:
    """Return seconds of a Python that does nothing."""
    return [command([*PYTHON, "-c", "pass"], environ).wall_s for _ in range(repeat + 1)][1:]


# --- Network ------------------------------------------------------------------------------------------------


@contextmanager
def connected(transport: str, folder: Path) -> Iterator[socket.socket]:
    """Yield a connection to a process that answers pings and takes bulk, plain or over TLS 1.3."""
    words = [*PYTHON, str(WORKERS), "answer", transport, str(folder)]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline() or 0)
        with socket.create_connection(("127.0.0.1", port), GO_S) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if transport == "tcp":
                yield plain
                return
            context = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
            context.check_hostname = False
            with context.wrap_socket(plain) as secured:
                yield secured
    finally:
        _end(server)


def exchange_s(connection: socket.socket, frame_size: int, count: int) -> list[float]:
    """Return the seconds of each frame that was sent and answered."""
    frame = HEAD.pack(frame_size) + bytes(frame_size)
    reply, times = memoryview(bytearray(PING_SIZE)), []
    for _ in range(count):
        started_s = time.perf_counter()
        connection.sendall(frame)
        if not receive(connection, reply):
            raise BenchError("the other end of a floor went away")
        times.append(time.perf_counter() - started_s)
    return times


def ping_s(transport: str, folder: Path, count: int) -> list[float]:
    """Return the seconds of 64 bytes there and back."""
    with connected(transport, folder) as connection:
        return exchange_s(connection, PING_SIZE, count + 10)[10:]


def bulk_s(transport: str, folder: Path, size: int, repeat: int) -> list[float]:
    """Return the seconds of ``size`` bytes in frames of 2 MiB, each answered."""
    count = max(1, size // FRAME_SIZE)
    with connected(transport, folder) as connection:
        return [sum(exchange_s(connection, FRAME_SIZE, count)) for _ in range(repeat + 1)][1:]


# --- The program --------------------------------------------------------------------------------------------


def samples(times: Sequence[float]) -> list[Sample]:
    """Return wall times as samples."""
    return [Sample(wall_s=each) for each in times]


def _disk(report: Report, folder: Path, size: int, geometry: tuple[int, int], repeat: int) -> None:
    source = folder / "source"
    make_random(source, size)
    freshen(source, 0)
    report.add("floor", "cp", samples(copy_s(source, repeat)), size=size)
    for reused in (False, True):
        times = append_s(folder, size, geometry, repeat, reused=reused)
        op = f"append shares, {'reused' if reused else 'new'} space"
        report.add("floor", op, samples(times), size=size)


def _network(report: Report, folder: Path, size: int, ping_count: int, repeat: int) -> None:
    for transport in ("tcp", "tls"):
        pings = samples(ping_s(transport, folder, ping_count))
        report.add("floor", f"{transport} ping", pings, figure="ms", variant={"transport": transport})
        bulk = samples(bulk_s(transport, folder, size, repeat))
        bulk_size = max(1, size // FRAME_SIZE) * FRAME_SIZE
        report.add("floor", f"{transport} bulk", bulk, size=bulk_size, variant={"transport": transport})


def _run() -> None:
    parser = make_parser(__doc__, limit_s=1800)
    parser.add_argument("--size", type=positive, metavar="MIB", help="of the large file; default: that of W1")
    parser.add_argument("--files", type=positive, metavar="N", help="small files; default: those of W3")
    options = parser.parse_args()
    wanted, repeat = sizes(quick=options.quick), repeats(options, 2, 5)
    size = options.size * MIB if options.size else wanted.random
    count = options.files or wanted.small_count
    with workshop(options) as folder:
        report = Report("floors", options, folder, bare=True)
        _disk(report, folder, size, options.geometry, repeat)
        for batch in (1, 100, 500):
            times = commits_s(folder, count, batch, options.geometry, repeat)
            op = f"{options.geometry[1]} SQLite, {batch} a commit"
            report.add("floor", op, samples(times), figure="files_s", files=count)
        starts = bare_start_s(environment(folder), 7 if options.quick else 31)
        report.add("floor", "bare Python", samples(starts), figure="ms")
        _network(report, folder, size, 200 if options.quick else 5000, repeat)
        report.end()


def middle(name: str, times: Sequence[float]) -> tuple[str, float]:
    """Return a floor as a report wants it."""
    return name, median(times)


if __name__ == "__main__":
    main(_run)
