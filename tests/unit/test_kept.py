"""Kept logins: where they are, who may read them, and when they count for nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from dfs.core.errors import ConfigError, NoPasswordError, SecretFileError
from dfs.core.kept import KeptLogin, login_secret
from dfs.core.keys import login_keys
from dfs.core.settings import ClientConf

SECRET = bytes(range(32))
CONF = ClientConf(cluster="orchard", user="ines")


def kept_in(folder: Path, conf: ClientConf = CONF, user: str = "ines") -> KeptLogin:
    return KeptLogin(folder, conf, user)


def nobody_asks(_user: str) -> bytes:
    raise AssertionError("a login is kept")


def test_a_login_is_kept_in_a_file_of_ones_own(tmp_path: Path) -> None:
    kept = kept_in(tmp_path / "state")
    assert (kept.place(), kept.load(), kept.forget()) == ("", None, False)
    kept.keep(SECRET, "file")
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    assert (kept.place(), kept.load()) == ("file", SECRET)
    assert login_secret(CONF, nobody_asks, tmp_path / "state")() == login_keys(SECRET)
    kept.keep(bytes(32), "file")  # again
    assert kept.load() == bytes(32)
    assert kept.forget()
    assert kept.load() is None


@pytest.mark.parametrize(
    "conf", [evolve(CONF, cluster="meadow"), evolve(CONF, realm="meadow"), evolve(CONF, kdf_passes=4)]
)
def test_it_is_of_one_cluster_realm_user_and_derivation(tmp_path: Path, conf: ClientConf) -> None:
    kept_in(tmp_path).keep(SECRET, "file")
    assert kept_in(tmp_path, conf).load() is None
    assert kept_in(tmp_path, user="olga").load() is None
    assert kept_in(tmp_path).load() == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    kept = kept_in(tmp_path)
    kept.keep(SECRET, "file")
    kept.path.chmod(mode)
    with pytest.raises(SecretFileError, match="can be read by others"):
        login_secret(CONF, nobody_asks, tmp_path)
    assert kept.forget()


@pytest.mark.parametrize("text", ["", "dfs-login-1 file 0 0 0", "dfs-login-2 file 67108864 3 4 00", "\xff"])
def test_a_file_that_is_none_keeps_nothing(tmp_path: Path, text: str) -> None:
    kept = kept_in(tmp_path)
    kept.keep(SECRET, "file")
    kept.path.write_text(text, "latin-1")
    assert kept.load() is None
    assert kept.forget()


def test_a_source_in_the_conf_comes_first(tmp_path: Path) -> None:
    kept_in(tmp_path).keep(SECRET, "file")
    key = tmp_path / "key"
    key.write_text(f"dfs-key-1 {bytes(32).hex()}\n")
    key.chmod(0o600)
    secret = login_secret(evolve(CONF, key_file=str(key)), nobody_asks, tmp_path)
    assert secret() == login_keys(bytes(32))
    assert not secret.was_kept


# --- Keyrings ---


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], str]]:
    """A keyring in memory, behind the real library."""
    library = pytest.importorskip("keyring")
    passwords: dict[tuple[str, str], str] = {}

    class Backend(library.backend.KeyringBackend):  # type: ignore[name-defined, misc, unused-ignore]
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return passwords.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            passwords[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            if passwords.pop((service, username), None) is None:
                raise library.errors.PasswordDeleteError("not there")

    before = library.get_keyring()
    library.set_keyring(Backend())
    yield passwords
    library.set_keyring(before)


def test_a_login_is_kept_in_the_keyring(tmp_path: Path, keyring: dict[tuple[str, str], str]) -> None:
    kept = kept_in(tmp_path)
    kept.keep(SECRET, "keyring")
    assert keyring == {("dfs", "orchard/dfs/ines"): SECRET.hex()}
    assert SECRET.hex() not in kept.path.read_text()
    assert (kept.place(), kept.load()) == ("keyring", SECRET)
    for conf in (CONF, evolve(CONF, keyring=True)):
        assert login_secret(conf, nobody_asks, tmp_path)() == login_keys(SECRET)
    keyring.clear()  # somebody emptied it
    assert kept.load() is None
    assert kept.forget()


def test_a_conf_that_wants_the_keyring_takes_no_file(tmp_path: Path) -> None:
    kept_in(tmp_path).keep(SECRET, "file")
    with pytest.raises(NoPasswordError, match="no login of ines is kept in the keyring"):
        login_secret(evolve(CONF, keyring=True), nobody_asks, tmp_path)


def test_a_keyring_that_fails_is_told(tmp_path: Path) -> None:
    library = pytest.importorskip("keyring")
    before = library.get_keyring()
    library.set_keyring(library.backends.fail.Keyring())
    try:
        with pytest.raises(ConfigError, match="keyring of this system cannot be used"):
            kept_in(tmp_path).keep(SECRET, "keyring")
    finally:
        library.set_keyring(before)
    assert kept_in(tmp_path).place() == ""


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match="need the package keyring"):
        kept_in(tmp_path).keep(SECRET, "keyring")
    kept_in(tmp_path).keep(SECRET, "file")
    assert kept_in(tmp_path).load() == SECRET
