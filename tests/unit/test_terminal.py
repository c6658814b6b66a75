"""Lines from pipes and what a Tab offers; tests/e2e tries the prompt through a pseudo-terminal."""

import io
import sys
from pathlib import Path

import pytest

from dfs.terminal import Taken, completions, plain_reader

REMOTE = {"": ["f.txt", "a b", "sub/", "süd/"], "sub/": ["f2", "deep/"]}


OPTIONS = {"cat": ["--range", "--json"], "put": ["-r", "--recursive", "--to"]}


def offered(line: str, folder: str = "") -> list[str]:
    taken = Taken(
        folder, lambda head: REMOTE.get(head, []), OPTIONS.keys() | {"put", "ls"}, lambda name: OPTIONS[name]
    )
    return completions(line, taken)[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("P", ["PUT", "PWD", "put"]),
        ("g", ["get"]),
        ("c", ["cd", "cat"]),
        (
            "",
            [*("LIST", "GET", "PUT", "MKDIR", "RM", "CD", "PWD", "LCD", "HELP", "QUIT", "EXIT")],
        ),
        ("x", []),
        ("GET f", ["f.txt"]),
        ("get a", ['"a b"']),
        ("GET sub/", ["sub/f2", "sub/deep/"]),
        ("GET sub/f", ["sub/f2"]),
        ("LIST s", ["sub/", "s\xfcd/"]),
        ("LIST f", []),
        ("CD s", ["sub/", "s\xfcd/"]),
        ("PUT x s", ["sub/", "s\xfcd/"]),
        ("GET f.txt sub/d", ["sub/deep/"]),
        ("GET 'a b", ['"a b"']),
        ('GET "a', ['"a b"']),
        ('GET "a b" su', ["sub/"]),
        ("cat f", ["f.txt"]),
        ("CAT --range 0-9 f", ["f.txt"]),
        ("cat --r", ["--range"]),
        ("put -", ["--recursive", "--to", "-r"]),
        ("HELP f", []),
        ("frob f", []),
        ("frob -", []),
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
    assert offered('PUT "draft', str(tmp_path)) == ['"draft one"']
    monkeypatch.chdir(tmp_path)
    assert offered("PUT di") == ["dir/"]
    assert offered("LCD d") == ["dir/"]


def test_lines_of_a_pipe_come_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO("LIST süd\r\nGET \xff".encode("latin-1"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw, encoding="utf-8", newline=""))
    read = plain_reader()
    assert read() == "LIST s\udcfcd\r\n"
    assert read() == "GET \udcff"
    with pytest.raises(EOFError):
        read()
