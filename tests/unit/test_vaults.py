"""A vault is made once, by whoever comes first, and opens with its password only."""

from collections.abc import Mapping

import pytest
from attrs import evolve

from dfs.core import limits, messages, vaults
from dfs.core.effects import Operation
from dfs.core.errors import ConflictError, NotInitialisedError, QuorumError, SealedError, UnreachableError
from dfs.core.keys import KEY_FILE, KdfParameters, login_keys, vault_keys
from dfs.core.roster import decode_roster, encode_roster
from dfs.core.types import Node, NodeId, Roster, VaultState
from dfs.core.vaults import (
    Member,
    Owner,
    current_roster,
    make_roster,
    make_wrap,
    new_roster,
    open_wrap,
    settled,
)
from dfs.core.wraps import Stage, Turn
from tests.unit.world import World

INES = Owner("orchard", "ines", KEY_FILE, login_keys(b"i" * 32))
OTHER = evolve(INES, login=login_keys(b"o" * 32))


@pytest.fixture
def world() -> World:
    return World(active=False)


def members_of(world: World) -> Mapping[NodeId, Member]:
    replies = {server.node_id: server.vault.login_reply() for server in world.servers if server.up}
    return {node: Member(reply.state, reply.roster) for node, reply in replies.items()}


def log_in(world: World, owner: Owner = INES, wanted: bytes = b"") -> Operation[bytes]:
    """What a client does with nodes that are all NEW."""
    vault = world.vault()
    roster = yield from make_roster(vault, wanted or encode_roster(world.roster))
    vault = settled(vault, roster, members_of(world))
    master = yield from open_wrap(vault, owner)
    return master if master is not None else (yield from make_wrap(vault, owner))


def reopen(world: World, owner: Owner = INES) -> bytes | None:
    vault = settled(world.vault(), current_roster(members_of(world)), members_of(world))
    return world.run(open_wrap(vault, owner))


def test_a_vault_is_made_and_opens_again(world: World) -> None:
    master = world.run(log_in(world))
    assert len(master) == 32
    assert {server.vault.state for server in world.servers} == {VaultState.ACTIVE}
    assert reopen(world) == master
    world.servers[2].up = False
    assert reopen(world) == master


def test_two_masters_never_are(world: World) -> None:
    for seed in range(30):
        world = World(seed, active=False, loss=0.02)
        runnings = [world.start(log_in(world)) for _ in range(3)]
        for _ in range(world.random.randrange(100)):
            if any(running.ended is None for running in runnings):
                world.tick()
        world.crash(runnings[0])
        world.settle(runnings)
        world.loss = 0.0
        master = reopen(world) or world.run(log_in(world))
        known = {running.result for running in runnings if running.error is None and not running.crashed}
        assert known <= {master}
        assert reopen(world) == master


@pytest.mark.parametrize("place", range(4))
def test_no_vault_is_made_while_a_node_is_away(world: World, place: int) -> None:
    world.servers[place].up = False
    with pytest.raises(NotInitialisedError, match=rf"cannot be made: dfs{place + 1}: refused"):
        world.run(log_in(world))
    world.servers[place].up = True
    assert reopen_or_none(world) is None
    world.run(log_in(world))


def reopen_or_none(world: World) -> bytes | None:
    roster = current_roster(members_of(world))
    return reopen(world) if roster else None


def test_a_node_that_dies_meanwhile_leaves_the_vault_unmade_or_made(world: World) -> None:
    for seed in range(20):
        world = World(seed, active=False)
        running = world.start(log_in(world))
        for _ in range(world.random.randrange(60)):
            if running.ended is None:
                world.tick()
        world.servers[seed % 4].up = False
        world.settle([running])
        world.servers[seed % 4].up = True
        master = reopen_or_none(world)
        assert running.error is not None or running.value == master
        assert world.run(log_in(world)) == (master or reopen(world))


@pytest.mark.parametrize(
    "owner",
    [OTHER, evolve(INES, user="olga"), evolve(INES, realm="meadow"), evolve(INES, kdf=KdfParameters())],
    ids=["password", "user", "realm", "derivation"],
)
def test_a_wrap_of_somebody_else_is_told_from_none(world: World, owner: Owner) -> None:
    world.run(log_in(world))
    with pytest.raises(SealedError, match="sealed with another password"):
        reopen(world, owner)
    assert reopen(world) is not None


def test_without_enough_nodes_nobody_can_say_that_there_is_none(world: World) -> None:
    world.run(make_roster(world.vault(), encode_roster(world.roster)))
    assert reopen(world) is None
    world.servers[0].up = world.servers[1].up = False
    with pytest.raises(QuorumError, match="too few nodes answer to open"):
        reopen(world)


# --- Rosters ------------------------------------------------------------------------------------------------


def test_the_first_roster_stays(world: World) -> None:
    other = encode_roster(evolve(world.roster, nodes=world.roster.nodes[::-1]))
    assert world.run(make_roster(world.vault(), other)) == other
    assert world.run(make_roster(world.vault(), encode_roster(world.roster))) == other


def test_nodes_begun_with_different_lists_are_no_vault(world: World) -> None:
    reverse = encode_roster(evolve(world.roster, nodes=world.roster.nodes[::-1]))
    world.servers[3].answer(messages.Create(reverse), b"")
    with pytest.raises(ConflictError, match="another client is making this vault"):
        world.run(make_roster(world.vault(), encode_roster(world.roster)))
    world.servers[2].up = world.servers[1].up = False
    with pytest.raises(ConflictError, match="different node lists"):
        current_roster(members_of(world))


