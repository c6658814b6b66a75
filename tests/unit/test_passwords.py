"""What opens the vault, changed over real connections to nodes in this process."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from dfs import passwords
from dfs.cluster import open_cluster
from dfs.core import credentials, messages
from dfs.core.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    LoginError,
    NotInitialisedError,
    QuorumError,
    SealedError,
    UnknownOutcomeError,
)
from dfs.core.keys import login_keys
from dfs.core.node import VaultNode
from dfs.core.places import load_conf
from dfs.core.settings import ClientConf
from dfs.core.wraps import Stage
from dfs.passwords import KeyRotated, Passwords, make_key_file, public_text

OLD = bytes(range(32))


def conf_with(key: Path | str) -> ClientConf:
    return evolve(load_conf(), key_file=str(key))


@pytest.fixture
def new_key(tmp_path: Path) -> str:
    make_key_file(str(tmp_path / "new.key"))
    return str(tmp_path / "new.key")


def public_key(path: str) -> bytes:
    return login_keys(credentials.key_file_secret(path)).public_key


def set_line(home: Any, tmp_path: Path, key: bytes) -> None:
    (tmp_path / "users").write_text(f"odile {public_text(key)}\n")
    for node in home.nodes:
        node.accounts.refresh()


def test_a_change_is_known_to_all_nodes(home: Any, new_key: str) -> None:
    home.write("f", b"content")
    home.dfs("put", "f")
    changed = Passwords(load_conf()).change(key_file=new_key)
    assert (changed.acknowledged, changed.owed) == (("A", "B", "C", "D"), ())
    assert changed.notes == (f"The conf still names the old one: key_file {load_conf().key_file}",)
    home.dfs("ls", status=12)
    home.write("dfs.toml", Path("dfs.toml").read_bytes().replace(b"/key", b"/new.key"))
    assert home.dfs("ls") == ["f"]


def test_too_few_nodes_change_nothing(home: Any, new_key: str) -> None:
    home.dfs("ls")
    home.kill(2)
    with pytest.raises(QuorumError):
        Passwords(load_conf()).change(key_file=new_key)
    assert not Passwords(load_conf()).log_in("").made


def test_a_change_that_ended_early_is_told_and_finished(
    home: Any, new_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash: the new wrap is there, and one node only knows the new key."""
    home.dfs("ls")
    first = home.nodes[0].server._house.vault("odile")
    whole = VaultNode.rekey

    def refusing(self: VaultNode, request: messages.Rekey, **named: Any) -> Any:
        if self is not first and request.epoch:
            raise ConflictError("not now")
        return whole(self, request, **named)

    with monkeypatch.context() as patch:
        patch.setattr(VaultNode, "rekey", refusing)
        with pytest.raises(QuorumError, match="1 of 4 nodes take the new password, 3 needed"):
            Passwords(load_conf()).change(key_file=new_key)
    assert first.rekeyed.public_key == public_key(new_key)
    home.dfs("ls")
    assert "begun and not finished" in home.err
    changed = Passwords(load_conf()).change(key_file=new_key)
    assert changed.owed == ()
    with pytest.raises(LoginError):
        Passwords(load_conf()).change(key_file=new_key)


def test_a_sheet_recovers_what_the_administrator_let_in(home: Any, new_key: str, tmp_path: Path) -> None:
    home.write("f", b"content")
    home.dfs("put", "f")
    holder = Passwords(load_conf())
    sheet = holder.new_sheet()
    path = tmp_path / "sheet"
    credentials.private_file(str(path), sheet.text)
    new = Passwords(conf_with(new_key))
    with pytest.raises(LoginError, match="do not know the new password") as caught:
        new.recover(str(path))
    assert f"odile {public_text(public_key(new_key))}" in caught.value.next_step
    set_line(home, tmp_path, public_key(new_key))
    with pytest.raises(SealedError, match="this recovery key opens no vault of odile"):
        new.recover(str(path))  # made, and never exported
    set_line(home, tmp_path, login_keys(OLD).public_key)
    holder.export(sheet, only=False)
    with pytest.raises(ConflictError, match="opens the vault already"):
        holder.recover(str(path))
    set_line(home, tmp_path, public_key(new_key))
    new.recover(str(path))
    home.write("dfs.toml", Path("dfs.toml").read_bytes().replace(b"/key", b"/new.key"))
    assert home.dfs("ls") == ["f"]


def test_an_old_key_recovers_as_well(home: Any, new_key: str, tmp_path: Path) -> None:
    home.dfs("ls")
    set_line(home, tmp_path, public_key(new_key))
    with pytest.raises(SealedError, match="this old password opens no vault"):
        Passwords(conf_with(new_key)).recover(has_former=True, key_file=make_other(tmp_path))
    Passwords(conf_with(new_key)).recover(has_former=True, key_file=str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="not both"):
        Passwords(load_conf()).change(key_file="a", password_file="b")


def make_other(tmp_path: Path) -> str:
    make_key_file(str(tmp_path / "other.key"))
    return str(tmp_path / "other.key")


def test_where_no_vault_is_nothing_is_recovered(home: Any, tmp_path: Path) -> None:
    holder = Passwords(load_conf())
    path = tmp_path / "sheet"
    credentials.private_file(str(path), holder.new_sheet().text)
    with pytest.raises(NotInitialisedError, match="no vault of odile yet"):
        holder.recover(str(path))


def test_a_sheet_names_the_vault_and_is_never_shown_by_accident(home: Any) -> None:
    sheet = Passwords(load_conf()).new_sheet()
    assert "odile" in sheet.text
    assert all(node.server.address in sheet.text for node in home.nodes)
    assert repr(sheet) == "RecoverySheet()"


