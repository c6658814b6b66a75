"""`dfs plugins`: list, info, new and check."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dfs.plugins import BUILTIN, command_plugins

ROOT = Path(__file__).parents[2]
FOXGLOVE = ROOT / "tests/packages/dfs-foxglove/dfs_foxglove.py"
BROKEN = """
from dfs.core.api import CipherPlugin, Options, UnknownKeyError, hookimpl

DFS_API_VERSION = 1


class Clear:
    key_size = 32
    overhead_size = 16
    authenticated = True

    def seal_into(self, key, context, source, target):
        target[:16], target[16:] = bytes(16), source

    def open_into(self, key, context, source, target):
        target[:] = source[16:]


def make(options):
    for key in options.values:
        raise UnknownKeyError(f"no option {key!r}")
    return Clear()


@hookimpl
def dfs_ciphers():
    return [CipherPlugin(name="glass", summary="copies the bytes", make=make)]
"""


@pytest.mark.parametrize("words", [[], ["list"]])
def test_every_plugin_is_listed_with_its_source(bare_home: Any, words: list[str]) -> None:
    rows = bare_home.json("plugins", *words)["data"]["plugins"]
    listed = {(row["kind"], row["name"]) for row in rows}
    assert listed >= {
        (hook.removeprefix("dfs_").removesuffix("s"), name)
        for hook, table in BUILTIN.items()
        for name in table
    }
    assert all(row["state"] == "ok" and row["package"] and row["load_ms"] >= 0 for row in rows)
    lines = bare_home.dfs("plugins", *words)
    assert any(line.startswith("cipher") and "aes-gcm" in line and "(dfs " in line for line in lines)


def test_a_plugin_file_is_listed_too(bare_home: Any) -> None:
    assert any("foxglove" in line for line in bare_home.dfs("--plugin", str(FOXGLOVE), "plugins"))


def test_all_is_told_of_one(bare_home: Any) -> None:
    lines = dict(line.split(maxsplit=1) for line in bare_home.dfs("plugins", "info", "zstd"))
    assert lines["kind"] == "compressor"
    assert lines["in"] == "manifests  dfs:zstd@1"
    assert lines["from"] == "dfs.plugins.zstd"
    (row,) = bare_home.json("--plugin", str(FOXGLOVE), "plugins", "info", "foxglove")["data"]["plugins"]
    assert (row["kind"], row["entry"]) == ("cipher", str(FOXGLOVE))
    bare_home.dfs("plugins", "info", "heather", status=2)
    assert "no plugin" in bare_home.err


@pytest.mark.parametrize("kind", command_plugins.KINDS)
def test_a_new_package_is_complete(bare_home: Any, kind: str) -> None:
    told = bare_home.json("plugins", "new", "sea-holly", "--kind", kind)["data"]
    folder = Path(told["folder"])
    assert (
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        == told["files"]
    )
    module = folder / "dfs_sea_holly.py"
    assert "$" not in module.read_text()
    rows = bare_home.json("--plugin", str(module), "plugins")["data"]["plugins"]
    assert [row["kind"] for row in rows if row["name"] == "sea-holly"] == [kind]
    assert all(row["state"] == "ok" for row in rows)


@pytest.mark.long
@pytest.mark.parametrize("kind", command_plugins.KINDS)
def test_a_new_package_passes_its_tests(bare_home: Any, kind: str) -> None:
    bare_home.dfs("plugins", "new", "sea-holly", "--kind", kind)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd="dfs-sea-holly",
        env={"PYTHONPATH": f".:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def test_what_is_there_is_not_written_over(bare_home: Any) -> None:
    bare_home.dfs("plugins", "new", "sea-holly", "--kind", "cipher")
    bare_home.dfs("plugins", "new", "sea-holly", "--kind", "cipher", status=9)
    bare_home.dfs("plugins", "new", "zstd", "--kind", "compressor", status=2)
    bare_home.dfs("plugins", "new", "Sea Holly", "--kind", "cipher", status=2)
    bare_home.dfs("plugins", "new", "sea-holly", "--kind", "horse", status=2)


def test_a_plugin_is_checked(bare_home: Any) -> None:
    (row,) = bare_home.json("plugins", "check", "fixed")["data"]["checks"]
    assert row["plugin"] == "chunker fixed"
    assert row["passed"] > 10
    assert row["failed"] == []


def test_what_a_plugin_fails_at_is_told(bare_home: Any) -> None:
    bare_home.write("glass.py", BROKEN.encode())
    bare_home.dfs("--plugin", "glass.py", "plugins", "check", "glass.py", status=2)
    assert "cipher glass: test_every_changed_bit_is_refused[1]" in bare_home.err
    assert "DFS-E502" in bare_home.err
    assert "cipher glass: " in bare_home.out


def test_nothing_is_checked_that_is_not_there(bare_home: Any) -> None:
    bare_home.dfs("plugins", "check", "dfs-heather", status=2)
    assert "no plugin comes from 'dfs-heather'" in bare_home.err
