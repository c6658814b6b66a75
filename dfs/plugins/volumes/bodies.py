"""What a vault wants of whoever keeps the bytes of its larger shares, in volume files or in a bucket."""

import errno
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from dfs.core.api import Buffer, ShareKey, ShareSlice, StoreError

from .rows import Dropped, Place, Rows, StagedShare

FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@frozen
class Damage:
    """Rows of a volume whose bytes cannot be there: another generation, or behind ``end``."""

    volume: int
    generation: int
    end: int


class Bodies(Protocol):
    """The bytes of larger shares. Thread-safe; rows alone tell which of them mean something.

    OSError and StoreError escape where a caller can still refuse (`stage`, `sync`); after a commit nothing is
    raised any more.
    """

    @property
    def lock(self) -> threading.Lock:
        """Orders opening a share against collecting it."""

    @property
    def outage(self) -> str | None:
        """Why nothing can be staged for now; None while it can."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be given back that a start would have to look for."""

    def start(self, rows: Rows, *, settled: bool) -> Sequence[Damage]:
        """Take over what is there and return what is damaged. ``settled``: it was, at the end."""

    def room(self, free_size: int) -> int:
        """Return how many bytes find room while the disk has ``free_size`` left."""

    def shed(self) -> None:
        """Give back what is kept for convenience: there is no room for it."""

    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> StagedShare:
        """Write verified bytes."""

    def sync(self, shares: Iterable[StagedShare]) -> None:
        """Make the bytes of staged shares durable."""

    def committed(self, kept: Iterable[StagedShare], dropped: Iterable[Dropped]) -> None:
        """Take over what a commit made true: rows of ``kept``, none any more for ``dropped``."""

    def open_slice(self, key: ShareKey, checksum: bytes, place: Place) -> ShareSlice:
        """Open a share whose row was read under ``lock``, which is still held."""

    def close(self, *, cut: bool) -> None:
        """Let go of everything. ``cut``: in order, so what is kept for convenience can be given back."""


Fail: TypeAlias = Callable[[str], StoreError]  # makes the vault read-only for good, and returns what to raise
MakeBodies: TypeAlias = Callable[[bytes, Fail], Bodies]  # of the vault with this id
