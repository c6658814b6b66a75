"""Files stored: small ones together, large ones chunk by chunk, with conditions, faults and retries."""

import io
from typing import Any

import pytest
from attrs import evolve

from dfs.core import limits, messages, putting
from dfs.core.effects import Operation
from dfs.core.errors import (
    ConflictError,
    DfsError,
    DiskFullError,
    NotFoundError,
    QuorumError,
    UnknownOutcomeError,
)
from dfs.core.folders import remove_entries
from dfs.core.interface import Chunker
from dfs.core.local import BytesContent, StreamContent
from dfs.core.node import Answer
from dfs.core.pipeline import Slot
from dfs.core.putting import Content, Put, PutItem, put_files
from dfs.core.types import Entry, EntryKind, Geometry, Outcome, OutcomeKind, Version
from dfs.plugins.fixed import Fixed
from tests.unit.histories import get, making_of, names, put, remove
from tests.unit.world import World

CHUNK = 2000


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def tiny(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Files of more than 100 bytes are large, chunks have 2,000 bytes."""
    monkeypatch.setattr(limits, "SMALL_SIZE_MAX", 100)
    return world


class Cutting:
    """A chunker whose boundaries follow the bytes: behind every zero."""

    chunk_size_max = CHUNK
    fixed = False

    def cut(self, window: Any, *, final: bool) -> int:
        assert final or len(window) == CHUNK
        place = bytes(window).find(0)
        return place + 1 if place >= 0 else len(window)


def chunked(world: World, chunker: Chunker | None = None, **changed: Any) -> putting.Making:
    return evolve(making_of(world), chunker=chunker or Fixed(CHUNK), **changed)


def item(world: World, path: str, content: Content | bytes, **wanted: Any) -> PutItem:
    body = BytesContent(content, 0) if isinstance(content, bytes) else content
    return PutItem(path, body, Version(world.env.random_bytes(16)), **wanted)


def put_all(world: World, items: list[PutItem], making: putting.Making | None = None) -> list[Put]:
    return world.run(put_files(world.vault(), items, making or making_of(world)))


def requests(world: World, kind: type[messages.Request]) -> int:
    return sum(isinstance(request, kind) for request in world.servers[0].requests)


# --- How often it waits for nodes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "path", "count"),
    [
        (100, "letter", 4),  # READ, PREPARE, ACCEPT, CONFIRM
        (3000, "letter", 4),  # READ, STORE with PREPARE, ACCEPT, CONFIRM
        (3000, "box/letter", 4),  # the same, CONFIRM with the READ that looks after the folder
        (16_000, "letter", 4),
        (17_000, "letter", 5),  # more than nodes are sent unasked: HAS before STORE
    ],
)
def test_a_small_file_waits_for_few_round_trips(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, path: str, count: int
) -> None:
    world.run(put(world, b"before", path))
    monkeypatch.setattr(world, "_delay_s", lambda: 0.1)  # each way
    before_s = world.env.now_s
    world.run(put(world, world.random.randbytes(size), path))
    assert (world.env.now_s - before_s) / 0.2 == pytest.approx(count, abs=0.5)


# --- Sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 5000, 200_000])
def test_what_is_put_comes_back(world: World, size: int) -> None:
    body = world.random.randbytes(size)
    outcome = world.run(put(world, body))
    assert (outcome.kind, outcome.node_count, outcome.size) == (OutcomeKind.OK, 4, size)
    got, received = world.run(get(world))
    assert received == body
    assert (got.entry.content is None) is (size > limits.CONTENT_INLINE_SIZE_MAX)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK - 1])
def test_large_files_go_chunk_by_chunk(tiny: World, size: int) -> None:
    body = tiny.random.randbytes(size)
    sizes: list[int] = []
    outcome = tiny.run(put(tiny, body, making=chunked(tiny, progress=sizes.append)))
    got, received = tiny.run(get(tiny))
    assert received == body
    assert outcome.survives == (2 if size > 100 else outcome.survives)
    assert sum(sizes) == size
    if size > 100:
        assert got.entry.manifest is not None
        assert len(got.entry.manifest.chunks) == -(-size // CHUNK)


def test_a_new_file_asks_one_node_a_chunk_what_it_has(tiny: World) -> None:
    making = chunked(tiny)
    body = tiny.random.randbytes(40 * CHUNK)
    outcome = tiny.run(put(tiny, body, making=making))
    asked = sum(isinstance(each, messages.Has) for server in tiny.servers for each in server.requests)
    assert asked <= 40 + 3 * len(making.slots)
    assert outcome.sent_size == 40 * 4 * making.stages.code.share_size(CHUNK + 16)


@pytest.mark.parametrize(("slot_count", "store_count"), [(1, 9), (3, 9), (4, 5), (5, 5)])
def test_chunks_share_their_requests_while_others_are_made(
    tiny: World, slot_count: int, store_count: int
) -> None:
    making = chunked(tiny, slots=[Slot() for _ in range(slot_count)])
    body = tiny.random.randbytes(9 * CHUNK - 1)
    tiny.run(put(tiny, body, making=making))
    assert requests(tiny, messages.Store) == store_count
    assert tiny.run(get(tiny))[1] == body


def test_equal_chunks_that_are_made_together_are_sent_once(tiny: World) -> None:
    making = chunked(tiny, slots=[Slot() for _ in range(4)])
    body = tiny.random.randbytes(CHUNK) * 2
    outcome = tiny.run(put(tiny, body, making=making))
    assert outcome.sent_size == 4 * making.stages.code.share_size(CHUNK + 16)
    assert tiny.run(get(tiny))[1] == body


def test_of_a_file_that_is_there_in_part_little_is_sent_twice(tiny: World) -> None:
    making = chunked(tiny)
    sizes = (10, 20, 10)
    old = [tiny.random.randbytes(count * CHUNK) for count in sizes]
    tiny.run(put(tiny, b"".join(old), making=making))
    new = tiny.random.randbytes(len(old[1]))
    outcome = tiny.run(put(tiny, old[0] + new + old[2], "changed", making=making))
    stripe_size = 4 * making.stages.code.share_size(CHUNK + 16)
    assert outcome.sent_size == 20 * stripe_size, "a node that has a share tells it, whatever was expected"
    assert tiny.run(get(tiny, "changed"))[1] == old[0] + new + old[2]


@pytest.mark.parametrize("chunker", [Fixed(CHUNK), Cutting()])
@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK, 4 * CHUNK + 7])
def test_streams_are_read_to_their_end(tiny: World, size: int, chunker: Chunker) -> None:
    body = tiny.random.randbytes(size)
    content = StreamContent(io.BytesIO(body), 0)
    (outcome,) = put_all(tiny, [item(tiny, "letter", content)], chunked(tiny, chunker))
    assert isinstance(outcome, Outcome)
    assert outcome.size == size
    assert tiny.run(get(tiny))[1] == body


def test_boundaries_that_follow_the_bytes_need_no_stream(tiny: World) -> None:
    body = b"one\0two\0" * 400
    tiny.run(put(tiny, body, making=chunked(tiny, Cutting())))
    assert tiny.run(get(tiny))[1] == body


def test_a_long_chunk_list_is_stored_as_chunks_itself(tiny: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_LIST_INLINE_SIZE_MAX", 100)
    body = tiny.random.randbytes(60 * CHUNK)
    tiny.run(put(tiny, body, making=chunked(tiny)))
    got, received = tiny.run(get(tiny))
    assert received == body
    assert got.entry.manifest is not None
    assert got.entry.manifest.listed
    assert len(got.entry.manifest.chunks) == 2
    tiny.servers[0].up = tiny.servers[3].up = False
    assert tiny.run(get(tiny))[1] == body
    tiny.servers[0].up = True
    tiny.run(put(tiny, b"short"))
    for server in tiny.servers:
        server.store.transact(lambda transaction: transaction.unpin(1e12))
        server.vault.tidy()
    assert tiny.servers[1].store.shares(None, 10) == [], "the list is claimed with its entry"


def test_small_files_share_their_requests(world: World) -> None:
    bodies = {f"box/{index}": world.random.randbytes(3000) for index in range(50)}
    outcomes = put_all(world, [item(world, path, body) for path, body in bodies.items()])
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert [outcome.path for outcome in outcomes if isinstance(outcome, Outcome)] == list(bodies)
    assert names(world, "box") == sorted(bodies)
    assert requests(world, messages.Store) == 1
    for path in ("box/0", "box/49"):
        assert world.run(get(world, path))[1] == bodies[path]


def test_small_batches_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(putting, "SMALL_BATCH_COUNT", 3)
    put_all(world, [item(world, f"file{index}", world.random.randbytes(3000)) for index in range(7)])
    assert requests(world, messages.Store) == 3
    monkeypatch.setattr(putting, "SMALL_BATCH_SIZE", 5000)
    put_all(world, [item(world, f"other{index}", world.random.randbytes(3000)) for index in range(3)])
    assert requests(world, messages.Store) == 6


def test_the_version_before_is_released(world: World) -> None:
    world.run(put(world, world.random.randbytes(3000)))
    world.run(put(world, world.random.randbytes(3000)))
    for server in world.servers:
        server.store.transact(lambda transaction: transaction.unpin(1e12))
        server.vault.tidy()
        assert len(server.store.shares(None, 10)) == 1


# --- Conditions ---------------------------------------------------------------------------------------------


def test_if_version_replaces_what_it_names(world: World) -> None:
    first = world.run(put(world, b"one"))
    second = world.run(put(world, b"two", if_version=first.version))
    with pytest.raises(
        ConflictError, match=rf"at version {second.version.hex()}, not at {first.version.hex()}"
    ):
        world.run(put(world, b"three", if_version=first.version))
    with pytest.raises(ConflictError, match="other is not there"):
        world.run(put(world, b"three", "other", if_version=first.version))
    assert world.run(get(world))[1] == b"two"


def test_if_absent_makes_and_never_replaces(world: World) -> None:
    world.run(put(world, b"one", if_absent=True))
    before = requests(world, messages.Prepare)
    with pytest.raises(ConflictError, match="exists already"):
        world.run(put(world, b"two", if_absent=True))
    assert requests(world, messages.Prepare) == before, "refused before any work"
    world.run(remove(world))
    world.run(put(world, b"two", if_absent=True))
    assert world.run(get(world))[1] == b"two"


def test_a_condition_is_checked_again_when_it_counts() -> None:
    """What was read first may be out of date: the change itself decides."""
    refused = 0
    for seed in range(8):
        world = World(seed)
        first = world.run(put(world, b"one"))
        slow = world.start(put(world, world.random.randbytes(9000), if_version=first.version))
        while not requests(world, messages.Prepare):
            world.tick()
        world.run(put(world, b"meanwhile"))
        world.settle([slow])
        refused += isinstance(slow.error, ConflictError | UnknownOutcomeError)
        assert world.run(get(world))[1] == b"meanwhile", "it was there before, or not at all"
    assert refused


@pytest.mark.parametrize("condition", [{}, {"if_absent": True}, {"if_version": None}])
def test_the_same_version_again_is_a_retry(world: World, condition: dict[str, Any]) -> None:
    version = Version(bytes(range(16)))
    world.run(put(world, b"one", version=version, **condition))
    world.run(put(world, b"one", version=version, **condition))
    assert world.run(get(world))[0].entry.version == version


def test_a_retry_after_an_unknown_outcome_finds_its_own_write(world: World) -> None:
    version = Version(bytes(range(16)))
    first = world.start(put(world, b"one", version=version, if_absent=True))
    while requests(world, messages.Accept) == 0:
        world.tick()
    for server in world.servers[1:]:
        server.up = False
    world.settle([first])
    assert isinstance(first.error, UnknownOutcomeError)
    for server in world.servers:
        server.up = True
    world.run(put(world, b"one", version=version, if_absent=True))
    assert world.run(get(world))[1] == b"one"


# --- Nodes that are away ------------------------------------------------------------------------------------


def test_one_node_may_be_away(world: World) -> None:
    world.servers[2].up = False
    outcome = world.run(put(world, world.random.randbytes(3000)))
    assert (outcome.kind, outcome.survives) == (OutcomeKind.DEGRADED, 1)
    assert outcome.missing == (world.servers[2].node_id,)


def test_too_few_nodes_are_noticed_before_the_file_is_read(world: World) -> None:
    class Unreadable(BytesContent):
        def read_into(self, target: memoryview, offset: int) -> int:
            raise AssertionError("read")

    world.servers[0].up = world.servers[1].up = False
    with pytest.raises(QuorumError, match=r"2 of 4 nodes reachable, 3 needed \(no answer: dfs1, dfs2\)"):
        put_all(world, [item(world, "letter", Unreadable(b"body", 0))])


def test_degraded_writes_need_leave(world: World) -> None:
    """Three answer, but only two store: enough to read the file, not enough to lose one more."""

    for server in world.servers[:2]:
        server.refuses[messages.Store] = DiskFullError("no room")
    body = world.random.randbytes(3000)
    with pytest.raises(DiskFullError, match=r"2 of 4 nodes hold their shares, 3 needed .*no room"):
        world.run(put(world, body))
    with pytest.raises(NotFoundError):
        world.run(get(world))
    outcome = world.run(put(world, body, making=making_of(world, allow_degraded=True)))
    assert (outcome.kind, outcome.node_count, outcome.survives) == (OutcomeKind.DEGRADED, 2, 0)
    assert world.run(get(world))[1] == body


@pytest.mark.parametrize("allow_degraded", [False, True])
def test_shares_lost_before_the_entry_came_are_not_called_stored(world: World, allow_degraded: bool) -> None:
    """Seed 1068 of the simulator: all of 4 shares were needed, one pin ended before its ACCEPT."""
    making = making_of(world, allow_degraded=allow_degraded)
    stages = world.plugins.stages(evolve(making.stages.recipe, geometry=Geometry(4, 4)))

    def forget(request: messages.Request, answer: Answer) -> Answer:
        if isinstance(request, messages.Prepare):
            store = world.servers[1].store
            store.transact(lambda transaction: transaction.unpin(world.env.now_s + 2 * limits.PIN_LEASE_S))
            assert store.transact(lambda transaction: transaction.collect(9)) == 1
        return answer

    world.servers[1].tamper = forget
    with pytest.raises(UnknownOutcomeError, match="3 of 4 nodes hold theirs, 4 needed"):
        world.run(
            put(
                world, world.random.randbytes(limits.SMALL_SIZE_MAX + 1), making=evolve(making, stages=stages)
            )
        )


@pytest.mark.parametrize("place", range(4))
def test_a_node_that_dies_during_the_upload_is_left_out(tiny: World, place: int) -> None:
    body = tiny.random.randbytes(10 * CHUNK)
    running = tiny.start(put(tiny, body, making=chunked(tiny)))
    while requests(tiny, messages.Store) < 3:
        tiny.tick()
    tiny.servers[place].up = False
    tiny.settle([running])
    assert running.value.node_count == 3
    assert tiny.run(get(tiny))[1] == body


# --- Faults of single files ---------------------------------------------------------------------------------


class Shrinking(BytesContent):
    """A file that others cut while it is read."""

    def read_into(self, target: memoryview, offset: int) -> int:
        return super().read_into(target, offset) - 1


def test_one_bad_file_does_not_stop_the_others(tiny: World) -> None:
    tiny.run(put(tiny, b"in the way", "file"))
    good = tiny.random.randbytes(5 * CHUNK)
    items = [
        item(tiny, "shrinks", Shrinking(bytes(50), 0)),
        item(tiny, "shrinks too", Shrinking(tiny.random.randbytes(3 * CHUNK), 0)),
        item(tiny, "file/below", b"no folder"),
        item(tiny, "good", good),
        item(tiny, "small", b"good"),
    ]
    outcomes = put_all(tiny, items, chunked(tiny))
    assert [type(outcome) for outcome in outcomes] == [
        ConflictError,
        ConflictError,
        ConflictError,
        Outcome,
        Outcome,
    ]
    assert tiny.run(get(tiny, "good"))[1] == good
    assert names(tiny) == ["file", "good", "small"]


def test_a_buffer_is_not_used_again_while_a_worker_fills_it(tiny: World) -> None:
    """A chunk of a file that failed must not end up in the next one."""

    class Faulty(BytesContent):
        def read_into(self, target: memoryview, offset: int) -> int:
            return 0 if offset == 0 else super().read_into(target, offset)

    for seed in range(8):
        tiny.random.seed(seed)
        good = tiny.random.randbytes(8 * CHUNK)
        bad = Faulty(tiny.random.randbytes(8 * CHUNK), 0)
        outcomes = put_all(tiny, [item(tiny, "bad", bad), item(tiny, "good", good)], chunked(tiny))
        assert [type(outcome) for outcome in outcomes] == [ConflictError, Outcome]
        assert tiny.run(get(tiny, "good"))[1] == good


def test_a_folder_is_not_overwritten(world: World) -> None:
    world.run(put(world, b"one", "box/letter"))
    with pytest.raises(ConflictError, match="box is a folder"):
        world.run(put(world, b"two", "box"))


def test_folders_on_the_way_are_made(world: World) -> None:
    world.run(put(world, b"one", "a/b/c"))
    assert (names(world), names(world, "a"), names(world, "a/b")) == (["a"], ["a/b"], ["a/b/c"])


def test_a_folder_removed_meanwhile_is_made_again(world: World) -> None:
    running = world.start(put(world, world.random.randbytes(3000), "box/letter"))
    while not requests(world, messages.Store):
        world.tick()
    world.run(remove_marker(world, "box"))
    world.settle([running])
    assert running.error is None
    assert names(world) == ["box"]


def remove_marker(world: World, path: str) -> Operation[None]:
    outcomes = yield from remove_entries(world.vault(), [path], kind=EntryKind.FOLDER)
    assert not isinstance(outcomes[path], DfsError)


def test_a_stored_file_whose_folder_is_uncertain_is_no_failure(world: World) -> None:
    running = world.start(put(world, b"one", "box/letter"))
    while requests(world, messages.Accept) < 2:  # of the folder, then of the file
        world.tick()
    for server in world.servers:
        server.refuses[messages.Read] = QuorumError("gone")
    world.settle([running])
    with pytest.raises(UnknownOutcomeError, match="box/letter is stored, but not its folder"):
        _ = running.value
    for server in world.servers:
        server.refuses.clear()
    assert world.run(get(world, "box/letter"))[1] == b"one"


def test_the_entry_keeps_time_and_mode(world: World) -> None:
    content = BytesContent(b"one", 1_700_000_000_000_000_001)
    content.mode = 0o100755
    put_all(world, [item(world, "letter", content)])
    entry: Entry = world.run(get(world))[0].entry
    assert (entry.mtime_ns, entry.mode) == (1_700_000_000_000_000_001, 0o755)


@pytest.mark.parametrize(
    ("code", "placement"), [("split", "ring"), ("replicate", ""), ("reed-solomon", "ring")]
)
@pytest.mark.parametrize("away", range(4))
def test_every_code_survives_a_lost_node(world: World, code: str, placement: str, away: int) -> None:
    making = evolve(making_of(world), stages=world.stages(code, placement))
    body = world.random.randbytes(30_000)
    outcome = world.run(put(world, body, making=making))
    assert outcome.survives >= 1
    world.servers[away].up = False
    assert world.run(get(world))[1] == body
