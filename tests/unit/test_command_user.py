"""`dfs user`: users files, changed as a whole or not at all."""

import base64
from typing import Any

import pytest

from dfs.core.conf import parse_users
from dfs.core.keys import KdfParameters, login_keys, password_secret
from dfs.core.limits import KDF_MEMORY_MIN, KDF_PASSES_MIN


def key_of(password: str, user: str) -> bytes:
    kdf = KdfParameters(KDF_MEMORY_MIN, KDF_PASSES_MIN, 4)
    return login_keys(password_secret(password.encode(), "dfs", user, kdf)).public_key


@pytest.fixture
def password(bare_home: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A password that the environment says where to find."""
    bare_home.write("pw", b"white rabbit\n")
    (bare_home.folder / "pw").chmod(0o600)
    monkeypatch.setenv("DFS_PASSWORD_FILE", "pw")
    bare_home.write("dfc.conf", b"Server A 127.0.0.1:9\n")
    return "white rabbit"


def test_a_user_is_added_by_the_key_of_the_password(bare_home: Any, password: str) -> None:
    bare_home.write("users", b"# who may\ntom ed25519:" + base64.b64encode(bytes(32)))  # no end of line
    (bare_home.folder / "users").chmod(0o640)
    (line,) = bare_home.dfs("user", "add", "odile", "--users", "users")
    content = (bare_home.folder / "users").read_bytes()
    assert content.startswith(b"# who may\ntom ed25519:AAAA")
    tom, odile = parse_users(content, "users").entries
    assert (tom.public_key, odile.public_key) == (bytes(32), key_of(password, "odile"))
    assert line.startswith("added to users: odile ed25519:")
    assert (bare_home.folder / "users").stat().st_mode & 0o777 == 0o640
    assert password not in bare_home.out
    assert [path.name for path in bare_home.folder.iterdir() if path.name.startswith(".")] == []


def test_a_new_users_file_is_for_its_owner_alone(bare_home: Any, password: str) -> None:
    bare_home.dfs("user", "add", "odile", "--users", "N1/.node/users")
    assert (bare_home.folder / "N1/.node/users").stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_there_is_9(bare_home: Any, password: str) -> None:
    bare_home.write("dfs.conf", b"odile pw\n")
    bare_home.dfs("user", "add", "odile", status=9)
    assert (bare_home.folder / "dfs.conf").read_bytes() == b"odile pw\n"


@pytest.mark.parametrize("name", ["a/b", "", "..", "x:y", "a\nb", "#x"])
def test_a_name_no_file_could_say_is_2(bare_home: Any, password: str, name: str) -> None:
    bare_home.dfs("user", "add", name, "--users", "users", status=2)
    assert not (bare_home.folder / "users").exists()


@pytest.mark.parametrize("name", ["Jo Ann", "user", "résumé"])
def test_odd_names_are_written_so_that_they_are_read(bare_home: Any, password: str, name: str) -> None:
    bare_home.dfs("user", "add", name, "--users", "users")
    (record,) = parse_users((bare_home.folder / "users").read_bytes(), "users").entries
    assert record.name == name


def test_no_password_is_12_and_no_file_2(bare_home: Any) -> None:
    bare_home.dfs("user", "add", "odile", status=2)
    assert "--users FILE" in bare_home.err


def test_a_dry_run_writes_nothing(bare_home: Any, password: str) -> None:
    (line,) = bare_home.dfs("user", "add", "-n", "odile", "--users", "users")
    assert line.startswith("would add to users: odile ed25519:")
    assert not (bare_home.folder / "users").exists()


def test_passwords_become_keys(bare_home: Any) -> None:
    tom = base64.b64encode(bytes(32)).decode()
    keyed = f"tom ed25519:{tom} quota=5GiB role=healer"
    text = f"# white rabbit\nAlice white rabbit\n{keyed}\nUser Jo Ann\nPass x y\n"
    bare_home.write("dfs.conf", text.encode())
    assert bare_home.dfs("user", "convert", "-n")[0].startswith("Alice ed25519:")
    assert (bare_home.folder / "dfs.conf").read_text() == text
    assert len(bare_home.dfs("user", "convert")) == 3
    content = (bare_home.folder / "dfs.conf").read_bytes()
    assert b"rabbit" not in content
    before = parse_users(text.encode(), "before").entries
    after = parse_users(content, "after").entries
    assert [(user.name, user.quota, user.role) for user in before] == [
        (user.name, user.quota, user.role) for user in after
    ]
    keys = [key_of("white rabbit", "Alice"), bytes(32), key_of("x y", "Jo Ann")]
    assert [user.public_key for user in after] == keys


def test_converting_nothing_is_2(bare_home: Any) -> None:
    bare_home.dfs("user", "convert", status=2)
    bare_home.write("dfs.conf", b"a b\na c\n")
    bare_home.dfs("user", "convert", status=2)
    assert (bare_home.folder / "dfs.conf").read_bytes() == b"a b\na c\n"
