"""Where confs and the client's memory are found."""

import getpass
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dfs.core import places
from dfs.core.errors import ConfigError, NoConfError
from dfs.core.places import conf_candidates, load_conf, read_conf, state_folder, system_user

CONF = 'format = 1\nuser = "{}"\n[[node]]\nname = "A"\naddress = "a:1"\n'


@pytest.fixture
def here(bare_home: Any, tmp_path: Path) -> Path:
    """The current folder, empty; $HOME is beside it."""
    (tmp_path / "home").mkdir()
    return Path(bare_home.folder)


def test_the_nearest_conf_is_taken(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    (tmp_path / "config" / "dfs").mkdir(parents=True)
    (tmp_path / "config" / "dfs" / "config.toml").write_text(CONF.format("last"))
    assert load_conf(environ=environ).user == "last"
    (here / "dfs.toml").write_text(CONF.format("third"))
    assert load_conf(environ=environ).user == "third"
    (home / "dfc.conf").write_text("Server A a:1\nUsername: second\nPassword: pw\n")
    assert load_conf(environ=environ).user == "second"
    (here / "dfc.conf").write_text("Server A a:1\nUsername: first\nPassword: pw\n")
    assert load_conf(environ=environ).user == "first"
    assert load_conf(str(here / "dfs.toml"), environ).user == "third", "a named one wins"


def test_elsewhere_the_system_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "os", SimpleNamespace(name="nt", environ={}))
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name, **_: f"/AppData/{name}")
    monkeypatch.setattr("platformdirs.user_state_dir", lambda name, **_: f"/AppState/{name}")
    assert Path("/AppData/dfs/config.toml") in conf_candidates({})
    assert Path("/elsewhere/dfs/config.toml") in conf_candidates({"XDG_CONFIG_HOME": "/elsewhere"})
    assert state_folder({}) == Path("/AppState/dfs")


def test_a_folder_is_no_conf(here: Path) -> None:
    (here / "dfc.conf").mkdir()
    (here / "dfs.toml").write_text(CONF.format("ines"))
    assert load_conf(environ={}).user == "ines"
    with pytest.raises(ConfigError, match="Is a directory"):
        read_conf("dfc.conf")


def test_without_a_conf_all_places_are_named(here: Path, tmp_path: Path) -> None:
    del here
    with pytest.raises(NoConfError) as caught:
        load_conf(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    for place in ("dfc.conf", str(tmp_path / "home" / "dfc.conf"), str(tmp_path / "dfs" / "config.toml")):
        assert place in caught.value.what
    with pytest.raises(ConfigError, match="No such file"):
        load_conf("none.toml")


def test_the_environment_overrides_the_file(here: Path) -> None:
    (here / "dfs.toml").write_text(CONF.format("ines"))
    assert load_conf(environ={"DFS_USER": "tom"}).user == "tom"


def test_the_last_place_is_the_system_s(here: Path) -> None:
    del here
    assert conf_candidates({})[-1] == Path("/etc/dfs/config.toml")
    assert Path.home() / ".config" / "dfs" / "config.toml" in conf_candidates({})


def test_the_state_folder_follows_the_environment(here: Path, tmp_path: Path) -> None:
    del here
    assert state_folder({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/dfs")
    assert state_folder({}) == tmp_path / "home" / ".local" / "state" / "dfs"
    assert state_folder() == Path(os.environ["XDG_STATE_HOME"]) / "dfs"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4711"), OSError("No username set")])
def test_a_user_the_system_does_not_know_must_be_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def unknown() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", unknown)
    with pytest.raises(ConfigError) as caught:
        system_user()
    assert "Name a user" in caught.value.next_step
    monkeypatch.setattr(getpass, "getuser", lambda: "ines")
    assert system_user() == "ines"
