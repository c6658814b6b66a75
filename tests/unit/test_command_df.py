"""`dfs df`."""

from typing import Any


def test_each_node_and_what_fits_together(home: Any) -> None:
    head, *rows, last = home.dfs("df")
    assert head.split() == ["NODE", "USED", "FREE", "QUOTA"]
    assert [row.split()[0] for row in rows] == list("ABCD")
    assert last.startswith("Together they can take ")
    assert last.endswith(" more at 2 of 4.")


def test_the_smallest_node_of_four_decides(home: Any) -> None:
    told = home.json("df")["data"]
    assert told["joint_free"] == 2 * min(node["free"] for node in told["nodes"])
    assert (told["needed"], told["total"]) == (2, 4)


def test_with_too_few_nodes_nothing_can_be_taken(home: Any) -> None:
    assert home.json("df")["data"]["joint_free"] > 0
    home.kill(1)
    assert home.json("df")["data"]["joint_free"] > 0
    home.dfs("df", "--strict", status=3)
    home.kill(2)
    told = home.json("df")["data"]
    assert told["joint_free"] == 0
    assert [node["up"] for node in told["nodes"]] == [True, True, False, False]
