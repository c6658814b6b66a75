"""A small world for tests: real operations against real nodes over the memory store, in virtual time.

One thread, one seed: it decides how long messages take, which are lost or come twice, and how operations
interleave. Nodes go down and come up, forget what was not yet committed, are put back to an old copy of their
store or lie; clients stop in the middle. The same seed gives the same history.
"""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import GEN_RUNNING, getgeneratorstate
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from attrs import define, evolve, field

from dfs.cluster import make_registry
from dfs.core import limits, messages
from dfs.core.client import ClientOptions, Plugins
from dfs.core.effects import (
    Done,
    Drop,
    Effect,
    Event,
    Failed,
    Hurry,
    Operation,
    Reply,
    Send,
    Sleep,
    Tag,
    Work,
)
from dfs.core.env import RealFiles
from dfs.core.errors import DfsError, RemoteProtocolError, TimedOutError, UnreachableError
from dfs.core.interface import StoreOptions, Transaction, VaultStore
from dfs.core.keys import KEY_FILE, VaultKeys, login_keys, vault_keys
from dfs.core.link import Trust
from dfs.core.node import Answer, VaultNode, Work as Commission, digest_of, in_full, transact
from dfs.core.pipeline import Stages
from dfs.core.quorum import default_tolerance
from dfs.core.registry import Registry
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.settings import ClientConf
from dfs.core.transfer import Vault
from dfs.core.types import Geometry, Node, NodeId, Roster, VaultState
from dfs.plugins import memory_store
from dfs.testing.lying import Lie

T = TypeVar("T")
Tamper: TypeAlias = Callable[[messages.Request, Answer], Answer]

LATENCY_S: Final = 0.010
PATIENT_S: Final = 30.0  # how long a request waits that nobody hurries
RECIPE: Final = {
    "cipher": "aes-gcm",
    "compressor": "zstd",
    "code": "reed-solomon",
    "placement": "rendezvous",
    "chunker": "fixed",
}


@define
class Env:
    """Virtual time and seeded entropy."""

    entropy: random.Random
    now_s: float = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s

    def random_bytes(self, size: int) -> bytes:
        return self.entropy.randbytes(size)


@define
class Commits:
    """Commits at once; what may come later waits for the next and is lost in a crash."""

    store: VaultStore
    kept: list[Commission] = field(factory=list)
    vault: VaultNode | None = None

    def run(self, work: Callable[[Transaction], T]) -> T:
        works, self.kept = [*self.kept, work], []
        results, mark = transact(self.store, works)
        if self.vault is not None:
            self.vault.advance(mark)
        if isinstance(results[-1], DfsError):
            raise results[-1]
        return cast(T, results[-1])

    def later(self, work: Commission) -> None:
        self.kept.append(work)


class Server:
    """One node: its store, and whether it answers.

    ``tamper`` changes what it says, ``lie`` says it in its place; ``refuses``: what it does not do, and the
    error it tells instead.
    """

    def __init__(self, node_id: NodeId, env: Env) -> None:
        self.node_id: Final = node_id
        self.up = True
        self.frozen = False
        self.tamper: Tamper | None = None
        self.lie: Lie | None = None
        self.refuses: dict[type[messages.Request], DfsError] = {}
        self.requests: list[messages.Request] = []
        self._env: Final = env
        options = StoreOptions(
            directory="",
            files=RealFiles(),
            env=env,
            inline_size_max=limits.SHARE_INLINE_SIZE_MAX,
            reserve_size=0,
        )
        self.store: Final = cast(
            memory_store.MemoryVault, memory_store.make(options).vault("ines", create=True)
        )
        self.restart()

    def restart(self) -> None:
        """Start again from what was committed."""
        commits = Commits(self.store)
        self.vault = commits.vault = VaultNode(self.node_id, 1, self.store, commits, self._env)
        self.up = True

    def copy(self) -> object:
        """Return all it has stored."""
        return self.store._tables

    def restore(self, copy: object) -> None:
        """Put it back to an earlier copy, as from a backup."""
        self.store._tables = copy  # type: ignore[assignment]
        self.restart()

    def answer(self, request: messages.Request, bulk: bytes) -> Answer:
        self.requests.append(request)
        return self._said(request, bulk)

    def _said(self, request: messages.Request, bulk: bytes) -> Answer:
        if isinstance(request, messages.ListDigest):  # of the rows that it would tell
            return digest_of(self._said(in_full(request), bulk))
        if type(request) in self.refuses:
            raise self.refuses[type(request)]
        truth = partial(self.vault.answer, request, memoryview(bulk))
        answer = truth() if self.lie is None else self.lie(request, truth)
        return self.tamper(request, answer) if self.tamper is not None else answer


