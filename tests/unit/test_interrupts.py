"""Ctrl-C at any moment of a process: while it imports, while it works, while it ends."""

import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

FRESH = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this process inherited
signal.pthread_sigmask(signal.SIG_SETMASK, ())
"""
IMPORTING = f"""{FRESH}
import os, signal, sys
from dfs.interrupts import guard
from dfs.__main__ import main

class Counter:
    left = int(sys.argv.pop(1))

    def find_spec(self, name, path=None, target=None):
        Counter.left -= 1
        if Counter.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

guard()
sys.meta_path.insert(0, Counter())
main()
"""
BEGUN = f"""{FRESH}
from dfs.__main__ import guard, main

guard()
print(flush=True)
main()
"""
IGNORING = "import signal; signal.signal(2, signal.SIG_IGN); from dfs.__main__ import main; main()"
WORDS = ("ls", "--conf", "/nowhere")
FINALIZER = f"""{FRESH}
import os, signal
from dfs.interrupts import Interruptible, guard

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        [None for _ in range(9)]  # here it is raised, and lost

guard()
try:
    with Interruptible():
        Last()
        signal.pause()  # until it comes again
except KeyboardInterrupt:
    print("caught", flush=True)
"""


def python(text: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", text, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_ctrl_c_at_any_import_is_one_line_and_130() -> None:
    told = set()
    interrupted = 1
    while (ended := python(IMPORTING, str(interrupted), *WORDS)).returncode != 2:
        assert ended.returncode == 130, ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
        told.add(ended.stderr.strip().partition(":")[2])
        interrupted += 1 + interrupted // 8
    assert len(told) == 2  # before the command began, and within it
    assert "nowhere" in ended.stderr  # with fewer imports than that


@pytest.mark.parametrize("after_ms", range(0, 120, 8))
def test_ctrl_c_at_any_time_is_one_line_and_130(after_ms: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGUN, *WORDS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    threading.Event().wait(after_ms / 1000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    ended_before = process.returncode == 2 and "nowhere" in err
    assert ended_before or process.returncode in {130, -signal.SIGINT}, err


def test_who_is_told_to_ignore_ctrl_c_goes_on_to_do_so() -> None:
    assert python(IGNORING, "version").returncode == 0


def test_a_ctrl_c_that_a_finalizer_swallows_comes_again() -> None:
    ended = python(FINALIZER)
    assert (ended.stdout, ended.stderr) == ("caught\n", "")


def test_as_a_library_dfs_leaves_signals_alone() -> None:
    text = "import signal; before = signal.getsignal(2)\nfrom dfs.cli import run; run(['version'])\n"
    ended = python(f"{text}assert signal.getsignal(2) is before")
    assert ended.returncode == 0


def test_modules_before_the_guard_are_few() -> None:
    ended = python(
        "import signal, os, sys; before = set(sys.modules); import dfs.__main__\n"
        "print(*(set(sys.modules) - before))"
    )
    more: Any = set(ended.stdout.split())
    assert more == {"dfs", "dfs.__main__", "dfs.interrupts"}
