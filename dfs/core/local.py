"""Local files: what PUT reads, what GET writes, and trees of both.

A file that arrives is written to a temporary name beside its place and renamed when all of it is verified;
links are never followed while writing.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from dfs.core import limits
from dfs.core.env import start_write_out, sync_file_system
from dfs.core.errors import ConfigError, ConflictError, DfsError, NotFoundError
from dfs.core.interface import Buffer
from dfs.core.paths import printable
from dfs.core.types import Entry

CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)  # Windows has none
PART_FLAGS: Final = os.O_RDWR | os.O_CREAT | CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
WRITE_OUT_SIZE_MIN: Final = limits.MIB  # less is on its way to the disk as soon in the sync at the end
SETTLE_COUNT_MIN: Final = 8  # files that one sync of their file system is better for than one each
LINKLESS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP})  # file systems without links


class LocalError(ConfigError):
    """A local file cannot be read or written."""

    next_default = "Check the path and its rights, then run it again."


class FileContent:
    """A regular file to store; opened when first read, so that thousands can be listed first."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise NotFoundError(
                f"{printable(path)}: File does not exist.", next_step="Check the name."
            ) from None
        except OSError as error:
            raise LocalError(f"{printable(path)}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise LocalError(f"{printable(path)}: not a regular file", next_step="Use -r for folders.")
        if not os.access(path, os.R_OK):
            raise LocalError(f"{printable(path)}: Permission denied")
        self.size: int | None = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.mode = stat.S_IMODE(status.st_mode)
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def _opened(self) -> int:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | CLOEXEC)
            return self._descriptor

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill ``target`` from ``offset``, less only at the end of the file."""
        filled = 0
        try:
            descriptor = self._opened()
            while filled < len(target):
                count = os.preadv(descriptor, [target[filled:]], offset + filled)
                if not count:
                    break
                filled += count
        except OSError as error:
            raise LocalError(f"{printable(self.path)}: {error.strerror}") from None
        if self.size is not None and offset + filled >= self.size:
            self.close_if_small()
        return filled

    def close_if_small(self) -> None:
        """Let go of the descriptor of a file that one read has taken whole."""
        if (self.size or 0) <= limits.CHUNK_SIZE:
            self.close()

    def md5(self) -> bytes:
        """Return the MD5 of the whole file."""
        hasher = hashlib.md5(usedforsecurity=False)
        if self.size:
            with mmap.mmap(self._opened(), self.size, access=mmap.ACCESS_READ) as mapped:
                hasher.update(mapped)
        return hasher.digest()

    def close(self) -> None:
        """Close the file; twice is fine."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class BytesContent:
    """Bytes to store that are all here."""

    def __init__(self, body: Buffer, mtime_ns: int) -> None:
        self._body = memoryview(body)
        self.size: int | None = len(self._body)
        self.mtime_ns = mtime_ns
        self.mode = 0o600

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill ``target`` from ``offset``, less only at the end."""
        piece = self._body[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def md5(self) -> bytes:
        """Return the MD5 of all bytes."""
        return hashlib.md5(self._body, usedforsecurity=False).digest()


class StreamContent:
    """A pipe or any open binary stream to store, read once from front to end.

    ``begun``: what was read from it already.
    """

    def __init__(self, stream: BinaryIO, mtime_ns: int, begun: Buffer = b"") -> None:
        self._stream = stream
        self._begun = memoryview(begun)
        self.size: int | None = None
        self.mtime_ns = mtime_ns
        self.mode = 0o600

    def read_into(self, target: memoryview, _offset: int) -> int:
        """Fill ``target`` with the next bytes, less only at the end."""
        begun = self._begun[: len(target)]
        target[: len(begun)] = begun
        self._begun = self._begun[len(begun) :]
        return len(begun) + self._fill(target[len(begun) :])

    def _fill(self, target: memoryview) -> int:
        filled = 0
        try:
            while filled < len(target) and (count := self._next_into(target[filled:])):
                filled += count
        except OSError as error:
            raise LocalError(f"the stream cannot be read: {error.strerror}") from None
        return filled

    def _next_into(self, target: memoryview) -> int:
        read_into = getattr(self._stream, "readinto", None)
        if read_into is None:
            piece = self._stream.read(len(target))
            target[: len(piece)] = piece
            return len(piece)
        count: int | None = read_into(target)
        if count is None:
            raise LocalError("the stream cannot be read: it has not ended, but has nothing now")
        return count

    def md5(self) -> bytes:
        """Refuse: it can be read only once."""
        raise ConfigError("a placement by content cannot store a pipe", next_step="Store it from a file.")

    def close(self) -> None:
        """Leave the stream to its owner."""


def content_of(stream: BinaryIO, mtime_ns: int) -> BytesContent | StreamContent:
    """Return what a stream holds: as bytes if it ends soon, so that it is stored as a small file."""
    small_size = limits.SMALL_SIZE_MAX
    begun = memoryview(bytearray(small_size + 1))
    size = StreamContent(stream, mtime_ns).read_into(begun, 0)
    if size <= small_size:
        return BytesContent(begun[:size], mtime_ns)
    return StreamContent(stream, mtime_ns, begun)


class FileSink:
    """A local file on its way in: a temporary file beside its place, renamed at the end.

    ``content``: what tells it from all others that may ever come to this place. What a try leaves that was
    killed is known again by it; with ``resume`` it is gone on with, and kept when this try fails as well.
    """

    def __init__(
        self, path: str, *, clobber: bool = True, times: bool = True, content: str = "", resume: bool = False
    ) -> None:
        self.path = path
        self._clobber = clobber
        self._times = times
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            there = None
        except OSError as error:
            raise LocalError(f"{printable(path)}: {error.strerror}") from None
        if there is not None and not clobber:
            raise self._exists()
        if there is not None and not stat.S_ISREG(there.st_mode):
            raise ConflictError(
                f"{printable(path)} is in the way: not a regular file", next_step="Move it away."
            )
        folder, name = os.path.split(path)
        self._temporary = os.path.join(folder, f".{name[:40]}.{content}.part")
        descriptor = _open_part(self._temporary) if content else None
        self._keeps = resume and descriptor is not None
        if descriptor is None:
            self._temporary = os.path.join(folder, f".{name[:40]}.{os.urandom(6).hex()}.part")
        try:
            if descriptor is None:
                descriptor = os.open(self._temporary, PART_FLAGS | os.O_EXCL, 0o600)
            elif not resume:
                os.ftruncate(descriptor, 0)
        except OSError as error:
            raise LocalError(f"{printable(path)}: {error.strerror}") from None
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._using = 0  # threads that use the descriptor now
        self._turn = threading.Lock()  # the kernel writes a file in turns too, but spins meanwhile
        self._ended = False
        self._placed = False
        self.settled = False  # what was written is durable

    def write(self, offset: int, plain: memoryview) -> None:
        """Write verified bytes at their place."""
        written = 0
        self.settled = False
        with self._in_use():
            with self._turn:
                while written < len(plain):
                    written += os.pwrite(self._descriptor, plain[written:], offset + written)
            if len(plain) >= WRITE_OUT_SIZE_MIN:
                start_write_out(self._descriptor, offset, len(plain))

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read what an earlier try left at ``offset``, less than all where it left less; unverified."""
        if not self._keeps:
            return 0
        with self._in_use():
            return os.preadv(self._descriptor, [target], offset)

    def device(self) -> int:
        """Return the file system the file is on."""
        with self._in_use():
            return os.fstat(self._descriptor).st_dev

    def settle_device(self) -> bool:
        """Make all files of this file's system durable; False if it cannot be told whether they are."""
        with self._in_use():
            return sync_file_system(self._descriptor)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the descriptor open. Raises: LocalError: it is closed, or what is done with it failed."""
        with self._lock:
            if self._ended:
                raise LocalError(f"{printable(self.path)}: given up")
            self._using += 1
        try:
            yield
        except OSError as error:
            raise LocalError(f"{printable(self.path)}: {error.strerror}") from None
        finally:
            with self._lock:
                self._using -= 1
                self._close_if_unused()

    def finish(self, entry: Entry) -> None:
        """Put the file in its place, with the mode and time it was stored with."""
        try:
            if self._keeps:
                os.ftruncate(self._descriptor, entry.size)  # who left it may have left more
            self._keeps = False
            os.fchmod(self._descriptor, (entry.mode & 0o777) or 0o600)
            if self._times:
                os.utime(self._descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            if not self.settled:
                os.fsync(self._descriptor)  # else a power cut may leave the name with an empty file
            self._place()
        except OSError as error:
            raise LocalError(f"{printable(self.path)}: {error.strerror}") from None
        finally:
            self.abandon()

    def _place(self) -> None:
        if not self._clobber:
            try:
                os.link(self._temporary, self.path)  # never replaces what came there meanwhile
            except FileExistsError:
                raise self._exists() from None
            except OSError as error:
                if error.errno not in LINKLESS:
                    raise
            else:
                return
        os.replace(self._temporary, self.path)
        self._placed = True

    def _exists(self) -> ConflictError:
        return ConflictError(
            f"{printable(self.path)} exists already", next_step="Leave out --no-clobber to replace it."
        )

    def abandon(self) -> bool:
        """Leave no trace but what is finished, or kept for another try."""
        if not self._keeps and not self._placed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
        with self._lock:
            self._ended = True
            self._close_if_unused()
        return True

    def _close_if_unused(self) -> None:
        """Close once, but never under a thread that writes: the number may be another file's by then."""
        if self._ended and not self._using and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def settle(sinks: Sequence[FileSink]) -> bool:
    """Make what many files were given durable with one sync of each file system; False if some are not.

    One sync each would wait for the disk as often. `FileSink.finish` does it for those that are not.
    """
    by_device: dict[int, list[FileSink]] = {}
    for sink in sinks:
        by_device.setdefault(sink.device(), []).append(sink)
    for there in by_device.values():
        if len(there) >= SETTLE_COUNT_MIN and there[0].settle_device():
            for sink in there:
                sink.settled = True
    return all(sink.settled for sink in sinks)


