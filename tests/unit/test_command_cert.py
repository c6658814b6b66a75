"""`dfs cert`: what nodes show, what they are known by, and the way from one to the other."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfs.cluster import known_nodes, make_registry
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf

OLD = bytes(32)


@pytest.fixture
def node(bare_home: Any, tmp_path: Path) -> Iterator[OpenedNode]:
    """A node over TLS, and a conf that names it and one that is not there."""
    conf = NodeConf(dir=str(tmp_path / "N1"), listen="127.0.0.1", port=0, store="memory")
    opened = open_node(conf, registry=make_registry(conf), version="test")
    opened.server.start()
    text = f"Server N1 {opened.server.address}\nServer N2 127.0.0.1:9\n"
    bare_home.write("dfc.conf", text.encode())
    yield opened
    opened.server.stop(0)


def test_show_compares_what_is_shown_with_what_is_known(bare_home: Any, node: OpenedNode) -> None:
    first, second = bare_home.dfs("cert", "show")
    assert first == f"N1 {node.server.address}  SHA256:{node.fingerprint.hex()}  not known yet"
    assert second.startswith("N2 127.0.0.1:9  shows none: ")
    known_nodes().learn(node.server.address, node.fingerprint)
    assert bare_home.dfs("cert", "show")[0].endswith("  known")
    known_nodes().learn(node.server.address, OLD)
    assert bare_home.dfs("cert", "show")[0].endswith(f"  CHANGED, known is SHA256:{OLD.hex()}")
    row = bare_home.json("cert", "show")["data"]["certificates"][0]
    assert row["shown"] == f"SHA256:{node.fingerprint.hex()}"


def test_trust_shows_both_and_learns_the_new_one(bare_home: Any, node: OpenedNode) -> None:
    known_nodes().learn(node.server.address, OLD)
    bare_home.dfs("cert", "trust", "N1", "-n")
    assert OLD.hex() in bare_home.out
    assert node.fingerprint.hex() in bare_home.out
    assert known_nodes().load() == {node.server.address: OLD}
    bare_home.dfs("cert", "trust", "n1", "-y")
    assert known_nodes().load() == {node.server.address: node.fingerprint}
    assert bare_home.dfs("cert", "trust", "N1") == [f"N1 is known by SHA256:{node.fingerprint.hex()} already"]


def test_without_a_terminal_trust_wants_a_yes(
    bare_home: Any, node: OpenedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_home.dfs("cert", "trust", "N1", status=2)
    assert "Answer with --yes" in bare_home.err

    class Terminal:
        answer = "n\n"

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer

    monkeypatch.setattr(sys, "stdin", Terminal())
    bare_home.dfs("cert", "trust", "N1")
    assert known_nodes().load() == {}
    Terminal.answer = "Yes\n"
    bare_home.dfs("cert", "trust", "N1")
    assert known_nodes().load() == {node.server.address: node.fingerprint}


def test_who_cannot_be_trusted_is_told(bare_home: Any, node: OpenedNode) -> None:
    bare_home.dfs("cert", "trust", "N3", status=4)
    assert "It has N1, N2." in bare_home.err
    bare_home.dfs("cert", "trust", "N2", "-y", status=7)
    pin = f'[[node]]\nname = "N1"\naddress = "{node.server.address}"\ncertificate = "SHA256:{OLD.hex()}"\n'
    bare_home.write("pinned.toml", f"format = 1\n{pin}".encode())
    bare_home.dfs("--conf", "pinned.toml", "cert", "trust", "N1", "-y", status=2)
    assert node.fingerprint.hex() in bare_home.err
    assert known_nodes().load() == {}


def test_a_node_gets_another_certificate(bare_home: Any, node: OpenedNode, tmp_path: Path) -> None:
    old = f"SHA256:{node.fingerprint.hex()}"
    directory = str(tmp_path / "N1")
    bare_home.dfs("cert", "new", status=2)
    assert "--dir DIR" in bare_home.err
    bare_home.dfs("cert", "new", "--dir", str(tmp_path), "-y", status=2)
    assert "has no certificate of its own" in bare_home.err
    assert bare_home.dfs("cert", "new", "--dir", directory, "-n")[1] == f"  old {old}"
    values = bare_home.json("cert", "new", "--dir", directory, "-y")["data"]
    assert (values["node"], values["old"]) == ("N1", old)
    assert bare_home.json("cert", "new", "--dir", directory, "-n")["data"]["old"] == values["new"] != old


def test_a_certificate_of_an_authority_is_not_replaced(bare_home: Any, tmp_path: Path) -> None:
    text = f'format = 1\ndir = "{tmp_path}"\ncertificate = "a.pem"\nprivate_key = "a.key"\n'
    bare_home.write("node.toml", text.encode())
    bare_home.dfs("--conf", "node.toml", "cert", "new", "-y", status=2)
    assert "Ask your authority" in bare_home.err
