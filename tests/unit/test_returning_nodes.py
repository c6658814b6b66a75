"""Nodes that were down when the vault was opened: named at once, used once they are back."""

import io
from pathlib import Path
from typing import Any

from dfs.cluster import load_conf, make_registry, open_cluster
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf


def started(home: Any, tmp_path: Path, name: str, address: str, folder: str) -> OpenedNode:
    place, _, port = address.rpartition(":")
    conf = NodeConf(
        dir=str(tmp_path / folder),
        name=name,
        listen=place,
        port=int(port),
        transport="memory",
        users=str(tmp_path / "users"),
    )
    node = open_node(conf, registry=make_registry(conf), version="test")
    node.server.start()
    node.accounts.start()
    return node


def test_a_node_down_at_the_login_is_named_and_used_when_back(home: Any, tmp_path: Path) -> None:
    last = home.nodes[-1]
    address = last.server.address
    last.server.stop(0)
    kept = started(home, tmp_path, "D", address, "kept")
    home.dfs("ls")  # makes the vault
    kept.server.stop(0)
    with open_cluster(load_conf()) as cluster:
        assert [name for _, name in cluster.nodes] == ["A", "B", "C", "D"]
        missing = cluster.put("one", io.BytesIO(bytes(range(256)) * 40))
        assert [cluster.node_names[node] for node in missing.missing] == [f"D {address}"]
        kept = started(home, tmp_path, "D", address, "kept")
        assert cluster.put("two", io.BytesIO(b"two")).node_count == 4
    kept.server.stop(0)


def test_another_node_in_its_place_is_left_out(home: Any, tmp_path: Path) -> None:
    home.dfs("ls")
    address = home.nodes[-1].server.address
    home.kill(1)
    with open_cluster(load_conf()) as cluster:
        stranger = started(home, tmp_path, "D", address, "stranger")
        outcome = cluster.put("one", io.BytesIO(b"one"))
        assert outcome.node_count == 3
        (down,) = [node.down for node in cluster.traffic() if node.down]
        assert "another node than before" in down
        stranger.server.stop(0)
