"""One request of a client over one connection: sent, then its reply taken in, in one go or bit by bit.

Who goes on with it is for others to decide (link.py); it must be one thread at a time.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeAlias

from dfs.core import limits, messages
from dfs.core.effects import Event, Send
from dfs.core.errors import DfsError, ProtocolError, RemoteProtocolError, TimedOutError, UnreachableError
from dfs.core.interface import Buffer, Env, Stream
from dfs.core.records import define
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

    ``owed``: an exchange whose reply nobody needs any more, but which comes before any other.
    """

    stream: Stream
    session: Session
    timeout_s: float
    owed: "Exchange | None" = None


@define(eq=False)
class Job:
    """One request on its way. ``post`` is called once, with the event that answers it.

    ``again``: it was sent before, over a connection that had ended. ``exchange``: it is under way, and who
    has the job goes on with it. ``direct``: that is who began it, no thread of the link.
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

    @property
    def expiry_s(self) -> float | None:
        """When patience ends, or the time to knock has come; None while there is no hurry."""
        if self.hurried_s is None:
            return None
        wait_s = limits.KNOCK_AFTER_S if self.knock else self.patience_s
        return max(self.hurried_s, self.progress_s) + wait_s


class Exchange:
    """A request and its reply. ``into``: see Send. ``job``: whose progress it is, None within a login.

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
        self._job = job
        self._env = env
        self._traffic = traffic
        self._before, connection.owed = connection.owed, None
        self._request = request
        self._unsent: Sequence[Buffer] = bulk
        self._encoded = False
        self._taking = self._take(into)
        self._target = next(self._taking)  # what the next bytes go into
        self._filled = 0
        self.begun_s: Final = env.monotonic_s()
        self._active_s = self.begun_s

    @property
    def deadline_s(self) -> float:
        """When the node has been silent for too long."""
        return self._active_s + self.connection.timeout_s

    @property
    def unsent_size(self) -> int:
        """Bytes still to send, as far as they are known."""
        return sum(len(memoryview(buffer)) for buffer in self._unsent)

    @property
    def is_sent(self) -> bool:
        """Whether the request is on its way."""
        return self._encoded and not self._unsent

    @property
    def owing(self) -> "Exchange | None":
        """Whose reply comes next over the connection."""
        return self if self._encoded else self._before

    def encode(self, *, wait: bool) -> bool:
        """Get ready to send; False when the reply that is owed before has not come."""
        if self._encoded:
            return True
        if self._before is not None:
            try:
                if wait:
                    self._before.answer()
                elif self._before.go_on() is None:
                    return False
            except (UnreachableError, TimedOutError, ProtocolError):
                raise
            except DfsError:
                pass  # a refusal that nobody needs to know
            self._before = None
        self._encoded = True
        self._unsent = (self.connection.session.ask(self._request, self._unsent), *self._unsent)
        return True

    def send(self, piece_size: int) -> None:
        """Send the request, so many bytes at a time that progress can be seen."""
        self.encode(wait=True)
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

    def answer(self) -> Told:
        """Wait for the reply."""
        while True:
            while self._filled < len(self._target):
                self._receive(self.deadline_s)
            if (told := self._next()) is not None:
                return told

    def go_on(self) -> Told | None:
        """Take in what is there of the reply; None: not all is."""
        while True:
            while self._filled < len(self._target):
                try:
                    self._receive(0.0)
                except TimedOutError:
                    return None
            if (told := self._next()) is not None:
                return told

    def _next(self) -> Told | None:
        """Begin with the next part of the reply; return the reply when there is none."""
        try:
            self._target = next(self._taking)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # what `_take` returns
        self._filled = 0
        return None

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
        self._active_s = self._env.monotonic_s()
        if self._job is not None:
            self._job.progress_s = self._active_s

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
