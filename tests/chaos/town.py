"""A whole system in one thread: the logic of four real nodes over their real stores on disk, and the real
client operations between them.

Nothing waits and nothing runs beside: each request is answered at once, every system call of every node is
made by the one thread, in the same order each time. That is what lets a sweep name each call by a number.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar, cast

from attrs import define, field

from dfs.cluster import make_registry
from dfs.core import folders, getting, limits, messages, putting, repairing
from dfs.core.client import ClientOptions, Plugins
from dfs.core.effects import Done, Drop, Effect, Event, Failed, Operation, Reply, Send, Sleep, Work
from dfs.core.env import RealFiles
from dfs.core.errors import DfsError, NotFoundError, UnreachableError
from dfs.core.interface import StoreOptions, Transaction, VaultStore
from dfs.core.keys import KEY_FILE, login_keys, vault_keys
from dfs.core.link import Trust
from dfs.core.local import BytesContent
from dfs.core.node import Answer, VaultNode, Work as Commission, transact
from dfs.core.pipeline import Slot
from dfs.core.quorum import default_tolerance
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.settings import ClientConf
from dfs.core.standing import Repaired
from dfs.core.transfer import Vault
from dfs.core.types import Entry, EntryKind, Geometry, Node, NodeId, Outcome, Roster, VaultState, Version
from dfs.plugins import volumes
from dfs.plugins.fixed import Fixed

T = TypeVar("T")

USER: Final = "ines"
NODE_COUNT: Final = 4
CHUNK_SIZE: Final = 200_000
VOLUME_SIZE: Final = 65_536  # the smallest: a large share has one of its own, so volumes come and go
INLINE_SIZE_MAX: Final = 4096
RECIPE: Final = {
    "cipher": "aes-gcm",
    "compressor": "zstd",
    "code": "reed-solomon",
    "placement": "rendezvous",
    "chunker": "fixed",
}
NODES: Final = tuple(Node(NodeId(bytes((index + 1,)) * limits.NODE_ID_SIZE)) for index in range(NODE_COUNT))
ROSTER: Final = Roster(1, NODES, NODE_COUNT, default_tolerance(NODE_COUNT))
DIGEST: Final = roster_digest(encode_roster(ROSTER))


@define
class Env:
    """Seeded entropy and a clock that only moves when told to."""

    entropy: random.Random
    now_s: float = 0.0

    def monotonic_s(self) -> float:
        """Seconds since the start."""
        return self.now_s

    def wall_s(self) -> float:
        """The same."""
        return self.now_s

    def random_bytes(self, size: int) -> bytes:
        """The next bytes of the seed."""
        return self.entropy.randbytes(size)


@define
class Commits:
    """Commits at once, in the thread that asks."""

    store: VaultStore
    kept: list[Commission] = field(factory=list)
    vault: VaultNode | None = None

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Commit a work with those that were kept back."""
        works, self.kept = [*self.kept, work], []
        results, mark = transact(self.store, works)
        if self.vault is not None:
            self.vault.advance(mark)
        if isinstance(results[-1], DfsError):
            raise results[-1]
        return cast("T", results[-1])

    def later(self, work: Commission) -> None:
        """Keep a work back."""
        self.kept.append(work)


