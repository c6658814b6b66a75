"""What the programs here share: options, a time limit, own nodes, and operations measured from outside.

Nodes are processes on free ports of 127.0.0.1 in a temporary folder; they are ended by process id. CPU time
and memory are read from /proc; where there is none, those figures are None.
"""

import argparse
import faulthandler
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from attrs import define, field, frozen

if TYPE_CHECKING:  # this stays small: what it measures begins with its peak
    from dfs.cluster import Cluster as Vault

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
PYTHON = (sys.executable,)
DFS = (sys.executable, "-m", "dfs")
USER, PASSWORD = "ada", "a fair password"
READY = re.compile(r"listening on port (\d+)")
STATS = re.compile(
    r"^stats: all nodes: sent_bytes (\d+), received_bytes (\d+), round_trips (\d+), seconds [\d.]+$",
    re.MULTILINE,
)
PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
OWN_FOLDER = Path(__file__).parent


class BenchError(Exception):
    """A run that gives no figure: a mismatch, a failed command, a node that did not start."""


# --- Options and limits -------------------------------------------------------------------------------------


def geometry(text: str) -> tuple[int, int]:
    """Return (k, n) of ``K,N``."""
    match = re.fullmatch(r"(\d{1,3}),(\d{1,3})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not K,N with 1 <= K <= N, such as 2,4")
    return int(match[1]), int(match[2])


