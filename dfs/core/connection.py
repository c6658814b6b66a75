"""One connection on the node's side: frames in, answers out, and no thread held while its peer is silent.

Whoever owns a connection gives it turns. A turn takes what has arrived, answers every whole frame and ends as
soon as nothing more comes; a half frame waits in the connection for the next turn. So a slow or hostile peer
costs some memory, little before its login, and no thread.
"""

import enum
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from dfs.core import limits, messages, wire
from dfs.core.conversation import Conversation, House
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
from dfs.core.wire import Header, Phase

SCRATCH_SIZE: Final = 256 * limits.KIB  # what is sent in one call; a thread has one such buffer
PIECE_SIZE: Final = 4 * limits.MIB  # of a file, sent within one deadline
STEPS_A_DOUBLING: Final = 8  # buffer sizes are rounded up by an eighth at most
BUFFER_SIZE_MIN: Final = 64 * limits.KIB
NOTHING: Final = memoryview(b"")
HELLO_CODE: Final = messages.CODES[messages.Hello]

log: Final = logging.getLogger("dfs")


class BufferPool:
    """All bulk buffers of a node: lent, taken back and lent again, never more than ``size_max`` bytes in all.

    Thread-safe. Nobody blocks: who comes when nothing is left is supplied later, in the order of coming.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._size = 0  # of all buffers, lent or free
        self._free: dict[int, list[bytearray]] = {}
        self._waiting: deque[tuple[int, Callable[[memoryview], None]]] = deque()
        self._lock = threading.Lock()

    def take(self, size: int, supply: Callable[[memoryview], None]) -> memoryview | None:
        """Return ``size`` bytes, or None: then ``supply`` is called with them once they are free."""
        with self._lock:
            buffer = None if self._waiting else self._find(size)
            if buffer is None:
                self._waiting.append((size, supply))
            return buffer

    def give(self, buffer: memoryview) -> None:
        """Take back what `take` or ``supply`` gave; nobody may use it any more."""
        whole = buffer.obj
        assert isinstance(whole, bytearray)
        supplied = []
        with self._lock:
            self._free.setdefault(len(whole), []).append(whole)
            while self._waiting and (found := self._find(self._waiting[0][0])) is not None:
                supplied.append((self._waiting.popleft()[1], found))
        for supply, found in supplied:
            supply(found)

    def _find(self, size: int) -> memoryview | None:
        whole_size = _rounded(size)
        if kept := self._free.get(whole_size):
            return memoryview(kept.pop())[:size]
        while self._size + whole_size > self._size_max:
            largest = max((size for size, kept in self._free.items() if kept), default=0)
            if largest == 0:
                return None
            self._free[largest].pop()
            self._size -= largest
        self._size += whole_size
        return memoryview(bytearray(whole_size))[:size]


def _rounded(size: int) -> int:
    step = max(BUFFER_SIZE_MIN, (1 << (size - 1).bit_length()) // (2 * STEPS_A_DOUBLING))
    return -(-size // step) * step


class Turn(enum.Enum):
    """How a turn ended."""

    PARKED = "nothing more came; the next turn is due when something does"
    AGAIN = "more is there, but others wait for the thread"
    STARVED = "it waits for a buffer; `resume` is called when it has one"
    CLOSED = "it is over"


class Connection:
    """A stream and how far it has come. One owner at a time: only `abort` may be called by others.

    ``crowded``: whether others wait for this thread. ``resume``: gives the next turn after STARVED.
    """

    def __init__(
        self,
        stream: Stream,
        house: House,
        env: Env,
        buffers: BufferPool,
        crowded: Callable[[], bool],
        resume: Callable[["Connection"], None],
    ) -> None:
        self.stream: Final = stream
        self._house = house
        self._env = env
        self._buffers = buffers
        self._crowded = crowded
        self._resume = resume
        self._conversation: Conversation | None = None
        self._opened_s = self._active_s = env.monotonic_s()
        self._head = memoryview(bytearray(limits.HEADER_SIZE))
        self._header: Header | None = None
        self._control = NOTHING
        self._bulk = NOTHING
        self._target = self._head  # what the next bytes go into
        self._filled_size = 0

    @property
    def deadline_s(self) -> float:
        """When to give it up unless it goes on."""
        if self._conversation is None:
            return self._opened_s + limits.HANDSHAKE_TIMEOUT_S
        if self._conversation.session.phase is not Phase.AUTHENTICATED:
            return self._opened_s + limits.LOGIN_TIMEOUT_S
        silent = self._header is None and self._filled_size == 0
        return self._active_s + (limits.IDLE_TIMEOUT_S if silent else limits.REQUEST_TIMEOUT_S)

    def turn(self, patience_s: float, scratch: memoryview) -> Turn:
        """Serve what has come, waiting ``patience_s`` for more unless the thread is wanted elsewhere.

        ``scratch``: the thread's own buffer of SCRATCH_SIZE bytes.
        """
        try:
            return self._serve(patience_s, scratch)
        except (LocalProtocolError, InvariantError, CorruptShareError) as error:
            log.exception("%s: connection closed: %s", self.stream.peer, error.what)
        except DfsError as error:
            log.debug("%s: connection closed: %s", self.stream.peer, error)
        except Exception:
            log.exception("%s: connection closed", self.stream.peer)
        self.close()
        return Turn.CLOSED

    def abort(self) -> None:
        """End it from any thread; its owner notices."""
        self.stream.close()

    def close(self) -> None:
        """End it."""
        self.stream.close()
        self._next_frame()

    # Receiving

    def _serve(self, patience_s: float, scratch: memoryview) -> Turn:
        conversation = self._conversation
        if conversation is None:
            conversation = self._greet(patience_s)
            if conversation is None:
                return Turn.PARKED
        while True:
            turn = self._receive(conversation, patience_s)
            if turn is not None:
                return turn
            if not self._answer(conversation, scratch):
                self.close()
                return Turn.CLOSED
            if self._crowded():
                return Turn.AGAIN if self.stream.pending() else Turn.PARKED

    def _greet(self, patience_s: float) -> Conversation | None:
        """Go on with the transport's handshake; None while the peer is silent."""
        try:
            self.stream.handshake(self._env.monotonic_s() + patience_s)
        except TimedOutError:
            return None
        self._conversation = Conversation(self._house, self._env, self.stream.channel_binding)
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
                bulk = self._buffers.take(header.bulk_size, self._supply)
                if bulk is None:
                    return Turn.STARVED
                self._bulk = self._aim(bulk)
            else:
                return None
        return Turn.PARKED

    def _fill(self, patience_s: float) -> bool:
        """Receive until the target is full; False when nothing came in time."""
        while self._filled_size < len(self._target):
            now_s = self._env.monotonic_s()
            deadline_s = now_s if self._crowded() else now_s + patience_s
            try:
                size = self.stream.receive_into(self._target[self._filled_size :], deadline_s)
            except TimedOutError:
                return False
            if size == 0:
                raise UnreachableError(f"{self.stream.peer} ended the connection")
            self._filled_size += size
            self._active_s = now_s
        return True

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
        if bulk is not NOTHING:
            self._buffers.give(bulk)

    # Answering

    def _answer(self, conversation: Conversation, scratch: memoryview) -> bool:
        """Answer the frame; False when that was the last answer of this connection."""
        header = self._header
        assert header is not None
        try:
            answer = conversation.answer(header, bytes(self._control), self._bulk)
        except DfsError as error:
            if isinstance(error, (LocalProtocolError, InvariantError)):
                log.exception("%s: a request failed: %s", self.stream.peer, error.what)
            self._refuse(error)
            if isinstance(error, RemoteProtocolError):
                raise
            self._next_frame()
            return True
        self._next_frame()  # before the reply: a buffer is not held while a slow peer reads
        try:
            self._reply(conversation, header, answer, scratch)
        finally:
            for share in answer.shares:
                share.close()
        self._active_s = self._env.monotonic_s()
        return not answer.last

    def _refuse(self, error: DfsError) -> None:
        code, request_id = (self._header.code, self._header.request_id) if self._header else (HELLO_CODE, 0)
        self.stream.send([wire.encode_error(code, request_id, error)], self._deadline_s())

    def _reply(self, conversation: Conversation, header: Header, answer: Answer, scratch: memoryview) -> None:
        code, request_id, reply, bulk = header.code, header.request_id, answer.reply, answer.bulk
        if isinstance(reply, messages.FetchReply):
            head = wire.encode_fetch_reply(request_id, reply, conversation.mark)
            self._send_shares(head, answer.shares, scratch)
            return
        try:
            head = wire.encode_reply(code, request_id, reply, conversation.mark, bulk)
        except LocalProtocolError as error:  # it does not fit a frame: the peer may ask for less at a time
            log.exception("%s: a reply failed", self.stream.peer)
            head, bulk = wire.encode_error(code, request_id, error), ()
        self.stream.send([head, *bulk], self._deadline_s())

    def _send_shares(self, head: bytes, shares: Sequence[ShareSlice], scratch: memoryview) -> None:
        """Send a head and shares, small ones together, large ones from their file if the stream can."""
        scratch[: len(head)] = head
        used_size = len(head)
        for share in shares:
            place = share.file_range if self.stream.can_send_file else None
            if place is not None:
                self.stream.send([scratch[:used_size]], self._deadline_s())
                used_size = 0
                self._send_file(*place, share.size)
                continue
            offset = 0
            while offset < share.size:
                if used_size == len(scratch):
                    self.stream.send([scratch], self._deadline_s())
                    used_size = 0
                size = share.read_into(scratch[used_size : used_size + share.size - offset], offset)
                if size == 0:
                    raise CorruptShareError("a stored share is shorter than its row says")
                offset += size
                used_size += size
        if used_size:
            self.stream.send([scratch[:used_size]], self._deadline_s())

    def _send_file(self, descriptor: int, offset: int, size: int) -> None:
        for start in range(0, size, PIECE_SIZE):
            piece_size = min(PIECE_SIZE, size - start)
            self.stream.send_file(descriptor, offset + start, piece_size, self._deadline_s())

    def _deadline_s(self) -> float:
        return self._env.monotonic_s() + limits.REQUEST_TIMEOUT_S
