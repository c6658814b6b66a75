"""Random histories of one path in a small world, and whether one order of its operations explains them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from attrs import define, field, frozen

from dfs.core import folders, getting, putting
from dfs.core.effects import Operation
from dfs.core.errors import ConflictError, DfsError, NotFoundError, UnknownOutcomeError
from dfs.core.folders import remove_entries
from dfs.core.getting import GetItem, Got
from dfs.core.local import BytesContent
from dfs.core.pipeline import Slot
from dfs.core.putting import Making, PutItem
from dfs.core.transfer import Vault
from dfs.core.types import Entry, EntryKind, Outcome, Version
from dfs.testing.simulation.checker import Seen, explained as explained
from dfs.testing.simulation.workload import Gathered as Gathered
from tests.unit.world import Running, World

PATH = "letter"


def making_of(world: World, **changed: Any) -> Making:
    """How new files are made: two chunks at a time."""
    return Making(world.stages(), world.plugins.chunker(), [Slot(), Slot()], **changed)


def put(
    world: World,
    body: bytes,
    path: str = PATH,
    *,
    vault: Vault | None = None,
    making: Making | None = None,
    **wanted: Any,
) -> Operation[Outcome]:
    """Store one file; raises its error."""
    version = wanted.pop("version", None) or Version(world.env.random_bytes(16))
    item = PutItem(path, BytesContent(body, 0), version, **wanted)
    (outcome,) = yield from putting.put_files(vault or world.vault(), [item], making or making_of(world))
    if isinstance(outcome, DfsError):
        raise outcome
    return outcome


def get(world: World, path: str = PATH, *, vault: Vault | None = None) -> Operation[tuple[Got, bytes]]:
    """Fetch one file; raises its error."""
    sinks: list[Gathered] = []

    def open_sink(entry: Entry) -> Gathered:
        sinks.append(Gathered(entry))
        return sinks[-1]

    (got,) = yield from getting.get_files(
        vault or world.vault(), [GetItem(path, open_sink)], [Slot(), Slot()]
    )
    if isinstance(got, DfsError):
        assert all(sink.whole is None for sink in sinks)
        raise got
    assert sinks[-1].whole is not None
    return got, sinks[-1].whole


def remove(world: World, path: str = PATH, *, if_version: Version | None = None) -> Operation[None]:
    """Remove one file; raises its error."""
    outcomes = yield from remove_entries(world.vault(), [path], kind=EntryKind.FILE, if_version=if_version)
    if isinstance(outcomes[path], DfsError):
        raise outcomes[path]  # type: ignore[misc] # narrowed above


def names(world: World, path: str = "") -> list[str]:
    """What a folder lists."""
    return [item.entry.path for item in world.run(folders.list_folder(world.vault(), path))]


# --- Histories ----------------------------------------------------------------------------------------------


@define
class Client:
    """Somebody who does one thing after the other."""

    running: Running[Any] | None = None
    wish: "Wish | None" = None


@frozen
class Wish:
    """What an operation was meant to do, in values."""

    kind: str
    body: bytes = b""
    over: bytes | None = b""


@define
class Story:
    """A world, clients and what they saw of one path. ``rollback``: one node goes back to old copies."""

    world: World
    length: int = 10
    rollback: bool = False
    size: int = 40
    history: list[Seen] = field(factory=list)
    versions: dict[bytes, Version] = field(factory=dict)
    written: set[bytes] = field(factory=set)
    failed: set[bytes] = field(factory=set)
    got: set[bytes] = field(factory=set)
    copies: list[tuple[int, object]] = field(factory=list)
    unsure: int = 0

    def tell(self) -> None:
        """Let it all happen, then look once more with every node up."""
        clients = [Client() for _ in range(3)]
        begun = 0
        while begun < self.length or any(client.running for client in clients):
            for client in clients:
                if client.running is None and begun < self.length and self.world.random.random() < 0.3:
                    client.wish = self._wish()
                    client.running = self.world.start(self._operation(client.wish))
                    begun += 1
            self._trouble(clients)
            if self.world._events:
                self.world.tick()
            for client in clients:
                self._note(client)
        self.calm()
        for _ in range(2):
            client = Client(wish=Wish("get"))
            client.running = self.world.start(get(self.world))
            self.world.settle([client.running])
            assert isinstance(client.running.error, NotFoundError | None)
            self._note(client)

    def calm(self) -> None:
        """All nodes up, nothing is lost any more."""
        self.world.loss = 0.0
        for server in self.world.servers:
            server.up, server.frozen = True, False

    def _wish(self) -> Wish:
        kind = self.world.random.choice(["put", "put", "get", "get", "get", "rm", "cas", "absent"])
        body = b""
        if kind in {"put", "cas", "absent"}:
            body = self.world.random.randbytes(self.size)
            self.written.add(body)
        if kind == "cas" and self.versions:
            return Wish(kind, body, self.world.random.choice(sorted(self.versions)))
        return Wish("put" if kind == "cas" else kind, body)

    def _operation(self, wish: Wish) -> Operation[Any]:
        if wish.kind == "get":
            return get(self.world)
        if wish.kind == "rm":
            return remove(self.world)
        version = self.versions[wish.body] = Version(self.world.env.random_bytes(16))
        conditions: dict[str, Any] = {"if_absent": wish.kind == "absent"}
        if wish.kind == "cas":
            conditions["if_version"] = self.versions[wish.over or b""]
        return put(self.world, wish.body, version=version, **conditions)

    def _trouble(self, clients: Sequence[Client]) -> None:
        random = self.world.random
        server = random.choice(self.world.servers)
        draw = random.random()
        away = sum(1 for other in self.world.servers if not other.up or other.frozen)
        if draw < 0.01 and away < 2:
            random.choice([partial(setattr, server, "up", False), partial(setattr, server, "frozen", True)])()
        elif draw < 0.05:
            server.frozen = False
            server.restart()
        elif draw < 0.055:
            client = random.choice(clients)
            if client.running is not None:
                self.world.crash(client.running)
        elif draw < 0.08 and self.rollback:
            self._roll_back()
        elif draw < 0.2:
            server.vault.collectable = True
            server.vault.tidy()

    def _roll_back(self) -> None:
        server = self.world.servers[self.world.random.randrange(4)] if not self.copies else self._victim()
        if len(self.copies) < 3:
            self.copies.append((self.world.servers.index(server), server.copy()))
        else:
            server.restore(self.copies[self.world.random.randrange(3)][1])

    def _victim(self) -> Any:
        return self.world.servers[self.copies[0][0]]

    def _note(self, client: Client) -> None:
        running, wish = client.running, client.wish
        if running is None or running.ended is None or wish is None:
            return
        client.running = None
        begun, ended = running.begun, running.ended
        if isinstance(running.error, UnknownOutcomeError) or running.crashed:
            self.unsure += 1
            if wish.kind != "get":
                self.history.append(self._effect(wish, begun, ended, certain=False))
        elif wish.kind == "get":
            self._note_get(running)
        elif running.error is None:
            self.history.append(self._effect(wish, begun, ended, certain=True))
        elif isinstance(running.error, NotFoundError):
            self.history.append(Seen(begun, ended, needs=None))
        elif isinstance(running.error, ConflictError):
            self.failed.add(wish.body)
            self.history.append(Seen(begun, ended, avoids=None if wish.kind == "absent" else wish.over))
        else:
            self.failed.add(wish.body)

    def _effect(self, wish: Wish, begun: int, ended: int, *, certain: bool) -> Seen:
        leaves = None if wish.kind == "rm" else wish.body
        needs = None if wish.kind == "absent" else wish.over
        return Seen(begun, ended, leaves, needs, certain=certain)

    def _note_get(self, running: Running[Any]) -> None:
        if running.error is None:
            got, body = running.value
            assert body in self.written, "a mix, or what nobody wrote"
            self.got.add(body)
            if not got.stale:
                self.history.append(Seen(running.begun, running.ended or 0, needs=body))
        elif isinstance(running.error, NotFoundError):
            self.history.append(Seen(running.begun, running.ended or 0, needs=None))
