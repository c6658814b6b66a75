"""`dfs tree`."""

import sys
from typing import Any

import pytest


@pytest.fixture
def full_home(home: Any) -> Any:
    home.write("f")
    for path in ("a/one", "a/deep/two", "z"):
        home.dfs("put", "f", "--to", path)
    return home


def test_a_drawing_in_ascii(full_home: Any) -> None:
    assert full_home.dfs("tree") == [
        "/",
        "|-- a/",
        "|   |-- deep/",
        "|   |   `-- two",
        "|   `-- one",
        "`-- z",
        "2 folders, 3 files, 21 B",
    ]
    assert full_home.dfs("tree", "a", "-L", "1")[:3] == ["a/", "|-- deep/", "`-- one"]
    assert "deep" not in "".join(full_home.dfs("tree", "--exclude", "deep"))


def test_a_terminal_that_can_gets_lines(full_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    from dfs.context import Context

    assert Context().pictorial
    monkeypatch.setenv("TERM", "dumb")
    assert not Context().pictorial


def test_programs_get_it_nested(full_home: Any) -> None:
    told = full_home.json("tree")["data"]
    (folder, file) = told["entries"]
    assert [entry["path"] for entry in folder["entries"]] == ["a/deep", "a/one"]
    assert folder["entries"][0]["entries"][0]["path"] == "a/deep/two"
    assert "entries" not in file


def test_what_is_no_folder_is_refused(full_home: Any) -> None:
    full_home.dfs("tree", "missing", status=4)
    full_home.dfs("tree", "z", status=9)
    full_home.dfs("tree", "-L", "0", status=2)
