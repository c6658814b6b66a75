"""Every message of the wire, as frozen values, and the one table from code to class.

A request has a class, its reply another; both share a code. Rows that may be large travel as bulk (functions
at the end), everything else in the control body. Field order is wire order. See docs/formats.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import field, fields

from dfs.core import encoding, limits
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
from dfs.core.errors import RemoteProtocolError
from dfs.core.records import frozen
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Buffer,
    Claim,
    DirectoryId,
    Geometry,
    NameId,
    NodeId,
    RegisterKey,
    RegisterRow,
    ShareKey,
    StripeId,
    VaultState,
)


def _of(shape: Shape) -> Any:  # noqa: ANN401 - attrs fields are typed by their annotation
    return field(metadata={"shape": shape})


REASON_SIZE_MAX: Final = 1024  # bytes of UTF-8: why a vault is read-only

_COUNT = uint((1 << 32) - 1)
_SIZE = uint()
_DIRECTORY = raw(limits.DIRECTORY_ID_SIZE)
_BATCH = limits.BATCH_COUNT_MAX
_REGISTER = record(RegisterKey, _DIRECTORY, raw(limits.NAME_ID_SIZE))
_SHARE = record(ShareKey, raw(limits.STRIPE_ID_SIZE), uint(limits.GROUP_SIZE_MAX - 1))
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
    incarnation: int = _of(_COUNT)
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


@frozen
class LoginReply:
    """The vault on this node; ``roster`` b"" while there is none."""

    state: VaultState = _of(lambda value: VaultState(uint(4)(value)))
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
class Read:
    """Read registers. ``with_shares``: append this node's own small shares of each value."""

    roster_digest: bytes = _of(IDENTIFIER)
    with_values: bool = _of(flag)
    with_shares: bool = _of(flag)
    keys: tuple[RegisterKey, ...] = _of(items(_REGISTER, _BATCH))


@frozen
class ReadReply:
    """One bulk row a key, in order (`read_rows`)."""

    count: int = _of(_COUNT)


@frozen
class List:
    """Rows of a directory with name id > ``after``."""

    roster_digest: bytes = _of(IDENTIFIER)
    directory: DirectoryId = _of(_DIRECTORY)
    after: bytes = _of(raw(0, limits.NAME_ID_SIZE))
    count_max: int = _of(uint(limits.LIST_COUNT_MAX))
    with_values: bool = _of(flag)


@frozen
class ListReply:
    """Bulk rows by name id (`list_rows`); ``more``: there may be further rows; ``floor``: see `RowState`."""

    count: int = _of(_COUNT)
    more: bool = _of(flag)
    floor: Ballot = _of(BALLOT_OR_NONE)


@frozen
class PrepareItem:
    """One promise asked for."""

    key: RegisterKey
    ballot: Ballot


@frozen
class Prepare:
    """Phase 1 of CASPaxos for a batch of registers."""

    roster_digest: bytes = _of(IDENTIFIER)
    items: tuple[PrepareItem, ...] = _of(items(record(PrepareItem, _REGISTER, BALLOT), _BATCH))


@frozen
class PrepareReply:
    """One bulk row an item, in order (`promise_rows`)."""

    count: int = _of(_COUNT)


@frozen
class Claims:
    """One part of a claim set, as bulk (`encode_claims`); ``claim_set``: digest of all parts together."""

    claim_set: bytes = _of(IDENTIFIER)
    part_index: int = _of(_COUNT)


@frozen
class Accept:
    """Phase 2 for a batch; one bulk row an item (`accept_rows`)."""

    roster_digest: bytes = _of(IDENTIFIER)
    count: int = _of(uint(_BATCH))


ACCEPTED: Final = 0  # every claimed share is here
OWING: Final = 1  # accepted leniently; some claimed shares are owed
REFUSED: Final = 2  # a higher ballot was promised, or the floor is higher: see ``ballot``
MISSING: Final = 3  # strict, and claimed shares are not here: see ``missing``
UNCLAIMED: Final = 4  # the claim set was not staged here
FULL: Final = 5
OVER_QUOTA: Final = 6
CONTRADICTED: Final = 7  # the same ballot was accepted with another digest


