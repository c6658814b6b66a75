"""The simulated disk: what it keeps, what it may lose, and when it fails."""

import errno
import random
import sqlite3

import pytest

from dfs.testing.simulation.disk import Disk, PowerCut

PATH = "/node/file"


def content(disk: Disk, path: str = PATH) -> bytes:
    file = disk.open(path, create=False)
    body = bytearray(file.size())
    assert file.read_into(memoryview(body), 0) == len(body)
    return bytes(body)


def made(seed: int = 0) -> Disk:
    """A disk with a file of 100 synced bytes."""
    disk = Disk(random.Random(seed))
    file = disk.open(PATH, create=True)
    file.write((b"s" * 50, b"s" * 50), 0)
    file.sync()
    disk.sync_folder("/node")
    return disk


def after_crashes(seeds: int = 60) -> set[bytes]:
    """What a crash may leave of a second write that was not synced."""
    left = set()
    for seed in range(seeds):
        disk = made(seed)
        disk.open(PATH, create=False).write((b"n" * 40,), 80)
        assert content(disk) == b"s" * 80 + b"n" * 40
        disk.crash()
        left.add(content(disk))
    return left


def test_what_was_synced_stays() -> None:
    assert all(body[:80] == b"s" * 80 for body in after_crashes())


def test_what_was_not_may_be_there_lost_or_torn() -> None:
    left = after_crashes()
    assert {b"s" * 100, b"s" * 80 + b"n" * 40} <= left
    assert len(left) > 5


def test_changes_need_not_keep_their_order() -> None:
    left = set()
    for seed in range(40):
        disk = made(seed)
        file = disk.open(PATH, create=False)
        file.write((b"1",), 0)
        file.write((b"2",), 1)
        disk.crash()
        left.add(content(disk)[:2])
    assert left == {b"ss", b"1s", b"s2", b"12"}


def test_a_name_lasts_once_its_folder_was_synced() -> None:
    kept = set()
    for seed in range(20):
        disk = made(seed)
        disk.open("/node/other", create=True).sync()
        disk.crash()
        kept.add("other" in disk.names("/node"))
        assert "file" in disk.names("/node")
    assert kept == {True, False}


def test_a_removed_name_may_be_back() -> None:
    back = set()
    for seed in range(20):
        disk = made(seed)
        disk.remove(PATH)
        disk.crash()
        back.add(tuple(disk.names("/node")))
    assert back == {("file",), ()}


def test_a_failed_sync_is_not_made_up_for_by_the_next() -> None:
    left = set()
    for seed in range(40):
        disk = made(seed)
        file = disk.open(PATH, create=False)
        file.write((b"n" * 10,), 0)
        disk.armed["sync"] = errno.EIO
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
        assert content(disk)[:10] == b"n" * 10  # it can still be read
        file.sync()
        disk.crash()
        left.add(content(disk)[:10])
    assert b"s" * 10 in left


def test_truncated_and_punched_bytes_read_as_zeros() -> None:
    disk = made()
    file = disk.open(PATH, create=False)
    assert file.punch(10, 20)
    file.truncate(40)
    file.allocate(40, 10)
    file.sync()
    disk.crash()
    assert content(disk) == b"s" * 10 + bytes(20) + b"s" * 10 + bytes(10)


def test_when_the_power_fails_the_door_is_shut() -> None:
    disk = made()
    file = disk.open(PATH, create=False)
    disk.cut_after = 1
    file.read_into(memoryview(bytearray(1)), 0)
    with pytest.raises(PowerCut):
        file.sync()
    with pytest.raises(PowerCut):
        file.write((b"late",), 0)
    disk.crash()
    assert content(disk) == b"s" * 100


def test_a_full_disk_writes_a_part_and_says_so() -> None:
    disk = made()
    disk.space = 0
    assert disk.free_size("/node")[0] == 0
    file = disk.open(PATH, create=False)
    with pytest.raises(OSError, match="No space") as caught:
        file.write((b"n" * 100,), 100)
    assert caught.value.errno == errno.ENOSPC
    assert content(disk).startswith(b"s" * 100)
    with pytest.raises(OSError, match="No space"):
        disk.open("/node/new", create=True)


# --- Databases ---


def rows(disk: Disk) -> list[int]:
    return [number for (number,) in disk.database("/node/db", read_only=True).execute("SELECT * FROM t")]


def begun(disk: Disk, number: int) -> sqlite3.Connection:
    database = disk.database("/node/db", read_only=False)
    database.execute("CREATE TABLE IF NOT EXISTS t (number)")
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO t VALUES (?)", (number,))
    return database


def test_a_crash_leaves_what_was_committed() -> None:
    disk = made()
    begun(disk, 1).execute("COMMIT")
    begun(disk, 2).close()
    disk.crash()
    assert rows(disk) == [1]


def test_a_power_cut_falls_before_or_after_a_commit() -> None:
    for after, left in ((0, []), (1, [1])):
        disk = made()
        database = begun(disk, 1)
        disk.cut_after = after
        with pytest.raises(PowerCut):
            database.execute("COMMIT")
        disk.crash()
        assert rows(disk) == left


def test_a_failed_commit_is_undone_but_may_be_found_after_a_restart() -> None:
    found = set()
    for seed in range(20):
        disk = made(seed)
        begun(disk, 1).execute("COMMIT")
        disk.armed["commit"] = errno.EIO
        database = begun(disk, 2)
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as caught:
            database.execute("COMMIT")
        assert caught.value.sqlite_errorcode == sqlite3.SQLITE_IOERR
        assert rows(disk) == [1]
        disk.crash()
        found.add(tuple(rows(disk)))
    assert found == {(1,), (1, 2)}


def test_a_full_disk_refuses_a_commit_and_keeps_what_was() -> None:
    disk = made()
    begun(disk, 1).execute("COMMIT")
    database = begun(disk, 2)
    disk.space = 0
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("COMMIT")
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    assert rows(disk) == [1]


def test_a_copy_brings_everything_back_and_none_is_an_empty_disk() -> None:
    disk = made()
    begun(disk, 1).execute("COMMIT")
    image = disk.image()
    disk.open(PATH, create=False).write((b"n",), 0)
    begun(disk, 2).execute("COMMIT")
    disk.restore(image)
    assert (content(disk), rows(disk)) == (b"s" * 100, [1])
    disk.restore(None)
    assert disk.names("/node") == []
