"""A disk in memory behind the store's door `Files`: what was not synced may be lost, torn or kept at a crash.

SQLite itself is tested elsewhere: here a database is atomic at its commit, and a crash leaves the last
committed image. A crash at any call is `PowerCut`, which nothing but the node's owner catches; from then on
the door is shut, so that what handlers do on the way out has no effect.
"""

import errno
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import define, field, frozen

from dfs.core.errors import BusyError
from dfs.core.interface import Buffer, File
from dfs.core.records import evolve

DISK_SIZE: Final = 1 << 40


class PowerCut(BaseException):
    """The node stops in the middle of a step."""


@frozen
class Change:
    """What was done to a file and not synced: bytes at an offset, or (``body`` None) another length."""

    offset: int
    body: bytes | None


@define(eq=False)
class Stored:
    """A file's bytes: ``stable`` are those that were synced."""

    now: bytearray = field(factory=bytearray)
    stable: bytearray = field(factory=bytearray)
    unsynced: list[Change] = field(factory=list)

    def change(self, change: Change) -> None:
        """Do it, not durable yet."""
        apply(self.now, change)
        self.unsynced.append(change)

    def sync(self) -> None:
        """Make what was done durable."""
        for change in self.unsynced:
            apply(self.stable, change)
        self.unsynced.clear()

    def scatter(self, draw: random.Random) -> None:
        """Keep, lose or tear each change that was not synced; nothing will make up for what is lost."""
        for change in self.unsynced:
            fate = draw.random()
            if fate < 0.4:
                apply(self.stable, change)
            elif fate < 0.7 and change.body:
                start, end = sorted((draw.randrange(len(change.body)), draw.randrange(len(change.body) + 1)))
                apply(self.stable, Change(change.offset + start, change.body[start:end]))
        self.unsynced.clear()

    def crash(self, draw: random.Random) -> None:
        """Leave what a crash leaves."""
        self.scatter(draw)
        self.now[:] = self.stable


def apply(content: bytearray, change: Change) -> None:
    """Change bytes; what lies between the old end and the new bytes reads as zeros."""
    if change.body is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
    elif change.body:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.body)] = change.body


class Database(sqlite3.Connection):
    """The one connection to a database in memory; it outlives the process that uses it."""

    disk: "Disk"
    inside: int = 0  # views under way inside a transaction, which have a connection of their own elsewhere
    before: bytes = b""  # what it held when the transaction began whose commit is going to fail
    afterwards: bytes = b""  # what a restart will find in place of what is seen now

    def execute(self, sql: str, parameters: Iterable[object] = (), /) -> sqlite3.Cursor:  # type: ignore[override] # typeshed names a private type
        """Execute; a COMMIT may fail or be the last thing that happens."""
        if sql == "COMMIT":
            return self._commit()
        if sql == "BEGIN" and self.in_transaction:
            self.inside += 1
            return self.cursor()
        if sql == "ROLLBACK" and self.inside:
            self.inside -= 1
            return self.cursor()
        if sql == "BEGIN IMMEDIATE" and "commit" in self.disk.armed:
            self.before = self.serialize()
        return super().execute(sql, parameters)  # type: ignore[arg-type] # see above

    def _commit(self) -> sqlite3.Cursor:
        try:
            self.disk.reach("commit")
        except OSError as problem:
            if problem.errno == errno.ENOSPC:
                super().execute("ROLLBACK")
                raise _failed("database or disk is full", sqlite3.SQLITE_FULL) from None
            self._fail()
            raise _failed("disk I/O error", sqlite3.SQLITE_IOERR) from None
        cursor = super().execute("COMMIT")
        self.disk.reach("committed")
        return cursor

    def _fail(self) -> None:
        """Undo a transaction that may yet be found after a restart: its log was written, the sync failed."""
        if self.before and self.disk.draw.random() < 0.5:
            super().execute("COMMIT")
            self.afterwards = self.serialize()
            self.deserialize(self.before)
        else:
            super().execute("ROLLBACK")

    def close(self) -> None:
        """Leave it open: others may use it, and the disk keeps it."""

    def discard(self) -> None:
        """Close it for good."""
        super().close()


def _failed(text: str, code: int) -> sqlite3.OperationalError:
    problem = sqlite3.OperationalError(text)
    problem.sqlite_errorcode = code
    return problem


@frozen
class Image:
    """A copy of all that is on a disk."""

    files: dict[str, bytes]
    databases: dict[str, bytes]
    folders: frozenset[str]


