"""Conf files of this machine: which is found, and that nothing half-made is left."""

from pathlib import Path

import pytest

from dfs.confs import Confs
from dfs.core.errors import ConfigError, ConflictError, NoConfError
from dfs.core.settings import ClientConf, NodeConf

CLASSIC = "Server A nas:1\nUsername: odile\nPassword: pw\n"


def confs(node: NodeConf | None = None) -> Confs:
    return Confs(ClientConf, lambda: node)


def test_no_conf_of_a_node_is_told() -> None:
    with pytest.raises(NoConfError, match="no conf of a node"):
        confs().values(node=True)
    file, rows = confs(NodeConf(file="n.toml", dir="N")).values(node=True)
    assert file == "n.toml"
    assert ("dir", "N") in [(row.key, row.value) for row in rows]


def test_the_named_file_counts_even_when_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dfc.conf").write_text(CLASSIC)
    assert Confs.found() == "dfc.conf"
    monkeypatch.setenv("DFS_CONF", "gone.toml")
    with pytest.raises(NoConfError, match=r"gone\.toml"):
        Confs.found()


def test_a_password_file_in_the_way_leaves_no_conf(tmp_path: Path) -> None:
    (tmp_path / "dfc.conf").write_text(CLASSIC)
    (tmp_path / "c.password").write_text("another")
    with pytest.raises(ConflictError, match=r"c\.password"):
        Confs.convert(str(tmp_path / "dfc.conf"), None, str(tmp_path / "c.toml"), dry_run=False)
    assert not (tmp_path / "c.toml").exists()
    with pytest.raises(ConfigError, match="no server"):
        Confs.convert(str(tmp_path / "c.password"), None, None, dry_run=False)
