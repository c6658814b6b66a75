"""A client of the simulated cluster: the real operations, run over virtual time and a network with faults.

What client.py, runner.py and link.py do over threads and sockets is done here over events: each Send is
answered once, a node that refused is not tried again within a command, one that timed out is left out until a
probe reaches it.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, Generic, TypeVar, cast

import attrs
from attrs import define, field

from dfs.core import limits, messages, vaults, wire
from dfs.core.client import ClientOptions, Plugins
from dfs.core.conversation import Conversation
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
    ask,
)
from dfs.core.env import RealEnv
from dfs.core.errors import (
    DfsError,
    InvariantError,
    QuorumError,
    RemoteProtocolError,
    TimedOutError,
    UnreachableError,
)
from dfs.core.keys import KEY_FILE, VaultKeys, vault_keys
from dfs.core.link import Trust
from dfs.core.node import Answer
from dfs.core.pipeline import Stages
from dfs.core.quorum import default_geometry
from dfs.core.records import evolve
from dfs.core.registry import Registry
from dfs.core.transfer import Vault
from dfs.core.types import Geometry, NodeId, Recipe
from dfs.core.wire import Mark, Phase, Session
from dfs.plugins import BUILTIN
from dfs.testing.simulation.disk import PowerCut
from dfs.testing.simulation.nodes import REALM, USER, SimNode, body_of, owner_keys, roster_of, serve
from dfs.testing.simulation.sealing import Watching, Witness
from dfs.testing.simulation.world import Clock, World

T = TypeVar("T")

LATENCY_S: Final = 0.004
RECIPE: Final = {
    "cipher": "aes-gcm",
    "compressor": "zstd",
    "code": "reed-solomon",
    "placement": "rendezvous",
    "chunker": "fixed",
}


@cache
def plugins() -> Plugins:
    """The plugins of all clients: they keep nothing of a run."""
    return Plugins(
        ClientOptions(
            places=(),
            realm=REALM,
            user=USER,
            kdf=KEY_FILE,
            secret=owner_keys,
            trust=Trust({}, first_use=True, learn=lambda _address, _digest: None),
            env=RealEnv(),
            registry=Registry(BUILTIN, (), ()),
            version="0",
            recipe=RECIPE,
        )
    )


@cache
def master_keys() -> VaultKeys:
    """The keys of the one vault."""
    return vault_keys(b"m" * 32)


@define(eq=False)
class Network:
    """What lies between clients and nodes. ``deaf``, ``mute``: (client, node) pairs whose requests, replies
    get lost. ``dawdling``: how often a client takes shares so slowly that they stay open for a while.
    """

    world: World
    loss: float
    doubling: float
    tardiness: float
    dawdling: float = 0.2
    deaf: set[tuple[int, int]] = field(factory=set)
    mute: set[tuple[int, int]] = field(factory=set)

    def delay_s(self, node: SimNode) -> float:
        """Return how long a message takes."""
        draw = self.world.draw
        delay_s = draw.random() * LATENCY_S + node.slow_s
        if draw.random() < self.tardiness:
            delay_s += draw.expovariate(1.0)
        return delay_s

    def loses(self) -> bool:
        """Return whether a message is lost."""
        return self.loss > 0 and self.world.draw.random() < self.loss

    def calm(self) -> None:
        """Lose nothing any more."""
        self.loss = self.doubling = self.tardiness = self.dawdling = 0.0
        self.deaf.clear()
        self.mute.clear()


@define(eq=False)
class Running(Generic[T]):
    """An operation under way. ``begun``, ``ended``: steps of the world; ``error``: what it raised."""

    operation: Operation[T]
    begun: int
    then: Callable[["Running[Any]"], None]
    waiting: dict[Tag, object] = field(factory=dict)
    ended: int | None = None
    result: T | None = None
    error: BaseException | None = None
    crashed: bool = False


@define(eq=False)
class Route:
    """A client's way to one node. ``conversation``: the connection it has, to that ``boot`` of the node.

    ``told``: the highest mark of the node so far.
    """

    node: SimNode
    conversation: Conversation | None = None
    boot: int = -1
    member: vaults.Member | None = None
    told: Mark = field(factory=Mark)
    refusal: DfsError | None = None
    away: bool = False

    def hear(self, mark: Mark) -> None:
        """Remember the highest mark the node told."""
        self.told = max(self.told, mark, key=lambda each: (each.incarnation, each.mark))

    def is_behind(self, known: Mark) -> bool:
        """Return whether the node told less than is known of the same incarnation of it."""
        return self.told.incarnation == known.incarnation and self.told.mark < known.mark

    @property
    def connected(self) -> bool:
        """Whether its connection is to the node as it is now."""
        return self.conversation is not None and self.boot == self.node.boot and self.node.up


@define(eq=False)
class Client:
    """One client process; ``vault`` once it is open. ``marks``: what its machine remembers of nodes.

    ``user``: who logs in, the owner of the vault or a healer, who gets no keys.
    """

    world: World
    index: int
    network: Network
    witness: Witness
    routes: dict[NodeId, Route]
    clock: Clock
    user: str = USER
    marks: dict[NodeId, Mark] = field(factory=dict)
    vault: Vault | None = None
    _stages: dict[Recipe, Stages] = field(factory=dict)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"c{self.index + 1}"

    def stages_of(self, recipe: Recipe) -> Stages:
        """The behaviours behind a recipe; what is sealed is watched."""
        if recipe not in self._stages:
            stages = plugins().stages(recipe)
            self._stages[recipe] = evolve(stages, cipher=Watching(stages.cipher, self.witness))
        return self._stages[recipe]

    def stages(self) -> Stages:
        """The stages of new files."""
        plan = self.world.plan
        total = roster_of(plan).group_size
        needed = min(plan.needed or default_geometry(total).needed, total)
        return self.stages_of(plugins().recipe(Geometry(needed, total)))

    def open(self) -> Operation[Vault]:
        """Log in everywhere and open the vault, as client.py does.

        Raises:
            QuorumError: no node answers.
        """
        answers = yield from ask([Send(node, node, messages.Ping()) for node in self.routes], quick=True)
        members = {
            node: route.member
            for node, route in self.routes.items()
            if node in answers.replies and route.member is not None
        }
        if not members:
            raise QuorumError("no node answers")
        bare = Vault(
            keys=master_keys() if self.user == USER else vault_keys(b"h" * 32),
            roster=roster_of(self.world.plan),
            roster_digest=b"",
            counted=frozenset(),
            entropy=self.clock.random_bytes,
            names={node: route.node.name for node, route in self.routes.items()},
            stages_of=self.stages_of,
            packer_of=plugins().packer,
            code_of=plugins().code,
            keyless=self.user != USER,
        )
        roster = vaults.current_roster(members)
        if not roster:
            raise QuorumError("no node knows the vault")
        self.vault = yield from self._settled(bare, roster, members)
        return self.vault

    def _settled(self, bare: Vault, roster: bytes, members: dict[NodeId, vaults.Member]) -> Operation[Vault]:
        """Return the vault with the nodes that count, after telling those that lost state what they are."""
        behind = {
            node: known.mark
            for node, known in self.marks.items()
            if node in members and members[node].roster and self.routes[node].is_behind(known)
        }
        if behind:
            for node, state in (yield from vaults.quarantine(behind)).items():
                members[node] = evolve(members[node], state=state)
        settled = vaults.settled(bare, roster, members)
        strangers = vaults.strangers_of(members, settled.roster)
        joined: frozenset[NodeId] = frozenset()
        if strangers and settled.counted:
            joined = yield from vaults.join(roster, strangers)
        return evolve(settled, returning=settled.returning | joined)

    # --- Running operations ---------------------------------------------------------------------------------

    def start(self, operation: Operation[T], then: Callable[[Running[Any]], None]) -> Running[T]:
        """Begin a command; ``then`` is told when it has ended."""
        for route in self.routes.values():
            route.refusal = None
        running = Running(operation, self.world.step, then)
        self._advance(running, None)
        return running

    def crash(self, running: Running[Any]) -> None:
        """End the process; what it has sent is on its way."""
        if running.ended is None:
            running.waiting.clear()
            running.operation.close()
            running.crashed = True
            self._end(running)

    def _end(self, running: Running[Any]) -> None:
        running.ended = self.world.step
        if not running.crashed:
            self.marks.update({node: route.told for node, route in self.routes.items() if route.told.mark})
        running.then(running)

    def _advance(self, running: Running[Any], event: Event | None) -> None:
        try:
            effects = next(running.operation) if event is None else running.operation.send(event)
        except StopIteration as end:
            running.result = end.value
            self._end(running)
            return
        except DfsError as error:
            running.error = error
            self._end(running)
            return
        for effect in effects:
            self._begin(running, effect)

    def _begin(self, running: Running[Any], effect: Effect) -> None:
        world, clock = self.world, self.clock
        if isinstance(effect, Hurry):
            sent = running.waiting.get(effect.tag)
            if isinstance(sent, Send):
                late = partial(self._give_up, running, sent, remember=effect.remember)
                world.later(effect.patience_s / clock.rate, late)
                if effect.knock and self._is_silent(self.routes[sent.node]):
                    world.later((limits.KNOCK_AFTER_S + limits.KNOCK_TIMEOUT_S) / clock.rate, late)
            return
        if isinstance(effect, Drop):
            running.waiting.pop(effect.tag, None)
            return
        running.waiting[effect.tag] = effect
        if isinstance(effect, Send):
            self._send(running, effect)
        elif isinstance(effect, Sleep):
            world.later(effect.seconds / clock.rate, partial(self._post, running, effect, Done(effect.tag)))
        else:
            world.later(0.2 * world.draw.random() ** 8, partial(self._work, running, effect))  # few take long

    def _post(self, running: Running[Any], source: object, event: Event) -> None:
        if running.ended is None and running.waiting.get(event.tag) is source:
            del running.waiting[event.tag]
            self._advance(running, event)

    def _work(self, running: Running[Any], effect: Work) -> None:
        if running.waiting.get(effect.tag) is not effect:
            return
        try:
            event: Event = Done(effect.tag, effect.call())
        except DfsError as error:
            event = Failed(effect.tag, error)
        self._post(running, effect, event)

    # --- The network ----------------------------------------------------------------------------------------

    def _fail(self, running: Running[Any], send: Send, error: DfsError) -> None:
        self._post(running, send, Failed(send.tag, error))

    def _give_up(self, running: Running[Any], send: Send, *, remember: bool) -> None:
        """Patience is over: the connection is closed under the request."""
        if running.ended is None and running.waiting.get(send.tag) is send:
            route = self.routes[send.node]
            if remember and not route.away:
                self._leave_out(route)
            route.conversation = None
            self._fail(running, send, TimedOutError("does not answer"))

    def _leave_out(self, route: Route) -> None:
        route.away = True
        self.world.later(limits.PROBE_INTERVAL_S / self.clock.rate, partial(self._probe, route))

    def _probe(self, route: Route) -> None:
        route.away = not route.node.up or self._is_silent(route)
        if route.away:
            self._leave_out(route)

    def _is_silent(self, route: Route) -> bool:
        """Whether a greeting would not be answered in time."""
        pair = (self.index, route.node.index)
        return route.node.frozen or pair in self.network.deaf or pair in self.network.mute

    def _send(self, running: Running[Any], send: Send) -> None:
        world, network = self.world, self.network
        route = self.routes[send.node]
        if route.away or route.refusal is not None:
            error = route.refusal or TimedOutError("does not answer")
            world.later(0.0, partial(self._fail, running, send, error))
            return
        session = Session(Phase.AUTHENTICATED)
        bulk = b"".join(send.bulk)
        frame = session.ask(send.request, send.bulk)
        patience_s = limits.REQUEST_TIMEOUT_S if route.connected else limits.CONNECT_TIMEOUT_S
        world.later(patience_s / self.clock.rate, partial(self._give_up, running, send, remember=True))
        world.note(
            lambda: f"{self.name} -> {route.node.name}  {messages_text(send.request)}",
            bytes((self.index, route.node.index)),
            frame,
            bulk,
        )
        again = world.draw.random() < network.doubling
        message = Message(self, running, send, session, route, frame, bulk, again)
        for _ in range(2 if again else 1):
            if network.loses():
                message.break_off()
            elif (self.index, route.node.index) not in network.deaf:
                message.travel()


def messages_text(request: messages.Request) -> str:
    """Say in a few words what is asked."""
    return f"{type(request).__name__.upper()} {_shown(request)[1:-1]}"


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:8]
    if isinstance(value, tuple):
        return f"[{' '.join(_shown(item) for item in value[:4])}]"
    cls = type(value)
    if attrs.has(cls):
        return f"({' '.join(_shown(getattr(value, part.name)) for part in attrs.fields(cls))})"
    return str(value)


@define(eq=False)
class Message:
    """One request under way, and its answer. ``again``: it comes twice."""

    client: Client
    running: Running[Any]
    send: Send
    session: Session
    route: Route
    frame: bytes
    bulk: bytes
    again: bool

    @property
    def world(self) -> World:
        """Where it travels."""
        return self.client.world

    def break_off(self) -> None:
        """Get lost; half of the time the connection breaks visibly."""
        if self.world.draw.random() < 0.5:
            self.refuse("the connection was cut")

    def refuse(self, why: str) -> None:
        """Tell the client, after a moment, that the node cannot be reached."""
        error = UnreachableError(why)

        def tell() -> None:
            if self.running.ended is None and self.running.waiting.get(self.send.tag) is self.send:
                self.route.refusal = self.route.refusal or error
                self.client._fail(self.running, self.send, error)  # noqa: SLF001 - a message is a part of its client

        self.world.later(self.client.network.delay_s(self.route.node), tell)

    def travel(self) -> None:
        """Go to the node."""
        node, world = self.route.node, self.world
        number = world.step * 1000 + len(node.inbox)
        while number in node.inbox:
            number += 1
        node.inbox[number] = self.arrive

        def arrive() -> None:
            if node.inbox.pop(number, None) is not None:
                self.arrive()

        world.later(self.client.network.delay_s(node), arrive)

    def arrive(self) -> None:
        """Be answered, once the node is not frozen."""
        node, world, client = self.route.node, self.world, self.client
        if not node.up:
            if not node.silent:
                self.refuse("refused")
            return
        if node.frozen:
            node.backlog.append(self.arrive)
            return
        try:
            head, answer = self._serve(node)
        except PowerCut:
            node.collapse()
            self.break_off()
            return
        except InvariantError as error:
            world.violate(f"{node.name}: an invariant is broken: {error.what}")
            self.refuse("closed the connection")
            return
        except RemoteProtocolError as error:
            world.violate(f"{node.name} calls a request of {client.name} broken: {error.what}")
            return
        world.reached[type(self.send.request).__name__] += 1
        boot = node.boot

        def leave() -> None:
            self.leave(node, boot, head, answer)

        if answer.shares and world.draw.random() < client.network.dawdling:
            world.later(world.draw.random(), leave)
        else:
            leave()

    def _serve(self, node: SimNode) -> tuple[bytes, Answer]:
        route = self.route
        if not route.connected or route.conversation is None:
            route.conversation, route.boot = node.converse(self.client.user), node.boot
            reply = node.open_vault.login_reply()
            route.member = vaults.Member(reply.state, reply.roster)
        return serve(route.conversation, self.frame, self.bulk)

    def leave(self, node: SimNode, boot: int, head: bytes, answer: Answer) -> None:
        """Send the answer off."""
        client, world = self.client, self.world
        if not node.up or node.boot != boot:
            self.break_off()
            return
        try:
            body = body_of(answer)
        except PowerCut:
            node.collapse()
            self.break_off()
            return
        except UnreachableError as error:
            self.refuse(error.what)
            return
        world.note(lambda: f"{client.name} <- {node.name}  {len(head)} + {len(body)} bytes", head, body)
        if client.network.loses():
            self.break_off()
        elif (client.index, node.index) not in client.network.mute:
            world.later(client.network.delay_s(node), partial(self.come_back, head, body))

    def come_back(self, head: bytes, body: bytes) -> None:
        """Hand the answer to the operation, unless nobody waits for it any more."""
        running, send = self.running, self.send
        if running.ended is not None or running.waiting.get(send.tag) is not send:
            return
        try:
            event = self._reply(head, body)
        except DfsError as error:
            event = Failed(send.tag, error)
        self.client._post(running, send, event)  # noqa: SLF001 - see above

    def _reply(self, head: bytes, body: bytes) -> Event:
        send = self.send
        header = wire.decode_header(head[: limits.HEADER_SIZE])
        reply, mark = self.session.answered(header, head[limits.HEADER_SIZE :])
        self.route.hear(mark)
        if send.into is None:
            wire.check_bulk(header, body)
            return Reply(send.tag, reply, body, self.route.told.mark, self.again)
        results = reply.results if isinstance(reply, messages.FetchReply) else ()
        targets = [
            target
            for result, target in zip(results, send.into, strict=False)
            if result.status == messages.FOUND
        ]
        sizes = [result.size for result in results if result.status == messages.FOUND]
        if len(results) != len(send.into) or [len(target) for target in targets] != sizes:
            raise RemoteProtocolError("a FETCH reply whose shares have other sizes than asked for")
        offset = 0
        for target in targets:
            target[:] = body[offset : offset + len(target)]
            offset += len(target)
        return Reply(send.tag, reply, mark=self.route.told.mark)


def make_client(
    world: World, index: int, network: Network, witness: Witness, nodes: list[SimNode], user: str
) -> Client:
    """Return a new client process that knows where the nodes are."""
    routes = {node.node_id: Route(node) for node in nodes}
    return Client(world, index, network, witness, routes, world.clock(f"client {index}"), user)


def value_of(running: Running[T]) -> T:
    """Return what an operation returned, or raise what it raised."""
    if running.error is not None:
        raise running.error
    return cast("T", running.result)
