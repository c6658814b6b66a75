"""Shares on their way: only what is lacking is sent, exactly k come back, and who lies is found and named."""

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from attrs import evolve
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, manifest, messages, pipeline, transfer
from dfs.core.bulk_rows import ShareBody
from dfs.core.errors import IncompleteError, IntegrityError
from dfs.core.interface import Buffer, ShareSlice
from dfs.core.node import Answer
from dfs.core.pipeline import Slot
from dfs.core.types import (
    Chunk,
    ChunkId,
    DirectoryId,
    Entry,
    EntryKind,
    Manifest,
    NodeId,
    Plain,
    ShareKey,
    StripeId,
    Version,
)
from dfs.plugins.memory_store import Body, BodySlice
from tests.unit.histories import get, making_of, put
from tests.unit.world import Server, Tamper, World

BIG = 300_000  # shares above what comes along with a row


@pytest.fixture
def world() -> World:
    return World()


def fetched(world: World) -> list[NodeId]:
    return [
        server.node_id
        for server in world.servers
        for request in server.requests
        if isinstance(request, messages.Fetch)
    ]


def stored_size(world: World) -> int:
    return sum(
        head.size
        for server in world.servers
        for request in server.requests
        if isinstance(request, messages.Store)
        for head in request.shares
    )


def wrong(body: Buffer) -> bytes:
    return bytes(byte ^ 255 for byte in bytes(body))


def false_shares(request: messages.Request, answer: Answer) -> Answer:
    """Send other bytes, with a checksum that fits them."""
    if isinstance(request, messages.Fetch):
        return evolve(answer, shares=tuple(false_slice(share) for share in answer.shares))
    if isinstance(request, messages.Read):
        states = bulk_rows.decode_states(b"".join(map(bytes, answer.bulk)))
        lies = [evolve(state, shares=tuple(map(false_body, state.shares))) for state in states]
        return evolve(answer, bulk=(bulk_rows.encode_states(lies),))
    return answer


def false_slice(share: ShareSlice) -> ShareSlice:
    body = bytearray(share.size)
    share.read_into(memoryview(body), 0)
    return BodySlice(Body(wrong(body), xxh3_128_digest(wrong(body))))


def false_body(share: ShareBody) -> ShareBody:
    return ShareBody(share.key, xxh3_128_digest(wrong(share.body)), wrong(share.body))


def lying(world: World, *places: int, tamper: Tamper = false_shares) -> set[NodeId]:
    for place in places:
        world.servers[place].tamper = tamper
    return {world.servers[place].node_id for place in places}


# --- Upload -------------------------------------------------------------------------------------------------


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
    assert world.env.now_s - before_s < 12 * limits.PATIENCE_S, "each request once; links remember it"


def test_an_answer_of_another_length_is_no_answer(world: World) -> None:
    def short(request: messages.Request, answer: Answer) -> Answer:
        return evolve(answer, reply=messages.HasReply(())) if isinstance(request, messages.Has) else answer

    lying(world, 0, tamper=short)
    assert world.run(put(world, world.random.randbytes(3000))).node_count == 3


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
        stripes.append(transfer.Placed(stripe, vault.nodes_of(rows)))
    stored = world.run(transfer.store_stripes(group, stripes))
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
    placed = transfer.Placed(stripe, vault.nodes_of(rows))
    first = next(server for server in world.servers if server.node_id == placed.rows[0][0])
    first.up, first.frozen = state != "away", state == "frozen"
    before_s = world.env.now_s
    stored = world.run(transfer.store_stripes(group, [placed], expect_new=True))
    asked = [server for server in world.servers if any(isinstance(x, messages.Has) for x in server.requests)]
    if state == "up":
        assert (asked, stored.found, len(stored.holders)) == ([first], False, 4)
    else:
        assert len(set(map(id, asked)) | {id(first)}) == 4, "another one may have it"
        assert stored.holders == set(group.nodes) - {first.node_id}
    assert world.env.now_s - before_s < 3 * limits.PATIENCE_S
    first.up, first.frozen = True, False
    again = world.run(transfer.store_stripes(group, [placed], expect_new=True))
    assert again.found == (state == "up")
    if state == "up":
        assert again.sent_size == 0


# --- Download -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3000, 100_000, BIG])
def test_exactly_k_shares_come(world: World, size: int) -> None:
    body = world.random.randbytes(size)
    world.run(put(world, body))
    got, received = world.run(get(world))
    assert received == body
    assert len(got.received) == 2
    assert sum(got.received.values()) == got.needed_size
    assert len(fetched(world)) == (0 if size < 2 * limits.SHARE_INLINE_SIZE_MAX else 2)


@pytest.mark.parametrize("away", list(combinations(range(4), 2)))
def test_any_two_nodes_give_a_file_back(world: World, away: tuple[int, ...]) -> None:
    for size in (3000, BIG):
        body = world.random.randbytes(size)
        path = f"file{size}"
        world.run(put(world, body, path))
        for place in away:
            world.servers[place].up = False
        got, received = world.run(get(world, path))
        assert received == body
        assert got.stale
        for place in away:
            world.servers[place].up = True


@pytest.mark.parametrize("away", [(0, 1, 2), (1, 2, 3)])
def test_with_fewer_the_missing_shares_are_counted(world: World, away: tuple[int, ...]) -> None:
    world.run(put(world, world.random.randbytes(BIG)))
    for place in away:
        world.servers[place].up = False
    with pytest.raises(IncompleteError, match=r"needs 2 of 4 shares, 1 reachable .*refused"):
        world.run(get(world))


