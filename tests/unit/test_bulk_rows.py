"""Bulk rows: each comes back as it was, in one form only, and within its bounds."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dfs.core import bulk_rows, encoding, limits
from dfs.core.bulk_rows import AcceptItem, LackingStripe, Promise, ReplayItem, RowState, ShareBody
from dfs.core.errors import RemoteProtocolError
from dfs.core.types import (
    NO_BALLOT,
    Ballot,
    Claim,
    DirectoryId,
    Geometry,
    NameId,
    RegisterKey,
    RegisterRow,
    ShareKey,
    StripeId,
)

KEY = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16))
BALLOT = Ballot(b"b" * 24)
STRIPE = StripeId(b"s" * 32)
SHARE = ShareKey(STRIPE, 15)
DIGEST = b"x" * 32
SUM = b"c" * 16
ROW = RegisterRow(BALLOT, BALLOT, b"value", DIGEST, DIGEST, DIGEST, safe=True, claimed_count=3, owed_count=1)
BODY = ShareBody(SHARE, SUM, b"body")
STATE = RowState(ROW, shares=(BODY,))
CLAIM = Claim(STRIPE, 1000, "reed-solomon@1", Geometry(2, 3), ((0,), (1, 2), (1023,)))
ACCEPT = AcceptItem(KEY, BALLOT, b"value", DIGEST, DIGEST, b"claims", lenient=True)
REPLAY = ReplayItem(KEY, BALLOT, BALLOT, b"value", DIGEST, DIGEST, b"claims", DIGEST, safe=True)
PROMISED = ReplayItem(KEY, BALLOT, NO_BALLOT, b"", b"", b"", b"", b"", safe=False)


ROWS: Sequence[tuple[Callable[[Any], bytes], Callable[[bytes], object], object]] = (
    (bulk_rows.encode_states, bulk_rows.decode_states, (STATE, RowState(), RowState(corrupt=True))),
    (bulk_rows.encode_states, bulk_rows.decode_states, (RowState(floor=BALLOT),)),
    (bulk_rows.encode_listed, bulk_rows.decode_listed, ((KEY.name, STATE), (KEY.name, RowState()))),
    (
        bulk_rows.encode_promises,
        bulk_rows.decode_promises,
        (Promise(granted=True, ballot=Ballot(b""), state=STATE), Promise(False, BALLOT, RowState())),
    ),
    (bulk_rows.encode_accepts, bulk_rows.decode_accepts, (ACCEPT, ACCEPT)),
    (bulk_rows.encode_replays, bulk_rows.decode_replays, (REPLAY, PROMISED)),
    (bulk_rows.encode_lacking, bulk_rows.decode_lacking, (LackingStripe(CLAIM, (0, 15)),)),
    (lambda claims: b"".join(map(bulk_rows.encode_claim, claims)), bulk_rows.decode_claims, (CLAIM, CLAIM)),
)


@pytest.mark.parametrize(("encode", "decode", "rows"), ROWS)
def test_rows_come_back(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], object], rows: Sequence[object]
) -> None:
    assert decode(encode(rows)) == rows
    assert decode(encode(())) == ()


@pytest.mark.parametrize(("encode", "decode", "rows"), ROWS)
def test_cut_or_longer_rows_are_refused(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], object], rows: Sequence[object]
) -> None:
    encoded = encode(rows[:1])
    for size in range(1, len(encoded)):
        with pytest.raises(RemoteProtocolError):
            decode(encoded[:size])
    with pytest.raises(RemoteProtocolError):
        decode(encoded + b"\xc0")


@pytest.mark.parametrize("decode", list(dict.fromkeys(row[1] for row in ROWS)))
@given(bulk=st.binary(max_size=60))
def test_any_bulk_is_rows_or_the_error(decode: Callable[[bytes], object], bulk: bytes) -> None:
    try:
        decode(bulk)
    except RemoteProtocolError:
        return


def test_what_a_row_may_not_be() -> None:
    too_large = ACCEPT.__class__(
        KEY, BALLOT, b"v" * (limits.ENTRY_SIZE_MAX + 1), DIGEST, b"", b"", lenient=False
    )
    with pytest.raises(RemoteProtocolError):
        bulk_rows.decode_accepts(bulk_rows.encode_accepts([too_large]))
    large_body = ShareBody(SHARE, SUM, bytes(limits.SHARE_INLINE_SIZE_MAX + 1))
    with pytest.raises(RemoteProtocolError):
        bulk_rows.decode_states(bulk_rows.encode_states([RowState(shares=(large_body,))]))
    with pytest.raises(RemoteProtocolError):
        bulk_rows.decode_states(bulk_rows.encode_states([RowState()] * (limits.LIST_COUNT_MAX + 1)))


@pytest.mark.parametrize(
    "claim",
    [
        Claim(StripeId(b"s"), 1, "a@1", Geometry(1, 1), ((0,),)),
        Claim(STRIPE, limits.SHARE_SIZE_MAX + 1, "a@1", Geometry(1, 1), ((0,),)),
        Claim(STRIPE, 1, "a" * 65, Geometry(1, 1), ((0,),)),
        Claim(STRIPE, 1, "a@1", Geometry(1, 1), ((1024,),)),
        Claim(STRIPE, 1, "a@1", Geometry(1, 1), ((0,),) * 17),
        Claim(STRIPE, 1, "a@1", Geometry(1, 1), ((0,) * 17,)),
    ],
)
def test_what_a_claim_may_not_be(claim: Claim) -> None:
    with pytest.raises(RemoteProtocolError):
        bulk_rows.decode_claims(bulk_rows.encode_claim(claim))


@pytest.mark.parametrize(("needed", "total"), [(0, 1), (2, 1), (1, 17), (0, 0)])
def test_a_claim_has_a_possible_geometry(needed: int, total: int) -> None:
    encoded = encoding.encode((STRIPE, 1, "a@1", needed, total, ((0,),)))
    with pytest.raises(RemoteProtocolError):
        bulk_rows.decode_claims(encoded)
