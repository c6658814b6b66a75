"""Files fetched: whole and verified or not at all, whatever happens to nodes, versions and the reader."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve

from dfs.core import messages
from dfs.core.errors import ConfigError, ConflictError, DfsError, IncompleteError, NotFoundError, QuorumError
from dfs.core.folders import make_folder
from dfs.core.getting import GetItem, Got, Sink, get_files
from dfs.core.pipeline import Slot
from dfs.core.types import Entry
from dfs.plugins.fixed import Fixed
from tests.unit.histories import Gathered, get, making_of, put
from tests.unit.world import World

CHUNK = 2000


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("dfs.core.limits.SMALL_SIZE_MAX", 100)
    return World()


def put_chunks(world: World, body: bytes, path: str = "letter") -> None:
    world.run(put(world, body, path, making=evolve(making_of(world), chunker=Fixed(CHUNK))))


class Watched(Gathered):
    """Knows what became of it."""

    def __init__(
        self, entry: Entry, *, traceless: bool = True, fails: bool = False, unfinishable: bool = False
    ) -> None:
        super().__init__(entry)
        self.traceless, self.fails, self.unfinishable = traceless, fails, unfinishable
        self.offsets: list[int] = []
        self.abandoned = 0

    def write(self, offset: int, plain: memoryview) -> None:
        if self.fails:
            raise ConfigError("the disk is full")
        self.offsets.append(offset)
        super().write(offset, plain)

    def finish(self, entry: Entry) -> None:
        if self.unfinishable:
            raise ConfigError("the disk is full")
        super().finish(entry)

    def abandon(self) -> bool:
        self.abandoned += 1
        return self.traceless


class Left(Gathered):
    """Holds what an earlier try left."""

    def __init__(self, entry: Entry, left: bytes) -> None:
        super().__init__(entry)
        self.body[: len(left)] = left
        self.left_size = len(left)
        self.offsets: list[int] = []

    def read_into(self, target: memoryview, offset: int) -> int:
        left = self.body[offset : min(offset + len(target), self.left_size)]
        target[: len(left)] = left
        return len(left)

    def write(self, offset: int, plain: memoryview) -> None:
        self.offsets.append(offset)
        super().write(offset, plain)


@pytest.mark.parametrize("packable", [False, True])
def test_what_an_earlier_try_left_is_not_fetched(world: World, packable: bool) -> None:
    body = world.random.randbytes(3 * CHUNK + 500)
    body = (b"text " * len(body))[: len(body)] if packable else body
    put_chunks(world, body)
    left = bytearray(body[: 2 * CHUNK + 100])
    left[CHUNK + 7] ^= 1
    sinks: list[Left] = []

    def open_sink(entry: Entry) -> Left:
        sinks.append(Left(entry, bytes(left)))
        return sinks[-1]

    sizes: list[int] = []
    item = GetItem("letter", open_sink, resume=True)
    (got,) = world.run(get_files(world.vault(), [item], [Slot(), Slot()], sizes.append))
    assert isinstance(got, Got)
    assert sinks[0].whole == body
    assert (sorted(sinks[0].offsets), got.kept_size) == ([CHUNK, 2 * CHUNK, 3 * CHUNK], CHUNK)
    assert sum(got.received.values()) == got.needed_size
    assert sum(sizes) == len(body)


class Fetching:
    """A get, and the sinks it opened."""

    def __init__(
        self, world: World, paths: Sequence[str] = ("letter",), *, slots: int = 2, **sink: Any
    ) -> None:
        self.world = world
        self.sinks: list[Watched] = []
        self.sizes: list[int] = []

        def open_sink(entry: Entry) -> Watched:
            self.sinks.append(Watched(entry, **sink))
            return self.sinks[-1]

        items = [GetItem(path, open_sink) for path in paths]
        buffers = [Slot() for _ in range(slots)]
        self.running = world.start(get_files(world.vault(), items, buffers, self.sizes.append))

    def end(self) -> list[Got | DfsError]:
        self.world.settle([self.running])
        return self.running.value

    def until(self, kind: type[messages.Request]) -> None:
        while not any(
            isinstance(request, kind) for server in self.world.servers for request in server.requests
        ):
            self.world.tick()


def test_many_files_come_each_to_its_place(world: World) -> None:
    bodies = {
        f"file{index}": world.random.randbytes(size) for index, size in enumerate([0, 50, 90, 5000, 20_000])
    }
    for path, body in bodies.items():
        put_chunks(world, body, path)
    fetching = Fetching(world, [*bodies, "file1", "nowhere"])
    results = fetching.end()
    assert [type(result) for result in results] == [Got] * 6 + [NotFoundError]
    gathered = {sink.whole for sink in fetching.sinks}
    assert gathered == set(bodies.values())
    assert sum(fetching.sizes) == sum(map(len, bodies.values())) + 50
    assert all(sink.abandoned == 0 for sink in fetching.sinks)


@pytest.mark.parametrize("settles", [True, False])
def test_small_files_are_settled_together_before_the_first_has_its_name(world: World, settles: bool) -> None:
    bodies = {f"file{index}": world.random.randbytes(index) for index in range(0, 80, 5)}
    for path, body in bodies.items():
        world.run(put(world, body, path))
    sinks: list[Watched] = []
    settled: list[Sequence[Sink]] = []

    def open_sink(entry: Entry) -> Watched:
        sinks.append(Watched(entry, unfinishable=entry.path == "file35"))
        return sinks[-1]

    def settle(given: Sequence[Sink]) -> bool:
        assert [sink.whole for sink in sinks] == [None] * len(bodies)
        settled.append(given)
        return settles

    items = [GetItem(path, open_sink) for path in bodies]
    results = world.run(get_files(world.vault(), items, [Slot(), Slot()], settle=settle))
    assert [list(given) for given in settled] == [sinks]
    assert [type(result) for result in results].count(Got) == len(bodies) - 1
    assert {sink.whole for sink in sinks} - {None} == set(bodies.values()) - {bodies["file35"]}
    assert [sink.abandoned for sink in sinks if sink.whole is None] == [1]


def test_small_files_whose_nodes_are_away_are_fetched_from_others(world: World) -> None:
    bodies = {f"file{index}": world.random.randbytes(90) for index in range(20)}
    for path, body in bodies.items():
        put_chunks(world, body, path)
    world.servers[1].up = False
    fetching = Fetching(world, list(bodies))
    assert all(isinstance(result, Got) for result in fetching.end())
    assert {sink.whole for sink in fetching.sinks} == set(bodies.values())


def test_one_slot_brings_chunks_in_order(world: World) -> None:
    put_chunks(world, world.random.randbytes(9 * CHUNK))
    fetching = Fetching(world, slots=1)
    fetching.end()
    assert fetching.sinks[0].offsets == [index * CHUNK for index in range(9)]


def test_folders_and_missing_files_are_told_apart(world: World) -> None:
    world.run(make_folder(world.vault(), "box"))
    with pytest.raises(NotFoundError, match="box is a folder"):
        world.run(get(world, "box"))
    with pytest.raises(NotFoundError, match="letter does not exist"):
        world.run(get(world))
    world.servers[0].up = world.servers[1].up = False
    with pytest.raises(QuorumError, match="cannot say whether letter exists: 2 of 4 nodes answer, 3 needed"):
        world.run(get(world))


def test_a_file_that_cannot_be_written_stops_only_itself(world: World) -> None:
    put_chunks(world, world.random.randbytes(9 * CHUNK))
    fetching = Fetching(world, fails=True)
    (result,) = fetching.end()
    assert isinstance(result, ConfigError)
    assert fetching.sinks[0].abandoned
    assert fetching.sinks[0].whole is None


def test_a_reader_that_gives_up_leaves_nothing(world: World) -> None:
    put_chunks(world, world.random.randbytes(9 * CHUNK))
    fetching = Fetching(world)
    fetching.until(messages.Fetch)
    while not fetching.sinks:
        world.tick()
    world.crash(fetching.running)
    assert fetching.sinks[0].abandoned
    assert fetching.sinks[0].whole is None


@pytest.mark.parametrize("kind", [messages.Read, messages.Fetch])
def test_a_version_replaced_while_it_is_read_gives_way_to_the_new_one(
    world: World, kind: type[messages.Request]
) -> None:
    put_chunks(world, world.random.randbytes(300_000))
    for server in world.servers:
        server.requests.clear()
    fetching = Fetching(world)
    fetching.until(kind)
    new = world.random.randbytes(9 * CHUNK)
    put_chunks(world, new)
    collect(world)
    (result,) = fetching.end()
    assert isinstance(result, Got)
    assert fetching.sinks[-1].whole == new
    assert all(sink.abandoned for sink in fetching.sinks[:-1])


def collect(world: World) -> None:
    """Drop what no entry claims."""
    for server in world.servers:
        server.store.transact(lambda transaction: transaction.unpin(1e12))
        server.vault.tidy()


def test_bytes_that_were_passed_on_cannot_be_taken_back(world: World) -> None:
    """Half an old version before a new one would be a mix: there is an error instead."""
    put_chunks(world, world.random.randbytes(150 * CHUNK))
    fetching = Fetching(world, slots=1, traceless=False)
    fetching.until(messages.Fetch)
    while not (fetching.sinks and fetching.sinks[0].offsets):
        world.tick()
    put_chunks(world, world.random.randbytes(9 * CHUNK))
    collect(world)
    (result,) = fetching.end()
    assert isinstance(result, IncompleteError)
    assert len(fetching.sinks) == 1


def test_shares_that_are_gone_without_a_new_version_are_an_error(world: World) -> None:
    put_chunks(world, world.random.randbytes(150 * CHUNK))
    for server in world.servers[:3]:
        server.refuses[messages.Fetch] = ConflictError("not now")
    (result,) = Fetching(world).end()
    assert isinstance(result, IncompleteError)


def test_nodes_that_die_during_a_download_are_replaced_by_others(world: World) -> None:
    body = world.random.randbytes(50 * CHUNK)
    put_chunks(world, body)
    for first in range(4):
        fetching = Fetching(world)
        fetching.until(messages.Fetch)
        world.servers[first].up = world.servers[(first + 1) % 4].up = False
        (result,) = fetching.end()
        assert isinstance(result, Got)
        assert fetching.sinks[0].whole == body
        for server in world.servers:
            server.up = True
            server.requests.clear()


def test_no_node_at_all_ends_the_command(world: World) -> None:
    for server in world.servers:
        server.up = False
    with pytest.raises(QuorumError, match="0 of 4 nodes answer"):
        world.run(get(world))
