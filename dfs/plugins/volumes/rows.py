"""The rows of a vault in SQLite: the only truth about what is kept.

`Rows` reads over one connection, `RowsTransaction` also writes; beginning, committing and everything about
the bytes of larger shares is the vault's. Two habits keep common work cheap: tables that are normally empty
(corrupt, owed) are looked at before anything is joined with them, and a stripe that may have lost its last
claim or pin is noted in `suspects`, so that `collect` never walks all shares.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import define, field, frozen

from dfs.core.api import (
    NO_BALLOT,
    Ballot,
    Claim,
    CorruptEntryError,
    DirectoryId,
    RegisterKey,
    RegisterRow,
    ShareKey,
    Staged,
    StoreError,
    StripeId,
    invariant,
    register_charge,
    share_charge,
)

from .charging import CLAIMS_BELOW, Charges, counted
from .packing import (
    pack_claim,
    pack_claims,
    register_digest,
    register_row,
    stamp,
    unpack_claim,
    unpack_claims,
    unstamp,
)

DIRECTORY_ID_SIZE: Final = 16
CHECK_STEP_COUNT: Final = 100_000  # steps of SQLite between two looks whether a check is to stop

REGISTER_COLUMNS: Final = """
SELECT name, promised, accepted, value, digest, claim_set, confirmed, safe, claimed_count, row_digest,
    (SELECT COUNT(*) FROM owed AS o
        WHERE o.directory = r.directory AND o.name = r.name AND o.ballot = r.accepted),
    CASE WHEN EXISTS (SELECT 1 FROM corrupt) THEN
        (SELECT COUNT(*) FROM corrupt WHERE stripe IN (SELECT stripe FROM claims AS c
            WHERE c.directory = r.directory AND c.name = r.name AND c.ballot = r.accepted))
    ELSE 0 END
