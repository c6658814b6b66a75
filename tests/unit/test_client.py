"""A client and its nodes: who is believed, who is left out, and why a vault cannot be opened."""

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from dfs.cluster import client_options, load_conf, make_registry, open_cluster
from dfs.core.client import Client, ClientOptions, Place, _share_map
from dfs.core.credentials import LoginSecret
from dfs.core.errors import (
    ConfigError,
    InsecureError,
    LoginError,
    NotInitialisedError,
    PeerIdentityError,
    QuorumError,
    RealmError,
)
from dfs.core.interface import CodeOptions, Listener, Placement, PlacementOptions, Stream, TransportOptions
from dfs.core.keys import login_keys
from dfs.core.link import labels
from dfs.core.roster import rank
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf
from dfs.core.types import Geometry, Node, NodeId
from dfs.plugins import memory_transport, reed_solomon, rendezvous, ring

SECRET = bytes(range(32))


def options_of(tmp_path: Path, **settings: Any) -> ClientOptions:
    conf = evolve(load_conf(), **settings)
    return client_options(conf, make_registry(conf), tmp_path / "state", LoginSecret(conf, "odile"))


# --- Opening ---


def test_a_vault_is_made_once_all_nodes_are_up(home: Any, tmp_path: Path) -> None:
    options = options_of(tmp_path)
    with closing(Client(options)) as client:
        assert client.open().made
        assert [link.name for link in client.all_links()] == ["A", "B", "C", "D"]
        assert sorted(labels(client.links).values()) == [
            f"{name} {node.server.address}" for name, node in zip("ABCD", home.nodes, strict=True)
        ]
    home.kill(2)
    with closing(Client(options)) as client:
        again = client.open()
        assert not again.made
        assert len(again.vault.counted) == 2


def test_a_new_vault_waits_for_all_nodes_and_names_those_missing(home: Any, tmp_path: Path) -> None:
    home.kill(1)
    with closing(Client(options_of(tmp_path))) as client, pytest.raises(NotInitialisedError) as caught:
        client.open()
    assert caught.value.what.endswith(f"now missing: D {home.nodes[3].server.address}")


def test_when_no_node_answers_each_is_named(home: Any, tmp_path: Path) -> None:
    home.kill(4)
    with closing(Client(options_of(tmp_path))) as client, pytest.raises(QuorumError) as caught:
        client.open()
    assert set(caught.value.reasons) == {node.server.address for node in home.nodes}
    assert all(f"{name} {tmp_path.name}-{name}:1: " in caught.value.what for name in "ABCD")


def test_a_wrong_password_and_a_wrong_realm_are_told_as_such(home: Any, tmp_path: Path) -> None:
    assert home.nodes
    options = evolve(options_of(tmp_path), secret=lambda: login_keys(bytes(32)))
    with closing(Client(options)) as client, pytest.raises(LoginError):
        client.open()
    with closing(Client(options_of(tmp_path, realm="elsewhere"))) as client, pytest.raises(RealmError):
        client.open()


class Alias:
    """The memory transport under more addresses."""

    confidential = True

    def __init__(self, real: Mapping[str, str]) -> None:
        self._real = real
        self._inner = memory_transport.make(TransportOptions())

    def connect(self, address: str, deadline_s: float) -> Stream:
        return self._inner.connect(self._real.get(address, address), deadline_s)

    def listen(self, address: str) -> Listener:
        return self._inner.listen(address)


def test_two_addresses_of_one_node_are_refused(home: Any, tmp_path: Path) -> None:
    options = options_of(tmp_path)
    address = home.nodes[0].server.address
    place = Place("twin", "twin:1", Alias({"twin:1": address}))
    with (
        closing(Client(evolve(options, places=[*options.places, place]))) as client,
        pytest.raises(ConfigError, match="are one node") as caught,
    ):
        client.open()
    assert f"A {address}" in caught.value.what
    assert "twin twin:1" in caught.value.what


# --- Nodes that do not answer ---


def test_a_frozen_node_costs_its_patience_once(home: Any, tmp_path: Path) -> None:
    home.dfs("ls")
    address = home.nodes[3].server.address
    home.kill(1)
    listener = memory_transport.make(TransportOptions()).listen(address)
    with ExitStack() as stack:
        stack.callback(listener.close)
        with open_cluster(load_conf()) as cluster:
            for number in range(3):
                outcome = cluster.put(f"file{number}", io.BytesIO(bytes(range(256)) * 40))
                assert [cluster.node_names[node] for node in outcome.missing] == [f"D {address}"]
                target = io.BytesIO()
                cluster.get(f"file{number}", target)
                assert target.getvalue() == bytes(range(256)) * 40
            (down,) = [node for node in cluster.traffic() if node.down]
            assert (down.name, down.down) == ("D", "does not answer")


def test_a_node_that_refused_is_tried_again_by_the_next_command(home: Any, tmp_path: Path) -> None:
    moved = {node.server.address: "nobody:1" for node in home.nodes[3:]}
    home.dfs("ls")
    options = options_of(tmp_path)
    places = [evolve(place, transport=Alias(moved)) for place in options.places]
    with closing(Client(evolve(options, places=places))) as client:
        vault = client.open().vault
        last = list(client.all_links())[3]
        assert len(vault.counted) == 3
        moved.clear()
        assert len(client.refresh(vault).counted) == 4
        assert last.down is None


# --- Certificates ---


