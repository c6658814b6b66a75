"""`dfs logout`: a kept login is forgotten, once."""

from typing import Any

from attrs import evolve

from dfs.core.kept import KeptLogin
from dfs.core.places import load_conf, state_folder


def test_a_kept_login_is_forgotten(home: Any) -> None:
    home.write("dfs.toml", b'format = 1\nuser = "odile"\n[[node]]\nname = "A"\naddress = "127.0.0.1:9"\n')
    kept = KeptLogin(state_folder(), evolve(load_conf()), "odile")
    kept.keep(bytes(32), "file")
    assert home.dfs("logout") == ["the kept login is forgotten"]
    assert not kept.path.exists()
    assert home.json("logout")["data"] == {"forgotten": False}


def test_help_has_an_example(bare_home: Any) -> None:
    assert any("Example: dfs logout" in line for line in bare_home.dfs("logout", "--help"))
