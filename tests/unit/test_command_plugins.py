"""`dfs plugins`."""

from pathlib import Path
from typing import Any

from dfs.plugins import BUILTIN

FOXGLOVE = Path(__file__).parents[1] / "packages/dfs-foxglove/dfs_foxglove.py"


def test_every_plugin_is_listed_with_its_source(bare_home: Any) -> None:
    rows = bare_home.json("plugins")["data"]["plugins"]
    listed = {(row["kind"], row["name"]) for row in rows}
    assert listed >= {
        (hook.removeprefix("dfs_").removesuffix("s"), name)
        for hook, table in BUILTIN.items()
        for name in table
    }
    assert all(row["state"] == "ok" and row["package"] for row in rows)
    lines = bare_home.dfs("plugins")
    assert any(line.startswith("cipher") and "aes-gcm" in line and "(dfs " in line for line in lines)


def test_a_plugin_file_is_listed_too(bare_home: Any) -> None:
    assert any("foxglove" in line for line in bare_home.dfs("--plugin", str(FOXGLOVE), "plugins"))
