"""`dfs repair`."""

import os
from typing import Any

import pytest


@pytest.fixture
def flawed(home: Any) -> Any:
    """A home with a file of which a node lacks its share."""
    home.write("f", os.urandom(100_000))
    home.dfs("put", "f")
    home.settle()
    vault = home.nodes[3].server._options.store.vault("odile", create=False)
    (key,) = vault.shares(None, 10)
    vault.transact(lambda transaction: transaction.mark_corrupt(key))
    return home


def test_nothing_to_do(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    home.settle()
    assert home.dfs("repair") == []
    assert home.err == "nothing to repair\n"


def test_what_is_bad_is_made_again_once(flawed: Any) -> None:
    assert flawed.dfs("check", status=6)[0].startswith("CORRUPT 3/4  f")
    flawed.dfs("repair", "-n")
    assert "plan: 0 entries to bring up to date, 1 share to make (reads " in flawed.err
    flawed.dfs("check", status=6)
    (line,) = flawed.dfs("repair", "f")
    assert line.startswith("repair made 1 share (read ")
    assert flawed.dfs("check") == ["1 file, 1 complete."]
    assert flawed.json("repair", "--all")["data"]["made"] == 0


def test_programs_learn_what_was_planned_and_made(flawed: Any) -> None:
    told = flawed.json("heal")["data"]
    assert told["planned"]["shares"] == told["made"] == 1
    assert told["planned"]["written"] == told["written"]
    assert told["left"] == []


def test_what_cannot_be_done_is_told(flawed: Any) -> None:
    flawed.kill(1)
    assert flawed.dfs("repair", status=3) == []
    first, second, third = flawed.err.splitlines()
    assert first == "nothing to repair on the nodes that answer"
    assert second.startswith("left: D is away: ")
    assert third == "What they lack can be made when they are back: dfs repair"
    flawed.dfs("--no-strict", "repair")
    assert flawed.json("repair", status=3)["data"]["left"][0].startswith("D is away: ")
    flawed.kill(4)
    flawed.dfs("repair", status=7)


def test_words_that_exclude_each_other(flawed: Any) -> None:
    flawed.dfs("repair", "f", "--all", status=2)
    flawed.dfs("repair", "missing", status=4)
