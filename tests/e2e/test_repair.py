"""Nodes that were away, lost their disk or were put back to an old copy: what is stored outlives it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dfs
from dfs.cluster import Cluster as Open
from dfs.core.standing import FileState
from dfs.core.types import VaultState
from dfs.plugins.volumes.directory import folder_name
from tests.e2e.conftest import Cluster, MakeCluster, Node

BODY = os.urandom(3_000_000)


@contextmanager
def opened(cluster: Cluster) -> Iterator[Open]:
    with dfs.cluster.open_cluster(str(cluster.conf()), state=state_of(cluster)) as vault:
        yield vault


def state_of(cluster: Cluster) -> Path:
    return Path(cluster.environment["XDG_STATE_HOME"]) / "dfs"


def store(cluster: Cluster, name: str, body: bytes, status: int = 0) -> None:
    cluster.dfs("put", str(cluster.file(name, body)), status=status)


def states(vault: Open) -> list[VaultState | None]:
    return [standing.state for standing in vault.status()]


def empty(node: Node) -> None:
    """End a node and start it again with an empty disk, at the same address."""
    node.kill()
    shutil.rmtree(node.directory)
    node.start()


@pytest.mark.parametrize("late", [0, 1, 2, 3])
def test_a_node_that_missed_a_version_brings_no_mix(cluster: Cluster, late: int) -> None:
    """As in MinIO: overwritten while one node is down; it is back and another one goes."""
    first, second = BODY[:500_000], BODY[500_000:1_000_000]
    store(cluster, "letter", first)
    cluster.nodes[late].kill()
    store(cluster, "letter", second, status=3)
    cluster.nodes[late].start()
    cluster.nodes[(late + 1) % 4].kill()
    assert cluster.got("letter") == second


def test_a_node_that_missed_a_file_gets_exactly_its_share(cluster: Cluster) -> None:
    cluster.dfs("ls")
    cluster.nodes[1].kill()
    store(cluster, "a", BODY, status=3)
    store(cluster, "b", BODY[:10], status=3)
    cluster.nodes[1].start()
    with opened(cluster) as vault:
        assert vault.check().count(FileState.DEGRADED) == 2
        done = vault.repair()
        assert (done.registers, done.shares, done.left) == (2, 1, ())
        assert done.written_size == pytest.approx(len(BODY) / 2, rel=0.01)
        assert done.read_size == pytest.approx(len(BODY), rel=0.01)
        again = vault.repair()
        assert (again.registers, again.shares, again.written_size, again.left) == (0, 0, 0, ())
        checked = vault.check(read_ratio=1.0)
        assert checked.count(FileState.COMPLETE) == 2
        assert checked.read_size == pytest.approx(2 * len(BODY), rel=0.01)
    cluster.nodes[0].kill()
    cluster.nodes[2].kill()
    assert cluster.got("a") == BODY


@pytest.mark.parametrize("count", [3, 4])
def test_every_node_lost_and_replaced_in_turn_loses_nothing(make_cluster: MakeCluster, count: int) -> None:
    cluster = make_cluster(count)
    store(cluster, "a", BODY)
    store(cluster, "b", BODY[:10])
    cluster.dfs("mkdir", "d")
    store(cluster, "gone", BODY[:100_000])
    cluster.dfs("rm", "gone")
    for node in cluster.nodes:
        empty(node)
        dfs.cluster.known_nodes(state_of(cluster)).forget(node.address)  # its certificate is new, too
        with opened(cluster) as vault:
            done = vault.replace(node.name)
            assert done.left == ()
            assert len(done.joined) == 1
            assert states(vault) == [VaultState.ACTIVE] * count
            assert vault.check(read_ratio=1.0).count(FileState.COMPLETE) == 2
    with opened(cluster) as vault:
        assert [item.entry.path for item in vault.ls()] == ["a", "b", "d"]
        assert {standing.incarnation for standing in vault.status()} == {2}
    cluster.nodes[0].kill()
    assert cluster.got("a") == BODY
    assert cluster.got("b") == BODY[:10]


def test_a_node_put_back_to_an_old_copy_does_not_count_until_it_is_repaired(cluster: Cluster) -> None:
    node = cluster.nodes[2]
    with opened(cluster):
        store(cluster, "a", BODY[:300_000])
    node.kill()
    copy = cluster.folder / "copy"
    shutil.copytree(node.directory, copy)
    node.start()
    store(cluster, "a", BODY[300_000:600_000])
    with opened(cluster) as vault:
        vault.put("b", str(cluster.file("b", BODY[:300_000])))
    node.kill()
    shutil.rmtree(node.directory)
    shutil.copytree(copy, node.directory)
    node.start()
    with opened(cluster) as vault:
        assert states(vault).count(VaultState.QUARANTINED) == 1
        done = vault.repair()
        assert (len(done.joined), done.left) == (1, ())
        assert states(vault) == [VaultState.ACTIVE] * 4
        assert vault.check(read_ratio=1.0).count(FileState.COMPLETE) == 2
    assert cluster.got("a") == BODY[300_000:600_000]


def test_a_node_that_keeps_something_takes_no_other_id(cluster: Cluster) -> None:
    store(cluster, "a", BODY[:1000])
    with opened(cluster) as vault, pytest.raises(dfs.core.errors.ConflictError):
        vault.replace("DFS1")


def test_the_prompt_brings_back_a_node_that_lost_its_vault(cluster: Cluster) -> None:
    store(cluster, "a", BODY[:300_000])
    node = cluster.nodes[1]
    node.kill()
    shutil.rmtree(node.directory / folder_name("Alice"))
    node.start()
    told = cluster.dfs("ls").stderr.decode()
    assert "DFS2" in told
    assert "does not count until it is brought up to date: dfs repair" in told
    ended = cluster.dfs("client", stdin=b"LIST\n")
    assert b"DFS2 is up to date and counts again." in ended.stderr
    cluster.dfs("check", "--read-data")
    assert "does not count" not in cluster.dfs("ls").stderr.decode()