class Resident:
    """One node: its folder, its store, what it has told."""

    def __init__(self, number: int, folder: Path, env: Env, reserve_size: int) -> None:
        self.number: Final = number
        self.up = True
        self.told: Callable[[int, messages.Request, memoryview, Answer], None] | None = None
        options = StoreOptions(
            directory=str(folder / f"DFS{number}"),
            files=RealFiles(),
            env=env,
            inline_size_max=INLINE_SIZE_MAX,
            reserve_size=reserve_size,
            values={"volume_size": str(VOLUME_SIZE)},
        )
        self._house: Final = volumes.make(options)
        try:
            self.store: Final = self._house.vault(USER, create=True)
            commits = Commits(self.store)
            self.vault = commits.vault = VaultNode(NODES[number - 1].node_id, 1, self.store, commits, env)
        except BaseException:
            self._house.close()
            raise

    def answer(self, request: messages.Request, bulk: memoryview) -> Answer:
        """Answer, and tell the witness what was acknowledged."""
        answer = self.vault.answer(request, bulk)
        if self.told is not None:
            self.told(self.number, request, bulk, answer)
        return answer

    def scrub(self) -> list[str]:
        """Read everything again; returns what was found, or why it ended."""
        found: list[str] = []
        try:
            while True:
                step = self.vault.scrub()
                found += step.findings
                if step.ended:
                    return found
        except DfsError as error:
            return [*found, str(error)]

    def close(self) -> None:
        """End as a node that is told to stop."""
        self._house.close()


class Sink:
    """A file that arrives in memory; None until it is whole."""

    def __init__(self, entry: Entry) -> None:
        self.body = bytearray(entry.size)
        self.whole: bytes | None = None

    def write(self, offset: int, plain: memoryview) -> None:
        """Take a piece."""
        self.body[offset : offset + len(plain)] = plain

    def read_into(self, _target: memoryview, _offset: int) -> int:
        """Nothing is left of an earlier try."""
        return 0

    def finish(self, _entry: Entry) -> None:
        """It is whole."""
        self.whole = bytes(self.body)

    def abandon(self) -> bool:
        """It will never be."""
        self.whole = None
        return True