FROM registers AS r WHERE directory = ?"""
REGISTER: Final = REGISTER_COLUMNS + " AND name = ?"
REGISTERS: Final = REGISTER_COLUMNS + " AND name > ? ORDER BY name LIMIT ?"
GOOD_SHARE: Final = """
SELECT 1 FROM shares AS s WHERE stripe = ? AND share_index = ? AND NOT EXISTS (
    SELECT 1 FROM corrupt AS c WHERE c.stripe = s.stripe AND c.share_index = s.share_index)"""
KEEP: Final = """
INSERT INTO shares (stripe, share_index, size, checksum, volume, generation, offset, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (stripe, share_index) DO NOTHING"""
CLAIMS: Final = """
SELECT stripe, rest FROM claims WHERE directory = ? AND name = ? AND ballot = ? AND position >= ?
ORDER BY position LIMIT ?"""
DIRECTORIES: Final = """
SELECT d.directory, (SELECT COUNT(*) FROM registers AS r WHERE r.directory = d.directory),
    COALESCE((SELECT ballot FROM floors AS f WHERE f.directory = d.directory), x'')
FROM (SELECT directory FROM registers WHERE directory > :after UNION
    SELECT directory FROM floors WHERE directory > :after ORDER BY 1 LIMIT :count_max) AS d ORDER BY 1"""
LACKING: Final = """
SELECT s.stripe, (SELECT rest FROM claims AS c WHERE c.stripe = s.stripe LIMIT 1) FROM (
    SELECT stripe FROM owed WHERE stripe > :after UNION SELECT stripe FROM corrupt WHERE stripe > :after) AS s
WHERE EXISTS (SELECT 1 FROM claims AS c WHERE c.stripe = s.stripe) ORDER BY s.stripe LIMIT :count_max"""
LACKING_SHARES: Final = """
SELECT share_index FROM owed WHERE stripe = :stripe UNION
SELECT share_index FROM corrupt WHERE stripe = :stripe ORDER BY 1"""
COUNTS: Final = """
SELECT (SELECT COUNT(*) FROM shares), (SELECT COUNT(*) FROM (SELECT DISTINCT stripe, share_index FROM owed)),
    (SELECT COUNT(*) FROM corrupt WHERE stripe IN (SELECT stripe FROM claims))"""
PIN: Final = "INSERT INTO pins VALUES (:stripe, :until_s) ON CONFLICT (stripe) DO NOTHING"
PIN_LONGER: Final = "UPDATE pins SET until_s = :until_s WHERE stripe = :stripe AND until_s < :until_s"
OWN_STAMPED: Final = "SELECT name, value FROM own WHERE name IN ('used_size', 'charged_size', 'vault_id')"
SUSPECT: Final = """
INSERT OR IGNORE INTO suspects SELECT :stripe
WHERE NOT EXISTS (SELECT 1 FROM pins WHERE stripe = :stripe)
    AND NOT EXISTS (SELECT 1 FROM claims WHERE stripe = :stripe)"""
CLEAR_SUSPECTS: Final = """
DELETE FROM suspects WHERE EXISTS (SELECT 1 FROM pins AS p WHERE p.stripe = suspects.stripe)
    OR EXISTS (SELECT 1 FROM claims AS c WHERE c.stripe = suspects.stripe)"""


@frozen
class Place:
    """Where a share's bytes lie: in a volume; or, with ``volume`` 0, in the object ``generation`` tells."""

    volume: int
    generation: int
    offset: int
    size: int


@define(eq=False)
class StagedShare:
    """A verified share: its bytes in ``body`` or at ``place``. ``spent``: a row was committed for it."""

    key: ShareKey
    checksum: bytes
    size: int
    body: bytes | None = field(default=None, repr=False)
    place: Place | None = None
    spent: bool = False


@frozen
class ShareRow:
    """A committed share; ``place`` None: ``body`` holds the bytes."""

    size: int
    checksum: bytes
    body: bytes | None = field(repr=False)
    place: Place | None
    corrupt: bool


@frozen
class Dropped:
    """A share that had a row until now, and bytes at ``place``."""

    key: ShareKey
    checksum: bytes
    place: Place


@frozen
class VolumeRows:
    """What rows of one generation say of a volume: shares, their bytes together, end of the last one."""

    volume: int
    share_count: int
    size: int
    end: int
    generation: int


class Rows:
    """The readings of `View`, and what else the vault asks of its rows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._floors: dict[DirectoryId, Ballot] = {}  # those looked up; most rows of a request share one

    def register(self, key: RegisterKey) -> RegisterRow | None:
        """Return the row with its owed and corrupt counts."""
        found = self._connection.execute(REGISTER, (key.directory, key.name)).fetchone()
        if found is None:
            return None
        row = register_row(key.directory, found)[1]
        if row is None:
            raise CorruptEntryError(
                f"the stored entry {key.directory.hex()}/{key.name.hex()} fails its digest"
            )
        return row

    def registers(
        self, directory: DirectoryId, after: bytes, count_max: int
    ) -> Sequence[tuple[RegisterKey, RegisterRow | None]]:
        """Return rows of a directory with name id > ``after``; None where a row is corrupt."""
        found = self._connection.execute(REGISTERS, (directory, after, count_max))
        return [register_row(directory, columns) for columns in found]

    def missing(self, keys: Sequence[ShareKey]) -> Sequence[ShareKey]:
        """Return those of which no good row is here."""
        execute = self._connection.execute
        return [key for key in keys if execute(GOOD_SHARE, (key.stripe, key.index)).fetchone() is None]

    def staged_claims(self, claim_set: bytes) -> Sequence[Claim]:
        """Return the claims staged under a digest."""
        parts = self._connection.execute(
            "SELECT claims FROM staged_claims WHERE claim_set = ? ORDER BY part_index", (claim_set,)
        )
        return [claim for (packed,) in parts for claim in unpack_claims(packed)]

    def claims(
        self, register: RegisterKey, ballot: Ballot, position: int = 0, count_max: int | None = None
    ) -> Sequence[Claim]:
        """Return the claims an accepted value holds, from a position on."""
        bound = -1 if count_max is None else count_max
        found = self._connection.execute(CLAIMS, (register.directory, register.name, ballot, position, bound))
        return [unpack_claim(stripe, rest)[0] for stripe, rest in found]

    def directories(self, after: bytes, count_max: int) -> Sequence[tuple[DirectoryId, int, Ballot]]:
        """Return directories with id > ``after`` that have rows or a floor: id, rows, floor."""
        found = self._connection.execute(DIRECTORIES, {"after": after, "count_max": count_max})
        return [
            (DirectoryId(directory), count, Ballot(unstamp(directory, floor) if floor else b""))
            for directory, count, floor in found
            if isinstance(directory, bytes) and len(directory) == DIRECTORY_ID_SIZE  # it was once
        ]

    def lacking(self, after: bytes, count_max: int) -> Sequence[tuple[Claim, tuple[int, ...]]]:
        """Return claimed stripes with id > ``after`` of which shares are owed or corrupt."""
        stripes = self._connection.execute(LACKING, {"after": after, "count_max": count_max}).fetchall()
        found = []
        for stripe, rest in stripes:
            indexes = self._connection.execute(LACKING_SHARES, {"stripe": stripe})
            found.append((unpack_claim(stripe, rest)[0], tuple(index for (index,) in indexes)))
        return found

    def owed(self, keys: Sequence[ShareKey]) -> Sequence[ShareKey]:
        """Return those that `lacking` would name."""
        execute = self._connection.execute
        return [
            key
            for key in keys
            if (key.index,) in execute(LACKING_SHARES, {"stripe": key.stripe})
            and execute("SELECT 1 FROM claims WHERE stripe = ?", (key.stripe,)).fetchone() is not None
        ]

    def counts(self) -> tuple[int, int, int]:
        """Return how many shares are kept, are owed, and are claimed but corrupt."""
        kept, owed, corrupt = self._connection.execute(COUNTS).fetchone()
        return kept, owed, corrupt

    def floor(self, directory: DirectoryId) -> Ballot:
        """Return the highest forgotten ballot of the directory."""
        floor = self._floors.get(directory)
        if floor is None:
            statement = "SELECT ballot FROM floors WHERE directory = ?"
            found = self._connection.execute(statement, (directory,)).fetchone()
            floor = self._floors[directory] = Ballot(unstamp(directory, found[0])) if found else NO_BALLOT
        return floor

    def meta(self, name: str) -> bytes | None:
        """Return a small value kept with the vault."""
        found = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return unstamp(name.encode(), found[0]) if found else None

    def usage(self) -> int:
        """Return what counts against the quota."""
        stamped = self.own("charged_size")
        if stamped is None:  # an earlier version made the vault
            return counted(self._connection)
        return int.from_bytes(unstamp(b"charged_size", stamped), "big")

    def share(self, key: ShareKey) -> ShareRow | None:
        """Return the row of a share."""
        found = self._connection.execute(
            """SELECT size, checksum, body, volume, generation, offset, EXISTS (SELECT 1 FROM corrupt AS c
                   WHERE c.stripe = s.stripe AND c.share_index = s.share_index)
               FROM shares AS s WHERE stripe = ? AND share_index = ?""",
            (key.stripe, key.index),
        ).fetchone()
        if found is None:
            return None
        size, checksum, body, volume, generation, offset, corrupt = found
        kinds = (int, bytes, type(None), int, int, int) if body is None else (int, bytes, bytes)
        if not all(map(isinstance, found, kinds)):  # a column is of another kind now
            return ShareRow(0, b"", b"", None, corrupt=True)
        place = None if volume is None else Place(volume, generation, offset, size)
        return ShareRow(size, checksum, body, place, bool(corrupt))

    def shares(self, after: ShareKey | None, count_max: int) -> Sequence[ShareKey]:
        """Return share names in order."""
        found = self._connection.execute(
            """SELECT stripe, share_index FROM shares WHERE (stripe, share_index) > (?, ?)
               AND typeof(stripe) = 'blob' AND length(stripe) = 32 AND share_index BETWEEN 0 AND 255
               ORDER BY stripe, share_index LIMIT ?""",
            (after.stripe, after.index, count_max) if after else (b"", -1, count_max),
        )
        return [ShareKey(StripeId(stripe), index) for stripe, index in found]

    def own(self, name: str) -> object:
        """Return a value of the store itself, None when absent."""
        found = self._connection.execute("SELECT value FROM own WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def check(self, stopped: Callable[[], bool]) -> str | None:
        """Return "ok", or what is wrong with the tables: each row is in its indexes and vice versa.

        None: ``stopped``, which is asked now and then, said so before the end.
        """
        self._connection.set_progress_handler(stopped, CHECK_STEP_COUNT)
        try:
            verdict = str(self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
            return verdict if verdict != "ok" else self._check_values()
        except sqlite3.OperationalError as problem:
            if getattr(problem, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                raise
            return None
        finally:
            self._connection.set_progress_handler(None, 0)

    def _check_values(self) -> str:
        """Compare what stands in no index with its digest."""
        execute = self._connection.execute
        try:
            for name, stamped in execute("SELECT name, value FROM meta"):
                unstamp(str(name).encode(), stamped)
            for directory, stamped in execute("SELECT directory, ballot FROM floors"):
                unstamp(directory, stamped)
            for name, value in execute(OWN_STAMPED):
                unstamp(str(name).encode(), value)
        except StoreError as damage:
            return damage.what
        return "ok"

    def volumes(self) -> Sequence[VolumeRows]:
        """Return what the rows say of each volume, and of each generation of it if they disagree."""
        found = self._connection.execute(
            """SELECT volume, COUNT(*), SUM(size), MAX(offset + size), generation FROM shares
               WHERE typeof(volume) = 'integer' AND typeof(offset + size + generation) = 'integer'
               GROUP BY volume, generation"""
        )
        return [VolumeRows(*columns) for columns in found]

    def ranges(self, volume: int) -> Sequence[tuple[int, int]]:
        """Return (offset, size) of each share in a volume, in order."""
        return self._connection.execute(
            """SELECT offset, size FROM shares
               WHERE volume = ? AND typeof(offset + size) = 'integer' ORDER BY offset""",
            (volume,),
        ).fetchall()


class RowsTransaction(Rows):
    """The changes of `Transaction`; ``kept`` and ``dropped`` tell who keeps the bytes what a commit means."""

    def __init__(self, connection: sqlite3.Connection, used_size: int, charged_size: int) -> None:
        super().__init__(connection)
        self.used_size = used_size
        self.charges: Final = Charges(connection, charged_size)
        self.kept: list[StagedShare] = []
        self.dropped: list[Dropped] = []
        self.written_size = 0
        self._used_size_before = used_size
        self._loose: set[StripeId] = set()
        self._fresh: set[StripeId] = set()  # of which a share was kept
        self._charged: dict[RegisterKey, int] = {}  # what registers take, as far as that is known

    def register(self, key: RegisterKey) -> RegisterRow | None:
        """Return the row with its owed and corrupt counts."""
        row = super().register(key)
        self._charged[key] = register_charge(row)
        return row

    def set_register(self, key: RegisterKey, row: RegisterRow | None) -> None:
        """Replace or remove a row."""
        charged = self._charged.get(key)
        self.charges.size -= self.charges.register(key) if charged is None else charged
        self._charged[key] = register_charge(row)
        self.charges.size += self._charged[key]
        if row is None:
            self._connection.execute(
                "DELETE FROM registers WHERE directory = ? AND name = ?", (key.directory, key.name)
            )
            return
        self.written_size += len(row.value)
        self._connection.execute(
            "INSERT OR REPLACE INTO registers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.directory,
                key.name,
                row.promised,
                row.accepted,
                row.value,
                row.digest,
                row.claim_set,
                row.confirmed,
                row.safe,
                row.claimed_count,
                register_digest(key, row),
            ),
        )

    def spoil(self, key: RegisterKey) -> None:
        """Let a row fail its digest until it is replaced."""
        self._connection.execute(
            "UPDATE registers SET row_digest = x'' WHERE directory = ? AND name = ?",
            (key.directory, key.name),
        )

    def keep(self, staged: Sequence[Staged]) -> None:
        """Make the rows that make staged bytes true."""
        for share in staged:
            if not isinstance(share, StagedShare):
                raise TypeError("a vault keeps only what its own stage() returned")
            self._keep(share)

    def _keep(self, share: StagedShare) -> None:
        named = (share.key.stripe, share.key.index)
        execute = self._connection.execute
        owed = self.charges.debts(named[:1])
        if owed:
            execute("DELETE FROM owed WHERE stripe = ? AND share_index = ?", named)
            self.charges.size -= owed - self.charges.debts(named[:1])
        bare = self.charges.is_bare(share.key.stripe)
        place = share.place
        where = (None, None, None) if place is None else (place.volume, place.generation, place.offset)
        columns = (*named, share.size, share.checksum, *where, share.body)
        if execute(KEEP, columns).rowcount == 0:
            if execute(GOOD_SHARE, named).fetchone() is not None:
                return
            self._drop(share.key)
            execute(KEEP, columns)
        # A row once committed for these bytes may have been collected, and the bytes with it.
        invariant(not share.spent, "a staged share is kept a second time")
        self.used_size += share.size
        self.charges.size += share_charge(share.size)
        self.charges.rows(-bare)
        self.written_size += len(share.body or b"")
        self.kept.append(share)
        self._fresh.add(share.key.stripe)
        self._loose.add(share.key.stripe)

    def _drop(self, key: ShareKey) -> None:
        """Remove a share's row and corrupt mark, if any."""
        row = self.share(key)
        if row is None:
            return
        named = (key.stripe, key.index)
        self._fresh.discard(key.stripe)
        self._connection.execute("DELETE FROM shares WHERE stripe = ? AND share_index = ?", named)
        self._connection.execute("DELETE FROM corrupt WHERE stripe = ? AND share_index = ?", named)
        self.used_size -= row.size
        self.charges.size -= share_charge(row.size)
        if row.place is not None:
            self.dropped.append(Dropped(key, row.checksum, row.place))

    def claim(self, register: RegisterKey, ballot: Ballot, claims: Sequence[Claim]) -> None:
        """Record claims under a ballot, replacing what that ballot had."""
        named = (register.directory, register.name, ballot)
        gone = self._connection.execute(
            "SELECT stripe FROM claims WHERE directory = ? AND name = ? AND ballot = ?", named
        )
        loose = {stripe for (stripe,) in gone}
        self._loose.update(loose)
        stripes = loose.union(claim.stripe for claim in claims)
        self.charges.size -= self.charges.debts(stripes)
        if loose:
            self.charges.size -= self.charges.claims(register, ballot)
            self._connection.execute(
                "DELETE FROM claims WHERE directory = ? AND name = ? AND ballot = ?", named
            )
        rows = [(*named, position, claim.stripe, pack_claim(claim)) for position, claim in enumerate(claims)]
        self._connection.executemany("INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.charges.rows(len(rows))
        self.charges.size += sum(len(row[-1]) for row in rows) + self.charges.debts(stripes)

    def unclaim(self, register: RegisterKey, below: Ballot) -> None:
        """Drop the claims and debts of ballots < ``below``."""
        named = (register.directory, register.name, below)
        execute = self._connection.execute
        gone = execute("SELECT stripe FROM claims WHERE directory = ? AND name = ? AND ballot < ?", named)
        loose = {stripe for (stripe,) in gone}
        if not loose and not self.charges.owing:
            return
        self._loose.update(loose)
        owed = execute("SELECT stripe FROM owed WHERE directory = ? AND name = ? AND ballot < ?", named)
        stripes = loose.union(stripe for (stripe,) in owed)
        self.charges.size -= self.charges.claims(register, below, CLAIMS_BELOW) + self.charges.debts(stripes)
        execute("DELETE FROM claims WHERE directory = ? AND name = ? AND ballot < ?", named)
        execute("DELETE FROM owed WHERE directory = ? AND name = ? AND ballot < ?", named)
        self.charges.size += self.charges.debts(stripes)

    def stage_claims(
        self, claim_set: bytes, part_index: int, claims: Sequence[Claim], until_s: float
    ) -> None:
        """Keep one CLAIMS part, pinning the stripes it names."""
        part = (claim_set, part_index)
        packed = pack_claims(claims)
        self.charges.size -= self.charges.part(*part)
        self.charges.rows(1)
        self.charges.size += len(packed)
        self._connection.execute(
            "INSERT OR REPLACE INTO staged_claims VALUES (?, ?, ?, ?)", (*part, until_s, packed)
        )
        self._pin((claim.stripe for claim in claims), until_s)

    def owe(self, register: RegisterKey, ballot: Ballot, keys: Sequence[ShareKey]) -> None:
        """Record shares this node should hold and lacks."""
        stripes = {key.stripe for key in keys}
        self.charges.size -= self.charges.debts(stripes)
        self.charges.owe()
        self._connection.executemany(
            "INSERT OR IGNORE INTO owed VALUES (?, ?, ?, ?, ?)",
            [(register.directory, register.name, ballot, key.stripe, key.index) for key in keys],
        )
        self.charges.size += self.charges.debts(stripes)

    def mark_corrupt(self, key: ShareKey) -> None:
        """Remember that a share's bytes are bad, unless they were replaced in this transaction."""
        if any(share.key == key for share in self.kept):
            return
        self._connection.execute(
            """INSERT OR IGNORE INTO corrupt
               SELECT stripe, share_index FROM shares WHERE stripe = ? AND share_index = ?""",
            (key.stripe, key.index),
        )

    def mark_volume_corrupt(self, volume: int, generation: int, end: int) -> None:
        """Mark the shares of a volume that lie behind ``end`` or belong to another generation."""
        self._connection.execute(
            """INSERT OR IGNORE INTO corrupt SELECT stripe, share_index FROM shares
               WHERE volume = ? AND (generation <> ? OR offset + size > ?)""",
            (volume, generation, end),
        )

    def set_floor(self, directory: DirectoryId, ballot: Ballot) -> None:
        """Raise the floor; a lower ballot changes nothing."""
        known = self._connection.execute("SELECT 1 FROM floors WHERE directory = ?", (directory,)).fetchone()
        self._floors.pop(directory, None)
        self.charges.rows(known is None)
        self._connection.execute(
            """INSERT INTO floors VALUES (?, ?) ON CONFLICT (directory) DO UPDATE SET ballot = excluded.ballot
               WHERE excluded.ballot > ballot""",
            (directory, stamp(directory, ballot)),
        )

    def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small value."""
        stamped = stamp(name.encode(), value)
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, stamped))

    def set_own(self, name: str, value: bytes | str | int) -> None:
        """Keep a value of the store itself."""
        self._connection.execute("INSERT OR REPLACE INTO own VALUES (?, ?)", (name, value))

    def pin(self, keys: Sequence[ShareKey], until_s: float) -> None:
        """Keep shares from collection until ``until_s``; what is held is the stripe."""
        self._pin((key.stripe for key in keys), until_s)

    def _pin(self, stripes: Iterable[StripeId], until_s: float) -> None:
        for stripe in stripes:
            named = {"stripe": stripe, "until_s": until_s}
            self._loose.discard(stripe)  # it is held now
            if not self._connection.execute(PIN, named).rowcount:
                self._connection.execute(PIN_LONGER, named)
            elif stripe not in self._fresh:
                self.charges.rows(self.charges.is_bare(stripe))

    def unpin(self, now_s: float) -> int:
        """Drop pins and staged claims that ended; returns how many."""
        ended = self._connection.execute("SELECT stripe FROM pins WHERE until_s <= ?", (now_s,))
        self._loose.update(stripe for (stripe,) in ended)
        self.charges.size -= self.charges.ended(now_s)
        pins = self._connection.execute("DELETE FROM pins WHERE until_s <= ?", (now_s,))
        parts = self._connection.execute("DELETE FROM staged_claims WHERE until_s <= ?", (now_s,))
        return pins.rowcount + parts.rowcount

    def renew(self, until_s: float) -> None:
        """Let every pin and staged claim end at ``until_s``."""
        self._connection.execute("UPDATE pins SET until_s = ?", (until_s,))
        self._connection.execute("UPDATE staged_claims SET until_s = ?", (until_s,))

    def collect(self, count_max: int) -> int:
        """Drop up to ``count_max`` shares whose stripe has neither claim nor pin, in order of names."""
        self._note_suspects()
        self._connection.execute(CLEAR_SUSPECTS)
        found = self._connection.execute(
            """SELECT s.stripe, s.share_index
               FROM suspects CROSS JOIN shares AS s ON s.stripe = suspects.stripe
               ORDER BY suspects.stripe, s.share_index LIMIT ?""",
            (count_max,),
        ).fetchall()
        for stripe, share_index in found:
            self._drop(ShareKey(StripeId(stripe), share_index))
        self._connection.execute(
            """DELETE FROM suspects WHERE NOT EXISTS (
                   SELECT 1 FROM shares AS s WHERE s.stripe = suspects.stripe)"""
        )
        return len(found)

    def _note_suspects(self) -> None:
        """Note stripes that lost a claim or pin, or got a share, and are held by nothing now."""
        self._connection.executemany(SUSPECT, [{"stripe": stripe} for stripe in self._loose])
        self._loose.clear()

    def usage(self) -> int:
        """Return what counts against the quota, with all changes so far."""
        return self.charges.size

    def set_used_size(self) -> None:
        """Keep how many bytes all shares have together."""
        self.set_own("used_size", stamp(b"used_size", self.used_size.to_bytes(8, "big")))

    def set_charged_size(self) -> None:
        """Keep what counts against the quota."""
        # Below zero only after a row was damaged: what it took is not known any more.
        size = max(0, self.charges.size)
        self.set_own("charged_size", stamp(b"charged_size", size.to_bytes(8, "big")))

    def finish(self) -> None:
        """Write what belongs to the transaction as a whole; the last step before its commit."""
        self._note_suspects()
        if self.used_size != self._used_size_before:
            self.set_used_size()
        if self.charges.size != self.charges.size_before:
            self.set_charged_size()
