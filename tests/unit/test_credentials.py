"""Secrets: where each may come from, which files are refused, and what is kept of nodes."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dfs.core import credentials
from dfs.core.credentials import (
    KnownMarks,
    KnownNodes,
    LoginSecret,
    ask_line,
    kdf_of,
    key_file_secret,
    key_file_text,
    password_of,
    private_file,
    secret_file,
    source_of,
)
from dfs.core.errors import ConfigError, ConflictError, NoPasswordError, SecretFileError
from dfs.core.keys import KEY_FILE, KdfParameters, login_keys
from dfs.core.settings import ClientConf
from dfs.core.types import NodeId
from dfs.core.wire import Mark

SECRET = bytes(range(32))


def private(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


def nobody_asks(_user: str) -> bytes:
    raise AssertionError("the conf has a source")


# --- Files ---


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601, 0o666])
def test_a_secret_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "secret", b"secret")
    assert secret_file(path) == b"secret"
    os.chmod(path, mode)
    with pytest.raises(SecretFileError, match="can be read by others") as caught:
        secret_file(path)
    assert caught.value.next_step == f"Run: chmod 600 {path}"


def test_a_secret_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = private(tmp_path / "secret", b"secret")
    os.chown(path, *((4711, -1) if os.geteuid() == 0 else (-1, -1)))
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    with pytest.raises(SecretFileError, match="another user"):
        secret_file(path)


def test_a_secret_that_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="No such file"):
        secret_file(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Is a directory"):
        secret_file(str(tmp_path / "folder"))


@pytest.mark.parametrize("text", [SECRET.hex(), f"dfs-key-1 {SECRET.hex()[2:]}", "dfs-key-1 zz", "", "\xff"])
def test_only_a_key_file_is_one(tmp_path: Path, text: str) -> None:
    assert key_file_secret(private(tmp_path / "key", f"dfs-key-1 {SECRET.hex()}\n".encode())) == SECRET
    with pytest.raises(ConfigError, match="not a dfs key file"):
        key_file_secret(private(tmp_path / "key", text.encode("latin-1")))


# --- Passwords ---


def test_a_password_file_gives_its_first_line(tmp_path: Path) -> None:
    for content in (b"pw one\n", b"pw one\r\nmore\n", b"pw one"):
        conf = ClientConf(password_file=private(tmp_path / "password", content))
        assert password_of(conf, "ines", nobody_asks) == b"pw one"


def test_a_command_gives_its_first_line() -> None:
    conf = ClientConf(password_command=(sys.executable, "-c", "print('pw one'); print('more')"))
    assert password_of(conf, "ines", nobody_asks) == b"pw one"


def test_a_command_that_fails_is_told_without_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*command: str) -> str:
        with pytest.raises(NoPasswordError) as caught:
            password_of(ClientConf(password_command=command), "ines", nobody_asks)
        return caught.value.what

    assert (
        told("/no/such/command", "hidden") == "password_command /no/such/command: No such file or directory"
    )
    program = [sys.executable, "-c"]
    assert told(*program, "raise SystemExit(3)").endswith("ended with status 3")
    monkeypatch.setattr(credentials, "COMMAND_TIMEOUT_S", 0.001)
    assert "took more than" in told(*program, "input()")


def test_somebody_is_asked_when_the_conf_has_no_source() -> None:
    assert password_of(ClientConf(), "ines", lambda user: user.encode()) == b"ines"


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(6, "No such device or address")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(NoPasswordError, match="no password for ines and no terminal"):
        password_of(ClientConf(), "ines")


# --- Login keys ---


def test_a_key_file_needs_no_derivation(tmp_path: Path) -> None:
    conf = ClientConf(key_file=private(tmp_path / "key", f"dfs-key-1 {SECRET.hex()}\n".encode()))
    assert kdf_of(conf) == KEY_FILE
    assert LoginSecret(conf, "ines")() == login_keys(SECRET)


def test_a_password_is_derived_for_realm_and_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def derive(*arguments: object) -> bytes:
        asked.append(arguments)
        return SECRET

    monkeypatch.setattr(credentials, "password_secret", derive)
    conf = ClientConf(password_file=private(tmp_path / "password", b"pw one\n"), realm="orchard")
    secret = LoginSecret(conf, "ines")
    assert secret() == secret() == login_keys(SECRET)
    kdf = KdfParameters(conf.kdf_memory, conf.kdf_passes, conf.kdf_lanes)
    assert kdf_of(conf) == kdf
    assert asked == [(b"pw one", "orchard", "ines", kdf)]


def test_what_stops_the_derivation_is_told_to_whoever_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> bytes:
        raise MemoryError("too little memory")

    monkeypatch.setattr(credentials, "password_secret", fail)
    secret = LoginSecret(ClientConf(password_file=private(tmp_path / "password", b"pw")), "ines")
    for _ in range(2):
        with pytest.raises(ConfigError, match="too little memory"):
            secret()


# --- Nodes ---


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    known = KnownNodes(tmp_path / "file" / "known_nodes")
    with pytest.raises(ConfigError, match=r"known_nodes: Not a directory"):
        known.load()
    with pytest.raises(ConfigError, match="cannot be kept"):
        known.learn("a:1", bytes(32))
    with pytest.raises(ConfigError, match="cannot be kept"):
        known.forget("a:1")


def test_bytes_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "known_nodes"
    path.write_bytes(b"\xff\xfe\n" + f"a:1 SHA256:{SECRET.hex()}\n".encode())
    assert KnownNodes(path).load() == {"a:1": SECRET}


def test_two_clients_that_learn_keep_both(tmp_path: Path) -> None:
    one, other = KnownNodes(tmp_path / "known_nodes"), KnownNodes(tmp_path / "known_nodes")
    one.learn("a:1", SECRET)
    other.learn("b:2", SECRET)
    assert one.load() == other.load() == {"a:1": SECRET, "b:2": SECRET}


# --- Marks --------------------------------------------------------------------------------------------------

NODE, OTHER = NodeId(b"a" * 16), NodeId(b"b" * 16)


def test_marks_only_grow_and_a_later_incarnation_begins_anew(tmp_path: Path) -> None:
    known = KnownMarks(tmp_path / "state", "dfs", "ada")
    assert known.load() == {}
    known.keep({NODE: Mark(1, 7), OTHER: Mark(1, 1)})
    known.keep({NODE: Mark(1, 5)})
    assert known.load() == {NODE: Mark(1, 7), OTHER: Mark(1, 1)}
    known.keep({NODE: Mark(2, 3)})
    assert known.load()[NODE] == Mark(2, 3)


def test_a_node_that_was_brought_up_to_date_begins_anew(tmp_path: Path) -> None:
    known = KnownMarks(tmp_path, "dfs", "ada")
    known.keep({NODE: Mark(1, 7), OTHER: Mark(1, 1)})
    known.begin_anew({NODE: Mark(1, 3)})
    known.keep({NODE: Mark(1, 2)})
    assert known.load() == {NODE: Mark(1, 3), OTHER: Mark(1, 1)}


def test_marks_are_kept_apart_by_user_and_realm(tmp_path: Path) -> None:
    KnownMarks(tmp_path, "dfs", "ada").keep({NODE: Mark(1, 7)})
    assert KnownMarks(tmp_path, "dfs", "bob").load() == {}
    assert KnownMarks(tmp_path, "other", "ada").load() == {}


def test_marks_that_cannot_be_kept_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "marks").write_text("in the way")
    known = KnownMarks(tmp_path, "dfs", "ada")
    known.keep({NODE: Mark(1, 7)})
    assert known.load() == {}


# --- Secrets that are made, and typed ---


def test_a_private_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "sheet"
    private_file(str(path), "content")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("content", 0o600)
    with pytest.raises(ConflictError, match="is there already"):
        private_file(str(path), "other")
    assert path.read_text() == "content"


def test_a_private_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        private_file(str(tmp_path / "sheet"), "content")
    assert not (tmp_path / "sheet").exists()


def test_without_a_terminal_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "builtins.open", lambda *_arguments, **_named: (_ for _ in ()).throw(OSError(6, "no tty"))
    )
    with pytest.raises(NoPasswordError, match="--sheet FILE"):
        ask_line("Line 1: ")


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        ({"key_file": "a.key"}, "key_file a.key"),
        ({"password_file": "pw"}, "password_file pw"),
        ({"password_command": ("pass", "show", "dfs")}, "password_command pass"),
        ({}, ""),
    ],
)
def test_a_source_is_named_without_what_it_gives(settings: dict[str, Any], source: str) -> None:
    assert source_of(ClientConf(**settings)) == source


def test_a_kept_login_comes_before_a_question_only(tmp_path: Path) -> None:
    secret = LoginSecret(ClientConf(), "ines", nobody_asks, lambda: SECRET)
    assert (secret(), secret.secret(), secret.was_kept) == (login_keys(SECRET), SECRET, True)
    key = private(tmp_path / "key", key_file_text(bytes(32)).encode())
    named = LoginSecret(ClientConf(key_file=key), "ines", nobody_asks, lambda: SECRET)
    assert (named(), named.was_kept) == (login_keys(bytes(32)), False)
    assert SECRET.hex() not in repr(secret)
