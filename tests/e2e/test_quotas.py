"""Quotas of real nodes: who has no room is told so in one line, and nothing is lost."""

import os
import signal

from tests.e2e.conftest import MakeCluster


def test_a_quota_refuses_and_can_be_raised(make_cluster: MakeCluster, environment: dict[str, str]) -> None:
    environment["DFS_QUOTA"] = "3 MiB"
    cluster = make_cluster()
    body, large = os.urandom(1 << 20), os.urandom(7 << 20)
    cluster.dfs("put", str(cluster.file("small", body)))
    told = cluster.dfs("put", str(cluster.file("large", large)), status=8).stderr.decode()
    (line,) = [line for line in told.splitlines() if "DFS-E602" in line]
    assert "no room in the quota, " in line
    assert " of 3.0 MiB are used" in line
    assert "DFS1" in line
    assert cluster.names() == ["small"]
    assert cluster.got("small") == body
    assert cluster.dfs("status").stdout.decode().count(" of 3.0 MiB") == 4

    users = str(cluster.folder / "users")
    cluster.dfs("user", "quota", "Alice", "20MiB", "--users", users)
    for node in cluster.nodes:
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)  # they look by themselves at the next login, too
    cluster.dfs("put", str(cluster.file("large", large)))
    assert cluster.got("large") == large
    cluster.dfs("user", "quota", "Alice", "1KiB", "--users", users)
    cluster.dfs("put", str(cluster.file("small", large)), status=8)
    assert cluster.got("small") == body
    cluster.dfs("rm", "small", "large")
    assert cluster.names() == []
