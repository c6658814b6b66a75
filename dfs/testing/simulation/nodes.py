"""A node of the simulated cluster: the real conversation, vault and store over a simulated disk."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, TypeVar, cast

from attrs import define, field, frozen
from blake3 import blake3

from dfs.core import limits, messages, wire
from dfs.core.auth import Rekeyed, sign_login
from dfs.core.conversation import Conversation
from dfs.core.errors import (
    ConflictError,
    CorruptShareError,
    DfsError,
    InvariantError,
    LocalProtocolError,
    UnreachableError,
)
from dfs.core.interface import StoreOptions, Transaction, VaultStore
from dfs.core.keys import LoginKeys, login_keys
from dfs.core.node import Answer, VaultNode, Work, transact
from dfs.core.quorum import default_tolerance
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.types import Node, NodeId, Roster
from dfs.core.wire import Phase, Session
from dfs.plugins import memory_store, volumes
from dfs.testing.simulation.disk import Disk, Image, PowerCut
from dfs.testing.simulation.plan import Plan
from dfs.testing.simulation.world import Clock, World

T = TypeVar("T")

USER: Final = "ines"
HEALER: Final = "healer"
REALM: Final = "orchard"
DIRECTORY: Final = "/node"
LATER_S: Final = 0.05  # how long a write that nobody waits for is kept back
VOLUME_SIZE: Final = 2048


@cache
def owner_keys() -> LoginKeys:
    """The keys that log in."""
    return login_keys(b"i" * 32)


@cache
def node_id_of(index: int) -> NodeId:
    """The id of a node."""
    return NodeId(blake3(b"node %d" % index).digest(limits.NODE_ID_SIZE))


@cache
def _roster(node_count: int, group_size: int) -> Roster:
    nodes = tuple(Node(node_id_of(index)) for index in range(node_count))
    return Roster(1, nodes, group_size, default_tolerance(group_size))


def roster_of(plan: Plan) -> Roster:
    """The roster of the vault of a run."""
    node_count = plan.node_count or 1
    return _roster(node_count, plan.group_size or node_count)


@frozen
class House:
    """What a conversation needs of the process around it (node.House)."""

    node: "SimNode"

    @property
    def greeting(self) -> messages.HelloReply:
        """Who this node is."""
        node = self.node
        return messages.HelloReply(
            node_id=node.node_id,
            incarnation=node.incarnation,
            realm=REALM,
            nonce=bytes(limits.NONCE_SIZE),
            name=node.name,
            version="0",
            features=(),
        )

    def public_key(self, user: str) -> bytes | None:
        """The login key of the owner, which is the healer's as well."""
        return owner_keys().public_key if user in {USER, HEALER} else None

    def admits(self, user: str, public_key: bytes) -> bool:
        """Whether this is it still."""
        return public_key == self.public_key(user)

    def is_healer(self, user: str) -> bool:
        """Whether this account is a healer."""
        return user == HEALER

    def is_clear(self, user: str) -> bool:
        """Whether the users file has a password."""
        return False

    def rekeyed(self, user: str) -> Rekeyed | None:
        """The login key that the user changed to."""
        return self.node.open_vault.rekeyed if user == USER else None

    def users(self) -> Sequence[str]:
        """Who has a vault here."""
        return (USER,)

    def vault(self, user: str) -> VaultNode:
        """The open vault."""
        return self.node.open_vault

    def adopt(self, node_id: NodeId, incarnation: int) -> None:
        """Become another node: an administrator does that here, see `SimNode.replace`."""
        raise ConflictError("something is kept here")