def positive(text: str) -> int:
    """Return a whole number from 1 on."""
    if not re.fullmatch(r"[1-9]\d{0,11}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def make_parser(text: str | None, *, limit_s: int = 3600) -> argparse.ArgumentParser:
    """Return a parser with the options all programs have. ``limit_s``: of the whole program."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small inputs, few repeats: does it work at all")
    parser.add_argument("--transport", choices=["tls", "tcp"], default="tls")
    parser.add_argument("--geometry", type=geometry, default=(2, 4), metavar="K,N", help="default: 2,4")
    parser.add_argument("--repeat", type=positive, metavar="N", help="timed runs of each operation")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the JSON lines to this file")
    parser.add_argument(
        "--folder", metavar="DIR", help="where inputs and nodes lie; default: the temporary folder"
    )
    parser.add_argument(
        "--limit", type=positive, default=limit_s, metavar="S", help="hard time limit, %(default)s s"
    )
    return parser


def repeats(options: argparse.Namespace, quick: int, full: int) -> int:
    """Return how often to repeat."""
    return int(options.repeat or (quick if options.quick else full))


@contextmanager
def workshop(options: argparse.Namespace) -> Iterator[Path]:
    """Yield an empty folder that goes at the end; the program ends at its time limit or a signal."""

    def stop(number: int, _frame: object) -> NoReturn:
        reason = f"the time limit of {options.limit} s" if number == signal.SIGALRM else "a signal to end"
        raise SystemExit(f"stopped by {reason}")

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.alarm(options.limit)
    faulthandler.dump_traceback_later(options.limit + 60, exit=True)  # should the end itself hang
    try:
        with tempfile.TemporaryDirectory(prefix="dfs-bench-", dir=options.folder) as name:
            yield Path(name)
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


def main(run: Callable[[], None]) -> None:
    """Run a program; what gives no figure ends it with one line and status 1."""
    try:
        run()
    except BenchError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None


def environment(folder: Path) -> dict[str, str]:
    """Return what commands see: no conf and no state but the benchmark's own, and modules compiled once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DFS_", "XDG_"))}
    if kept.pop("PYTHONDONTWRITEBYTECODE", None):  # an installed dfs is compiled
        kept["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    return {**kept, "HOME": str(folder / "home"), "XDG_STATE_HOME": str(folder / "state")}


# --- Processes seen from outside ----------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        threads = list((PROC / str(pid) / "task").iterdir())
        children = [int(word) for thread in threads for word in (thread / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in tree(child))]


def cpu_s(pids: Sequence[int]) -> float | None:
    """Return CPU seconds, user and system, of process trees; None where one of them is not there."""
    total = 0
    try:
        for pid in {each for first in pids for each in tree(first)}:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    except OSError:
        return None
    return total / TICKS_PER_S


def peak_mib(pid: int) -> float | None:
    """Return the peak resident size of a process since `forget_peak`."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (PROC / str(pid) / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / KIB if found else None


def forget_peak(pid: int) -> None:
    """Let the peak begin at what is resident now."""
    try:
        (PROC / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return  # then the peak is that of the whole life


def loopback_size() -> int | None:
    """Return bytes that went over the loopback device since the machine started, those of others too."""
    try:
        found = re.search(r"^\s*lo:\s*(\d+)", (PROC / "net/dev").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def size_at_rest(folders: Sequence[Path]) -> int:
    """Return the bytes that folders take on disk."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


@frozen
class Ended:
    """A command that ended. ``peak_mib``: None where it cannot be told from that of this program."""

    wall_s: float
    cpu_s: float
    peak_mib: float | None
    output: str
    told: str


def command(
    words: Sequence[str], environ: dict[str, str], *, accept: Sequence[int] = (0,), cwd: Path | None = None
) -> Ended:
    """Run a command and measure it with all it waited for. Raises: BenchError: another status."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started_s = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environ, cwd=cwd
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # the time limit: nothing may stay behind
            process.kill()
            process.wait()
            raise
        wall_s = time.perf_counter() - started_s
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        told = errors.read().decode(errors="replace")
        if process.returncode not in accept:
            raise BenchError(f"{' '.join(words)}: status {process.returncode}: {told[-2000:]}")
        # A child begins with the peak of the process that forked it, which is this one.
        own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = used.ru_maxrss / KIB if used.ru_maxrss > own_kib else None
        shown = output.read().decode(errors="replace")
        return Ended(wall_s, used.ru_utime + used.ru_stime, peak, shown, told)


# --- Nodes --------------------------------------------------------------------------------------------------


@define
class Node:
    """One `dfs serve` process and its directory."""

    name: str
    directory: Path
    process: "subprocess.Popen[str]"
    address: str = ""


class Cluster:
    """Nodes of one's own and the conf of a user with a key file.

    ``count``: nodes, if not n. ``preload``: a library loaded into the nodes first, such as one that makes
    syncs do nothing. ``password``: a second user, with a password; nodes know the public key and derive
    nothing.
    """

    def __init__(
        self,
        folder: Path,
        options: argparse.Namespace,
        *,
        count: int = 0,
        preload: str = "",
        password: bool = False,
    ) -> None:
        self.folder = folder
        self.transport: str = options.transport
        self.geometry: tuple[int, int] = options.geometry
        self.environment = environment(folder.parent)
        self.nodes: list[Node] = []
        self.conf = folder / "client.toml"
        self.password_conf = folder / "password.conf"
        self._count = count or self.geometry[1]
        self._password = password
        self._preload = {"LD_PRELOAD": preload} if preload else {}

    def __enter__(self) -> Self:
        """Start all nodes and write the confs."""
        self.folder.mkdir(parents=True)
        try:
            secret = os.urandom(32)
            lines = [f"kay ed25519:{_public_key(f'bytes.fromhex({secret.hex()!r})', self.environment)}\n"]
            if self._password:
                derived = f"password_secret({PASSWORD.encode()!r}, 'dfs', {USER!r}, KdfParameters())"
                lines.append(f"{USER} ed25519:{_public_key(derived, self.environment)}\n")
            users = self.folder / "users"
            users.write_text("".join(lines))
            users.chmod(0o600)
            self._start(users)
            self._write_confs(secret)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _start(self, users: Path) -> None:
        for number in range(1, self._count + 1):
            directory = self.folder / f"DFS{number}"
            words = ["serve", "--dir", str(directory), "--port", "0", "--listen", "127.0.0.1"]
            with (self.folder / f"DFS{number}.log").open("w") as log:
                process = subprocess.Popen(
                    [*DFS, *words, "--users", str(users), "--transport", self.transport],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**self.environment, **self._preload},
                    cwd=self.folder,
                )
            self.nodes.append(Node(directory.name, directory, process))
        for node in self.nodes:
            assert node.process.stdout is not None
            ready = READY.search(node.process.stdout.readline())
            if ready is None:
                raise BenchError(f"{node.name} did not start: {self.folder / node.name}.log")
            node.address = f"127.0.0.1:{ready[1]}"

    def _write_confs(self, secret: bytes) -> None:
        key = self.folder / "key"
        rows = "".join(f"Server {node.name} {node.address}\n" for node in self.nodes)
        self.password_conf.write_text(f"{rows}Username: {USER}\nPassword: {PASSWORD}\n")
        key.write_text(f"dfs-key-1 {secret.hex()}\n")
        needed, total = self.geometry
        self.conf.write_text(
            f'format = 1\nuser = "kay"\nkey_file = "{key}"\ntransport = "{self.transport}"\n'
            f"[geometry]\nneeded = {needed}\ntotal = {total}\n"
            + "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in self.nodes)
        )
        for path in (key, self.password_conf):
            path.chmod(0o600)

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.terminate()
        for node in self.nodes:
            try:
                node.process.wait(10)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
            if node.process.stdout is not None:
                node.process.stdout.close()

    def signal(self, index: int, number: signal.Signals) -> None:
        """Send a node a signal: SIGKILL for good, SIGSTOP and SIGCONT for a while."""
        process = self.nodes[index].process
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()

    def client(self, *words: str) -> list[str]:
        """Return a whole `dfs` command line."""
        return [*DFS, "--conf", str(self.conf), *words]

    @property
    def pids(self) -> list[int]:
        """The processes of all nodes, killed ones too."""
        return [node.process.pid for node in self.nodes]

    def size_at_rest(self) -> int:
        """Return the bytes all nodes take on disk."""
        return size_at_rest([node.directory for node in self.nodes])


def stored_size(folder: Path, options: argparse.Namespace, *words: str) -> int:
    """Return the bytes all nodes of an empty cluster take on disk after a command.

    They were ended before: while they run, volumes have space for what may come.
    """
    with Cluster(folder, options) as cluster:
        command(cluster.client(*words), cluster.environment)
    size = cluster.size_at_rest()
    shutil.rmtree(folder)
    return size


def _public_key(secret: str, environ: dict[str, str]) -> str:
    """Return the login key of a secret (an expression) as a users file has it.

    Made in a process of its own, so that this one stays small.
    """
    code = (
        "import base64; from dfs.core.keys import KdfParameters, login_keys, password_secret;"
        f"print(base64.b64encode(login_keys({secret}).public_key).decode())"
    )
    return command([*PYTHON, "-c", code], environ).output.strip()


# --- Operations measured ------------------------------------------------------------------------------------


@define
class Sample:
    """One timed operation. None: not known, or a node was killed. ``wire_size``: as dfs counts it, both ways.

    ``loopback_size``: what the device counted meanwhile, of all programs. ``sync_s``: what a `sync` right
    after took, so what was not durable yet.
    """

    wall_s: float = 0.0
    cpu_client_s: float | None = None
    cpu_nodes_s: float | None = None
    peak_client_mib: float | None = None
    peak_nodes_mib: list[float] = field(factory=list)
    wire_size: int | None = None
    request_count: int | None = None
    loopback_size: int | None = None
    sync_s: float | None = None


class Meter:
    """Measures commands and calls of the library, with the nodes they reach."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @contextmanager
    def _around(self, sample: Sample, *, sync: bool) -> Iterator[None]:
        pids = self._cluster.pids
        for pid in pids:
            forget_peak(pid)
        loopback, before_s = loopback_size(), cpu_s(pids)
        yield
        after_s, loopback_after = cpu_s(pids), loopback_size()
        if before_s is not None and after_s is not None:
            sample.cpu_nodes_s = after_s - before_s
        if loopback is not None and loopback_after is not None:
            sample.loopback_size = loopback_after - loopback
        sample.peak_nodes_mib = [peak for pid in pids if (peak := peak_mib(pid)) is not None]
        if sync:
            started_s = time.perf_counter()
            os.sync()
            sample.sync_s = time.perf_counter() - started_s

    def command(self, *words: str, accept: Sequence[int] = (0,), sync: bool = False) -> Sample:
        """Run a `dfs` command. ``sync``: time a `sync` after it."""
        sample = Sample()
        with self._around(sample, sync=sync):
            ended = command(self._cluster.client("--stats", *words), self._cluster.environment, accept=accept)
        sample.wall_s, sample.cpu_client_s, sample.peak_client_mib = ended.wall_s, ended.cpu_s, ended.peak_mib
        if found := STATS.search(ended.told):
            sample.wire_size, sample.request_count = int(found[1]) + int(found[2]), int(found[3])
        return sample

    def call(self, work: Callable[[], object], vault: "Vault", *, sync: bool = False) -> Sample:
        """Call the library, which works with an open vault."""
        sample = Sample()
        size, count = _traffic(vault)
        with self._around(sample, sync=sync):
            cpu_before_s, started_s = time.process_time(), time.perf_counter()
            work()
            sample.wall_s = time.perf_counter() - started_s
            sample.cpu_client_s = time.process_time() - cpu_before_s
        size_after, count_after = _traffic(vault)
        sample.wire_size, sample.request_count = size_after - size, count_after - count
        return sample


def _traffic(vault: "Vault") -> tuple[int, int]:
    """Return bytes on the wire, both ways, and requests since a vault was opened."""
    nodes = vault.traffic()
    return sum(node.sent_size + node.received_size for node in nodes), sum(
        node.request_count for node in nodes
    )


def all_done(outcomes: Sequence[object], count: int) -> None:
    """Raise unless so many files have ended well."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if failed or len(outcomes) != count:
        raise BenchError(f"{len(failed)} of {count} files failed, the first: {failed[:1]}")


def timed(work: Callable[[], object]) -> float:
    """Return the wall seconds of a call."""
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s
