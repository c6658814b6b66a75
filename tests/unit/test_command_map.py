"""`dfs map`."""

import os
from typing import Any

import pytest


@pytest.fixture
def full_home(home: Any) -> Any:
    home.write("video.mkv", os.urandom(9 << 20))
    home.write("tiny")
    home.dfs("put", "video.mkv", "tiny")
    return home


def test_a_row_for_each_file(full_home: Any) -> None:
    assert [line.split() for line in full_home.dfs("map")] == [
        ["FILE", *"ABCD"],
        ["tiny", *["entry", "ok"] * 4],
        ["video.mkv", *["3/3", "ok"] * 4],
    ]


def test_what_a_node_missed(full_home: Any) -> None:
    full_home.kill(1)
    full_home.write("late", os.urandom(40_000))
    full_home.dfs("put", "late", status=3)
    (row,) = full_home.json("map", "late")["data"]["rows"]
    assert [(cell["held"], cell["total"], cell["state"]) for cell in row["cells"]] == [
        *[(1, 1, "ok")] * 3,
        (0, 1, "away"),
    ]
    (row,) = full_home.json("map", "late", "--chunks")["data"]["rows"]
    assert [cell["state"] for cell in row["cells"]] == ["ok", "ok", "ok", "away"]


def test_a_row_for_each_chunk(full_home: Any) -> None:
    rows = full_home.json("map", "--chunks", "video.mkv")["data"]["rows"]
    assert [row["chunk"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert sorted(cell["shares"] for cell in row["cells"]) == [[0], [1], [2], [3]]
        assert {cell["state"] for cell in row["cells"]} == {"ok"}
    assert full_home.dfs("map", "--chunks", "video.mkv")[1].startswith("video.mkv  0      share ")
    assert full_home.dfs("map", "--chunks", "tiny")[1].split()[:4] == ["tiny", "-", "entry", "ok"]
    full_home.dfs("map", "missing", status=4)
