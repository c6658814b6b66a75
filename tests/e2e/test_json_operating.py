"""What programs read of the commands around a cluster: all of them fit docs/json-schema-operating.json."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from dfs.cli import COMMANDS, cli
from tests.e2e.conftest import COMMAND, Cluster
from tests.e2e.test_json import DOCUMENTED as FILE_COMMANDS, closed

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/json-schema-operating.json").read_text("utf-8"))
DOCUMENTED = {name.removeprefix("data-") for name in SCHEMA["$defs"] if name.startswith("data-")}
OF_LOGINS = {"key", "login", "logout", "passwd", "replace", "user"}  # one test runs these, another all others
SILENT = {
    "cat",  # it prints the bytes of files and refuses --json
    "client",  # with --json each line of it is another command, with that one's schema
}


@define
class Run:
    """Runs commands with --json; ``seen``: whose envelopes were validated."""

    cluster: Cluster
    validator: Any
    seen: set[str] = field(factory=set)

    def __call__(self, *words: str, status: int = 0, conf: bool = True) -> Any:
        command = self.cluster.command("--json", *words) if conf else [*COMMAND, "--json", *words]
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.cluster.environment,
            cwd=self.cluster.folder,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (status, b""), ended
        told = json.loads(ended.stdout)
        faults = [
            f"{words}: {error.json_path}: {error.message}" for error in self.validator.iter_errors(told)
        ]
        assert faults == []
        self.seen.add(told["command"])
        return told


@pytest.fixture
def run(cluster: Cluster) -> Run:
    jsonschema = pytest.importorskip("jsonschema", reason="in the group `test`")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    strict = {**closed(SCHEMA), "allOf": SCHEMA["allOf"]}
    return Run(cluster, jsonschema.Draft202012Validator(strict))


def test_no_command_is_without_a_schema() -> None:
    """A new command needs one, and a line in the test that runs it: of this file or of test_json.py."""
    assert {*cli.commands, *COMMANDS} - SILENT == DOCUMENTED | FILE_COMMANDS
    assert not DOCUMENTED & FILE_COMMANDS


def test_every_command_around_a_cluster_fits_its_schema(cluster: Cluster, run: Run) -> None:
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
    run("cert", "new", "--dir", str(node.directory), "-n", conf=False)
    run("plugins")
    run("version")
    run("demo", "--nodes", "2", conf=False)
    assert run("serve", "--dir", str(node.directory), "--port", "0", status=11, conf=False)["error"]
    assert run.seen == DOCUMENTED - OF_LOGINS
    first = json.loads(_ready_line(cluster))
    assert (first["data"]["node"], first["data"]["vaults"], first["data"]["bytes"]) == ("N9", 0, 0)
    assert list(run.validator.iter_errors(first)) == []


def test_every_command_about_logins_fits_its_schema(cluster: Cluster, run: Run) -> None:
    run("user", "list", "--users", "users")
    run("user", "quota", "Bob", "1GiB", "-n", "--users", "users")
    assert run("user", "quota", "Bob", "1GiB", "--users", "users")["data"]["changed"] is True
    assert run("user", "convert", "--users", "users")["data"] is None  # nothing to tell
    run("login", "--public-key")
    assert run("login", "--keep", "file")["data"]["vault_created"] is True
    assert run("logout")["data"] == {"forgotten": True}
    run("key", "show")
    run("key", "new", "new.key")
    run("key", "rotate", "-n")
    run("key", "rotate")
    run("key", "export", "--output", "sheet")
    assert run("key", "recover", "--sheet", "sheet", status=9)["error"]["next"] == "Just use it."
    changed = run("passwd", "--new-key-file", "new.key")["data"]
    assert sorted(changed["acknowledged"]) == ["DFS1", "DFS2", "DFS3", "DFS4"]
    rows = "".join(f'[[node]]\nname = "{each.name}"\naddress = "{each.address}"\n' for each in cluster.nodes)
    conf = cluster.folder / "key.toml"
    conf.write_text(f'format = 1\nuser = "Alice"\nkey_file = "{cluster.folder}/new.key"\n{rows}')
    line = run("--conf", str(conf), "login", "--public-key", conf=False)["data"]["public_key"]
    (cluster.folder / "users").write_text(f"Alice {line}\n")  # as a node without a disk knows only that
    lost = cluster.nodes[3]
    lost.kill()
    shutil.rmtree(lost.directory)
    lost.start()
    run("--conf", str(conf), "cert", "trust", "DFS4", "-y", conf=False)
    run("--conf", str(conf), "replace", "DFS4", "-n", conf=False)
    replaced = run("--conf", str(conf), "replace", "DFS4", "-y", conf=False)["data"]
    assert (replaced["incarnation"], replaced["left"]) == (2, [])
    assert run.seen - {"cert"} == OF_LOGINS


def _ready_line(cluster: Cluster) -> str:
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