@define(eq=False)
class Commits:
    """The way of writes into the store (node.Commit). Others may come between a request and its commit."""

    node: "SimNode"
    store: VaultStore
    kept: list[Work] = field(factory=list)

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Commit with what was kept back."""
        self.node.let_others_go_first()
        if not self.node.up or self.node.commits is not self:
            raise PowerCut
        works, self.kept = [*self.kept, work], []
        results, mark = transact(self.store, works)
        self.node.open_vault.advance(mark)
        if isinstance(results[-1], DfsError):
            raise results[-1]
        return cast("T", results[-1])

    def later(self, work: Work) -> None:
        """Keep a work back for a moment."""
        self.kept.append(work)
        if len(self.kept) == 1:
            self.node.world.later(LATER_S, self.node.flush)


@define(eq=False)
class SimNode:
    """One node. ``boot``: counts its starts; connections to an earlier one are broken.

    ``frozen``: it takes requests in and answers them when it thaws. ``silent``: while down nobody is even
    refused. ``slow_s``: what every answer takes longer. ``inbox``: requests on their way here, by number.
    """

    world: World
    index: int
    disk: Disk
    incarnation: int = 1
    up: bool = False
    frozen: bool = False
    silent: bool = False
    slow_s: float = 0.0
    boot: int = 0
    backlog: list[Callable[[], None]] = field(factory=list)
    inbox: dict[int, Callable[[], None]] = field(factory=dict)
    vault: VaultNode | None = None
    commits: Commits | None = None
    clock: Clock | None = None
    memory: memory_store.MemoryVault | None = None
    refusal: str = ""  # why it could not start
    quota: int | None = None  # of the one user, bytes
    damaged: bool = False  # durable bytes of it were destroyed
    fallen: Callable[["SimNode"], None] = lambda _node: None  # told when it went down by itself
    _nested: bool = False
    _conversations: dict[str, Conversation] = field(factory=dict)  # by user

    @property
    def node_id(self) -> NodeId:
        """Its id."""
        return node_id_of(self.index)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"n{self.index + 1}"

    @property
    def open_vault(self) -> VaultNode:
        """The vault of a node that is up."""
        if self.vault is None:
            raise PowerCut
        return self.vault

    # --- Life -----------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start from what the disk holds; False when it cannot."""
        if self.up:
            return True
        world = self.world
        self.clock = world.clock(f"{self.name} boot {self.boot}")
        try:
            store = self._open_store(self.clock)
            self.commits = Commits(self, store)
            self.vault = VaultNode(self.node_id, self.incarnation, store, self.commits, self.clock)
            self.vault.quota = lambda: self.quota
        except DfsError as error:
            self.refusal = str(error)
            self.disk.crash()
            return False
        except PowerCut:
            self.refusal = "power"
            self.disk.crash()
            return False
        self.boot += 1
        self.refusal = ""
        self.up, self.frozen = True, False
        world.note(lambda: f"{self.name} is up", b"up", bytes((self.index,)))
        return True

    def _open_store(self, clock: Clock) -> VaultStore:
        if self.world.plan.store == "memory":
            if self.memory is None:
                options = self._options(clock)
                made = memory_store.make(options).vault(USER, create=True)
                self.memory = cast("memory_store.MemoryVault", made)
            return self.memory
        return volumes.make(self._options(clock)).vault(USER, create=True)

    def _options(self, clock: Clock) -> StoreOptions:
        on_volumes = self.world.plan.store != "memory"
        return StoreOptions(
            directory=DIRECTORY,
            files=self.disk,
            env=clock,
            inline_size_max=self.world.plan.share_inline_size or 0,
            reserve_size=0,
            values={"volume_size": str(VOLUME_SIZE)} if on_volumes else {},
        )

    def fall(self) -> None:
        """Stop at once; what was not durable is lost."""
        if not self.up:
            return
        self.up = self.frozen = False
        self.vault = self.commits = None
        self._conversations.clear()
        self.backlog.clear()
        self.disk.crash()
        self.world.note(lambda: f"{self.name} is down", b"down", bytes((self.index,)))

    def collapse(self) -> None:
        """Fall by a power cut; somebody will start it again."""
        if self.up:
            self.fall()
            self.fallen(self)

    def thaw(self) -> None:
        """Go on with all that came meanwhile."""
        if not self.frozen:
            return
        self.frozen = False
        backlog, self.backlog = self.backlog, []
        for arrive in backlog:
            arrive()

    def image(self) -> "Image | object":
        """Return a copy of all it has stored."""
        return self.memory._tables if self.memory is not None else self.disk.image()  # noqa: SLF001 - its own tables are never changed

    def restore(self, image: "Image | object | None") -> None:
        """Put back a copy, or (None) nothing, in a node that is down."""
        if isinstance(image, Image) or self.memory is None:
            self.disk.restore(cast("Image | None", image))
        elif image is None:
            self.memory = None
        else:
            self.memory._tables = image  # type: ignore[assignment] # noqa: SLF001 - see above

    # --- Work -----------------------------------------------------------------------------------------------

    def let_others_go_first(self) -> None:
        """Let something else happen here between a request's first look and its commit."""
        world = self.world
        if self._nested or world.draw.random() >= 0.05:
            return
        self._nested = True
        try:
            if self.inbox and world.draw.random() < 0.7:
                world.reached["overtaken"] += 1
                self.inbox.pop(next(iter(self.inbox)))()
            else:
                self.tidy()
        finally:
            self._nested = False

    def guarded(self, action: Callable[[VaultNode], object]) -> None:
        """Do something of the node's own, outside any request."""
        if not self.up or self.frozen:
            return
        try:
            action(self.open_vault)
        except PowerCut:
            self.collapse()
        except InvariantError as error:
            self.world.violate(f"{self.name}: an invariant is broken: {error.what}")
        except DfsError as error:
            self.world.reached[f"{type(error).__name__} in the background"] += 1

    def tidy(self) -> bool:
        """Collect garbage, as the server does every other second; returns whether there is more."""
        more = False

        def collect(vault: VaultNode) -> None:
            nonlocal more
            vault.collectable = True
            more = vault.tidy()

        self.guarded(collect)
        return more

    def scrub(self, count_max: int) -> bool:
        """Read the next of what is kept again, as the server always does; returns whether all is read."""
        ended = True

        def look(vault: VaultNode) -> None:
            nonlocal ended
            step = vault.scrub(count_max)
            ended = step.ended
            if step.findings and not self.damaged:
                self.world.violate(f"{self.name}: {step.findings[0]}, though nothing happened to its disk")

        self.guarded(look)
        return ended

    def flush(self) -> None:
        """Commit what was kept back."""
        commits = self.commits
        if commits is not None and commits.kept:
            self.guarded(lambda _vault: commits.run(lambda _transaction: None))

    def converse(self, user: str) -> Conversation:
        """Return the node's end of a connection that has greeted and logged in, frame by frame.

        One is as good as another, so all clients of this boot share it: signatures take their time.
        """
        if user not in self._conversations:
            self._conversations[user] = self._logged_in(user)
        return self._conversations[user]

    def _logged_in(self, user: str) -> Conversation:
        clock = self.clock
        assert clock is not None
        conversation = Conversation(House(self), clock, b"")
        session = Session()
        nonce = self.world.draw.randbytes(limits.NONCE_SIZE)
        hello, _ = exchange(session, conversation, messages.Hello(nonce, "0", ()), b"")
        assert isinstance(hello, messages.HelloReply)
        signature = sign_login(
            owner_keys().seed,
            realm=REALM,
            user=user,
            node_id=hello.node_id,
            client_nonce=nonce,
            node_nonce=hello.nonce,
            channel_binding=b"",
        )
        exchange(session, conversation, messages.Login(user, signature), b"")
        if user == HEALER:
            exchange(session, conversation, messages.Enter(USER), b"")
        return conversation


