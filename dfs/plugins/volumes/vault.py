"""One vault on disk: rows in SQLite, larger shares in volume files or a bucket, and the order in which both
become durable.

A commit comes last: bytes are written and verified when staged, synced before the commit of the rows that
make them true, and given back only after the commit that drops those rows. A failed sync or commit is never
tried again: what the kernel then holds is unknown, so nothing is acknowledged any more, and only reads go
on.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import xxhash

from dfs.core.api import (
    Buffer,
    BusyError,
    CorruptShareError,
    DfsError,
    DiskFullError,
    Files,
    NotFoundError,
    NotInitialisedError,
    ShareKey,
    ShareSlice,
    Staged,
    StoreError,
    StoreOptions,
    Transaction,
    View,
)

from .bodies import FULL_ERRORS, Bodies, MakeBodies
from .packing import stamp, unstamp
from .rows import Rows, RowsTransaction, StagedShare
from .schema import check_schema, create_schema

T = TypeVar("T")

DATABASE_NAME: Final = "vault.db"
VAULT_ID_SIZE: Final = 16
DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)  # the latter: it quotes a damaged schema
READER_COUNT_MAX: Final = 8  # idle read connections kept
PAGE_SIZE: Final = 16384  # of SQLite: small shares fill it well; of those of two KiB, 4096 bytes hold one
CHANGE_SIZE: Final = 4096  # what a changed row is guessed to add to the write-ahead log
LOG_SIZE_MAX: Final = 8 << 20  # then its pages are folded into the database
VACUUM_COUNT: Final = 256  # free pages given back to a full disk after a transaction
VERIFY_SIZE: Final = 1 << 20  # a share is re-read in pieces of this
RESERVE_SIZE_MIN: Final = 64 << 20
RESERVE_RATIO: Final = 0.02


def _named(key: ShareKey) -> str:
    return f"share {key.index} of stripe {key.stripe.hex()[:16]}"


class BodySlice:
    """A small share, open: its bytes came with the row."""

    file_range: Final = None

    def __init__(self, body: bytes, checksum: bytes) -> None:
        self.size: Final = len(body)
        self.checksum: Final = checksum
        self._body: Final = memoryview(body)

    def read_into(self, target: memoryview, offset: int) -> int:
        """Copy up to len(target) bytes from ``offset``."""
        piece = self._body[max(0, offset) : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing is held."""


