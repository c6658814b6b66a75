"""One node of four lies over TLS, to real commands: right bytes or an error, and the liar is named."""

import base64
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define, evolve

from dfs.cli import run
from dfs.cluster import make_registry
from dfs.core.keys import login_keys
from dfs.core.messages import LoginReply
from dfs.core.roster import encode_roster
from dfs.core.server import Household
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf
from dfs.core.types import Node, Roster, VaultState
from dfs.testing.lying import LIES, LyingVault, Replayer, beguile

SECRET = bytes(range(32))
MORE = {  # their shares are too large to come along with entries, and each node has some that are asked for
    f"more/{index}": random.Random(index).randbytes(200_000) for index in range(12)
}
BIG = random.Random(1).randbytes(300_000)
NAMED = [
    "flips a bit of entries",
    "swaps entries between names",
    "calls everything confirmed",
    "truncates every bulk",
    "shares of 2^64 bytes",
    "an empty answer to everything",
]
UNNOTICED = [
    "replays old entries",
    "refuses everything",
    "claims what it lacks",
    "another roster",
    "four million arrays",
]


@define
class Town:
    """Nodes A to D behind TLS on 127.0.0.1, in this process, and `dfs` with what it printed."""

    nodes: Sequence[OpenedNode]
    capture: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def dfs(self, *arguments: str, status: int | tuple[int, ...] = 0) -> list[str]:
        self.capture.readouterr()
        code = run(arguments)
        self.out, self.err = self.capture.readouterr()
        assert code in (status if isinstance(status, tuple) else (status,)), (code, self.out, self.err)
        return self.out.splitlines()


@pytest.fixture
def town(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Town]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    (tmp_path / "users").write_text(f"odile ed25519:{key}\n")
    (tmp_path / "key").write_text(f"dfs-key-1 {SECRET.hex()}\n")
    (tmp_path / "key").chmod(0o600)
    rows = ['format = 1\nuser = "odile"', f'key_file = "{tmp_path}/key"']
    nodes = []
    for name in "ABCD":
        conf = NodeConf(dir=str(tmp_path / name), listen="127.0.0.1", port=0, users=str(tmp_path / "users"))
        node = open_node(conf, registry=make_registry(conf), version="test")
        assert node.confidential
        node.server.start()
        node.accounts.start()
        nodes.append(node)
        rows.append(f'[[node]]\nname = "{name}"\naddress = "{node.server.address}"')
    Path("dfs.toml").write_text("\n".join(rows))
    Path("big").write_bytes(BIG)
    Path("small").write_bytes(b"small")
    Path("more").mkdir()
    for name, body in MORE.items():
        Path(name).write_bytes(body)
    opened = Town(nodes, capsys)
    opened.dfs("put", "big", "small")
    opened.dfs("put", "-r", "more")
    yield opened
    for node in nodes:
        node.server.stop(0)


@pytest.mark.parametrize("lie", [*NAMED, *UNNOTICED])
def test_commands_work_beside_a_liar_and_name_it(town: Town, lie: str) -> None:
    beguile(town.nodes[1].server, LIES[lie].make())
    told = []
    for _ in range(2):
        for name, body in (("big", BIG), ("small", b"small")):
            town.dfs("get", name, "-o", f"{name}-back")
            assert Path(f"{name}-back").read_bytes() == body
            told.append(town.err)
        town.dfs("get", "-r", "more")
        assert {name: Path(name).read_bytes() for name in MORE} == MORE
        told.append(town.err)
        assert town.dfs("ls") == ["big", "more/", "small"]
        told.append(town.err)
    assert not any(f"{name} is not to be trusted" in line for line in told for name in "ACD")
    if lie in NAMED:
        assert any("B is not to be trusted" in line for line in told)
    Path("new").write_bytes(BIG[::-1])
    town.dfs("put", "new", status=(0, 3))  # stored; where the liar refuses its part, that is told
    assert "degraded" not in town.err or "is not on B" in town.err or "1 node" in town.err
    town.dfs("get", "new", "-o", "new-back")
    assert Path("new-back").read_bytes() == BIG[::-1]


def test_wrong_shares_are_told_with_their_file(town: Town) -> None:
    beguile(town.nodes[0].server, LIES["wrong shares under right checksums"].make())
    town.dfs("get", "-r", "more")
    assert {name: Path(name).read_bytes() for name in MORE} == MORE
    assert "shares on A are not what was stored there" in town.err
    assert not any(f"shares on {name}" in town.err for name in "BCD")


def test_a_node_of_another_realm_is_left_out(town: Town) -> None:
    house = town.nodes[2].server._house
    house._greeting = evolve(house._greeting, realm="elsewhere")
    assert town.dfs("ls") == ["big", "more/", "small"]
    assert "elsewhere" in town.err


def test_one_node_cannot_name_itself_the_whole_vault(town: Town) -> None:
    """It tells a roster of its own, of a far later epoch."""
    house: Household = town.nodes[3].server._house
    node_id = house.greeting.node_id
    roster = encode_roster(Roster(1 << 31, (Node(node_id),), 1, 0))
    honest = house.vault

    class Usurper(LyingVault):
        def login_reply(self) -> LoginReply:
            return LoginReply(VaultState.ACTIVE, roster)

    house.vault = lambda user: Usurper(honest(user), lambda _, truth: truth())  # type: ignore[assignment, method-assign, return-value]
    assert town.dfs("ls") == ["big", "more/", "small"]
    town.dfs("get", "big", "-o", "back")
    assert Path("back").read_bytes() == BIG
    Path("new").write_bytes(BIG[::-1])
    town.dfs("put", "new")
    assert "4 nodes" in town.err, "it is one of four, as ever"


def test_a_client_is_not_taken_back_by_all_nodes_together(town: Town, tmp_path: Path) -> None:
    """What it has seen is on its disk; a client without that believes them."""
    liars = [Replayer() for _ in town.nodes]
    for node, lie in zip(town.nodes, liars, strict=True):
        beguile(node.server, lie)
    for _ in range(50):  # until each has learned what to repeat, of the key's register and of the file's
        town.dfs("get", "big", "-o", "back")
        if all(len(lie.told) == 2 for lie in liars):
            break
    Path("back").unlink()
    for node in town.nodes:
        del node.server._house.vault  # the honest one is the class's
    Path("big").write_bytes(BIG[::-1])
    town.dfs("put", "big")
    for node, lie in zip(town.nodes, liars, strict=True):
        beguile(node.server, lie)
    town.dfs("get", "big", "-o", "back", status=6)
    assert "DFS-E405" in town.err
    assert "hold an older version" in town.err
    assert not Path("back").exists()
    town.dfs("ls", status=6)
    (folder,) = (tmp_path / "state").rglob("floors")
    folder.rename(folder.with_name("elsewhere"))
    town.dfs("get", "big", "-o", "back")
    assert Path("back").read_bytes() == BIG
