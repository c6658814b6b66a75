"""For tests of a store: values by number, the usual steps, and a door to the file system that can fail."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import xxhash
from attrs import define, frozen

from dfs.core.api import (
    Ballot,
    Buffer,
    Claim,
    DirectoryId,
    File,
    Files,
    Geometry,
    NameId,
    RegisterKey,
    ShareKey,
    Staged,
    StripeId,
    VaultStore,
)

if TYPE_CHECKING:
    import sqlite3

DIRECTORY = DirectoryId(b"d" * 16)


def share_key(number: int, index: int = 0) -> ShareKey:
    """A share's name; names sort by ``number``, then ``index``."""
    return ShareKey(StripeId(number.to_bytes(32, "big")), index)


def register_key(number: int, directory: DirectoryId = DIRECTORY) -> RegisterKey:
    """A register's name; names sort by ``number``."""
    return RegisterKey(directory, NameId(number.to_bytes(16, "big")))


def ballot(counter: int) -> Ballot:
    """A ballot; the higher ``counter`` wins."""
    return Ballot(counter.to_bytes(8, "big") + b"a" * 16)


def claim(number: int, share_size: int = 5) -> Claim:
    """A claim on the stripe of ``share_key(number)``, with rows of no, one and two nodes."""
    return Claim(
        share_key(number).stripe, share_size, "reed-solomon@1", Geometry(2, 3), ((0,), (1, 1023), ())
    )


def body_of(key: ShareKey, size: int) -> bytes:
    """The bytes these steps put into a share: others for each name."""
    unit = key.stripe[-4:] + bytes((key.index,))
    return (unit * (size // len(unit) + 1))[:size]


def stage(vault: VaultStore, key: ShareKey, size: int = 5) -> Staged:
    """Stage a share."""
    body = body_of(key, size)
    return vault.stage(key, xxhash.xxh3_128_digest(body), body)


def keep(vault: VaultStore, *keys: ShareKey, size: int = 5) -> None:
    """Stage shares and keep them in one transaction."""
    staged = [stage(vault, key, size) for key in keys]
    vault.transact(lambda transaction: transaction.keep(staged))


def read(vault: VaultStore, key: ShareKey) -> bytes:
    """The bytes of a share."""
    share = vault.share(key)
    try:
        body = bytearray(share.size)
        return bytes(body[: share.read_into(memoryview(body), 0)]) if body else b""
    finally:
        share.close()


def collect(vault: VaultStore, count_max: int = 1000) -> int:
    """Drop what nothing holds."""
    return vault.transact(lambda transaction: transaction.collect(count_max))


@frozen
class Event:
    """Something done to a file: open, write, allocate, punch, truncate, sync, remove, sync_folder."""

    what: str
    name: str
    offset: int = 0
    size: int = 0


@define
class Fault:
    """An error that `FaultyFiles` raises in place of doing ``what`` to ``name``, the next ``count`` times."""

    what: str
    name: str
    problem: OSError
    count: int


@frozen
class Unsynced:
    """How a write is taken back: the bytes that were there and the length the file had."""

    offset: int
    before: bytes
    size: int


class FaultyFiles:
    """A door before another: tells what was done, fails when told to, can lose what was not synced."""

    def __init__(self, files: Files) -> None:
        self.events: list[Event] = []
        self.space: tuple[int, int] | None = None  # what `free_size` says instead of the truth
        self.unsynced: dict[str, list[Unsynced]] = {}
        self._files = files
        self._faults: list[Fault] = []
        self.names, self.make_folder, self.lock = files.names, files.make_folder, files.lock

    def fail(self, what: str, code: int, *, name: str = "", count: int = 1) -> None:
        """Let the next ``count`` events of a kind raise OSError(code); ``name``: only those of that file."""
        self._faults.append(Fault(what, name, OSError(code, os.strerror(code)), count))

    def happen(self, event: Event) -> None:
        """Note an event, or raise the fault that waits for it."""
        self.events.append(event)
        for fault in self._faults:
            if fault.what == event.what and fault.name in {"", event.name} and fault.count:
                fault.count -= 1
                raise fault.problem

    def told(self, what: str) -> list[tuple[str, int, int]]:
        """Name, offset and size of each event of a kind so far."""
        return [(event.name, event.offset, event.size) for event in self.events if event.what == what]

    def cut_power(self) -> None:
        """Take back every write that was not synced. Rows are SQLite's own business: they stay."""
        for path, writes in self.unsynced.items():
            file = self._files.open(path, create=False)
            for write in reversed(writes):
                file.write((write.before,), write.offset)
                file.truncate(write.size)
            file.close()
        self.unsynced.clear()

    def open(self, path: str, *, create: bool) -> File:
        """Open for reading and writing."""
        self.happen(Event("open", os.path.basename(path)))
        return FaultyFile(self, path, self._files.open(path, create=create))

    def remove(self, path: str) -> None:
        """Remove a file."""
        self.happen(Event("remove", os.path.basename(path)))
        self.unsynced.pop(path, None)
        self._files.remove(path)

    def sync_folder(self, path: str) -> None:
        """Make names in a folder durable."""
        self.happen(Event("sync_folder", os.path.basename(path)))
        self._files.sync_folder(path)

    def free_size(self, path: str) -> tuple[int, int]:
        """What the disk says, or ``space``."""
        return self.space or self._files.free_size(path)

    def database(self, path: str, *, read_only: bool) -> "sqlite3.Connection":
        """Open an SQLite database."""
        return self._files.database(path, read_only=read_only)


class FaultyFile:
    """A file behind `FaultyFiles`."""

    def __init__(self, files: FaultyFiles, path: str, file: File) -> None:
        self._files = files
        self._path = path
        self._file = file
        self.fileno, self.size = file.fileno, file.size
        self.close: Callable[[], None] = file.close

    def _happen(self, what: str, offset: int = 0, size: int = 0) -> None:
        self._files.happen(Event(what, os.path.basename(self._path), offset, size))

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read."""
        self._happen("read", offset, len(target))
        return self._file.read_into(target, offset)

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write, noting what was there; a fault leaves the first half written, as a full disk does."""
        joined = b"".join(buffers)
        before = bytearray(len(joined))
        count = self._file.read_into(memoryview(before), offset)
        note = Unsynced(offset, bytes(before[:count]), self._file.size())
        self._files.unsynced.setdefault(self._path, []).append(note)
        try:
            self._happen("write", offset, len(joined))
        except OSError:
            self._file.write((joined[: len(joined) // 2],), offset)
            raise
        self._file.write((joined,), offset)

    def allocate(self, offset: int, size: int) -> None:
        """Reserve space."""
        self._happen("allocate", offset, size)
        self._file.allocate(offset, size)

    def punch(self, offset: int, size: int) -> bool:
        """Give a range back."""
        self._happen("punch", offset, size)
        return self._file.punch(offset, size)

    def truncate(self, size: int) -> None:
        """Cut."""
        self._happen("truncate", size)
        self._file.truncate(size)

    def sync(self) -> None:
        """Put what was written on stable storage."""
        self._happen("sync")
        self._file.sync()
        self._files.unsynced.pop(self._path, None)
