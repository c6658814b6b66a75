"""The users file in force: what it gives, how it changes, and that no login learns anything from waiting."""

import base64
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from dfs.core import keys
from dfs.core.accounts import Accounts
from dfs.core.errors import BusyError, ConfigError
from dfs.core.keys import KdfParameters

KDF = KdfParameters()
KEY = bytes(range(32))


def line(name: str, key: bytes = KEY) -> str:
    return f"{name} ed25519:{base64.b64encode(key).decode()}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the slow derivation by a quick one that notes for whom it ran."""
    users: list[str] = []

    def quick(password: bytes, realm: str, user: str, kdf: KdfParameters) -> bytes:
        assert (realm, kdf) == ("orchard", KDF)
        users.append(user)
        return sha256(password).digest()

    monkeypatch.setattr(keys, "password_secret", quick)
    return users


def public_key(password: str) -> bytes:
    return keys.login_keys(sha256(password.encode()).digest()).public_key


class Started(Accounts):
    def __init__(self, path: Path, *, allow_anonymous: bool = False) -> None:
        super().__init__(str(path), "orchard", KDF, allow_anonymous=allow_anonymous)
        self.start()

    def close(self) -> None:
        self.stop()


@pytest.fixture
def started(path: Path) -> Iterator[Callable[[], Started]]:
    made: list[Started] = []

    def make() -> Started:
        made.append(Started(path))
        return made[-1]

    yield make
    for accounts in made:
        accounts.stop()


def test_keys_of_the_file_are_known_at_once(path: Path) -> None:
    path.write_text(line("ines"))
    accounts = Accounts(str(path), "orchard", KDF)
    assert accounts.public_key("ines") == KEY
    assert accounts.public_key("tom") is None
    assert (accounts.count, accounts.warnings) == (1, ())
    assert accounts.admits("ines", KEY)
    assert not accounts.admits("ines", bytes(32))
    assert not accounts.admits("tom", KEY)


def test_healers_are_accounts_without_vaults(path: Path) -> None:
    path.write_text(line("tom") + line("ines") + line("medic").strip() + " role=healer\n")
    accounts = Accounts(str(path), "orchard", KDF)
    assert [accounts.is_healer(name) for name in ("ines", "medic", "nobody")] == [False, True, False]
    assert accounts.users() == ["ines", "tom"]
    assert accounts.public_key("medic") == KEY


def test_a_password_in_clear_text_is_told_from_a_key(path: Path) -> None:
    path.write_text(line("ines") + "tom a-password\n")
    accounts = Accounts(str(path), "orchard", KDF)
    assert [accounts.is_clear(name) for name in ("ines", "tom", "nobody")] == [False, True, False]


@pytest.mark.parametrize("given", [True, False])
def test_without_a_file_there_is_nobody(path: Path, given: bool) -> None:
    accounts = Accounts(str(path) if given else None, "orchard", KDF)
    accounts.reload()
    assert accounts.count == 0
    assert accounts.public_key("ines") is None


def test_a_required_file_must_be_there(path: Path) -> None:
    with pytest.raises(ConfigError, match="not there"):
        Accounts(str(path), "orchard", KDF, required=True)


def test_a_faulty_file_is_refused_at_the_start(path: Path) -> None:
    path.write_text("solo\n")
    with pytest.raises(ConfigError, match="users:1"):
        Accounts(str(path), "orchard", KDF)


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        Accounts(str(path), "orchard", KDF)


def test_clear_text_lines_get_the_key_a_client_derives(path: Path) -> None:
    path.write_text("ines pond\n")
    with closing(Started(path)) as accounts:
        secret = keys.password_secret(b"pond", "orchard", "ines", KDF)  # in two threads at once
        assert accounts.public_key("ines") == keys.login_keys(secret).public_key
        assert "clear text" in accounts.warnings[0]


def test_who_else_can_read_passwords_is_warned_about(path: Path) -> None:
    path.write_text("ines pond\n")
    path.chmod(0o644)
    (warning,) = Accounts(str(path), "orchard", KDF).warnings
    assert warning.endswith(f"; others can read the file: chmod 600 {path}")
    path.chmod(0o600)
    (warning,) = Accounts(str(path), "orchard", KDF).warnings
    assert "chmod" not in warning
    path.write_text(line("ines"))
    path.chmod(0o644)  # public keys are public
    assert Accounts(str(path), "orchard", KDF).warnings == ()


