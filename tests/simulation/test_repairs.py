"""Nodes that lost their disk or went back to an old copy: nothing is lost, and all n hold all again."""

import pytest

from dfs.core.pipeline import Slot
from dfs.core.repairing import Scope, repair
from dfs.core.standing import Planned, Repaired
from dfs.core.types import VaultState, Version
from dfs.testing.simulation.cluster import Cluster, town
from dfs.testing.simulation.faults import rot_row
from dfs.testing.simulation.nodes import SimNode
from dfs.testing.simulation.workload import Wish, get, put

BODIES = {"a": b"short", "d/b": bytes(range(256)) * 2, "c": bytes(range(256)) * 5 + b"tail"}


def write(cluster: Cluster, bodies: dict[str, bytes]) -> None:
    client, vault = cluster.opened()
    for path, body in bodies.items():
        version = Version(client.clock.random_bytes(16))
        cluster.value(client, put(client, vault, Wish("put", path, version, body), 256))
    cluster.wait(1.0)  # confirmations that nobody waits for


def check(cluster: Cluster, bodies: dict[str, bytes]) -> None:
    client, vault = cluster.opened()
    for path, body in bodies.items():
        got, found = cluster.value(client, get(vault, path))
        assert (got.stale, found) == (False, body)


def mend(cluster: Cluster) -> Repaired:
    client, vault = cluster.opened()
    repaired = cluster.value(client, repair(vault, Scope(), [Slot(), Slot()]))
    client, vault = cluster.opened()
    again = cluster.value(client, repair(vault, Scope(), [Slot(), Slot()]))
    assert (again.planned, again.left) == (Planned(), ())
    return repaired


def state_of(node: SimNode) -> VaultState:
    return node.open_vault.state


def share_count(node: SimNode) -> int:
    return node.open_vault.store.view(lambda view: view.counts())[0]


@pytest.mark.parametrize("node_count", [3, 4, 5])
def test_every_node_is_replaced_one_after_another(node_count: int) -> None:
    with town(node_count=node_count, needed=node_count // 2) as cluster:
        write(cluster, BODIES)
        before = [share_count(node) for node in cluster.nodes]
        for node in cluster.nodes:
            node.fall()
            node.restore(None)
            node.incarnation += 1
            assert node.start()
            assert state_of(node) is VaultState.NEW
            check(cluster, BODIES)
            repaired = mend(cluster)
            assert repaired.joined == (node.node_id,)
            assert state_of(node) is VaultState.ACTIVE
            check(cluster, BODIES)
        assert [share_count(node) for node in cluster.nodes] == before
        for node in cluster.nodes[: node_count - max(2, node_count // 2 + 1)]:
            node.fall()
        check(cluster, BODIES)


@pytest.mark.parametrize("raised", [False, True], ids=["remembered", "by its administrator"])
def test_a_node_put_back_to_an_old_copy_counts_again_after_a_repair(raised: bool) -> None:
    """The client remembers how far it was; an administrator who restores it raises the incarnation."""
    with town(node_count=4, needed=2) as cluster:
        write(cluster, {"a": b"old"})
        node = cluster.nodes[2]
        image = node.image()
        write(cluster, BODIES)
        node.fall()
        node.restore(image)
        node.incarnation += raised
        assert node.start()
        check(cluster, BODIES)
        assert state_of(node) is VaultState.QUARANTINED
        assert mend(cluster).joined == (node.node_id,)
        assert state_of(node) is VaultState.ACTIVE
        cluster.nodes[0].fall()
        check(cluster, BODIES)


def test_a_put_without_one_node_is_whole_after_a_repair_that_moves_only_what_lacks() -> None:
    with town(node_count=4, needed=2) as cluster:
        cluster.nodes[3].fall()
        write(cluster, BODIES)
        assert cluster.nodes[3].start()
        repaired = mend(cluster)
        assert repaired.shares == share_count(cluster.nodes[3]) == share_count(cluster.nodes[0])
        assert (repaired.written_size, repaired.read_size) == (
            repaired.planned.written_size,
            repaired.planned.read_size,
        )


@pytest.mark.parametrize("form", ["register", "share"])
def test_rows_that_rotted_are_found_when_all_is_read_and_whole_after_a_repair(form: str) -> None:
    with town(node_count=4, needed=2, share_inline_size=65536) as cluster:
        write(cluster, BODIES)
        node = cluster.nodes[1]
        node.damaged = True
        assert rot_row(node, cluster.world, form)
        findings: list[str] = []
        ended = False
        while not ended:
            step = node.open_vault.scrub(1000)
            findings += step.findings
            ended = step.ended
        assert len(findings) == 1
        check(cluster, BODIES)
        mend(cluster)
        assert node.open_vault.store.view(lambda view: view.counts())[1:] == (0, 0)
        check(cluster, BODIES)
