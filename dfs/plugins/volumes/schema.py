"""The tables of a vault."""

import sqlite3
from typing import Final

from dfs.core.api import StoreError

SCHEMA_VERSION: Final = 1

# Small shares lie in `shares` itself, in the order they came; larger ones in a volume, then body is NULL.
SCHEMA: Final = """
CREATE TABLE own (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE floors (directory BLOB PRIMARY KEY, ballot BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE registers (
    directory BLOB NOT NULL, name BLOB NOT NULL, promised BLOB NOT NULL, accepted BLOB NOT NULL,
    value BLOB NOT NULL, digest BLOB NOT NULL, claim_set BLOB NOT NULL, confirmed BLOB NOT NULL,
    safe INTEGER NOT NULL, claimed_count INTEGER NOT NULL, row_digest BLOB NOT NULL,
    PRIMARY KEY (directory, name)) WITHOUT ROWID;
CREATE TABLE shares (
    row_id INTEGER PRIMARY KEY, stripe BLOB NOT NULL, share_index INTEGER NOT NULL, size INTEGER NOT NULL,
    checksum BLOB NOT NULL, volume INTEGER, generation INTEGER, offset INTEGER, body BLOB,
    UNIQUE (stripe, share_index));
CREATE INDEX shares_by_place ON shares (volume, offset, size, generation) WHERE volume IS NOT NULL;
CREATE TABLE corrupt (
    stripe BLOB NOT NULL, share_index INTEGER NOT NULL, PRIMARY KEY (stripe, share_index)) WITHOUT ROWID;
CREATE TABLE claims (
    directory BLOB NOT NULL, name BLOB NOT NULL, ballot BLOB NOT NULL, position INTEGER NOT NULL,
    stripe BLOB NOT NULL, rest BLOB NOT NULL, PRIMARY KEY (directory, name, ballot, position)) WITHOUT ROWID;
CREATE INDEX claims_by_stripe ON claims (stripe);
CREATE TABLE staged_claims (
    claim_set BLOB NOT NULL, part_index INTEGER NOT NULL, until_s REAL NOT NULL, claims BLOB NOT NULL,
    PRIMARY KEY (claim_set, part_index));
CREATE TABLE owed (
    directory BLOB NOT NULL, name BLOB NOT NULL, ballot BLOB NOT NULL, stripe BLOB NOT NULL,
    share_index INTEGER NOT NULL, PRIMARY KEY (directory, name, ballot, stripe, share_index)) WITHOUT ROWID;
CREATE INDEX owed_by_share ON owed (stripe, share_index);
CREATE TABLE pins (stripe BLOB PRIMARY KEY, until_s REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX pins_by_end ON pins (until_s);
CREATE TABLE suspects (stripe BLOB PRIMARY KEY) WITHOUT ROWID;
"""


def create_schema(connection: sqlite3.Connection) -> None:
    """Make the tables, inside the caller's transaction (`executescript` would commit it)."""
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_schema(connection: sqlite3.Connection) -> bool:
    """Return whether there are tables. Raises: StoreError: a newer dfs made them."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"the vault has format {version}, this dfs reads up to {SCHEMA_VERSION}")
    return version > 0
