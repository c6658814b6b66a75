"""A home with four nodes in this process, for tests of commands: no port, no disk, no key derivation."""

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from dfs.cli import run
from dfs.cluster import make_registry
from dfs.core.keys import login_keys
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf
from dfs.testing.sealing import Sealings, watched

SECRET = bytes(range(32))


@define
class Home:
    """Nodes A to D, a conf that names them, and `dfs` with what it printed."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    nodes: Sequence[OpenedNode]
    out: str = ""
    err: str = ""

    def dfs(self, *arguments: str, status: int = 0) -> list[str]:
        """Run a command and return the lines of its stdout."""
        self.capture.readouterr()
        code = run(arguments)
        self.out, self.err = self.capture.readouterr()
        assert code == status, (arguments, code, self.out, self.err)
        return self.out.splitlines()

    def json(self, *arguments: str, status: int = 0) -> Any:
        """Run a command with --json and return its object."""
        (line,) = self.dfs("--json", *arguments, status=status)
        envelope = json.loads(line)
        assert self.err == ""
        assert (envelope["schema"], envelope["code"]) == (1, status)
        return envelope

    def write(self, name: str, content: bytes = b"content") -> str:
        """Write a local file and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    def settle(self) -> None:
        """Wait until nodes have committed what nobody waits for: confirmations."""
        for node in self.nodes:
            for vault in node.server._house.vaults:
                vault.commit.run(lambda _transaction: None)

    def kill(self, count: int) -> None:
        """Stop the last nodes."""
        for node in self.nodes[-count:]:
            node.server.stop(0)


@pytest.fixture
def sealed_once() -> Iterator[Sealings]:
    """Watch that no key seals two different things under one nonce, until the test ends."""
    with watched() as sealings:
        yield sealings
    assert sealings.sealed, "nothing was sealed"
    assert not sealings.repeated, "one key and nonce sealed two different things"


@pytest.fixture
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """A current folder without nodes and confs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return Home(tmp_path / "here", capsys, [])


@pytest.fixture
def home(bare_home: Home, tmp_path: Path) -> Iterator[Home]:
    """Four nodes with memory stores and a user with a key file."""
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    (tmp_path / "users").write_text(f"odile ed25519:{key}\n")
    (tmp_path / "key").write_text(f"dfs-key-1 {SECRET.hex()}\n")
    (tmp_path / "key").chmod(0o600)
    rows = ['format = 1\ntransport = "memory"\nuser = "odile"', f'key_file = "{tmp_path}/key"']
    nodes = []
    for name in "ABCD":
        conf = NodeConf(
            dir=str(tmp_path / name),
            listen=f"{tmp_path.name}-{name}",
            port=1,
            transport="memory",
            store="memory",
            users=str(tmp_path / "users"),
        )
        node = open_node(conf, registry=make_registry(conf), version="test")
        node.server.start()
        node.accounts.start()
        nodes.append(node)
        rows.append(f'[[node]]\nname = "{name}"\naddress = "{node.server.address}"')
    (bare_home.folder / "dfs.toml").write_text("\n".join(rows))
    bare_home.nodes = nodes
    yield bare_home
    for node in nodes:
        node.server.stop(0)
