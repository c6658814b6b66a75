"""`dfs du`."""

import os
from typing import Any

import pytest


@pytest.fixture
def full_home(home: Any) -> Any:
    home.write("dense", os.urandom(40_000))
    home.write("loose", b"x" * 40_000)
    home.dfs("put", "dense", "--to", "a/deep/dense")
    home.dfs("put", "loose", "--to", "a/loose")
    return home


def test_folders_deepest_first_and_the_path_last(full_home: Any) -> None:
    head, *rows = full_home.dfs("du")
    assert head.split() == ["FILES", "PACKED", "STORED", "NAME"]
    assert [row.split()[-1] for row in rows] == ["a/deep", "a", "/"]
    assert rows[0].split()[:6] == ["39.1", "KiB", "39.1", "KiB", "78.2", "KiB"]
    assert rows[2].split()[0] == "78.1"
    assert [row.split()[-1] for row in full_home.dfs("du", "-d", "1")[1:]] == ["a", "/"]
    assert [row.split()[-1] for row in full_home.dfs("du", "-d", "0", "a")[1:]] == ["a"]


def test_a_file_alone_and_what_packing_saves(full_home: Any) -> None:
    (row,) = full_home.json("du", "a/loose")["data"]["rows"]
    assert (row["kind"], row["files"], row["logical"]) == ("file", 1, 40_000)
    assert row["packed"] < 1000
    full_home.dfs("du", "missing", status=4)


def test_sums_are_the_sums(full_home: Any) -> None:
    rows = {row["path"]: row for row in full_home.json("du")["data"]["rows"]}
    assert rows[""]["files"] == 2
    assert rows[""]["logical"] == 80_000
    stored = [entry["stored_bytes"] for entry in full_home.json("ls", "-R")["data"]["entries"]]
    assert rows[""]["stored"] >= sum(stored)
