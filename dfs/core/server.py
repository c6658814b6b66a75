"""The process around a node: listens, gives connections their turns, opens vaults, tidies up, stops in order.

One thread watches every connection that is silent, so that idle ones cost nothing; a bounded crew of threads,
started when needed, gives turns to those where something came. Neither handshakes nor requests run in the
watching thread.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from dfs.core import limits, messages
from dfs.core.accounts import Accounts
from dfs.core.auth import Rekeyed
from dfs.core.buffers import BufferPool
from dfs.core.commit import CommitQueue
from dfs.core.connection import SCRATCH_SIZE, Connection, Turn
from dfs.core.crew import SWEEP_S, Crew, Watch
from dfs.core.door import Door, address_of
from dfs.core.errors import BusyError, ConflictError, DfsError, TimedOutError, UnreachableError
from dfs.core.identity import set_node_id
from dfs.core.interface import Env, Listener, Store, Stream, Transport
from dfs.core.life import META_ROSTER
from dfs.core.node import VaultNode
from dfs.core.records import evolve, frozen
from dfs.core.tally import ServerStanding, Tally
from dfs.core.types import NodeId

THREAD_COUNT_MAX: Final = 32  # of the crew; also the most requests that one group commit gathers
PATIENCE_S: Final = 0.02  # how long a thread waits for a peer's next bytes before it parks the connection
ALONE_PATIENCE_S: Final = 1.0  # the same for a stream that has a thread of its own
TIDY_S: Final = 2.0  # how often vaults are asked for garbage
SCRUB_DAYS: Final = 30
SCRUB_BEGIN_S: Final = 60.0  # after the start: others have more urgent things to do then
SCRUB_REST_S: Final = 3600.0  # how often vaults are asked whether a scrub is due
SCRUB_PAUSE_S: Final = 0.25  # between two steps, at least
SCRUB_SPEED_MIN: Final = 1 * limits.MIB  # bytes a second
DAY_S: Final = 86400
ADMIT_COUNT: Final = 64  # connections taken before the watching thread looks at others again

log: Final = logging.getLogger("dfs")


@frozen(kw_only=True)
class ServerOptions:
    """What a node is made of. ``directory``: where it keeps everything. ``address``: to listen on.

    ``pin_lease_s``: how long uploads are kept unclaimed. ``scrub_days``: within them all is read again.
    The server closes ``store`` and stops ``accounts`` when it stops; whoever made the accounts starts them.
    """

    directory: str
    name: str
    realm: str
    address: str
    transport: Transport
    store: Store
    env: Env
    accounts: Accounts
    node_id: NodeId
    incarnation: int
    version: str
    max_connections: int = limits.CONNECTION_COUNT_MAX
    max_connections_per_address: int = limits.ADDRESS_CONNECTION_COUNT
    max_connections_per_user: int = limits.USER_CONNECTION_COUNT
    pin_lease_s: float = limits.PIN_LEASE_S
    scrub_days: int = SCRUB_DAYS


class Household:
    """What conversations share (node.House): accounts and open vaults, each with its queue of commits."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._vaults: dict[str, tuple[VaultNode, CommitQueue]] = {}
        # Looked up once: a store opens the database of every vault for it, and each login asks.
        self._kept = set(options.store.users())
        self._closed = False
        self._greeting = messages.HelloReply(
            node_id=options.node_id,
            incarnation=options.incarnation,
            realm=options.realm,
            nonce=bytes(limits.NONCE_SIZE),
            name=options.name,
            version=options.version,
            features=(),
        )

    @property
    def greeting(self) -> messages.HelloReply:
        return self._greeting

    def kept(self) -> Sequence[str]:
        """Who has a vault here, whether it was opened yet or not, sorted."""
        with self._lock:
            return sorted(self._kept)

    @property
    def vaults(self) -> list[VaultNode]:
        """Those opened so far."""
        with self._lock:
            return [vault for vault, _ in self._vaults.values()]

    def opened(self) -> list[tuple[str, VaultNode]]:
        """Those opened so far, with their users."""
        with self._lock:
            return [(user, vault) for user, (vault, _) in self._vaults.items()]

    def public_key(self, user: str) -> bytes | None:
        return self._options.accounts.public_key(user)

    def admits(self, user: str, public_key: bytes) -> bool:
        return self._options.accounts.admits(user, public_key)

    def is_healer(self, user: str) -> bool:
        return self._options.accounts.is_healer(user)

    def is_clear(self, user: str) -> bool:
        return self._options.accounts.is_clear(user)

    def rekeyed(self, user: str) -> Rekeyed | None:
        """Return the login key a user changed to; a vault that is kept here is opened for it."""
        with self._lock:
            kept = user in self._kept
        return self.vault(user).rekeyed if kept else None

    def users(self) -> Sequence[str]:
        return self._options.accounts.users()

    def vault(self, user: str) -> VaultNode:
        """Return the vault of a user, opened or made if need be, the same object each time."""
        options = self._options
        with self._lock:
            greeting = self._greeting
            if self._closed:
                raise BusyError("the node is stopping")
            if user not in self._vaults:
                store = options.store.vault(user, create=True)
                queue = CommitQueue(store)
                node = greeting.node_id, greeting.incarnation
                quota = partial(options.accounts.quota, user)
                vault = VaultNode(*node, store, queue, options.env, options.pin_lease_s, quota)
                queue.start(vault.advance)
                self._vaults[user] = vault, queue
                self._kept.add(user)
            return self._vaults[user][0]

    def adopt(self, node_id: NodeId, incarnation: int) -> None:
        """Become another node, for as long as nothing is kept here.

        Vaults opened before are given up; whoever talks to one is told to connect again.
        """
        with self._lock:
            if self._closed:
                raise BusyError("the node is stopping")
            self._require_empty()
            for _, queue in self._vaults.values():
                queue.close()
            self._vaults.clear()
            self._require_empty()  # nothing can be written any more
            set_node_id(f"{self._options.directory}/.node", node_id, incarnation)
            self._greeting = evolve(self._greeting, node_id=node_id, incarnation=incarnation)
        log.warning("this node is now node %s, incarnation %d", node_id.hex(), incarnation)

    def _require_empty(self) -> None:
        store = self._options.store
        for user in store.users():
            vault = store.vault(user, create=False)
            if vault.view(lambda view: view.meta(META_ROSTER)) is not None or vault.shares(None, 1):
                raise ConflictError("this node keeps something: only an empty one can replace another")

    def close(self) -> None:
        """Commit what waits and open nothing any more."""
        with self._lock:
            self._closed = True
        for _, queue in self._vaults.values():
            queue.close()


