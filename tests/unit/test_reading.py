"""Reading registers from nodes that are down, behind, damaged or lying."""

import pytest
from attrs import evolve

from dfs.core import bulk_rows, limits, messages
from dfs.core.errors import IncompleteError, NotFoundError, QuorumError
from dfs.core.interface import Transaction
from dfs.core.keys import register_key
from dfs.core.node import Answer
from dfs.core.reading import Found, read_registers
from dfs.core.types import NO_BALLOT, RegisterRow, ShareKey
from tests.unit.histories import get, put, remove
from tests.unit.world import Tamper, World

PATH = "letter"
KEY = register_key(World().vault().keys, PATH)


@pytest.fixture
def world() -> World:
    return World()


def find(world: World, path: str = PATH, *, wait_all: bool = False) -> Found:
    key = register_key(world.vault().keys, path)
    return world.run(read_registers(world.vault(), [key], wait_all=wait_all))[key]


def requests(world: World, kind: type[messages.Request]) -> int:
    return sum(isinstance(request, kind) for server in world.servers for request in server.requests)


def row_in(transaction: Transaction) -> RegisterRow:
    row = transaction.register(KEY)
    assert row is not None
    return row


def unconfirm(transaction: Transaction) -> None:
    transaction.set_register(KEY, evolve(row_in(transaction), confirmed=b""))


def damage(transaction: Transaction) -> None:
    row = row_in(transaction)
    transaction.set_register(KEY, evolve(row, value=row.value[:-1] + b"?"))


def lose_shares(transaction: Transaction) -> None:
    unconfirm(transaction)
    ballot = row_in(transaction).accepted
    owed = [ShareKey(claim.stripe, 0) for claim in transaction.claims(KEY, ballot)]
    transaction.claim(KEY, ballot, ())
    transaction.unpin(1e12)
    transaction.collect(100)
    transaction.owe(KEY, ballot, owed)


def lose_row(transaction: Transaction) -> None:
    lose_shares(transaction)
    transaction.set_register(KEY, None)


def written_without(world: World, away: int, body: bytes) -> None:
    world.servers[away].up = False
    world.run(put(world, body))
    world.servers[away].up = True


def test_a_confirmed_value_is_read_in_one_round_trip(world: World) -> None:
    world.run(put(world, b"one"))
    before = requests(world, messages.Prepare)
    found = find(world, wait_all=True)
    assert found.entry is not None
    assert not found.stale
    assert found.answered == set(world.by_id)
    assert requests(world, messages.Prepare) == before


def test_absence_is_certain_with_enough_nodes_only(world: World) -> None:
    assert find(world).entry is None
    world.servers[0].up = False
    assert not find(world).stale
    world.servers[1].up = False
    assert find(world).stale


def test_nobody_at_all_is_an_error(world: World) -> None:
    for server in world.servers:
        server.up = False
    with pytest.raises(QuorumError, match="0 of 4 nodes answer, 3 needed"):
        find(world)


def test_the_newest_value_wins_over_nodes_that_missed_it(world: World) -> None:
    world.run(put(world, b"one"))
    written_without(world, 0, b"two")
    world.servers[1].up = False
    assert world.run(get(world))[1] == b"two"


def test_a_deletion_that_a_node_missed_holds(world: World) -> None:
    world.run(put(world, b"one"))
    world.servers[0].up = False
    world.run(remove(world))
    world.servers[0].up = True
    world.servers[1].up = False
    with pytest.raises(NotFoundError):
        world.run(get(world))


def test_what_was_written_but_not_confirmed_is_completed_before_the_answer(world: World) -> None:
    """Otherwise the next reader may not see it."""
    running = world.start(put(world, b"one"))
    while not any(isinstance(request, messages.Accept) for request in world.servers[0].requests):
        world.tick()
    world.crash(running)
    for place, server in enumerate(world.servers):
        server.up = place != 3
    first = world.start(get(world))
    world.settle([first])
    for place, server in enumerate(world.servers):
        server.up = place != 0
    if first.error is None:
        assert world.run(get(world))[1] == b"one"


def test_a_value_that_cannot_be_completed_is_told_as_uncertain(world: World) -> None:
    """With R of five nodes, but fewer than W: a half-written value may count or not."""
    world = World(node_count=5)
    world.run(put(world, b"one"))
    for server in world.servers:
        server.restart()
        server.store.transact(unconfirm)
    for server in world.servers[:2]:
        server.up = False
    got, body = world.run(get(world))
    assert body == b"one"
    assert got.stale


def test_one_that_cannot_be_rebuilt_fails_alone(world: World) -> None:
    body = world.random.randbytes(3000)
    world.run(put(world, b"good", "other"))
    world.run(put(world, body))
    for place, server in enumerate(world.servers):
        server.restart()  # a confirmation that was not on disk yet is lost
        server.store.transact(lose_shares if place < 2 else lose_row)
    found = find(world)
    assert isinstance(found.error, IncompleteError)
    with pytest.raises(IncompleteError, match="0 of 2 needed shares"):
        world.run(get(world))
    assert world.run(get(world, "other"))[1] == b"good"
    world.run(put(world, b"over it"))
    assert world.run(get(world))[1] == b"over it"


def test_values_a_node_cannot_have_written_are_no_votes(world: World) -> None:
    world.run(put(world, b"one"))
    world.servers[0].store.transact(damage)
    found = find(world, wait_all=True)
    assert found.corrupt == {world.servers[0].node_id}
    assert found.entry is not None
    world.servers[1].up = False
    assert find(world).stale, "two votes are not enough"


def garbled(request: messages.Request, answer: Answer) -> Answer:
    return evolve(answer, bulk=(b"garbled",)) if isinstance(request, messages.Read) else answer


def shortened(request: messages.Request, answer: Answer) -> Answer:
    return (
        evolve(answer, bulk=(bulk_rows.encode_states([]),)) if isinstance(request, messages.Read) else answer
    )


@pytest.mark.parametrize("tamper", [garbled, shortened])
def test_a_node_that_answers_nonsense_is_as_good_as_away(world: World, tamper: Tamper) -> None:
    world.run(put(world, b"one"))
    world.servers[0].tamper = tamper
    assert world.servers[0].node_id not in find(world, wait_all=True).answered
    assert world.run(get(world))[1] == b"one"


def test_the_floor_tells_where_something_was_forgotten(world: World) -> None:
    world.run(put(world, b"one"))
    copy = world.servers[0].copy()
    world.run(remove(world))
    floors = [server.store.view(lambda view: view.floor(KEY.directory)) for server in world.servers]
    assert min(floors) > NO_BALLOT
    world.servers[0].restore(copy)
    assert find(world).entry is None
    assert not find(world).stale
    world.servers[3].up = False
    assert find(world).stale, "the fourth could tell whether the two others missed it or forgot it"


def test_many_are_read_in_batches_of_what_fits_a_reply(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_COUNT", 5)
    for index in range(12):
        world.run(put(world, b"body%d" % index, f"name{index}"))
    keys = [register_key(world.vault().keys, f"name{index}") for index in range(12)]
    before = requests(world, messages.Read)
    found = world.run(read_registers(world.vault(), keys))
    assert [item.entry.content for item in found.values() if item.entry] == [b"body%d" % i for i in range(12)]
    assert requests(world, messages.Read) - before == 3 * 4
