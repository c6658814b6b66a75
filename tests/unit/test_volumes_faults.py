"""The store `volumes` on failing and full disks: what is refused, what ends writing, what goes on."""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from dfs.core.api import (
    BusyError,
    CorruptShareError,
    DiskFullError,
    Staged,
    Store,
    StoreError,
    StoreOptions,
    Transaction,
    VaultStore,
)
from dfs.core.env import RealFiles
from dfs.plugins import volumes
from dfs.plugins.volumes import files as volume_files, vault as vault_module
from dfs.plugins.volumes.vault import RowsVault
from dfs.testing.stores import Event, FaultyFiles, read, share_key, stage
from tests.unit.volumes_kit import (
    HEADER_SIZE,
    SIZE,
    check,
    drop,
    make_files as make_files,
    make_options as make_options,
    make_reopen as make_reopen,
    make_vault as make_vault,
    name_folder as name_folder,
    open_store as open_store,
    put,
    sizes,
)

# --- Failing disks ---


def refused(vault: VaultStore, *good: int) -> None:
    """The vault is read-only for good, and what it holds can still be read."""
    assert vault.read_only_reason is not None
    with pytest.raises(StoreError, match="read-only"):
        stage(vault, share_key(99))
    with pytest.raises(StoreError, match="read-only"):
        vault.transact(lambda transaction: transaction.usage())
    check(vault, *good)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_is_never_believed_later(
    vault: VaultStore, files: FaultyFiles, reopen: Callable[..., VaultStore], code: int
) -> None:
    put(vault, 0)
    files.fail("sync", code, name="00000000.vol")
    with pytest.raises(StoreError):
        put(vault, 1)
    sync_count = len(files.told("sync"))
    refused(vault, 0)
    assert len(files.told("sync")) == sync_count
    again = reopen()
    assert len(files.told("sync")) == sync_count
    put(again, 2)
    check(again, 0, 2)


def test_a_failed_write_ends_writing(vault: VaultStore, files: FaultyFiles) -> None:
    put(vault, 0)
    files.fail("write", errno.EIO)
    with pytest.raises(StoreError):
        put(vault, 1)
    refused(vault, 0)


def test_a_failed_hole_ends_writing_but_not_the_commit(vault: VaultStore, files: FaultyFiles) -> None:
    put(vault, 0, 1, 2, 3)
    files.fail("punch", errno.EIO)
    drop(vault, 0)
    refused(vault, 1, 2, 3)


def test_a_hole_that_needs_room_is_no_failure(vault: VaultStore, files: FaultyFiles) -> None:
    put(vault, 0, 1, 2, 3)
    files.fail("punch", errno.ENOSPC)
    drop(vault, 0)
    assert vault.read_only_reason is None
    put(vault, 4)
    check(vault, 1, 2, 3, 4)


def test_a_read_error_is_a_corrupt_share(vault: VaultStore, files: FaultyFiles) -> None:
    put(vault, 0)
    files.fail("read", errno.EIO)
    with pytest.raises(CorruptShareError):
        vault.verify(share_key(0))
    vault.verify(share_key(0))


def test_too_many_open_files_pass(
    vault: VaultStore, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_files, "IDLE_FILE_COUNT_MAX", 0)
    put(vault, 0, 1, 2, 3)
    read(vault, share_key(0))
    files.fail("open", errno.EMFILE)
    with pytest.raises(StoreError):
        vault.share(share_key(0))
    assert vault.read_only_reason is None
    check(vault, 0, 1, 2, 3)


class Refusing(sqlite3.Connection):
    """A connection on which statements that begin like ``refused`` fail as a failing disk would."""

    refused = ""

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if Refusing.refused and sql.strip().startswith(Refusing.refused):
            problem = sqlite3.OperationalError("disk I/O error")
            problem.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise problem
        return super().execute(sql, parameters)


class RefusingFiles(RealFiles):
    def database(self, path: str, *, read_only: bool) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Refusing)


