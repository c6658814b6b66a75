"""Every message of the wire, as frozen values, and the one table from code to class.

A request has a class, its reply another; both share a code. Rows that may be large travel as bulk
(bulk_rows.py), everything else in the control body. Field order is wire order. See docs/formats.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from dfs.core import limits
from dfs.core.encoding import (
    BALLOT,
    BALLOT_OR_NONE,
    DIGEST_OR_NONE,
    IDENTIFIER,
    Shape,
    flag,
    items,
    raw,
    raw_max,
    record,
    text,
    uint,
)
from dfs.core.message_items import (
    ABSENT as ABSENT,
    ACCEPTED as ACCEPTED,
    CONTRADICTED as CONTRADICTED,
    CORRUPT as CORRUPT,
    DAMAGED as DAMAGED,
    FOUND as FOUND,
    FULL as FULL,
    MISSING as MISSING,
    OVER_QUOTA as OVER_QUOTA,
    OWING as OWING,
    REFUSED as REFUSED,
    UNCLAIMED as UNCLAIMED,
    AcceptResult as AcceptResult,
    ConfirmItem as ConfirmItem,
    DirectoryState as DirectoryState,
    FetchResult as FetchResult,
    Floor as Floor,
    PrepareItem as PrepareItem,
    ShareHead as ShareHead,
)
from dfs.core.records import described, field, frozen
from dfs.core.types import Ballot, DirectoryId, NodeId, RegisterKey, ShareKey, VaultState


def _of(shape: Shape) -> Any:  # noqa: ANN401 - attrs fields are typed by their annotation
    return field(metadata={"shape": shape})


REASON_SIZE_MAX: Final = 1024  # bytes of UTF-8: why a vault is read-only
COUNT, _SIZE = uint((1 << 32) - 1), uint()
DIRECTORY = raw(limits.DIRECTORY_ID_SIZE)
BATCH = limits.BATCH_COUNT_MAX
REGISTER = record(RegisterKey, DIRECTORY, raw(limits.NAME_ID_SIZE))
SHARE = record(ShareKey, raw(limits.STRIPE_ID_SIZE), uint(limits.GROUP_SIZE_MAX - 1))
_ROSTER = raw_max(limits.CONTROL_SIZE_MAX - 1024)


@frozen
class Empty:
    """A reply that says "done"."""


@frozen
class Hello:
    """First request. ``version``: of the software, for people."""

    nonce: bytes = _of(raw(limits.NONCE_SIZE))
    version: str = _of(text(64))
    features: tuple[str, ...] = _of(items(text(32), 32))


@frozen
class HelloReply:
    """Who the node says it is; ``name`` is a label."""

    node_id: NodeId = _of(raw(limits.NODE_ID_SIZE))
    incarnation: int = _of(COUNT)
    realm: str = _of(text(255))
    nonce: bytes = _of(raw(limits.NONCE_SIZE))
    name: str = _of(text(255))
    version: str = _of(text(64))
    features: tuple[str, ...] = _of(items(text(32), 32))


@frozen
class Login:
    """Proof of the login key, see auth.py."""

    user: str = _of(text(limits.USER_SIZE_MAX))
    signature: bytes = _of(raw(64))


def _state(value: object) -> VaultState:
    return VaultState(uint(4)(value))


@frozen
class LoginReply:
    """The vault on this node; ``roster`` b"" while there is none."""

    state: VaultState = _of(_state)
    roster: bytes = _of(_ROSTER)


@frozen
class Create:
    """Give a NEW vault its roster, if it has none."""

    roster: bytes = _of(_ROSTER)


@frozen
class CreateReply:
    """The roster the vault has now."""

    roster: bytes = _of(_ROSTER)


@frozen
class Activate:
    """A NEW vault whose wrap is written becomes ACTIVE."""

    roster_digest: bytes = _of(IDENTIFIER)


@frozen
class Ping:
    """Are you there?"""


@frozen
class Join:
    """A NEW vault without a roster, beside ACTIVE ones, becomes JOINING under theirs."""

    roster: bytes = _of(_ROSTER)


@frozen
class Quarantine:
    """This node once told ``mark``; if it is behind that it was rolled back, and becomes QUARANTINED."""

    mark: int = _of(_SIZE)


@frozen
class EndJoin:
    """All registers were replayed: the vault counts again, unless its mark is below ``mark``, last told."""

    roster_digest: bytes = _of(IDENTIFIER)
    mark: int = _of(_SIZE)


@frozen
class StateReply:
    """What the vault is now."""

    state: VaultState = _of(_state)


@frozen
class Vaults:
    """Healer: the users that have an account here, names > ``after`` in byte order."""

    after: str = _of(text(limits.USER_SIZE_MAX))


@frozen
class VaultsReply:
    """``more``: there may be further ones."""

    users: tuple[str, ...] = _of(items(text(limits.USER_SIZE_MAX), BATCH))
    more: bool = _of(flag)


@frozen
class Enter:
    """Healer: what follows is about the vault of this user. Answered as a login is."""

    user: str = _of(text(limits.USER_SIZE_MAX))


@frozen
class Rekey:
    """The login key of this user is another one from now on; the present one signs it, see auth.py."""

    public_key: bytes = _of(raw(32))
    epoch: int = _of(_SIZE)
    signature: bytes = _of(raw(64))


@frozen
class Adopt:
    """An empty node takes over the id of one whose disk is lost; the connection ends after the answer."""

    node_id: NodeId = _of(raw(limits.NODE_ID_SIZE))
    incarnation: int = _of(COUNT)


@frozen
class Read:
    """Read registers. ``with_shares``: append this node's own small shares of each value."""

    roster_digest: bytes = _of(IDENTIFIER)
    with_values: bool = _of(flag)
    with_shares: bool = _of(flag)
    keys: tuple[RegisterKey, ...] = _of(items(REGISTER, BATCH))