@frozen
class AcceptResult:
    """``ballot``: what stands in the way when REFUSED. ``missing``: some positions in the claims."""

    status: int
    ballot: Ballot = NO_BALLOT
    missing: tuple[int, ...] = ()


@frozen
class AcceptReply:
    """One result an item, in order."""

    results: tuple[AcceptResult, ...] = _of(
        items(
            record(AcceptResult, uint(CONTRADICTED), BALLOT_OR_NONE, items(_COUNT, limits.MISSING_COUNT_MAX)),
            _BATCH,
        )
    )


@frozen
class ConfirmItem:
    """This ballot was chosen; ``safe``: H was reached, so older claims may go."""

    key: RegisterKey
    ballot: Ballot
    tag: bytes
    safe: bool


@frozen
class Confirm:
    """``durable``: answer only when it is on disk (tombstones)."""

    roster_digest: bytes = _of(IDENTIFIER)
    durable: bool = _of(flag)
    items: tuple[ConfirmItem, ...] = _of(
        items(record(ConfirmItem, _REGISTER, BALLOT, DIGEST_OR_NONE, flag), _BATCH)
    )


@frozen
class ConfirmReply:
    """Whether each item's ballot is the accepted one here."""

    held: tuple[bool, ...] = _of(items(flag, _BATCH))


@frozen
class Forget:
    """Drop confirmed tombstones that all nodes hold; the floor rises to their ballot."""

    roster_digest: bytes = _of(IDENTIFIER)
    items: tuple[PrepareItem, ...] = _of(items(record(PrepareItem, _REGISTER, BALLOT), _BATCH))


@frozen
class Has:
    """Which of these shares are here? Those that are, are pinned."""

    keys: tuple[ShareKey, ...] = _of(items(_SHARE, _BATCH))


@frozen
class HasReply:
    """One answer a key, in order."""

    held: tuple[bool, ...] = _of(items(flag, _BATCH))


@frozen
class ShareHead:
    """One share of a STORE: name, bytes in the bulk, xxh3-128."""

    key: ShareKey
    size: int
    checksum: bytes


@frozen
class Store:
    """Keep and pin shares; the bulk is their bodies one after the other."""

    shares: tuple[ShareHead, ...] = _of(
        items(record(ShareHead, _SHARE, uint(limits.SHARE_SIZE_MAX), raw(limits.CHECKSUM_SIZE)), _BATCH)
    )


FOUND: Final = 0
ABSENT: Final = 1
CORRUPT: Final = 2


@frozen
class Fetch:
    """Read shares. The reply's bulk is the bodies of those FOUND, one after the other."""

    keys: tuple[ShareKey, ...] = _of(items(_SHARE, _BATCH))


@frozen
class FetchResult:
    """``checksum``: as stored, not verified now."""

    status: int
    size: int
    checksum: bytes


@frozen
class FetchReply:
    """One result a key, in order."""

    results: tuple[FetchResult, ...] = _of(
        items(
            record(FetchResult, uint(CORRUPT), uint(limits.SHARE_SIZE_MAX), raw(0, limits.CHECKSUM_SIZE)),
            _BATCH,
        )
    )


@frozen
class Status:
    """How is this vault?"""


@frozen
class StatusReply:
    """Sizes in bytes; ``read_only``: the reason, "" while writable."""

    state: VaultState = _of(lambda value: VaultState(uint(4)(value)))
    used_size: int = _of(_SIZE)
    free_size: int = _of(_SIZE)
    read_only: str = _of(text(REASON_SIZE_MAX))


@frozen
class ErrorReply:
    """Why a request failed. ``kind``: a key of wire.FAULTS; ``extra``: for another roster, the node's."""

    kind: int = _of(_COUNT)
    what: str = _of(text(2048))
    kept: str = _of(text(1024))
    next_step: str = _of(text(1024))
    extra: bytes = _of(_ROSTER)


