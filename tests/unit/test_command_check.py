"""`dfs check`."""

import os
from typing import Any

import pytest


@pytest.fixture
def stored(home: Any) -> Any:
    """A home whose vault holds a file of 100 KB and a tiny one in a folder."""
    home.write("f", os.urandom(100_000))
    home.write("g")
    home.dfs("put", "f")
    home.dfs("put", "g", "--to", "sub/g")
    return home


def test_complete_files_are_counted(stored: Any) -> None:
    assert stored.dfs("check") == ["2 files, 2 complete."]
    assert stored.dfs("check", "sub") == ["1 file, 1 complete."]
    assert stored.dfs("check", "f") == ["1 file, 1 complete."]
    stored.dfs("check", "missing", status=4)


def test_nodes_read_what_they_keep(stored: Any) -> None:
    (line,) = stored.dfs("check", "--read-data")
    assert line.startswith("2 files, 2 complete. Read ")
    assert stored.json("check", "--read-data=100")["data"]["read_bytes"] > 0
    for wrong in ("0%", "101%", "x"):
        stored.dfs("check", f"--read-data={wrong}", status=2)
        assert "expected a percentage" in stored.err


def test_a_node_that_is_away_makes_files_degraded(stored: Any) -> None:
    stored.kill(1)
    lines = stored.dfs("check", status=3)
    assert lines[0].startswith("degraded 3/4  f  survives any 1")
    assert lines[-1] == "2 files, 0 complete, 2 degraded. To repair: dfs repair"
    assert "D does not answer" in stored.err
    told = stored.json("check", status=3)["data"]
    assert (told["files"], told["complete"], told["degraded"], told["incomplete"]) == (2, 0, 2, 0)
    assert [item["path"] for item in told["items"]] == ["f", "sub/g"]
    stored.dfs("check", "--no-strict")


def test_too_few_nodes_make_them_incomplete(stored: Any) -> None:
    stored.kill(3)
    lines = stored.dfs("check", status=5)
    assert any(line.startswith("INCOMPLETE 1/4  f  needs 2") for line in lines)


def test_what_if(stored: Any) -> None:
    assert stored.dfs("check", "--what-if", "kill=A,B") == [
        "2 files, 2 complete. Without A, B: 2 readable, 0 lost."
    ]
    (line,) = stored.dfs("check", "--what-if", "kill=A,B,C", status=5)
    assert "lost: f" in line
    assert stored.dfs("check", "--any", "2") == [
        "2 files, 2 complete. Without any 2 nodes: 2 readable, 0 lost."
    ]
    assert stored.json("check", "--any", "3", status=5)["data"]["what_if"]["lost"][0] == "f"
    stored.dfs("check", "--what-if", "kill=X", status=2)
    assert "There are A, B, C, D" in stored.err
    stored.dfs("check", "--what-if", "A", status=2)