@pytest.fixture
def secured(tmp_path: Path, bare_home: Any) -> Iterator[dict[str, OpenedNode]]:
    """Two nodes behind TLS, named in the current folder's conf, and their vault."""
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    (tmp_path / "users").write_text(f"odile ed25519:{key}\n")
    (tmp_path / "key").write_text(f"dfs-key-1 {SECRET.hex()}\n")
    (tmp_path / "key").chmod(0o600)
    nodes = {name: secured_node(tmp_path, name, 0) for name in "ABC"}
    rows = [f'format = 1\nuser = "odile"\nkey_file = "{tmp_path}/key"']
    rows += [f'[[node]]\nname = "{name}"\naddress = "{n.server.address}"' for name, n in nodes.items()]
    (bare_home.folder / "dfs.toml").write_text("\n".join(rows))
    yield nodes
    for node in nodes.values():
        node.server.stop(0)


def secured_node(tmp_path: Path, name: str, port: int) -> OpenedNode:
    conf = NodeConf(
        dir=str(tmp_path / name), name=name, listen="127.0.0.1", port=port, users=str(tmp_path / "users")
    )
    node = open_node(conf, registry=make_registry(conf), version="test")
    node.server.start()
    node.accounts.start()
    return node


def test_a_node_with_another_certificate_is_left_out_and_named(
    secured: dict[str, OpenedNode], tmp_path: Path
) -> None:
    state = tmp_path / "memory"
    with open_cluster(state=state) as cluster:
        assert cluster.made
        assert cluster.notes == ()
    assert len((state / "known_nodes").read_text().splitlines()) == 3
    secured["C"].server.stop(0)
    (tmp_path / "C" / ".node" / "certificate.pem").unlink()
    address = secured["C"].server.address
    secured["C"] = secured_node(tmp_path, "C", int(address.rpartition(":")[2]))
    with open_cluster(state=state) as cluster:
        (note,) = cluster.notes
        assert note.startswith(f"C {address} shows certificate")
        assert "dfs cert trust C" in note
        outcome = cluster.put("file", io.BytesIO(b"x"))
        assert [cluster.node_names[node] for node in outcome.missing] == [f"C {address}"]


def test_certificates_that_cannot_be_kept_are_not_believed(
    secured: dict[str, OpenedNode], tmp_path: Path
) -> None:
    assert secured
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="known_nodes: Not a directory"):
        open_cluster(state=tmp_path / "file")
    state = tmp_path / "memory"
    state.mkdir()
    (state / "known_nodes.lock").mkdir()
    with pytest.raises(ConfigError, match="cannot be kept"):
        open_cluster(state=state)


def test_without_first_use_only_pins_count(secured: dict[str, OpenedNode], tmp_path: Path) -> None:
    conf = evolve(load_conf(), trust="pin")
    with pytest.raises(PeerIdentityError, match="pins none"):
        open_cluster(conf, state=tmp_path / "memory")
    pinned = [evolve(node, certificate=secured[node.name].fingerprint) for node in conf.nodes]
    with open_cluster(evolve(conf, nodes=tuple(pinned)), state=tmp_path / "memory") as cluster:
        assert cluster.made


# --- What new files are made with ---


def test_a_cipher_that_protects_nothing_must_be_allowed(home: Any, tmp_path: Path) -> None:
    assert home.nodes
    with closing(Client(options_of(tmp_path, cipher="xor"))) as client:
        vault = client.open().vault
        with pytest.raises(InsecureError, match="xor does not protect"):
            client.stages(vault)
    with closing(Client(options_of(tmp_path, cipher="xor", allow_insecure=("xor",)))) as client:
        assert client.stages(client.open().vault).recipe.cipher == "dfs:xor@1"


def test_stages_are_made_once(home: Any, tmp_path: Path) -> None:
    assert home.nodes
    with closing(Client(options_of(tmp_path))) as client:
        vault = client.open().vault
        assert client.stages(vault) is client.stages(vault)
        recipe = client.stages(vault).recipe
        assert (recipe.geometry.needed, recipe.geometry.total) == (2, 4)


def test_workers_fit_the_memory(home: Any, tmp_path: Path) -> None:
    assert home.nodes
    for jobs, most in ((1, 1), (0, 1000)):
        client = Client(options_of(tmp_path, jobs=jobs))
        assert 1 <= client.worker_count <= most
        assert len(client.slots()) == client.worker_count
        client.close()


def test_a_client_that_could_not_open_lets_go(home: Any, tmp_path: Path) -> None:
    home.kill(4)
    with pytest.raises(QuorumError):
        open_cluster()
    with closing(Client(options_of(tmp_path))) as client:
        client.close()


@pytest.mark.parametrize(
    "placement",
    [
        rendezvous.make(PlacementOptions(rank=rank)),
        ring.make(PlacementOptions(rank=rank)),
        ring.make(PlacementOptions(rank=rank, values={"hash": "content"})),
    ],
    ids=["chunk", "name", "content"],
)
def test_a_placement_is_tried_with_a_key_of_its_scope(placement: Placement) -> None:
    """An MD5 of no bytes is none: `ring` by content refused it, and so every command."""
    stages: Any = SimpleNamespace(
        placement=placement, code=reed_solomon.make(CodeOptions(geometry=Geometry(2, 4)))
    )
    rows = _share_map(stages, [Node(NodeId(bytes([index]) * 16)) for index in range(4)])
    assert sorted(index for row in rows for index in row) == [0, 1, 2, 3]
