"""What was chosen is told to the nodes; tombstones go once all of them hold them."""

import pytest

from dfs.core import messages, register
from dfs.core.errors import NotFoundError
from dfs.core.keys import register_key
from dfs.core.types import RegisterRow
from tests.unit.histories import get, put, remove
from tests.unit.world import Server, World


@pytest.fixture
def world() -> World:
    return World()


def row_of(world: World, server: Server) -> RegisterRow | None:
    key = register_key(world.vault().keys, "letter")
    return server.store.view(lambda view: view.register(key))


def confirms(server: Server) -> list[messages.Confirm]:
    return [request for request in server.requests if isinstance(request, messages.Confirm)]


def test_all_nodes_hear_what_was_chosen_and_need_not_sync_for_it(world: World) -> None:
    world.run(put(world, b"one"))
    for server in world.servers:
        row = row_of(world, server)
        assert row is not None
        (request,) = confirms(server)
        assert not request.durable
        assert [(item.ballot, item.safe) for item in request.items] == [(row.accepted, True)]


def test_a_tombstone_that_all_hold_is_dropped(world: World) -> None:
    world.run(put(world, b"one"))
    world.run(remove(world))
    assert [row_of(world, server) for server in world.servers] == [None] * 4
    assert all(confirms(server)[-1].durable for server in world.servers)


def test_tombstones_stay_while_a_node_is_away(world: World) -> None:
    world.run(put(world, b"one"))
    world.servers[3].up = False
    world.run(remove(world))
    row = row_of(world, world.servers[0])
    assert row is not None
    assert register.is_tombstone(row)
    world.servers[3].up = True
    with pytest.raises(NotFoundError):
        world.run(get(world))
