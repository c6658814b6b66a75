"""What requests and replies have many of, as frozen values; messages.py says how they travel."""

from typing import Final

from dfs.core.records import frozen
from dfs.core.types import NO_BALLOT, Ballot, DirectoryId, RegisterKey, ShareKey


@frozen
class PrepareItem:
    """One promise asked for."""

    key: RegisterKey
    ballot: Ballot


ACCEPTED: Final = 0  # every claimed share is here
OWING: Final = 1  # accepted leniently; some claimed shares are owed
REFUSED: Final = 2  # a higher ballot was promised, or the floor is higher: see ``ballot``
MISSING: Final = 3  # strict, and claimed shares are not here: see ``missing``
UNCLAIMED: Final = 4  # the claim set was not staged here
FULL: Final = 5
OVER_QUOTA: Final = 6
CONTRADICTED: Final = 7  # the same ballot was accepted with another digest
DAMAGED: Final = 8  # the register's row here is corrupt: it takes no part until it is replayed


@frozen
class AcceptResult:
    """``ballot``: what stands in the way when REFUSED. ``missing``: some positions in the claims."""

    status: int
    ballot: Ballot = NO_BALLOT
    missing: tuple[int, ...] = ()


@frozen
class ConfirmItem:
    """This ballot was chosen; ``safe``: H was reached, so older claims may go."""

    key: RegisterKey
    ballot: Ballot
    tag: bytes
    safe: bool


@frozen
class Floor:
    """The highest forgotten ballot of a directory."""

    directory: DirectoryId
    ballot: Ballot


@frozen
class DirectoryState:
    """``register_count``: rows, promise-only ones too."""

    directory: DirectoryId
    register_count: int
    floor: Ballot


@frozen
class ShareHead:
    """One share of a STORE: name, bytes in the bulk, xxh3-128."""

    key: ShareKey
    size: int
    checksum: bytes


FOUND: Final = 0
ABSENT: Final = 1
CORRUPT: Final = 2


@frozen
class FetchResult:
    """``checksum``: as stored, not verified now."""

    status: int
    size: int
    checksum: bytes
