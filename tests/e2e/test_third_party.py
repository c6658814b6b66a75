"""Packages of strangers in a fresh environment: a good one is used end to end, bad ones each give the named
error.
"""

import random
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.strangers import Stranger, write_conf

CONTENT = random.Random(3).randbytes(5_000_000)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger") / "venv")


def _conf(cluster: Any, cipher: str, placement: str) -> Path:
    return write_conf(cluster, f"{cipher}.toml", f'cipher = "{cipher}"\nplacement = "{placement}"\n')


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_stranger_adds_a_cipher_and_a_placement(stranger: Stranger, cluster: Any) -> None:
    stranger.install("dfs-foxglove")
    conf = _conf(cluster, "foxglove", "meadow")
    path = cluster.file("plan.dwg", CONTENT)
    stored = stranger.dfs(cluster, conf, "put", str(path))
    assert stored.returncode == 0, stored.stderr
    for node in cluster.nodes[:2]:
        node.kill()
    target = cluster.folder / "back"
    got = stranger.dfs(cluster, conf, "get", "plan.dwg", "-o", str(target))
    assert got.returncode == 0, got.stderr
    assert target.read_bytes() == CONTENT
    # whoever lacks the package learns which one it is; the file is intact
    assert sys.executable != stranger.python
    missing = cluster.dfs("get", "plan.dwg", "-o", str(cluster.folder / "none"), status=2)
    assert b"pip install dfs-foxglove" in missing.stderr
    assert b"DFS-E501" in missing.stderr


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("package", "name", "code", "words"),
    [
        ("dfs-broken", "snapdragon", "DFS-E502", ["dfs-broken"]),
        ("dfs-misspelt", "thistle", "DFS-E505", ["dfs-misspelt", "dfs_cipher"]),
        ("dfs-oldapi", "heather", "DFS-E504", ["dfs-oldapi"]),
        ("dfs-conflict", "foxglove", "DFS-E503", ["dfs-conflict", "dfs-foxglove", "1.0"]),
    ],
)
def test_bad_packages_give_the_named_error(
    stranger: Stranger, cluster: Any, package: str, name: str, code: str, words: list[str]
) -> None:
    installed = [package, "dfs-foxglove"] if code == "DFS-E503" else [package]
    stranger.install(*installed)
    try:
        cluster.dfs("put", str(cluster.file("fine", b"stock plugins go on working")))
        conf = _conf(cluster, name, "rendezvous")
        refused = stranger.dfs(cluster, conf, "put", str(cluster.file("f", CONTENT[:1000])))
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        for word in [code, *words]:
            assert word in refused.stderr
        stock = stranger.dfs(cluster, _conf(cluster, "aes-gcm", "rendezvous"), "ls")
        assert stock.returncode == 0, stock.stderr
        assert stock.stdout == "fine\n"
    finally:
        stranger.uninstall(*installed)
