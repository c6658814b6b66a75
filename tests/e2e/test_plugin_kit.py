"""The kit as strangers meet it: packages of examples/ as wheels, steps of docs/plugins.md to the letter."""

import os
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Node
from tests.e2e.strangers import ROOT, Stranger, write_conf

EXAMPLES = ROOT / "examples"
CONTENT = b"".join(b"row %d of a drawing\n" % number for number in range(200_000)) + random.Random(
    5
).randbytes(99_999)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    folder = tmp_path_factory.mktemp("kit")
    made = Stranger(folder / "venv")
    names = ("dfs-lz4", "dfs-unix")
    made.pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        *(str(EXAMPLES / name) for name in names),
    )
    wheels = sorted(folder.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["dfs_lz4", "dfs_unix"]
    made.pip("install", *map(str, wheels), "pytest", "hypothesis")
    return made


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a short path: that of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="dfs-") as folder:
        yield Path(folder)


def over_unix(stranger: Stranger, cluster: Any, sockets: Path) -> Path:
    """Start the nodes of a cluster anew in the stranger's environment, over Unix sockets; return a conf."""
    for node in cluster.nodes:
        node.kill()
    cluster.nodes[:] = [
        Node(
            node.name,
            cluster.folder / f"unix-{node.name}",
            [*node.arguments, "--transport", "unix"],
            {**node.environment, "PYTHONPATH": "", "DFS_PLUGIN_UNIX_DIRECTORY": str(sockets)},
            program=(stranger.python, "-m", "dfs"),
        )
        for node in cluster.nodes
    ]
    for node in cluster.nodes:
        node.start()
    assert len(list(sockets.glob("*.sock"))) == len(cluster.nodes)
    lines = 'transport = "unix"\ncompressor = "lz4"\n'
    return write_conf(cluster, "unix.toml", lines, f'[plugin.unix]\ndirectory = "{sockets}"\n')


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_packages_of_strangers_carry_a_file(stranger: Stranger, sockets: Path, cluster: Any) -> None:
    conf = over_unix(stranger, cluster, sockets)
    path = cluster.file("plan.dwg", CONTENT)
    stored = stranger.dfs(cluster, conf, "put", str(path))
    assert stored.returncode == 0, stored.stderr
    for node in cluster.nodes[:2]:
        node.kill()
    got = stranger.dfs(cluster, conf, "get", "plan.dwg", "-o", "back")
    assert got.returncode == 0, got.stderr
    assert (cluster.folder / "back").read_bytes() == CONTENT
    listed = stranger.dfs(cluster, conf, "plugins")
    assert re.search(r"compressor +lz4 .*\(dfs-lz4 0\.1\.0, ", listed.stdout)
    assert re.search(r"transport +unix .*\(dfs-unix 0\.1\.0, ", listed.stdout)
    stranger.uninstall("dfs-lz4")
    missing = stranger.dfs(cluster, conf, "get", "plan.dwg", "-o", "again", "--compressor", "zstd")
    assert missing.returncode == 2
    assert "pip install dfs-lz4" in missing.stderr


LIST = """
import sys
from dfs.cli import run
code = run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_is_installed_is_not_imported_without_need(stranger: Stranger, cluster: Any) -> None:
    conf = write_conf(cluster, "stock.toml")
    ended = subprocess.run(
        [stranger.python, "-c", LIST, "--conf", str(conf), "ls"],
        env={**cluster.environment, "PYTHONPATH": ""},
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    modules = set(ended.stderr.splitlines()[-1].split())
    assert {module for module in modules if module.startswith("dfs.plugins.")} == {"dfs.plugins.tls"}
    assert not modules & {"dfs_lz4", "dfs_unix", "lz4", "importlib.metadata"}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["dfs-lz4", "dfs-unix"])
def test_the_examples_keep_their_contract(stranger: Stranger, tmp_path: Path, name: str) -> None:
    stranger.pip("install", "--no-build-isolation", "--no-deps", str(EXAMPLES / name))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # not the conf of this source tree
    command = [stranger.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini"]
    ended = subprocess.run(
        [*command, str(EXAMPLES / name / "tests")],
        cwd=tmp_path,
        env={**stranger.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


def test_one_file_is_a_plugin_where_it_is_named(cluster: Any) -> None:
    plugin = str(EXAMPLES / "local_plugin.py")
    path = cluster.file("plan.dwg", CONTENT)
    cluster.dfs("--plugin", plugin, "put", "--placement", "turn", str(path))
    target = cluster.folder / "back"
    cluster.dfs("--plugin", plugin, "get", "plan.dwg", "-o", str(target))
    assert target.read_bytes() == CONTENT
    refused = cluster.dfs("get", "plan.dwg", "-o", str(cluster.folder / "none"), status=2)
    assert b"--plugin local_plugin.py" in refused.stderr


def steps() -> str:
    """The first commands of docs/plugins.md: what an author does who has read no more."""
    page = (ROOT / "docs/plugins.md").read_text("utf-8")
    found = re.search(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_steps_of_the_page_end_in_a_plugin_in_use(stranger: Stranger, cluster: Any) -> None:
    write_conf(cluster, "dfs.toml")
    (cluster.folder / "plan.dwg").write_bytes(CONTENT)
    path = os.pathsep.join((str(stranger.bin), os.environ["PATH"]))
    ended = subprocess.run(
        ["sh", "-ex", "-c", steps()],
        cwd=cluster.folder,
        env={**cluster.environment, "PYTHONPATH": "", "PATH": path, "VIRTUAL_ENV": str(stranger.bin.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "cipher marigold: " in ended.stdout
    assert " 0 failed" in ended.stdout
    refused = cluster.dfs("get", "plan.dwg", "-o", str(cluster.folder / "none"), status=2)
    assert b"pip install dfs-marigold" in refused.stderr


def test_a_placement_may_look_at_names_and_contents(cluster: Any) -> None:
    """Every command with `ring` by content ended in an unexpected error: it was tried with an empty key."""
    path = cluster.file("plan.dwg", CONTENT)
    for scope in ("name", "content"):
        conf = write_conf(
            cluster, f"{scope}.toml", 'placement = "ring"\n', f'[plugin.ring]\nhash = "{scope}"\n'
        )
        cluster.dfs("put", str(path), conf=conf)
        target = cluster.folder / f"back-{scope}"
        cluster.dfs("get", "plan.dwg", "-o", str(target), conf=conf)
        assert target.read_bytes() == CONTENT
