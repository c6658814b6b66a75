"""Remote files as Python's own file objects for reading: any part, in any order, fetched when it is read."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dfs.core import limits

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

WINDOW_SIZE: Final = limits.CHUNK_SIZE  # fetched together and kept: a chunk of the default chunker


class RemoteFile(io.RawIOBase):
    """A remote file of so many bytes; ``fetch`` returns a part of it, by offset and size.

    The window around the place that was read last is kept, so that small reads do not fetch it again.
    """

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self.name: Final = name
        self._size: Final = size
        self._fetch: Final = fetch
        self._position = 0
        self._window = b""
        self._window_start = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        self._require_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an offset from the beginning, from here or from the end; behind the end there is nothing."""
        self._require_open()
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if whence not in bases or bases[whence] + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._position = bases[whence] + offset
        return self._position

    def readinto(self, target: "WriteableBuffer", /) -> int:
        """Fill a buffer, at most to the end of the window; 0 at the end of the file. Raises: DfsError."""
        self._require_open()
        view = memoryview(target).cast("B")
        if self._position >= self._size or not view:
            return 0
        start = self._position - self._position % WINDOW_SIZE
        if not self._window or start != self._window_start:
            self._window = self._fetch(start, min(WINDOW_SIZE, self._size - start))
            self._window_start = start
        inside = self._position - start
        piece = self._window[inside : inside + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def readall(self) -> bytes:
        """Return all that is left, fetched at once. Raises: DfsError."""
        self._require_open()
        left = self._size - self._position
        if left <= 0:
            return b""
        rest = self._fetch(self._position, left)
        self._position += left
        return rest

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")
