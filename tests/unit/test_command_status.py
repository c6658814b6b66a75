"""`dfs status`."""

import os
from typing import Any


def test_every_node_has_its_line(home: Any) -> None:
    home.write("f", os.urandom(100_000))
    home.dfs("put", "f")
    lines = home.dfs("status")
    assert "4 of 4 nodes up, geometry 2 of 4; 2 more nodes may fail" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["A", "B", "C", "D"]
    assert all("  active  1 share, " in line and "not scrubbed yet" in line for line in lines[1:])


def test_a_node_that_is_away_is_named_with_the_reason(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.kill(1)
    lines = home.dfs("status")
    assert "3 of 4 nodes up" in lines[0]
    assert "1 more node may fail" in lines[0]
    assert "down: " in lines[4]
    home.dfs("--strict", "status", status=3)


def test_programs_get_it_all(home: Any) -> None:
    home.write("f", os.urandom(100_000))
    home.dfs("put", "f")
    told = home.json("status")["data"]
    assert (told["up"], told["may_fail"], told["repairs_due"]) == (4, 2, 0)
    assert {node["state"] for node in told["nodes"]} == {"active"}
    assert {node["shares"] for node in told["nodes"]} == {1}
