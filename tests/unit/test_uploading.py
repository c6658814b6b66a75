"""Shares on their way to nodes: only what is lacking is sent, and who holds it in the end is told."""

import pytest
from attrs import evolve

from dfs.core import limits, messages, pipeline
from dfs.core.node import Answer
from dfs.core.pipeline import Slot
from dfs.core.types import DirectoryId, Plain
from dfs.core.uploading import Placed, store_stripes
from tests.unit.histories import making_of, put
from tests.unit.world import World

BIG = 300_000  # shares above what comes along with a row


@pytest.fixture
def world() -> World:
    return World()


def stored_size(world: World) -> int:
    return sum(
        head.size
        for server in world.servers
        for request in server.requests
        if isinstance(request, messages.Store)
        for head in request.shares
    )


def test_what_nodes_have_is_not_sent_again(world: World) -> None:
    body = world.random.randbytes(BIG)
    first = world.run(put(world, body))
    assert first.sent_size == stored_size(world) == 4 * 150_008
    assert world.run(put(world, body, "copy")).sent_size == 0
    world.servers[2].up = False
    changed = body[:-1] + b"?"
    assert world.run(put(world, changed)).sent_size == 3 * 150_008
    world.servers[2].up = True
    assert world.run(put(world, changed)).sent_size == 150_008, "the one that missed it"


@pytest.mark.parametrize("away", [(), (0,), (3,)])
def test_who_holds_everything_is_told(world: World, away: tuple[int, ...]) -> None:
    for place in away:
        world.servers[place].up = False
    outcome = world.run(put(world, world.random.randbytes(BIG)))
    assert outcome.node_count == 4 - len(away)
    assert outcome.survives == 2 - len(away)
    assert outcome.missing == tuple(world.servers[place].node_id for place in away)


def test_a_frozen_node_costs_about_a_second(world: World) -> None:
    world.servers[1].frozen = True
    before_s = world.env.now_s
    outcome = world.run(put(world, world.random.randbytes(3000)))
    assert outcome.node_count == 3
    bound_s = 10 * limits.PATIENCE_S
    assert world.env.now_s - before_s < bound_s, "each request once; links remember it"


def test_an_answer_of_another_length_is_no_answer(world: World) -> None:
    def short(request: messages.Request, answer: Answer) -> Answer:
        return evolve(answer, reply=messages.HasReply(())) if isinstance(request, messages.Has) else answer

    world.servers[0].tamper = short
    assert world.run(put(world, world.random.randbytes(2 * BIG))).node_count == 3


def test_large_batches_are_split(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHARE_SIZE_MAX", 200_000)
    monkeypatch.setattr(limits, "BATCH_COUNT_MAX", 4)
    stripes = []
    making = making_of(world)
    vault = world.vault()
    group = vault.group(DirectoryId(bytes(16)))
    for _ in range(5):
        plain = Plain(memoryview(bytearray(world.random.randbytes(BIG))))
        stripe = pipeline.make_stripe(making.stages, vault.keys, Slot(), plain)
        rows = pipeline.place_stripe(making.stages, b"", stripe.stripe, group.indexes, vault.roster.nodes)
        stripes.append(Placed(stripe, vault.nodes_of(rows)))
    stored = world.run(store_stripes(group, stripes))
    assert stored.holders == set(group.nodes)
    assert stored.sent_size == stored_size(world)
    kinds = [type(request) for request in world.servers[0].requests]
    assert kinds.count(messages.Store) == 5
    assert kinds.count(messages.Has) == 2


@pytest.mark.parametrize("state", ["up", "away", "frozen"])
def test_only_one_node_is_asked_for_what_is_expected_to_be_new(world: World, state: str) -> None:
    making, vault = making_of(world), world.vault()
    group = vault.group(DirectoryId(bytes(16)))
    stripe = pipeline.make_stripe(making.stages, vault.keys, Slot(), Plain(memoryview(bytearray(BIG))))
    rows = pipeline.place_stripe(making.stages, b"", stripe.stripe, group.indexes, vault.roster.nodes)
    placed = Placed(stripe, vault.nodes_of(rows))
    first = next(server for server in world.servers if server.node_id == placed.rows[0][0])
    first.up, first.frozen = state != "away", state == "frozen"
    before_s = world.env.now_s
    stored = world.run(store_stripes(group, [placed], expect_new=True))
    asked = [server for server in world.servers if any(isinstance(x, messages.Has) for x in server.requests)]
    if state == "up":
        assert (asked, stored.found, len(stored.holders)) == ([first], False, 4)
    else:
        assert len(set(map(id, asked)) | {id(first)}) == 4, "another one may have it"
        assert stored.holders == set(group.nodes) - {first.node_id}
    assert world.env.now_s - before_s < 3 * limits.PATIENCE_S
    first.up, first.frozen = True, False
    again = world.run(store_stripes(group, [placed], expect_new=True))
    assert again.found == (state == "up")
    if state == "up":
        assert again.sent_size == 0
