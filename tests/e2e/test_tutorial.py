"""The tutorial is true: every block of docs/tutorial.md is run, in order, and prints what the page says."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMAND, free_port

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
EXAMPLE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "end-of-block"
ANYTHING = "…"


def examples() -> list[tuple[str, str]]:
    """Each block of commands with what it prints, "" where the page does not say."""
    found: list[tuple[str, str]] = []
    for kind, text in EXAMPLE.findall(PAGE.read_text("utf-8")):
        if kind == "sh":
            found.append((text, ""))
        else:
            found[-1] = (found[-1][0], text)
    return found


def pattern_of(text: str) -> "re.Pattern[str]":
    """What the page shows, blanks counted once, with anything for each "…"."""
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in text.strip().split(ANYTHING)]
    return re.compile(".*?".join(part.replace("\\\n", r"\s+") for part in parts), re.DOTALL)


class Shell:
    """A bash that is told one block after the other."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )

    def run(self, text: str, until: str = "", count: int = 1) -> str:
        """Run a block and return what it printed; ``until``: and wait for so many lines with this."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{text}\necho {END} $?\n")
        stdin.flush()
        lines: list[str] = []
        ended, left = False, count if until else 0
        while not ended or left > 0:
            line = stdout.readline()
            assert line, "".join(lines)
            if line.startswith(END):
                ended = True
                lines.append("" if line.split()[1] == "0" else f"STATUS {line.split()[1]}\n")
            elif not line.startswith("bash: line "):  # that a job was killed
                left -= bool(until) and until in line
                lines.append(line)
        return "".join(lines)


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Iterator[Shell]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dfs").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (tmp_path / "bin" / "dfs").chmod(0o755)
    (tmp_path / "here").mkdir()
    path = f"{tmp_path / 'bin'}:{environment['PATH']}"
    opened = Shell(tmp_path / "here", {**environment, "PATH": path})
    yield opened
    os.killpg(opened.process.pid, signal.SIGKILL)
    opened.process.communicate()


@pytest.mark.long
def test_every_example_does_what_the_page_says(shell: Shell) -> None:
    numbers = [free_port() for _ in range(4)]
    shell.run(f"ports=({' '.join(map(str, numbers))})")
    for text, shown in examples():
        command, expected = text, shown
        for index, port in enumerate(numbers, start=1):
            command = command.replace(f"777{index}", str(port))
            expected = expected.replace(f"777{index}", str(port))
        command = command.replace("777$n", "${ports[$n-1]}")
        starts = len(range(*(1, 5) if "1 2 3 4" in command else (1, 3))) if "dfs serve" in command else 1
        printed = shell.run(command, "listening on port" if "dfs serve" in command else "", starts)
        assert "STATUS" not in printed, f"{text}\n{printed}"
        assert "Traceback" not in printed
        assert pattern_of(expected).search(printed), (
            f"{text}\n--- the page:\n{shown}\n--- printed:\n{printed}"
        )


def test_each_example_with_output_says_something() -> None:
    assert len(examples()) >= 12
    assert all(shown.strip(f"{ANYTHING}\n ") for _, shown in examples() if shown)


def test_what_the_page_shows_is_compared() -> None:
    assert pattern_of("a …\nb").search("x a 17\nb\n")
    assert not pattern_of("a …\nb").search("a 17\nc\n")
    assert not pattern_of("1 file").search("2 files")
