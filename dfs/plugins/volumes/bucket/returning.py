"""What a new machine makes of the bucket of a lost one: rows of the last copy, and all shares there are.

The rows are older than what the node once told. So the vault says so (`RESTORED`), and the core lets it take
part in nothing before all was replayed to it. The objects are younger: those without a row become rows again
by what their names tell, and rows whose objects are gone are marked as corrupt.
"""

import logging
import sqlite3
from collections.abc import Callable
from typing import Final

from attrs import frozen

from dfs.core.api import RESTORED, Files, ShareKey
from dfs.plugins.volumes.rows import Rows, RowsTransaction, StagedShare
from dfs.plugins.volumes.schema import check_schema
from dfs.plugins.volumes.vault import DATABASE_NAME, RowsVault

from .objects import FOLDER, Found, Objects, batched, read_name
from .snapshots import Snapshot, Snapshots

RETURNING: Final = "returning"  # of the store's own values: objects and rows were not compared yet
BATCH_COUNT: Final = 1000

log: Final = logging.getLogger("dfs")


@frozen
class Returned:
    """How many shares got a row again, and how many rows have lost their object."""

    adopted_count: int
    lost_count: int


def mark_returning(transaction: RowsTransaction) -> None:
    """Note that these rows are older than what the node once told, and not compared with the objects yet."""
    transaction.set_own(RETURNING, 1)
    transaction.set_meta(RESTORED, b"\1")


def restore_rows(snapshots: Snapshots, local: str, files: Files) -> Snapshot | None:
    """Make the rows of a vault from the newest copy that is whole; None when there is none.

    Raises: StoreError: the bucket cannot be read. OSError, sqlite3.Error: the disk does not take them.
    """
    files.make_folder(local)
    for snapshot in snapshots.newest():
        path = snapshots.fetch(snapshot)
        if path is not None and _take_over(path, f"{local}/{DATABASE_NAME}", files):
            snapshots.forget()
            files.sync_folder(local)
            return snapshot
        log.warning("copy %d of the rows of %s is damaged", snapshot.sequence, snapshot.user)
    snapshots.forget()
    return None


def _take_over(path: str, target_path: str, files: Files) -> bool:
    """Copy a database into the vault's, marked, in one transaction; False when it is damaged."""
    source = files.database(path, read_only=False)
    try:
        if not check_schema(source) or source.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            return False
        source.execute("BEGIN IMMEDIATE")
        mark_returning(RowsTransaction(source, 0, 0))
        source.execute("COMMIT")
        target = files.database(target_path, read_only=False)
        try:
            source.backup(target)
        finally:
            target.close()
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.OperationalError):  # the disk's fault, not the copy's
            raise
        return False
    finally:
        source.close()
    return True


def compare(vault: RowsVault, objects: Objects) -> Returned:
    """Have rows and objects fit each other, and note that they do. Raises: StoreError."""
    seen: set[int] = set()
    adopted_count = 0
    for some in batched(objects.bucket.names(f"{objects.folder}/{FOLDER}"), BATCH_COUNT):
        named = [(found, size) for name, size in some if (found := read_name(name)) is not None]
        loose = vault.read(lambda rows, named=named: _without_row(rows, named, seen))  # type: ignore[misc]
        if loose:
            staged = [objects.adopt(found, size) for found, size in loose]
            vault.change(_keeping(staged))
            seen.update(found.number for found, _ in loose)
            adopted_count += len(loose)
    lost_count = _mark_lost(vault, seen)
    vault.change(lambda transaction: transaction.set_own(RETURNING, 0))
    return Returned(adopted_count, lost_count)


def _without_row(rows: Rows, named: list[tuple[Found, int]], seen: set[int]) -> list[tuple[Found, int]]:
    """Return the objects that no row means, one a share; those that one means are ``seen``."""
    loose: dict[ShareKey, tuple[Found, int]] = {}
    for found, size in named:
        row = rows.share(found.key)
        if row is not None and row.place is not None and row.place.generation == found.number:
            seen.add(found.number)
        elif row is None or row.place is not None:  # a small share lies in its row
            loose[found.key] = found, size
    return list(loose.values())


def _keeping(staged: list[StagedShare]) -> Callable[[RowsTransaction], None]:
    def work(transaction: RowsTransaction) -> None:
        keys = [share.key for share in staged]
        for key in keys:
            transaction.mark_corrupt(key)  # a row that means another object, so that this one replaces it
        transaction.keep(staged)
        transaction.pin(keys, 0.0)  # its end is set anew when the vault is opened, as that of all pins

    return work


def _mark_lost(vault: RowsVault, seen: set[int]) -> int:
    """Mark the rows whose objects are gone; returns how many."""
    count, after = 0, None
    while keys := vault.shares(after, BATCH_COUNT):
        lost = vault.read(lambda rows, keys=keys: [key for key in keys if _is_lost(rows, key, seen)])  # type: ignore[misc]
        if lost:
            vault.change(lambda transaction, lost=lost: [transaction.mark_corrupt(key) for key in lost])  # type: ignore[misc]
        count, after = count + len(lost), keys[-1]
    return count


def _is_lost(rows: Rows, key: ShareKey, seen: set[int]) -> bool:
    row = rows.share(key)
    return row is not None and row.place is not None and row.place.generation not in seen
