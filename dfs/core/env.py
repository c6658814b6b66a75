"""The real world: clocks, entropy and the file system behind `Env` and `Files`.

The only importer of `time` in core beside the sockets of transports. What only some need (sqlite3, ctypes,
fcntl, resource) is imported when it is first used, so that who merely reads a clock does not pay for it.
"""

import errno
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from dfs.core.errors import BusyError
from dfs.core.interface import Buffer, File

if TYPE_CHECKING:
    import sqlite3

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
BUFFER_COUNT_MAX: Final = 1024  # buffers of one pwritev; what Linux and POSIX guarantee in practice
PR_SET_DUMPABLE: Final = 4  # of prctl(2)
PUNCH_HOLE_KEEP_SIZE: Final = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
HUGE_PAGE_SIZE: Final = 2 << 20
SYNC_FILE_RANGE_WRITE: Final = 2  # of sync_file_range(2)
SYNC_SIZE_MAX: Final = 64 << 20  # of everybody's unwritten bytes, to sync them for the sake of ours
SYNCED_FILE_SYSTEMS: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010})  # ext, xfs, btrfs, f2fs
BUSY_TIMEOUT_S: Final = 5.0

# Where the platform has no fdatasync (macOS), fsync does at least as much.
_sync_descriptor: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class RealEnv:
    """The clocks and the entropy of this machine."""

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()

    def random_bytes(self, size: int) -> bytes:
        """``size`` bytes fit for keys."""
        return os.urandom(size)


def leave_no_core() -> None:
    """Have this process leave no core file, where the system lets it: it would hold keys and passwords.

    On Linux other processes of the same user cannot look into its memory either.
    """
    try:
        import resource
    except ImportError:  # Windows, which leaves none unless it is told to
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":  # crash handlers may ignore that limit
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_alone(descriptor: int) -> None:
    """Wait until no other process has locked a file, and have it alone until the descriptor is closed.

    Where the system has no such locks (Windows) nobody waits: of two who replace the file, the later wins.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def allow_descriptors(count: int) -> int:
    """Let this process open so many files and sockets; returns how many of them the system allows."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a bound of its own beside "unlimited"
        return soft
    return wanted


def allocate_buffer(size: int) -> memoryview:
    """Return ``size`` writable zero bytes, large ones on huge pages where the system has them.

    A bytearray touches all its pages when it is made, 4 KiB at a time and with the interpreter locked.
    """
    import mmap

    if size < HUGE_PAGE_SIZE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel that was built without them
        area.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(area)


@functools.cache
def _write_out_call() -> Callable[[int, int, int, int], int] | None:
    """Return Linux's ``sync_file_range(descriptor, offset, size, flags)``, None elsewhere."""
    import ctypes

    call: Callable[[int, int, int, int], int] | None = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]  # type: ignore[attr-defined]
    return call