def test_a_node_that_refuses_its_roster_is_named(world: World) -> None:
    world.servers[1].refuses[messages.Create] = UnreachableError("gone")
    with pytest.raises(NotInitialisedError, match="dfs2: gone"):
        world.run(make_roster(world.vault(), encode_roster(world.roster)))


def test_the_roster_counts_that_most_nodes_tell(world: World) -> None:
    """Whatever its epoch: else one node that lies could name itself the whole vault."""
    true = encode_roster(world.roster)
    false = encode_roster(Roster(1 << 31, (Node(world.servers[0].node_id),), 1, 0))
    members = {server.node_id: Member(VaultState.ACTIVE, true) for server in world.servers}
    lied_to = members | {world.servers[0].node_id: Member(VaultState.ACTIVE, false)}
    assert current_roster(lied_to) == true
    assert settled(world.vault(), true, lied_to).counted == members.keys() - {world.servers[0].node_id}
    two = {node: lied_to[node] for node in sorted(lied_to)[:2]}
    with pytest.raises(ConflictError, match="different node lists"):
        current_roster(two)
    new = encode_roster(evolve(world.roster, epoch=2))
    newest = members | dict.fromkeys(sorted(members)[:3], Member(VaultState.ACTIVE, new))
    assert current_roster(newest) == new
    assert current_roster({}) == b""


def test_one_liar_raises_no_epoch_and_fewer_than_r_know_the_latest(world: World) -> None:
    def told(*epochs: int) -> int:
        members = {
            server.node_id: Member(VaultState.ACTIVE, encode_roster(evolve(world.roster, epoch=epoch)))
            for server, epoch in zip(world.servers, epochs, strict=False)
        }
        return decode_roster(current_roster(members)).epoch

    assert told(1, 1, 1, 9) == 1
    assert told(9, 3, 3, 3) == 3
    assert told(3, 3, 3, 1) == 3
    assert told(3, 3, 1, 1) == 3  # two of them turn away who came before; the others are told
    assert told(3, 1, 3) == 3
    assert told(1, 3) == 3  # too few to decide anything
    junk = dict.fromkeys((server.node_id for server in world.servers), Member(VaultState.ACTIVE, b"junk"))
    assert current_roster(junk) == b"junk"


def epochs(world: World) -> list[int]:
    return [decode_roster(server.vault.roster).epoch for server in world.servers]


def test_a_later_epoch_turns_away_who_came_before() -> None:
    world = World(1)
    before = world.vault()
    world.servers[3].up = False
    after = world.run(vaults.succeed(before, 2))
    assert epochs(world) == [2, 2, 2, 1]
    assert after.roster == evolve(before.roster, epoch=2)
    assert len(after.counted) == 3
    world.servers[3].up = True
    members = dict(members_of(world))
    members = world.run(vaults.renew(current_roster(members), members))
    assert epochs(world) == [2] * 4
    assert {member.roster for member in members.values()} == {encode_roster(after.roster)}
    again = world.run(vaults.succeed(settled(before, current_roster(members), members), 2))
    assert len(again.counted) == 4
    for server in world.servers[:2]:
        server.up = False
    with pytest.raises(QuorumError, match="2 of 4 nodes turn away who came before, 3 needed"):
        world.run(vaults.succeed(again, 3))


@pytest.mark.parametrize(
    ("stage", "closed"), [(Stage.COPYING, False), (Stage.CLOSED, True), (Stage.REMOVING, False)]
)
def test_a_vault_is_closed_while_the_last_changes_are_copied(stage: Stage, closed: bool) -> None:
    world = World(1)
    turn = Turn(stage, 2, b"o" * 32)
    vault = world.run(vaults.in_force(world.vault(), turn))
    assert vault.closed is closed
    assert vault.others == (vault_keys(b"o" * 32),)
    assert epochs(world) == [2 if stage is Stage.REMOVING else 1] * 4
    for server in world.servers[:2]:
        server.up = False
    assert world.run(vaults.in_force(vault, turn)).closed is (stage is not Stage.COPYING)


def test_nodes_that_join_do_not_count(world: World) -> None:
    roster = encode_roster(world.roster)
    states = [VaultState.ACTIVE, VaultState.JOINING, VaultState.QUARANTINED, VaultState.READ_ONLY]
    members = {
        server.node_id: Member(state, roster) for server, state in zip(world.servers, states, strict=True)
    }
    members[world.servers[1].node_id] = Member(VaultState.NEW, b"")
    assert settled(world.vault(), roster, members).counted == {
        world.servers[0].node_id,
        world.servers[3].node_id,
    }


def test_a_new_roster_has_a_group_of_at_most_sixteen() -> None:
    nodes = [Node(NodeId(bytes((index,)) * 16)) for index in range(20)]
    assert decode_roster(new_roster(nodes, None)) == Roster(1, tuple(nodes), limits.GROUP_SIZE_MAX, 1)
    assert decode_roster(new_roster(nodes[:3], None)) == Roster(1, tuple(nodes[:3]), 3, 0)
    assert decode_roster(new_roster(nodes, 4)).group_size == 4


def test_late_nodes_are_told_that_the_vault_is_there(world: World) -> None:
    for server in world.servers[2:]:
        server.refuses[messages.Activate] = UnreachableError("gone")
    world.run(log_in(world))
    assert [server.vault.state for server in world.servers][2:] == [VaultState.NEW] * 2
    for server in world.servers:
        server.refuses.clear()
    vault = settled(world.vault(), current_roster(members_of(world)), members_of(world))
    assert len(vault.counted) == 4
    world.run(vaults.activate(vault, sorted(vault.counted)))
    assert {server.vault.state for server in world.servers} == {VaultState.ACTIVE}
