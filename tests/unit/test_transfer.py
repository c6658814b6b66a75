"""Shares on their way back: exactly k come, and who lies is found and named."""

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from attrs import evolve
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, manifest, messages, transfer
from dfs.core.bulk_rows import ShareBody
from dfs.core.errors import IncompleteError, IntegrityError
from dfs.core.interface import Buffer, ShareSlice
from dfs.core.node import Answer
from dfs.core.types import (
    Chunk,
    ChunkId,
    DirectoryId,
    Entry,
    EntryKind,
    Manifest,
    NodeId,
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
