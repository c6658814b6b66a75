"""How much of a quota the rows of a vault take: counted once, then kept exact change by change."""

import sqlite3
from collections.abc import Iterable
from typing import Final

from dfs.core.api import (
    REMOVAL_SIZE,
    ROW_SIZE,
    Ballot,
    EntryKind,
    RegisterKey,
    share_charge,
)

REGISTER: Final = """
SELECT :row + LENGTH(CAST(value AS BLOB))
    + CASE WHEN LENGTH(value) = 0 OR SUBSTR(value, 1, 1) = :tombstone THEN 0 ELSE :removal END
FROM registers WHERE directory = :directory AND name = :name"""
EVERYTHING: Final = """
SELECT (SELECT SUM(:row + size) FROM shares),
    (SELECT SUM(:row + LENGTH(CAST(value AS BLOB))
        + CASE WHEN LENGTH(value) = 0 OR SUBSTR(value, 1, 1) = :tombstone THEN 0 ELSE :removal END)
        FROM registers),
    (SELECT SUM(:row + LENGTH(rest)) FROM claims),
    (SELECT SUM(:row + LENGTH(claims)) FROM staged_claims),
    (SELECT :row * COUNT(*) FROM floors),
    (SELECT :row * COUNT(*) FROM pins AS p
        WHERE NOT EXISTS (SELECT 1 FROM shares AS s WHERE s.stripe = p.stripe))"""
CLAIMS: Final = """
SELECT SUM(:row + LENGTH(rest)) FROM claims WHERE directory = :directory AND name = :name"""
CLAIMS_OF: Final = CLAIMS + " AND ballot = :ballot"
CLAIMS_BELOW: Final = CLAIMS + " AND ballot < :ballot"
STAGED: Final = "SELECT SUM(:row + LENGTH(claims)) FROM staged_claims WHERE "
STAGED_PART: Final = STAGED + "claim_set = :claim_set AND part_index = :part_index"
STAGED_ENDED: Final = STAGED + "until_s <= :until_s"
DEBTS: Final = """
SELECT COUNT(DISTINCT share_index),
    (SELECT MAX(SUBSTR(rest, 1, 4)) FROM claims AS c WHERE c.stripe = :stripe)
FROM owed WHERE stripe = :stripe"""  # share sizes are big-endian, so they compare as bytes
BARE_PIN: Final = """
SELECT EXISTS (SELECT 1 FROM pins WHERE stripe = :stripe)
    AND NOT EXISTS (SELECT 1 FROM shares WHERE stripe = :stripe)"""
BARE_PINS: Final = """
SELECT COUNT(*) FROM pins AS p WHERE until_s <= :until_s
    AND NOT EXISTS (SELECT 1 FROM shares AS s WHERE s.stripe = p.stripe)"""
CONSTANTS: Final = {"row": ROW_SIZE, "removal": REMOVAL_SIZE, "tombstone": bytes((EntryKind.TOMBSTONE,))}


def counted(connection: sqlite3.Connection) -> int:
    """Count all rows: what a running sum must come to."""
    sums = connection.execute(EVERYTHING, CONSTANTS).fetchone()
    owing = connection.execute("SELECT DISTINCT stripe FROM owed").fetchall()
    return sum(int(each or 0) for each in sums) + Charges(connection, 0).debts(stripe for (stripe,) in owing)


class Charges:
    """The running sum of a transaction, and what single rows take as they stand now."""

    def __init__(self, connection: sqlite3.Connection, size: int) -> None:
        self._connection = connection
        self.size_before: Final = size
        self.size = size
        self._owing: bool | None = None  # not looked yet

    def _one(self, statement: str, **values: object) -> int:
        found = self._connection.execute(statement, {**CONSTANTS, **values}).fetchone()
        return int(found[0] or 0) if found else 0

    def rows(self, count: int) -> None:
        """Charge for so many rows that have no bytes of their own."""
        self.size += ROW_SIZE * count

    def register(self, key: RegisterKey) -> int:
        """Return what a register takes."""
        return self._one(REGISTER, directory=key.directory, name=key.name)

    def claims(self, key: RegisterKey, ballot: Ballot, statement: str = CLAIMS_OF) -> int:
        """Return what the claims of a ballot take, or those of all lower ones (CLAIMS_BELOW)."""
        return self._one(statement, directory=key.directory, name=key.name, ballot=ballot)

    def part(self, claim_set: bytes, part_index: int) -> int:
        """Return what a staged part takes."""
        return self._one(STAGED_PART, claim_set=claim_set, part_index=part_index)

    def ended(self, until_s: float) -> int:
        """Return what staged parts and pins take that end by then."""
        bare_count = self._one(BARE_PINS, until_s=until_s)
        return self._one(STAGED_ENDED, until_s=until_s) + ROW_SIZE * bare_count

    @property
    def owing(self) -> bool:
        """Whether any share may be owed."""
        if self._owing is None:
            self._owing = bool(self._one("SELECT EXISTS (SELECT 1 FROM owed)"))
        return self._owing

    def owe(self) -> None:
        """Take note that a share is owed from now on."""
        self._owing = True

    def debts(self, stripes: Iterable[bytes]) -> int:
        """Return what the owed shares of stripes take: as much as when they come; each counts once."""
        total = 0
        if not self.owing:
            return total
        for stripe in stripes:
            count, size = self._connection.execute(DEBTS, {"stripe": stripe}).fetchone()
            total += count * share_charge(int.from_bytes(size, "big") if isinstance(size, bytes) else 0)
        return total

    def is_bare(self, stripe: bytes) -> bool:
        """Return whether there is a pin on a stripe and no share of it; a pin on a share costs nothing."""
        return bool(self._one(BARE_PIN, stripe=stripe))