@pytest.fixture
def refusing(options: StoreOptions, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultStore]:
    opened = volumes.make(evolve(options, files=RefusingFiles()))
    yield opened.vault("alice", create=True)
    monkeypatch.setattr(Refusing, "refused", "")
    opened.close()


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT INTO shares", "COMMIT"])
def test_a_failed_commit_ends_writing(
    refusing: VaultStore, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    put(refusing, 0)
    monkeypatch.setattr(Refusing, "refused", statement)
    with pytest.raises(StoreError):
        put(refusing, 1)
    monkeypatch.setattr(Refusing, "refused", "")
    refused(refusing, 0)


def test_a_failed_reading_of_rows_ends_writing(refusing: VaultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(refusing, 0)
    monkeypatch.setattr(Refusing, "refused", "SELECT value FROM meta")
    with pytest.raises(StoreError):
        refusing.view(lambda view: view.meta("state"))
    monkeypatch.setattr(Refusing, "refused", "")
    refused(refusing, 0)
    refusing.close()
    refusing.close()


def test_a_transaction_that_cannot_be_undone_ends_writing(
    refusing: VaultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(refusing, 0)
    monkeypatch.setattr(Refusing, "refused", "ROLLBACK")

    def work(transaction: Transaction) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refusing.transact(work)
    monkeypatch.setattr(Refusing, "refused", "")
    refused(refusing, 0)


def test_a_log_that_cannot_be_folded_ends_writing_but_not_the_commit(
    refusing: VaultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "LOG_SIZE_MAX", 1)
    put(refusing, 0)
    monkeypatch.setattr(Refusing, "refused", "PRAGMA wal_checkpoint")
    put(refusing, 1)
    monkeypatch.setattr(Refusing, "refused", "")
    refused(refusing, 0, 1)


def test_the_log_is_folded_now_and_then(
    vault: VaultStore, options: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Path(options.directory) / "alice" / "vault.db"
    put(vault, *range(300), size=60)
    size = database.stat().st_size
    monkeypatch.setattr(vault_module, "LOG_SIZE_MAX", 1)
    put(vault, 300, size=60)
    assert database.stat().st_size > size


def test_a_database_that_another_process_holds_is_busy(vault: VaultStore, options: StoreOptions) -> None:
    assert isinstance(vault, RowsVault)
    vault._writer.execute("PRAGMA busy_timeout = 0").fetchall()
    connection = sqlite3.connect(Path(options.directory) / "alice" / "vault.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError):
        put(vault, 0)
    connection.execute("ROLLBACK")
    connection.close()
    put(vault, 0)
    check(vault, 0)


# --- Full disks ---


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_half_written(
    vault: VaultStore, folder: Path, files: FaultyFiles, code: int
) -> None:
    put(vault, 0)
    files.fail("write", code)
    with pytest.raises(DiskFullError):
        put(vault, 1)
    assert vault.read_only_reason is None
    assert sizes(folder) == {"00000000.vol": HEADER_SIZE + SIZE}
    put(vault, 1)
    assert sizes(folder) == {"00000000.vol": HEADER_SIZE + 2 * SIZE}
    check(vault, 0, 1)


def test_a_failed_write_spares_what_was_staged_behind_it(
    vault: VaultStore, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(vault, 0)
    behind: list[Staged] = []
    nested: list[Event] = []

    def happen(event: Event) -> None:
        if event.what == "write" and not nested:
            nested.append(event)
            behind.append(stage(vault, share_key(2), SIZE))
            raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(files, "happen", happen)
    with pytest.raises(DiskFullError):
        stage(vault, share_key(1), SIZE)
    vault.transact(lambda transaction: transaction.keep(behind))
    put(vault, 3)
    check(vault, 0, 2, 3)


@pytest.mark.parametrize("what", ["open", "write", "sync_folder"])
def test_a_volume_that_cannot_be_made_leaves_no_file(
    vault: VaultStore, folder: Path, files: FaultyFiles, what: str
) -> None:
    files.fail(what, errno.ENOSPC)
    with pytest.raises(DiskFullError):
        put(vault, 0)
    assert sizes(folder) == {}
    put(vault, 0)
    check(vault, 0)


def test_a_free_volume_that_cannot_be_reused_stays_free(
    vault: VaultStore, folder: Path, files: FaultyFiles
) -> None:
    put(vault, 0)
    drop(vault, 0)
    files.fail("write", errno.ENOSPC)
    with pytest.raises(DiskFullError):
        put(vault, 1)
    put(vault, 1)
    assert list(sizes(folder)) == ["00000000.vol"]
    check(vault, 1)


def test_a_preallocation_without_room_is_a_full_disk(
    vault: VaultStore, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_files, "ALLOCATE_STEP", 10_000)
    put(vault, 0)
    files.fail("allocate", errno.ENOSPC)
    with pytest.raises(DiskFullError):
        put(vault, 1)
    put(vault, 1)
    check(vault, 0, 1)


def test_the_reserve_is_kept_for_deletes(options: StoreOptions, files: FaultyFiles) -> None:
    opened = volumes.make(evolve(options, reserve_size=None))
    vault = opened.vault("alice", create=True)
    files.space = (10**9, 10**10)
    assert vault.free_size == 10**9 - 2 * 10**8
    put(vault, 0, 1)
    files.space = ((64 << 20) + SIZE - 1, 1 << 30)
    assert vault.free_size == SIZE - 1
    for size in (SIZE, 30 * SIZE):
        with pytest.raises(DiskFullError):
            stage(vault, share_key(2), size)
    files.space = (64 << 20, 1 << 30)
    with pytest.raises(DiskFullError):
        stage(vault, share_key(2), 10)
    stage(vault, share_key(2), 0)
    drop(vault, 0)
    check(vault, 1)
    opened.close()


def test_free_volumes_go_before_a_share_is_refused(
    vault: VaultStore, folder: Path, files: FaultyFiles
) -> None:
    put(vault, 0, 1, 2, 3)
    drop(vault, 0, 1, 2)
    files.space = (SIZE - 1, 1 << 30)
    assert len(sizes(folder)) == 2
    with pytest.raises(DiskFullError):
        put(vault, 4)
    assert sizes(folder) == {"00000001.vol": HEADER_SIZE + SIZE}
    check(vault, 3)


def test_a_free_volume_makes_room_for_a_share(
    vault: VaultStore, folder: Path, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(vault, 0, 1, 2, 3)
    drop(vault, 0, 1, 2)
    files.space = (SIZE - 1, 1 << 30)
    remove = files.remove

    def gain(path: str) -> None:
        remove(path)
        files.space = (SIZE, 1 << 30)

    monkeypatch.setattr(files, "remove", gain)
    put(vault, 4)
    assert sizes(folder) == {"00000001.vol": HEADER_SIZE + 2 * SIZE}
    check(vault, 3, 4)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_vault_that_could_not_be_made_can_be_made_later(
    store: Store, files: FaultyFiles, code: int
) -> None:
    files.fail("sync_folder", code, name="alice")
    with pytest.raises(DiskFullError if code == errno.ENOSPC else StoreError):
        store.vault("alice", create=True)
    put(store.vault("alice", create=True), 0)


def test_a_disk_that_does_not_tell_its_space_ends_writing(
    vault: VaultStore, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(vault, 0)

    def refuse(path: str) -> tuple[int, int]:
        raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(files, "free_size", refuse)
    with pytest.raises(StoreError):
        stage(vault, share_key(1))
    refused(vault, 0)


def test_a_full_database_undoes_the_transaction_and_no_more(vault: VaultStore) -> None:
    put(vault, 0)
    assert isinstance(vault, RowsVault)
    pages = vault._writer.execute("PRAGMA page_count").fetchone()[0]
    vault._writer.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(DiskFullError):
        put(vault, *range(1, 500), size=60)
    vault._writer.execute("PRAGMA max_page_count = 1000000").fetchall()
    assert vault.read_only_reason is None
    put(vault, 1)
    check(vault, 0, 1)


def test_a_vault_without_room_can_still_be_opened(
    vault: VaultStore, options: StoreOptions, store: Store, files: FaultyFiles
) -> None:
    put(vault, 0)
    store.close()

    files.space = (0, 1 << 30)
    opened = volumes.make(options)
    again = opened.vault("alice", create=False)
    check(again, 0)
    assert again.free_size == 0
    with pytest.raises(DiskFullError):
        stage(again, share_key(1), SIZE)
    drop(again, 0)
    check(again)
    opened.close()
