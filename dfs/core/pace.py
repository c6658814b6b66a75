"""Limits of rate: a transport whose connections share so many bytes a second, for each direction.

Every transfer books its bytes and waits for its turn, so that connections get equal parts and the sum keeps
to the rate, whatever their number. Bytes go in small pieces: a node that is being sent to always sees
progress, and so does who watches over slow nodes.
"""

import threading
from collections.abc import Sequence
from typing import Final

from dfs.core import limits
from dfs.core.interface import Buffer, Env, Listener, Stream, Transport

PIECES_PER_S: Final = 64  # so that even dozens of connections have their turn within a second
PIECE_SIZE_MIN: Final = 1 * limits.KIB


class Pace:
    """So many bytes a second, shared by all who book; ``rate`` None: no limit. Thread-safe."""

    def __init__(self, rate: int | None, env: Env) -> None:
        self._rate: Final = rate
        self._env: Final = env
        self._lock: Final = threading.Lock()
        self._free_s = 0.0  # when all that was booked is through

    @property
    def piece_size(self) -> int:
        """Bytes to book at once, at most."""
        return limits.BULK_SIZE_MAX if self._rate is None else max(PIECE_SIZE_MIN, self._rate // PIECES_PER_S)

    def book(self, size: int) -> float:
        """Take the next turn for ``size`` bytes and return how many seconds to wait for it."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now_s = self._env.monotonic_s()
            turn_s = max(now_s, self._free_s)
            self._free_s = turn_s + size / self._rate
            return turn_s - now_s

    def wait_s(self) -> float:
        """Return how many seconds it is until all that was booked is through."""
        with self._lock:
            return max(0.0, self._free_s - self._env.monotonic_s())


class PacedStream:
    """A stream that takes its turns. What it does not do itself the stream inside does."""

    def __init__(self, inner: Stream, up: Pace, down: Pace) -> None:
        self._inner: Final = inner
        self._up: Final = up
        self._down: Final = down
        self._closed: Final = threading.Event()

    @property
    def can_send_file(self) -> bool:
        return self._inner.can_send_file

    @property
    def peer(self) -> str:
        return self._inner.peer

    @property
    def channel_binding(self) -> bytes:
        return self._inner.channel_binding

    @property
    def unsent_size(self) -> int:
        return self._inner.unsent_size

    def fileno(self) -> int:
        return self._inner.fileno()

    def pending(self) -> int:
        return self._inner.pending()

    def handshake(self, deadline_s: float) -> None:
        self._inner.handshake(deadline_s)

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        """Wait for the turn of all these bytes, then send them; the wait does not count to the deadline."""
        wait_s = self._up.book(sum(len(memoryview(buffer)) for buffer in buffers))
        self._closed.wait(wait_s)
        self._inner.send(buffers, deadline_s + wait_s)

    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        """Wait for the turn of all these bytes, then send them."""
        wait_s = self._up.book(size)
        self._closed.wait(wait_s)
        self._inner.send_file(descriptor, offset, size, deadline_s + wait_s)

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        """Receive a piece when those before are through; the wait does not count to the deadline."""
        wait_s = self._down.wait_s()
        self._closed.wait(wait_s)
        count = self._inner.receive_into(target[: self._down.piece_size], deadline_s + wait_s)
        self._down.book(count)
        return count

    def close(self) -> None:
        self._closed.set()
        self._inner.close()


class PacedTransport:
    """A transport whose connections keep to a pace together with those of others that have it."""

    def __init__(self, inner: Transport, up: Pace, down: Pace) -> None:
        self._inner: Final = inner
        self._up: Final = up
        self._down: Final = down

    @property
    def confidential(self) -> bool:
        return self._inner.confidential

    @property
    def piece_size(self) -> int:
        """Bytes to send at once, at most."""
        return self._up.piece_size

    def connect(self, address: str, deadline_s: float) -> Stream:
        return PacedStream(self._inner.connect(address, deadline_s), self._up, self._down)

    def listen(self, address: str) -> Listener:
        return self._inner.listen(address)


def piece_size(transport: Transport, usual: int) -> int:
    """Return how many bytes to send at once over a transport."""
    return min(usual, transport.piece_size) if isinstance(transport, PacedTransport) else usual
