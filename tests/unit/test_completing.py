"""What a shell completes: asked as its script asks, by variables."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dfs.cli import COMMANDS
from tests.e2e.conftest import COMMAND

ASK = """
source <(dfs completion bash)
COMP_WORDS=(dfs config co); COMP_CWORD=2
_dfs_completion dfs co
echo "${COMPREPLY[@]}"
"""


def completed(home: Any, monkeypatch: pytest.MonkeyPatch, line: str, status: int = 0) -> list[str]:
    monkeypatch.setenv("_DFS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    lines: list[str] = home.dfs(status=status)
    assert home.err == ""
    return lines


def test_commands_and_options(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = completed(bare_home, monkeypatch, "dfs ")
    assert {word.partition(",")[2] for word in words} == {"serve", "client", "put", "get", "ls", *COMMANDS}
    assert completed(bare_home, monkeypatch, "dfs config sh") == ["plain,show"]
    assert completed(bare_home, monkeypatch, "dfs put --recu") == ["plain,--recursive"]
    assert completed(bare_home, monkeypatch, "dfs completion f") == ["plain,fish"]


def test_local_names_are_the_shells(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(bare_home, monkeypatch, "dfs put re") == ["file,re"]
    assert completed(bare_home, monkeypatch, "dfs --conf re") == ["file,re"]


def test_remote_names_are_the_clusters(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home.dfs("mkdir", "photos")
    home.dfs("put", home.write("report"), "--to", "photos/report 1.pdf")
    home.dfs("put", home.write("plan"))
    assert completed(home, monkeypatch, "dfs get p") == ["plain,photos/", "plain,plan"]
    assert completed(home, monkeypatch, "dfs ls photos/") == ["plain,photos/report 1.pdf"]
    assert completed(home, monkeypatch, "dfs get nowhere/x") == []


def test_nobody_is_asked_for_a_password(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_home.write("dfs.toml", b'format = 1\n[[node]]\nname = "A"\naddress = "127.0.0.1:1"\n')
    assert completed(bare_home, monkeypatch, "dfs get p") == []


@pytest.mark.parametrize("line", ["dfs nonsense x", "dfs --plugin gone.py ls x", "dfs get x"])
def test_what_fails_completes_nothing(bare_home: Any, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    bare_home.write("dfc.conf", b"nonsense\n")
    assert completed(bare_home, monkeypatch, line) == []


def test_an_unknown_shell_is_an_error(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_DFS_COMPLETE", "tcsh_complete")
    bare_home.dfs(status=1)


def test_a_real_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "dfs").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (tmp_path / "dfs").chmod(0o755)
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        ["bash", "-c", ASK],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": root},
        check=True,
        timeout=20,
    )
    assert ended.stdout.split() == ["convert"]
