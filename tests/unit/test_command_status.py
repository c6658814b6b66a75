"""`dfs status`."""

import os
from typing import Any

import pytest


def test_every_node_has_its_line(home: Any) -> None:
    home.write("f", os.urandom(100_000))
    home.dfs("put", "f")
    lines = home.dfs("status")
    assert lines[0] == "odile at default: 4 of 4 nodes up, geometry 2 of 4"
    assert lines[1] == "2 more nodes may fail and all can be read, 1 and all can be written"
    assert [line.split()[0] for line in lines[2:]] == ["A", "B", "C", "D"]
    assert all("  active  1 share, " in line and "not scrubbed yet" in line for line in lines[2:])


def test_a_node_that_is_away_is_named_with_the_reason(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.kill(1)
    lines = home.dfs("status")
    assert "3 of 4 nodes up" in lines[0]
    assert lines[1] == "1 more node may fail and all can be read, none and all can be written"
    assert lines[5].startswith("D  down: ")
    home.dfs("--strict", "status", status=3)


def test_too_few_nodes_are_told_as_that(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.kill(2)
    lines = home.dfs("status")
    assert lines[1] == "0 more nodes may fail and all can be read; not all can be written without 1 more node"
    told = home.json("status")["data"]
    assert (told["may_fail"], told["readable"], told["writable"]) == (0, True, False)


def test_programs_get_it_all(home: Any) -> None:
    home.write("f", os.urandom(100_000))
    home.dfs("put", "f")
    told = home.json("status")["data"]
    assert (told["up"], told["may_fail"], told["may_fail_writing"], told["repairs_due"]) == (4, 2, 1, 0)
    assert {node["state"] for node in told["nodes"]} == {"active"}
    assert {node["shares"] for node in told["nodes"]} == {1}


def test_watching_is_not_for_one_object(home: Any) -> None:
    home.dfs("ls")
    home.dfs("--json", "status", "--watch", status=2)
    assert "--json-lines" in home.out


def test_what_a_node_says_cannot_forge_lines(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home.dfs("ls")
    store = home.nodes[0].server._options.store.vault("odile", create=False)
    forged = property(lambda _store: "broken\nB down: all is lost")
    monkeypatch.setattr(type(store), "read_only_reason", forged)
    lines = home.dfs("status")
    assert len(lines) == 6
    assert lines[2].endswith("READ-ONLY: broken\\nB down: all is lost")


def test_a_quota_and_what_is_used_of_it_are_shown(home: Any) -> None:
    home.write("f", os.urandom(100_000))
    home.dfs("put", "f")
    assert all("  quota " not in line for line in home.dfs("status"))
    told = home.json("status")["data"]["nodes"]
    assert all(node["quota"] is None and node["quota_used"] > node["used"] > 50_000 for node in told)
    users = home.folder.parent / "users"
    users.write_text(users.read_text().strip() + " quota=1MiB\n")
    for node in home.nodes:
        node.accounts.refresh()
    assert all("KiB of 1.0 MiB" in line for line in home.dfs("status")[2:])
    assert {node["quota"] for node in home.json("status")["data"]["nodes"]} == {1 << 20}
    home.write("large", os.urandom(3_000_000))
    home.dfs("put", "large", status=8)
    line = home.err.splitlines()[-1]
    assert "KiB of 1.0 MiB are used). Nothing was changed. Remove something (dfs rm), or ask" in line
    assert "A test_" in line.partition(": no room in the quota")[0]
    assert line.endswith("(DFS-E602)")
    assert home.dfs("ls") == ["f"]
    home.dfs("rm", "f")
