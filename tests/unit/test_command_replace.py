"""`dfs replace`; that nothing is lost by it is proven with real nodes in tests/e2e/test_repair.py."""

from typing import Any


def test_a_node_that_is_there_is_not_replaced(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.dfs("-y", "replace", "A", status=9)
    assert "is a node of this vault already" in home.err


def test_a_node_nobody_knows(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.dfs("-y", "replace", "X", status=2)
    assert "the conf names no node X" in home.err


def test_a_node_that_does_not_answer(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.kill(1)
    home.dfs("-y", "replace", "D", status=7)
