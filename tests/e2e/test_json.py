"""What programs read: every file command with --json, against four real nodes, fits the documented schema."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/json-schema.json").read_text("utf-8"))
DOCUMENTED = {name.removeprefix("data-") for name in SCHEMA["$defs"] if name.startswith("data-")}


def closed(schema: Any) -> Any:
    """The same schema, but nothing may be there that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    is_object = "object" in schema.get("type", ()) and schema.get("properties")
    return {**inner, "additionalProperties": False} if is_object else inner


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="in the group `test`")
    kind = jsonschema.Draft202012Validator
    kind.check_schema(SCHEMA)
    strict = closed({name: part for name, part in SCHEMA.items() if name != "allOf"})
    strict["allOf"] = SCHEMA["allOf"]
    return kind(strict)


@pytest.fixture
def envelope(cluster: Cluster, validator: Any) -> Any:
    """Return a function that runs a command with --json and returns its validated envelope."""
    cluster.file("big.bin", os.urandom(5 << 20))
    cluster.file("tiny.txt", b"tiny")
    seen = set()

    def run(*words: str, status: int = 0) -> Any:
        ended = cluster.dfs("--json", *words, status=status, cwd=cluster.folder / "local")
        assert ended.stderr == b""
        told = json.loads(ended.stdout)
        faults = [f"{words}: {error.json_path}: {error.message}" for error in validator.iter_errors(told)]
        assert faults == []
        assert told["code"] == status
        seen.add(told["command"])
        return told

    run.seen = seen  # type: ignore[attr-defined] # for the test to look at
    return run


def test_every_file_command_fits_its_schema(envelope: Any) -> None:
    assert envelope("put", "big.bin", "tiny.txt", "--to", "sub/")["data"]["files"]
    envelope("put", "-n", "big.bin")
    envelope("put", "tiny.txt", "--to", "sub/tiny.txt", "--if-absent", status=9)
    for line in ("ls -R", "ls --nodes", "find --name *.bin", "stat sub sub/*", "tree"):
        assert envelope(*line.split())["data"]["entries"]
    for words in (("map",), ("map", "--chunks", "sub/big.bin"), ("du",)):
        assert envelope(*words)["data"]["rows"]
    assert envelope("df")["data"]["joint_free"] > 0
    envelope("get", "sub/big.bin", "--range", "0-99", "-o", "part")
    envelope("get", "missing", status=4)
    envelope("mkdir", "other")
    envelope("cp", "sub/big.bin", "other")
    envelope("mv", "-n", "other/big.bin", "x")
    envelope("mv", "other/big.bin", "x")
    envelope("check", "--what-if", "kill=DFS1")
    envelope("repair")
    assert len(envelope("status")["data"]["nodes"]) == 4
    envelope("rm", "-r", "other")
    assert envelope.seen == DOCUMENTED


def test_what_fails_or_is_degraded_fits_too(envelope: Any, cluster: Cluster) -> None:
    envelope("put", "big.bin")
    cluster.nodes[0].kill()
    assert envelope("put", "tiny.txt", status=3)["warnings"][0]["code"] == "DFS-E301"
    for words in (
        ("ls",),
        ("stat", "big.bin"),
        ("map",),
        ("map", "--chunks", "big.bin"),
        ("df",),
        ("status",),
    ):
        envelope(*words)
    envelope("check", status=3)
    envelope("repair", status=3)
    cluster.nodes[1].kill()
    cluster.nodes[2].kill()
    assert envelope("get", "big.bin", "-o", "x", status=5)["error"]["code"] == "DFS-E401"
    assert envelope("put", "tiny.txt", status=7)["data"]["files"][0]["outcome"] == "failed"
    assert envelope("rm", "tiny.txt", status=7)["error"]
    assert envelope("stat", "--frob", "x", status=2)["data"] is None
