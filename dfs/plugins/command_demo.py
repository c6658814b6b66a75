"""`dfs demo`: real nodes in a temporary folder, two of them killed, and a file that comes back all the same.

It uses nothing but the command line, so every step can be done again by hand.
"""

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    IntegrityError,
    Options,
    count_text,
    hookimpl,
    limits,
    listing,
    size_text,
)

DFS_API_VERSION = 1
USER = "demo"
SAMPLE = "sample.bin"
SAMPLE_SIZE = 8 * limits.MIB
READY_S = 20.0
STOP_S = 5.0
COMMAND_S = 60.0
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


class DemoError(IntegrityError):
    """A part of the demonstration did not do what it should."""

    kept_default = "The demonstration touches nothing but its own temporary folder."
    next_default = "Run it again; if it fails again, please report it."


class _Node:
    """One node: a process, and the folder that survives it."""

    def __init__(self, demo: "_Demo", index: int) -> None:
        self.name = f"dfs{index + 1}"
        self._demo = demo
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self._port}"

    @property
    def process_id(self) -> int:
        """What `kill` takes."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, on the port it had before. Raises: DemoError: it is not ready in time."""
        folder = self._demo.folder
        words = ["serve", "--json", "--dir", str(folder / self.name), "--name", self.name]
        words += ["--listen", "127.0.0.1", "--port", str(self._port), "--users", str(folder / "users")]
        with (folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*self._demo.program, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=self._demo.environ,
                start_new_session=True,  # Ctrl-C ends the demonstration, which then ends its nodes
            )
        ready = self._ready_line(self._process)
        self._port = int(str(ready["addresses"][0]).rpartition(":")[2])

    def _ready_line(self, process: "subprocess.Popen[bytes]") -> Mapping[str, Any]:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], READY_S)
        line = process.stdout.readline() if readable else b""
        process.stdout.close()  # it says no more
        envelope = json.loads(line) if line.strip() else {}
        if not isinstance(envelope.get("data"), dict):
            raise DemoError(f"{self.name} did not start: {self._demo.log_of(self.name)}")
        ready: Mapping[str, Any] = envelope["data"]
        return ready

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended; one that does not is killed."""
        if self._process is not None:
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None


class _Demo:
    """The folder, the nodes and the steps taken so far."""

    def __init__(self, context: CommandContext, node_count: int) -> None:
        self._context = context
        self._step_count = 0
        self.folder = Path(tempfile.mkdtemp(prefix="dfs-demo-"))
        self.conf = self.folder / "client.toml"
        self.program = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "dfs"]
        self.environ = _clean_environ(self.folder)
        self.nodes = [_Node(self, index) for index in range(node_count)]
        # More cannot be lost: as many as are needed stay.
        self.victims = self.nodes[::2][: node_count - max(1, node_count // 2)]

    def step(self, text: str) -> None:
        """Tell of a step that is done."""
        self._step_count += 1
        values = {"n": self._step_count, "text": text, "ok": True}
        self._context.emit("steps", values, f"{self._step_count} {text}")
        sys.stdout.flush()

    def run(self, *words: str) -> Mapping[str, Any]:
        """Run a command of `dfs` and return what it tells. Raises: DemoError: it failed."""
        line = f"dfs {' '.join(words)}"
        try:
            ended = subprocess.run(  # noqa: S603 - our own program
                [*self.program, "--conf", str(self.conf), "--json", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=self.folder,
                env=self.environ,
                timeout=COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoError(f"{line} took longer than {COMMAND_S:.0f} s") from None
        envelope = json.loads(ended.stdout) if ended.stdout.strip() else {}
        if ended.returncode:
            error = envelope.get("error") or {}
            said = error.get("what") or ended.stderr.decode("utf-8", "replace").strip()
            raise DemoError(f"{line} ended with status {ended.returncode}: {said}")
        told: Mapping[str, Any] = envelope["data"] or {}
        return told

    def log_of(self, name: str) -> str:
        """Return the last line a node wrote."""
        lines = (self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    # The steps, in order

    def start_nodes(self) -> None:
        """Start all nodes and write the conf that names them."""
        for node in self.nodes:
            node.start()
        count = len(self.nodes)
        geometry = f"{max(1, count // 2)} of {count}"
        self.step(f"{NUMBERS[count - 2]} nodes in a temporary folder, geometry {geometry}")

    def make_user(self) -> None:
        """Give the nodes a user; the first login of all makes the vault."""
        password = self.folder / "password"
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_urlsafe(24)}\n")
        lines = ["format = 1", f'user = "{USER}"', f"password_file = {json.dumps(str(password))}"]
        for node in self.nodes:
            lines += ["[[node]]", f'name = "{node.name}"', f'address = "{node.address}"']
        self.conf.write_text("\n".join([*lines, ""]), "utf-8")
        self.run("user", "add", USER, "--users", str(self.folder / "users"))
        self.run("ls")
        self.step("user and vault made")

    def put(self) -> bytes:
        """Store a file nobody could guess, and return it."""
        sample = os.urandom(SAMPLE_SIZE)
        (self.folder / SAMPLE).write_bytes(sample)
        (stored,) = self.run("put", SAMPLE)["files"]
        nodes = f"{stored['shares']} of {stored['total']} nodes, survives any {stored['survives']}"
        self.step(f"put {SAMPLE} {size_text(SAMPLE_SIZE)}: {nodes}")
        return sample

    def kill_nodes(self) -> None:
        """Kill as many nodes as the file is said to survive."""
        for node in self.victims:
            node.kill()
        self.step(f"killed {listing([node.name for node in self.victims])}")

    def get(self, sample: bytes) -> None:
        """Get the file from the nodes that are left. Raises: DemoError: it is another one."""
        (got,) = self.run("get", SAMPLE, "-o", f"{SAMPLE}.back")["files"]
        if (self.folder / f"{SAMPLE}.back").read_bytes() != sample:
            raise DemoError(f"{SAMPLE} came back different from what was stored")
        nodes = ", ".join(sorted(got["bytes_by_node"]))
        self.step(f"get {SAMPLE} {size_text(got['size'])} from {nodes}: identical")

    def restart_nodes(self) -> None:
        """Start the killed nodes again, one of them without anything it kept."""
        lost = self.victims[-1]
        shutil.rmtree(self.folder / lost.name / USER)
        for node in self.victims:
            node.start()
        restarted = "both" if len(self.victims) == 2 else listing([node.name for node in self.victims])
        self.step(f"restarted {restarted}, deleted the shares on {lost.name}")

    def repair(self) -> None:
        """Make the lost shares again."""
        made = self.run("repair")
        sizes = f"(read {size_text(made['read'])}, wrote {size_text(made['written'])})"
        self.step(f"repair made {count_text(made['made'], 'share')} {sizes}")

    def check(self) -> None:
        """Let all nodes read and hash what they keep. Raises: DemoError: something is missing or bad."""
        found = self.run("check", "--read-data")
        text = (
            f"check --read-data: {count_text(found['complete'], 'file')} complete, {found['corrupt']} corrupt"
        )
        if found["complete"] != found["files"]:
            raise DemoError(f"{text}, although everything was repaired")
        self.step(text)

    # The end

    def end(self) -> None:
        """Stop the nodes and leave nothing behind."""
        for node in self.nodes:
            node.stop()
        for node in self.nodes:
            node.wait()
        shutil.rmtree(self.folder)
        self._context.emit("", {}, "Nothing left behind. To keep it: dfs demo --keep")

    def keep(self) -> None:
        """Say how to go on with it, and how to end it."""
        processes = " ".join(str(node.process_id) for node in self.nodes)
        program = "dfs" if shutil.which("dfs") else f"{sys.executable} -m dfs"
        self._context.emit(
            "",
            {"folder": str(self.folder), "conf": str(self.conf), "processes": processes.split()},
            f"Kept in {self.folder}, the nodes are running.\n"
            f"Use it:  {program} --conf {self.conf} client\n"
            f"End it:  kill {processes}; rm -r {self.folder}",
        )


def _clean_environ(folder: Path) -> dict[str, str]:
    """Return the environment without settings of the user's own clusters, and with this dfs to import."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DFS_")}
    environ.pop("NOTIFY_SOCKET", None)
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_STATE_HOME": str(folder / "state")}


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # the same way out: nothing may be left behind


@click.command("demo", epilog="Example: dfs demo --nodes 6")
@click.option(
    "--nodes",
    "node_count",
    type=click.IntRange(2, len(NUMBERS) + 1),
    default=4,
    show_default=True,
    metavar="N",
    help="How many nodes to start.",
)
@click.option("--keep", is_flag=True, help="Leave the nodes running and say how to use them.")
@click.pass_obj
def demo(context: CommandContext, *, node_count: int, keep: bool) -> None:
    """Watch a file survive dead nodes: real ones, in a temporary folder, on this machine only."""
    before = signal.signal(signal.SIGTERM, _terminated)
    shown = _Demo(context, node_count)
    done = False
    try:
        shown.start_nodes()
        shown.make_user()
        sample = shown.put()
        shown.kill_nodes()
        shown.get(sample)
        shown.restart_nodes()
        shown.repair()
        shown.check()
        done = True
    finally:
        if keep and done:
            shown.keep()
        else:
            shown.end()
        signal.signal(signal.SIGTERM, before)


def make(_options: Options) -> click.Command:
    """Return the command."""
    return demo


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="demo", summary="watch files survive dead nodes", make=make),)
