"""One request of a client over one connection: sent, then its reply taken in, in one go or bit by bit.

Who goes on with it is for others to decide (link.py); it must be one thread at a time.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeAlias

from dfs.core import limits, messages
from dfs.core.effects import Event, Send
from dfs.core.errors import DfsError, ProtocolError, RemoteProtocolError, TimedOutError, UnreachableError
from dfs.core.interface import Buffer, Env, Stream
from dfs.core.records import define, field
from dfs.core.wire import Header, Mark, Session, check_bulk, decode_header

Told: TypeAlias = tuple[messages.Response, Buffer, Mark]  # a reply, the bulk that came along, the node's mark


@define
class Traffic:
    """What went over the connections of a node since the start; bytes, requests, and the time of these."""

    sent_size: int = 0
    received_size: int = 0
    request_count: int = 0
    busy_s: float = 0.0


@define(eq=False)
class Connection:
    """``timeout_s``: how long it may be silent; short until the node has said who it is.

    ``line``: the requests under way, in the order their replies come.
    """

    stream: Stream
    session: Session
    timeout_s: float
    line: "deque[Exchange]" = field(factory=deque)

    def move_up(self) -> None:
        """Let the first in line go, if it has its reply."""
        if self.line and self.line[0].is_answered:
            self.line.popleft()


@define(eq=False)
class Job:
    """One request on its way. ``post`` is called once, with the event that answers it.

    ``again``: it was sent before, over a connection that had ended. ``exchange``: it is under way, and no
    thread of the link goes on with it yet. ``direct``: who began it does. ``queued``: a thread will.
    """

    send: Send
    post: Callable[["Job", Event], None]
    progress_s: float = 0.0
    hurried_s: float | None = None
    patience_s: float = 0.0
    knock: bool = False  # whether its node is still to be asked for a greeting
    remember: bool = True
    stream: Stream | None = None
    cut: bool = False  # patience is over: the connection is closed under it
    again: bool = False
    exchange: "Exchange | None" = None
    direct: bool = False
    queued: bool = False

    @property
    def expiry_s(self) -> float | None:
        """When patience ends, or the time to knock has come; None while there is no hurry."""
        if self.hurried_s is None:
            return None
        wait_s = limits.KNOCK_AFTER_S if self.knock else self.patience_s
        return max(self.hurried_s, self.progress_s) + wait_s


class Exchange:
    """A request and its reply. ``into``: see Send. ``job``: who waits for it; None: nobody does, or a login.

    Its methods raise UnreachableError, TimedOutError, ProtocolError, or what the node answered instead.
    """

    def __init__(
        self,
        job: Job | None,
        connection: Connection,
        request: messages.Request,
        bulk: Sequence[Buffer] = (),
        into: Sequence[memoryview] | None = None,
        *,
        env: Env,
        traffic: Traffic,
    ) -> None:
        self.connection: Final = connection
        self.job = job
        self._env = env
        self._traffic = traffic
        self.request: Final = request
        self._unsent: Sequence[Buffer] = bulk
        self._encoded = False
        self._taking = self._take(into)
        self._target = next(self._taking)  # what the next bytes go into
        self._filled = 0
        self._outcome: Told | DfsError | None = None
        self.begun_s: Final = env.monotonic_s()
        self.active_s = self.begun_s  # when its node last showed that it is at work

    @property
    def deadline_s(self) -> float:
        """When the node has been silent for too long."""
        return self.active_s + self.connection.timeout_s

    @property
    def unsent_size(self) -> int:
        """Bytes still to send, but for the head of a request that was not begun."""
        return sum(len(memoryview(buffer)) for buffer in self._unsent)

    @property
    def is_sent(self) -> bool:
        """Whether the request is on its way."""
        return self._encoded and not self._unsent

    @property
    def is_answered(self) -> bool:
        """Whether the reply, or a refusal, has come."""
        return self._outcome is not None

    def encode(self) -> None:
        """Take the place in line, if that was not done before."""
        if not self._encoded:
            self._encoded = True
            self._unsent = (self.connection.session.ask(self.request, self._unsent), *self._unsent)
            self.connection.line.append(self)

    def send(self, piece_size: int) -> None:
        """Send the request, so many bytes at a time that progress can be seen."""
        self.encode()
        pieces: list[Buffer] = []
        size = 0
        buffers, self._unsent = self._unsent, ()
        for buffer in buffers:
            view = memoryview(buffer)
            for offset in range(0, len(view), piece_size):
                piece = view[offset : offset + piece_size]
                if size and size + len(piece) > piece_size:
                    self._send(pieces, size)
                    pieces, size = [], 0
                pieces.append(piece)
                size += len(piece)
        if pieces:
            self._send(pieces, size)

    def clear_line(self) -> None:
        """Wait for all replies that come before: a node that cannot send them takes no large request in."""
        line = self.connection.line
        while line and line[0] is not self:
            line[0].advance(wait=True)
            line.popleft()

    def answer(self) -> Told:
        """Wait for the reply, after those that nobody waits for. It stays in line until that moves up."""
        self.clear_line()
        self.advance(wait=True)
        return self._told()

    def go_on(self) -> Told | None:
        """Take in what is there of the reply, after those that nobody waits for; None: not all is.

        It stays in line until that moves up.
        """
        line = self.connection.line
        while (first := line[0]) is not self:
            if first.job is not None or not first.advance(wait=False):
                return None
            line.popleft()
        return self._told() if self.advance(wait=False) else None

    def _told(self) -> Told:
        assert self._outcome is not None
        if isinstance(self._outcome, DfsError):
            raise self._outcome
        return self._outcome

    def advance(self, *, wait: bool) -> bool:
        """Take in the reply, which is the next to come; False: not all of it is there."""
        while self._outcome is None:
            while self._filled < len(self._target):
                try:
                    self._receive(self.deadline_s if wait else 0.0)
                except TimedOutError:
                    if wait:
                        raise
                    return False
            self._next()
        return True

    def _next(self) -> None:
        """Begin with the next part of the reply; without one it is whole."""
        try:
            self._target = next(self._taking)
        except StopIteration as end:
            if end.value is None:  # it ended with an error, and with it the connection
                raise UnreachableError("broke off the connection") from None
            self._outcome = end.value
        except (UnreachableError, TimedOutError, ProtocolError):
            raise
        except DfsError as refusal:
            self._outcome = refusal
        self._filled = 0

    def _send(self, pieces: Sequence[Buffer], size: int) -> None:
        self.connection.stream.send(pieces, self._env.monotonic_s() + self.connection.timeout_s)
        self._traffic.sent_size += size
        self._progressed()

    def _receive(self, deadline_s: float) -> None:
        count = self.connection.stream.receive_into(self._target[self._filled :], deadline_s)
        if not count:
            raise UnreachableError("closed the connection")
        self._filled += count
        self._traffic.received_size += count
        self._progressed()

    def _progressed(self) -> None:
        """Note that the node is at work, for those that wait behind as well."""
        now_s = self._env.monotonic_s()
        for exchange in tuple(self.connection.line):  # its owner may get in line behind
            exchange.active_s = now_s
            if exchange.job is not None:
                exchange.job.progress_s = now_s

    def _take(self, into: Sequence[memoryview] | None) -> Generator[memoryview, None, Told]:
        """Yield what is to be filled next, and return the reply."""
        session = self.connection.session
        head = memoryview(bytearray(limits.HEADER_SIZE))
        yield head
        header = decode_header(head)
        control = memoryview(bytearray(header.control_size))
        yield control
        reply, mark = session.answered(header, bytes(control))
        self._traffic.request_count += 1
        if into is not None:
            yield from _shares(header, reply, into)
            return reply, b"", mark
        body = memoryview(bytearray(header.bulk_size))
        yield body
        check_bulk(header, body)
        return reply, body, mark


def _shares(
    header: Header, reply: messages.Response, into: Sequence[memoryview]
) -> Generator[memoryview, None, None]:
    results = reply.results if isinstance(reply, messages.FetchReply) else ()
    found = [target for result, target in zip(results, into, strict=False) if result.status == messages.FOUND]
    sizes = [result.size for result in results if result.status == messages.FOUND]
    if (
        len(results) != len(into)
        or [len(target) for target in found] != sizes
        or sum(sizes) != header.bulk_size
    ):
        raise RemoteProtocolError("a FETCH reply whose shares have other sizes than asked for")
    yield from found
