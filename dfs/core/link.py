"""A client's side of one node: a few connections, a few threads, and the requests waiting for them.

Every request ends in exactly one event, when nobody touches its buffers any more. Small ones need no thread
while a connection is idle: who asks sends them and takes in the reply. A node that refused is not tried again
within the same command; one that timed out is left out until a probe reaches it.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from dfs.core import limits, messages
from dfs.core.auth import sign_login
from dfs.core.effects import Event, Failed, Reply, Send
from dfs.core.errors import (
    CertificateRefusedError,
    DfsError,
    LocalProtocolError,
    PeerIdentityError,
    ProtocolError,
    RealmError,
    RemoteProtocolError,
    TimedOutError,
    UnknownCertificateError,
    UnreachableError,
    invariant,
)
from dfs.core.exchange import Connection, Exchange, Job, Told, Traffic
from dfs.core.interface import Env, Stream, Transport
from dfs.core.keys import LoginKeys
from dfs.core.pace import PacedTransport, piece_size
from dfs.core.records import frozen
from dfs.core.types import NodeId
from dfs.core.wire import Mark, RosterDiffersError, Session

SEND_SIZE: Final = 512 * limits.KIB  # bulk is sent in pieces, so that progress can be seen
DIRECT_SIZE_MAX: Final = 16 * limits.KIB  # an idle connection takes so much at once, whatever its node does
LINE_COUNT_MAX: Final = 3  # requests under way over one connection


@frozen
class Identity:
    """Who logs in. ``keys``: blocks until they are derived; may raise what the derivation raised.

    ``entering``: the user whose vault a healer works on, "" for one's own.
    """

    realm: str
    user: str
    keys: Callable[[], LoginKeys]
    version: str
    entering: str = ""


@frozen
class Trust:
    """Which certificates are believed: ``pins`` (address -> SHA-256); ``learn`` keeps those of first use."""

    pins: Mapping[str, bytes]
    first_use: bool
    learn: Callable[[str, bytes], None]


@frozen
class Met:
    """What the first login at a node told."""

    hello: messages.HelloReply
    login: messages.LoginReply
    certificate: bytes


class Link:
    """All connections to one node. Thread-safe."""

    def __init__(
        self,
        *,
        name: str,
        address: str,
        transport: Transport,
        identity: Identity,
        trust: Trust,
        env: Env,
        connection_count_max: int,
        connect_timeout_s: float,
        request_timeout_s: float,
    ) -> None:
        self.name: Final = name
        self.address: Final = address
        self.met: Met | None = None
        self.expected: NodeId | None = None  # who must answer, when nobody has yet
        self.traffic: Final = Traffic()
        self.told = Mark()  # the highest mark
        self.roster = b""  # another one than ours, that the node knows by now
        self._transport = transport
        self._piece_size = piece_size(transport, SEND_SIZE)
        self._identity = identity
        self._trust = trust
        self._env = env
        self._connection_count_max = connection_count_max
        self._connect_timeout_s = connect_timeout_s
        self._request_timeout_s = request_timeout_s
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._threads = 0
        self._idle: list[threading.Lock] = []  # what idle threads wait on
        self._parked: list[Connection] = []  # that nobody uses, the one that was busy last at the end
        self._paced = isinstance(transport, PacedTransport)  # its calls wait for their turn
        self._closed = False
        self._refusal: DfsError | None = None  # for the rest of this command
        self._away: DfsError | None = None  # until a probe succeeds
        self._former: LoginKeys | None = None
        self._probing = False
        self._stop_probe = threading.Event()
        self._streams: set[Stream] = set()

    @property
    def label(self) -> str:
        """Name and address, for messages."""
        return f"{self.name} {self.address}"

    @property
    def down(self) -> DfsError | None:
        """Why the node is left out at the moment; None while it is used."""
        return self._refusal or self._away

    def keep_to(self, keys: LoginKeys | None) -> None:
        """Log in with a former password from now on, which the node still has; None: with the present one."""
        self._former = keys

    def begin_command(self) -> None:
        """Try a node again that refused the last command."""
        with self._lock:
            self._refusal = None

    def submit(self, send: Send, post: Callable[[Job, Event], None]) -> Job:
        """Queue a request."""
        job = Job(send, post, progress_s=self._env.monotonic_s())
        with self._lock:
            down = self._refusal or self._away
            if down is None and not self._closed:
                self._queue_up(job)
                return job
        post(job, Failed(send.tag, down or UnreachableError("closed")))
        return job

    def begin(self, send: Send, post: Callable[[Job, Event], None], behind: Job | None = None) -> Job | None:
        """Send a small request at once, over a connection that is idle; None if that cannot be.

        ``behind``: a direct request of the same caller, over whose connection it may go instead. Who began it
        goes on with it (`go_on`) whenever its stream is ready, hands it over (`hand_over`) or leaves it
        (`leave`).
        """
        if send.into is not None or self._paced:
            return None
        with self._lock:
            if self.down is not None or self._closed or self._queue:
                return None
            if self._parked and self._parked[-1].stream.fileno() >= 0:  # one that a selector can watch
                connection = self._parked.pop()
            elif behind is not None and behind.exchange is not None and _may_follow(send, behind.exchange):
                connection = behind.exchange.connection
            else:
                return None
        job = Job(send, post, progress_s=self._env.monotonic_s(), direct=True)
        try:
            job.exchange = self._exchange(job, connection)
            job.stream = connection.stream
        except BaseException:
            self._drop(connection)
            raise
        if (event := self.go_on(job)) is not None:
            job.direct = False
            post(job, event)
        return job

    def go_on(self, job: Job) -> Event | None:
        """Do what can be done now; None: more is to come, to a thread if the job is no longer ``direct``."""
        exchange = self._direct(job)
        try:
            if not exchange.is_sent:
                exchange.encode()
                if exchange.unsent_size > DIRECT_SIZE_MAX:
                    self.hand_over(job)
                else:
                    exchange.send(self._piece_size)
                return None
            told = exchange.go_on()
        except DfsError as error:
            job.exchange = None
            event = self._ended(job, exchange.connection, error, fresh=False)
            if event is None:
                self.hand_over(job)
            return event
        if told is None:
            return None
        job.exchange = None
        return self._answered(job, exchange, told)

    def leave(self, job: Job) -> None:
        """Leave a direct request alone whose answer is not needed any more."""
        exchange = self._direct(job)
        with self._lock:
            job.exchange = job.stream = exchange.job = None
            job.direct = False
            if not self._serve_line(exchange.connection):
                self._parked.insert(0, exchange.connection)

    def _direct(self, job: Job) -> Exchange:
        invariant(job.direct, "somebody else goes on with this request")
        assert job.exchange is not None
        return job.exchange

    def hand_over(self, job: Job) -> None:
        """Let a thread go on with a request that was begun, once those before it in line are answered."""
        with self._lock:
            job.direct = False
            if job.exchange is None:
                self._queue_up(job)
            else:
                self._serve_line(job.exchange.connection)

    def cut(self, job: Job) -> None:
        """Give up on a request whose patience is over; its event follows when its thread lets go."""
        with self._lock:
            job.cut = True
            if job.remember and self._away is None:
                self._away = TimedOutError("does not answer")
                self._probe_later()
            waiting = job in self._queue or job.exchange is not None
            job.direct = False
            exchange, job.exchange = job.exchange, None
            if job in self._queue:
                self._queue.remove(job)
        if waiting:
            if exchange is not None:
                exchange.job = None
                self._drop(exchange.connection)
            job.post(job, Failed(job.send.tag, TimedOutError("does not answer")))
        elif (stream := job.stream) is not None:
            stream.close()

    def knock(self, job: Job) -> None:
        """Give up on a request soon if its node does not even greet."""
        job.knock = False
        threading.Thread(target=self._knock, args=(job,), name=f"knock {self.name}", daemon=True).start()

    def close(self) -> None:
        """End all connections and threads."""
        with self._lock:
            self._closed = True
            self._stop_probe.set()
            streams = list(self._streams)
            while self._idle:
                self._idle.pop().release()
        for stream in streams:
            stream.close()

    # Threads

    def _queue_up(self, job: Job) -> None:
        """Queue a job for a thread; the lock is held."""
        job.queued = True
        self._queue.append(job)
        if self._idle:
            self._idle.pop().release()
        elif self._threads < self._connection_count_max:
            self._start()

    def _start(self) -> None:
        threading.Thread(target=self._run, name=f"link {self.name}", daemon=True).start()
        self._threads += 1

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._serve(*job)
        finally:
            with self._lock:
                self._threads -= 1
                if self._queue:  # this thread ended early, by a bug: somebody must answer the rest
                    self._start()

    def _next(self) -> tuple[Job, Exchange | None] | None:
        bell = threading.Lock()
        while True:
            with self._lock:
                if self._queue:
                    job = self._queue.popleft()
                    exchange, job.exchange = job.exchange, None
                    return job, exchange
                if self._closed:
                    return None
                bell.acquire()
                self._idle.append(bell)
            with bell:  # until it is released by whoever takes it off the list
                pass

    def _serve(self, job: Job, exchange: Exchange | None) -> None:
        """Answer one job, which may be under way."""
        event: Event | None = None
        try:
            while event is None:
                event = self._try(job, exchange)
                exchange = None
        finally:
            if event is None:  # a bug ends this thread, but nobody may wait for ever
                event = Failed(job.send.tag, LocalProtocolError(f"{self.label}: a request ended unforeseen"))
            job.stream = None
            job.post(job, event)

    def _try(self, job: Job, exchange: Exchange | None) -> Event | None:
        """Ask, or go on with asking; None: the connection had ended meanwhile, one more try is due."""
        connection = None if exchange is None else exchange.connection
        fresh = False
        try:
            if connection is None:
                connection = None if job.again else self._kept()
                fresh = connection is None
                connection = connection or self._connect_for(job)
            if fresh and isinstance(job.send.request, messages.Ping):  # it has answered just now
                self._keep(connection)
                return Reply(job.send.tag, messages.Empty(), b"", self.told.mark, job.again)
            exchange = exchange or self._exchange(job, connection)
            told = self._told_by(exchange, job)
        except DfsError as error:
            if connection is None:  # not let in: no second try within this command
                return Failed(job.send.tag, self._failure(job, error))
            return self._ended(job, connection, error, fresh=fresh)
        except BaseException:
            if connection is not None:
                self._drop(connection)
            raise
        return self._answered(job, exchange, told)

    def _connect_for(self, job: Job) -> Connection:
        if (down := self.down) is not None:  # found out since this was queued
            raise down
        return self._connect(job)

    def _told_by(self, exchange: Exchange, job: Job) -> Told:
        job.stream = exchange.connection.stream
        if job.cut:
            raise TimedOutError("does not answer")
        if not exchange.is_sent:
            exchange.clear_line()
            exchange.send(self._piece_size)
        return exchange.answer()

    def _exchange(self, job: Job, connection: Connection) -> Exchange:
        send = job.send
        return Exchange(
            job, connection, send.request, send.bulk, send.into, env=self._env, traffic=self.traffic
        )

    def _answered(self, job: Job, exchange: Exchange, told: Told) -> Event:
        reply, bulk, mark = told
        self._note(mark)
        self.traffic.busy_s += self._env.monotonic_s() - exchange.begun_s
        job.stream = None
        self._keep(exchange.connection)
        return Reply(job.send.tag, reply, bulk, self.told.mark, job.again)

    def _ended(self, job: Job, connection: Connection, error: DfsError, *, fresh: bool) -> Event | None:
        """Return what the error of an exchange means; None: one more try is due."""
        job.stream = None
        if isinstance(error, (UnreachableError, TimedOutError, ProtocolError)):
            self._drop(connection)
            if not fresh and isinstance(error, UnreachableError) and not job.cut:
                job.again = True  # an idle connection that the node had closed
                return None
            return Failed(job.send.tag, self._failure(job, error))
        if isinstance(error, RosterDiffersError):
            self.roster = error.roster
        self._keep(connection)
        return Failed(job.send.tag, error)

    def _kept(self) -> Connection | None:
        """Take the connection that was busy last, if there is one: the node still listens to it closely."""
        with self._lock:
            return self._parked.pop() if self._parked else None

    def _keep(self, connection: Connection) -> None:
        """Go on with who waits in its line, else keep a connection for the next request, if it is wanted."""
        with self._lock:
            keep = not self._closed and len(self._streams) <= self._connection_count_max
            connection.move_up()  # here, as who is next is seen to once, be it by us or by who hands it over
            if self._serve_line(connection):
                return
            if keep:
                self._parked.append(connection)
        if not keep:
            self._drop(connection)

    def _serve_line(self, connection: Connection) -> bool:
        """Return whether somebody waits in line; a thread is sought for the first of them if it needs one.

        The lock is held.
        """
        jobs = [exchange.job for exchange in tuple(connection.line) if exchange.job is not None]
        if jobs and not jobs[0].direct and not jobs[0].queued:
            self._queue_up(jobs[0])
        return bool(jobs)

    def _failure(self, job: Job, error: DfsError) -> DfsError:
        with self._lock:
            if job.cut:
                return TimedOutError("does not answer")
            if isinstance(error, TimedOutError):
                if self._away is None:
                    self._away = error
                    self._probe_later()
            elif self._refusal is None and not isinstance(error, RemoteProtocolError):
                self._refusal = error
        return error

    def _drop(self, connection: Connection) -> None:
        connection.stream.close()
        with self._lock:
            self._streams.discard(connection.stream)
            for exchange in tuple(connection.line):  # who waits there without a thread hears of it from one
                job = exchange.job
                if job is None or job.exchange is not exchange:
                    exchange.job = None  # this is over for it
                elif not job.direct and not job.queued:
                    self._queue_up(job)

    def _connect(self, job: Job | None, timeout_s: float | None = None) -> Connection:
        """Connect, check who it is, log in. ``timeout_s``: of each step, if not the usual one.

        Raises:
            UnreachableError, TimedOutError, PeerIdentityError, RealmError, LoginError, RemoteProtocolError.
        """
        timeout_s = self._connect_timeout_s if timeout_s is None else timeout_s
        stream = self._transport.connect(self.address, self._env.monotonic_s() + timeout_s)
        with self._lock:
            closed = self._closed or (job is not None and job.cut)
            self._streams.add(stream)
        if job is not None:
            job.stream = stream
        connection = Connection(stream, Session(), timeout_s)
        if closed:
            self._drop(connection)
            raise UnreachableError("closed")
        try:
            self._greet(job, connection)
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _greet(self, job: Job | None, connection: Connection) -> None:
        stream = connection.stream
        try:
            stream.handshake(self._env.monotonic_s() + connection.timeout_s)
        except PeerIdentityError as error:  # the transport knows addresses, people know names
            raise PeerIdentityError(
                f"{self.name} {error.what}", next_step=f"If you replaced it: dfs cert trust {self.name}."
            ) from error
        certificate = stream.channel_binding
        pinned = self._trust.pins.get(self.address)
        if certificate and pinned is not None and pinned != certificate:
            raise PeerIdentityError(
                f"{self.label} shows certificate SHA256:{certificate.hex()}, known is SHA256:{pinned.hex()}",
                next_step=f"If you replaced it: dfs cert trust {self.name}.",
            )
        if certificate and pinned is None and not self._trust.first_use:
            raise UnknownCertificateError(
                f"{self.label} shows certificate SHA256:{certificate.hex()}, the conf pins none for it"
            )
        nonce = self._env.random_bytes(limits.NONCE_SIZE)
        try:
            hello = self._ask(job, connection, messages.Hello(nonce, self._identity.version, ()))
        except CertificateRefusedError as error:
            raise CertificateRefusedError(f"{self.name} {error.what}") from error
        connection.timeout_s = self._request_timeout_s
        if not isinstance(hello, messages.HelloReply):
            raise RemoteProtocolError("no greeting")
        if hello.realm != self._identity.realm:
            raise RealmError(
                f"{self.label} belongs to realm {hello.realm!r}, the conf says {self._identity.realm!r}"
            )
        expected = self.met.hello.node_id if self.met is not None else self.expected
        if expected not in {None, hello.node_id}:
            raise PeerIdentityError(f"{self.label} is another node than before (its node id changed)")
        signature = sign_login(
            (self._former or self._identity.keys()).seed,
            realm=hello.realm,
            user=self._identity.user,
            node_id=hello.node_id,
            client_nonce=nonce,
            node_nonce=hello.nonce,
            channel_binding=certificate,
        )
        login = self._ask(job, connection, messages.Login(self._identity.user, signature))
        if self._identity.entering:
            login = self._ask(job, connection, messages.Enter(self._identity.entering))
        if not isinstance(login, messages.LoginReply):
            raise RemoteProtocolError("no answer to the login")
        if certificate and pinned is None:
            self._trust.learn(self.address, certificate)
        self.met = Met(hello, login, certificate)

    def _ask(self, job: Job | None, connection: Connection, request: messages.Request) -> messages.Response:
        """Ask within a login, for a job or for nobody."""
        exchange = Exchange(job, connection, request, env=self._env, traffic=self.traffic)
        exchange.send(self._piece_size)
        try:
            reply, _, mark = exchange.answer()
        finally:
            connection.move_up()
        self._note(mark)
        return reply

    def _note(self, mark: Mark) -> None:
        self.told = max(self.told, mark, key=lambda each: (each.incarnation, each.mark))

    # A node that is late, or timed out

    def _knock(self, job: Job) -> None:
        knocked_s = self._env.monotonic_s()
        try:
            self._drop(self._connect(None, limits.KNOCK_TIMEOUT_S))
        except TimedOutError:
            if job.progress_s < knocked_s:
                self.cut(job)
        except DfsError:
            return  # it answers, or its connections break: who waits hears of it

    def _probe_later(self) -> None:
        if not self._probing and not self._closed:
            self._probing = True
            threading.Thread(target=self._probe, name=f"probe {self.name}", daemon=True).start()

    def _probe(self) -> None:
        back = False
        try:
            while not back and not self._stop_probe.wait(limits.PROBE_INTERVAL_S):
                back = self._is_back()
        finally:
            with self._lock:
                self._probing = False
                if back:
                    self._away = None

    def _is_back(self) -> bool:
        try:
            self._drop(self._connect(None))
        except (TimedOutError, UnreachableError, ProtocolError):
            return False
        except DfsError:
            return True  # it answers; the next request tells what is wrong
        return True


def _may_follow(send: Send, before: Exchange) -> bool:
    """Return whether a request may go over a connection behind others, the last of which is ``before``.

    What a node answers at once must not wait for its disk: a hurried request would be given up for it.
    """
    line = before.connection.line
    if len(line) == LINE_COUNT_MAX or not all(exchange.is_sent for exchange in line):
        return False
    waits = any(messages.waits_for_disk(exchange.request) for exchange in line)
    return messages.waits_for_disk(send.request) or not waits


def labels(links: Mapping[NodeId, Link]) -> dict[NodeId, str]:
    """Return what people call the nodes."""
    return {node: link.label for node, link in links.items()}
