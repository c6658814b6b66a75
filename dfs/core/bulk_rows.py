"""What travels as the bulk of a message: rows of registers, values to accept, claims. See docs/formats.md.

Field order is wire order. The messages that carry these are in messages.py.
"""

from collections.abc import Sequence
from typing import Any

from blake3 import blake3

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
from dfs.core.messages import BATCH, COUNT, REGISTER, SHARE
from dfs.core.records import frozen
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Buffer,
    Claim,
    Geometry,
    NameId,
    RegisterKey,
    RegisterRow,
    ShareKey,
    StripeId,
)


@frozen
class ShareBody:
    """A small share appended to a row."""

    key: ShareKey
    checksum: bytes
    body: bytes


@frozen
class RowState:
    """What a node says of a register. ``corrupt``: it has a row that fails its digest (no vote, no absence).

    ``floor``: the directory's highest forgotten ballot, told where the register holds no value, and with each
    promise: one up to it may have been dropped.
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


@frozen
class ReplayItem:
    """A register as other nodes hold it: value, ballot and confirmation, and the highest promise seen.

    ``ballot`` NO_BALLOT: a promise without a value; what belongs to a value is empty then. ``claims`` as in
    `AcceptItem`.
    """

    key: RegisterKey
    promised: Ballot
    ballot: Ballot
    value: bytes
    digest: bytes
    claim_set: bytes
    claims: bytes
    confirmed: bytes
    safe: bool


@frozen
class LackingStripe:
    """``indexes``: the shares of a claimed stripe that its node should hold and has no good copy of."""

    claim: Claim
    indexes: tuple[int, ...]


_ROW = record(
    RegisterRow,
    BALLOT_OR_NONE,
    BALLOT_OR_NONE,
    raw_max(limits.ENTRY_SIZE_MAX),
    DIGEST_OR_NONE,
    DIGEST_OR_NONE,
    DIGEST_OR_NONE,
    flag,
    COUNT,
    COUNT,
    COUNT,
)
_BODY = record(ShareBody, SHARE, raw(limits.CHECKSUM_SIZE), raw_max(limits.SHARE_INLINE_SIZE_MAX))


def _state(
    rows: tuple[RegisterRow, ...],
    corrupt: bool,  # noqa: FBT001 - one argument a field, in wire order
    shares: tuple[ShareBody, ...],
    floor: Ballot,
) -> RowState:
    return RowState(rows[0] if rows else None, corrupt, shares, floor)


_STATE = record(_state, items(_ROW, 1), flag, items(_BODY, BATCH), BALLOT_OR_NONE)
_PROMISE = record(Promise, flag, BALLOT_OR_NONE, _STATE)
_LISTED = record(lambda name, state: (NameId(name), state), raw(limits.NAME_ID_SIZE), _STATE)
_ACCEPT_ITEM = record(
    AcceptItem,
    REGISTER,
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


_REPLAY_ITEM = record(
    ReplayItem,
    REGISTER,
    BALLOT_OR_NONE,
    BALLOT_OR_NONE,
    raw_max(limits.ENTRY_SIZE_MAX),
    DIGEST_OR_NONE,
    DIGEST_OR_NONE,
    raw_max(limits.CONTROL_SIZE_MAX),
    DIGEST_OR_NONE,
    flag,
)
_LACKING = record(LackingStripe, _CLAIM, items(uint(limits.GROUP_SIZE_MAX - 1), limits.GROUP_SIZE_MAX))


def _pack_state(state: RowState) -> tuple[object, ...]:
    return ((state.row,) if state.row is not None else (), state.corrupt, state.shares, state.floor)


def encode_states(states: Sequence[RowState]) -> bytes:
    """Return the bulk of a READ reply."""
    return encoding.encode([_pack_state(state) for state in states])


def encode_listed(listed: Sequence[tuple[NameId, RowState]]) -> bytes:
    """Return the bulk of a LIST reply."""
    return encoding.encode([(name, _pack_state(state)) for name, state in listed])


def listed_digest(bulk: Sequence[Buffer]) -> bytes:
    """Return the digest of the bulk of a LIST reply: two nodes with the same one say the same, bit by bit."""
    hasher = blake3(derive_key_context="dfs 1 listed")
    for part in bulk:
        hasher.update(part)
    return hasher.digest()


def encode_promises(promises: Sequence[Promise]) -> bytes:
    """Return the bulk of a PREPARE reply."""
    return encoding.encode([(item.granted, item.ballot, _pack_state(item.state)) for item in promises])


def encode_accepts(accepts: Sequence[AcceptItem]) -> bytes:
    """Return the bulk of an ACCEPT."""
    return encoding.encode(accepts)


def encode_replays(replays: Sequence[ReplayItem]) -> bytes:
    """Return the bulk of a REPLAY."""
    return encoding.encode(replays)


def encode_lacking(lacking: Sequence[LackingStripe]) -> bytes:
    """Return the bulk of a LACKING reply."""
    return encoding.encode([(_pack_claim(stripe.claim), stripe.indexes) for stripe in lacking])


def _pack_claim(claim: Claim) -> tuple[object, ...]:
    shares = (claim.geometry.needed, claim.geometry.total, claim.nodes)
    return (claim.stripe, claim.share_size, claim.code, *shares)


def encode_claim(claim: Claim) -> bytes:
    """Return one claim; a claim set is its claims' encodings one after the other."""
    return encoding.encode(_pack_claim(claim))


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


def decode_replays(bulk: Buffer) -> tuple[ReplayItem, ...]:
    """Return the rows of a REPLAY. Raises: RemoteProtocolError."""
    replays: tuple[ReplayItem, ...] = _decode_rows(bulk, _REPLAY_ITEM, "a REPLAY")
    return replays


def decode_lacking(bulk: Buffer) -> tuple[LackingStripe, ...]:
    """Return the rows of a LACKING reply. Raises: RemoteProtocolError."""
    lacking: tuple[LackingStripe, ...] = _decode_rows(bulk, _LACKING, "a LACKING reply")
    return lacking


def decode_claims(encoded: Buffer) -> tuple[Claim, ...]:
    """Return the claims of a run of encoded claims. Raises: RemoteProtocolError."""
    claims: tuple[Claim, ...] = encoding.decode_run(
        encoded, _CLAIM, what="a claim", error=RemoteProtocolError, size_max=limits.BULK_SIZE_MAX
    )
    return claims