def _open_part(path: str) -> int | None:
    """Open what an earlier try left, or make it; None if another process has it, or it is not ours alone.

    The lock ends with the process. Who had it may have moved the file to its place before we came.
    """
    try:
        import fcntl
    except ImportError:  # Windows, which has no such locks: every try begins anew
        return None
    try:
        descriptor = os.open(path, PART_FLAGS, 0o600)
    except OSError:  # the caller makes a file of another name, or tells why none can be made
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if ours and os.path.samestat(status, os.lstat(path)):
            return descriptor
    except OSError:  # taken, gone, or on a file system without locks
        pass
    os.close(descriptor)
    return None


class StreamSink:
    """An open binary stream, written in order: chunks must come one after the other."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def write(self, offset: int, plain: memoryview) -> None:
        """Write the next bytes."""
        if offset != self._position:
            raise DfsError("bytes for a stream came out of order")
        written = 0
        try:
            while written < len(plain):  # an unbuffered stream may take less than all
                count: int | None = self._stream.write(plain[written:])
                if count is None:
                    raise LocalError("the stream takes nothing now; it must be one that waits")
                written += count
                self._position += count
        except BrokenPipeError:  # who reads has enough
            raise
        except OSError as error:
            raise LocalError(f"the stream cannot be written: {error.strerror}") from None

    def read_into(self, _target: memoryview, _offset: int) -> int:
        """Return 0: nothing of an earlier try is here."""
        return 0

    def finish(self, _entry: Entry) -> None:
        """Flush."""
        self._stream.flush()

    def abandon(self) -> bool:
        """Nothing can be undone, but what was written was verified."""
        return self._position == 0


def excluded(relative: str, patterns: Sequence[str]) -> bool:
    """Return whether a relative path, or its name, matches a glob."""
    from fnmatch import fnmatch

    return any(fnmatch(relative, pattern) or fnmatch(Path(relative).name, pattern) for pattern in patterns)


def tree(root: str, exclude: Sequence[str] = ()) -> Iterator[tuple[str, str, bool]]:
    """Yield (local path, path relative to ``root`` with "/", is it a folder) of all files and folders below.

    Links and special files are left out with a line on stderr: their meaning would not travel.
    """
    for folder, folders, files in os.walk(root):
        folders.sort()
        base = os.path.relpath(folder, root)
        prefix = "" if base == os.curdir else base.replace(os.sep, "/") + "/"
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = [name for name in folders if name not in linked and not excluded(prefix + name, exclude)]
        for name in folders:
            yield os.path.join(folder, name), prefix + name, True
        for name in sorted([*files, *linked]):
            path = os.path.join(folder, name)
            if excluded(prefix + name, exclude):
                continue
            if not stat.S_ISREG(os.lstat(path).st_mode):
                sys.stderr.write(f"{printable(path)}: left out, not a regular file\n")
                continue
            yield path, prefix + name, False