Request: TypeAlias = (
    Hello
    | Login
    | Create
    | Activate
    | Ping
    | Read
    | List
    | Prepare
    | Claims
    | Accept
    | Confirm
    | Forget
    | Has
    | Store
    | Fetch
    | Status
)
Response: TypeAlias = (
    HelloReply
    | LoginReply
    | CreateReply
    | Empty
    | ReadReply
    | ListReply
    | PrepareReply
    | AcceptReply
    | ConfirmReply
    | HasReply
    | FetchReply
    | StatusReply
)
Message: TypeAlias = Request | Response | ErrorReply

MESSAGES: Final[Mapping[int, tuple[type[Request], type[Response]]]] = {
    1: (Hello, HelloReply),
    2: (Login, LoginReply),
    3: (Create, CreateReply),
    4: (Activate, Empty),
    5: (Ping, Empty),
    16: (Read, ReadReply),
    17: (List, ListReply),
    18: (Prepare, PrepareReply),
    19: (Claims, Empty),
    20: (Accept, AcceptReply),
    21: (Confirm, ConfirmReply),
    22: (Forget, Empty),
    32: (Has, HasReply),
    33: (Store, Empty),
    34: (Fetch, FetchReply),
    48: (Status, StatusReply),
}
CODES: Final[Mapping[type[Request], int]] = {request: code for code, (request, _) in MESSAGES.items()}
SHAPES: Final[Mapping[type[Message], Shape]] = {
    cls: record(cls, *(attribute.metadata["shape"] for attribute in fields(cls)))
    for cls in (ErrorReply, *(cls for pair in MESSAGES.values() for cls in pair))
}


# --- Rows that travel as bulk -----------------------------------------------------------------------------


@frozen
class ShareBody:
    """A small share appended to a row."""

    key: ShareKey
    checksum: bytes
    body: bytes


@frozen
class RowState:
    """What a node says of a register. ``corrupt``: it has a row that fails its digest (no vote, no absence).

    ``floor``: the directory's highest forgotten ballot, told where the register holds no value: one up to it
    may have been dropped.
    """

    row: RegisterRow | None = None
    corrupt: bool = False
    shares: tuple[ShareBody, ...] = ()
    floor: Ballot = NO_BALLOT


@frozen
class Promise:
    """Answer to one PREPARE item. Not ``granted``: ``ballot`` is what stands in the way."""

    granted: bool
    ballot: Ballot
    state: RowState


@frozen
class AcceptItem:
    """One value to accept. ``claims``: encoded claims, or b"" when they were staged (or there are none)."""

    key: RegisterKey
    ballot: Ballot
    value: bytes
    digest: bytes
    claim_set: bytes
    claims: bytes
    lenient: bool


_ROW = record(
    RegisterRow,
    BALLOT_OR_NONE,
    BALLOT_OR_NONE,
    raw_max(limits.ENTRY_SIZE_MAX),
    DIGEST_OR_NONE,
    DIGEST_OR_NONE,
    DIGEST_OR_NONE,
    flag,
    _COUNT,
    _COUNT,
    _COUNT,
)
_BODY = record(ShareBody, _SHARE, raw(limits.CHECKSUM_SIZE), raw_max(limits.SHARE_INLINE_SIZE_MAX))


def _state(
    rows: tuple[RegisterRow, ...],
    corrupt: bool,  # noqa: FBT001 - one argument a field, in wire order
    shares: tuple[ShareBody, ...],
    floor: Ballot,
) -> RowState:
    return RowState(rows[0] if rows else None, corrupt, shares, floor)


