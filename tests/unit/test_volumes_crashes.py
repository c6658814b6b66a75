"""The store `volumes` after restarts, crashes, kills, power cuts and bit rot."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dfs.core.api import (
    CorruptEntryError,
    CorruptShareError,
    DirectoryId,
    NameId,
    NotFoundError,
    RegisterKey,
    RegisterRow,
    StoreError,
    StoreOptions,
    Transaction,
    VaultStore,
)
from dfs.plugins import volumes
from dfs.plugins.volumes import files as volume_files, rows, vault as vault_module
from dfs.testing.stores import FaultyFiles, ballot, body_of, claim, read, register_key, share_key, stage
from tests.unit.volumes_kit import (
    HEADER_SIZE,
    SIZE,
    check,
    drop,
    generation,
    make_files as make_files,
    make_options as make_options,
    make_reopen as make_reopen,
    make_vault as make_vault,
    name_folder as name_folder,
    open_store as open_store,
    put,
    sizes,
)

# --- Restart ---


@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_finds_everything(
    vault: VaultStore, reopen: Callable[..., VaultStore], crash: bool
) -> None:
    put(vault, *range(7))
    key, row = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16)), RegisterRow(value=b"value")
    vault.transact(lambda transaction: transaction.set_register(key, row))
    vault.transact(lambda transaction: transaction.mark_corrupt(share_key(6)))
    again = reopen(crash=crash)
    assert again.view(lambda view: view.register(key)) == row
    assert again.view(lambda view: view.missing([share_key(6)])) == [share_key(6)]
    put(again, 6)
    check(again, *range(7))


@pytest.mark.parametrize("crash", [False, True])
def test_bytes_behind_the_last_row_are_garbage(
    vault: VaultStore, folder: Path, reopen: Callable[..., VaultStore], crash: bool
) -> None:
    put(vault, 0)
    stage(vault, share_key(1), SIZE)

    def tear(alice: Path) -> None:
        with (alice / "volumes" / "00000000.vol").open("ab") as file:
            file.write(b"torn" * 20_000)

    again = reopen(crash=crash, prepare=tear)
    check(again, 0)
    put(again, 2, 3)
    (path,) = (Path(str(folder).replace("/node/", "/node-crashed/")) if crash else folder).iterdir()
    assert path.read_bytes()[HEADER_SIZE : HEADER_SIZE + 3 * SIZE] == body_of(share_key(0), SIZE) + body_of(
        share_key(2), SIZE
    ) + body_of(share_key(3), SIZE)
    check(again, 0, 2, 3)


def test_after_a_crash_unkept_bytes_between_rows_are_punched(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0)
    stage(vault, share_key(1), SIZE)
    put(vault, 2, 3)
    again = reopen(crash=True)
    assert files.told("punch") == [("00000000.vol", HEADER_SIZE + SIZE, SIZE)]
    check(again, 0, 2, 3)


@pytest.mark.parametrize("crash", [False, True])
def test_what_died_in_the_volume_appended_to_is_punched_after_a_restart_too(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore], crash: bool
) -> None:
    put(vault, 0, 1)
    drop(vault, 0)
    again = reopen(crash=crash)
    assert files.told("punch") == []
    put(again, 2, 3)
    assert files.told("punch") == [("00000000.vol", HEADER_SIZE, SIZE)]
    check(again, 1, 2, 3)


@pytest.mark.parametrize("reason", ["slice", "full disk"])
def test_what_could_not_be_punched_is_punched_at_the_next_start(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore], reason: str
) -> None:
    put(vault, 0, 1, 2, 3)
    share = vault.share(share_key(0))
    if reason == "full disk":
        share.close()
        files.fail("punch", errno.ENOSPC)
    drop(vault, 0)
    told_count = len(files.told("punch"))
    again = reopen()
    assert files.told("punch")[told_count:] == [("00000000.vol", HEADER_SIZE, SIZE)]
    share.close()
    check(again, 1, 2, 3)


@pytest.mark.parametrize("crash", [False, True])
def test_empty_volumes_are_found_free(
    vault: VaultStore, folder: Path, reopen: Callable[..., VaultStore], crash: bool
) -> None:
    put(vault, *range(10))
    drop(vault, *range(9))
    again = reopen(crash=crash)
    here = Path(str(folder).replace("/node/", "/node-crashed/")) if crash else folder
    assert len(sizes(here)) == 3
    put(again, *range(20, 23))
    assert sorted(generation(path) for path in here.iterdir()) == [1, 1, 2]
    check(again, 9, *range(20, 23))


def test_a_file_that_is_no_volume_of_ours_is_removed(
    vault: VaultStore, folder: Path, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0)

    def litter(alice: Path) -> None:
        (alice / "volumes" / "00000007.vol").write_bytes(b"torn header")
        (alice / "volumes" / "README").write_text("not a volume's name: not ours")

    again = reopen(prepare=litter)
    assert sorted(sizes(folder)) == ["00000000.vol", "README"]
    put(again, 1)
    check(again, 0, 1)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "file missing": lambda path: path.unlink(),
    "file empty": lambda path: os.truncate(path, 0),
    "file short": lambda path: os.truncate(path, HEADER_SIZE + SIZE - 1),
    "header flipped": lambda path: flip(path, 20),
    "another volume's file": lambda path: shutil.copy(path.with_name("00000001.vol"), path),
}


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_rows_without_bytes_are_corrupt_and_can_be_replaced(
    vault: VaultStore, reopen: Callable[..., VaultStore], damage: str
) -> None:
    put(vault, *range(7))
    again = reopen(prepare=lambda alice: DAMAGES[damage](alice / "volumes" / "00000000.vol"))
    lost = [share_key(number) for number in range(3)]
    assert again.view(lambda view: view.missing([share_key(number) for number in range(7)])) == lost
    for key in lost:
        with pytest.raises(CorruptShareError):
            again.share(key)
        with pytest.raises(CorruptShareError):
            again.verify(key)
    assert again.used_size == 7 * SIZE
    put(again, 0, 1, 2)
    check(again, *range(7))
    drop(again, 0, 1, 2)
    check(again, *range(3, 7))


@pytest.mark.parametrize("damage", ["file missing", "file short"])
def test_bytes_that_vanish_while_running_are_corrupt(vault: VaultStore, folder: Path, damage: str) -> None:
    put(vault, 0, 1, 2, 3)
    opened = vault.share(share_key(0))
    DAMAGES[damage](folder / "00000000.vol")
    if damage == "file short":
        with pytest.raises(CorruptShareError):
            opened.read_into(memoryview(bytearray(SIZE)), 0)
        with pytest.raises(CorruptShareError):
            vault.share(share_key(1))
    opened.close()
    vault.verify(share_key(3))


def test_a_volume_that_vanishes_while_nobody_reads_is_corrupt(
    vault: VaultStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_files, "IDLE_FILE_COUNT_MAX", 0)
    put(vault, 0, 1, 2, 3)
    read(vault, share_key(0))
    (folder / "00000000.vol").unlink()
    with pytest.raises(CorruptShareError):
        vault.share(share_key(0))
    vault.verify(share_key(3))


def test_a_volume_that_lost_bytes_is_not_appended_to(
    vault: VaultStore, folder: Path, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0, 1)
    again = reopen(prepare=lambda alice: os.truncate(alice / "volumes" / "00000000.vol", HEADER_SIZE + SIZE))
    put(again, 2)
    assert sizes(folder) == {"00000000.vol": HEADER_SIZE + SIZE, "00000001.vol": HEADER_SIZE + SIZE}
    put(again, 1)
    check(again, 0, 1, 2)


def test_a_flipped_bit_is_found_by_verify(
    vault: VaultStore, folder: Path, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0, 1, 2)
    put(vault, 3, size=10)
    flip(folder / "00000000.vol", HEADER_SIZE + SIZE + 77)
    with pytest.raises(CorruptShareError):
        vault.verify(share_key(1))
    vault.share(share_key(1)).close()  # opening looks at no byte
    for number in (0, 2, 3):
        vault.verify(share_key(number))

    def rot(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute("UPDATE shares SET body = X'00112233445566778899' WHERE body IS NOT NULL")
        connection.close()

    again = reopen(prepare=rot)
    with pytest.raises(CorruptShareError):
        again.verify(share_key(3))


def test_a_register_row_that_rotted_is_told_apart_from_none(
    vault: VaultStore, reopen: Callable[..., VaultStore]
) -> None:
    keys = [RegisterKey(DirectoryId(b"d" * 16), NameId(bytes((number,)) * 16)) for number in range(3)]

    def work(transaction: Transaction) -> None:
        for key in keys:
            transaction.set_register(key, RegisterRow(value=b"value"))

    vault.transact(work)

    def rot(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute("UPDATE registers SET value = X'00' WHERE name = ?", (keys[1].name,))
        connection.close()

    again = reopen(prepare=rot)
    with pytest.raises(CorruptEntryError):
        again.view(lambda view: view.register(keys[1]))
    listed = again.view(lambda view: view.registers(keys[0].directory, b"", 10))
    assert listed == [
        (keys[0], RegisterRow(value=b"value")),
        (keys[1], None),
        (keys[2], RegisterRow(value=b"value")),
    ]
    again.transact(lambda transaction: transaction.set_register(keys[1], RegisterRow(value=b"new")))
    assert again.view(lambda view: view.register(keys[1])) == RegisterRow(value=b"new")


def test_rows_of_an_older_generation_are_corrupt(
    vault: VaultStore, reopen: Callable[..., VaultStore]
) -> None:
    """A database brought back from a backup must not take the bytes of a reused volume for its own."""
    put(vault, 0, 1, 2, 3)

    def go_back(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute("UPDATE shares SET generation = 7 WHERE volume = 0")
        connection.close()

    again = reopen(prepare=go_back)
    with pytest.raises(CorruptShareError):
        again.share(share_key(0))
    with pytest.raises(NotFoundError):
        again.share(share_key(9))
    put(again, 0, 1, 2)
    check(again, 0, 1, 2, 3)


@pytest.mark.parametrize("rotten", [0, 9])
def test_a_row_of_another_generation_costs_no_other_share(
    vault: VaultStore, reopen: Callable[..., VaultStore], rotten: int
) -> None:
    put(vault, 0, 1, 2, 3)

    def rot(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            where = (rotten, share_key(1).stripe)
            connection.execute("UPDATE shares SET generation = ? WHERE stripe = ?", where)
        connection.close()

    again = reopen(prepare=rot)
    keys = [share_key(number) for number in range(4)]
    assert again.view(lambda view: view.missing(keys)) == [share_key(1)]
    put(again, 1)
    check(again, 0, 1, 2, 3)


def test_a_row_of_an_older_generation_takes_no_bytes_with_it(
    vault: VaultStore, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0, 1, 2, 3)

    def mix(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute(
                "UPDATE shares SET generation = 0, offset = ? WHERE stripe = ?",
                (HEADER_SIZE + SIZE, share_key(0).stripe),
            )
        connection.close()

    again = reopen(prepare=mix)
    with pytest.raises(CorruptShareError):
        again.share(share_key(0))
    drop(again, 0)
    check(again, 1, 2, 3)


def test_rotten_rows_are_told(vault: VaultStore, reopen: Callable[..., VaultStore]) -> None:
    vault.transact(lambda transaction: transaction.claim(register_key(1), ballot(1), [claim(1), claim(2)]))
    put(vault, 1, size=10)

    def rot(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute("UPDATE claims SET rest = X'0000' WHERE position = 1")
            connection.execute("UPDATE shares SET body = X'0000'")
        connection.close()

    again = reopen(prepare=rot)
    with pytest.raises(CorruptEntryError):
        again.view(lambda view: view.claims(register_key(1), ballot(1)))
    with pytest.raises(CorruptShareError):
        again.share(share_key(1))


def test_a_vault_without_its_id_is_refused(vault: VaultStore, reopen: Callable[..., VaultStore]) -> None:
    put(vault, 0)

    def rot(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute("DELETE FROM own WHERE name = 'vault_id'")
        connection.close()

    with pytest.raises(StoreError, match="vault_id"):
        reopen(prepare=rot)


def test_a_vault_without_its_size_is_refused(vault: VaultStore, reopen: Callable[..., VaultStore]) -> None:
    def rot(alice: Path) -> None:
        with sqlite3.connect(alice / "vault.db") as connection:
            connection.execute("UPDATE own SET value = 'rot' WHERE name = 'used_size'")
        connection.close()

    with pytest.raises(StoreError, match=r"used_size.* is damaged") as caught:
        reopen(prepare=rot)
    assert "dfs repair" in caught.value.next_step


def test_a_check_can_be_stopped(vault: VaultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHECK_STEP_COUNT", 10)
    for number in range(20):
        put(vault, number, size=10)
    asked = iter([False, True])
    assert not vault.check(lambda: next(asked, True))
    assert vault.check(lambda: False)
    assert vault.read_only_reason is None


def test_tables_that_contradict_each_other_end_writing(
    vault: VaultStore, reopen: Callable[..., VaultStore]
) -> None:
    assert vault.check(lambda: False)
    put(vault, 1, size=10)

    def rot(alice: Path) -> None:
        content = (alice / "vault.db").read_bytes()
        place = content.index(share_key(1).stripe)
        (alice / "vault.db").write_bytes(content[:place] + b"\1" + content[place + 1 :])

    again = reopen(prepare=rot)
    with pytest.raises(StoreError, match="is damaged"):
        again.check(lambda: False)
    assert again.read_only_reason is not None
    with pytest.raises(StoreError, match="read-only"):
        again.transact(lambda transaction: transaction.usage())
    assert again.view(lambda view: view.meta("state")) is None


def test_a_bad_sector_under_a_header_costs_one_volume(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0, 1, 2, 3)
    files.fail("read", errno.EIO, name="00000000.vol")
    again = reopen()
    assert again.view(lambda view: view.missing([share_key(0), share_key(3)])) == [share_key(0)]
    put(again, 0, 1, 2)
    check(again, 0, 1, 2, 3)


def test_a_volume_that_cannot_be_opened_is_not_taken_for_lost(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0, 1, 2, 3)
    files.fail("open", errno.EACCES, name="00000000.vol")
    with pytest.raises(StoreError):
        reopen()


def test_a_damaged_database_is_refused_after_a_crash(
    vault: VaultStore, reopen: Callable[..., VaultStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "LOG_SIZE_MAX", 1)
    put(vault, *range(400), size=60)

    def damage(alice: Path) -> None:
        (alice / "vault.db-wal").unlink()
        raw = bytearray((alice / "vault.db").read_bytes())
        raw[-20_000:-8] = bytes(20_000 - 8)
        (alice / "vault.db").write_bytes(raw)

    with pytest.raises(StoreError):
        reopen(crash=True, prepare=damage)


# --- Power cuts and kills ---


def test_what_was_acknowledged_survives_a_power_cut(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore]
) -> None:
    put(vault, 0, 1)
    put(vault, 2, size=10)
    put(vault, 3, 4)
    drop(vault, 0, 1)
    put(vault, 5)
    stage(vault, share_key(6), SIZE)
    assert files.unsynced, "else this test proves nothing"
    files.cut_power()
    again = reopen(crash=True)
    assert again.shares(None, 100) == [share_key(number) for number in (2, 3, 4, 5)]
    for key in again.shares(None, 100):
        again.verify(key)


UPLOADER = """
import sys
from dfs.core.api import StoreOptions
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins import volumes
from dfs.testing.stores import keep, share_key, stage

store = volumes.make(StoreOptions(
    directory=sys.argv[1], files=RealFiles(), env=RealEnv(), inline_size_max=64, reserve_size=0))
vault = store.vault("alice", create=True)
for number in range(4):
    keep(vault, share_key(number), size=10 + 1000 * number)
    print(number, flush=True)
staged = [stage(vault, share_key(4), 10), stage(vault, share_key(5), 20_000)]

def work(transaction):
    transaction.keep(staged)
    transaction.set_meta("state", b"half")
    print("inside", flush=True)
    sys.stdin.read()

vault.transact(work)
"""


def test_a_killed_process_leaves_whole_transactions(options: StoreOptions) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", UPLOADER, options.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(5)]
        process.kill()
    assert told == ["0", "1", "2", "3", "inside"]
    opened = volumes.make(options)
    vault = opened.vault("alice", create=False)
    assert vault.shares(None, 10) == [share_key(number) for number in range(4)]
    assert vault.view(lambda view: view.meta("state")) is None
    for number in range(4):
        vault.verify(share_key(number))
    put(vault, 4, 5)
    opened.close()