def start_write_out(descriptor: int, offset: int, size: int) -> None:
    """Have the kernel begin to put a range on disk, so that a later sync has less to wait for.

    Nothing is promised by it: a failure shows in that sync.
    """
    call = _write_out_call()
    if call is not None:
        call(descriptor, offset, size, SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_calls() -> tuple[Callable[..., int], Callable[[int], int]] | None:
    """Return Linux's ``fstatfs`` and its ``syncfs``, which tells since 5.8 what could not be written."""
    import ctypes
    import re

    version = re.match(r"(\d+)\.(\d+)", os.uname().release) if sys.platform == "linux" else None
    if version is None or (int(version[1]), int(version[2])) < (5, 8):
        return None
    libc = ctypes.CDLL(None)
    kind, sync = getattr(libc, "fstatfs", None), getattr(libc, "syncfs", None)
    return None if kind is None or sync is None else (kind, sync)


def sync_file_system(descriptor: int) -> bool:
    """Make all that was written to a file's file system durable; False if that is not known to have worked.

    Others' bytes too, so while there are many of those nothing is done. Nor is it on file systems of which
    syncfs(2) may not reach the disk (FUSE does not pass it on) or not tell its errors (overlays).
    """
    calls = _sync_calls()
    if calls is None or _unwritten_size() > SYNC_SIZE_MAX:
        return False
    kind_of, sync = calls
    return _file_system(kind_of, descriptor) in SYNCED_FILE_SYSTEMS and sync(descriptor) == 0


def _file_system(kind_of: Callable[..., int], descriptor: int) -> int:
    """Return the magic number of a file's file system, the first word of a ``struct statfs``; 0: unknown."""
    import ctypes

    told = (ctypes.c_ulong * 32)()  # more than any architecture's
    return int(told[0]) if kind_of(descriptor, told) == 0 else 0


def _unwritten_size() -> float:
    """Return how many bytes this machine has yet to write to its disks."""
    try:
        with open("/proc/meminfo", "rb") as file:
            told = file.read()
        return 1024.0 * int(told.partition(b"\nDirty:")[2].split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return float("inf")


@functools.cache
def _punch_call() -> Callable[[int, int, int], int] | None:
    """Return ``punch(descriptor, offset, size) -> errno``, or None where libc has no fallocate."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is None:
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    call.restype = ctypes.c_int

    def punch(descriptor: int, offset: int, size: int) -> int:
        return 0 if call(descriptor, PUNCH_HOLE_KEEP_SIZE, offset, size) == 0 else ctypes.get_errno()

    return punch


class RealFile:
    """A file behind a descriptor; every call is a system call, nothing is buffered here."""

    def __init__(self, path: str, *, create: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._descriptor = os.open(path, flags, FILE_MODE)

    def fileno(self) -> int:
        """The descriptor; -1 once closed, so that a late user cannot reach a file that took the number."""
        return self._descriptor

    def size(self) -> int:
        """Current length."""
        return os.fstat(self._descriptor).st_size

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read until the target is full or the file ends; returns the bytes read."""
        filled = 0
        while filled < len(target):
            count = os.preadv(self._descriptor, [target[filled:]], offset + filled)
            if count == 0:
                break
            filled += count
        return filled

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all bytes of all buffers one after the other; a short write is continued."""
        rest = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while rest:
            count = os.pwritev(self._descriptor, rest[:BUFFER_COUNT_MAX], offset)
            offset += count
            written = 0
            while written < len(rest) and count >= len(rest[written]):
                count -= len(rest[written])
                written += 1
            rest = rest[written:]
            if count:
                rest[0] = rest[0][count:]

    def allocate(self, offset: int, size: int) -> None:
        """Reserve space that reads as zeros; where the platform cannot, only grow the file."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._descriptor, offset, size)
            except OSError as problem:
                if problem.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # ZFS says EINVAL
                    raise
        if self.size() < offset + size:
            os.ftruncate(self._descriptor, offset + size)

    def punch(self, offset: int, size: int) -> bool:
        """Give a range back to the file system; False where file system or platform cannot."""
        call = _punch_call()
        if call is None:
            return False
        problem = call(self._descriptor, offset, size)
        if problem in {errno.EOPNOTSUPP, errno.ENOSYS}:
            return False
        if problem:
            raise OSError(problem, os.strerror(problem))
        return True

    def truncate(self, size: int) -> None:
        """Cut to ``size``."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Put the data on stable storage."""
        _sync_descriptor(self._descriptor)

    def close(self) -> None:
        """Close; twice is fine."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class RealFiles:
    """The file system of this machine. OSError escapes: the store decides what it means."""

    def open(self, path: str, *, create: bool) -> File:
        """Open for reading and writing, mode 0600."""
        return RealFile(path, create=create)

    def names(self, path: str) -> Sequence[str]:
        """Names in a folder, sorted; empty if there is no such folder."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return ()

    def make_folder(self, path: str) -> None:
        """Make a folder, mode 0700, and its parents; the parent of each new one is synced."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.make_folder(parent)
        try:
            os.mkdir(path, FOLDER_MODE)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        self.sync_folder(parent)

    def remove(self, path: str) -> None:
        """Remove a file; missing is fine."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def sync_folder(self, path: str) -> None:
        """Make names in a folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_size(self, path: str) -> tuple[int, int]:
        """(free bytes for us, all bytes) of the file system of ``path``."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def lock(self, path: str) -> Callable[[], None]:
        """Take an exclusive lock that dies with the process; returns its release.

        The file stays: removing it would let two processes lock two files of one name.
        Raises: BusyError: another process has it.
        """
        import fcntl

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(f"{path} is locked by another process") from None
        except OSError:
            os.close(descriptor)
            raise
        held = [descriptor]

        def release() -> None:
            while held:
                os.close(held.pop())

        return release

    def _make_log(self, path: str) -> None:
        """Make the write-ahead log before SQLite does, which does not look whether a folder was synced."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        except FileExistsError:
            return
        self.sync_folder(os.path.dirname(path))

    def database(self, path: str, *, read_only: bool) -> "sqlite3.Connection":
        """Open an SQLite database, usable from any one thread at a time, in autocommit mode."""
        import sqlite3
        from urllib.parse import quote

        if not read_only:
            # SQLite would make it readable by the group; its WAL takes over the mode of the file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            self._make_log(path + "-wal")
        mode = "ro" if read_only else "rw"
        return sqlite3.connect(
            f"file:{quote(path)}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_S,
        )
