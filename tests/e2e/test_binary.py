"""The single executable, where no Python is: `nox -s binary` builds it and names it in DFS_BINARY."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARY = os.environ.get("DFS_BINARY", "")
READY = re.compile(r"listening on port (\d+)")
PLUGIN = Path(__file__).parents[1] / "packages/dfs-foxglove/dfs_foxglove.py"

pytestmark = pytest.mark.skipif(not BINARY, reason="DFS_BINARY names no executable")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of Python, and no program but what is named."""
    return {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path / "nothing"),
        "TMPDIR": str(tmp_path),
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def ports(tmp_path: Path, environment: dict[str, str]) -> Iterator[list[int]]:
    """Three nodes, each a process of the executable."""
    nodes = []
    found = []
    for name in ("N1", "N2", "N3"):
        node = subprocess.Popen(
            [BINARY, "serve", "--dir", name, "--port", "0", "--listen", "127.0.0.1", "--users", "users"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        nodes.append(node)
        assert node.stdout is not None
        ready = READY.search(node.stdout.readline())
        assert ready
        found.append(int(ready[1]))
    yield found
    for node in nodes:
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0
        assert node.stdout is not None
        node.stdout.close()


def dfs(folder: Path, environment: dict[str, str], *words: str, status: int = 0) -> str:
    ended = subprocess.run(
        [BINARY, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended
    return ended.stdout + ended.stderr


def test_it_serves_stores_and_gives_back(
    tmp_path: Path, environment: dict[str, str], ports: list[int]
) -> None:
    nodes = [word for port in ports for word in ("--node", f"127.0.0.1:{port}")]
    made = dfs(tmp_path, environment, "init", "--user", "odile", "--key-file", "key", *nodes)
    (line,) = re.findall(r"^  (odile ed25519:\S+)$", made, re.MULTILINE)
    dfs(tmp_path, environment, "user", "add", *line.split(), "--users", "users")
    for _ in range(30):  # until the nodes have read it again
        if "vault: odile is logged in" in dfs_any(tmp_path, environment, "doctor"):
            break
    else:
        raise AssertionError(dfs_any(tmp_path, environment, "doctor"))
    content = os.urandom(5_000_000)
    (tmp_path / "sample").write_bytes(content)
    assert "3 of 3 nodes, survives any 2" in dfs(tmp_path, environment, "put", "sample")
    plugin = ("--plugin", str(PLUGIN))
    dfs(tmp_path, environment, *plugin, "--cipher", "foxglove", "put", "sample", "--to", "foxy")
    for name, words in (("sample", ()), ("foxy", plugin)):
        dfs(tmp_path, environment, *words, "get", name, "-o", f"{name}.back")
        assert (tmp_path / f"{name}.back").read_bytes() == content
    assert "DFS-E501" in dfs(tmp_path, environment, "get", "foxy", "-o", "x", status=2)


def dfs_any(folder: Path, environment: dict[str, str], *words: str) -> str:
    """What a command prints, however it ends."""
    ended = subprocess.run(
        [BINARY, *words], capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False
    )
    return ended.stdout


def test_every_command_is_inside(tmp_path: Path, environment: dict[str, str]) -> None:
    from dfs.cli import COMMANDS

    for name in ("serve", "client", *COMMANDS):
        assert "Usage: dfs" in dfs(tmp_path, environment, name, "--help")
    plugins = dfs(tmp_path, environment, "plugins")
    assert "broken" not in plugins
    for name in ("aes-gcm", "chacha20-poly1305", "zstd", "reed-solomon", "tls", "volumes"):
        assert re.search(rf"\b{name}\b", plugins)


def test_a_plugin_can_be_begun(tmp_path: Path, environment: dict[str, str]) -> None:
    for kind in ("cipher", "store"):
        dfs(tmp_path, environment, "plugins", "new", f"my-{kind}", "--kind", kind)
        assert (tmp_path / f"dfs-my-{kind}" / "pyproject.toml").is_file()


def test_the_demonstration_runs_by_itself(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "identical" in dfs(tmp_path, environment, "demo")
