"""What is believed of a row: seal, digest and confirmation must be right, or its node is suspected."""

from typing import Any

import pytest
from attrs import evolve

from dfs.core.believing import checked, proven
from dfs.core.bulk_rows import RowState
from dfs.core.keys import register_key
from dfs.core.transfer import Vault
from dfs.core.types import NodeId, RegisterKey, RegisterRow
from tests.unit.histories import put
from tests.unit.world import World

NODE = NodeId(b"n" * 16)


@pytest.fixture
def world() -> World:
    world = World(1)
    world.run(put(world, b"a letter"))
    return world


def held(world: World) -> tuple[Vault, RegisterKey, RegisterRow]:
    vault = world.vault()
    key = register_key(vault.keys, "letter")
    for server in world.servers:
        server.vault.commit.run(lambda _transaction: None)
    row = world.servers[0].store.view(lambda view: view.register(key))
    assert row is not None
    return vault, key, row


def test_what_is_right_is_believed(world: World) -> None:
    vault, key, row = held(world)
    assert proven(vault, key, row)
    state = RowState(row)
    assert checked(vault, [NODE], key, state) is state
    assert checked(vault, [NODE], key, RowState()) == RowState()
    assert not vault.suspicions


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"value": b""}, "an entry that is not authentic"),
        ({"value": b"\x01" + bytes(60)}, "an entry that is not authentic"),
        ({"accepted": b"b" * 24}, "an entry that is not authentic"),
        ({"digest": b"d" * 32, "confirmed": b""}, "an entry under another digest"),
        ({"claim_set": b"c" * 32, "confirmed": b""}, "an entry under another digest"),
    ],
)
def test_what_cannot_be_true_is_no_vote(world: World, changed: dict[str, Any], reason: str) -> None:
    vault, key, row = held(world)
    row = evolve(row, confirmed=b"")
    assert checked(vault, [NODE], key, RowState(evolve(row, **changed))) == RowState(corrupt=True)
    assert vault.suspicions == {NODE: reason}


def test_a_false_confirmation_proves_nothing(world: World) -> None:
    vault, key, row = held(world)
    state = RowState(evolve(row, confirmed=b"t" * 32))
    assert state.row is not None
    assert not proven(vault, key, state.row)
    assert checked(vault, [NODE], key, state) is state, "the value itself may be right"
    assert vault.suspicions == {NODE: "a confirmation that nobody gave"}


def test_a_row_without_its_value_is_fine_where_none_was_asked_for(world: World) -> None:
    vault, key, row = held(world)
    state = RowState(evolve(row, value=b""))
    assert checked(vault, [NODE], key, state, valued=False) is state
    assert not vault.suspicions


def test_who_has_no_keys_can_check_nothing(world: World) -> None:
    vault, key, row = held(world)
    blind = evolve(vault, keyless=True)
    state = RowState(evolve(row, value=b"nonsense", confirmed=b"t" * 32))
    assert checked(blind, [NODE], key, state) is state
    assert not proven(blind, key, row)
    assert not blind.suspicions
