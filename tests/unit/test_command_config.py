"""`dfs config`: show, check, convert, keys."""

import os
from pathlib import Path
from typing import Any

import pytest

from dfs.core.conf import parse_client
from dfs.core.settings import ClientConf, NodeConf, settings

CLASSIC = b"Server A nas:1\nServer B nas:2\nUsername: odile\nPassword: white rabbit\n"


def test_values_in_force_with_their_origin(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_home.write("dfc.conf", CLASSIC)
    os.chmod("dfc.conf", 0o600)
    monkeypatch.setenv("DFS_JOBS", "7")
    lines = bare_home.dfs("--cipher", "chacha20-poly1305", "config", "show", "--origin")
    assert lines[0] == "# dfc.conf"
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["jobs"] == ["7", "DFS_JOBS"]
    assert rows["cipher"] == ['"chacha20-poly1305"', "--cipher"]
    assert rows["user"] == ['"odile"', "dfc.conf:3"]
    assert rows["password"] == ["***", "dfc.conf:3"]
    assert rows["trust"] == ['"first-use"', "default"]
    assert "rabbit" not in bare_home.out
    values = bare_home.json("config", "show")["data"]
    assert values["file"] == "dfc.conf"
    assert {"key": "jobs", "value": 7, "origin": "DFS_JOBS"} in values["values"]
    assert {row["key"] for row in values["values"]} >= set(settings(ClientConf))


def test_the_conf_of_a_node(bare_home: Any) -> None:
    bare_home.write("n.toml", b'format = 1\ndir = "N"\nscrub_days = 7\n')
    values = bare_home.json("--conf", "n.toml", "config", "show", "--node")["data"]["values"]
    assert {"key": "scrub_days", "value": 7, "origin": "n.toml:3"} in values
    bare_home.dfs("config", "show", "--node", status=2)
    assert "no conf of a node" in bare_home.err


def test_a_variable_names_the_conf_and_a_flag_wins(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_home.write("a.toml", b'format = 1\ncluster = "a"\n[[node]]\nname = "A"\naddress = "nas:1"\n')
    bare_home.write("b.toml", b'format = 1\ncluster = "b"\n[[node]]\nname = "A"\naddress = "nas:1"\n')
    monkeypatch.setenv("DFS_CONF", "a.toml")
    assert bare_home.dfs("config", "show")[0] == "# a.toml"
    assert bare_home.dfs("config", "check") == ["a.toml: no faults (client, 1 node)"]
    assert bare_home.dfs("--conf", "b.toml", "config", "show")[0] == "# b.toml"


def test_all_faults_of_all_files_are_named(bare_home: Any) -> None:
    bare_home.write(
        "a.toml", b'format = 1\ncypher = "x"\njobs = -1\n[[node]]\nname = "A"\naddress = "nas:1"\n'
    )
    bare_home.write("users", b"odile pw\n")
    bare_home.write("n.toml", b'format = 1\ndir = "N"\nport = 70000\n')
    lines = bare_home.dfs("config", "check", "a.toml", "users", "n.toml", status=2)
    assert lines == ["users: no faults (users, 1 user)"]
    for part in ("a.toml:2", "did you mean 'cipher'?", "a.toml:3", "n.toml:3", "password in clear text"):
        assert part in bare_home.err
    assert "odile pw" not in bare_home.err
    bare_home.dfs("config", "check", "users", "--kind", "node")
    bare_home.dfs("config", "check", "gone", status=2)
    bare_home.dfs("config", "check", status=2)
    assert "DFS-E203" in bare_home.err


def test_a_classic_conf_is_shown_as_toml_without_the_password(bare_home: Any) -> None:
    bare_home.write("dfc.conf", CLASSIC)
    lines = bare_home.dfs("config", "convert", "dfc.conf")
    conf = parse_client("\n".join(lines).encode(), "x.toml")
    assert (conf.user, [node.name for node in conf.nodes]) == ("odile", ["A", "B"])
    assert "rabbit" not in bare_home.out
    assert os.listdir() == ["dfc.conf"]


def test_a_classic_conf_is_written_with_the_password_beside_it(bare_home: Any) -> None:
    bare_home.write("dfc.conf", CLASSIC)
    bare_home.dfs("config", "convert", "dfc.conf", "--output", "c.toml", "-n")
    assert os.listdir() == ["dfc.conf"]
    bare_home.dfs("config", "convert", "dfc.conf", "--output", "c.toml")
    assert "Wrote c.toml and" in bare_home.err
    conf = parse_client(Path("c.toml").read_bytes(), "c.toml")
    assert conf.password_file == str(Path("c.password").resolve())
    assert Path("c.password").read_text() == "white rabbit\n"
    assert all(Path(name).stat().st_mode & 0o077 == 0 for name in ("c.toml", "c.password"))
    bare_home.dfs("config", "convert", "dfc.conf", "--output", "c.toml", status=9)
    bare_home.dfs("config", "convert", "dfc.conf", "--output", "c.conf.toml")
    Path("d.password").write_text("x")
    bare_home.dfs("config", "convert", "dfc.conf", "--output", "d.toml", status=9)
    assert not Path("d.toml").exists()


def test_of_several_users_one_is_taken(bare_home: Any) -> None:
    bare_home.write("dfc.conf", CLASSIC + b"Username: tom\nPassword: x\n")
    assert 'user = "tom"' in bare_home.dfs("config", "convert", "dfc.conf", "--for", "tom")
    assert "# It has other users too, each of whom needs a conf: odile." in bare_home.out
    bare_home.dfs("config", "convert", "dfc.conf", "--for", "ann", status=2)
    bare_home.write("users", b"odile pw\n")
    bare_home.dfs("config", "convert", "users", status=2)
    assert "dfs user convert" in bare_home.err


@pytest.mark.parametrize(("words", "conf_class"), [((), ClientConf), (("--node",), NodeConf)])
def test_all_keys_are_listed(bare_home: Any, words: tuple[str, ...], conf_class: Any) -> None:
    keys = [row["key"] for row in bare_home.json("config", "keys", *words)["data"]["keys"]]
    assert keys[: len(settings(conf_class))] == list(settings(conf_class))
    lines = bare_home.dfs("config", "keys", *words)
    assert len(lines) == 2 * len(keys)