class RowsVault:
    """What a node keeps for one vault. Thread-safe: one transaction at a time, any number of views."""

    def __init__(self, folder: str, user: str, options: StoreOptions, make_bodies: MakeBodies) -> None:
        self._folder: Final = folder
        self._user: Final = user
        self._files: Final[Files] = options.files
        self._options: Final = options
        self._reason: str | None = None
        self._closed = False
        self._write_lock: Final = threading.Lock()
        self._readers_lock: Final = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._log_size = 0
        self._database_path: Final = f"{folder}/{DATABASE_NAME}"
        self._writer: Final = options.files.database(self._database_path, read_only=False)
        try:
            vault_id = self._prepare()
            self._used_size = int.from_bytes(self._own("used_size"), "big")
            self._charged_size = self._charged()
            self._bodies: Final[Bodies] = make_bodies(vault_id, self.fail)
            self._recover()
        except BaseException:
            self._writer.close()
            raise

    # --- Opening --------------------------------------------------------------------------------------------

    def _prepare(self) -> bytes:
        """Set the connection up, make the tables of a new vault, and return the vault id."""
        for pragma in (
            f"page_size = {PAGE_SIZE}",  # of a new vault, as the next; both count before anything is written
            "auto_vacuum = INCREMENTAL",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            "cache_size = -8192",
        ):
            self._writer.execute(f"PRAGMA {pragma}").fetchall()
        if not check_schema(self._writer):
            self._writer.execute("BEGIN IMMEDIATE")
            create_schema(self._writer)
            transaction = RowsTransaction(self._writer, 0, 0)
            transaction.set_own("user", self._user)
            vault_id = self._options.env.random_bytes(VAULT_ID_SIZE)
            transaction.set_own("vault_id", stamp(b"vault_id", vault_id))
            transaction.set_used_size()
            transaction.set_charged_size()
            transaction.set_own("clean", 1)
            self._writer.execute("COMMIT")
            self._files.sync_folder(self._folder)
        rows = Rows(self._writer)
        if rows.own("user") != self._user:
            raise StoreError(f"{self._folder} belongs to user {rows.own('user')!r}, not to {self._user!r}")
        return self._own("vault_id")  # were it damaged, all volumes would seem to be a stranger's

    def _own(self, name: str) -> bytes:
        try:
            return unstamp(name.encode(), Rows(self._writer).own(name))
        except StoreError as damage:
            raise self._damaged(damage.what) from None

    def _charged(self) -> int:
        try:
            return Rows(self._writer).usage()
        except StoreError as damage:
            raise self._damaged(damage.what) from None

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"{self._database_path} is damaged: {what}",
            next_step=f"Stop the node, move {self._folder} away and start it: dfs repair fills it again.",
        )

    def _recover(self) -> None:
        """Have bytes and rows fit each other again; after a crash also check the tables."""
        rows = Rows(self._writer)
        crashed = rows.own("clean") != 1
        if crashed:
            verdict = self._writer.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise self._damaged(verdict)
        damages = self._bodies.start(rows, settled=not crashed)

        def work(transaction: RowsTransaction) -> None:
            transaction.set_own("clean", 0)
            transaction.set_charged_size()
            for damage in damages:
                transaction.mark_volume_corrupt(damage.volume, damage.generation, damage.end)

        # A full disk must not keep a vault from being read and emptied; the marks only save a failed read.
        with contextlib.suppress(DiskFullError):
            self.change(work)

    # --- Faults ---------------------------------------------------------------------------------------------

    @property
    def read_only_reason(self) -> str | None:
        """Why nothing can be written any more, or for now; None while it can."""
        return self._reason or self._bodies.outage

    def fail(self, reason: str) -> StoreError:
        """Make the vault read-only; the first reason stays."""
        self._reason = self._reason or reason
        return StoreError(f"the vault of {self._user} failed: {reason}")

    def _fault(self, problem: OSError | sqlite3.Error | UnicodeDecodeError) -> DfsError:
        """Translate: full and busy pass, everything else ends writing."""
        if isinstance(problem, OSError):
            full, busy = problem.errno in FULL_ERRORS, False
        else:
            code = getattr(problem, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
            full, busy = code == sqlite3.SQLITE_FULL, code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        if full:
            return DiskFullError(f"the disk with {self._folder} is full")
        if busy:
            return BusyError(f"{self._database_path} is locked by another process")
        return self.fail(str(problem))

    def _check_writable(self) -> None:
        if self._reason is not None:
            raise StoreError(f"the vault of {self._user} is read-only: {self._reason}")

    # --- Sizes ----------------------------------------------------------------------------------------------

    @property
    def used_size(self) -> int:
        """Share bytes kept."""
        return self._used_size

    @property
    def free_size(self) -> int:
        """Bytes that can still be kept; the reserve is left out."""
        return self._bodies.room(self._disk_free_size)

    @property
    def _disk_free_size(self) -> int:
        try:
            free_size, disk_size = self._files.free_size(self._folder)
        except OSError as problem:
            raise self._fault(problem) from None
        reserve_size = self._options.reserve_size
        if reserve_size is None:
            reserve_size = max(int(disk_size * RESERVE_RATIO), RESERVE_SIZE_MIN)
        return max(0, free_size - reserve_size)

    # --- Writing --------------------------------------------------------------------------------------------

    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> Staged:
        """Verify and write the bytes; a small share stays in memory until it is kept."""
        self._check_writable()
        if xxhash.xxh3_128_digest(body) != checksum:
            raise CorruptShareError(f"{_named(key)} arrived damaged")
        size = len(body)
        try:
            if self.free_size < size:
                self._bodies.shed()
                if self.free_size < size:
                    raise DiskFullError(f"the vault in {self._folder} has no room for {size} more bytes")
            if size <= self._options.inline_size_max:
                return StagedShare(key, checksum, size, bytes(body))
            return self._bodies.stage(key, checksum, body)
        except OSError as problem:
            raise self._fault(problem) from None

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` serially, all or nothing, durable on return."""
        return self.change(work)

    def change(self, work: Callable[[RowsTransaction], T]) -> T:
        """Run ``work`` as `transact` does; it also sees what is the store's own."""
        with self._write_lock:
            self._check_writable()
            changes_before = self._writer.total_changes
            transaction = RowsTransaction(self._writer, self._used_size, self._charged_size)
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    result = work(transaction)
                    transaction.finish()
                    self._sync(transaction)
                    self._writer.execute("COMMIT")
                except BaseException:
                    self._roll_back()
                    raise
            except DATABASE_ERRORS as problem:
                raise self._fault(problem) from problem
            self._used_size, self._charged_size = transaction.used_size, transaction.usage()
            self._bodies.committed(transaction.kept, transaction.dropped)
            self._log_size += (
                self._writer.total_changes - changes_before
            ) * CHANGE_SIZE + transaction.written_size
            if self._log_size >= LOG_SIZE_MAX or self._is_short():
                self._fold_log()
            return result

    def _is_short(self) -> bool:
        """Whether the disk is so full that free pages of the database are better given back than kept."""
        with contextlib.suppress(DfsError):  # a disk that cannot say it has made the vault read-only
            return self._disk_free_size < VACUUM_COUNT * PAGE_SIZE
        return False

    def _sync(self, transaction: RowsTransaction) -> None:
        try:
            self._bodies.sync(transaction.kept)
        except OSError as problem:
            # Even when it says "no space": bytes that were written are gone.
            raise self.fail(f"a volume cannot be synced: {problem}") from None

    def _roll_back(self) -> None:
        """Undo; SQLite may have done so itself. If it cannot, nothing may follow in the old transaction."""
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as problem:
            self.fail(f"a transaction cannot be undone: {problem}")

    def _fold_log(self) -> None:
        """Fold the write-ahead log into the database.

        By hand, because SQLite's own checkpoint after a commit tells nobody when its sync fails. What was
        committed is durable in the log already, so a failure is no failure of this transaction.
        """
        self._log_size = 0
        try:
            if self._is_short():
                self._writer.execute(f"PRAGMA incremental_vacuum({VACUUM_COUNT})").fetchall()
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as problem:
            self._fault(problem)

    # --- Reading --------------------------------------------------------------------------------------------

    def view(self, work: Callable[[View], T]) -> T:
        """Run ``work`` on what is committed; never waits for a writer."""
        return self.read(work)

    def read(self, work: Callable[[Rows], T]) -> T:
        """Run ``work`` as `view` does; it also sees what is the store's own."""
        try:
            with self._reader() as connection:
                connection.execute("BEGIN")
                try:
                    return work(Rows(connection))
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        except DATABASE_ERRORS as problem:
            raise self._fault(problem) from problem

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._readers_lock:
            if self._closed:
                raise StoreError(f"the vault of {self._user} is closed")
            connection = self._readers.pop() if self._readers else None
        connection = connection or self._files.database(self._database_path, read_only=True)
        try:
            yield connection
        finally:
            self._put_back(connection)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        with self._readers_lock:
            if not self._closed and len(self._readers) < READER_COUNT_MAX:
                self._readers.append(connection)
                return
        connection.close()

    def share(self, key: ShareKey) -> ShareSlice:
        """Open a share."""
        # Under this lock: a commit that drops the row after we read it finds our slice and spares the bytes.
        with self._bodies.lock:
            row = self.read(lambda rows: rows.share(key))
            if row is None:
                raise NotFoundError(f"{_named(key)} is not here")
            if row.corrupt:
                raise CorruptShareError(f"{_named(key)} is known to be bad")
            if row.place is not None:
                return self._bodies.open_slice(key, row.checksum, row.place)
        body = row.body or b""
        if len(body) != row.size:
            raise CorruptShareError(f"{_named(key)} has lost bytes")
        return BodySlice(body, row.checksum)

    def own(self, name: str) -> object:
        """Return a value of the store itself, None when absent."""
        return self.read(lambda rows: rows.own(name))

    @property
    def change_count(self) -> int:
        """How many rows were changed since the vault was opened."""
        return self._writer.total_changes

    def copy_rows(self, path: str) -> None:
        """Write all committed rows to a new database, as they are at one moment. Raises: sqlite3.Error."""
        with self._reader() as connection:
            target = self._files.database(path, read_only=False)
            try:
                # Who copies starts anew after a crash.
                target.execute("PRAGMA journal_mode = OFF").fetchall()
                target.execute("PRAGMA synchronous = OFF").fetchall()
                connection.backup(target)
            finally:
                target.close()

    def shares(self, after: ShareKey | None, count_max: int) -> list[ShareKey]:
        """Return share names in order."""
        return list(self.read(lambda rows: rows.shares(after, count_max)))

    def verify(self, key: ShareKey) -> None:
        """Re-read a share from disk."""
        share = self.share(key)
        try:
            digest = xxhash.xxh3_128()
            piece = memoryview(bytearray(min(VERIFY_SIZE, share.size)))
            for offset in range(0, share.size, VERIFY_SIZE):
                digest.update(piece[: share.read_into(piece, offset)])
            if digest.digest() != share.checksum:
                raise CorruptShareError(f"{_named(key)} fails its checksum")
        finally:
            share.close()

    def check(self, stopped: Callable[[], bool]) -> bool:
        """Compare all tables with their indexes and each other."""
        verdict = self.read(lambda rows: rows.check(stopped))
        if verdict is None:
            return False
        if verdict != "ok":
            reason = self._damaged(verdict)
            self.fail(reason.what)
            raise reason
        return True

    # --- Closing --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish and let go of all files; twice is fine."""
        # Neither the mark nor the cut is owed to anybody: without them the next start does a little more.
        with contextlib.suppress(DfsError):
            settled = self._bodies.settled
            self.change(lambda transaction: transaction.set_own("clean", int(settled)))
        with self._write_lock, self._readers_lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):
                self._bodies.close(cut=self._reason is None)
            self._reason = self._reason or "it is closed"
            readers, self._readers = self._readers, []
            for connection in (*readers, self._writer):
                connection.close()


def open_vault(
    folder: str, user: str, options: StoreOptions, make_bodies: MakeBodies, *, create: bool
) -> RowsVault:
    """Open the vault in a folder, making it if asked.

    Raises: NotInitialisedError: absent and not ``create``. StoreError: it cannot be opened.
    """
    try:
        if not create and vault_user(folder, options.files) is None:
            raise NotInitialisedError(f"there is no vault of user {user} on this node")
        options.files.make_folder(folder)
        return RowsVault(folder, user, options, make_bodies)
    except (OSError, *DATABASE_ERRORS) as problem:
        if isinstance(problem, OSError) and problem.errno in FULL_ERRORS:
            raise DiskFullError(f"the disk with {folder} is full") from None
        raise StoreError(f"the vault of {user} in {folder} cannot be opened: {problem}") from problem


def vault_user(folder: str, files: Files) -> str | None:
    """Return whose vault a folder holds; None when making it was never finished."""
    if DATABASE_NAME not in files.names(folder):
        return None
    connection = files.database(f"{folder}/{DATABASE_NAME}", read_only=True)
    try:
        return str(Rows(connection).own("user")) if check_schema(connection) else None
    finally:
        connection.close()
