"""What users do in a run, and what they saw of it: histories per path, in versions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from attrs import define, field, frozen

from dfs.core import checking, folders, getting, putting, renaming, repairing
from dfs.core.effects import Operation
from dfs.core.errors import (
    ConflictError,
    DfsError,
    IntegrityError,
    NotFoundError,
    QuorumError,
    UnknownOutcomeError,
)
from dfs.core.folders import Listed
from dfs.core.getting import GetItem, Got
from dfs.core.interface import Buffer
from dfs.core.local import BytesContent
from dfs.core.pipeline import Slot
from dfs.core.putting import Making, PutItem
from dfs.core.records import evolve
from dfs.core.transfer import Vault
from dfs.core.types import Entry, EntryKind, Outcome, Version
from dfs.testing.simulation.checker import Seen
from dfs.testing.simulation.clients import Client, Running
from dfs.testing.simulation.world import World

PATHS: Final = ("a", "d/x", "b", "d/y", "d/e/z")
CHUNK_SIZE: Final = 256  # of runs whose bounds are small
NO_VERSION: Final = Version(b"")
THINK_S: Final = 0.02  # between two wishes
RETRY_S: Final = 4.0  # the same when nodes are away
PIECE_COUNT: Final = 6  # different chunks that files are made of, so that they share some


class Gathered:
    """A file that arrives in memory (getting.Sink). Nobody sees it before it is finished."""

    def __init__(self, entry: Entry) -> None:
        self.body = bytearray(entry.size)
        self.whole: bytes | None = None

    def write(self, offset: int, plain: memoryview) -> None:
        """Take verified bytes."""
        self.body[offset : offset + len(plain)] = plain

    def read_into(self, _target: memoryview, _offset: int) -> int:
        """Nothing is left of an earlier try."""
        return 0

    def finish(self, _entry: Entry) -> None:
        """All bytes are there."""
        self.whole = bytes(self.body)

    def abandon(self) -> bool:
        """They will not all come."""
        self.whole = None
        return True


@frozen
class Even:
    """Chunks of one size, smaller than any real chunker makes (interface.Chunker)."""

    chunk_size_max: int
    fixed: bool = True

    def cut(self, window: Buffer, *, final: bool) -> int:
        """Return the whole window."""
        return len(window)


@frozen
class Wish:
    """What an operation is meant to do. ``over``: the version it must replace. ``new``: the path to be."""

    kind: str
    path: str = ""
    version: Version = NO_VERSION
    body: bytes = field(default=b"", repr=False)
    over: Version | None = None
    degraded: bool = False
    new: str = ""

    @property
    def text(self) -> str:
        """For people."""
        version = f" {self.version.hex()[:8]} ({len(self.body)} bytes)" if self.version else ""
        over = f" over {self.over.hex()[:8]}" if self.over else ""
        new = f" to {self.new}" if self.new else ""
        return f"{self.kind} {self.path or '/'}{version}{over}{new}"


def put(client: Client, vault: Vault, wish: Wish, chunk_size: int) -> Operation[Outcome]:
    """Store one file; raises its error."""
    slots = [Slot(), Slot()]
    making = Making(client.stages(), Even(chunk_size), slots, allow_degraded=wish.degraded)
    item = PutItem(
        wish.path,
        BytesContent(wish.body, 0),
        wish.version,
        if_version=wish.over,
        if_absent=wish.kind == "absent",
    )
    (outcome,) = yield from putting.put_files(vault, [item], making)
    if isinstance(outcome, DfsError):
        raise outcome
    return outcome


def get(vault: Vault, path: str) -> Operation[tuple[Got, bytes | None]]:
    """Fetch one file; raises its error."""
    sinks: list[Gathered] = []

    def open_sink(entry: Entry) -> Gathered:
        sinks.append(Gathered(entry))
        return sinks[-1]

    (got,) = yield from getting.get_files(vault, [GetItem(path, open_sink)], [Slot(), Slot()])
    if isinstance(got, DfsError):
        raise got
    return got, sinks[-1].whole


def rename(vault: Vault, wish: Wish, draws: list[bytes]) -> Operation[list[str]]:
    """Rename one file, noting what is drawn for it."""

    def entropy(size: int) -> bytes:
        draws.append(vault.entropy(size))
        return draws[-1]

    return renaming.rename(evolve(vault, entropy=entropy), wish.path, wish.new, [Slot(), Slot()])


def remove(vault: Vault, wish: Wish) -> Operation[None]:
    """Remove one file; raises its error."""
    outcomes = yield from folders.remove_entries(
        vault, [wish.path], kind=EntryKind.FILE, if_version=wish.over
    )
    outcome = outcomes[wish.path]
    if isinstance(outcome, DfsError):
        raise outcome


@frozen
class Rename:
    """A rename that may have taken effect. ``drawn``: what its client drew, the new version among it.

    Only this rename ever writes its new path.
    """

    wish: Wish
    span: tuple[int, int]
    certain: bool
    drawn: frozenset[bytes]


@define(eq=False)
class Histories:
    """What was written and seen. ``bodies``: of every version anybody tried to write; ``refused``: of those
    that failed for good. ``unsure``: paths with a write whose outcome nobody knows.
    """

    world: World
    paths: list[str]
    renames: list[Rename] = field(factory=list)
    draws: dict[str, list[bytes]] = field(factory=dict)  # by the new path of a rename
    seen: dict[str, list[Seen]] = field(factory=dict)
    bodies: dict[Version, bytes] = field(factory=dict)
    refused: dict[Version, str] = field(factory=dict)
    unsure: set[str] = field(factory=set)
    latest: dict[str, list[Version]] = field(factory=dict)
    outcomes: Counter[str] = field(factory=Counter)

    def add(self, path: str, seen: Seen) -> None:
        """Note what an operation saw of a path."""
        self.seen.setdefault(path, []).append(seen)
        if not seen.certain:
            self.unsure.add(path)

    def note(self, wish: Wish, running: Running[Any]) -> None:
        """Note how an operation ended."""
        error = running.error
        name = "crashed" if running.crashed else type(error).__name__ if error is not None else "ok"
        self.outcomes[f"{wish.kind} {name}"] += 1
        doubtful = running.crashed or isinstance(error, UnknownOutcomeError)
        span = (running.begun, running.ended or 0)
        if wish.kind in {"put", "absent", "version"}:
            self._note_put(wish, span, error, doubtful=doubtful)
        elif wish.kind == "rm":
            self._note_remove(wish, span, error, doubtful=doubtful)
        elif wish.kind == "rmdir":
            self._note_remove_folder(wish, span, running)
        elif wish.kind == "rename":
            self._note_rename(wish, span, error, crashed=running.crashed)
        elif running.crashed or (error is not None and not isinstance(error, NotFoundError)):
            self._note_failed_reading(wish, error)
        elif wish.kind == "get":
            self._note_get(wish.path, span, running)
        elif wish.kind == "list" and error is None:
            self._note_list(wish.path, span, running.result or [])

    def _note_put(
        self, wish: Wish, span: tuple[int, int], error: BaseException | None, *, doubtful: bool
    ) -> None:
        needs = None if wish.kind == "absent" else wish.over if wish.kind == "version" else b""
        if error is None or doubtful:
            self.latest.setdefault(wish.path, []).append(wish.version)
            seen = Seen(*span, leaves=wish.version, needs=needs, certain=not doubtful, what=wish.text)
            self.add(wish.path, seen)
            return
        self.refused[wish.version] = str(error)
        if isinstance(error, ConflictError) and needs != b"":
            self.add(wish.path, Seen(*span, avoids=needs, what=f"conflict of {wish.text}"))

    def _note_remove(
        self, wish: Wish, span: tuple[int, int], error: BaseException | None, *, doubtful: bool
    ) -> None:
        needs = wish.over or b""
        if error is None or doubtful:
            seen = Seen(*span, leaves=None, needs=needs, certain=not doubtful, what=wish.text)
            self.add(wish.path, seen)
        elif isinstance(error, NotFoundError):
            self.add(wish.path, Seen(*span, needs=None, what=f"nothing to {wish.text}"))
        elif isinstance(error, ConflictError) and wish.over is not None:
            self.add(wish.path, Seen(*span, avoids=wish.over, what=f"conflict of {wish.text}"))

    def _note_remove_folder(self, wish: Wish, span: tuple[int, int], running: Running[Any]) -> None:
        done = running.error is None and not running.crashed
        removed = running.result or []
        for path in self.paths:
            if path.startswith(f"{wish.path}/") and not (done and path not in removed):
                self.add(path, Seen(*span, leaves=None, certain=done, what=f"{wish.text}: {path}"))

    def _note_rename(
        self, wish: Wish, span: tuple[int, int], error: BaseException | None, *, crashed: bool
    ) -> None:
        """Note a rename; any error may have come after the new name was made."""
        certain = error is None and not crashed
        self.renames.append(Rename(wish, span, certain, frozenset(self.draws[wish.new])))
        self.unsure.update(() if certain else (wish.path, wish.new))

    def settle_renames(self) -> None:
        """Say what renames did: where the new name never came to be, the old one must not have gone."""
        for rename in self.renames:
            old, new = rename.wish.path, rename.wish.new
            written = [seen.needs for seen in self.seen.get(new, ()) if seen.needs in rename.drawn]
            if not written and not rename.certain:
                continue
            what = rename.wish.text
            if not written:
                self.world.violate(f"{what}: nobody ever saw the new name")
                continue
            self.add(new, Seen(*rename.span, leaves=written[0], certain=rename.certain, what=what))
            self.add(old, Seen(*rename.span, leaves=None, certain=rename.certain, what=what))

    def _note_failed_reading(self, wish: Wish, error: BaseException | None) -> None:
        if isinstance(error, IntegrityError) and not self.world.faults["rot"]:
            self.world.violate(f"{wish.text}: {error}")

    def _note_get(self, path: str, span: tuple[int, int], running: Running[Any]) -> None:
        if running.error is not None:
            self.add(path, Seen(*span, needs=None, what=f"get {path}: nothing"))
            return
        assert running.result is not None
        got, body = running.result
        version = got.entry.version
        self.check_version(path, version)
        if version in self.draws.get(path, ()):
            if body not in self.bodies.values():
                self.world.violate(f"get {path} gives bytes that nobody wrote")
        elif self.bodies.get(version, body) != body:
            self.world.violate(f"get {path} gives other bytes than version {version.hex()[:8]} has")
        if not got.stale:
            self.add(path, Seen(*span, needs=version, what=f"get {path}: {version.hex()[:8]}"))

    def check_version(self, path: str, version: Version) -> None:
        """Check that a version that was read may exist."""
        drawn = self.draws.get(path, ())
        if version in drawn and version not in self.bodies:
            return  # a renamed file; what it holds is compared when it is read
        if version not in self.bodies:
            self.world.violate(f"{path} holds version {version.hex()[:8]}, which nobody wrote")
        elif version in self.refused:
            self.world.violate(f"{path} holds version {version.hex()[:8]}, which had failed")

    def _note_list(self, folder: str, span: tuple[int, int], listed: Sequence[Listed]) -> None:
        by_path = {item.entry.path: item for item in listed}
        sure = any(not item.stale for item in listed)
        for path in self.paths:
            item = by_path.get(path)
            if path.rpartition("/")[0] != folder or (item is not None and item.stale):
                continue
            if item is not None:
                self.check_version(path, item.entry.version)
                version = item.entry.version
                self.add(path, Seen(*span, needs=version, what=f"list {path}: {version.hex()[:8]}"))
            elif sure:
                self.add(path, Seen(*span, needs=None, what=f"list {path}: nothing"))


@define(eq=False)
class Actor:
    """A user: one thing after the other, with a new client process after a crash."""

    users: "Users"
    index: int
    client: Client
    running: Running[Any] | None = None
    wish: Wish | None = None

    def go_on(self) -> None:
        """Open the vault, or wish for the next thing."""
        if self.running is not None:
            return
        if self.client.vault is None:
            self.running = self.client.start(self.client.open(), self._opened)
            return
        wish = self.users.next_wish()
        if wish is None:
            return
        world = self.client.world
        world.note(lambda: f"{self.client.name}: {wish.text}", wish.text.encode())
        self.wish = wish
        operation = self.users.operation(self.client, self.client.vault, wish)
        running = self.client.start(operation, partial(self._ended, wish))
        self.running = running if running.ended is None else None

    def _opened(self, running: Running[Any]) -> None:
        self.running = None
        self._later(1.0 if running.error is not None else 0.0)

    def _ended(self, wish: Wish, running: Running[Any]) -> None:
        self.running, self.wish = None, None
        world = self.client.world
        how = f"{wish.text}: {'crashed' if running.crashed else running.error or 'ok'}"
        world.note(lambda: f"{self.client.name}: {how}", how.encode())
        self.users.histories.note(wish, running)
        if wish.kind == "repair":
            self.client.vault = None  # other nodes may count now
        patient = isinstance(running.error, QuorumError | UnknownOutcomeError)
        self._later(world.draw.expovariate(1 / (RETRY_S if patient else THINK_S)))

    def _later(self, delay_s: float) -> None:
        self.client.world.later(delay_s, self.go_on)

    def crash(self) -> None:
        """End the client process; another one starts afresh."""
        running, client = self.running, self.client
        if running is None:
            return
        self.client = self.users.new_client(self.index)
        client.crash(running)


@define(eq=False)
class Users:
    """All users of a run. ``begun``: operations so far."""

    world: World
    histories: Histories
    new_client: Callable[[int], Client]
    begun: int = 0
    pieces: list[bytes] = field(factory=list)
    actors: list[Actor] = field(factory=list)

    def start(self) -> None:
        """Let everybody begin."""
        draw = self.world.draw
        self.pieces = [draw.randbytes(CHUNK_SIZE) for _ in range(PIECE_COUNT - 1)] + [bytes(CHUNK_SIZE)]
        for index in range(self.world.plan.client_count or 1):
            actor = Actor(self, index, self.new_client(index))
            self.actors.append(actor)
            self.world.later(draw.random() * 0.01, actor.go_on)

    @property
    def done(self) -> bool:
        """Whether everything was done that should be."""
        wanted = self.world.plan.operation_count or 0
        return self.begun >= wanted and all(actor.wish is None for actor in self.actors)

    def next_wish(self) -> Wish | None:
        """Draw the next thing to do; None when it is enough."""
        plan, draw = self.world.plan, self.world.draw
        if self.begun >= (plan.operation_count or 0):
            return None
        self.begun += 1
        weights: Mapping[str, float] = plan.weights or {}
        (kind,) = draw.choices(list(weights), list(weights.values()))
        path = draw.choice(self.histories.paths)
        if path in self.histories.draws:
            return Wish("get", path)  # renamed files are only read
        if kind in {"get", "rm"} and path not in self.histories.latest and draw.random() < 0.7:
            kind = "put"  # there is little to learn of what was never there
        if kind in {"put", "absent", "version"}:
            return self._put_wish(kind, path)
        return self._other_wish(kind, path)

    def _other_wish(self, kind: str, path: str) -> Wish:
        draw = self.world.draw
        if kind == "rename":
            return self._rename_wish(path)
        if kind in {"repair", "check"}:
            return Wish(kind)
        if kind in {"mkdir", "rmdir"}:
            return Wish(kind, "d")
        if kind == "list":
            return Wish(kind, path.rpartition("/")[0])
        over = self._known(path) if kind == "rm" and draw.random() < 0.2 else None
        return Wish(kind, path, over=over)

    def _put_wish(self, kind: str, path: str) -> Wish:
        draw = self.world.draw
        version = Version(draw.randbytes(16))
        body = self.histories.bodies[version] = self._body()
        over = self._known(path) if kind == "version" else None
        degraded = draw.random() < (self.world.plan.degraded or 0.0)
        if kind == "version" and over is None:
            kind = "put"
        return Wish(kind, path, version, body, over, degraded)

    def _rename_wish(self, path: str) -> Wish:
        new = f"new{len(self.histories.draws) + 1}"
        self.histories.paths.append(new)
        self.histories.draws[new] = []
        return Wish("rename", path, new=new)

    def _known(self, path: str) -> Version | None:
        known = self.histories.latest.get(path)
        return self.world.draw.choice(known[-2:]) if known else None

    def _body(self) -> bytes:
        draw = self.world.draw
        if not self.world.plan.small:
            return draw.randbytes(draw.choice([0, 100, 1500, 40_000]))
        form = draw.random()
        if form < 0.2:
            return draw.randbytes(draw.randrange(60))
        tail = draw.randbytes(draw.choice([0, 0, 1, 100]))
        return b"".join(draw.choice(self.pieces) for _ in range(draw.randrange(1, 6))) + tail

    def operation(self, client: Client, vault: Vault, wish: Wish) -> Operation[Any]:
        """Return the real operation behind a wish."""
        chunk_size = CHUNK_SIZE if self.world.plan.small else 1 << 22
        scope, slots = repairing.Scope(), [Slot(), Slot()]
        kinds: Mapping[str, Callable[[], Operation[Any]]] = {
            "get": lambda: get(vault, wish.path),
            "rm": lambda: remove(vault, wish),
            "list": lambda: folders.list_folder(vault, wish.path),
            "mkdir": lambda: folders.make_folder(vault, wish.path),
            "rmdir": lambda: folders.remove_folder(vault, wish.path),
            "rename": lambda: rename(vault, wish, self.histories.draws[wish.new]),
            "repair": lambda: repairing.repair(vault, scope, slots),
            "check": lambda: checking.check(vault, "", read_ratio=self.world.draw.choice([0.0, 0.5, 1.0])),
        }
        return kinds.get(wish.kind, lambda: put(client, vault, wish, chunk_size))()