@frozen
class ReadReply:
    """One bulk row a key, in order (`read_rows`)."""

    count: int = _of(COUNT)


@frozen
class List:
    """Rows of a directory with name id > ``after``."""

    roster_digest: bytes = _of(IDENTIFIER)
    directory: DirectoryId = _of(DIRECTORY)
    after: bytes = _of(raw(0, limits.NAME_ID_SIZE))
    count_max: int = _of(uint(limits.LIST_COUNT_MAX))
    with_values: bool = _of(flag)


@frozen
class ListReply:
    """Bulk rows by name id (`list_rows`); ``more``: there may be further rows; ``floor``: see `RowState`."""

    count: int = _of(COUNT)
    more: bool = _of(flag)
    floor: Ballot = _of(BALLOT_OR_NONE)


@frozen
class ListDigest:
    """What a List of these rows with their values would be answered with, but its bulk as a digest."""

    roster_digest: bytes = _of(IDENTIFIER)
    directory: DirectoryId = _of(DIRECTORY)
    after: bytes = _of(raw(0, limits.NAME_ID_SIZE))
    count_max: int = _of(uint(limits.LIST_COUNT_MAX))


@frozen
class ListDigestReply:
    """As ListReply; ``digest``: see `bulk_rows.listed_digest`."""

    count: int = _of(COUNT)
    more: bool = _of(flag)
    floor: Ballot = _of(BALLOT_OR_NONE)
    digest: bytes = _of(IDENTIFIER)


@frozen
class Prepare:
    """Phase 1 of CASPaxos for a batch of registers."""

    roster_digest: bytes = _of(IDENTIFIER)
    items: tuple[PrepareItem, ...] = _of(items(record(PrepareItem, REGISTER, BALLOT), BATCH))


@frozen
class PrepareReply:
    """One bulk row an item, in order (`promise_rows`)."""

    count: int = _of(COUNT)


@frozen
class Claims:
    """One part of a claim set, as bulk (`encode_claims`); ``claim_set``: digest of all parts together."""

    claim_set: bytes = _of(IDENTIFIER)
    part_index: int = _of(COUNT)


@frozen
class Accept:
    """Phase 2 for a batch; one bulk row an item (`accept_rows`)."""

    roster_digest: bytes = _of(IDENTIFIER)
    count: int = _of(uint(BATCH))


@frozen
class AcceptReply:
    """One result an item, in order."""

    results: tuple[AcceptResult, ...] = _of(
        items(
            record(AcceptResult, uint(DAMAGED), BALLOT_OR_NONE, items(COUNT, limits.MISSING_COUNT_MAX)),
            BATCH,
        )
    )


@frozen
class Confirm:
    """``durable``: answer only when it is on disk (tombstones)."""

    roster_digest: bytes = _of(IDENTIFIER)
    durable: bool = _of(flag)
    items: tuple[ConfirmItem, ...] = _of(
        items(record(ConfirmItem, REGISTER, BALLOT, DIGEST_OR_NONE, flag), BATCH)
    )