def serve(conversation: Conversation, frame: bytes, bulk: bytes) -> tuple[bytes, Answer]:
    """Return the head of the reply to one frame, and the answer whose bulk follows.

    What connection.py does between the stream and the conversation.
    """
    header = wire.decode_header(frame[: limits.HEADER_SIZE])
    conversation.session.expect(header)
    try:
        answer = conversation.answer(header, frame[limits.HEADER_SIZE :], memoryview(bulk))
    except InvariantError:
        raise
    except DfsError as error:
        return wire.encode_error(header.code, header.request_id, error), Answer(messages.Empty())
    if isinstance(answer.reply, messages.FetchReply):
        return wire.encode_fetch_reply(header.request_id, answer.reply, conversation.mark), answer
    try:
        head = wire.encode_reply(header.code, header.request_id, answer.reply, conversation.mark, answer.bulk)
    except LocalProtocolError as error:
        return wire.encode_error(header.code, header.request_id, error), Answer(messages.Empty())
    return head, answer


def body_of(answer: Answer) -> bytes:
    """Return the bulk of an answer, its open shares read and closed.

    Raises:
        UnreachableError: a share could not be read, so the node closed the connection.
    """
    parts = [bytes(part) for part in answer.bulk]
    try:
        for share in answer.shares:
            body = bytearray(share.size)
            if share.read_into(memoryview(body), 0) < share.size:
                raise UnreachableError("closed the connection")
            parts.append(bytes(body))
    except CorruptShareError:
        raise UnreachableError("closed the connection") from None
    finally:
        for share in answer.shares:
            share.close()
    return b"".join(parts)


def exchange(
    session: Session, conversation: Conversation, request: messages.Request, bulk: bytes
) -> tuple[messages.Response, bytes]:
    """Ask and be answered at once."""
    head, answer = serve(conversation, session.ask(request, (bulk,) if bulk else ()), bulk)
    header = wire.decode_header(head[: limits.HEADER_SIZE])
    reply, _ = session.answered(header, head[limits.HEADER_SIZE :])
    body = body_of(answer)
    wire.check_bulk(header, body)
    return reply, body


# --- A cluster with an empty vault --------------------------------------------------------------------------


@cache
def _birth(node_count: int, group_size: int, index: int) -> Image:
    """The disk of a node whose vault was just made."""
    world = World(0, Plan(store="volumes", skew=False, share_inline_size=0))
    node = SimNode(world, index, Disk(world.draw))
    node.start()
    for request in birth_requests(_roster(node_count, group_size)):
        exchange(Session(Phase.AUTHENTICATED), node.converse(USER), request, b"")
    return node.disk.image()


def birth_requests(roster: Roster) -> tuple[messages.Request, ...]:
    """What makes an empty vault out of a new one."""
    encoded = encode_roster(roster)
    return messages.Create(encoded), messages.Activate(roster_digest(encoded))


def make_nodes(world: World) -> list[SimNode]:
    """Return started nodes with an empty ACTIVE vault."""
    node_count = world.plan.node_count or 1
    nodes = []
    for index in range(node_count):
        node = SimNode(world, index, Disk(world.draw, world.reached))
        if world.plan.store == "memory":
            node.start()
            for request in birth_requests(roster_of(world.plan)):
                exchange(Session(Phase.AUTHENTICATED), node.converse(USER), request, b"")
        else:
            node.disk.restore(_birth(node_count, world.plan.group_size or node_count, index))
            node.start()
        nodes.append(node)
    return nodes