class Town:
    """Four nodes below ``folder`` and one client. ``seed`` differs at every start, as entropy does.

    ``reserve_size``: bytes of the disk each node keeps free for deletes.
    """

    def __init__(self, folder: Path, seed: str, reserve_size: int = 0) -> None:
        self.env: Final = Env(random.Random(seed))
        self.lost: dict[int, DfsError] = {}  # nodes that did not start, and why
        self.stale = False  # the last file that was read is labelled "may be stale"
        self.residents: dict[int, Resident] = {}
        for number in range(1, NODE_COUNT + 1):
            try:
                self.residents[number] = Resident(number, folder, self.env, reserve_size)
            except DfsError as error:
                self.lost[number] = error
        registry = make_registry(ClientConf())
        self._plugins: Final = Plugins(
            ClientOptions(
                places=(),
                realm="orchard",
                user=USER,
                kdf=KEY_FILE,
                secret=lambda: login_keys(b"i" * 32),
                trust=Trust({}, first_use=True, learn=lambda _address, _digest: None),
                env=self.env,
                registry=registry,
                version="0",
                recipe=RECIPE,
            )
        )

    def found(self) -> None:
        """Make the vault, as the first login does."""
        for resident in self.residents.values():
            resident.answer(messages.Create(encode_roster(ROSTER)), memoryview(b""))
            resident.answer(messages.Activate(DIGEST), memoryview(b""))

    @property
    def vault(self) -> Vault:
        """What the client knows of its vault."""
        active = {
            NODES[number - 1].node_id
            for number, resident in self.residents.items()
            if resident.vault.state is VaultState.ACTIVE
        }
        return Vault(
            keys=vault_keys(b"m" * 32),
            roster=ROSTER,
            roster_digest=DIGEST,
            counted=frozenset(active),
            entropy=self.env.random_bytes,
            names={node.node_id: f"DFS{index + 1}" for index, node in enumerate(NODES)},
            stages_of=self._plugins.stages,
            packer_of=self._plugins.packer,
            code_of=self._plugins.code,
        )

    # --- What users do --------------------------------------------------------------------------------------

    def put(self, path: str, body: bytes) -> Outcome:
        """Store a file. Raises: DfsError."""
        stages = self._plugins.stages(self._plugins.recipe(Geometry(NODE_COUNT // 2, NODE_COUNT)))
        making = putting.Making(stages, Fixed(CHUNK_SIZE), [Slot(), Slot()])
        item = putting.PutItem(
            path, BytesContent(body, 0), Version(self.env.random_bytes(limits.OPERATION_ID_SIZE))
        )
        (outcome,) = self.run(putting.put_files(self.vault, [item], making))
        if isinstance(outcome, DfsError):
            raise outcome
        return outcome

    def get(self, path: str) -> bytes | None:
        """Return a file, None when there is none. Raises: DfsError."""
        sinks: list[Sink] = []

        def open_sink(entry: Entry) -> Sink:
            sinks.append(Sink(entry))
            return sinks[-1]

        item = getting.GetItem(path, open_sink)
        (got,) = self.run(getting.get_files(self.vault, [item], [Slot(), Slot()]))
        if isinstance(got, NotFoundError):
            return None
        if isinstance(got, DfsError):
            raise got
        self.stale = got.stale
        return sinks[-1].whole

    def remove(self, path: str) -> None:
        """Remove a file. Raises: DfsError."""
        outcomes = self.run(folders.remove_entries(self.vault, [path], kind=EntryKind.FILE))
        outcome = outcomes[path]
        if isinstance(outcome, DfsError):
            raise outcome

    def names(self, path: str = "") -> list[str]:
        """Return the paths in a folder."""
        return [listed.entry.path for listed in self.run(folders.list_folder(self.vault, path))]

    def tidy(self) -> None:
        """Let all leases end and every node that can collect its garbage."""
        for _ in range(2):  # the first after a start only renews the leases of before
            for resident in self.residents.values():
                if resident.up and resident.store.read_only_reason is None:
                    resident.vault.collectable = True
                    while resident.vault.tidy():
                        pass
            self.env.now_s += 2 * limits.PIN_LEASE_S

    def scrub(self) -> list[str]:
        """Let every node read everything again; returns what they found."""
        return [found for resident in self.residents.values() if resident.up for found in resident.scrub()]

    def repair(self) -> Repaired:
        """Make again what is missing or bad."""
        return self.run(repairing.repair(self.vault, repairing.Scope(), [Slot(), Slot()]))

    def close(self) -> None:
        """Stop all nodes."""
        for resident in self.residents.values():
            resident.close()

    # --- What becomes of effects ----------------------------------------------------------------------------

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end; answers come in the order they were asked for."""
        events: deque[Event] = deque()
        try:
            effects = next(operation)
            while True:
                for effect in effects:
                    if isinstance(effect, Drop):
                        events = deque(event for event in events if event.tag != effect.tag)
                    else:
                        events.extend(self._happen(effect))
                effects = operation.send(events.popleft())
        except StopIteration as end:
            return cast("T", end.value)

    def _happen(self, effect: Effect) -> Sequence[Event]:
        if isinstance(effect, Send):
            return [self._send(effect)]
        if isinstance(effect, Work):
            try:
                return [Done(effect.tag, effect.call())]
            except DfsError as error:
                return [Failed(effect.tag, error)]
        if isinstance(effect, Sleep):
            self.env.now_s += effect.seconds
            return [Done(effect.tag)]
        return []

    def _send(self, send: Send) -> Event:
        number = next(index + 1 for index, node in enumerate(NODES) if node.node_id == send.node)
        resident = self.residents.get(number)
        if resident is None or not resident.up:
            return Failed(send.tag, UnreachableError("refused"))
        try:
            answer = resident.answer(send.request, memoryview(b"".join(send.bulk)))
            return self._reply(send, answer)
        except DfsError as error:
            return Failed(send.tag, error)

    def _reply(self, send: Send, answer: Answer) -> Event:
        bulk = b"".join(answer.bulk)
        for share in answer.shares:
            try:
                body = bytearray(share.size)
                share.read_into(memoryview(body), 0)
                bulk += body
            finally:
                share.close()
        if send.into is None:
            return Reply(send.tag, answer.reply, bulk)
        offset = 0
        for target in send.into if answer.shares else ():
            target[:] = bulk[offset : offset + len(target)]
            offset += len(target)
        return Reply(send.tag, answer.reply)
