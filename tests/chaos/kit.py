"""What the tests of this folder need of the machine: strace, namespaces, loop devices; and skips where it is
missing.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field

from dfs.core.keys import login_keys
from tests.e2e.conftest import Node

ROOT: Final = Path(__file__).parents[2]
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a sweep makes thousands of small folders; no disk is needed
CALL: Final = re.compile(r"^(\d+)\s+(\w+)\(")


def python_environment() -> dict[str, str]:
    """What a Python process started by a test sees; its sets come in the same order every time."""
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


# --- What is there ------------------------------------------------------------------------------------------


@cache
def missing(facility: str) -> str:
    """Return why a facility cannot be used here; "" when it can."""
    commands = {
        "strace": ["strace", "-V"],
        "namespaces": ["unshare", "--net", "nft", "list", "ruleset"],
        "loop": ["losetup", "--find"],
        "xfs": ["mkfs.xfs", "-V"],
    }
    if os.name != "posix" or sys.platform != "linux":
        return "this is not Linux"
    if facility != "strace" and os.geteuid() != 0:
        return f"{facility} needs root"
    command = commands[facility]
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]}"
    ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if ended.returncode:
        return f"{command[0]}: {ended.stderr.strip()[:100]}"
    return _unattached() if facility == "strace" else ""


def _unattached() -> str:
    """Return why strace cannot attach to a process that it did not start; "" when it can."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as idle:
        try:
            with strace(idle.pid):
                return ""
        except OSError as error:
            return str(error)


def needs(facility: str) -> pytest.MarkDecorator:
    """Skip a test, saying why, where the machine cannot do it."""
    reason = missing(facility)
    return pytest.mark.skipif(bool(reason), reason=reason)


# --- A user -------------------------------------------------------------------------------------------------

SECRET: Final = b"a secret of thirty-two bytes...."


def write_user(folder: Path) -> Path:
    """Write the key file of a user and return the users file of nodes that know her."""
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    users = folder / "users"
    users.write_text(f"ines ed25519:{key}\n")
    (folder / "key").write_text(f"dfs-key-1 {SECRET.hex()}\n")
    (folder / "key").chmod(0o600)
    return users


def write_conf(folder: Path, nodes: Sequence[Node]) -> Path:
    """Write the conf of her client."""
    path = folder / "client.toml"
    named = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in nodes)
    path.write_text(f'format = 1\nuser = "ines"\nkey_file = "{folder}/key"\n{named}')
    return path


# --- strace -------------------------------------------------------------------------------------------------


@contextmanager
def strace(pid: int, *arguments: str) -> Iterator[None]:
    """Attach strace to a process and to all it forks from now on. Raises: OSError: not allowed."""
    with subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        if "attached" not in line:
            raise OSError(line.strip())
        try:
            yield
        finally:
            process.terminate()
            process.stderr.read()


@define
class Nursery:
    """The process of nursery.py. ``folder``: where its towns live."""

    folder: Path
    process: "subprocess.Popen[str]" = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=python_environment(),
            cwd=ROOT,
        )
        line = self._line()
        assert line == "ready\n"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def live(
        self, town: Path, deed: str, *, kind: str = "", burn: int = 0, abrupt: bool = False
    ) -> tuple[int, int]:
        """Let a child do a deed; returns its pid and exit status (negative: the signal that ended it).

        ``abrupt``: its nodes are not closed.
        """
        assert self.process.stdin is not None
        order = {"folder": str(town), "deed": deed, "kind": kind, "burn": burn, "abrupt": abrupt}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        pid, status = json.loads(self._line())
        return pid, status

    def calls(self, town: Path, deed: str, kinds: Sequence[str], *, abrupt: bool) -> dict[str, list[str]]:
        """Return the calls of each kind that a deed makes, as strace tells them; it changes the town."""
        log = self.folder / "calls"
        with strace(self.process.pid, "-y", "-e", f"trace={','.join(kinds)}", "-o", str(log)):
            pid, status = self.live(town, deed, abrupt=abrupt)
        assert status == 0
        made: dict[str, list[str]] = {}
        for line in log.read_text().splitlines():
            call = CALL.match(line)
            if call and int(call[1]) == pid:
                made.setdefault(call[2], []).append(line)
        return made

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


# --- Disks --------------------------------------------------------------------------------------------------


NO_WRITES_OF_ITS_OWN: Final = {"ext4": "data=ordered,commit=300"}


@contextmanager
def disk(kind: str, size: int, folder: Path) -> Iterator[Path]:
    """Mount a new file system of so many bytes on a new folder ``folder``; tmpfs, or ext4 in a file."""
    if kind == "tmpfs":
        with mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
            yield folder
        return
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, timeout=60)
    try:
        with mounted(folder, "-o", f"loop,{NO_WRITES_OF_ITS_OWN.get(kind, 'defaults')}", str(image)):
            yield folder
    finally:
        image.unlink()


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Mount something on a new folder."""
    folder.mkdir()
    try:
        subprocess.run(["mount", *arguments, str(folder)], check=True, timeout=60)
        try:
            yield folder
        finally:
            # Lazily: what a failed test has left open must not keep the mount.
            subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)
    finally:
        folder.rmdir()


# --- Results ------------------------------------------------------------------------------------------------

TALLIES: Final[list[tuple[str, dict[str, object]]]] = []


def tally(test: str, **figures: object) -> None:
    """Keep figures for the table that is printed when all tests have run."""
    TALLIES.append((test, figures))
