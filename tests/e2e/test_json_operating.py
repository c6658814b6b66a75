"""What programs read of the commands around a cluster: all of them fit docs/json-schema-operating.json."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import COMMAND
from tests.e2e.test_json import closed

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/json-schema-operating.json").read_text("utf-8"))
DOCUMENTED = {name.removeprefix("data-") for name in SCHEMA["$defs"] if name.startswith("data-")}


def test_every_command_fits_its_schema(cluster: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="in the group `test`")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    strict = {**closed(SCHEMA), "allOf": SCHEMA["allOf"]}
    validator = jsonschema.Draft202012Validator(strict)
    seen = set()

    def run(*words: str, status: int = 0, conf: bool = True) -> Any:
        command = cluster.command("--json", *words) if conf else [*COMMAND, "--json", *words]
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=cluster.environment,
            cwd=cluster.folder,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (status, b""), ended
        told = json.loads(ended.stdout)
        assert [f"{words}: {error.json_path}: {error.message}" for error in validator.iter_errors(told)] == []
        seen.add(told["command"])
        return told

    node = cluster.nodes[0]
    named = ("--node", f"A={node.address}")
    run("init", *named, "--key-file", "k", "--output", "new.toml", conf=False)
    run("init", *named, "-n", "--offline", conf=False)
    assert run("init", *named, "--output", "new.toml", status=9, conf=False)["error"]
    run("config", "show")
    run("config", "check", "new.toml", "users")
    run("config", "convert", str(cluster.conf()))
    run("config", "keys", "--node")
    assert run("config", "check", "gone", status=2)["error"]["code"] == "DFS-E202"
    assert all(check["state"] for check in run("doctor")["data"]["checks"])
    run("explain")
    run("explain", "131")
    run("bench", "--seconds", "0.01", "--net")
    run("completion", "zsh")
    run("cert", "show")
    run("cert", "trust", "DFS1", "-y")
    run("plugins")
    run("version")
    run("demo", "--nodes", "2", conf=False)
    assert run("serve", "--dir", str(node.directory), "--port", "0", status=11, conf=False)["error"]
    assert seen == DOCUMENTED
    first = json.loads(_ready_line(cluster))
    assert first["data"]["node"] == "N9"
    assert list(validator.iter_errors(first)) == []


def _ready_line(cluster: Any) -> str:
    with subprocess.Popen(
        [*COMMAND, "--json", "serve", "--dir", "N9", "--port", "0", "--listen", "127.0.0.1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=cluster.environment,
        cwd=cluster.folder,
    ) as node:
        assert node.stdout is not None
        line = node.stdout.readline()
        node.terminate()
        assert node.wait(10) == 0
    return line
