"""A cluster of real servers in this process: what users see when nodes die, freeze, change or come back."""

import base64
import io
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from dfs.cluster import Cluster, Download, Upload, make_registry, open_cluster
from dfs.core import limits
from dfs.core.classic import NodeAddress
from dfs.core.errors import (
    ConfigError,
    ConflictError,
    DfsError,
    IncompleteError,
    LoginError,
    NotFoundError,
    NotInitialisedError,
    PeerIdentityError,
    QuorumError,
    RealmError,
)
from dfs.core.folders import Health
from dfs.core.getting import Got
from dfs.core.identity import CERTIFICATE_NAME
from dfs.core.keys import login_keys
from dfs.core.local import BytesContent
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import ClientConf, NodeConf
from dfs.core.types import Outcome, OutcomeKind
from dfs.plugins.tls import fingerprint

SECRET = bytes(range(32))
BIG = 9_000_000  # three chunks


@define
class Site:
    """Four nodes on disk, and a client's conf."""

    folder: Path
    transport: str
    nodes: dict[int, OpenedNode] = field(factory=dict)
    addresses: dict[int, str] = field(factory=dict)
    listeners: list[socket.socket] = field(factory=list)

    def start(self, place: int, **changed: Any) -> OpenedNode:
        """Start a node where it was before."""
        listen, _, port = self.addresses.get(place, self._fresh(place)).rpartition(":")
        conf = NodeConf(
            dir=str(self.folder / f"dfs{place}"),
            listen=listen,
            port=int(port),
            transport=self.transport,
            users=str(self.folder / "users"),
            **changed,
        )
        node = open_node(conf, registry=make_registry(conf), version="test")
        node.server.start()
        node.accounts.start()
        self.nodes[place] = node
        self.addresses[place] = node.server.address
        return node

    def _fresh(self, place: int) -> str:
        return f"{self.folder.name}-{place}:1" if self.transport == "memory" else "127.0.0.1:0"

    def stop(self, place: int) -> None:
        self.nodes.pop(place).server.stop(0)

    def freeze(self, place: int) -> None:
        """Let somebody answer in a node's place who never says a word."""
        self.stop(place)
        listen, _, port = self.addresses[place].rpartition(":")
        self.listeners.append(socket.create_server((listen, int(port))))

    def conf(self, **changed: Any) -> ClientConf:
        nodes = [
            NodeAddress(name=f"dfs{place}", address=address)
            for place, address in sorted(self.addresses.items())
        ]
        conf = ClientConf(
            user="ines", key_file=str(self.folder / "key"), nodes=tuple(nodes), transport=self.transport
        )
        return evolve(conf, **changed)

    def open(self, **changed: Any) -> Cluster:
        return open_cluster(self.conf(**changed), state=self.folder / "state")

    def close(self) -> None:
        for node in self.nodes.values():
            node.server.stop(0)
        for listener in self.listeners:
            listener.close()


def make_site(folder: Path, transport: str) -> Site:
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    (folder / "users").write_text(f"ines ed25519:{key}\n")
    for name, secret in (("key", SECRET), ("wrong key", bytes(32))):
        (folder / name).write_text(f"dfs-key-1 {secret.hex()}\n")
        (folder / name).chmod(0o600)
    site = Site(folder, transport)
    for place in range(4):
        site.start(place)
    return site


