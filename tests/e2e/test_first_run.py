"""The first minutes: nodes, `dfs init` on a terminal and without, `dfs doctor`, the first file."""

import subprocess
from pathlib import Path
from typing import Any

import pexpect

from dfs.core.conf import parse_client
from tests.e2e.conftest import COMMAND


def run(cluster: Any, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended
    return ended


def test_from_four_empty_nodes_to_a_file_that_survives_two(cluster: Any) -> None:
    nodes = [word for node in cluster.nodes for word in ("--node", f"{node.name}={node.address}")]
    made = run(cluster, "init", "--user", "odile", *nodes, "--key-file", "odile.key")
    assert "4 of 4 nodes answer; certificates pinned: DFS1 SHA256:" in made.stderr
    assert "any 2 of 4 nodes may die; 1 GiB of files takes 2.0 GiB" in made.stderr
    (line,) = [line.strip() for line in made.stdout.splitlines() if line.startswith("  odile ed25519:")]
    conf = parse_client((cluster.folder / "dfc.conf").read_bytes(), "dfc.conf")
    assert all(node.certificate for node in conf.nodes)
    not_known = run(cluster, "doctor", status=3).stdout
    assert "problem  vault:" in not_known
    users = cluster.folder / "users"
    run(cluster, "user", "add", *line.split(), "--users", str(users))
    for node in cluster.nodes:  # they re-read it
        node.kill()
        node.start()
    well = run(cluster, "doctor")
    assert "problem" not in well.stdout
    (cluster.folder / "report").write_bytes(b"x" * 400_000)
    assert "survives any 2" in run(cluster, "put", "report").stderr
    for node in cluster.nodes[:2]:
        node.kill()
    (cluster.folder / "report").unlink()
    run(cluster, "get", "report")
    assert (cluster.folder / "report").read_bytes() == b"x" * 400_000
    ill = run(cluster, "doctor", status=3).stdout
    port = cluster.nodes[0].port
    assert f"fix: start it there: dfs serve --dir DIR --port {port}" in ill


def test_the_dialogue_on_a_terminal(cluster: Any) -> None:
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "init", "--user", "odile"],
        env=cluster.environment,
        cwd=str(cluster.folder),
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
    )
    try:
        for index, node in enumerate(cluster.nodes[:3]):
            child.expect(f"Node {index + 1}: ")
            child.sendline(f"n{index}={node.address}")
        child.expect("Node 4: ")
        child.sendline("")
        child.expect("3 of 3 nodes answer")
        child.expect(r"2 of 3: any 1 of 3 nodes may die; 1 GiB of files takes 1\.5 GiB")
        child.expect(r"Geometry \[1 of 3\]: ")
        child.sendline("2 of 3")
        child.expect("Geometry 2 of 3: any 1 of 3 nodes may die")
        child.expect("Password of odile: ")
        child.sendline("white rabbit")
        child.expect("Once more: ")
        child.sendline("white rabbit")
        child.expect("Wrote dfc.conf .*  odile ed25519:")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    text = (cluster.folder / "dfc.conf").read_text()
    assert "rabbit" not in text
    assert "needed = 2" in text


def test_a_node_checks_itself(cluster: Any, tmp_path: Path) -> None:
    conf = tmp_path / "node.toml"
    node = cluster.nodes[0]
    conf.write_text(f'format = 1\ndir = "{node.directory}"\nport = {node.port}\nlisten = "127.0.0.1"\n')
    told = run(cluster, "--conf", str(conf), "doctor", "--node").stdout
    assert f"something listens on port {node.port}" in told
    assert "certificate.pem holds until" in told
