"""A node from its conf: what is made, what stays, and what is let go when it cannot be opened."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dfs.cluster import make_registry
from dfs.core.errors import BusyError, ConfigError, DfsError, UnknownPluginError
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf


class Opener:
    """Opens nodes and closes them in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()

    def __call__(self, *, users_required: bool = False, **settings: object) -> OpenedNode:
        chosen = {"dir": str(self.folder / "attic"), "listen": "127.0.0.1", "port": 0, "transport": "tcp"}
        conf = NodeConf(**{**chosen, **settings})  # type: ignore[arg-type]
        node = open_node(conf, registry=make_registry(conf), version="test", users_required=users_required)
        self.stack.callback(node.server.stop, 0)
        return node


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    opener = Opener(tmp_path)
    with opener.stack:
        yield opener


def test_a_node_is_made_once_and_stays_the_same(opened: Opener) -> None:
    first = opened(transport="tls")
    assert first.fresh
    assert first.name == "attic"
    assert first.confidential
    assert len(first.fingerprint) == 32
    first.server.stop(0)
    again = opened(transport="tls")
    assert not again.fresh
    assert again.fingerprint == first.fingerprint
    identity = opened.folder / "attic" / ".node" / "node-id"
    assert identity.read_text().endswith("incarnation 1\n")


def test_the_conf_says_how_long_uploads_are_kept_and_how_often_all_is_read(opened: Opener) -> None:
    server = opened(pin_lease=5.0, scrub_days=7, users=None).server
    assert (server._options.pin_lease_s, server._options.scrub_days) == (5.0, 7)
    assert server._house.vault("ines").lease_s == 5.0


def test_in_plain_text_no_certificate_is_made(opened: Opener) -> None:
    node = opened(name="cellar")
    assert (node.name, node.fingerprint, node.confidential) == ("cellar", b"", False)
    assert not (opened.folder / "attic" / ".node" / "certificate.pem").exists()


def test_a_certificate_of_ones_own_is_told_by_its_fingerprint(opened: Opener) -> None:
    first = opened(transport="tls")
    first.server.stop(0)
    own = opened.folder / "attic" / ".node"
    again = opened(
        transport="tls", certificate=str(own / "certificate.pem"), private_key=str(own / "key.pem")
    )
    assert again.fingerprint == first.fingerprint


def test_users_come_from_the_conf_the_current_folder_or_the_node(opened: Opener) -> None:
    node = opened()
    assert node.users_path == str(opened.folder / "attic" / ".node" / "users")
    assert node.accounts.count == 0
    node.server.stop(0)
    Path("dfs.conf").write_text("ines pw\ntom pw\n")
    node = opened()
    assert (node.users_path, node.accounts.count) == ("dfs.conf", 2)
    node.server.stop(0)
    users = opened.folder / "users"
    users.write_text("ines pw\n")
    node = opened(users=str(users))
    assert (node.users_path, node.accounts.count) == (str(users), 1)


def test_what_is_missing_or_faulty_is_told_before_anything_is_made(opened: Opener) -> None:
    with pytest.raises(ConfigError, match="needs a directory"):
        opened(dir=None)
    with pytest.raises(ConfigError, match="is not there"):
        opened(users=str(opened.folder / "none"), users_required=True)
    with pytest.raises(UnknownPluginError):
        opened(store="papyrus")
    assert not (opened.folder / "attic").exists()


def test_a_directory_belongs_to_one_node_at_a_time(opened: Opener) -> None:
    node = opened()
    with pytest.raises(BusyError):
        opened()
    node.server.stop(0)
    opened()


def test_a_node_that_cannot_listen_gives_its_directory_back(opened: Opener) -> None:
    first = opened()
    first.server.start()
    port = int(first.server.address.rpartition(":")[2])
    second = opened(dir=str(opened.folder / "cellar"), port=port)
    with pytest.raises(BusyError, match="another process listens"):
        second.server.start()
    second.server.stop(0)
    second.server.stop(0)
    assert not opened(dir=str(opened.folder / "cellar")).fresh


def test_a_file_in_the_way_is_told(opened: Opener) -> None:
    (opened.folder / "attic").touch()
    with pytest.raises(DfsError):
        opened()


def test_a_node_that_cannot_be_opened_lets_its_directory_go(opened: Opener) -> None:
    opened().server.stop(0)
    identity = opened.folder / "attic" / ".node" / "node-id"
    kept = identity.read_text()
    identity.write_text("damaged")
    for _ in range(2):
        with pytest.raises(ConfigError, match="does not hold a node id"):
            opened()
    identity.write_text(kept)
    for _ in range(2):
        with pytest.raises(ConfigError, match="/no/such/certificate"):
            opened(transport="tls", certificate="/no/such/certificate", private_key="/no/such/key")
    with pytest.raises(UnknownPluginError):
        opened(transport="pigeon")
    assert not opened().fresh
