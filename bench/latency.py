"""How long one small operation takes: on an open connection, as a whole command, and while a node hangs.

Inside the library: ping, a durable put and a get of 100 bytes and of 4 KiB, `ls` of a folder with 2,000
files. As commands (W6): put, get and ls with a key file, ls with a password. One node stopped by SIGSTOP:
the first put and get that meet it, from an open connection and as commands. Apart: deriving a password,
connecting, the handshake of TLS. The floor of commands is a bare Python, of the rest 64 bytes there and
back or one commit.

Run: python bench/latency.py [--quick] [--transport tls|tcp] [--geometry 2,4] [--repeat 30]
"""

import argparse
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median

from attrs import define

import floors
from dfs.cluster import Cluster as Vault, Upload, client_options, load_conf, make_registry, open_cluster
from dfs.core import messages
from dfs.core.client import Client
from dfs.core.credentials import LoginSecret
from dfs.core.effects import Send, ask
from dfs.core.env import RealEnv
from dfs.core.interface import TransportOptions
from dfs.core.keys import KdfParameters, password_secret
from dfs.core.local import BytesContent
from inputs import SEED, SMALL_SIZE, make_tiny, sizes
from lines import Report
from rig import (
    DFS,
    KIB,
    PASSWORD,
    USER,
    BenchError,
    Cluster,
    Meter,
    command,
    main,
    make_parser,
    repeats,
    timed,
    workshop,
)

SIZES = {"100 B": 100, "4 KiB": 4 * KIB}
HANG_COUNT = 5
CONNECT_S = 10.0


@define
class Floors:
    """Floors of this run in seconds."""

    start_s: float
    ping_s: float
    commit_s: float


@define
class Bench:
    """What a part of the program works with. ``count``: timed runs of each operation."""

    folder: Path
    cluster: Cluster
    report: Report
    floors: Floors
    count: int
    quick: bool

    @property
    def state(self) -> Path:
        """Where the library remembers nodes."""
        return self.folder / "library"

    def add(self, work: str, op: str, times: list[float], floor: tuple[str, float] | None = None) -> None:
        """Report wall times."""
        self.report.add(work, op, floors.samples(times), figure="ms", floor=floor)

    def each(self, work: Callable[[], object], *, warm: int = 3) -> list[float]:
        """Return the wall seconds of so many calls after some that warm up."""
        return [timed(work) for _ in range(self.count + warm)][warm:]


# --- On an open connection ----------------------------------------------------------------------------------


def pings(bench: Bench) -> None:
    """Ask one node, and all at once, for nothing."""
    conf = load_conf(str(bench.cluster.conf))
    secret = LoginSecret(conf, conf.user or "")
    client = Client(client_options(conf, make_registry(conf), bench.state, secret))
    try:
        opened = client.open()
        nodes = [node.node_id for node in opened.vault.roster.nodes]

        def ping(count: int) -> None:
            answers = client.run(ask([Send(node, node, messages.Ping()) for node in nodes[:count]]))
            if len(answers.replies) != count:
                raise BenchError(f"a node did not answer a ping: {answers.errors}")

        floor = (f"{bench.cluster.transport} ping", bench.floors.ping_s)
        bench.add("open", "ping", bench.each(partial(ping, 1), warm=10), floor)
        bench.add("open", "ping, all nodes", bench.each(partial(ping, len(nodes)), warm=10), floor)
    finally:
        client.close()


def on_open(bench: Bench, vault: Vault) -> None:
    """Put and get through the library, then list a folder."""
    chance = random.Random(SEED)
    for label, size in SIZES.items():
        bodies = [chance.randbytes(size) for _ in range(bench.count + 3)]
        puts = [timed(partial(vault.put, "tiny", BytesIO(body))) for body in bodies][3:]
        targets = [BytesIO() for _ in bodies]
        gets = [timed(partial(vault.get, "tiny", target)) for target in targets][3:]
        if any(target.getvalue() != bodies[-1] for target in targets):
            raise BenchError("the bytes that came back are others")
        bench.add("open", f"put {label}", puts, ("SQLite commit", bench.floors.commit_s))
        bench.add("open", f"get {label}", gets, ("ping", bench.floors.ping_s))
    count = sizes(quick=bench.quick).small_count
    body = chance.randbytes(SMALL_SIZE)
    outcomes = vault.put_files([Upload(BytesContent(body, 0), f"folder/{number}") for number in range(count)])
    listed = vault.ls("folder")
    if len(listed) != count or any(isinstance(outcome, Exception) for outcome in outcomes):
        raise BenchError(f"{len(listed)} files are listed, not {count}")
    bench.add("open", "ls", bench.each(lambda: vault.ls("folder")), ("ping", bench.floors.ping_s))


# --- As commands --------------------------------------------------------------------------------------------


