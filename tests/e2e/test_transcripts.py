"""Sessions kept word for word (tests/golden/cli), on a real terminal and through pipes, with four real nodes.

A transcript holds commands (``$ dfs …``; ``{DFS1}`` is the address of a node), what is typed (``< …``), what
is printed, ``(exit N)`` where it is not 0, what befalls nodes (``! kill DFS3``; ``! renew DFS2`` gives it
another certificate), and remarks (``# …``). A node that was started is stopped once it is ready. Where
something is typed, the session is one of a terminal alone. To write them anew after a change:
``DFS_TRANSCRIBE=1``.
"""

import os
import random
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.e2e.conftest import USERS, Cluster, Node

FOLDER = Path(__file__).parents[1] / "golden" / "cli"
SESSIONS = sorted(FOLDER.glob("*.txt"))
SQUARES = str.maketrans({"\N{BLACK SQUARE}": "#", "\N{WHITE SQUARE}": "."})
DRAWN = (("├── ", "|-- "), ("└── ", "`-- "), ("│   ", "|   "))
VARYING = (
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"listening on port \d+", "listening on port PORT"),
    (r"SHA256:[0-9a-f]{64}", "SHA256:FINGERPRINT"),
    (r"SHA256:[0-9a-f]{4}\.\.[0-9a-f]{2}", "SHA256:SHORT"),
    (r"ed25519:[A-Za-z0-9+/]{43}=", "ed25519:KEY"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?(,\d{3})?", "DATE TIME"),
    (r" in \d+\.\d s", " in 0.0 s"),
    (r"  (?:DFS\d [\d.]+ [KMG]?i?B(?:, )?)+  \([\d.]+ [KM]?i?B extra\)", "  SHARES BY NODE"),
    (r"\b[0-9a-f]{32}\b", "VERSION"),
    (r"[\d.]+ [MGT]iB( free| more|(?=  none))", r"SIZE\1"),
    (r"\d+ entr(?:y|ies)(?= to bring| brought)", "SOME entries"),  # a late confirmation may be one more
    (r"refused the connection|refused|broken off|no answer", "down"),
)


def normalised(text: str) -> list[str]:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]


def typed_into(child: "pexpect.spawn[str]", lines: list[str]) -> str:
    """Answer questions with lines, one each, and return what was shown meanwhile."""
    shown = ""
    for line in lines:
        child.expect_exact(": ")  # as questions end
        shown += str(child.before) + ": "
        child.sendline(line)
    return shown


def ready_line(cluster: Cluster, words: list[str]) -> tuple[int, str]:
    """Start a node, read its ready line, stop it; status and all it printed."""
    node = subprocess.Popen(
        [sys.executable, "-m", "dfs", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=cluster.environment,
        cwd=cluster.folder / "local",
    )
    assert node.stdout is not None
    with node.stdout:
        shown = ""
        for line in node.stdout:
            shown += line
            if "listening on port" in line:
                node.terminate()
        return node.wait(20), shown


def run(cluster: Cluster, words: list[str], typed: list[str], *, terminal: bool) -> tuple[int, str]:
    """Run a command; status and all it printed."""
    words = [word.format(**{node.name: node.address for node in cluster.nodes}) for word in words]
    if words[0] == "serve":
        return ready_line(cluster, words)
    environment = {**cluster.environment, "TERM": "xterm", "DFS_PROGRESS": "off"}
    command = [sys.executable, "-m", "dfs", *words]
    cwd = cluster.folder / "local"
    if not terminal:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, "NO_COLOR": "1"},
            cwd=cwd,
            timeout=60,
            check=False,
        )
        assert b"\x1b" not in ended.stdout
        return ended.returncode, ended.stdout.decode()
    child = pexpect.spawn(
        command[0],
        command[1:],
        env=environment,
        cwd=str(cwd),
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 160),
    )
    answered = typed_into(child, typed)
    child.expect(pexpect.EOF)
    child.close()
    shown = (answered + str(child.before)).translate(SQUARES)
    for drawn, plain in DRAWN:
        shown = shown.replace(drawn, plain)
    return child.exitstatus or 0, shown


def befall(cluster: Cluster, words: list[str]) -> None:
    """Do to nodes what a transcript says."""
    deed, *names = words
    for node in cluster.nodes:
        if node.name in names:
            deeds = {"kill": Node.kill, "start": Node.start, "renew": renew}
            deeds[deed](node)


def renew(node: Node) -> None:
    """Let a node come back with another certificate, as from a new machine."""
    node.kill()
    for path in (node.directory / ".node").glob("*.pem"):
        path.unlink()
    node.start()


def transcribed(cluster: Cluster, wanted: list[str], *, terminal: bool) -> list[str]:
    """Return the transcript as this run gives it."""
    told: list[str] = []
    for place, line in enumerate(wanted):
        if line.startswith(("#", "! ")):
            told.append(line)
            if line.startswith("! "):
                befall(cluster, line[2:].split())
        elif line.startswith("$ dfs"):
            told.append(line)
            typed = list(takewhile(lambda text: text.startswith("< "), wanted[place + 1 :]))
            told.extend(typed)
            words = shlex.split(line[5:])
            status, shown = run(cluster, words, [text[2:] for text in typed], terminal=terminal)
            shown = shown.replace(str(cluster.folder), "FOLDER")
            told.extend(normalised(shown.rstrip()) if shown.strip() else [])
            told.extend([f"(exit {status})"] if status else [])
    return told


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "piped"])
@pytest.mark.parametrize("session", SESSIONS, ids=[path.stem for path in SESSIONS])
def test_a_session_is_as_it_was_written_down(cluster: Cluster, session: Path, terminal: bool) -> None:
    noise = random.Random(6)
    for name, size in (("f.txt", 17_900), ("video.mkv", 9 << 20), ("report.pdf", 300_000)):
        cluster.file(name, noise.randbytes(size))
        os.utime(cluster.folder / "local" / name, (1.79e9, 1.79e9))
    local = cluster.folder / "local"
    (local / "dfc.conf").write_text(cluster.conf().read_text())
    (local / "dfc.conf").chmod(0o600)
    wrong = (local / "dfc.conf").read_text().replace(USERS["Alice"], "black rabbit")
    (local / "wrong.conf").write_text(wrong)
    (local / "wrong.conf").chmod(0o600)
    wanted = session.read_text("utf-8").splitlines()
    if not terminal and any(line.startswith("< ") for line in wanted):
        pytest.skip("what is typed needs a terminal")
    told = transcribed(cluster, wanted, terminal=terminal)
    if os.environ.get("DFS_TRANSCRIBE"):
        session.write_text("\n".join(told) + "\n", "utf-8")
    assert told == wanted


def test_where_to_begin_without_a_conf(environment: dict[str, str], tmp_path: Path) -> None:
    child: Any = pexpect.spawn(
        sys.executable, ["-m", "dfs"], env=environment, cwd=str(tmp_path), encoding="utf-8", timeout=30
    )
    child.expect(pexpect.EOF)
    child.close()
    first, second, *rest = str(child.before).splitlines()
    assert first.startswith("No conf found (./dfc.conf, ~/dfc.conf, ./dfs.toml, ")
    assert second == "Start with one of:"
    assert len(rest) <= 4
    assert child.exitstatus == 0
