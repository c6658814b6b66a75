"""The real clocks, entropy and file system."""

import errno
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dfs.core import env
from dfs.core.errors import BusyError
from dfs.core.interface import Env, File, Files


@pytest.fixture
def files() -> env.RealFiles:
    return env.RealFiles()


@pytest.fixture
def file(tmp_path: Path, files: env.RealFiles) -> File:
    return files.open(str(tmp_path / "file"), create=True)


def content(file: File) -> bytes:
    target = bytearray(file.size())
    assert file.read_into(memoryview(target), 0) == len(target)
    return bytes(target)


def test_they_are_what_the_seams_ask_for(file: File) -> None:
    real_env: Env = env.RealEnv()
    real_files: Files = env.RealFiles()
    assert real_env.monotonic_s() <= real_env.monotonic_s()
    assert real_env.wall_s() > 1_700_000_000
    assert len(real_env.random_bytes(16)) == 16
    assert real_env.random_bytes(16) != real_env.random_bytes(16)
    assert real_files.names("/nowhere/at/all") == ()
    file.close()


def test_a_file_is_read_and_written_anywhere(file: File) -> None:
    assert file.size() == 0
    file.write((b"hello ", bytearray(b""), memoryview(b"-world-")[1:-1]), 3)
    assert content(file) == b"\0\0\0hello world"
    file.write((b"HELL",), 3)
    target = bytearray(b"..........")
    assert file.read_into(memoryview(target)[1:-1], 3) == 8
    assert target == b".HELLo wo."
    assert file.read_into(memoryview(target), 10) == 4
    assert file.read_into(memoryview(target), 14) == 0
    assert file.read_into(memoryview(b"").cast("B"), 0) == 0
    file.write((), 0)
    file.truncate(4)
    file.sync()
    assert content(file) == b"\0\0\0H"
    file.close()


def test_more_buffers_than_one_call_takes(file: File) -> None:
    buffers = [bytes((number % 256,)) * (number % 5) for number in range(3 * env.BUFFER_COUNT_MAX)]
    file.write(buffers, 7)
    assert content(file)[7:] == b"".join(buffers)
    file.close()


def test_short_reads_and_writes_are_continued(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwritev, os.preadv

    def write_some(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        joined = b"".join(buffers)
        return write(descriptor, [joined[:3]], offset)

    def read_some(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        return read(descriptor, [buffers[0][:2]], offset)

    monkeypatch.setattr(os, "pwritev", write_some)
    monkeypatch.setattr(os, "preadv", read_some)
    file.write((b"ab", b"cdef", b"", b"g", b"hijklm"), 0)
    assert content(file) == b"abcdefghijklm"
    file.close()


def test_files_and_folders_are_their_owners(tmp_path: Path, files: env.RealFiles) -> None:
    path = tmp_path / "a" / "b"
    files.make_folder(str(path))
    files.make_folder(str(path))
    files.open(str(path / "file"), create=True).close()
    files.database(str(path / "rows.db"), read_only=False).close()
    files.lock(str(path / "lock"))()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o700] * 2
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()} == {0o600}
    assert files.names(str(path)) == ["file", "lock", "rows.db", "rows.db-wal"]


def test_new_folders_are_synced_into_their_parents(
    tmp_path: Path, files: env.RealFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    files.make_folder(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path), str(tmp_path / "a")]


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path, files: env.RealFiles) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_folder(str(tmp_path / "file"))


