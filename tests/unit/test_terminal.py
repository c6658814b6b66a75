"""Lines from pipes and what a Tab offers; tests/e2e tries the prompt through a pseudo-terminal."""

import io
import sys
from pathlib import Path

import pytest

from dfs.terminal import completions, plain_reader

REMOTE = {"": ["f.txt", "a b", "sub/", "süd/"], "sub/": ["f2", "deep/"]}


def offered(line: str, folder: str = "") -> list[str]:
    return completions(line, folder, lambda head: REMOTE.get(head, []))[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("P", ["PUT"]),
        ("g", ["get"]),
        ("", ["LIST", "GET", "PUT", "MKDIR", "RM", "HELP", "QUIT", "EXIT"]),
        ("x", []),
        ("GET f", ["f.txt"]),
        ("get a", ['"a b"']),
        ("GET sub/", ["sub/f2", "sub/deep/"]),
        ("GET sub/f", ["sub/f2"]),
        ("LIST s", ["sub/", "süd/"]),
        ("LIST f", []),
        ("PUT x s", ["sub/", "süd/"]),
        ("GET f.txt sub/d", ["sub/deep/"]),
        ("GET 'a b", []),  # inside quotes
        ("HELP f", []),
        ("frob f", []),
        ("GET nowhere/", []),
    ],
)
def test_a_tab_offers_what_the_verb_takes(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_put_offers_local_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "g").touch()
    (tmp_path / "draft one").touch()
    assert offered("PUT d", str(tmp_path)) == ["dir/", '"draft one"']
    assert offered("PUT dir/", str(tmp_path)) == ["dir/g"]
    assert offered("PUT nowhere/", str(tmp_path)) == []
    monkeypatch.chdir(tmp_path)
    assert offered("PUT di") == ["dir/"]


def test_lines_of_a_pipe_come_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO("LIST süd\r\nGET \xff".encode("latin-1"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw, encoding="utf-8", newline=""))
    read = plain_reader()
    assert read() == "LIST s\udcfcd\r\n"
    assert read() == "GET \udcff"
    with pytest.raises(EOFError):
        read()
