"""Messages: each comes back as it was, in one form only, and rows within their bounds."""

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, strategies as st

from dfs.core import encoding, limits, messages
from dfs.core.bulk_rows import AcceptItem, RowState, ShareBody
from dfs.core.errors import RemoteProtocolError
from dfs.core.messages import CLASSES, CODES, MESSAGES, Message, shape_of
from dfs.core.types import (
    Ballot,
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

SAMPLES: Sequence[Message] = (
    messages.Hello(b"n" * 32, "1.0", ("a", "b")),
    messages.HelloReply(NodeId(b"i" * 16), 1, "dfs", b"n" * 32, "DFS1", "1.0", ()),
    messages.Login("alice", b"s" * 64),
    messages.LoginReply(VaultState.JOINING, b"roster"),
    messages.Create(b"roster"),
    messages.CreateReply(b"roster"),
    messages.Activate(DIGEST),
    messages.Ping(),
    messages.Empty(),
    messages.Read(DIGEST, with_values=True, with_shares=False, keys=(KEY, KEY)),
    messages.ReadReply(2),
    messages.List(DIGEST, KEY.directory, b"", 1024, with_values=True),
    messages.ListReply(1, more=True, floor=BALLOT),
    messages.ListDigest(DIGEST, KEY.directory, b"", 1024),
    messages.ListDigestReply(1, more=True, floor=BALLOT, digest=DIGEST),
    messages.Prepare(DIGEST, (messages.PrepareItem(KEY, BALLOT),)),
    messages.PrepareReply(1),
    messages.Claims(DIGEST, 0),
    messages.Accept(DIGEST, 1),
    messages.AcceptReply((messages.AcceptResult(messages.MISSING, BALLOT, (0, 7)), messages.AcceptResult(0))),
    messages.Confirm(DIGEST, durable=True, items=(messages.ConfirmItem(KEY, BALLOT, DIGEST, safe=False),)),
    messages.ConfirmReply((True, False)),
    messages.Forget(DIGEST, (messages.PrepareItem(KEY, BALLOT),)),
    messages.Has((SHARE,)),
    messages.HasReply((True,)),
    messages.Store((messages.ShareHead(SHARE, 4, SUM),)),
    messages.Fetch((SHARE,)),
    messages.FetchReply((messages.FetchResult(0, 4, SUM), messages.FetchResult(messages.ABSENT, 0, b""))),
    messages.Status(),
    messages.StatusReply(VaultState.ACTIVE, 1 << 50, 0, "", 7, 2, 1, 1_800_000_000),
    messages.Quota(),
    messages.QuotaReply(1 << 50, (50 << 30,)),
    messages.Join(b"roster"),
    messages.Quarantine(9),
    messages.EndJoin(DIGEST, 9),
    messages.StateReply(VaultState.QUARANTINED),
    messages.Vaults("alice"),
    messages.VaultsReply(("bob", "carol"), more=False),
    messages.Enter("bob"),
    messages.Adopt(NodeId(b"i" * 16), 2),
    messages.Rekey(b"p" * 32, 3, b"s" * 64),
    messages.Replay(DIGEST, 1),
    messages.RaiseFloors(DIGEST, (messages.Floor(KEY.directory, BALLOT),)),
    messages.Directories(DIGEST, b""),
    messages.DirectoriesReply((messages.DirectoryState(KEY.directory, 3, BALLOT),), more=True),
    messages.Claimed(DIGEST, KEY, BALLOT, 0),
    messages.ClaimedReply(2, more=False),
    messages.Verify((SHARE,)),
    messages.VerifyReply((messages.CORRUPT,)),
    messages.Lacking(DIGEST, STRIPE),
    messages.Condemn((SHARE,)),
    messages.LackingReply(1, more=False),
    messages.ErrorReply(5, "what", "kept", "next", b""),
)


def read(cls: type[Message], encoded: bytes) -> object:
    size_max = limits.CONTROL_SIZE_MAX
    return encoding.decode(encoded, shape_of(cls), what="it", error=RemoteProtocolError, size_max=size_max)


def name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


# --- Control bodies -----------------------------------------------------------------------------------------


def test_every_message_has_a_sample_and_a_code() -> None:
    classes = {cls for pair in MESSAGES.values() for cls in pair} | {messages.ErrorReply}
    assert {type(sample) for sample in SAMPLES} == classes == set(CLASSES)
    assert {request: code for code, (request, _) in MESSAGES.items()} == CODES
    assert all(0 < code < 1 << 16 for code in MESSAGES)


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_a_message_comes_back(sample: Message) -> None:
    assert read(type(sample), encoding.encode(sample)) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_no_field_may_be_missing_added_or_of_another_kind(sample: Message) -> None:
    fields = msgpack.unpackb(encoding.encode(sample))
    broken: list[list[Any]] = [[*fields, 0], *([fields[:-1]] if fields else [])]
    broken += [[*fields[:place], -1, *fields[place + 1 :]] for place in range(len(fields))]
    broken += [[*fields[:place], [[]] * 5000, *fields[place + 1 :]] for place in range(len(fields))]
    for form in broken:
        with pytest.raises(RemoteProtocolError):
            read(type(sample), msgpack.packb(form))


@pytest.mark.parametrize("cls", CLASSES, ids=name)
@given(encoded=st.binary(max_size=80))
def test_any_bytes_are_the_message_or_the_error(cls: type[Message], encoded: bytes) -> None:
    try:
        message = read(cls, encoded)
    except RemoteProtocolError:
        return
    assert encoding.encode(message) == encoded


@pytest.mark.parametrize(
    "message",
    [
        messages.Hello(b"n" * 31, "1.0", ()),
        messages.Hello(b"n" * 32, "v" * 65, ()),
        messages.Hello(b"n" * 32, "", ("f",) * 33),
        messages.Login("u" * 256, b"s" * 64),
        messages.Login("u", b"s" * 63),
        messages.LoginReply(5, b""),  # type: ignore[arg-type] # no such state
        messages.Read(b"", with_values=True, with_shares=True, keys=()),
        messages.Read(DIGEST, with_values=True, with_shares=True, keys=(KEY,) * 513),
        messages.List(DIGEST, KEY.directory, b"a", 1, with_values=True),
        messages.List(DIGEST, KEY.directory, b"", 1025, with_values=True),
        messages.Prepare(DIGEST, (messages.PrepareItem(KEY, Ballot(b"")),)),
        messages.Has((ShareKey(STRIPE, 16),)),
        messages.Store((messages.ShareHead(SHARE, limits.SHARE_SIZE_MAX + 1, SUM),)),
        messages.FetchReply((messages.FetchResult(3, 0, b""),)),
        messages.AcceptReply((messages.AcceptResult(9),)),
        messages.Accept(DIGEST, 513),
        messages.Claims(DIGEST, 1 << 32),
    ],
    ids=name,
)
def test_bounds(message: Message) -> None:
    with pytest.raises(RemoteProtocolError):
        read(type(message), encoding.encode(message))


def test_the_largest_batches_fit_a_control_body() -> None:
    count = limits.BATCH_COUNT_MAX
    prepare = messages.PrepareItem(KEY, BALLOT)
    confirm = messages.ConfirmItem(KEY, BALLOT, DIGEST, safe=True)
    missing = messages.AcceptResult(
        messages.MISSING, BALLOT, tuple(range((1 << 32) - limits.MISSING_COUNT_MAX, 1 << 32))
    )
    largest: Sequence[Message] = (
        messages.Read(DIGEST, with_values=True, with_shares=True, keys=(KEY,) * count),
        messages.Prepare(DIGEST, (prepare,) * count),
        messages.Confirm(DIGEST, durable=True, items=(confirm,) * count),
        messages.Forget(DIGEST, (prepare,) * count),
        messages.Has((SHARE,) * count),
        messages.Store((messages.ShareHead(SHARE, limits.SHARE_SIZE_MAX, SUM),) * count),
        messages.FetchReply((messages.FetchResult(0, limits.SHARE_SIZE_MAX, SUM),) * count),
        messages.AcceptReply((missing,) * count),
    )
    for message in largest:
        encoded = encoding.encode(message)
        assert len(encoded) + 32 <= limits.CONTROL_SIZE_MAX, name(message)  # with the mark of a reply
        assert read(type(message), encoded) == message