def test_files_are_made_only_when_asked_and_removed(tmp_path: Path, files: env.RealFiles) -> None:
    path = str(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        files.open(path, create=False)
    files.open(path, create=True).close()
    files.open(path, create=False).close()
    files.sync_folder(str(tmp_path))
    files.remove(path)
    files.remove(path)
    assert files.names(str(tmp_path)) == []


def test_a_closed_file_reaches_no_other(file: File) -> None:
    file.close()
    file.close()
    assert file.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read_into(memoryview(bytearray(1)), 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write((b"x",), 0)


def test_sync_reaches_the_disk(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(env, "_sync_descriptor", synced.append)
    file.sync()
    assert synced == [file.fileno()]
    file.close()


def test_writing_out_early_changes_nothing_that_can_be_read(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write((b"x" * 100_000,), 0)
    env.start_write_out(file.fileno(), 0, 50_000)
    monkeypatch.setattr(env, "_write_out_call", lambda: None)  # a platform that has no such call
    env.start_write_out(file.fileno(), 50_000, 50_000)
    assert content(file) == b"x" * 100_000
    file.close()


@pytest.mark.skipif(env._sync_calls() is None, reason="syncfs tells no errors here")
def test_a_file_system_is_synced_unless_others_have_much_to_write(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_of, _ = env._sync_calls() or pytest.fail("it was there")
    assert 0 <= env._unwritten_size() < float("inf")
    monkeypatch.setattr(env, "_unwritten_size", lambda: float(env.SYNC_SIZE_MAX))
    here = env._file_system(kind_of, file.fileno())
    assert here
    assert env.sync_file_system(file.fileno()) is (here in env.SYNCED_FILE_SYSTEMS)
    monkeypatch.setattr(env, "SYNCED_FILE_SYSTEMS", {here})
    assert env.sync_file_system(file.fileno())
    assert not env.sync_file_system(-1), "no such descriptor"
    monkeypatch.setattr(env, "SYNCED_FILE_SYSTEMS", {here + 1})
    assert not env.sync_file_system(file.fileno()), "who knows what it does there"
    monkeypatch.setattr(env, "SYNCED_FILE_SYSTEMS", {here})
    monkeypatch.setattr(env, "_unwritten_size", lambda: env.SYNC_SIZE_MAX + 1.0)
    assert not env.sync_file_system(file.fileno())
    file.close()


@pytest.mark.parametrize("release", ["5.7.19-arch1", "4.19.0", "unknown"])
def test_a_system_whose_sync_tells_no_errors_is_not_asked(
    file: File, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    told = os.uname()
    named = os.uname_result((told.sysname, told.nodename, release, told.version, told.machine))
    monkeypatch.setattr(os, "uname", lambda: named)
    assert env._sync_calls.__wrapped__() is None
    file.close()


@pytest.mark.parametrize("size", [0, 1, env.HUGE_PAGE_SIZE - 1, env.HUGE_PAGE_SIZE, 4_194_320])
@pytest.mark.parametrize("missing", [False, True])
def test_a_buffer_is_zero_and_can_be_written(
    size: int, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing and hasattr(mmap, "MADV_HUGEPAGE"):
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    first, second = env.allocate_buffer(size), env.allocate_buffer(size)
    assert (len(first), first.itemsize, first.contiguous, first.readonly) == (size, 1, True, False)
    assert first == bytes(size)
    first[:] = b"x" * size
    assert second == bytes(size), "each has its own"


def test_allocated_space_reads_as_zeros(file: File) -> None:
    file.write((b"abc",), 0)
    file.allocate(1, 10_000)
    assert content(file) == b"abc" + bytes(9_998)
    file.close()


def test_without_allocation_a_file_only_grows(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    file.write((b"abc",), 0)
    file.allocate(0, 2)
    assert content(file) == b"abc"
    file.allocate(1, 10)
    assert content(file) == b"abc" + bytes(8)
    file.close()


def test_a_file_system_that_cannot_allocate_only_grows(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    file.allocate(0, 100)
    assert content(file) == bytes(100)
    file.close()


def test_a_full_disk_is_told(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="full"):
        file.allocate(0, 100)
    file.close()


def test_a_hole_gives_space_back(tmp_path: Path, file: File) -> None:
    file.write((b"x" * 100_000,), 0)
    file.sync()
    before = (tmp_path / "file").stat().st_blocks
    if not file.punch(10_000, 80_000):
        pytest.skip("this file system has no holes")
    assert content(file) == b"x" * 10_000 + bytes(80_000) + b"x" * 10_000
    assert (tmp_path / "file").stat().st_blocks < before
    file.close()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_there_are_no_holes_it_is_said(file: File, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(code: int) -> Callable[[int, int, int], int]:
        return lambda *_: code

    monkeypatch.setattr(env, "_punch_call", lambda: refuse(code))
    assert file.punch(0, 10) is False
    monkeypatch.setattr(env, "_punch_call", lambda: None)
    assert file.punch(0, 10) is False
    monkeypatch.setattr(env, "_punch_call", lambda: refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        file.punch(0, 10)
    file.close()


def test_a_lock_is_for_one_holder(tmp_path: Path, files: env.RealFiles) -> None:
    path = str(tmp_path / "lock")
    release = files.lock(path)
    with pytest.raises(BusyError, match="locked"):
        files.lock(path)
    release()
    release()
    files.lock(path)()


def test_a_lock_dies_with_its_process(tmp_path: Path, files: env.RealFiles) -> None:
    path = str(tmp_path / "lock")
    script = (
        "import sys; from dfs.core.env import RealFiles\n"
        "RealFiles().lock(sys.argv[1]); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(BusyError):
            files.lock(path)
        process.kill()
        process.wait()
        files.lock(path)()


def test_a_lock_that_cannot_be_tried_is_no_busy_one(
    tmp_path: Path, files: env.RealFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="no locks here"):
        files.lock(str(tmp_path / "lock"))


def test_a_folder_that_cannot_be_synced_opens_no_database(
    tmp_path: Path, files: env.RealFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite passes over the failed sync of a folder in which it made its log; found by a sweep of errors."""
    path = tmp_path / "rows.db"
    connection = files.database(str(path), read_only=False)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert not path.with_name("rows.db-wal").exists()

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "not synced")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="not synced"):
        files.database(str(path), read_only=False)


def test_a_database_commits_each_statement_and_knows_read_only(tmp_path: Path, files: env.RealFiles) -> None:
    import sqlite3
    import threading

    path = str(tmp_path / "rows ?#%.db")
    writer = files.database(path, read_only=False)
    writer.execute("CREATE TABLE t (x)")
    inserted = threading.Thread(target=writer.execute, args=("INSERT INTO t VALUES (1)",))
    inserted.start()
    inserted.join()
    assert not writer.in_transaction
    reader = files.database(path, read_only=True)
    assert reader.execute("SELECT x FROM t").fetchall() == [(1,)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO t VALUES (2)")
    writer.close()
    reader.close()
    with pytest.raises(sqlite3.OperationalError):
        files.database(str(tmp_path / "absent.db"), read_only=True)


def test_free_space_is_told(tmp_path: Path, files: env.RealFiles) -> None:
    free_size, disk_size = files.free_size(str(tmp_path))
    assert 0 < free_size <= disk_size


def test_importing_it_is_cheap() -> None:
    script = (
        "import sys; import dfs.core.env\n"
        "print([name for name in ('sqlite3', 'ctypes', 'fcntl', 'urllib') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.stdout == b"[]\n"


# --- The process --------------------------------------------------------------------------------------------


def in_a_process(program: str) -> str:
    """Run it alone: what a process gives up it cannot have back."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True
    ).stdout.strip()


def test_no_core_file_is_left() -> None:
    told = in_a_process(
        "import ctypes, resource; from dfs.core.env import leave_no_core; leave_no_core()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    assert told == "0 0"


def test_descriptors_are_allowed_as_far_as_the_system_lets_us() -> None:
    told = in_a_process(
        "import resource; from dfs.core.env import allow_descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))\n"
        "print(*map(allow_descriptors, (50, 100, 1000)), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    assert told == "50 100 200 200"
