"""Which modules `dfs ls` loads: start-up is a promise, and sets of modules do not wobble as times do."""

import subprocess
import sys

import pytest

from tests.e2e.conftest import COMMAND, MakeCluster

# What moves, keeps and shows data is not for those who ask for a list.
HEAVY = (
    "asyncio", "dfs.core.getting", "dfs.core.putting", "dfs.core.repairing", "dfs.core.replaying",
    "dfs.core.server", "dfs.testing", "email", "encodings.idna", "glob", "http", "importlib.metadata", "json",
    "keyring", "logging",
    "multiprocessing", "numpy", "platformdirs", "prompt_toolkit", "pyeclib", "pyzstd", "rich", "sqlite3",
    "subprocess", "urllib.request",
)  # fmt: skip
LIST = """
import sys
from dfs.cli import run
code = run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def among(modules: set[str], names: tuple[str, ...]) -> set[str]:
    """Those of the modules that bear one of the names or lie below it."""
    return {module for module in modules if any(f"{module}.".startswith(f"{name}.") for name in names)}


@pytest.mark.parametrize("transport", ["tls", "tcp"])
def test_a_list_loads_its_transport_and_no_other_plugin(make_cluster: MakeCluster, transport: str) -> None:
    cluster = make_cluster(4, "--transport", transport, flags=("--transport", transport))
    cluster.dfs("mkdir", "folder")
    words = cluster.command("ls")[len(COMMAND) :]
    ended = subprocess.run(
        [sys.executable, "-c", LIST, *words],
        capture_output=True,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=60,
        check=True,
    )
    assert ended.stdout == b"folder/\n"
    modules = set(ended.stderr.decode().splitlines()[-1].split())
    assert among(modules, HEAVY) == set()
    assert among(modules, ("dfs.plugins",)) == {"dfs.plugins", f"dfs.plugins.{transport}"}