@frozen
class ConfirmReply:
    """Whether each item's ballot is the accepted one here."""

    held: tuple[bool, ...] = _of(items(flag, BATCH))


@frozen
class Forget:
    """Drop confirmed tombstones that all nodes hold; the floor rises to their ballot."""

    roster_digest: bytes = _of(IDENTIFIER)
    items: tuple[PrepareItem, ...] = _of(items(record(PrepareItem, REGISTER, BALLOT), BATCH))


@frozen
class Replay:
    """Registers as other nodes hold them, under their own ballots; one bulk row an item (`replay_rows`)."""

    roster_digest: bytes = _of(IDENTIFIER)
    count: int = _of(uint(BATCH))


_FLOOR = record(Floor, DIRECTORY, BALLOT)


@frozen
class RaiseFloors:
    """Take over floors from other nodes; a lower one changes nothing."""

    roster_digest: bytes = _of(IDENTIFIER)
    floors: tuple[Floor, ...] = _of(items(_FLOOR, BATCH))


@frozen
class Directories:
    """The directories of which this node holds registers or a floor, with ids > ``after``."""

    roster_digest: bytes = _of(IDENTIFIER)
    after: bytes = _of(raw(0, limits.DIRECTORY_ID_SIZE))


@frozen
class DirectoriesReply:
    """By id; ``more``: there may be further ones."""

    directories: tuple[DirectoryState, ...] = _of(
        items(record(DirectoryState, DIRECTORY, COUNT, BALLOT_OR_NONE), BATCH)
    )
    more: bool = _of(flag)


@frozen
class Claimed:
    """The claims an accepted value holds here, from a position on."""

    roster_digest: bytes = _of(IDENTIFIER)
    key: RegisterKey = _of(REGISTER)
    ballot: Ballot = _of(BALLOT)
    position: int = _of(COUNT)


@frozen
class ClaimedReply:
    """The bulk is a run of claims; ``more``: there are further ones."""

    count: int = _of(COUNT)
    more: bool = _of(flag)


@frozen
class Has:
    """Which of these shares are here? Those that are, are pinned."""

    keys: tuple[ShareKey, ...] = _of(items(SHARE, BATCH))


@frozen
class HasReply:
    """One answer a key, in order."""

    held: tuple[bool, ...] = _of(items(flag, BATCH))


@frozen
class Store:
    """Keep and pin shares; the bulk is their bodies one after the other."""

    shares: tuple[ShareHead, ...] = _of(
        items(record(ShareHead, SHARE, uint(limits.SHARE_SIZE_MAX), raw(limits.CHECKSUM_SIZE)), BATCH)
    )


@frozen
class Fetch:
    """Read shares. The reply's bulk is the bodies of those FOUND, one after the other."""

    keys: tuple[ShareKey, ...] = _of(items(SHARE, BATCH))


@frozen
class FetchReply:
    """One result a key, in order."""

    results: tuple[FetchResult, ...] = _of(
        items(
            record(FetchResult, uint(CORRUPT), uint(limits.SHARE_SIZE_MAX), raw(0, limits.CHECKSUM_SIZE)),
            BATCH,
        )
    )


@frozen
class Verify:
    """Read these shares from disk and hash them; the bad ones are known as corrupt from then on."""

    keys: tuple[ShareKey, ...] = _of(items(SHARE, BATCH))


@frozen
class VerifyReply:
    """FOUND, ABSENT or CORRUPT for each key, in order."""

    statuses: tuple[int, ...] = _of(items(uint(CORRUPT), BATCH))


@frozen
class Condemn:
    """Owner: these shares are wrong though their checksums are right; corrupt from then on, so replaced."""

    keys: tuple[ShareKey, ...] = _of(items(SHARE, BATCH))


@frozen
class Lacking:
    """Claimed shares that should be here and are not, or are corrupt, of stripes > ``after``."""

    roster_digest: bytes = _of(IDENTIFIER)
    after: bytes = _of(raw(0, limits.STRIPE_ID_SIZE))


@frozen
class LackingReply:
    """The bulk has one row a stripe, by stripe id (`lacking_rows`); ``more``: there may be further ones."""

    count: int = _of(COUNT)
    more: bool = _of(flag)


@frozen
class Status:
    """How is this vault?"""