def test_facts_have_no_secret(home: Any, tmp_path: Path) -> None:
    facts = Passwords(load_conf()).facts()
    assert (facts.user, facts.realm) == ("odile", "dfs")
    assert facts.source == f"key_file {tmp_path}/key"
    assert facts.public_key == login_keys(OLD).public_key


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Answer the questions for lines, and return the prompts."""

    def answer(*lines: str) -> list[str]:
        prompts: list[str] = []
        left = list(lines)

        def ask(prompt: str) -> str:
            prompts.append(prompt)
            return left.pop(0)

        monkeypatch.setattr(passwords, "ask_line", ask)
        return prompts

    return answer


def test_a_key_is_typed_line_by_line_until_each_is_right(typed: Callable[..., list[str]]) -> None:
    from dfs.core.sheets import sheet_lines

    lines = sheet_lines(OLD)
    prompts = typed(lines[0], lines[0], lines[1], "", *lines[2:])
    assert passwords.typed_key() == OLD
    assert prompts[2].startswith(
        "this is line 1 of the recovery key, line 2 comes now; once more.\nLine 2 of"
    )
    typed(*["x"] * 5)
    with pytest.raises(ConfigError, match="was wrong 5 times"):
        passwords.typed_key()


def test_a_login_with_a_key_file_has_nothing_to_keep(home: Any) -> None:
    with pytest.raises(ConfigError, match="names a key file"):
        Passwords(load_conf()).log_in("file")
    with pytest.raises(ConfigError, match="one of file, keyring"):
        Passwords(evolve(load_conf(), key_file=None)).log_in("cupboard")
    assert Passwords(load_conf()).log_in("").made
    assert not Passwords(load_conf()).log_out()


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = make_key_file(str(path))
    assert made == public_key(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConflictError, match="is there already"):
        make_key_file(str(path))
    with pytest.raises(ConfigError, match="No such file"):
        make_key_file(str(tmp_path / "none" / "key"))
    assert base64.b64decode(public_text(made).partition(":")[2]) == made


def test_a_first_use_that_fails_is_told_as_what_it_is(
    home: Any, new_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.dfs("ls")

    def gone(_self: Passwords, _conf: ClientConf, _secret: Any) -> Any:
        raise QuorumError("no node answers")

    monkeypatch.setattr(Passwords, "_first_use", gone)
    with pytest.raises(UnknownOutcomeError, match="could not be used yet: no node answers"):
        Passwords(load_conf()).change(key_file=new_key)
    home.dfs("ls")  # both are good
    assert not Passwords(conf_with(new_key)).log_in("").made
    home.dfs("ls", status=12)


# --- The master key ---


def rotated(*, until: Stage | None = None) -> KeyRotated | None:
    """Rotate the key; or stop when a stage begins, as a client that is killed then."""

    def entered(stage: Stage) -> None:
        if stage is until:
            raise KeyboardInterrupt

    with Passwords(load_conf()).rotation() as rotation:
        try:
            return rotation.run(entered=entered, progress=str)
        except KeyboardInterrupt:
            return None


def test_an_open_cluster_finds_another_key_by_itself(home: Any) -> None:
    home.write("f", b"content")
    home.dfs("put", "f")
    with open_cluster() as cluster:
        assert [item.entry.path for item in cluster.ls()] == ["f"]
        done = rotated()
        assert done == KeyRotated(2, 1, 7, ())
        got = io.BytesIO()
        cluster.get("f", got)
        assert got.getvalue() == b"content"
        rotated()
        assert cluster.put("g", io.BytesIO(b"other")).version
        rotated()
        cluster.mkdir("d")
        rotated()
        assert cluster.rename("g", "d/g") == ["d/g"]
        rotated()
        assert {item.entry.path for item in cluster.walk()} == {"d", "d/g", "f"}
        rotated()
        assert not cluster.repair().left
        assert not cluster.suspicions
    assert home.dfs("ls") == ["d/", "f"]


def test_who_wants_to_write_meanwhile_is_told_to_wait(home: Any) -> None:
    home.write("f", b"content")
    home.dfs("put", "f")
    with open_cluster() as before:
        rotated(until=Stage.CLOSED)
        home.dfs("put", "f", status=11)
        assert "can be read, not written" in home.err
        assert "dfs key rotate" in home.err
        assert home.dfs("ls") == ["f"]
        with open_cluster() as cluster:
            for attempt in (
                lambda: cluster.put("g", io.BytesIO(b"other")),
                lambda: cluster.mkdir("d"),
                lambda: cluster.rm("f"),
                lambda: cluster.rename("f", "g"),
            ):
                with pytest.raises(BusyError):
                    attempt()
            assert [item.entry.path for item in cluster.ls()] == ["f"]
            rotated()
            cluster.mkdir("d")  # it looks again by itself
        assert before.mkdir("e") is None  # type: ignore[func-returns-value]
    assert home.dfs("ls") == ["d/", "e/", "f"]


def test_too_few_nodes_tell_no_keys_that_are_believed_later(home: Any) -> None:
    """Opened beside one node that missed everything, the vault is opened anew when the others are back."""
    home.write("f", b"content")
    home.dfs("put", "f")
    opened = []
    with open_cluster() as cluster:
        opened.append(cluster._vault.keys)
        cluster._is_stale = True  # as if R nodes had not answered
        rotated()
        cluster.refresh()
        assert cluster._vault.keys != opened[0]
        assert not cluster._is_stale
        assert [item.entry.path for item in cluster.ls()] == ["f"]
