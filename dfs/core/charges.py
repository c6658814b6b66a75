"""What counts against a quota, in bytes: one formula for every store, and which part of a quota is for what.

Everything a user makes a node keep counts: shares, pinned or claimed or neither; shares owed, as if they were
here already; entries and promises; claims, those staged too; pins and floors. Rows are small, but free ones
would let an account without room fill a disk all the same.
"""

import enum
from typing import Final

from dfs.core import limits
from dfs.core.types import Claim, EntryKind, RegisterRow

ROW_SIZE: Final = 128  # a row of any kind, beside its bytes
REMOVAL_SIZE: Final = 64  # by so much a tombstone may be larger than what it removes
RESERVE_RATIO: Final = 32
RESERVE_SIZE_MAX: Final = 2 * limits.MIB


def share_charge(size: int) -> int:
    """Return what a share of ``size`` bytes takes, kept or owed; a pin on it costs nothing."""
    return ROW_SIZE + size


def claim_charge(claim: Claim) -> int:
    """Return what a claim takes."""
    return ROW_SIZE + 8 + len(claim.code.encode()) + sum(1 + 2 * len(nodes) for nodes in claim.nodes)


def register_charge(row: RegisterRow | None) -> int:
    """Return what an entry or a promise takes.

    A live value takes what its removal will need as well, so that removing never takes more.
    """
    if row is None:
        return 0
    live = row.value != b"" and row.value[0] != EntryKind.TOMBSTONE
    return ROW_SIZE + len(row.value) + (REMOVAL_SIZE if live else 0)


class Purpose(enum.Enum):
    """What room is wanted for: new bytes and names, values whose bytes came before, removals."""

    NEW = 0
    VALUE = 1
    REMOVAL = 2


def bound(quota: int, purpose: Purpose) -> int:
    """Return up to how many bytes a quota may be used for a purpose; removals may use all of it.

    What lies between: without it the last writers in a race would leave values on some nodes that others
    refuse, which nobody could then read or remove.
    """
    reserve = min(quota // RESERVE_RATIO, RESERVE_SIZE_MAX)
    return quota - reserve + reserve * purpose.value // 2