def one_shot(bench: Bench) -> None:
    """Time whole commands of 100 bytes (W6), and of a listing."""
    source, target = bench.folder / "W6", bench.folder / "back"
    make_tiny(source)
    meter = Meter(bench.cluster)
    floor = ("bare Python", bench.floors.start_s)
    jobs: dict[str, tuple[str, ...]] = {
        "put": ("put", str(source)),
        "get": ("get", source.name, "-o", str(target)),
        "ls": ("ls",),
    }
    for op, words in jobs.items():
        samples = [meter.command(*words) for _ in range(bench.count + 1)][1:]
        bench.report.add("W6", op, samples, figure="ms", files=1, floor=floor)
    if target.read_bytes() != source.read_bytes():
        raise BenchError("W6: the bytes that came back are others")
    words = (*DFS, "--conf", str(bench.cluster.password_conf), "--transport", bench.cluster.transport, "ls")

    def with_password() -> None:
        command(words, bench.cluster.environment)

    bench.add("W6", "ls, with a password", bench.each(with_password, warm=1), floor)


# --- While a node hangs -------------------------------------------------------------------------------------


def hanging(bench: Bench) -> None:
    """Stop one node and time the first operations that meet it; each time from a fresh connection."""
    cluster, body = bench.cluster, random.Random(SEED).randbytes(4 * KIB)
    times: dict[str, list[float]] = {}
    source = bench.folder / "hang"
    source.write_bytes(body)
    for turn in range(HANG_COUNT):
        with open_cluster(str(cluster.conf), state=bench.state) as vault:
            vault.put("hang", BytesIO(body))
            cluster.signal(turn % len(cluster.nodes), signal.SIGSTOP)
            try:
                back = BytesIO()
                _note(times, "get, open", partial(vault.get, "hang", back))
                _note(times, "put, open", partial(vault.put, "hang", BytesIO(body[::-1])))
                _note(times, "put after it, open", partial(vault.put, "hang", BytesIO(body)))
                _note(times, "put, command", partial(_degraded, cluster, "put", str(source)))
                target = ("-o", str(bench.folder / "back"))
                _note(times, "get, command", partial(_degraded, cluster, "get", "hang", *target))
            finally:
                cluster.signal(turn % len(cluster.nodes), signal.SIGCONT)
            if back.getvalue() != body:
                raise BenchError("the bytes that came back are others")
    for op, each in times.items():
        bench.add("one node hangs", op, each)


def _note(times: dict[str, list[float]], op: str, work: Callable[[], object]) -> None:
    times.setdefault(op, []).append(timed(work))


def _degraded(cluster: Cluster, *words: str) -> None:
    command(cluster.client(*words), cluster.environment, accept=(0, 3))


# --- Parts of a start ---------------------------------------------------------------------------------------


def parts(bench: Bench) -> None:
    """Time what a first connection costs: the derivation of a password, connecting, the handshake."""
    kdf = KdfParameters()
    derive = partial(password_secret, PASSWORD.encode(), "dfs", USER, kdf)
    bench.add("apart", "Argon2id of a password", [timed(derive) for _ in range(min(bench.count, 10))])
    conf = load_conf(str(bench.cluster.conf))
    transport = (
        make_registry(conf).get("dfs_transports", bench.cluster.transport).plugin.make(TransportOptions())
    )
    env, address = RealEnv(), bench.cluster.nodes[0].address
    connects, handshakes = [], []
    for _ in range(bench.count + 3):
        started_s = time.perf_counter()
        stream = transport.connect(address, env.monotonic_s() + CONNECT_S)
        connected_s = time.perf_counter()
        stream.handshake(env.monotonic_s() + CONNECT_S)
        handshakes.append(time.perf_counter() - connected_s)
        connects.append(connected_s - started_s)
        stream.close()
    bench.add("apart", "connect", connects[3:])
    bench.add("apart", f"{bench.cluster.transport} handshake", handshakes[3:])


def measure_floors(folder: Path, options: argparse.Namespace, environ: dict[str, str], count: int) -> Floors:
    """Measure the floors of this run."""
    commit_count = 20 if options.quick else 200
    commits = floors.commits_s(folder, commit_count, 1, options.geometry, 3)
    return Floors(
        start_s=median(floors.bare_start_s(environ, min(count, 31))),
        ping_s=median(floors.ping_s(options.transport, folder, 1000)),
        commit_s=median(commits) / commit_count,
    )


def _run() -> None:
    options = make_parser(__doc__, limit_s=1800).parse_args()
    count = repeats(options, 10, 100)
    with workshop(options) as folder:
        report = Report("latency", options, folder)
        with Cluster(folder / "cluster", options, password=True) as cluster:
            found = measure_floors(folder, options, cluster.environment, count)
            bench = Bench(folder, cluster, report, found, count, options.quick)
            with open_cluster(str(cluster.conf), state=bench.state) as vault:
                on_open(bench, vault)
            pings(bench)
            one_shot(bench)
            parts(bench)
            if options.geometry[1] > 2:
                hanging(bench)
        report.end()


if __name__ == "__main__":
    main(_run)
