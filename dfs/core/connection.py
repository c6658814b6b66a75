"""One connection on the node's side: frames in, answers out, and no thread held while its peer is silent.

Whoever owns a connection gives it turns. A turn takes what has arrived, answers every whole frame and ends as
soon as nothing more comes or the peer does not read; half a frame, or half an answer, waits in the connection
for the next turn. So a slow or hostile peer costs some memory, little before its login, and no thread. Frames
must go on at a least rate in both directions.
"""

import enum
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias

from dfs.core import limits, messages, wire
from dfs.core.buffers import BufferPool
from dfs.core.conversation import Conversation, House
from dfs.core.door import Door, address_of
from dfs.core.errors import (
    CorruptShareError,
    DfsError,
    InvariantError,
    LocalProtocolError,
    RemoteProtocolError,
    TimedOutError,
    UnreachableError,
)
from dfs.core.interface import Env, ShareSlice, Stream
from dfs.core.node import Answer
from dfs.core.tally import Tally
from dfs.core.wire import Header, Phase

SCRATCH_SIZE: Final = 256 * limits.KIB  # what is sent in one call; a thread has one such buffer
NOTHING: Final = memoryview(b"")
HELLO_CODE: Final = messages.CODES[messages.Hello]

Sends: TypeAlias = Generator[Callable[[float], None], None, None]  # calls that send; each takes its deadline

log: Final = logging.getLogger("dfs")


class Turn(enum.Enum):
    """How a turn ended."""

    PARKED = "nothing more came; the next turn is due when something does"
    AGAIN = "more is there, but others wait for the thread"
    STARVED = "it waits for a buffer; `resume` is called when it has one"
    CLOSED = "it is over"


