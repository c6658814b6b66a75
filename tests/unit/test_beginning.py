"""What a geometry means in words, and confs on their way."""

from itertools import combinations
from pathlib import Path

import pytest

from dfs.beginning import Beginning, GeometryChoice, choice_of, read_node
from dfs.core.conf import parse_client
from dfs.core.errors import ConfigError, ConflictError, NoPasswordError, QuorumError
from dfs.core.quorum import readable
from dfs.core.settings import ClientConf
from dfs.core.types import Geometry

NODES = tuple(f"n{index}=127.0.0.1:{index + 1}" for index in range(4))


@pytest.mark.parametrize(
    ("needed", "total", "nodes", "words"),
    [
        (2, 4, 4, "any 2 of 4 nodes may die; 1 GiB of files takes 2.0 GiB"),
        (3, 4, 4, "any 1 of 4 nodes may die; 1 GiB of files takes 1.3 GiB"),
        (1, 1, 1, "no node may die; 1 GiB of files takes 1.0 GiB"),
        (2, 4, 9, "any 2 of 9 nodes may die; 1 GiB of files takes 2.0 GiB"),
        (10, 16, 16, "any 6 of 16 nodes may die; 1 GiB of files takes 1.6 GiB"),
    ],
)
def test_the_price_in_words(needed: int, total: int, nodes: int, words: str) -> None:
    assert GeometryChoice(needed, total, nodes).words == words


@pytest.mark.parametrize("total", range(1, 9))
def test_what_is_said_of_the_dead_is_true(total: int) -> None:
    rows = [{index} for index in range(total)]
    for choice in Beginning.choices(total):
        geometry = Geometry(choice.needed, choice.total)
        for lost in combinations(range(total), choice.may_die):
            assert readable(geometry, rows, set(range(total)).difference(lost))
        assert not readable(geometry, rows, set(range(total)[choice.may_die + 1 :]))
        assert 0 <= choice.may_miss <= choice.may_die


def test_writing_is_as_the_readme_says() -> None:
    table = {1: (1, 0), 2: (1, 0), 3: (1, 1), 4: (2, 1), 6: (3, 2), 8: (4, 3)}
    for count, (needed, may_miss) in table.items():
        assert choice_of(ClientConf(nodes=tuple(read_node(f"m:{i + 1}", i) for i in range(count)))) == (
            GeometryChoice(needed, count, count)
        )
        assert GeometryChoice(needed, count, count).may_miss == may_miss


def test_nodes_are_read_with_and_without_a_name() -> None:
    assert read_node("nas=10.0.0.2:7771", 0).name == "nas"
    assert read_node("[::1]:7771", 2) == read_node("dfs3=[::1]:7771", 0)
    for text in ("", "nas", "nas=", "nas=10.0.0.2", "1st=nas:1"):
        with pytest.raises(ConfigError):
            read_node(text, 0)


def test_a_conf_is_made_of_flags_alone(tmp_path: Path) -> None:
    flags = {"user": "odile", "geometry": "3 of 4", "cipher": "chacha20-poly1305", "key_file": "key"}
    beginning = Beginning(flags)
    conf, choice = beginning.with_geometry(beginning.conf(None, NODES))
    path = str(tmp_path / "new" / "dfc.conf")
    text = beginning.write(conf, path, force=False, dry_run=False)
    written = parse_client(Path(path).read_bytes(), path)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert Path(path).read_text() == text
    assert (written.user, written.cipher, written.geometry_needed) == ("odile", "chacha20-poly1305", 3)
    assert written.key_file == str(Path("key").absolute())
    assert choice.words.startswith("any 1 of 4")


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    path = tmp_path / "dfc.conf"
    path.write_text("mine")
    conf = Beginning({}).conf(None, NODES)
    with pytest.raises(ConflictError):
        Beginning.require_free(str(path))
    with pytest.raises(ConflictError):
        Beginning.write(conf, str(path), force=False, dry_run=False)
    Beginning.write(conf, str(path), force=True, dry_run=True)
    assert path.read_text() == "mine"
    Beginning.write(conf, str(path), force=True, dry_run=False)
    assert path.read_text().startswith("# Made by dfs init.\nformat = 1\n")
    assert [each.name for each in tmp_path.iterdir()] == ["dfc.conf"]


def test_another_conf_can_be_the_beginning(tmp_path: Path) -> None:
    base = tmp_path / "old.conf"
    base.write_text("Server A nas:1\nServer B nas:2\nUsername: odile\nPassword: white rabbit\n")
    conf = Beginning({"user": "tom"}).conf(str(base), ())
    assert (conf.user, [node.name for node in conf.nodes]) == ("tom", ["A", "B"])
    assert "rabbit" not in Beginning.write(conf, "-", force=False, dry_run=True)
    assert [node.name for node in Beginning({}).conf(str(base), NODES).nodes] == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize("nodes", [("a=m:1", "A=m:2"), ("a=m:1", "b=m:1")])
def test_nothing_is_named_twice(nodes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="two nodes have the"):
        Beginning({}).conf(None, nodes)


def test_more_shares_than_nodes_are_refused() -> None:
    beginning = Beginning({"geometry": "4 of 6"})
    with pytest.raises(ConfigError, match="6 shares need 6 nodes, there are 4"):
        beginning.with_geometry(beginning.conf(None, NODES))


def test_no_node_at_all_is_told() -> None:
    with pytest.raises(QuorumError, match="no node answers") as caught:
        Beginning.meet(Beginning({}).conf(None, ("a=127.0.0.1:1",)))
    assert "--offline" in caught.value.next_step


def test_without_a_source_of_the_password_flags_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(user: str, what: str = "") -> bytes:
        raise NoPasswordError(f"no password for {user} and no terminal to ask on")

    monkeypatch.setattr("dfs.beginning.ask_new_password", nobody)
    with pytest.raises(NoPasswordError) as caught:
        Beginning.login(Beginning({"user": "odile"}).conf(None, NODES))
    assert "--key-file" in caught.value.next_step
