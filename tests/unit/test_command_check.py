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
    assert lines[-1] == "2 files, 0 complete, 2 degraded. When D is back: dfs repair"
    assert "D does not answer" in stored.err
    told = stored.json("check", status=3)["data"]
    assert (told["files"], told["complete"], told["degraded"], told["incomplete"]) == (2, 0, 2, 0)
    assert [item["path"] for item in told["items"]] == ["f", "sub/g"]
    assert [away["node"] for away in told["away"]] == ["D"]
    stored.dfs("check", "--no-strict")


def test_too_few_nodes_make_them_incomplete(stored: Any) -> None:
    stored.kill(3)
    lines = stored.dfs("check", status=5)
    assert any(line.startswith("INCOMPLETE 1/4  f  needs 2") for line in lines)


def test_what_if(stored: Any) -> None:
    assert stored.dfs("check", "--what-if", "kill=a,B") == [
        "now: 2 files, 2 complete. Without A and B: 2 readable, 0 lost."
    ]
    assert stored.dfs("check", "--what-if", "kill=A,B,C", status=5) == [
        "now: 2 files, 2 complete. Without A, B and C: 1 readable, 1 lost: f (1 of 2 needed shares left)."
    ]
    stored.dfs("check", "--what-if", "kill=X", status=2)
    assert "There are A, B, C and D" in stored.err
    for wrong in ("A", "kill=", "lose=A"):
        stored.dfs("check", "--what-if", wrong, status=2)
    stored.dfs("check", "--what-if", "kill=A", "--any", "1", status=2)


def test_what_if_any(stored: Any) -> None:
    assert stored.dfs("check", "--any", "2") == [
        "now: 2 files, 2 complete. Without any 2 nodes: 2 readable, 0 lost."
    ]
    told = stored.json("check", "--any", "3", status=5)["data"]["what_if"]
    assert told == {"killed": [], "any": 3, "lost": ["f"]}, "the tiny one lies whole on every node"
    assert stored.json("check", "--any", "4", status=5)["data"]["what_if"]["lost"] == ["f", "sub/g"]
    stored.dfs("check", "--any", "0", status=2)


def test_what_repair_would_save_is_told(stored: Any) -> None:
    stored.kill(1)
    (line,) = stored.dfs("check", "f", "--what-if", "kill=A,B", status=5)[1:]
    assert line.endswith("1 lost: f (1 of 2 needed shares left). To survive this: dfs repair")