class Server:
    """A node at work, from `start` to `stop`."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._env = options.env
        self._house = Household(options)
        self._buffers = BufferPool(limits.BULK_POOL_SIZE, limits.BULK_POOL_SHARE)
        self._door = Door(
            connection_count_max=options.max_connections,
            address_share_max=options.max_connections_per_address,
            user_share_max=options.max_connections_per_user,
        )
        self._crew = Crew(THREAD_COUNT_MAX, self._give_turn)
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._past = Tally()  # of connections that ended
        self._alone: list[tuple[threading.Thread, threading.Event]] = []  # for streams no selector can watch
        self._stopping = threading.Event()
        self._running = threading.Lock()  # held from start to stop; unlike an Event, fit for signal handlers
        self._keepers = [
            threading.Thread(target=self._tidy, name="dfs-tidy", daemon=True),
            threading.Thread(target=self._scrub, name="dfs-scrub", daemon=True),
        ]
        self._listener: Listener
        self._watch: Watch

    @property
    def address(self) -> str:
        """The real address, after port 0 was resolved."""
        return self._listener.address

    def start(self) -> None:
        """Listen and serve; returns at once.

        Raises:
            BusyError: the address is in use. ConfigError: it is none, or the transport cannot listen.
        """
        options = self._options
        self._listener = options.transport.listen(options.address)
        self._watch = Watch(
            self._listener, self._env, admit=self._admit, ready=self._crew.submit, give_up=self._end
        )
        self._running.acquire()
        self._watch.start()
        for keeper in self._keepers:
            keeper.start()
        if self._listener.fileno() < 0:
            self._start_alone(self._listen_alone)
        log.info("%s serves %s on %s", options.name, options.directory, self.address)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has stopped; False when it has not in time."""
        if not self._running.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return False
        self._running.release()
        return True

    def standing(self) -> ServerStanding:
        """Return how the node is; from any thread. Vaults that cannot be asked are left out."""
        tally = Tally()
        with self._lock:
            tally.add(self._past)
            for connection in self._connections:
                tally.add(connection.tally)
            count = len(self._connections)
        vaults = []
        for user, vault in self._house.opened():
            try:
                reply = vault.answer(messages.Status(), memoryview(b"")).reply
            except DfsError as error:
                log.debug("the vault of %s does not say how it is: %s", user, error)
            else:
                assert isinstance(reply, messages.StatusReply)
                vaults.append((user, reply))
        return ServerStanding(self._options.name, self._options.version, count, tally, vaults)

    def kept(self) -> tuple[int, int]:
        """Return how many vaults are here, and the bytes of their shares; it opens them."""
        count = len(self._options.store.users())
        return count, sum(vault.store.used_size for vault in self._vaults_kept(set()))

    def stop(self, grace_s: float) -> None:
        """Take nothing new, finish the requests that arrived, for ``grace_s`` at most, and close the store.

        No thread is left behind. Once is enough; another caller waits for the first. If it never started,
        the store is closed.
        """
        with self._lock:
            first = not self._stopping.is_set()
            self._stopping.set()
        if not first:
            self.wait()
            return
        if not self._running.locked():
            self._options.store.close()
            return
        self._watch.close()
        self._listener.close()
        self._crew.close()
        self._options.accounts.stop()
        self._crew.join(grace_s)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()
        self._crew.join()
        for thread, supplied in self._alone:
            supplied.set()
            thread.join()
        for keeper in self._keepers:
            keeper.join()
        self._house.close()
        self._options.store.close()
        self._running.release()

    # Connections

    def _admit(self, patience_s: float = 0.0) -> bool:
        """Take in who waits at the door; False when the system has no room for them."""
        for _ in range(ADMIT_COUNT):
            try:
                stream = self._listener.accept(self._env.monotonic_s() + patience_s)
            except (TimedOutError, UnreachableError):
                return True
            except BusyError as error:
                log.warning("%s", error)
                return False
            self._welcome(stream)
        return True

    def _welcome(self, stream: Stream) -> None:
        address = address_of(stream.peer)
        refusal = None
        if not self._door.addresses.take(address):
            refusal = BusyError("the node has too many connections", next_step="Run it again later.")
            if not self._door.guests.take(address):
                log.info("%s: dropped, there are too many connections", stream.peer)
                stream.close()
                return
        alone = stream.fileno() < 0
        supplied = threading.Event()
        connection = Connection(
            stream,
            self._house,
            self._env,
            self._buffers,
            self._stopping.is_set if alone else lambda: self._crew.crowded,
            (lambda _: supplied.set()) if alone else self._crew.submit,
            door=self._door,
            refusal=refusal,
        )
        with self._lock:
            self._connections.add(connection)
        if alone:
            self._start_alone(lambda: self._serve_alone(connection, supplied), supplied)
        else:
            self._watch.park(connection)

    def _give_turn(self, connection: Connection, scratch: memoryview) -> None:
        turn = connection.turn(PATIENCE_S, scratch)
        if turn is Turn.PARKED:
            self._watch.park(connection)
        elif turn is Turn.AGAIN:
            self._crew.submit(connection)
        elif turn is Turn.CLOSED:
            self._forget(connection)

    def _end(self, connection: Connection) -> None:
        connection.close()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            if connection not in self._connections:
                return
            self._connections.remove(connection)
            self._past.add(connection.tally)
        tally = self._door.addresses if connection.refusal is None else self._door.guests
        tally.give(address_of(connection.stream.peer))

    # What no selector can watch

    def _start_alone(self, serve: Callable[[], None], supplied: threading.Event | None = None) -> None:
        thread = threading.Thread(target=serve, name="dfs-alone", daemon=True)
        self._alone = [pair for pair in self._alone if pair[0].is_alive()]
        self._alone.append((thread, supplied or threading.Event()))
        thread.start()

    def _listen_alone(self) -> None:
        while not self._stopping.is_set():
            if not self._admit(ALONE_PATIENCE_S):
                self._stopping.wait(SWEEP_S)

    def _serve_alone(self, connection: Connection, supplied: threading.Event) -> None:
        scratch = memoryview(bytearray(SCRATCH_SIZE))
        turn = Turn.AGAIN
        while turn is not Turn.CLOSED and not self._stopping.is_set():
            turn = connection.turn(ALONE_PATIENCE_S, scratch)
            if turn is Turn.STARVED:
                supplied.wait()
                supplied.clear()
            elif turn is Turn.PARKED and self._env.monotonic_s() >= connection.deadline_s:
                break
        self._end(connection)

    # Housekeeping

    def _tidy(self) -> None:
        while not self._stopping.wait(TIDY_S):
            self._options.accounts.refresh()
            for vault in self._house.vaults:
                self._tidy_vault(vault)

    def _tidy_vault(self, vault: VaultNode) -> None:
        more = True
        try:
            while more and vault.store.read_only_reason is None and not self._stopping.is_set():
                more = vault.tidy()
        except DfsError as error:
            log.warning("a vault could not be tidied: %s", error)

    def _scrub(self) -> None:
        """Read everything again and again: a scrub takes half the days there are, then it rests as long."""
        period_s = self._options.scrub_days * DAY_S / 2
        failed: set[str] = set()
        wait_s = SCRUB_BEGIN_S
        while not self._stopping.wait(wait_s):
            vaults = self._vaults_kept(failed)
            speed = max(SCRUB_SPEED_MIN, sum(vault.store.used_size for vault in vaults) / period_s)
            for vault in vaults:
                if (
                    not 0 <= self._env.wall_s() - vault.scrubbed_s() < period_s
                ):  # also after a clock went back
                    self._scrub_vault(vault, speed)
            wait_s = SCRUB_REST_S

    def _vaults_kept(self, failed: set[str]) -> list[VaultNode]:
        """Return all vaults here that can be opened; of the others it is told once."""
        vaults = []
        for user in self._house.kept():
            if user in failed:
                continue
            try:
                vaults.append(self._house.vault(user))
            except DfsError as error:
                failed.add(user)
                log.error("the vault of %s cannot be scrubbed: %s", user, error)  # noqa: TRY400 - it says all
        return vaults

    def _scrub_vault(self, vault: VaultNode, speed: float) -> None:
        """Scrub a vault to its end, ``speed`` bytes a second."""
        wait_s = 0.0
        while vault.store.read_only_reason is None and not self._stopping.wait(wait_s):
            try:
                step = vault.scrub(stopped=self._stopping.is_set)
            except DfsError as error:
                log.warning("a vault could not be scrubbed: %s", error)
                return
            for finding in step.findings:
                log.warning("scrub: %s", finding)
            if step.ended:
                return
            wait_s = max(SCRUB_PAUSE_S, step.size / speed)
