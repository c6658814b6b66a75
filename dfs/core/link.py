"""A client's side of one node: a few connections, each with a thread, and the requests waiting for them.

Every request ends in exactly one event, posted when nobody touches its buffers any more. A node that refused
is not tried again within the same command; one that timed out is left out until a probe reaches it.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
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
)
from dfs.core.interface import Buffer, Env, Stream, Transport
from dfs.core.keys import LoginKeys
from dfs.core.pace import piece_size
from dfs.core.records import define, frozen
from dfs.core.types import NodeId
from dfs.core.wire import Header, Mark, RosterDiffersError, Session, check_bulk, decode_header

SEND_SIZE: Final = 512 * limits.KIB  # bulk is sent in pieces, so that progress can be seen
_HEAD: Final = limits.HEADER_SIZE


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


@define(eq=False)
class Job:
    """One request on its way. ``post`` is called once, with the event that answers it."""

    send: Send
    post: Callable[["Job", Event], None]
    progress_s: float = 0.0
    hurried_s: float | None = None
    patience_s: float = 0.0
    knock: bool = False  # whether its node is still to be asked for a greeting
    remember: bool = True
    stream: Stream | None = None
    cut: bool = False  # patience is over: the connection is closed under it

    @property
    def expiry_s(self) -> float | None:
        """When patience ends, or the time to knock has come; None while there is no hurry."""
        if self.hurried_s is None:
            return None
        wait_s = limits.KNOCK_AFTER_S if self.knock else self.patience_s
        return max(self.hurried_s, self.progress_s) + wait_s


@define
class Traffic:
    """What went over the connections of a node since the start; bytes, requests, and the time of these."""

    sent_size: int = 0
    received_size: int = 0
    request_count: int = 0
    busy_s: float = 0.0


@define(eq=False)
class _Connection:
    """``timeout_s``: how long it may be silent; short until the node has said who it is."""

    stream: Stream
    session: Session
    timeout_s: float


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
        self._idle: list[
            threading.Lock
        ] = []  # what idle threads wait on, the one that was busy last at the end
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
                self._queue.append(job)
                if self._idle:  # its connection is still watched by a thread of the node
                    self._idle.pop().release()
                elif self._threads < self._connection_count_max:
                    self._start()
                return job
        post(job, Failed(send.tag, down or UnreachableError("closed")))
        return job

    def cut(self, job: Job) -> None:
        """Give up on a request whose patience is over; its event follows when its thread lets go."""
        with self._lock:
            job.cut = True
            if job.remember and self._away is None:
                self._away = TimedOutError("does not answer")
                self._probe_later()
            waiting = job in self._queue
            if waiting:
                self._queue.remove(job)
        if waiting:
            job.post(job, Failed(job.send.tag, TimedOutError("does not answer")))
        elif job.stream is not None:
            job.stream.close()

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

    def _start(self) -> None:
        threading.Thread(target=self._run, name=f"link {self.name}", daemon=True).start()
        self._threads += 1

    def _run(self) -> None:
        connection: _Connection | None = None
        try:
            while (job := self._next()) is not None:
                connection = self._serve(job, connection)
            if connection is not None:
                self._drop(connection)
        finally:
            with self._lock:
                self._threads -= 1
                if self._queue:  # this thread ended early, by a bug: somebody must answer the rest
                    self._start()

    def _next(self) -> Job | None:
        bell = threading.Lock()
        while True:
            with self._lock:
                if self._queue:
                    return self._queue.popleft()
                if self._closed:
                    return None
                bell.acquire()
                self._idle.append(bell)
            with bell:  # until it is released by whoever takes it off the list
                pass

    def _serve(self, job: Job, connection: _Connection | None) -> _Connection | None:
        """Answer one job and return the connection to go on with."""
        event: Event | None = None
        fresh, again = connection is None, False
        try:
            while event is None:
                try:
                    if connection is None:
                        if (down := self.down) is not None:  # found out since this was queued
                            raise down
                        connection = self._connect(job)
                    event = self._exchange(job, connection, again=again)
                except (UnreachableError, TimedOutError, ProtocolError) as error:
                    if connection is not None:
                        self._drop(connection)
                        connection = None
                        if not fresh and isinstance(error, UnreachableError) and not job.cut:
                            fresh = again = True  # an idle connection the node had closed: once more
                            continue
                    event = Failed(job.send.tag, self._failure(job, error))
                except DfsError as error:
                    if isinstance(error, RosterDiffersError):
                        self.roster = error.roster
                    if connection is None:  # not let in: no second try within this command
                        self._failure(job, error)
                    event = Failed(job.send.tag, error)
        finally:
            if event is None:  # a bug ends this thread, but nobody may wait for ever
                if connection is not None:
                    self._drop(connection)
                event = Failed(job.send.tag, LocalProtocolError(f"{self.label}: a request ended unforeseen"))
            job.stream = None
            job.post(job, event)
        return connection

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

    def _drop(self, connection: _Connection) -> None:
        connection.stream.close()
        with self._lock:
            self._streams.discard(connection.stream)

    def _connect(self, job: Job | None, timeout_s: float | None = None) -> _Connection:
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
        connection = _Connection(stream, Session(), timeout_s)
        if closed:
            self._drop(connection)
            raise UnreachableError("closed")
        try:
            self._greet(job, connection)
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _greet(self, job: Job | None, connection: _Connection) -> None:
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
            hello, _ = self._ask(job, connection, messages.Hello(nonce, self._identity.version, ()))
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
        login, _ = self._ask(job, connection, messages.Login(self._identity.user, signature))
        if self._identity.entering:
            login, _ = self._ask(job, connection, messages.Enter(self._identity.entering))
        if not isinstance(login, messages.LoginReply):
            raise RemoteProtocolError("no answer to the login")
        if certificate and pinned is None:
            self._trust.learn(self.address, certificate)
        self.met = Met(hello, login, certificate)

    # One request

    def _exchange(self, job: Job, connection: _Connection, *, again: bool) -> Event:
        job.stream = connection.stream
        if job.cut:
            raise TimedOutError("does not answer")
        started_s = self._env.monotonic_s()
        reply, bulk = self._ask(job, connection, job.send.request, job.send.bulk, job.send.into)
        self.traffic.busy_s += self._env.monotonic_s() - started_s
        return Reply(job.send.tag, reply, bulk, self.told.mark, again)

    def _ask(
        self,
        job: Job | None,
        connection: _Connection,
        request: messages.Request,
        bulk: Sequence[Buffer] = (),
        into: Sequence[memoryview] | None = None,
    ) -> tuple[messages.Response, Buffer]:
        session = connection.session
        self._send(job, connection, [session.ask(request, bulk), *bulk])
        head = memoryview(bytearray(_HEAD))
        self._receive(job, connection, head)
        header = decode_header(head)
        control = memoryview(bytearray(header.control_size))
        self._receive(job, connection, control)
        reply, mark = session.answered(header, bytes(control))
        self.told = max(self.told, mark, key=lambda each: (each.incarnation, each.mark))
        self.traffic.request_count += 1
        if into is not None:
            self._receive_shares(job, connection, header, reply, into)
            return reply, b""
        body = memoryview(bytearray(header.bulk_size))
        self._receive(job, connection, body)
        check_bulk(header, body)
        return reply, body

    def _receive_shares(
        self,
        job: Job | None,
        connection: _Connection,
        header: Header,
        reply: messages.Response,
        into: Sequence[memoryview],
    ) -> None:
        results = reply.results if isinstance(reply, messages.FetchReply) else ()
        found = [
            target for result, target in zip(results, into, strict=False) if result.status == messages.FOUND
        ]
        sizes = [result.size for result in results if result.status == messages.FOUND]
        if (
            len(results) != len(into)
            or [len(target) for target in found] != sizes
            or sum(sizes) != header.bulk_size
        ):
            raise RemoteProtocolError("a FETCH reply whose shares have other sizes than asked for")
        for target in found:
            self._receive(job, connection, target)

    def _send(self, job: Job | None, connection: _Connection, buffers: Sequence[Buffer]) -> None:
        pieces: list[Buffer] = []
        size = 0
        for buffer in buffers:
            view = memoryview(buffer)
            for offset in range(0, len(view), self._piece_size):
                piece = view[offset : offset + self._piece_size]
                if size and size + len(piece) > self._piece_size:
                    self._send_now(job, connection, pieces, size)
                    pieces, size = [], 0
                pieces.append(piece)
                size += len(piece)
        if pieces:
            self._send_now(job, connection, pieces, size)

    def _send_now(
        self, job: Job | None, connection: _Connection, pieces: Sequence[Buffer], size: int
    ) -> None:
        connection.stream.send(pieces, self._env.monotonic_s() + connection.timeout_s)
        self.traffic.sent_size += size
        self._progressed(job)

    def _receive(self, job: Job | None, connection: _Connection, target: memoryview) -> None:
        filled = 0
        while filled < len(target):
            deadline_s = self._env.monotonic_s() + connection.timeout_s
            count = connection.stream.receive_into(target[filled:], deadline_s)
            if not count:
                raise UnreachableError("closed the connection")
            filled += count
            self.traffic.received_size += count
            self._progressed(job)

    def _progressed(self, job: Job | None) -> None:
        if job is not None:
            job.progress_s = self._env.monotonic_s()

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


def labels(links: Mapping[NodeId, Link]) -> dict[NodeId, str]:
    """Return what people call the nodes."""
    return {node: link.label for node, link in links.items()}
