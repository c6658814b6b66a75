"""Packages of strangers in a fresh environment: a good one is used end to end, bad ones each give the named
error.
"""

import os
import random
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "packages"
CONTENT = random.Random(3).randbytes(5_000_000)


class Stranger:
    """A virtual environment of its own with dfs installed as a wheel, and the packages a test adds."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = str(folder / "bin" / "python")
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.pip("install", str(ROOT), "hatchling")

    def pip(self, *words: str) -> None:
        subprocess.run(
            [self.python, "-m", "pip", "-q", "--disable-pip-version-check", *words],
            check=True,
            env=self.environment,
            timeout=300,
        )

    def install(self, *names: str) -> None:
        self.pip("install", "--no-build-isolation", "--no-deps", *(str(PACKAGES / name) for name in names))

    def uninstall(self, *names: str) -> None:
        self.pip("uninstall", "-y", *names)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger") / "venv")


def _conf(cluster: Any, cipher: str, placement: str) -> Path:
    secret = cluster.folder / "secret"
    secret.write_text("white rabbit\n")
    secret.chmod(0o600)
    path: Path = cluster.folder / f"{cipher}.toml"
    rows = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    head = f'format = 1\nuser = "Alice"\npassword_file = "{secret}"\n'
    path.write_text(f'{head}cipher = "{cipher}"\nplacement = "{placement}"\n{rows}')
    return path


def _dfs(stranger: Stranger, cluster: Any, conf: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        [stranger.python, "-m", "dfs", "--conf", str(conf), *words],
        env={**cluster.environment, "PYTHONPATH": ""},
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_stranger_adds_a_cipher_and_a_placement(stranger: Stranger, cluster: Any) -> None:
    stranger.install("dfs-foxglove")
    conf = _conf(cluster, "foxglove", "meadow")
    path = cluster.file("plan.dwg", CONTENT)
    stored = _dfs(stranger, cluster, conf, "put", str(path))
    assert stored.returncode == 0, stored.stderr
    for node in cluster.nodes[:2]:
        node.kill()
    target = cluster.folder / "back"
    got = _dfs(stranger, cluster, conf, "get", "plan.dwg", "-o", str(target))
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
        refused = _dfs(stranger, cluster, conf, "put", str(cluster.file("f", CONTENT[:1000])))
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        for word in [code, *words]:
            assert word in refused.stderr
        stock = _dfs(stranger, cluster, _conf(cluster, "aes-gcm", "rendezvous"), "ls")
        assert stock.returncode == 0, stock.stderr
        assert stock.stdout == "fine\n"
    finally:
        stranger.uninstall(*installed)
