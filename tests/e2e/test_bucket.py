"""A node in a bucket: real nodes, one of them on a real S3 server, which outlives the node's machine."""

import os
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

from dfs.core.types import VaultState
from tests.e2e.conftest import Cluster, MakeCluster
from tests.e2e.test_repair import opened, states
from tests.unit.bucket_kit import S3Server

LARGE = os.urandom(9_000_000)
MIDDLE = os.urandom(400_000)
SMALL = b"a small one"
RESTORE = "restore = true\n"
PAGE = (Path(__file__).parents[2] / "docs/howto/bucket.md").read_text("utf-8")


@pytest.fixture(name="server")
def run_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(name="cluster")
def make_mixed(make_cluster: MakeCluster, server: S3Server, environment: dict[str, str]) -> Cluster:
    """Three nodes on disks, one in a bucket as docs/howto/bucket.md has it; credentials in environ."""
    server.make_bucket("shelf")
    environment |= {"AWS_ACCESS_KEY_ID": "porter", "AWS_SECRET_ACCESS_KEY": "hush-hush"}
    cluster = make_cluster(4)
    node = cluster.nodes[3]
    node.kill()
    shutil.rmtree(node.directory)
    write_conf(cluster, server)
    node.arguments = [*node.arguments, "--conf", str(cluster.folder / "bucket.toml")]
    node.start()
    return cluster


def wait_for_copy(cluster: Cluster, server: S3Server) -> None:
    """Wait until the rows of the node's vault are in the bucket: a new vault's are copied at once."""
    shelf = server.objects("shelf", cluster.nodes[3].name)
    while not any("/snapshots/" in each["path"] for each in shelf.list().collect()):
        os.sched_yield()


def write_conf(cluster: Cluster, server: S3Server, more: str = "") -> None:
    """Write the conf that docs/howto/bucket.md shows, with places of our own."""
    shown = re.search(r"```toml\n(.*?) *```", PAGE, re.DOTALL)
    assert shown is not None
    conf = textwrap.dedent(shown[1])
    for theirs, ours in (
        ("/var/lib/dfs/node", "DFS4"),
        ("s3://my-bucket/node4", "s3://shelf/DFS4"),
        ("eu-central-1", "us-east-1"),
    ):
        assert theirs in conf
        conf = conf.replace(theirs, ours)
    (cluster.folder / "bucket.toml").write_text(f'{conf}endpoint = "{server.endpoint}"\n{more}')


@pytest.mark.timeout(120)
def test_a_lost_machine_comes_back_from_its_bucket(cluster: Cluster, server: S3Server) -> None:
    bodies = {"large": LARGE, "middle": MIDDLE, "small": SMALL}
    for name, body in bodies.items():
        cluster.dfs("put", str(cluster.file(name, body)))
    for node in cluster.nodes[:2]:
        node.kill()
    for name, body in bodies.items():
        assert cluster.got(name) == body  # half of it comes out of the bucket
    for node in cluster.nodes[:2]:
        node.start()
    node = cluster.nodes[3]
    wait_for_copy(cluster, server)
    node.kill()
    shutil.rmtree(node.directory)  # the machine is lost, and what it had not copied
    cluster.dfs("put", str(cluster.file("later", MIDDLE[::-1])), status=3)
    refused = cluster_log(cluster)
    with pytest.raises(AssertionError):
        node.start()
    node.kill()
    assert "holds a node" in cluster_log(cluster).removeprefix(refused)
    write_conf(cluster, server, RESTORE)
    node.start()
    assert all(words in PAGE for words in ("restore = true", "dfs cert trust NAME", "dfs repair", "JOINING"))
    cluster.dfs("cert", "trust", "DFS4", "--yes")
    with opened(cluster) as vault:
        assert states(vault) == [*[VaultState.ACTIVE] * 3, VaultState.JOINING]
        assert vault.status()[3].incarnation == 2
    cluster.dfs("repair", "--yes")
    with opened(cluster) as vault:
        assert states(vault) == [VaultState.ACTIVE] * 4
    for other in cluster.nodes[:2]:
        other.kill()
    for name, body in {**bodies, "later": MIDDLE[::-1]}.items():
        assert cluster.got(name) == body
    assert "hush-hush" not in cluster_log(cluster)


def cluster_log(cluster: Cluster) -> str:
    """What the node in the bucket has said so far."""
    path: Path = cluster.folder / "DFS4.log"
    return path.read_text()


@pytest.mark.timeout(120)
def test_beside_a_bucket_that_is_gone_the_others_go_on(cluster: Cluster, server: S3Server) -> None:
    """The node says what is wrong, and goes on with names and small shares."""
    cluster.dfs("put", str(cluster.file("middle", MIDDLE)))
    server.close()
    cluster.dfs("put", str(cluster.file("later", MIDDLE[::-1])), status=3)
    cluster.dfs("put", str(cluster.file("small", SMALL)))
    told = cluster.dfs("status", status=None).stdout.decode()
    assert "the bucket s3://shelf/DFS4" in told
    assert "cannot be written" in told
    assert cluster.got("middle") == MIDDLE
    assert cluster.got("later") == MIDDLE[::-1]
