"""What `ls` prints and what it means for the exit code, over real nodes in one process."""

import os
from typing import Any

import pytest


@pytest.fixture
def listed_home(home: Any) -> Any:
    """A cluster with a file at the top and one in a folder."""
    home.write("top", os.urandom(3000))
    home.write("low", os.urandom(3000))
    home.dfs("put", "top")
    home.dfs("put", "low", "--to", "box/")
    return home


def test_names_are_sorted_and_folders_end_in_a_slash(listed_home: Any) -> None:
    assert listed_home.dfs("ls") == ["box/", "top"]


def test_a_folder_a_tree_and_one_file(listed_home: Any) -> None:
    assert listed_home.dfs("ls", "box") == ["low"]
    assert listed_home.dfs("ls", "-R") == ["box/", "box/low", "top"]
    assert listed_home.dfs("ls", "box/low") == ["low"]


def test_a_missing_folder_is_4(listed_home: Any) -> None:
    assert listed_home.dfs("ls", "unheard", status=4) == []
    assert "Folder does not exist." in listed_home.err


def test_health_counts_for_the_exit_code_only_when_asked(listed_home: Any) -> None:
    listed_home.kill(1)
    assert listed_home.dfs("ls") == ["box/", "top"]
    assert listed_home.dfs("ls", "--strict", status=3) == ["box/", "top"]
    listed_home.kill(3)
    assert listed_home.dfs("ls") == ["box/", "top [incomplete]"]
    assert "may be stale" in listed_home.err
    assert listed_home.dfs("ls", "--strict", status=5) == ["box/", "top [incomplete]"]


def test_largest_or_newest_first(listed_home: Any) -> None:
    listed_home.write("huge", os.urandom(9000))
    listed_home.write("ancient")
    os.utime(listed_home.folder / "ancient", (1e9, 1e9))
    listed_home.dfs("put", "huge", "ancient")
    assert listed_home.dfs("ls", "--sort", "size") == ["huge", "top", "ancient", "box/"]
    assert listed_home.dfs("ls", "--sort", "time")[2:] == ["ancient", "box/"]
    rows = listed_home.dfs("ls", "-l", "--sort", "size")[1:3]
    assert [row.split()[-1] for row in rows] == ["huge", "top"]
    listed_home.dfs("ls", "--sort", "luck", status=2)


def test_a_pattern_lists_what_is_like_it(listed_home: Any) -> None:
    assert listed_home.dfs("ls", "*o*") == ["box/", "top"]
    assert listed_home.dfs("ls", "-R", "b*") == ["box/", "box/low"]
    assert listed_home.dfs("ls", "*/l?w") == ["box/low"]
    listed_home.dfs("ls", "*.none", status=4)


def test_squares_where_the_terminal_can_draw_them(listed_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listed_home.kill(1)
    assert "  ###.  " in listed_home.dfs("ls", "-l")[2]
    monkeypatch.setattr("dfs.context.Context.pictorial", True)
    assert "  \u25a0\u25a0\u25a0\u25a1  " in listed_home.dfs("ls", "-l")[2]


def test_nodes_that_hold_their_part_are_named(listed_home: Any) -> None:
    assert listed_home.dfs("ls", "--nodes")[:2] == ["NODES    NAME", "A B C D  box/"]
    listed_home.kill(1)
    listed_home.write("new", os.urandom(3000))
    listed_home.dfs("put", "new", status=3)
    assert listed_home.dfs("ls", "--nodes", "-R")[1:] == [
        "A B C -  box/",
        "A B C -  box/low",
        "A B C -  new",
        "A B C -  top",
    ]
    (new,) = listed_home.json("ls", "--nodes", "new")["data"]["entries"]
    assert new["holders"] == ["A", "B", "C"]
    rows = listed_home.dfs("ls", "--nodes", "-l")
    assert [row for row in rows if "  A B C -  20" in row and "  new   survives any 1" in row]


def test_a_long_list_of_a_tree_has_whole_paths(listed_home: Any) -> None:
    rows = listed_home.dfs("ls", "-lR")
    assert [row.split()[-1] for row in rows[1:-1]] == ["box/", "box/low", "top"]
