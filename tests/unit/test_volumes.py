"""The store `volumes`: its directory and its volume files while all goes well."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from dfs.core.api import (
    BusyError,
    ConfigError,
    CorruptShareError,
    InvariantError,
    NotInitialisedError,
    Store,
    StoreError,
    StoreOptions,
    VaultStore,
)
from dfs.core.env import RealFile
from dfs.plugins import volumes
from dfs.plugins.volumes import files as volume_files
from dfs.plugins.volumes.rows import Rows
from dfs.plugins.volumes.vault import RowsVault
from dfs.testing.stores import FaultyFiles, body_of, share_key, stage
from tests.unit.volumes_kit import (
    HEADER_SIZE,
    SIZE,
    VOLUME_SIZE,
    check,
    drop,
    generation,
    make_files as make_files,
    make_options as make_options,
    make_vault as make_vault,
    name_folder as name_folder,
    open_store as open_store,
    put,
    sizes,
)

# --- The directory ---


def test_a_directory_is_for_one_process(store: Store, options: StoreOptions) -> None:
    with pytest.raises(BusyError):
        volumes.make(options)
    store.close()
    volumes.make(options).close()


def test_a_foreign_directory_is_left_alone(tmp_path: Path, options: StoreOptions) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "thesis.txt").write_text("mine")
    with pytest.raises(NotInitialisedError, match="holds something that is not a dfs node's"):
        volumes.make(options)
    assert os.listdir(tmp_path / "node") == ["thesis.txt"]


def test_a_fresh_file_system_is_no_foreign_directory(tmp_path: Path, options: StoreOptions) -> None:
    (tmp_path / "node" / "lost+found").mkdir(parents=True)
    opened = volumes.make(options)
    assert opened.users() == []
    opened.close()


def test_the_directory_names_its_store(options: StoreOptions, store: Store) -> None:
    path = Path(options.directory) / ".node" / "format"
    assert path.read_bytes() == b"volumes@1\n"
    store.close()
    path.write_bytes(b"volumes@2\n")
    with pytest.raises(ConfigError, match="volumes@2"):
        volumes.make(options)
    for torn in (b"volu", b"\0\0\0\0mes@1\n"):  # by a crash at the very first start
        path.write_bytes(torn)
        volumes.make(options).close()
        assert path.read_bytes() == b"volumes@1\n"


def test_a_file_is_no_directory(options: StoreOptions) -> None:
    Path(options.directory).write_text("")
    with pytest.raises(StoreError):
        volumes.make(options)


@pytest.mark.parametrize("text", ["65535", "0", "-1", "1e6", "", "256 MiB", "9" * 14])
def test_a_bad_volume_size_is_refused(options: StoreOptions, text: str) -> None:
    with pytest.raises(ConfigError, match="volume_size"):
        volumes.make(evolve(options, values={"volume_size": text}))


def test_folders_are_safe_names_for_their_owner_only(options: StoreOptions, store: Store) -> None:
    for user in ("alice", "a.b_c-1", "Alice", "../alice", "a" * 64, "a" * 65):
        put(store.vault(user, create=True), 1, 2, 3, 4)
    names = set(os.listdir(options.directory)) - {".node"}
    hashed = {name for name in names if name.startswith("=")}
    assert names - hashed == {"alice", "a.b_c-1", "a" * 64}
    assert len(hashed) == 3
    assert all(len(name) == 33 for name in hashed)
    for parent, folders, inside in os.walk(options.directory):
        assert all(stat.S_IMODE(os.stat(f"{parent}/{name}").st_mode) == 0o700 for name in folders)
        assert all(stat.S_IMODE(os.stat(f"{parent}/{name}").st_mode) == 0o600 for name in inside)


def test_a_broken_vault_hides_no_other(options: StoreOptions, store: Store) -> None:
    for user in ("alice", "bob", "Carol", "Dave"):
        store.vault(user, create=True)
    store.close()
    opened = volumes.make(options)
    hashed = [path for path in Path(options.directory).iterdir() if path.name.startswith("=")]
    for path in (Path(options.directory) / "alice", min(hashed)):
        (path / "vault.db").write_bytes(b"not a database" * 1000)
    (Path(options.directory) / "note.txt").write_text("not a vault")
    (Path(options.directory) / "unfinished").mkdir()
    (Path(options.directory) / "unfinished" / "vault.db").touch()
    users = opened.users()
    assert {"alice", "bob"} < set(users)
    assert len(users) == 3
    with pytest.raises(StoreError):
        opened.vault("alice", create=True)
    with pytest.raises(NotInitialisedError):
        opened.vault("unfinished", create=False)
    assert opened.vault("unfinished", create=True).used_size == 0
    opened.close()


def test_a_folder_belongs_to_one_user(options: StoreOptions, store: Store) -> None:
    store.vault("alice", create=True)
    store.close()
    shutil.move(Path(options.directory) / "alice", Path(options.directory) / "bob")
    opened = volumes.make(options)
    with pytest.raises(StoreError, match="belongs to user 'alice'"):
        opened.vault("bob", create=True)
    opened.close()


def test_a_newer_vault_is_refused(options: StoreOptions, store: Store) -> None:
    store.vault("alice", create=True)
    store.close()
    with sqlite3.connect(Path(options.directory) / "alice" / "vault.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    opened = volumes.make(options)
    with pytest.raises(StoreError, match="format 2"):
        opened.vault("alice", create=True)
    opened.close()


# --- Volume files ---


def test_small_shares_need_no_volume(vault: VaultStore, folder: Path) -> None:
    put(vault, 1, 2, size=64)
    assert sizes(folder) == {}
    put(vault, 3, size=65)
    assert sizes(folder) == {"00000000.vol": HEADER_SIZE + 65}


def test_a_volume_is_appended_to_until_it_is_full(
    vault: VaultStore, folder: Path, files: FaultyFiles
) -> None:
    put(vault, *range(7))
    full = HEADER_SIZE + 3 * SIZE
    assert sizes(folder) == {"00000000.vol": full, "00000001.vol": full, "00000002.vol": HEADER_SIZE + SIZE}
    check(vault, *range(7))
    written = files.told("write")
    assert len(set(written)) == len(written) == 7 + 3 + 1  # shares, headers, the format file; nothing twice


def test_a_volume_takes_one_share_however_large(vault: VaultStore, folder: Path) -> None:
    put(vault, 1, size=3 * VOLUME_SIZE)
    put(vault, 2, size=3 * VOLUME_SIZE)
    assert list(sizes(folder).values()) == [HEADER_SIZE + 3 * VOLUME_SIZE] * 2
    check(vault, 1, 2, size=3 * VOLUME_SIZE)


def test_space_is_taken_in_advance_only_for_a_stream(
    vault: VaultStore, folder: Path, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_files, "ALLOCATE_STEP", 30_000)
    put(vault, 0, 1)
    assert files.told("allocate") == []
    put(vault, 2)
    start = HEADER_SIZE + 2 * SIZE
    assert files.told("allocate") == [("00000000.vol", start, VOLUME_SIZE - start)]
    assert sizes(folder) == {"00000000.vol": VOLUME_SIZE}
    put(vault, 3)
    assert sizes(folder)["00000000.vol"] == HEADER_SIZE + 3 * SIZE, "a sealed volume is cut to its end"
    check(vault, 0, 1, 2, 3)


def test_closing_gives_the_preallocation_back(
    options: StoreOptions, store: Store, vault: VaultStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_files, "ALLOCATE_STEP", 10_000)
    put(vault, 0, size=15_000)
    put(vault, 1, size=1_000)
    assert sizes(folder) == {"00000000.vol": HEADER_SIZE + 25_000}
    store.close()
    assert sizes(folder) == {"00000000.vol": HEADER_SIZE + 16_000}
    opened = volumes.make(options)
    opened.vault("alice", create=False).verify(share_key(1))
    opened.close()


def test_dead_space_is_punched_once_the_volume_is_sealed(vault: VaultStore, files: FaultyFiles) -> None:
    put(vault, 0, 1)
    drop(vault, 0)
    assert files.told("punch") == []
    put(vault, 2, 3)
    assert files.told("punch") == [("00000000.vol", HEADER_SIZE, SIZE)]
    drop(vault, 2)
    assert files.told("punch")[1:] == [("00000000.vol", HEADER_SIZE + 2 * SIZE, SIZE)]
    check(vault, 1, 3)


def test_nothing_is_punched_under_an_open_slice(vault: VaultStore, files: FaultyFiles) -> None:
    put(vault, 0, 1, 2, 3)
    first, second = vault.share(share_key(0)), vault.share(share_key(0))
    drop(vault, 0, 1)
    assert files.told("punch") == [("00000000.vol", HEADER_SIZE + SIZE, SIZE)]
    first.close()
    first.close()
    assert len(files.told("punch")) == 1
    body = bytearray(SIZE)
    second.read_into(memoryview(body), 0)
    assert body == body_of(share_key(0), SIZE)
    second.close()
    assert files.told("punch")[1:] == [("00000000.vol", HEADER_SIZE, SIZE)]
    check(vault, 2, 3)


def test_without_holes_the_space_waits_for_the_volume(
    vault: VaultStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    punched = []

    def refuse(_: RealFile, offset: int, size: int) -> bool:
        punched.append((offset, size))
        return False

    monkeypatch.setattr(RealFile, "punch", refuse)
    put(vault, 0, 1, 2, 3)
    drop(vault, 0, 1)
    assert len(punched) == 1, "a file system without holes is asked once"
    drop(vault, 2)
    put(vault, 4, 5, 6)
    assert sorted(sizes(folder)) == ["00000000.vol", "00000001.vol"]
    assert generation(folder / "00000000.vol") == 2
    check(vault, 3, 4, 5, 6)


def test_an_empty_volume_is_used_again_under_a_new_generation(vault: VaultStore, folder: Path) -> None:
    put(vault, 0, 1, 2, 3)
    assert generation(folder / "00000000.vol") == 1
    drop(vault, 0, 1, 2)
    put(vault, 4, 5, 6, 7)
    assert generation(folder / "00000000.vol") == 2
    assert sorted(sizes(folder)) == ["00000000.vol", "00000001.vol"]
    check(vault, 3, 4, 5, 6, 7)


def test_the_active_volume_too_is_freed_when_empty(vault: VaultStore, folder: Path) -> None:
    put(vault, 0)
    drop(vault, 0)
    put(vault, 1)
    assert sorted(sizes(folder)) == ["00000000.vol"]
    assert generation(folder / "00000000.vol") == 2
    check(vault, 1)


def test_an_empty_volume_waits_for_slices_and_staged_shares(vault: VaultStore, folder: Path) -> None:
    put(vault, 0, 1)
    staged = stage(vault, share_key(2), SIZE)
    share = vault.share(share_key(0))
    drop(vault, 0, 1)
    put(vault, 3, 4, 5, 6)
    vault.transact(lambda transaction: transaction.keep([staged]))
    share.close()
    assert generation(folder / "00000000.vol") == 1
    check(vault, 2, 3, 4, 5, 6)


def test_an_empty_volume_waits_for_an_open_slice(vault: VaultStore, folder: Path) -> None:
    put(vault, 0)
    share = vault.share(share_key(0))
    drop(vault, 0)
    put(vault, 1)
    body = bytearray(SIZE)
    share.read_into(memoryview(body), 0)
    assert body == body_of(share_key(0), SIZE)
    share.close()
    drop(vault, 1)
    put(vault, 2)
    assert generation(folder / "00000000.vol") == 2
    check(vault, 2)


def test_a_share_is_opened_before_a_commit_can_take_its_bytes(
    vault: VaultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading a row and opening its slice no commit may give the bytes back: one lock covers both."""
    put(vault, 0)
    assert isinstance(vault, RowsVault)
    lock, view = vault._bodies.lock, vault.read
    seen = []

    def watched(work: Callable[[Rows], object]) -> object:
        seen.append(lock.locked())
        return view(work)

    monkeypatch.setattr(vault, "read", watched)
    vault.share(share_key(0)).close()
    assert seen == [True]
    assert not lock.locked()


