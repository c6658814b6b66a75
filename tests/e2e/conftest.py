"""Real nodes and real commands: every test here runs `dfs` as processes on 127.0.0.1 and ends what it
started.
"""

import base64
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field

from dfs.core.keys import KdfParameters, login_keys, password_secret

READY = re.compile(r"listening on port (\d+)")
COMMAND = (sys.executable, "-m", "dfs")
USERS = {"Alice": "white rabbit", "Bob": "grey harbour"}
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = itertools.cycle(range(10_000 + WORKER % 20 * 1000, 11_000 + WORKER % 20 * 1000))


def free_port() -> int:
    """Return a port that stays free: none that the system gives out, or that tests beside these use.

    A node that was killed must find its port again.
    """
    while True:
        port = next(PORTS)
        with socket.socket() as probe, suppress(OSError):  # another program's
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


@define
class Node:
    """One `dfs serve` process with its directory; keeps its port over restarts."""

    name: str
    directory: Path
    arguments: Sequence[str]
    environment: dict[str, str]
    port: int = 0
    process: "subprocess.Popen[str] | None" = None
    prefix: Sequence[str] = ()  # a command that runs it elsewhere
    program: Sequence[str] = COMMAND

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start and wait for the ready line."""
        log = self.directory.parent / f"{self.name}.log"
        self.port = self.port or free_port()
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [
                    *(*self.prefix, *self.program, "serve", "--dir", str(self.directory)),
                    *("--port", str(self.port), *self.arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.environment,
                cwd=self.directory.parent,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        ready = READY.search(line)
        assert ready, f"{self.name}: no ready line but {line!r}; log: {log.read_text()}"
        assert int(ready.group(1)) == self.port

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> int:
        """Send a signal, wait for the end and return the exit status; 0 when it was not running."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        status = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def freeze(self) -> None:
        """Stop it from running (SIGSTOP), its connections stay."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@define
class Cluster:
    """Nodes, confs of two users, and the `dfs` command."""

    folder: Path
    nodes: list[Node]
    environment: dict[str, str]
    flags: tuple[str, ...] = ()
    running: "list[subprocess.Popen[str]]" = field(factory=list)

    def conf(self, user: str = "Alice", password: str | None = None, name: str | None = None) -> Path:
        """Write a classic conf of a user and return its path."""
        path = self.folder / (name or f"{user}.conf")
        servers = "".join(f"Server {node.name} {node.address}\n" for node in self.nodes)
        path.write_text(f"{servers}Username: {user}\nPassword: {password or USERS[user]}\n")
        path.chmod(0o600)
        return path

    def command(self, *arguments: str, conf: Path | None = None) -> list[str]:
        """Return a whole `dfs` command line."""
        return [*COMMAND, "--conf", str(conf or self.conf()), *self.flags, *arguments]

    def dfs(
        self,
        *arguments: str,
        status: int | None = 0,
        conf: Path | None = None,
        cwd: Path | None = None,
        stdin: bytes | None = None,
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a `dfs` command; ``status`` None takes any exit status."""
        ended = subprocess.run(
            self.command(*arguments, conf=conf),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.environment,
            cwd=cwd or self.folder,
            timeout=110,
            check=False,
        )
        told = ended.stderr.decode(errors="replace")
        assert "Traceback" not in told, told
        assert status is None or ended.returncode == status, (
            f"status {ended.returncode}: {told}{ended.stdout[:2000]!r}"
        )
        return ended

    def start(
        self, *arguments: str, conf: Path | None = None, cwd: Path | None = None
    ) -> "subprocess.Popen[str]":
        """Start a `dfs` command with pipes; it is ended with the test."""
        process = subprocess.Popen(
            self.command(*arguments, conf=conf),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=cwd or self.folder,
        )
        self.running.append(process)
        return process

    def names(self, *arguments: str) -> list[str]:
        """Return the lines of `dfs ls`."""
        return self.dfs("ls", *arguments).stdout.decode().splitlines()

    def file(self, name: str, content: bytes) -> Path:
        """Write a local file and return its path."""
        path = self.folder / "local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def got(self, name: str, *arguments: str) -> bytes:
        """Get a remote file into an empty folder and return its bytes."""
        target = self.folder / f"got-{time.monotonic_ns()}"
        self.dfs("get", name, "-o", str(target), *arguments)
        return target.read_bytes()

    def close(self) -> None:
        """End everything."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        for node in self.nodes:
            node.kill()


MakeCluster = Callable[..., Cluster]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What commands of a test see: no conf and no state but the test's own."""
    foreign = ("DFS_", "XDG_", "COLUMNS", "LINES")  # the last two would outdo the size of a test's terminal
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    root = Path(__file__).parents[2]
    path = os.pathsep.join(
        filter(None, [str(root) if (root / "dfs").is_dir() else "", kept.get("PYTHONPATH", "")])
    )
    home = {"HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state")}
    return {**kept, **home, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def key_lines() -> str:
    """The users by public key: a node that starts with these need not derive passwords first."""
    lines = []
    for name, password in USERS.items():
        keys = login_keys(password_secret(password.encode(), "dfs", name, KdfParameters()))
        lines.append(f"{name} ed25519:{base64.b64encode(keys.public_key).decode()}\n")
    return "".join(lines)


@pytest.fixture
def make_cluster(tmp_path: Path, environment: dict[str, str], key_lines: str) -> Iterator[MakeCluster]:
    """Return a function that starts a cluster of so many nodes; all ends with the test.

    ``clear``: the users file holds passwords, as the original's did.
    """
    made: list[Cluster] = []

    def make(count: int = 4, *serve: str, flags: Sequence[str] = (), clear: bool = False) -> Cluster:
        folder = tmp_path / f"cluster{len(made)}"
        folder.mkdir()
        users = folder / "users"
        clear_lines = "".join(f"{name} {password}\n" for name, password in USERS.items())
        users.write_text(clear_lines if clear else key_lines)
        users.chmod(0o600)
        arguments = ["--listen", "127.0.0.1", "--users", str(users), *serve]
        nodes = [
            Node(f"DFS{number}", folder / f"DFS{number}", arguments, environment)
            for number in range(1, count + 1)
        ]
        cluster = Cluster(folder, nodes, environment, tuple(flags))
        made.append(cluster)
        for node in nodes:
            node.start()
        return cluster

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Four nodes over TLS, 2 of 4."""
    return make_cluster()