@define(eq=False)
class Disk:
    """A node's disk and the door to it (interface.Files).

    ``cut_after``: calls until the power fails. ``armed``: the errno that the next call of a kind raises.
    ``space``: 2 there is, 1 only the reserve is left, 0 there is none. ``reached``: calls by kind.
    """

    draw: random.Random
    reached: Counter[str] = field(factory=Counter)
    cut_after: int | None = None
    armed: dict[str, int] = field(factory=dict)
    space: int = 2
    dead: bool = False
    stored: dict[str, Stored] = field(factory=dict)
    durable: dict[str, Stored] = field(factory=dict)  # names that a crash leaves
    folders: set[str] = field(factory=set)
    databases: dict[str, Database] = field(factory=dict)
    locked: bool = False

    def reach(self, what: str) -> None:
        """Come to a point where the disk may fail.

        Raises:
            PowerCut: the node ends here. OSError: the call fails.
        """
        if self.dead:
            raise PowerCut
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.reached[f"cut at {what}"] += 1
                self.dead, self.cut_after = True, None
                raise PowerCut
        code = self.armed.pop(what, 0)
        if not code and not self.space and what in {"write", "allocate", "commit", "open new"}:
            code = errno.ENOSPC
        if code:
            self.reached[f"{errno.errorcode[code]} at {what}"] += 1
            raise OSError(code, os.strerror(code))

    def crash(self) -> None:
        """Lose what was not synced; what is left is what the next process finds."""
        draw = self.draw
        for path in sorted(self.stored.keys() | self.durable.keys()):
            now, durable = self.stored.get(path), self.durable.get(path)
            kept = now if now is durable or draw.random() < 0.5 else durable
            self.stored.pop(path, None)
            if kept is not None:
                self.stored[path] = kept
        self.stored = dict(sorted(self.stored.items()))
        self.durable = dict(self.stored)
        for stored in self.stored.values():
            stored.crash(draw)
        for path, database in self.databases.items():
            database.inside = 0
            if database.in_transaction:
                database.rollback()
            if database.afterwards:
                self.databases[path] = self._opened(database.afterwards)
                database.discard()
        self.dead, self.locked, self.cut_after = False, False, None
        self.armed.clear()

    def image(self) -> Image:
        """Return a copy of all there is, as a backup makes it of a stopped node."""
        return Image(
            {path: bytes(stored.now) for path, stored in self.stored.items()},
            {path: database.serialize() for path, database in self.databases.items()},
            frozenset(self.folders),
        )

    def restore(self, image: Image | None) -> None:
        """Put back a copy in place of all there is; None: an empty disk."""
        image = image or Image({}, {}, frozenset())
        for database in self.databases.values():
            database.discard()
        self.stored = {path: Stored(bytearray(body), bytearray(body)) for path, body in image.files.items()}
        self.durable = dict(self.stored)
        self.databases = {path: self._opened(body) for path, body in image.databases.items()}
        self.folders = set(image.folders)
        self.dead, self.locked, self.cut_after = False, False, None
        self.armed.clear()

    def _opened(self, body: bytes) -> Database:
        database = sqlite3.connect(":memory:", isolation_level=None, factory=Database)
        database.disk = self
        if body:
            database.deserialize(body)
        return database

    # --- The door -------------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool) -> File:
        """Open a file."""
        stored = self.stored.get(path)
        self.reach("open" if stored is not None else "open new")
        if stored is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            stored = self.stored[path] = Stored()
        return DiskFile(self, stored)

    def names(self, path: str) -> Sequence[str]:
        """Names in a folder, sorted."""
        self.reach("names")
        inside = f"{path}/"
        paths = (*self.stored, *self.databases, *self.folders)
        return sorted({found[len(inside) :].partition("/")[0] for found in paths if found.startswith(inside)})

    def make_folder(self, path: str) -> None:
        """Make a folder; at once durable."""
        self.reach("make_folder")
        self.folders.add(path)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self.reach("remove")
        self.stored.pop(path, None)

    def sync_folder(self, path: str) -> None:
        """Make names in a folder durable."""
        self.reach("sync_folder")
        inside = f"{path}/"
        for name in [name for name in self.durable if name.startswith(inside) and name not in self.stored]:
            del self.durable[name]
        self.durable.update((name, stored) for name, stored in self.stored.items() if name.startswith(inside))

    def free_size(self, path: str) -> tuple[int, int]:
        """Free bytes and all bytes."""
        self.reach("free_size")
        return (DISK_SIZE // 2 if self.space == 2 else 0), DISK_SIZE

    def lock(self, path: str) -> Callable[[], None]:
        """Lock; a crash ends it."""
        if self.locked:
            raise BusyError(f"{path} is locked")
        self.locked = True
        return self._unlock

    def _unlock(self) -> None:
        self.locked = False

    def database(self, path: str, *, read_only: bool) -> sqlite3.Connection:
        """Open a database."""
        self.reach("database")
        if path not in self.databases:
            if read_only:
                raise _failed("unable to open database file", sqlite3.SQLITE_CANTOPEN)
            self.databases[path] = self._opened(b"")
        return self.databases[path]


@define(eq=False)
class DiskFile:
    """An open file of a disk."""

    _disk: Disk
    _stored: Stored

    def fileno(self) -> int:
        """There is no descriptor."""
        return -1

    def size(self) -> int:
        """Current length."""
        return len(self._stored.now)

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read, less than asked only at the end."""
        self._disk.reach("read")
        piece = self._stored.now[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write; a failure leaves a part of it written."""
        if self._disk.dead:
            raise PowerCut
        change = Change(offset, b"".join(buffers))
        try:
            self._disk.reach("write")
        except (OSError, PowerCut) as problem:
            if isinstance(problem, OSError) or self._disk.draw.random() < 0.5:
                part = (change.body or b"")[: self._disk.draw.randrange(len(change.body or b"") + 1)]
                self._stored.change(evolve(change, body=part))
            raise
        self._stored.change(change)

    def allocate(self, offset: int, size: int) -> None:
        """Reserve space, reading as zeros."""
        self._disk.reach("allocate")
        if offset + size > len(self._stored.now):
            self._stored.change(Change(offset + size, None))

    def punch(self, offset: int, size: int) -> bool:
        """Give a range back."""
        self._disk.reach("punch")
        end = min(offset + size, len(self._stored.now))
        if end > offset:
            self._stored.change(Change(offset, bytes(end - offset)))
        return True

    def truncate(self, size: int) -> None:
        """Cut."""
        self._disk.reach("truncate")
        self._stored.change(Change(size, None))

    def sync(self) -> None:
        """Make what was written durable; after a failure it can be read, but not be saved any more."""
        try:
            self._disk.reach("sync")
        except OSError:
            self._stored.scatter(self._disk.draw)
            raise
        self._stored.sync()

    def close(self) -> None:
        """Nothing is held."""
