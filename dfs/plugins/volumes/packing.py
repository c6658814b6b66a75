"""How claims and registers lie in the tables of a vault; see docs/formats.md, section 8."""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import xxhash

from dfs.core.api import (
    Ballot,
    Claim,
    CorruptEntryError,
    DirectoryId,
    Geometry,
    NameId,
    RegisterKey,
    RegisterRow,
    StoreError,
    StripeId,
)

CLAIM_HEAD: Final = struct.Struct(">IBBBB")  # share size, k, n, bytes of the code's name, rows of nodes
NODE_INDEX: Final = struct.Struct(">H")
REGISTER_HEAD: Final = struct.Struct(">BI")  # safe, shares claimed
PART_SIZE: Final = struct.Struct(">I")

RegisterColumns = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, int, int, bytes, int, int]


def pack_claim(claim: Claim) -> bytes:
    """Return everything of a claim but its stripe."""
    code = claim.code.encode()
    geometry = claim.geometry
    parts = [
        CLAIM_HEAD.pack(claim.share_size, geometry.needed, geometry.total, len(code), len(claim.nodes)),
        code,
    ]
    for nodes in claim.nodes:
        parts.append(bytes((len(nodes),)))
        parts += [NODE_INDEX.pack(index) for index in nodes]
    return b"".join(parts)


def unpack_claim(stripe: bytes, packed: bytes, offset: int = 0) -> tuple[Claim, int]:
    """Return a claim and where its bytes end. Raises: CorruptEntryError: it is not what `pack_claim` made."""
    try:
        share_size, needed, total, code_size, row_count = CLAIM_HEAD.unpack_from(packed, offset)
        offset += CLAIM_HEAD.size
        code = packed[offset : offset + code_size].decode()
        offset += code_size
        rows = []
        for _ in range(row_count):
            node_count = packed[offset]
            offset += 1
            step = NODE_INDEX.size
            rows.append(
                tuple(NODE_INDEX.unpack_from(packed, offset + step * i)[0] for i in range(node_count))
            )
            offset += step * node_count
        return Claim(StripeId(stripe), share_size, code, Geometry(needed, total), tuple(rows)), offset
    except (struct.error, IndexError, TypeError, ValueError) as problem:
        raise CorruptEntryError(f"a claim on stripe {stripe!r} cannot be read: {problem}") from None


def pack_claims(claims: Sequence[Claim]) -> bytes:
    """Return claims one after the other, each led by its stripe."""
    return b"".join(bytes((len(claim.stripe),)) + claim.stripe + pack_claim(claim) for claim in claims)


def unpack_claims(packed: bytes) -> Iterator[Claim]:
    """Read back what `pack_claims` made."""
    offset = 0
    while offset < len(packed):
        body_offset = offset + 1 + packed[offset]
        claim, offset = unpack_claim(packed[offset + 1 : body_offset], packed, body_offset)
        yield claim


def register_digest(key: RegisterKey, row: RegisterRow) -> bytes:
    """Return the xxh3-128 that tells whether a register row is still what was written."""
    columns = (row.promised, row.accepted, row.value, row.digest, row.claim_set, row.confirmed)
    pieces = [REGISTER_HEAD.pack(row.safe, row.claimed_count)]
    for column in (key.directory, key.name, *columns):
        pieces += (PART_SIZE.pack(len(column)), column)
    return xxhash.xxh3_128_digest(b"".join(pieces))


def _bytes(column: object) -> bytes:
    return column if isinstance(column, bytes) else str(column).encode()  # it was of another kind once


def register_row(directory: DirectoryId, columns: RegisterColumns) -> tuple[RegisterKey, RegisterRow | None]:
    """Return the row, or None in its place when it fails its digest."""
    (
        name,
        promised,
        accepted,
        value,
        digest,
        claim_set,
        confirmed,
        safe,
        claimed,
        row_digest,
        owed,
        corrupt,
    ) = columns
    key = RegisterKey(directory, NameId(_bytes(name)))
    row = RegisterRow(
        Ballot(promised),
        Ballot(accepted),
        value,
        digest,
        claim_set,
        confirmed,
        bool(safe),
        claimed,
        owed,
        corrupt,
    )
    try:
        return key, row if register_digest(key, row) == row_digest else None
    except (TypeError, struct.error):  # a column is of another kind now
        return key, None


def stamp(key: bytes, value: bytes) -> bytes:
    """Return a small value with the xxh3-128 that tells whether it is still what was written under a key."""
    return value + xxhash.xxh3_128_digest(struct.pack(">I", len(key)) + key + value)


def unstamp(key: bytes, stamped: object) -> bytes:
    """Return what `stamp` was given. Raises: StoreError: it is damaged."""
    if isinstance(stamped, bytes) and stamp(key, stamped[:-16]) == stamped:
        return stamped[:-16]
    raise StoreError(f"what the vault keeps under {key!r} is damaged")
