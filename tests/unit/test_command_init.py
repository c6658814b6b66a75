"""`dfs init`: with flags alone, and as a dialogue. With real nodes: tests/e2e/test_first_run.py."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from dfs.core.conf import parse_client

NODES = ("--node", "a=127.0.0.1:1", "--node", "b=127.0.0.1:2", "--node", "c=127.0.0.1:3")


def nodes_of(home: Any) -> list[str]:
    return [word for node in home.nodes for word in ("--node", f"{node.name}={node.server.address}")]


def test_flags_alone_make_a_conf_and_say_what_may_fail(home: Any) -> None:
    words = ("--transport", "memory", "init", *nodes_of(home), "--user", "tom", "--key-file", "tom.key")
    lines = home.dfs(*words)
    assert "4 of 4 nodes answer" in home.err
    promise = "Geometry 2 of 4: any 2 of 4 nodes may die; 1 GiB of files takes 2.0 GiB;"
    assert f"{promise} with any 1 node down files can still be stored." in home.err
    assert lines[0] == "Wrote dfc.conf (0600). Each node's users file needs:"
    assert lines[2].startswith("  tom ed25519:")
    assert lines[-1].startswith("Then: dfs client  ")
    conf = parse_client(Path("dfc.conf").read_bytes(), "dfc.conf")
    assert (conf.user, conf.transport, conf.geometry_needed, conf.geometry_total) == ("tom", "memory", 2, 4)
    home.dfs(*words, status=9)
    home.dfs(*words, "--force")
    assert conf == parse_client(Path("dfc.conf").read_bytes(), "dfc.conf")


def test_programs_get_what_was_made(bare_home: Any) -> None:
    values = bare_home.json(
        "init", *NODES, "--offline", "--geometry", "2 of 3", "--key-file", "k", "--output", "x/c.toml"
    )["data"]
    assert values["conf"] == "x/c.toml"
    assert values["geometry"] == {"needed": 2, "total": 3}
    assert (values["may_die"], values["may_miss_writing"], values["space_ratio"]) == (1, 0, 1.5)
    assert [node["name"] for node in values["nodes"]] == ["a", "b", "c"]
    assert values["public_key"].startswith("ed25519:")
    assert Path("x/c.toml").exists()


def test_a_dry_run_writes_nothing_and_asks_nothing(bare_home: Any) -> None:
    lines = bare_home.dfs("init", *NODES, "--offline", "-n", "--key-file", "k")
    assert "[geometry]" in lines
    assert list(Path().iterdir()) == []


def test_without_terminal_and_nodes_it_says_what_is_missing(
    bare_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    bare_home.dfs("init", status=2)
    assert "Name each: --node NAME=HOST:PORT." in bare_home.err


class Typist(io.StringIO):
    """A terminal with somebody at it."""

    def isatty(self) -> bool:
        return True


def test_the_dialogue_asks_for_nodes_and_safety(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Typist("a=127.0.0.1:1\nb=127.0.0.1:2\n127.0.0.1:3\n\ntom\n2 of 3\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bare_home.dfs("init", "--offline", "--key-file", "k")
    conf = parse_client(Path("dfc.conf").read_bytes(), "dfc.conf")
    assert [node.name for node in conf.nodes] == ["a", "b", "dfs3"]
    assert (conf.user, conf.geometry_needed, conf.geometry_total) == ("tom", 2, 3)
    assert "  1 of 3: any 2 of 3 nodes may die; 1 GiB of files takes 3.0 GiB  (usual)" in bare_home.err
    assert "  3 of 3: no node may die; 1 GiB of files takes 1.0 GiB" in bare_home.err