@define(eq=False)
class Running(Generic[T]):
    """An operation under way. ``begun``, ``ended``: steps of the world; ``error``: what it raised."""

    operation: Operation[T]
    begun: int
    waiting: dict[Tag, object] = field(factory=dict)
    hurried: dict[Tag, float] = field(factory=dict)
    ended: int | None = None
    result: T | None = None
    error: BaseException | None = None
    crashed: bool = False

    @property
    def value(self) -> T:
        """What it returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        assert self.ended is not None, "it has not ended"
        return cast(T, self.result)


class World:
    """Nodes, clients and the clock. ``loss``, ``doubling``: how often messages are lost or come twice."""

    def __init__(
        self,
        seed: int = 0,
        *,
        node_count: int = 4,
        loss: float = 0.0,
        doubling: float = 0.0,
        active: bool = True,
        group_size: int = limits.GROUP_SIZE_MAX,
    ) -> None:
        self.random = random.Random(seed)
        self.env = Env(random.Random(seed + 1))
        self.loss, self.doubling = loss, doubling
        self.step = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        nodes = tuple(Node(NodeId(bytes((index + 1,)) * 16)) for index in range(node_count))
        total = min(node_count, group_size)
        self.roster = Roster(1, nodes, total, default_tolerance(total))
        self.servers = [Server(node.node_id, self.env) for node in nodes]
        self.by_id: Mapping[NodeId, Server] = {server.node_id: server for server in self.servers}
        self.registry = make_registry(ClientConf())
        self.plugins = Plugins(_client_options(self.env, self.registry))
        if active:
            for server in self.servers:
                server.answer(messages.Create(encode_roster(self.roster)), b"")
                server.answer(messages.Activate(self.digest), b"")

    @property
    def roster_bytes(self) -> bytes:
        return encode_roster(self.roster)

    @property
    def digest(self) -> bytes:
        return roster_digest(self.roster_bytes)

    def vault(self, keys: VaultKeys | None = None) -> Vault:
        """A client's view of the vault; all nodes that are ACTIVE count."""
        states = {server.node_id: server.vault.state for server in self.servers}
        return Vault(
            keys=keys or vault_keys(b"m" * 32),
            roster=self.roster,
            roster_digest=self.digest,
            counted=frozenset(
                node for node, state in states.items() if state in {VaultState.NEW, VaultState.ACTIVE}
            ),
            entropy=self.env.random_bytes,
            names={server.node_id: f"dfs{index + 1}" for index, server in enumerate(self.servers)},
            stages_of=self.plugins.stages,
            packer_of=self.plugins.packer,
            code_of=self.plugins.code,
        )

    def stages(self, code: str = "", placement: str = "") -> Stages:
        """The stages of new files, k = n / 2."""
        fit = self.registry.get("dfs_codes", code or RECIPE["code"]).plugin.fit
        recipe = self.plugins.recipe(
            fit(Geometry(max(1, self.roster.group_size // 2), self.roster.group_size))
        )
        recipe = evolve(recipe, code=f"dfs:{code}@1") if code else recipe
        return self.plugins.stages(evolve(recipe, placement=f"dfs:{placement}@1") if placement else recipe)

    # Operations

    def start(self, operation: Operation[T]) -> Running[T]:
        """Begin an operation; it goes on as the world does."""
        running = Running(operation, self.step)
        self._advance(running, None)
        return running

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, with all others under way."""
        running = self.start(operation)
        while running.ended is None:
            self.tick()
        return running.value

    def settle(self, runnings: Sequence[Running[Any]]) -> None:
        """Go on until these have ended."""
        while any(running.ended is None for running in runnings):
            self.tick()

    def crash(self, running: Running[Any]) -> None:
        """Stop a client; what it has sent is on its way."""
        if running.ended is None:
            running.waiting.clear()
            running.operation.close()
            running.ended, running.crashed = self.step, True

    def tick(self) -> None:
        """Let the next thing happen."""
        assert self._events, "everybody waits for ever"
        self.step += 1
        self.env.now_s, _, happen = heapq.heappop(self._events)
        happen()

    def later(self, delay_s: float, happen: Callable[[], None]) -> None:
        """Let something happen after a delay."""
        heapq.heappush(self._events, (self.env.now_s + delay_s, self.random.getrandbits(62), happen))

    def flush(self) -> None:
        """Commit confirmations that nobody waits for."""
        for server in self.servers:
            if server.up:
                server.vault.commit.run(lambda _transaction: None)

    # What becomes of effects

    def _advance(self, running: Running[Any], event: Event | None) -> None:
        try:
            effects = next(running.operation) if event is None else running.operation.send(event)
        except StopIteration as end:
            running.result, running.ended = end.value, self.step
            return
        except DfsError as error:
            running.error, running.ended = error, self.step
            return
        for effect in effects:
            self._begin(running, effect)

    def _begin(self, running: Running[Any], effect: Effect) -> None:
        if isinstance(effect, Hurry):
            if effect.tag in running.waiting:
                late = partial(self._post, running, running.waiting[effect.tag], _timed_out(effect.tag))
                self.later(effect.patience_s, late)
                sent = running.waiting[effect.tag]
                if effect.knock and isinstance(sent, Send) and self.by_id[sent.node].frozen:
                    self.later(limits.KNOCK_AFTER_S + limits.KNOCK_TIMEOUT_S, late)
            return
        if isinstance(effect, Drop):
            running.waiting.pop(effect.tag, None)
            return
        running.waiting[effect.tag] = effect
        if isinstance(effect, Send):
            self._send(running, effect)
        elif isinstance(effect, Sleep):
            self.later(effect.seconds, partial(self._post, running, effect, Done(effect.tag)))
        else:
            self.later(self.random.random() ** 8, partial(self._work, running, effect))  # few take long

    def _post(self, running: Running[Any], source: object, event: Event) -> None:
        if getgeneratorstate(running.operation) == GEN_RUNNING:
            # A test has begun another operation from within this one, which takes what comes later.
            self.later(LATENCY_S, partial(self._post, running, source, event))
        elif running.ended is None and running.waiting.get(event.tag) is source:
            del running.waiting[event.tag]
            self._advance(running, event)

    def _work(self, running: Running[Any], effect: Work) -> None:
        try:
            event: Event = Done(effect.tag, effect.call())
        except DfsError as error:
            event = Failed(effect.tag, error)
        self._post(running, effect, event)

    def _delay_s(self) -> float:
        return self.random.random() * LATENCY_S

    def _send(self, running: Running[Any], send: Send) -> None:
        self.later(PATIENT_S, partial(self._post, running, send, _timed_out(send.tag)))
        again = self.random.random() < self.doubling
        for _ in range(2 if again else 1):
            if self.random.random() >= self.loss:
                self.later(self._delay_s(), partial(self._arrive, running, send, again=again))

    def _arrive(self, running: Running[Any], send: Send, *, again: bool) -> None:
        server = self.by_id[send.node]
        if server.frozen:
            return
        if not server.up:
            event: Event = Failed(send.tag, UnreachableError("refused"))
        else:
            try:
                answer = server.answer(send.request, b"".join(bytes(part) for part in send.bulk))
                event = self._reply(send, answer, again=again)
            except DfsError as error:
                event = Failed(send.tag, error)
        if self.random.random() >= self.loss:
            self.later(self._delay_s(), partial(self._post, running, send, event))

    def _reply(self, send: Send, answer: Answer, *, again: bool) -> Event:
        bulk = b"".join(bytes(part) for part in answer.bulk)
        for share in answer.shares:
            body = bytearray(share.size)
            share.read_into(memoryview(body), 0)
            bulk += body
        if not isinstance(answer.reply, messages.MESSAGES[messages.CODES[type(send.request)]][1]):
            return Failed(send.tag, RemoteProtocolError("a reply of another kind"))
        if send.into is None:
            return Reply(send.tag, answer.reply, bulk, self.by_id[send.node].vault.mark, again)
        results = answer.reply.results if isinstance(answer.reply, messages.FetchReply) else ()
        found = [
            target
            for result, target in zip(results, send.into, strict=False)
            if result.status == messages.FOUND
        ]
        sizes = [result.size for result in results if result.status == messages.FOUND]
        if len(results) != len(send.into) or [len(target) for target in found] != sizes:
            return Failed(send.tag, RemoteProtocolError("shares of other sizes than asked for"))
        offset = 0
        for target in found:
            target[:] = bulk[offset : offset + len(target)]
            offset += len(target)
        return Reply(send.tag, answer.reply)


def _timed_out(tag: Tag) -> Failed:
    return Failed(tag, TimedOutError("does not answer"))


def _client_options(env: Env, registry: Registry) -> ClientOptions:
    return ClientOptions(
        places=(),
        realm="orchard",
        user="ines",
        kdf=KEY_FILE,
        secret=lambda: login_keys(b"i" * 32),
        trust=Trust({}, first_use=True, learn=lambda _address, _digest: None),
        env=env,
        registry=registry,
        version="0",
        recipe=RECIPE,
    )