def test_every_login_waits_for_all_derivations(
    path: Path, monkeypatch: pytest.MonkeyPatch, started: Callable[[], Started]
) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(password: bytes, *_: object) -> bytes:
        begun.set()
        assert gate.wait(10)
        return sha256(password).digest()

    monkeypatch.setattr(keys, "password_secret", slow)
    path.write_text(line("ines") + "tom pond\nolga lamp\n")
    accounts = started()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(accounts.public_key, user) for user in ("ines", "nobody", "olga")]
        assert begun.wait(10)
        assert not any(future.done() for future in waiting)
        assert accounts.admits("ines", KEY), "who is logged in does not wait"
        gate.set()
        assert [future.result(10) for future in waiting] == [KEY, None, public_key("lamp")]


def test_a_change_is_seen_at_the_next_login(
    path: Path, started: Callable[[], Started], derived: list[str]
) -> None:
    path.write_text("ines pond\ntom lamp\n")
    accounts = started()
    assert accounts.public_key("ines") == public_key("pond")
    path.write_text("ines pond\nolga elm\n")
    assert accounts.public_key("tom") is None
    assert accounts.public_key("olga") == public_key("elm")
    assert not accounts.admits("tom", public_key("lamp"))
    assert accounts.admits("ines", public_key("pond"))
    assert derived == ["ines", "tom", "olga"], "a line that stayed is not derived again"


def test_a_file_put_in_the_place_of_another_is_seen(path: Path) -> None:
    path.write_text(line("ines"))
    before = path.stat()
    accounts = Accounts(str(path), "orchard", KDF)
    other = path.with_name("new")
    other.write_text(line("tomm"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert accounts.public_key("tomm") == KEY


def test_a_faulty_change_is_told_once_and_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(line("ines"))
    accounts = Accounts(str(path), "orchard", KDF)
    path.write_text("a/b pw\nhunter2\n")
    for _ in range(3):
        assert accounts.public_key("ines") == KEY
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert [text.rpartition("users:")[2][:2] for text in told[:2]] == ["1:", "2:"]
    assert told[2:] == ["the users known before stay in force"]
    assert "hunter2" not in caplog.text

    path.write_text(line("tom"))
    assert accounts.public_key("tom") == KEY


def test_a_file_that_vanished_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(line("ines"))
    accounts = Accounts(str(path), "orchard", KDF)
    path.unlink()
    assert accounts.public_key("ines") == KEY
    assert "No such file" in caplog.text


def test_anonymous_needs_to_be_allowed(path: Path) -> None:
    path.write_text(line("anonymous"))
    assert Accounts(str(path), "orchard", KDF).public_key("anonymous") is None
    assert Accounts(str(path), "orchard", KDF, allow_anonymous=True).public_key("anonymous") == KEY


def test_a_derivation_without_memory_fails_only_that_user(
    path: Path, monkeypatch: pytest.MonkeyPatch, started: Callable[[], Started]
) -> None:
    def exhausted(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(keys, "password_secret", exhausted)
    path.write_text("ines pond\n" + line("tom"))
    accounts = started()
    assert accounts.public_key("ines") is None
    assert accounts.public_key("tom") == KEY


def test_stop_refuses_who_waits_and_ends_the_thread(path: Path) -> None:
    path.write_text("ines pond\n")
    accounts = Accounts(str(path), "orchard", KDF)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(accounts.public_key, "ines")
        accounts.stop()
        accounts.stop()
        with pytest.raises(BusyError):
            waiting.result(10)
    before = threading.active_count()
    accounts.start()
    accounts.stop()
    assert threading.active_count() == before


def test_a_quota_is_the_users_own_or_that_of_all(path: Path) -> None:
    path.write_text(
        line("tom").strip() + " quota=5GiB\n" + line("ines") + line("eve").strip() + " quota=0B\n"
    )
    accounts = Accounts(str(path), "orchard", KDF, quota=7)
    assert [accounts.quota(name) for name in ("tom", "ines", "eve", "nobody")] == [5 << 30, 7, 0, 7]
    assert Accounts(str(path), "orchard", KDF).quota("ines") is None