def test_a_volume_stays_open_until_it_is_synced(
    vault: VaultStore, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor opened after a failed write would not be told of it."""
    monkeypatch.setattr(volume_files, "IDLE_FILE_COUNT_MAX", 0)
    staged = [stage(vault, share_key(number), SIZE) for number in range(7)]
    vault.transact(lambda transaction: transaction.keep(staged))
    opened = [name for name, _, _ in files.told("open") if name.endswith(".vol")]
    assert opened == ["00000000.vol", "00000001.vol", "00000002.vol"]
    check(vault, *range(7))


def test_a_new_vault_is_durable_under_its_name(vault: VaultStore, files: FaultyFiles) -> None:
    assert vault.used_size == 0
    assert ("alice", 0, 0) in files.told("sync_folder")


def test_rows_are_synced_at_each_commit_and_folded_by_hand(vault: VaultStore) -> None:
    assert isinstance(vault, RowsVault)
    pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint")
    found = [vault._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == ["wal", 2, 0]  # 2 is FULL


def test_at_most_two_empty_volumes_are_kept(vault: VaultStore, folder: Path) -> None:
    put(vault, *range(13))
    drop(vault, *range(12))
    assert sorted(sizes(folder)) == ["00000000.vol", "00000001.vol", "00000004.vol"]
    check(vault, 12)
    put(vault, *range(20, 29))
    assert len(sizes(folder)) == 4
    check(vault, 12, *range(20, 29))


def test_never_kept_shares_hold_no_volume(vault: VaultStore, folder: Path) -> None:
    for number in range(20):
        stage(vault, share_key(number), SIZE)
    assert len(sizes(folder)) <= 2
    put(vault, 0)
    check(vault, 0)


def test_a_staged_share_of_another_vault_is_refused(store: Store, vault: VaultStore) -> None:
    put(vault, 7)
    staged = stage(store.vault("bob", create=True), share_key(1), SIZE)
    with pytest.raises(InvariantError):
        vault.transact(lambda transaction: transaction.keep([staged]))
    check(vault, 7)


def test_few_files_are_open_at_once(vault: VaultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_files, "IDLE_FILE_COUNT_MAX", 2)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    put(vault, *range(30))
    check(vault, *range(30))
    slices = [vault.share(share_key(number)) for number in range(0, 30, 3)]
    for number, share in zip(range(0, 30, 3), slices, strict=True):
        body = bytearray(SIZE)
        share.read_into(memoryview(body), 0)
        assert body == body_of(share_key(number), SIZE)
        share.close()
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 5


def test_a_slice_names_its_place_for_sendfile(vault: VaultStore, folder: Path) -> None:
    put(vault, 0, 1)
    share = vault.share(share_key(1))
    assert share.file_range is not None
    descriptor, offset = share.file_range
    assert offset == HEADER_SIZE + SIZE
    assert os.pread(descriptor, SIZE, offset) == body_of(share_key(1), SIZE)
    share.close()


def test_an_open_slice_outlives_the_store(store: Store, vault: VaultStore) -> None:
    put(vault, 0)
    share = vault.share(share_key(0))
    store.close()
    body = bytearray(SIZE)
    share.read_into(memoryview(body), 0)
    assert body == body_of(share_key(0), SIZE)
    share.close()
    with pytest.raises(CorruptShareError):
        share.read_into(memoryview(body), 0)
