"""Reading registers from nodes that are down, behind, damaged or lying."""

import pytest
from attrs import evolve

from dfs.core import bulk_rows, limits, messages, reading
from dfs.core.errors import IncompleteError, NotFoundError, QuorumError
from dfs.core.folders import ensure_folders, remove_entries
from dfs.core.interface import Transaction
from dfs.core.keys import directory_id, register_key
from dfs.core.node import Answer
from dfs.core.reading import Found, Page, list_page, read_registers
from dfs.core.types import NO_BALLOT, Ballot, EntryKind, NameId, NodeId, RegisterRow, ShareKey
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


def spoil_shares(transaction: Transaction) -> None:
    for claim in transaction.claims(KEY, row_in(transaction).accepted):
        for index in range(claim.geometry.total):
            transaction.mark_corrupt(ShareKey(claim.stripe, index))


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


# --- Lists --------------------------------------------------------------------------------------------------


def page(world: World, after: bytes = b"") -> Page:
    vault, root = world.vault(), directory_id(world.vault().keys, "")
    return world.run(list_page(vault, vault.group(root), root, after))


def told(world: World, kind: type[messages.Request]) -> list[int]:
    """How many requests of a kind each node got, and forget all."""
    counts = [sum(isinstance(request, kind) for request in server.requests) for server in world.servers]
    for server in world.servers:
        server.requests.clear()
    return counts


def test_where_all_hold_the_same_one_node_tells_it(world: World) -> None:
    for path in ("a", "b"):
        world.run(put(world, b"one", path))
    world.flush()
    told(world, messages.List)
    listed = page(world)
    assert sorted(told(world, messages.List)) == [0, 0, 0, 1]
    states = listed.rows[register_key(world.vault().keys, "a").name]
    assert states.keys() == {server.node_id for server in world.servers}
    assert len({id(state) for state in states.values()}) == 1, "it is kept once"


@pytest.mark.parametrize("place", range(4))
def test_a_difference_in_a_single_count_is_seen(world: World, place: int) -> None:
    world.run(put(world, world.random.randbytes(3000)))
    world.flush()
    world.servers[place].store.transact(spoil_shares)
    states = page(world).rows[register_key(world.vault().keys, PATH).name]
    corrupt = {
        node for node, state in states.items() if state.row is not None and state.row.corrupt_count == 1
    }
    assert corrupt == {world.servers[place].node_id}


def test_when_the_one_that_tells_is_away_another_one_does(world: World) -> None:
    world.run(put(world, b"one"))
    world.flush()
    told(world, messages.List)
    page(world)
    teller = told(world, messages.List).index(1)
    for broken in ("away", "garbled"):
        world.servers[teller].up = broken != "away"
        world.servers[teller].tamper = garbled_list
        states = page(world).rows[register_key(world.vault().keys, PATH).name]
        assert len(states) == 3
        assert all(state.row is not None and state.row.value for state in states.values())


def garbled_list(request: messages.Request, answer: Answer) -> Answer:
    return evolve(answer, bulk=(b"garbled",)) if isinstance(request, messages.List) else answer


def rows_of(world: World, node: NodeId) -> tuple[dict[NameId, bulk_rows.RowState], Ballot]:
    """All that a node holds of the root, asked of it alone."""
    vault = world.vault()
    request = messages.List(vault.roster_digest, directory_id(vault.keys, ""), b"", 1024, with_values=True)
    answer = world.by_id[node].answer(request, b"")
    assert isinstance(answer.reply, messages.ListReply)
    return dict(bulk_rows.decode_listed(answer.bulk[0])), answer.reply.floor


def with_history(seed: int) -> World:
    """Nodes after folders were made and removed while some were away; of odd seeds one may be rolled back."""
    world = World(seed)
    chance, copies = world.random, {}
    for _ in range(14):
        away = chance.sample(world.servers, chance.choice((0, 0, 1)))
        for server in world.servers:
            server.up = server not in away
        path = f"name{chance.randrange(6)}"
        if chance.random() < 0.3:
            world.run(remove_entries(world.vault(), [path], kind=EntryKind.FOLDER))
        else:
            world.run(ensure_folders(world.vault(), [path]))
        if chance.random() < 0.7:
            world.flush()
        if chance.random() < 0.2:
            copies[0] = world.servers[0].copy()
    for server in world.servers:
        server.up = True
    if copies and seed % 2:
        world.servers[0].restore(copies[0])
    return world


@pytest.mark.parametrize("seed", range(25))
def test_digests_hide_nothing_that_rows_would_show(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nodes missed, lost or forgot: what is merged is what each of them tells by itself."""
    monkeypatch.setattr(reading, "PAGE_COUNT", 3)
    world = with_history(seed)
    merged: dict[NameId, dict[NodeId, bulk_rows.RowState]] = {}
    after, more = b"", True
    while more:
        listed = page(world, after)
        merged.update({name: dict(states) for name, states in listed.rows.items()})
        after, more = listed.after, listed.more
    alone = {server.node_id: rows_of(world, server.node_id) for server in world.servers}
    assert merged.keys() == {name for rows, _ in alone.values() for name in rows}
    for name, states in merged.items():
        for node, (rows, floor) in alone.items():
            expected = rows.get(name, bulk_rows.RowState())
            if expected.row is None or not expected.row.accepted:
                expected = evolve(expected, floor=floor)
            seen = states[node]
            if seen.row is not None and not seen.row.value and expected.row is not None:
                expected = evolve(expected, row=evolve(expected.row, value=b""))  # told without it
            assert seen == expected