_STATE = record(_state, items(_ROW, 1), flag, items(_BODY, _BATCH), BALLOT_OR_NONE)
_PROMISE = record(Promise, flag, BALLOT_OR_NONE, _STATE)
_LISTED = record(lambda name, state: (NameId(name), state), raw(limits.NAME_ID_SIZE), _STATE)
_ACCEPT_ITEM = record(
    AcceptItem,
    _REGISTER,
    BALLOT,
    raw_max(limits.ENTRY_SIZE_MAX),
    IDENTIFIER,
    DIGEST_OR_NONE,
    raw_max(limits.CONTROL_SIZE_MAX),
    flag,
)
_CLAIM = record(
    lambda stripe, size, code, needed, total, nodes: Claim(
        StripeId(stripe), size, code, Geometry(needed, total), nodes
    ),
    raw(limits.STRIPE_ID_SIZE),
    uint(limits.SHARE_SIZE_MAX),
    text(64),
    uint(limits.GROUP_SIZE_MAX),
    uint(limits.GROUP_SIZE_MAX),
    items(items(uint(limits.NODE_COUNT_MAX - 1), limits.GROUP_SIZE_MAX), limits.GROUP_SIZE_MAX),
)


def _pack_state(state: RowState) -> tuple[object, ...]:
    return ((state.row,) if state.row is not None else (), state.corrupt, state.shares, state.floor)


def encode_states(states: Sequence[RowState]) -> bytes:
    """Return the bulk of a READ reply."""
    return encoding.encode([_pack_state(state) for state in states])


def encode_listed(listed: Sequence[tuple[NameId, RowState]]) -> bytes:
    """Return the bulk of a LIST reply."""
    return encoding.encode([(name, _pack_state(state)) for name, state in listed])


def encode_promises(promises: Sequence[Promise]) -> bytes:
    """Return the bulk of a PREPARE reply."""
    return encoding.encode([(item.granted, item.ballot, _pack_state(item.state)) for item in promises])


def encode_accepts(accepts: Sequence[AcceptItem]) -> bytes:
    """Return the bulk of an ACCEPT."""
    return encoding.encode(accepts)


def encode_claim(claim: Claim) -> bytes:
    """Return one claim; a claim set is its claims' encodings one after the other."""
    shares = (claim.geometry.needed, claim.geometry.total, claim.nodes)
    return encoding.encode((claim.stripe, claim.share_size, claim.code, *shares))


def _decode_rows(bulk: Buffer, shape: Shape, what: str) -> Any:  # noqa: ANN401
    rows = items(shape, limits.LIST_COUNT_MAX)
    return encoding.decode(bulk, rows, what=what, error=RemoteProtocolError, size_max=limits.BULK_SIZE_MAX)


def decode_states(bulk: Buffer) -> tuple[RowState, ...]:
    """Return the rows of a READ reply. Raises: RemoteProtocolError."""
    states: tuple[RowState, ...] = _decode_rows(bulk, _STATE, "a READ reply")
    return states


def decode_listed(bulk: Buffer) -> tuple[tuple[NameId, RowState], ...]:
    """Return the rows of a LIST reply. Raises: RemoteProtocolError."""
    listed: tuple[tuple[NameId, RowState], ...] = _decode_rows(bulk, _LISTED, "a LIST reply")
    return listed


def decode_promises(bulk: Buffer) -> tuple[Promise, ...]:
    """Return the rows of a PREPARE reply. Raises: RemoteProtocolError."""
    promises: tuple[Promise, ...] = _decode_rows(bulk, _PROMISE, "a PREPARE reply")
    return promises


def decode_accepts(bulk: Buffer) -> tuple[AcceptItem, ...]:
    """Return the rows of an ACCEPT. Raises: RemoteProtocolError."""
    accepts: tuple[AcceptItem, ...] = _decode_rows(bulk, _ACCEPT_ITEM, "an ACCEPT")
    return accepts


def decode_claims(encoded: Buffer) -> tuple[Claim, ...]:
    """Return the claims of a run of encoded claims. Raises: RemoteProtocolError."""
    claims: tuple[Claim, ...] = encoding.decode_run(
        encoded, _CLAIM, what="a claim", error=RemoteProtocolError, size_max=limits.BULK_SIZE_MAX
    )
    return claims