def test_a_slow_node_is_hedged(world: World) -> None:
    body = world.random.randbytes(BIG)
    world.run(put(world, body))
    first = world.servers[fetch_order(world)[0]]
    running = world.start(get(world))
    while not fetched(world):
        world.tick()
    first.frozen = True
    before_s = world.env.now_s
    world.settle([running])
    assert running.value[1] == body
    assert world.env.now_s - before_s < 3 * limits.HEDGE_S + 2.0, "work takes a second at most"


def fetch_order(world: World) -> list[int]:
    """Places of the nodes that a get asks for shares."""
    world.run(get(world))
    asked = fetched(world)
    for server in world.servers:
        server.requests.clear()
    return [place for place, server in enumerate(world.servers) if server.node_id in asked]


@pytest.mark.parametrize("size", [3000, BIG])
@pytest.mark.parametrize("place", range(4))
def test_a_node_that_sends_wrong_bytes_is_named(world: World, size: int, place: int) -> None:
    body = world.random.randbytes(size)
    world.run(put(world, body))
    usual = world.run(get(world))[0].received
    liars = lying(world, place)
    got, received = world.run(get(world))
    assert received == body
    assert got.suspects == (liars if liars & usual.keys() else set())


def test_two_liars_of_four_are_found_by_the_others(world: World) -> None:
    for size in (3000, BIG):
        body = world.random.randbytes(size)
        world.run(put(world, body))
        for places in combinations(range(4), 2):
            liars = lying(world, *places)
            usual = {server.node_id for server in world.servers} - liars
            got, received = world.run(get(world))
            assert received == body
            assert not got.suspects & usual
            for server in world.servers:
                server.tamper = None


def test_with_three_liars_there_is_no_file(world: World) -> None:
    world.run(put(world, world.random.randbytes(BIG)))
    lying(world, 0, 1, 2)
    with pytest.raises(IntegrityError, match="no set of shares"):
        world.run(get(world))


def rotten(server: Server) -> Iterator[ShareKey]:
    for key in server.store.shares(None, 100):
        server.store.damage(key)
        yield key


@pytest.mark.parametrize(("code", "placement"), [("split", "ring"), ("split", ""), ("replicate", "")])
def test_every_copy_of_a_share_is_tried(world: World, code: str, placement: str) -> None:
    """Bits that rotted on one node must not count against the good copy on another."""
    for size in (3000, BIG):
        path = f"file{size}"
        body = world.random.randbytes(size)
        making = evolve(making_of(world), stages=world.stages(code, placement))
        world.run(put(world, body, path, making=making))
    for place in range(4):
        copies = [server.copy() for server in world.servers]
        assert list(rotten(world.servers[place]))
        for size in (3000, BIG):
            got, received = world.run(get(world, f"file{size}"))
            assert len(received) == size
            assert got.suspects <= {world.servers[place].node_id}
        for server, copy in zip(world.servers, copies, strict=True):
            server.restore(copy)


def foreign(request: messages.Request, answer: Answer) -> Answer:
    """Push shares of others, of any size, along with a row."""
    if not isinstance(request, messages.Read):
        return answer
    states = bulk_rows.decode_states(b"".join(map(bytes, answer.bulk)))
    stripes = {share.key.stripe for state in states for share in state.shares} or {StripeId(bytes(32))}
    lies = [
        ShareBody(ShareKey(stripe, index), bytes(16), body)
        for stripe in stripes
        for index in range(16)
        for body in (b"short", b"")
    ]
    pushed = [evolve(state, shares=(*state.shares, *lies)) for state in states]
    return evolve(answer, bulk=(bulk_rows.encode_states(pushed),))


@pytest.mark.parametrize("place", range(4))
def test_shares_pushed_along_are_believed_of_their_node_only(world: World, place: int) -> None:
    body = world.random.randbytes(3000)
    world.run(put(world, body))
    lying(world, place, tamper=foreign)
    assert world.run(get(world))[1] == body


# --- What an entry claims -----------------------------------------------------------------------------------


@pytest.mark.parametrize("twist", [lambda chunks: chunks[:-1], lambda chunks: chunks[::-1]])
def test_a_chunk_list_is_bound_to_its_entry(world: World, twist: Callable[[object], object]) -> None:
    vault = world.vault()
    making = making_of(world)
    chunks = [Chunk(ChunkId(bytes((index,)) * 32), 0, 10, 10) for index in range(3)]
    digest = manifest.chunks_digest(chunks)
    twisted = Manifest(making.stages.recipe, b"", tuple(twist(chunks)), listed=False, chunks_digest=digest)  # type: ignore[arg-type]
    group = vault.group(DirectoryId(bytes(16)))
    with pytest.raises(IntegrityError, match="chunk list"):
        world.run(transfer.chunks_of(vault, group, twisted, transfer.Ledger()))


def test_equal_chunks_are_claimed_once(world: World) -> None:
    vault = world.vault()
    group = vault.group(DirectoryId(bytes(16)))
    chunk = Chunk(ChunkId(bytes(32)), 0, 10, 10)
    claims = transfer.claims_on(vault, group, world.stages(), b"", [chunk, chunk])
    assert len(claims) == 1
    folder = Entry("box", EntryKind.FOLDER, Version(bytes(16)))
    assert world.run(transfer.claims_of(vault, group, folder)) == ()