@pytest.fixture(params=["memory"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    made = make_site(tmp_path, request.param)
    yield made
    made.close()


over = pytest.mark.parametrize("site", ["memory", "tcp", "tls"], indirect=True)
over_sockets = pytest.mark.parametrize("site", ["tcp", "tls"], indirect=True)
over_tls = pytest.mark.parametrize("site", ["tls"], indirect=True)


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def fetch(cluster: Cluster, path: str) -> bytes:
    target = io.BytesIO()
    cluster.get(path, target)
    return target.getvalue()


@over
def test_what_is_put_comes_back_over_every_transport(site: Site, tmp_path: Path) -> None:
    with site.open() as cluster:
        assert cluster.made
        for size in (0, 1000, 100_000, BIG):
            body = body_of(size)
            outcome = cluster.put(f"box/file{size}", io.BytesIO(body))
            assert (outcome.kind, outcome.size) == (OutcomeKind.OK, size)
            cluster.get(f"box/file{size}", str(tmp_path / "copy"))
            assert (tmp_path / "copy").read_bytes() == body
        assert len(cluster.ls("box")) == 4
    with site.open() as cluster:
        assert not cluster.made
        assert cluster.stat(f"box/file{BIG}").health is Health.COMPLETE
        assert len(cluster.rm("box", recursive=True)) == 5
        assert cluster.walk() == []
        assert cluster.geometry == (2, 4)


def test_a_pipe_that_ends_soon_is_a_small_file(site: Site) -> None:
    with site.open() as cluster:
        small = cluster.put("small", io.BytesIO(b"few bytes"))
        assert (small.sent_size, fetch(cluster, "small")) == (0, b"few bytes")
        cluster.put("exact", io.BytesIO(body_of(limits.SMALL_SIZE_MAX)))
        cluster.put("large", io.BytesIO(body_of(limits.SMALL_SIZE_MAX + 1)))
        assert fetch(cluster, "exact") == body_of(limits.SMALL_SIZE_MAX)
        assert fetch(cluster, "large") == body_of(limits.SMALL_SIZE_MAX + 1)


def test_a_local_file_keeps_its_time_and_mode(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(body_of(5000))
    source.chmod(0o750)
    with site.open() as cluster:
        cluster.put("script", str(source))
        cluster.get("script", str(tmp_path / "copy"))
    assert (tmp_path / "copy").stat().st_mode == source.stat().st_mode
    assert (tmp_path / "copy").stat().st_mtime_ns == source.stat().st_mtime_ns


# --- Nodes that go and come ---------------------------------------------------------------------------------


@over
def test_a_node_killed_during_a_transfer_costs_nothing_but_its_share(site: Site) -> None:
    body = body_of(BIG)
    with site.open() as cluster:

        def kill(place: int) -> Any:
            return lambda _size: site.stop(place) if place in site.nodes else None

        outcome = cluster.put("film", io.BytesIO(body), progress=kill(3))
        assert 3 <= outcome.node_count <= 4
        target = io.BytesIO()
        cluster.get("film", target, progress=kill(0))
        assert target.getvalue() == body
        with pytest.raises(QuorumError, match="2 of 4 nodes reachable, 3 needed"):
            cluster.put("film", io.BytesIO(b"too few"))


@over
def test_a_refused_node_is_tried_again_at_the_next_command(site: Site) -> None:
    with site.open() as cluster:
        site.stop(1)
        assert cluster.put("one", io.BytesIO(b"one")).node_count == 3
        site.start(1)
        assert cluster.put("two", io.BytesIO(b"two")).node_count == 4
        site.stop(1)
        site.start(1)  # connections of before are dead
        assert cluster.put("three", io.BytesIO(b"three")).node_count == 4


@over_sockets
def test_a_frozen_node_costs_a_second_in_all(site: Site) -> None:
    with site.open() as cluster:
        cluster.put("before", io.BytesIO(body_of(BIG)))
    site.freeze(2)
    began_s = time.monotonic()
    with site.open() as cluster:
        assert fetch(cluster, "before") == body_of(BIG)
        assert cluster.put("after", io.BytesIO(body_of(BIG, 1))).node_count == 3
        assert [item.entry.path for item in cluster.ls()] == ["after", "before"]
        assert [node.down for node in cluster.traffic() if node.down] != []
    assert time.monotonic() - began_s < 2.5


@over_sockets
def test_a_node_that_freezes_meanwhile_costs_a_second_in_all(site: Site) -> None:
    with site.open() as cluster:
        cluster.put("before", io.BytesIO(body_of(BIG)))
        site.freeze(0)
        began_s = time.monotonic()
        assert fetch(cluster, "before") == body_of(BIG)
        assert cluster.put("after", io.BytesIO(b"after")).node_count == 3
        assert time.monotonic() - began_s < 2.5


@over_sockets
def test_a_probe_brings_a_frozen_node_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROBE_INTERVAL_S", 0.05)
    with site.open() as cluster:
        site.freeze(2)
        assert cluster.put("one", io.BytesIO(b"one")).node_count == 3
        site.listeners.pop().close()
        site.start(2)
        deadline_s = time.monotonic() + 10
        while cluster.put("two", io.BytesIO(b"two")).node_count < 4:
            assert time.monotonic() < deadline_s


def test_two_nodes_are_enough_to_read(site: Site) -> None:
    with site.open() as cluster:
        cluster.put("film", io.BytesIO(body_of(BIG)))
        site.stop(0)
        site.stop(2)
        target = io.BytesIO()
        got = cluster.get("film", target)
        assert got.stale
        assert target.getvalue() == body_of(BIG)
        (item,) = cluster.ls()
        assert (item.stale, item.health) == (True, Health.DEGRADED)
        site.stop(3)
        with pytest.raises(IncompleteError, match="needs 2 of 4 shares, 1 reachable"):
            cluster.get("film", io.BytesIO())
        (item,) = cluster.ls()
        assert item.health is Health.INCOMPLETE


# --- Opening ------------------------------------------------------------------------------------------------


def test_no_vault_is_made_while_a_node_is_missing(site: Site) -> None:
    site.stop(2)
    with pytest.raises(NotInitialisedError, match="once all nodes are up, now missing: dfs2"):
        site.open()
    site.start(2)
    with site.open() as cluster:
        assert cluster.made


def test_a_wrong_key_is_refused(site: Site) -> None:
    with pytest.raises(LoginError, match="Invalid Username/Password"):
        site.open(key_file=str(site.folder / "wrong key"))
    with pytest.raises(LoginError, match="Invalid Username/Password"):
        site.open(user="olga")


def test_another_realm_is_no_wrong_password(site: Site) -> None:
    with pytest.raises(RealmError, match="belongs to realm 'dfs', the conf says 'orchard'"):
        site.open(realm="orchard")


def test_nobody_at_all(site: Site) -> None:
    for place in range(4):
        site.stop(place)
    with pytest.raises(QuorumError, match="no node answers") as refused:
        site.open()
    assert set(refused.value.reasons) == set(site.addresses.values())


@over_sockets
def test_two_addresses_of_one_node_are_refused(site: Site) -> None:
    conf = site.conf()
    port = conf.nodes[0].address.rpartition(":")[2]
    double = NodeAddress(name="again", address=f"localhost:{port}")
    with pytest.raises(ConfigError, match="are one node"):
        open_cluster(evolve(conf, nodes=(*conf.nodes[:3], double)), state=site.folder / "state")


def test_a_conf_in_another_order_opens_the_same_vault(site: Site) -> None:
    with site.open() as cluster:
        cluster.put("one", io.BytesIO(b"one"))
        order = [node for node, _ in cluster.nodes]
    conf = site.conf()
    with open_cluster(evolve(conf, nodes=conf.nodes[::-1][:3]), state=site.folder / "state") as cluster:
        assert fetch(cluster, "one") == b"one"
        assert [node for node, _ in cluster.nodes] == order


@over_tls
def test_a_changed_certificate_excludes_its_node_and_names_both(site: Site) -> None:
    with site.open() as cluster:
        assert cluster.notes == ()
    before = site.nodes[1].fingerprint
    site.stop(1)
    (site.folder / "dfs1" / ".node" / CERTIFICATE_NAME).unlink()
    after = site.start(1).fingerprint
    assert before != after
    with site.open() as cluster:
        (note,) = cluster.notes
        assert fingerprint(before) in note
        assert fingerprint(after) in note
        assert "dfs1" in note
        assert cluster.put("one", io.BytesIO(b"one")).node_count == 3
    site.stop(0)
    site.stop(2)
    with site.open() as cluster, pytest.raises(PeerIdentityError, match=r"dfs1 .*; 1 of 4 nodes reachable"):
        cluster.put("two", io.BytesIO(b"two"))
    site.stop(3)
    with pytest.raises(PeerIdentityError, match="dfs1"):
        site.open()


# --- Batches, conditions, faults ----------------------------------------------------------------------------


def test_batches_end_file_by_file(site: Site, tmp_path: Path) -> None:
    with site.open() as cluster:
        cluster.put("in the way", io.BytesIO(b"one"))
        uploads = [Upload(BytesContent(body_of(size), 0), f"file{size}") for size in (10, 5000, 600_000)]
        outcomes = cluster.put_files([*uploads, Upload(BytesContent(b"", 0), "in the way/below")])
        assert [type(outcome) for outcome in outcomes] == [Outcome, Outcome, Outcome, ConflictError]
        downloads = [Download(f"file{size}", str(tmp_path / f"got{size}")) for size in (10, 5000, 600_000)]
        results = cluster.get_files([*downloads, Download("nowhere", str(tmp_path / "nowhere"))])
        assert [type(result) for result in results] == [Got, Got, Got, NotFoundError]
        for size in (10, 5000, 600_000):
            assert (tmp_path / f"got{size}").read_bytes() == body_of(size)
        assert not (tmp_path / "nowhere").exists()


def test_outcomes_are_in_the_order_of_the_files_whatever_comes_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfs.batches.GET_COUNT", 4)
    monkeypatch.setattr("dfs.core.limits.REGISTER_COUNT", 3)
    monkeypatch.setattr("dfs.batches.PUT_COUNT", 4)
    bodies = {f"{'ab'[index % 2]}/file{index}": body_of(index) for index in range(11)}
    told: list[str] = []
    with site.open() as cluster:
        uploads = [Upload(BytesContent(body, 0), path) for path, body in bodies.items()]
        outcomes = cluster.put_files(uploads, watch=lambda path, _size, _total: told.append(path))
        assert [getattr(outcome, "path", None) for outcome in outcomes] == list(bodies)
        assert [getattr(outcome, "size", None) for outcome in outcomes] == list(range(11))
        assert list(dict.fromkeys(told)) != list(bodies), "they came in another one"
        results = cluster.get_files(
            [Download(path, str(tmp_path / path.replace("/", "-"))) for path in [*bodies, "none"]]
        )
        assert [type(result) for result in results] == [Got] * 11 + [NotFoundError]
        assert [result.entry.path for result in results if isinstance(result, Got)] == list(bodies)
        there = {path: (tmp_path / path.replace("/", "-")).read_bytes() for path in bodies}
        assert there == bodies


def test_what_stops_a_batch_is_the_error_of_all_that_follow(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfs.batches.PUT_COUNT", 1)
    with site.open() as cluster:
        uploads = [Upload(BytesContent(b"one", 0), f"file{index}") for index in range(3)]

        def stop(_size: int) -> None:
            for place in [place for place in (0, 1) if place in site.nodes]:
                site.stop(place)

        outcomes = cluster.put_files(uploads, progress=stop)
        assert all(isinstance(outcome, DfsError) for outcome in outcomes[1:])
        assert len(outcomes) == 3


def test_conditions_and_names(site: Site) -> None:
    with site.open() as cluster:
        first = cluster.put("letter", io.BytesIO(b"one"), if_absent=True)
        with pytest.raises(ConflictError):
            cluster.put("letter", io.BytesIO(b"two"), if_absent=True)
        cluster.put("letter", io.BytesIO(b"two"), if_version=first.version)
        with pytest.raises(ConflictError):
            cluster.rm("letter", if_version=first.version)
        cluster.mkdir("box/deep")
        cluster.mkdir("box", existing_is_fine=True)
        with pytest.raises(ConflictError, match="box/ already exists"):
            cluster.mkdir("box")
        with pytest.raises(ConflictError):
            cluster.rm("box")
        for wrong in ("", "/", "."):
            with pytest.raises(ConfigError, match="root folder"):
                cluster.mkdir(wrong)
            with pytest.raises(ConfigError, match="root folder"):
                cluster.rm(wrong)
        with pytest.raises(ConfigError, match=r"'\.\.' is not allowed"):
            cluster.put("../letter", io.BytesIO(b""))
        cluster.rm("", recursive=True)
        assert cluster.ls() == []


def test_an_interrupted_get_leaves_nothing(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    def interrupt(_size: int) -> None:
        raise KeyboardInterrupt

    with site.open() as cluster:
        cluster.put("film", io.BytesIO(body_of(BIG)))
        with pytest.raises(KeyboardInterrupt):
            cluster.get("film", str(target / "film"), progress=interrupt)
        assert list(target.iterdir()) == []
        cluster.get("film", str(target / "film"))
        assert (target / "film").read_bytes() == body_of(BIG)


def test_a_link_in_the_way_is_not_followed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with site.open() as cluster:
        cluster.put("film", io.BytesIO(body_of(5000)))
        with pytest.raises(ConflictError, match="not a regular file"):
            cluster.get("film", str(tmp_path / "link"))
    assert (tmp_path / "secret").read_bytes() == b"mine"


def test_a_damaged_share_on_disk_is_worked_around(site: Site) -> None:
    with site.open() as cluster:
        cluster.put("film", io.BytesIO(body_of(BIG)))
    for place in (0,):
        site.stop(place)
        volumes = [path for path in (site.folder / f"dfs{place}").rglob("*") if path.is_file()]
        largest = max(volumes, key=lambda path: path.stat().st_size)
        rotten = bytearray(largest.read_bytes())
        for offset in range(100_000, len(rotten), 100_000):
            rotten[offset] ^= 1
        largest.write_bytes(rotten)
        site.start(place)
    with site.open() as cluster:
        target = io.BytesIO()
        got = cluster.get("film", target)
        assert target.getvalue() == body_of(BIG)
        names = dict(cluster.nodes)
        assert {names[node] for node in got.suspects} <= {"dfs0"}


def test_two_clients_make_one_vault(site: Site) -> None:
    """At once: whoever's key is chosen is the key of both."""
    clusters: list[Cluster] = []
    errors: list[DfsError] = []

    def open_one() -> None:
        try:
            clusters.append(site.open())
        except DfsError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clusters, errors
    clusters[0].put("letter", io.BytesIO(b"one"))
    for cluster in clusters:
        assert fetch(cluster, "letter") == b"one"
        cluster.close()
