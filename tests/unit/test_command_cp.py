"""`dfs cp`."""

import os
from typing import Any

import pytest

BIG = os.urandom(40_000)


@pytest.fixture
def full_home(home: Any) -> Any:
    home.write("a", BIG)
    home.write("b", b"other" * 3000)
    home.dfs("put", "a", "b")
    home.dfs("put", "a", "--to", "sub/deep/a")
    return home


def test_a_copy_holds_the_same_shares_and_outlives_the_first(full_home: Any) -> None:
    before = full_home.json("df")["data"]["nodes"]
    assert full_home.dfs("cp", "a", "c") == ["a -> c"]
    after = full_home.json("df")["data"]["nodes"]
    assert [node["used"] for node in after] == [node["used"] for node in before]
    full_home.dfs("rm", "a", "sub/deep/a")
    full_home.dfs("get", "c", "-o", "back")
    assert (full_home.folder / "back").read_bytes() == BIG


def test_a_folder_with_all_below_it(full_home: Any) -> None:
    full_home.dfs("cp", "sub", "copy", status=2)
    assert full_home.dfs("cp", "-r", "sub", "copy") == ["sub -> copy"]
    assert full_home.dfs("ls", "-R", "copy") == ["deep/", "deep/a"]
    assert full_home.dfs("ls", "-R", "sub") == ["deep/", "deep/a"]
    full_home.dfs("cp", "-r", "sub", "sub/in", status=9)
    full_home.dfs("cp", "-r", "sub", "copy")  # into the folder that is there
    assert full_home.dfs("ls", "copy") == ["deep/", "sub/"]


def test_what_is_there_stays_unless_forced(full_home: Any) -> None:
    full_home.dfs("cp", "a", "b", status=9)
    full_home.dfs("cp", "--force", "a", "b")
    full_home.dfs("get", "b", "-o", "back")
    assert (full_home.folder / "back").read_bytes() == BIG
    full_home.dfs("cp", "--force", "a", "sub/deep", status=0)  # a folder: into it
    full_home.dfs("cp", "a", "a", status=9)


def test_a_dry_run_copies_nothing(full_home: Any) -> None:
    assert full_home.dfs("cp", "-n", "[ab]", "box/") == ["would copy a -> box/a", "would copy b -> box/b"]
    assert full_home.dfs("ls") == ["a", "b", "sub/"]
    assert full_home.json("cp", "-n", "a", "c")["data"] == {"copied": [{"from": "a", "to": "c"}]}
