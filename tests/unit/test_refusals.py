"""What people are told when nodes do not do what they were asked; above all when a quota is used up."""

import pytest

from dfs.core import messages
from dfs.core.charges import Purpose, bound
from dfs.core.errors import QuorumError, QuotaError, UnknownOutcomeError
from dfs.core.node import Answer
from dfs.core.types import OutcomeKind
from tests.unit.histories import get, names, put, remove
from tests.unit.world import Server, World

QUOTA = 640_000


@pytest.fixture
def world() -> World:
    made = World()
    for server in made.servers:
        server.vault.quota = lambda: QUOTA
    return made


def used(server: Server) -> int:
    return server.store.view(lambda view: view.usage())


def fill(world: World, count: int = 4) -> None:
    """Let some nodes have no room for anything new."""
    for server in world.servers[:count]:
        size = used(server) + 20_000
        server.vault.quota = lambda size=size: size  # type: ignore[misc]
        assert bound(size, Purpose.NEW) > used(server)
    world.run(put(world, world.random.randbytes(1000), "filler"))
    for server in world.servers[:count]:
        size = used(server)
        server.vault.quota = lambda size=size: size  # type: ignore[misc]


def test_a_file_too_large_is_refused_with_who_used_and_allowed(world: World) -> None:
    world.run(put(world, b"kept", "kept"))
    body = world.random.randbytes(3 * QUOTA)
    with pytest.raises(
        QuotaError,
        match=r"0 of 4 .*\(dfs1, dfs2, dfs3, dfs4: no room in the quota, .* of 625\.0 KiB are used\)",
    ) as caught:
        world.run(put(world, body, "large"))
    assert caught.value.exit_code == 8
    assert "dfs user quota" in caught.value.next_step
    assert world.run(get(world, "kept"))[1] == b"kept"
    assert names(world) == ["kept"]
    assert all(used(server) <= QUOTA for server in world.servers)


def test_a_new_name_without_room_is_refused_and_nothing_is_lost(world: World) -> None:
    body = world.random.randbytes(1000)
    world.run(put(world, body, "letter"))
    fill(world)
    before = [used(server) for server in world.servers]
    with pytest.raises(
        QuotaError, match=r"^other: dfs1, dfs2, dfs3, dfs4: no room in the quota, .* are used$"
    ):
        world.run(put(world, b"two", "other"))
    assert [used(server) for server in world.servers] == before
    assert world.run(get(world, "letter"))[1] == body
    world.run(remove(world, "letter"))
    assert names(world) == ["filler"]
    world.run(put(world, b"two", "other"))


def test_a_larger_value_without_room_leaves_the_one_before(world: World) -> None:
    world.run(put(world, b"one", "letter"))
    fill(world)
    with pytest.raises(
        QuotaError, match=r"^letter: dfs1, dfs2, dfs3, dfs4: no room in the quota, .* are used$"
    ):
        world.run(put(world, world.random.randbytes(900), "letter"))
    assert world.run(get(world, "letter"))[1] == b"one"


def test_a_node_without_room_is_one_that_lacks_its_share(world: World) -> None:
    fill(world, 1)
    body = world.random.randbytes(5000)
    outcome = world.run(put(world, body, "letter"))
    assert (outcome.kind, outcome.missing) == (OutcomeKind.DEGRADED, (world.servers[0].node_id,))
    assert world.run(get(world, "letter"))[1] == body
    world.run(remove(world, "letter"))


def test_two_nodes_without_room_and_a_dead_one_are_told_together(world: World) -> None:
    fill(world, 2)
    world.servers[3].up = False
    with pytest.raises(QuotaError, match=r"letter: .*dfs1, dfs2: no room"):
        world.run(put(world, b"one", "letter"))


def test_a_value_that_some_took_is_unknown_and_says_why(world: World) -> None:
    def closing(request: messages.Request, answer: Answer) -> Answer:
        if isinstance(request, messages.Prepare):
            for server in world.servers[:2]:
                size = used(server)
                server.vault.quota = lambda size=size: size  # type: ignore[misc]
        return answer

    world.servers[0].tamper = world.servers[1].tamper = closing
    with pytest.raises(UnknownOutcomeError, match=r"2 of 4 nodes accepted, 3 needed \(dfs1: no room"):
        world.run(put(world, b"one", "letter"))
    world.servers[0].tamper = world.servers[1].tamper = None
    got, body = world.run(get(world, "letter"))
    assert (got.stale, body) == (True, b"one"), "it cannot be completed, and may be seen"
    for server in world.servers:
        server.vault.quota = lambda: None
    got, body = world.run(get(world, "letter"))
    assert (got.stale, body) == (False, b"one")


def test_a_node_that_tells_no_figures_is_named_all_the_same(world: World) -> None:
    fill(world)
    for server in world.servers:
        server.refuses[messages.Quota] = QuorumError("not now")
    with pytest.raises(QuotaError, match=r"^other: dfs1, dfs2, dfs3, dfs4: no room in the quota$"):
        world.run(put(world, b"two", "other"))
