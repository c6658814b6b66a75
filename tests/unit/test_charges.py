"""What counts against a quota, and how much of one is for what."""

import pytest

from dfs.core.charges import (
    REMOVAL_SIZE,
    RESERVE_SIZE_MAX,
    ROW_SIZE,
    Purpose,
    bound,
    claim_charge,
    register_charge,
    share_charge,
)
from dfs.core.keys import vault_keys
from dfs.core.manifest import seal_entry
from dfs.core.types import NO_BALLOT, Ballot, Entry, EntryKind, RegisterRow, Version
from dfs.plugins.volumes.packing import pack_claim
from dfs.testing.stores import claim, register_key
from tests.unit.node_bench import claim as wide_claim

KEYS = vault_keys(b"m" * 32)


def sealed(entry: Entry) -> bytes:
    return seal_entry(KEYS.entry, b"n" * 12, entry, register_key(1), Ballot(b"b" * 24))


def test_rows_have_a_price_beside_their_bytes() -> None:
    assert share_charge(0) == ROW_SIZE
    assert share_charge(1000) == ROW_SIZE + 1000
    assert register_charge(None) == 0
    assert register_charge(RegisterRow(promised=Ballot(b"b" * 24))) == ROW_SIZE
    assert register_charge(RegisterRow(NO_BALLOT, Ballot(b"b" * 24), b"\x03gone")) == ROW_SIZE + 5


@pytest.mark.parametrize("each", [claim(1), wide_claim(2), wide_claim(3, nodes=[[0, 1, 2, 3]] * 16)])
def test_a_claim_costs_what_its_row_holds(each: object) -> None:
    assert claim_charge(each) == ROW_SIZE + len(pack_claim(each))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "live",
    [
        Entry("a", EntryKind.FOLDER, Version(bytes(16))),
        Entry("a", EntryKind.FILE, Version(bytes(16)), content=b"", content_compressor="dfs:zstd@1"),
        Entry("x" * 255, EntryKind.FILE, Version(bytes(16)), size=1 << 60, mtime_ns=1 << 60, mode=0o777),
    ],
)
def test_removing_never_takes_more_than_what_was_there(live: Entry) -> None:
    largest = Entry(
        live.path, EntryKind.TOMBSTONE, Version(bytes(16)), mtime_ns=1 << 62, mode=0o777, previous=bytes(32)
    )
    before, after = (RegisterRow(value=sealed(entry)) for entry in (live, largest))
    assert register_charge(after) <= register_charge(before)
    assert len(after.value) <= len(before.value) + REMOVAL_SIZE


def test_the_end_of_a_quota_is_kept_for_removals() -> None:
    assert [bound(3200, purpose) for purpose in Purpose] == [3100, 3150, 3200]
    assert bound(1 << 40, Purpose.NEW) == (1 << 40) - RESERVE_SIZE_MAX
    assert {bound(0, purpose) for purpose in Purpose} == {0}
