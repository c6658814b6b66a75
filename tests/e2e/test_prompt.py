"""The prompt as a person meets it: history, completion and a quiet end, through a pseudo-terminal."""

import os
import re
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
UP = "\x1b[A"
READY = "\x1b[?2004h"  # what the prompt sends when it waits for keys: it draws its own text in pieces


@pytest.fixture
def prompt(cluster: Any) -> "Iterator[pexpect.spawn[str]]":
    cluster.file("f.txt", os.urandom(5000))
    command, *arguments = cluster.command("client")
    environment = {**cluster.environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    spawned = pexpect.spawn(
        command, arguments, env=environment, cwd=str(cluster.folder / "local"), encoding="utf-8", timeout=20
    )
    spawned.delaybeforesend = None
    spawned.expect_exact(READY)
    yield spawned
    spawned.close(force=True)


def told(prompt: "pexpect.spawn[str]", keys: str, *expected: str) -> str:
    """Press keys, wait for what is expected, then for the next prompt; returns all that was shown."""
    prompt.send(keys)
    shown = ""
    for text in (*expected, READY):
        prompt.expect_exact(text)
        shown += ESCAPES.sub("", prompt.before or "") + text
    return shown


def test_a_session_with_history_and_completion(prompt: "pexpect.spawn[str]", cluster: Any) -> None:
    assert "Alice: 4 of 4 nodes, survives any 2. HELP lists commands" in (prompt.before or "")
    prompt.send("PUT f\t")
    prompt.expect_exact("txt")  # completion takes a moment
    told(prompt, "\r", "File send.  4.9 KiB, 4 of 4 nodes, survives any 2")
    told(prompt, "MKDIR sub\r", "sub/ created.")
    prompt.send("put f.txt s\t")
    prompt.expect_exact("ub/")
    told(prompt, "\r", "(0 B of shares sent, already stored)")
    told(prompt, "LIST\r", "Files in the Servers are:", "f.txt", "sub/")
    told(prompt, f"{UP}{UP}{UP}\r", "sub/ already exists")
    prompt.sendeof()
    prompt.expect(pexpect.EOF)
    prompt.close()
    assert prompt.exitstatus == 0
    history = cluster.folder.parent / "state" / "dfs" / "history"
    assert "+put f.txt sub/" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_ends_it_with_130(prompt: "pexpect.spawn[str]") -> None:
    told(prompt, "LIST\r", "No file Found")
    prompt.sendintr()
    prompt.expect(pexpect.EOF)
    prompt.close()
    assert prompt.exitstatus == 130