@frozen
class StatusReply:
    """Sizes in bytes, ``used_size`` of shares. ``read_only``: the reason, "" while writable. ``owed_count``,
    ``corrupt_count``: shares that should be here and are not, or are bad. ``scrubbed_s``: when the last scrub
    of all shares ended, seconds since 1970 by the node's clock; 0 = never.
    """

    state: VaultState = _of(_state)
    used_size: int = _of(_SIZE)
    free_size: int = _of(_SIZE)
    read_only: str = _of(text(REASON_SIZE_MAX))
    share_count: int = _of(_SIZE)
    owed_count: int = _of(_SIZE)
    corrupt_count: int = _of(_SIZE)
    scrubbed_s: int = _of(_SIZE)


@frozen
class Quota:
    """How much may this vault take, and how much does it?"""


@frozen
class QuotaReply:
    """``used_size``: bytes that count against the quota. ``quota``: in bytes; none: there is no bound."""

    used_size: int = _of(_SIZE)
    quota: tuple[int, ...] = _of(items(_SIZE, 1))


@frozen
class ErrorReply:
    """Why a request failed. ``kind``: a key of wire.FAULTS; ``extra``: for another roster, the node's."""

    kind: int = _of(COUNT)
    what: str = _of(text(2048))
    kept: str = _of(text(1024))
    next_step: str = _of(text(1024))
    extra: bytes = _of(_ROSTER)


# fmt: off
Request: TypeAlias = (
    Hello | Login | Create | Activate | Ping | Join | Quarantine | EndJoin | Vaults | Enter | Adopt | Rekey
    | Read | List | ListDigest | Prepare | Claims | Accept | Confirm | Forget | Replay | RaiseFloors
    | Directories | Claimed | Has | Store | Fetch | Verify | Lacking | Condemn | Status | Quota
)
Response: TypeAlias = (
    HelloReply | LoginReply | CreateReply | Empty | StateReply | VaultsReply | ReadReply | ListReply
    | ListDigestReply | PrepareReply | AcceptReply | ConfirmReply | DirectoriesReply | ClaimedReply | HasReply
    | FetchReply | VerifyReply | LackingReply | StatusReply | QuotaReply
)
# fmt: on
Message: TypeAlias = Request | Response | ErrorReply

MESSAGES: Final[Mapping[int, tuple[type[Request], type[Response]]]] = {
    1: (Hello, HelloReply),
    2: (Login, LoginReply),
    3: (Create, CreateReply),
    4: (Activate, Empty),
    5: (Ping, Empty),
    6: (Join, StateReply),
    7: (Quarantine, StateReply),
    8: (EndJoin, StateReply),
    9: (Vaults, VaultsReply),
    10: (Enter, LoginReply),
    11: (Adopt, Empty),
    12: (Rekey, Empty),
    16: (Read, ReadReply),
    17: (List, ListReply),
    18: (Prepare, PrepareReply),
    19: (Claims, Empty),
    20: (Accept, AcceptReply),
    21: (Confirm, ConfirmReply),
    22: (Forget, Empty),
    23: (Replay, AcceptReply),
    24: (RaiseFloors, Empty),
    25: (Directories, DirectoriesReply),
    26: (Claimed, ClaimedReply),
    27: (ListDigest, ListDigestReply),
    32: (Has, HasReply),
    33: (Store, Empty),
    34: (Fetch, FetchReply),
    35: (Verify, VerifyReply),
    36: (Lacking, LackingReply),
    37: (Condemn, Empty),
    48: (Status, StatusReply),
    49: (Quota, QuotaReply),
}
CODES: Final[Mapping[type[Request], int]] = {request: code for code, (request, _) in MESSAGES.items()}
CLASSES: Final[Sequence[type[Message]]] = (ErrorReply, *(cls for pair in MESSAGES.values() for cls in pair))


_SHAPES: Final[dict[type[Message], Shape]] = {}  # of those that were asked for: few, in a small command


def shape_of(cls: type[Message]) -> Shape:
    """Return the shape of a message's control body."""
    if cls not in _SHAPES:
        _SHAPES[cls] = record(cls, *(metadata["shape"] for _, metadata in described(cls)))
    return _SHAPES[cls]


# What is asked with `quick` (effects.ask): never behind what waits for the disk.
PROMPT: Final = frozenset({Ping, Read, List, ListDigest, Has, Fetch, Status, Quota})


def waits_for_disk(request: Request) -> bool:
    """Return whether the answer may have to wait until something is on the node's disk."""
    return request.durable if isinstance(request, Confirm) else type(request) not in PROMPT
