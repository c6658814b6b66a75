"""`dfs rm`."""

from typing import Any

import pytest


@pytest.fixture
def full_home(home: Any) -> Any:
    """A home whose vault holds a file and a folder with one."""
    home.write("f")
    home.dfs("put", "f", "--to", "sub/f")
    home.dfs("put", "f")
    return home


def test_files_are_removed_and_counted(full_home: Any) -> None:
    assert full_home.dfs("rm", "f", "sub/f") == ["2 entries removed"]
    assert full_home.dfs("ls", "-R") == ["sub/"]
    full_home.dfs("rm", "f", status=4)
    assert full_home.out == ""


def test_folders_need_r(full_home: Any) -> None:
    full_home.dfs("rm", "sub", status=9)
    assert "Use rm -r" in full_home.err
    assert full_home.dfs("rm", "-r", "sub") == ["2 entries removed"]
    assert full_home.dfs("ls", "-R") == ["f"]
    full_home.dfs("rm", "", status=2)
    assert full_home.dfs("rm", "-r", "/") == ["1 entry removed"]


def test_one_bad_name_does_not_stop_the_others(full_home: Any) -> None:
    assert full_home.dfs("rm", "missing", "f", status=4) == ["1 entry removed"]
    assert full_home.dfs("ls") == ["sub/"]


def test_only_the_version_that_is_meant(full_home: Any) -> None:
    version = full_home.json("ls", "f")["data"]["entries"][0]["version"]
    full_home.dfs("rm", "f", "--if-version", "00" * 16, status=9)
    full_home.dfs("rm", "f", "--if-version", "x", status=2)
    assert full_home.json("rm", "f", "--if-version", version)["data"] == {"removed": ["f"]}


def test_a_dry_run_removes_nothing(full_home: Any) -> None:
    assert full_home.dfs("rm", "-rn", "sub") == ["would remove sub/f", "would remove sub"]
    full_home.dfs("rm", "-n", "missing", status=4)
    assert full_home.dfs("ls", "-R") == ["f", "sub/", "sub/f"]


def test_too_few_nodes_remove_nothing(full_home: Any) -> None:
    full_home.kill(2)
    full_home.dfs("rm", "f", status=7)
    assert full_home.dfs("ls") == ["f", "sub/"]


def test_with_force_what_is_not_there_is_no_error(full_home: Any) -> None:
    assert full_home.dfs("rm", "--force", "missing", "none*", "f") == ["1 entry removed"]
    assert full_home.dfs("rm", "-r", "--force", "missing") == []
    assert full_home.err == ""
    full_home.dfs("rm", "--force", "sub", status=9)
    full_home.dfs("rm", "--force", "../up", status=2)