class Connection:
    """A stream and how far it has come. One owner at a time: only `abort` may be called by others.

    ``crowded``: whether others wait for this thread. ``resume``: gives the next turn after STARVED.
    ``refusal``: why it is one too many: the only answer it gets, then it ends.
    """

    def __init__(
        self,
        stream: Stream,
        house: House,
        env: Env,
        buffers: BufferPool,
        crowded: Callable[[], bool],
        resume: Callable[["Connection"], None],
        *,
        door: Door | None = None,
        refusal: DfsError | None = None,
    ) -> None:
        self.stream: Final = stream
        self.refusal: Final = refusal
        self.tally: Final = Tally()
        self._house = house
        self._env = env
        self._buffers = buffers
        self._crowded = crowded
        self._resume = resume
        self._door = door or Door()
        self._conversation: Conversation | None = None
        self._opened_s = self._active_s = env.monotonic_s()
        self._due_s = 0.0  # when a half frame, or a half answer, must have gone on
        self._held_s: float | None = None  # since when it waits for us, not for its peer
        self._scratch = NOTHING  # of the thread whose turn it is
        self._head = memoryview(bytearray(limits.HEADER_SIZE))
        self._header: Header | None = None
        self._control = NOTHING
        self._bulk = NOTHING
        self._target = self._head  # what the next bytes go into
        self._filled_size = 0
        self._sending: Sends | None = None
        self._kept_size = 0  # of an answer that the peer does not read
        self._from_file = False  # whether what is being sent takes no memory
        self._last = False  # nothing is taken in any more

    @property
    def deadline_s(self) -> float:
        """When to give it up unless it goes on."""
        if self._conversation is None or self.refusal is not None:
            return self._opened_s + limits.HANDSHAKE_TIMEOUT_S
        if self._conversation.session.phase is not Phase.AUTHENTICATED:
            return self._opened_s + limits.LOGIN_TIMEOUT_S
        if self._sending is None and self._header is None and self._filled_size == 0:
            return self._active_s + limits.IDLE_TIMEOUT_S
        return self._due_s

    @property
    def waits_to_send(self) -> bool:
        """Whether the next turn is due when the peer reads, and not when it sends."""
        return self._sending is not None

    def hold(self) -> None:
        """Note that it waits for us from now on, until its next turn: that is not its peer's fault."""
        if self._held_s is None:
            self._held_s = self._env.monotonic_s()

    def turn(self, patience_s: float, scratch: memoryview) -> Turn:
        """Serve what has come, waiting ``patience_s`` for more unless the thread is wanted elsewhere.

        ``scratch``: the thread's own buffer of SCRATCH_SIZE bytes.
        """
        self._scratch = scratch
        try:
            self._catch_up()
            turn = self._serve(patience_s)
        except (LocalProtocolError, InvariantError, CorruptShareError) as error:
            log.exception("%s: connection closed: %s", self.stream.peer, error.what)
        except DfsError as error:
            log.debug("%s: connection closed: %s", self.stream.peer, error)
        except Exception:
            log.exception("%s: connection closed", self.stream.peer)
        else:
            if turn is not Turn.CLOSED:
                return turn
        self.close()
        return Turn.CLOSED

    def abort(self) -> None:
        """End it from any thread; its owner notices."""
        self.stream.close()

    def close(self) -> None:
        """End it."""
        self.stream.close()
        self._next_frame()
        if self._sending is not None:
            self._sending.close()
            self._sending = None
        self._keep_unsent(0)
        if self._conversation is not None:
            self._conversation.leave()

    def _catch_up(self) -> None:
        """Leave out of account how long it waited for us. Raises: TimedOutError: overdue all the same."""
        now_s = self._env.monotonic_s()
        if self._held_s is not None:
            waited_s = now_s - self._held_s
            self._held_s = None
            self._due_s += waited_s
            self._opened_s += waited_s
        conversation = self._conversation
        inside = conversation is not None and conversation.session.phase is Phase.AUTHENTICATED
        if not inside and now_s > self.deadline_s:  # however it dribbles: who watches sees only silent ones
            raise TimedOutError(f"{self.stream.peer} did not log in in time")

    # Receiving

    def _serve(self, patience_s: float) -> Turn:
        conversation = self._conversation
        if conversation is None:
            conversation = self._greet(patience_s)
            if conversation is None:
                return Turn.PARKED
        if not self._sent(patience_s):
            return Turn.PARKED
        while not self._last:
            turn = self._receive(conversation, patience_s)
            if turn is not None:
                return turn
            self._answer(conversation)
            if not self._sent(patience_s):
                return Turn.PARKED
            if self._crowded() and not self._last:
                return Turn.AGAIN if self.stream.pending() else Turn.PARKED
        return Turn.CLOSED

    def _greet(self, patience_s: float) -> Conversation | None:
        """Go on with the transport's handshake; None while the peer is silent."""
        try:
            self.stream.handshake(self._env.monotonic_s() + patience_s)
        except TimedOutError:
            return None
        address = address_of(self.stream.peer)
        binding = self.stream.channel_binding
        self._conversation = Conversation(self._house, self._env, binding, address, self._door)
        return self._conversation

    def _receive(self, conversation: Conversation, patience_s: float) -> Turn | None:
        """Take in the rest of a frame; None when it is whole."""
        while self._fill(patience_s):
            header = self._header
            if header is None:
                try:
                    self._header = header = wire.decode_header(self._head)
                    conversation.session.expect(header)
                except RemoteProtocolError as error:
                    self._refuse(error)
                    raise
                self._control = self._aim(memoryview(bytearray(header.control_size)))
            elif header.bulk_size > len(self._bulk):
                self.hold()  # before it is asked for: another thread may go on at once
                bulk = self._buffers.take(header.bulk_size, conversation.user, self._supply)
                if bulk is None:
                    return Turn.STARVED
                self._held_s = None
                self._bulk = self._aim(bulk)
            else:
                return None
        return Turn.PARKED

    def _fill(self, patience_s: float) -> bool:
        """Receive until the target is full; False when nothing came in time."""
        while self._filled_size < len(self._target):
            now_s = self._env.monotonic_s()
            begun = self._header is not None or self._filled_size > 0
            if begun and now_s > self._due_s:
                raise TimedOutError(f"{self.stream.peer} sends too slowly")
            deadline_s = now_s if self._crowded() else now_s + patience_s
            try:
                size = self.stream.receive_into(self._target[self._filled_size :], deadline_s)
            except TimedOutError:
                return False
            if size == 0:
                raise UnreachableError(f"{self.stream.peer} ended the connection")
            self._filled_size += size
            self._active_s = now_s
            if begun:
                self._progressed(size, now_s)
            else:
                self._due_s = now_s + limits.PROGRESS_S
        return True

    def _progressed(self, size: int, now_s: float) -> None:
        """Give a frame as much more time as these bytes may take at the least rate, up to what it had."""
        self._due_s = min(now_s + limits.PROGRESS_S, self._due_s + size / limits.PROGRESS_RATE)

    def _aim(self, target: memoryview) -> memoryview:
        self._target = target
        self._filled_size = 0
        return target

    def _supply(self, bulk: memoryview) -> None:
        """Go on with a buffer that became free; called by the thread that freed it."""
        self._bulk = self._aim(bulk)
        self._resume(self)

    def _next_frame(self) -> None:
        self._aim(self._head)
        self._header = None
        self._control = NOTHING
        bulk, self._bulk = self._bulk, NOTHING
        if bulk is not NOTHING and self._conversation is not None:
            self._buffers.give(bulk, self._conversation.user)

    # Answering

    def _answer(self, conversation: Conversation) -> None:
        """Answer the frame: what is to be said is sent afterwards."""
        header = self._header
        assert header is not None
        self.tally.asked(header.code, limits.HEADER_SIZE + header.control_size + header.bulk_size)
        try:
            if self.refusal is not None:
                self._last = True
                raise self.refusal
            answer = conversation.answer(header, bytes(self._control), self._bulk)
        except DfsError as error:
            self.tally.failed(type(error).__name__)
            if isinstance(error, (LocalProtocolError, InvariantError)):
                log.exception("%s: a request failed: %s", self.stream.peer, error.what)
            if isinstance(error, RemoteProtocolError):
                self._refuse(error)
                raise
            frame = wire.encode_error(header.code, header.request_id, error)
            self._sending = self._say(frame)
        else:
            self._last = answer.last
            self._sending = self._reply(conversation, header, answer)
        self._next_frame()  # before the reply: a buffer is not held while a slow peer reads

    def _say(self, frame: bytes) -> Sends:
        self.tally.sent_size += len(frame)
        yield partial(self.stream.send, [frame])

    def _refuse(self, error: DfsError) -> None:
        """Say a last word, if the peer reads it now."""
        code, request_id = (self._header.code, self._header.request_id) if self._header else (HELLO_CODE, 0)
        with suppress(TimedOutError):
            self.stream.send([wire.encode_error(code, request_id, error)], self._env.monotonic_s())

    def _sent(self, patience_s: float) -> bool:
        """Go on sending; False while the peer does not read.

        Raises: TimedOutError: it reads too slowly, or leaves too much unread.
        """
        if self._sending is None:
            return True
        before = self.stream.unsent_size
        try:
            if before:
                self.stream.send((), self._until_s(patience_s))
            for send in self._sending:
                before = 0
                self._due_s = self._env.monotonic_s() + limits.PROGRESS_S
                send(self._until_s(patience_s))
        except TimedOutError:
            now_s, left_size = self._env.monotonic_s(), self.stream.unsent_size
            if before:
                self._progressed(before - left_size, now_s)
            if now_s > self._due_s:
                raise TimedOutError(f"{self.stream.peer} reads too slowly") from None
            self._keep_unsent(0 if self._from_file else left_size)
            return False
        self._sending = None
        self._keep_unsent(0)
        self._active_s = self._env.monotonic_s()
        return True

    def _until_s(self, patience_s: float) -> float:
        now_s = self._env.monotonic_s()
        return now_s if self._crowded() else now_s + patience_s

    def _keep_unsent(self, size: int) -> None:
        """Count what is kept of an answer that the peer does not read. Raises: TimedOutError: too much."""
        user = "" if self._conversation is None else self._conversation.user
        if self._kept_size:
            self._door.unsent.give(user, self._kept_size)
        self._kept_size = size if size and self._door.unsent.take(user, size) else 0
        if self._kept_size != size:
            raise TimedOutError(f"{self.stream.peer} leaves too many answers unread")

    def _reply(self, conversation: Conversation, header: Header, answer: Answer) -> Sends:
        """Yield the calls that send an answer; each takes its deadline. The last one closes the shares."""
        code, request_id, reply, bulk = header.code, header.request_id, answer.reply, answer.bulk
        if isinstance(reply, messages.FetchReply):
            head = wire.encode_fetch_reply(request_id, reply, conversation.mark)
            self.tally.sent_size += len(head) + sum(share.size for share in answer.shares)
            try:
                yield from self._shares(head, answer.shares)
            finally:
                for share in answer.shares:
                    share.close()
            return
        try:
            head = wire.encode_reply(code, request_id, reply, conversation.mark, bulk)
        except LocalProtocolError as error:  # it does not fit a frame: the peer may ask for less at a time
            log.exception("%s: a reply failed", self.stream.peer)
            head, bulk = wire.encode_error(code, request_id, error), ()
        self.tally.sent_size += len(head) + sum(map(len, bulk))
        yield partial(self.stream.send, [head, *bulk])

    def _shares(self, head: bytes, shares: Sequence[ShareSlice]) -> Sends:
        """Send a head and shares, small ones together, large ones from their file if the stream can.

        Between two calls the turn may have gone to another thread, with a scratch buffer of its own.
        """
        scratch = self._scratch
        scratch[: len(head)] = head
        used_size = len(head)
        for share in shares:
            place = share.file_range if self.stream.can_send_file else None
            if place is not None:
                yield partial(self.stream.send, [scratch[:used_size]])
                self._from_file = True
                yield partial(self.stream.send_file, *place, share.size)
                self._from_file = False
                scratch, used_size = self._scratch, 0
                continue
            offset = 0
            while offset < share.size:
                if used_size == len(scratch):
                    yield partial(self.stream.send, [scratch])
                    scratch, used_size = self._scratch, 0
                size = share.read_into(scratch[used_size : used_size + share.size - offset], offset)
                if size == 0:
                    raise CorruptShareError("a stored share is shorter than its row says")
                offset += size
                used_size += size
        if used_size:
            yield partial(self.stream.send, [scratch[:used_size]])
