"""The prompt as a person meets it: history, completion and a quiet end, through a pseudo-terminal."""

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
UP = "\x1b[A"
READY = "\x1b[?2004h"  # what the prompt sends when it waits for keys: it draws its own text in pieces


def interruptible() -> None:
    """Undo what a shell does to all that it runs in the background, and what a node does to its process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def started(cluster: Any, **variables: str) -> "pexpect.spawn[str]":
    cluster.file("f.txt", os.urandom(17_900))
    command, *arguments = cluster.command("client")
    environment = {**cluster.environment, "TERM": "xterm", **variables}
    spawned = pexpect.spawn(
        command,
        arguments,
        env=environment,
        cwd=str(cluster.folder / "local"),
        encoding="utf-8",
        timeout=20,
        preexec_fn=interruptible,
    )
    spawned.delaybeforesend = None
    return spawned


@pytest.fixture
def prompt(cluster: Any) -> "Iterator[pexpect.spawn[str]]":
    spawned = started(cluster, PROMPT_TOOLKIT_NO_CPR="1")
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
    told(prompt, "\r", "File send.  17.5 KiB, 4 of 4 nodes, survives any 2")
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


def test_folders_and_commands_of_dfs(prompt: "pexpect.spawn[str]") -> None:
    told(prompt, "MKDIR photos\r", "photos/ created.")
    told(prompt, "cd photos\r", "/photos")
    prompt.send("put f.t\t")
    prompt.expect_exact("xt")
    told(prompt, "\r", "File send.  17.5 KiB")
    told(prompt, "stat f.txt\r", "photos/f.txt", "complete 4/4", "on DFS4")
    told(prompt, "tree -L 1 /\r", "photos/", "1 folder, 1 file")
    prompt.send("cat --r\t")
    prompt.expect_exact("ange")
    told(prompt, " 0-9 missing\r", "photos/missing does not exist")


def test_a_status_bar_says_who_where_and_how_many_nodes_are_up(cluster: Any) -> None:
    spawned = started(cluster)

    def bar(text: str) -> None:
        """Say, as a terminal does, in which line the cursor is; then the last line can be drawn."""
        spawned.expect_exact("\x1b[6n")
        spawned.send("\x1b[5;1R")
        spawned.expect_exact(text)

    bar("4 of 4 nodes  Alice  /")
    cluster.nodes[0].kill()
    spawned.send("MKDIR photos\r")
    bar("3 of 4 nodes  Alice  /")
    spawned.send("cd photos\r")
    bar("3 of 4 nodes  Alice  /photos")
    spawned.sendeof()
    spawned.expect(pexpect.EOF)
    spawned.close()
    assert spawned.exitstatus == 0


def test_ctrl_c_in_a_command_of_dfs_leads_back_to_the_prompt(prompt: "pexpect.spawn[str]") -> None:
    prompt.send("status --watch\r")
    prompt.expect_exact("4 of 4 nodes up")
    prompt.expect_exact("4 of 4 nodes up")
    prompt.sendintr()
    prompt.expect_exact(READY)
    told(prompt, "LIST\r", "No file Found")
    prompt.sendeof()
    prompt.expect(pexpect.EOF)
    prompt.close()
    assert prompt.exitstatus == 0
