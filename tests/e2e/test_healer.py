"""A healer's account: it repairs without any key, and can do nothing else."""

import base64
import os
import shutil
import threading
from pathlib import Path

import pytest

import dfs
from dfs.cluster import make_registry
from dfs.core.conf import parse_client
from dfs.core.errors import ConfigError, ForbiddenError
from dfs.core.keys import login_keys
from dfs.core.settings import ClientConf, NodeConf
from dfs.tending import Tender, tender_of
from tests.e2e.conftest import Cluster, MakeCluster

BODY = os.urandom(2_000_000)
SECRET = os.urandom(32)


@pytest.fixture
def cluster(make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Four nodes with a file, and a healer among their users."""
    made = make_cluster()
    monkeypatch.setenv("XDG_STATE_HOME", made.environment["XDG_STATE_HOME"])
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    users = made.folder / "users"
    users.write_text(f"{users.read_text()}tom ed25519:{key} role=healer\n")
    made.dfs("put", str(made.file("f", BODY)))
    return made


def conf_of(cluster: Cluster) -> Path:
    """Write the healer's conf."""
    secret = cluster.folder / "tom.key"
    secret.write_text(f"dfs-key-1 {SECRET.hex()}\n")
    secret.chmod(0o600)
    tables = "".join(
        f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes
    )
    path = cluster.folder / "tom.toml"
    path.write_text(f'format = 1\nuser = "tom"\nkey_file = "{secret}"\n{tables}')
    return path


def tender(cluster: Cluster) -> Tender:
    path = conf_of(cluster)
    conf = parse_client(path.read_bytes(), str(path))
    return Tender(conf, make_registry(conf), interval_s=600.0)


def spoil(cluster: Cluster, index: int) -> None:
    """Let a node's disk change bytes of its share, and let it find out."""
    node = cluster.nodes[index]
    node.kill()
    (volume,) = node.directory.glob("*/volumes/*.vol")
    with volume.open("r+b") as file:
        file.seek(300_000)
        file.write(b"rotten")
    node.start()
    cluster.dfs("check", "--read-data", status=6)


def test_what_is_bad_is_made_again_without_a_key(cluster: Cluster) -> None:
    spoil(cluster, 1)
    tender(cluster).tend()
    cluster.dfs("check", "--read-data")
    cluster.nodes[0].kill()
    cluster.nodes[2].kill()
    assert cluster.got("f") == BODY


def test_a_disk_that_was_lost_is_filled_again(cluster: Cluster) -> None:
    """The directory of the vault is gone, the node's identity is still there."""
    node = cluster.nodes[3]
    node.kill()
    for name in os.listdir(node.directory):
        if name != ".node":
            shutil.rmtree(node.directory / name)
    node.start()
    tender(cluster).tend()
    cluster.dfs("check", "--read-data")


def test_by_hand_it_repairs_and_shows_every_vault(cluster: Cluster) -> None:
    conf = conf_of(cluster)
    spoil(cluster, 2)
    told = cluster.dfs("repair", "--all", conf=conf).stdout.decode()
    assert "Alice: repair made 1 share" in told
    assert "Alice at default: 4 of 4 nodes up" in cluster.dfs("status", conf=conf).stdout.decode()
    ended = cluster.dfs("ls", conf=conf, status=12)
    assert b"healer's account" in ended.stderr


def test_it_can_neither_read_nor_write_nor_enter_as_owner(cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError):
        dfs.cluster.open_cluster(str(conf_of(cluster)))
    conf = parse_client(cluster.conf().read_bytes(), str(cluster.conf()))
    with pytest.raises(ForbiddenError):
        dfs.cluster.users_to_repair(conf)


def test_the_thread_ends_when_it_is_told(cluster: Cluster) -> None:
    conf = parse_client(conf_of(cluster).read_bytes(), "tom.toml")
    before = set(threading.enumerate())
    tending = Tender(conf, make_registry(conf), interval_s=0.01)
    tending.start()
    tending.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_it_needs_the_conf_of_a_healer(tmp_path: Path) -> None:
    registry = make_registry(ClientConf())
    with pytest.raises(ConfigError, match="--heal needs the conf"):
        tender_of(NodeConf(dir=str(tmp_path)), registry)
    without = tmp_path / "c.toml"
    without.write_text('format = 1\nuser = "tom"\n[[node]]\nname = "a"\naddress = "127.0.0.1:1"\n')
    with pytest.raises(ConfigError, match="has no key_file"):
        tender_of(NodeConf(dir=str(tmp_path), heal_conf=str(without)), registry)
