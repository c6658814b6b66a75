"""`dfs user`: users files, changed as a whole or not at all."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dfs.core.conf import parse_users
from dfs.core.keys import KdfParameters, login_keys, password_secret
from dfs.core.limits import KDF_MEMORY_MIN, KDF_PASSES_MIN

KEY_TEXT = f"ed25519:{base64.b64encode(bytes(32)).decode()}"


def content_of(home: Any) -> str:
    return str((home.folder / "users").read_bytes().decode())


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
    bare_home.write("users", b"# who may\n")
    lines = bare_home.dfs("user", "add", "-n", "odile", "--users", "users")
    assert lines[:3] == ["--- users", "+++ users", "@@ -1 +1,2 @@"]
    assert lines[4].startswith("+odile ed25519:")
    assert (bare_home.folder / "users").read_bytes() == b"# who may\n"
    assert "+odile" in bare_home.json("user", "add", "-n", "odile", "--users", "users")["data"]["diff"]


def test_a_key_can_be_given_with_quota_and_role(bare_home: Any) -> None:
    bare_home.dfs("user", "add", "tom", KEY_TEXT, "--quota", "50GiB", "--users", "users")
    bare_home.dfs("user", "add", "medic", f"medic {KEY_TEXT}", "--role", "healer", "--users", "users")
    assert content_of(bare_home) == f"tom {KEY_TEXT} quota=50GiB\nmedic {KEY_TEXT} role=healer\n"
    bare_home.dfs("user", "add", "eve", "ed25519:AAAA", "--users", "users", status=2)
    bare_home.dfs("user", "add", "eve", KEY_TEXT, "--quota", "much", "--users", "users", status=2)
    assert "quota: expected a size" in bare_home.err
    assert "eve" not in content_of(bare_home)


def test_a_name_that_is_there_is_told_before_a_password_is_asked_for(bare_home: Any) -> None:
    bare_home.write("dfs.conf", b"odile pw\n")
    bare_home.dfs("user", "add", "odile", status=9)
    assert "password" not in bare_home.err
    assert "dfs user remove" in bare_home.err


def test_users_are_listed_with_what_they_may(bare_home: Any) -> None:
    bare_home.write("users", f"tom {KEY_TEXT} quota=5GiB\nAlice white rabbit\n".encode())
    lines = bare_home.dfs("user", "list", "--users", "users")
    assert lines == [
        "tom    SHA256:66687aadf862bd77  quota 5GiB  user",
        "Alice  clear text               no quota of its own  user",
    ]
    assert "1 password in clear text; to convert: dfs user convert --users users" in bare_home.err
    assert "rabbit" not in bare_home.out
    told = bare_home.json("user", "list", "--users", "users")["data"]["users"]
    assert told[0] == {
        "name": "tom",
        "public_key": KEY_TEXT,
        "fingerprint": "SHA256:66687aadf862bd77",
        "quota": 5 << 30,
        "roles": ["user"],
    }
    assert told[1]["public_key"] is None
    bare_home.dfs("user", "list", "--users", "elsewhere", status=2)


def test_a_quota_and_a_role_are_changed_and_taken_back(bare_home: Any) -> None:
    text = f"# ours\r\ntom {KEY_TEXT}\r\n\r\n; more\r\nann {KEY_TEXT} role=healer\r\n"
    bare_home.write("users", text.encode())
    bare_home.dfs("user", "quota", "tom", "1.5GiB", "--users", "users")
    assert content_of(bare_home) == text.replace(f"tom {KEY_TEXT}", f"tom {KEY_TEXT} quota=1536MiB")
    bare_home.dfs("user", "role", "tom", "healer", "--users", "users")
    assert f"tom {KEY_TEXT} quota=1536MiB role=healer\r\n" in content_of(bare_home)
    bare_home.dfs("user", "role", "tom", "user", "--users", "users")
    told = bare_home.json("user", "quota", "tom", "none", "--users", "users")["data"]
    assert (told["changed"], told["users"][0]["quota"]) == (True, None)
    assert content_of(bare_home) == text
    assert not bare_home.json("user", "quota", "tom", "none", "--users", "users")["data"]["changed"]
    bare_home.dfs("user", "quota", "tom", "lots", "--users", "users", status=2)
    assert 'Or say "none".' in bare_home.err


def test_settings_need_a_key_and_a_name_that_is_there(bare_home: Any) -> None:
    bare_home.write("dfs.conf", b"odile pw\nTom pw\n")
    bare_home.dfs("user", "quota", "odile", "1GiB", status=9)
    assert "dfs user convert --users dfs.conf" in bare_home.err
    bare_home.dfs("user", "role", "tom", "healer", status=4)
    assert "Did you mean Tom?" in bare_home.err
    bare_home.dfs("user", "remove", "odil", status=4)
    assert "Did you mean odile?" in bare_home.err


def test_a_user_is_removed_and_nothing_else(bare_home: Any) -> None:
    text = f"# ours\ntom {KEY_TEXT}\n\nUser Jo Ann\n# between\nPass x y\nAlice pw"
    bare_home.write("users", text.encode())
    assert bare_home.dfs("user", "remove", "Jo Ann", "-n", "--users", "users") == [
        *("--- users", "+++ users", "@@ -3,5 +3,3 @@", " ", "-User Jo Ann", " # between", "-Pass ********"),
        " Alice ********",
    ]
    bare_home.dfs("user", "remove", "Jo Ann", "--users", "users")
    assert content_of(bare_home) == text.replace("User Jo Ann\n", "").replace("Pass x y\n", "")
    assert "stays on the node" in bare_home.err


def test_passwords_become_keys_in_their_places(bare_home: Any) -> None:
    keyed = f"tom {KEY_TEXT} quota=5GiB role=healer"
    text = f"# white rabbit, ours\nAlice white rabbit\n{keyed}\nUser Jo Ann\nPass x y\n"
    bare_home.write("dfs.conf", text.encode())
    lines = bare_home.dfs("user", "convert", "-n")
    assert "-Alice ********" in lines
    assert "-Pass ********" in lines
    assert all("white rabbit" not in line or line == " # white rabbit, ours" for line in lines)
    assert (bare_home.folder / "dfs.conf").read_text() == text
    bare_home.dfs("user", "convert")
    assert "dfs.conf: line 1: a comment repeats one of the passwords" in bare_home.err
    assert (
        'They need: realm = "dfs", and under [kdf] memory = "64 MiB", passes = 3, lanes = 4' in bare_home.err
    )
    content = (bare_home.folder / "dfs.conf").read_text().splitlines()
    assert content[0] == "# white rabbit, ours"
    assert content[2] == keyed
    after = parse_users("\n".join(content).encode(), "after").entries
    keys = [key_of("white rabbit", "Alice"), bytes(32), key_of("x y", "Jo Ann")]
    assert [(user.name, user.public_key) for user in after] == list(
        zip(["Alice", "tom", "Jo Ann"], keys, strict=True)
    )
    bare_home.dfs("user", "convert")
    assert "no password in clear text" in bare_home.err


def test_keys_are_derived_as_the_nodes_conf_says(bare_home: Any) -> None:
    bare_home.write("users", b"Alice white rabbit\n")
    conf = 'format = 1\ndir = "N1"\nrealm = "orchard"\nusers = "users"\n[kdf]\npasses = 4\n'
    bare_home.write("node.toml", conf.encode())
    bare_home.dfs("--conf", "node.toml", "user", "convert")
    assert 'realm = "orchard", and under [kdf] memory = "64 MiB", passes = 4' in bare_home.err
    (alice,) = parse_users((bare_home.folder / "users").read_bytes(), "users").entries
    secret = password_secret(b"white rabbit", "orchard", "Alice", KdfParameters(KDF_MEMORY_MIN, 4, 4))
    assert alice.public_key == login_keys(secret).public_key


def test_two_who_change_the_file_at_once_lose_nothing(bare_home: Any) -> None:
    from dfs.cli import run

    bare_home.write("users", b"# ours\n")

    def add(number: int) -> int:
        return run(["-q", "user", "add", f"user{number}", KEY_TEXT, "--users", "users"])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(add, range(12))) == [0] * 12
    names = {user.name for user in parse_users(content_of(bare_home).encode(), "users").entries}
    assert names == {f"user{number}" for number in range(12)}


def test_converting_nothing_is_2(bare_home: Any) -> None:
    bare_home.dfs("user", "convert", status=2)
    bare_home.write("dfs.conf", b"a b\na c\n")
    bare_home.dfs("user", "convert", status=2)
    assert (bare_home.folder / "dfs.conf").read_bytes() == b"a b\na c\n"
