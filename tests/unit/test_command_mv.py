"""`dfs mv`."""

from typing import Any

import pytest


@pytest.fixture
def full_home(home: Any) -> Any:
    for name in ("a", "b"):
        home.write(name, name.encode() * 3000)
    home.dfs("put", "a", "b")
    home.dfs("put", "a", "--to", "sub/a")
    return home


def everything(home: Any) -> list[str]:
    lines: list[str] = home.dfs("ls", "-R")
    return lines


def test_a_file_gets_a_new_name(full_home: Any) -> None:
    assert full_home.dfs("mv", "a", "deep/c") == ["a -> deep/c"]
    assert everything(full_home) == ["b", "deep/", "deep/c", "sub/", "sub/a"]


def test_files_go_into_a_folder(full_home: Any) -> None:
    full_home.dfs("mv", "b", "sub")
    assert full_home.dfs("mv", "a", "new/") == ["a -> new/a"]
    assert everything(full_home) == ["new/", "new/a", "sub/", "sub/a", "sub/b"]
    assert full_home.dfs("mv", "sub/*", "new/a", status=2) == []
    full_home.dfs("mv", "sub/*", "other/")
    assert full_home.dfs("ls", "other") == ["a", "b"]


def test_a_folder_needs_r_and_goes_whole(full_home: Any) -> None:
    full_home.dfs("mv", "sub", "box", status=2)
    assert "mv -r" in full_home.err
    assert full_home.dfs("mv", "-r", "sub", "box") == ["sub -> box"]
    full_home.dfs("mv", "-r", "box", "box/in", status=9)
    assert everything(full_home) == ["a", "b", "box/", "box/a"]


def test_what_is_there_stays_unless_forced(full_home: Any) -> None:
    full_home.dfs("mv", "a", "b", status=9)
    assert full_home.dfs("cat", "--range", "0-1", "b") == ["bb"]
    full_home.dfs("mv", "--force", "a", "b")
    assert full_home.dfs("cat", "--range", "0-1", "b") == ["aa"]
    full_home.dfs("mv", "missing", "x", status=4)
    full_home.dfs("mv", "b", status=2)


def test_only_the_version_that_is_meant(full_home: Any) -> None:
    version = full_home.json("ls", "a")["data"]["entries"][0]["version"]
    full_home.dfs("mv", "a", "c", "--if-version", "00" * 16, status=9)
    full_home.dfs("mv", "a", "c", "--if-version", "x", status=2)
    assert full_home.json("mv", "a", "c", "--if-version", version)["data"] == {
        "moved": [{"from": "a", "to": "c"}]
    }


def test_a_dry_run_moves_nothing(full_home: Any) -> None:
    assert full_home.dfs("mv", "-n", "a", "x") == ["would move a -> x"]
    full_home.dfs("mv", "-n", "missing", "x", status=4)
    assert everything(full_home) == ["a", "b", "sub/", "sub/a"]


def test_too_few_nodes_move_nothing(full_home: Any) -> None:
    full_home.kill(2)
    full_home.dfs("mv", "a", "c", status=7)
    assert everything(full_home) == ["a", "b", "sub/", "sub/a"]
