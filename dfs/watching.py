"""Files that tell how far each of them is, as they are read or written."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from dfs.core.getting import Sink
    from dfs.core.putting import Content
    from dfs.core.types import Entry


class Watch(Protocol):
    """Called with path, bytes of it done since, and bytes of it in all; from any thread."""

    def __call__(self, path: str, size: int, total_size: int, /) -> object:
        """So many more bytes of a file are under way."""


class WatchedContent:
    """Content to store that tells when it is read."""

    def __init__(self, inner: "Content", path: str, watch: Watch) -> None:
        self._inner: Final = inner
        self._tell: Final = _telling(watch, path, inner.size)
        self.size = inner.size
        self.mtime_ns = inner.mtime_ns
        self.mode = inner.mode

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill ``target`` from ``offset``, less only at the end."""
        count = self._inner.read_into(target, offset)
        self._tell(count)
        return count

    def md5(self) -> bytes:
        """Return the MD5 of all bytes."""
        return self._inner.md5()


class WatchedSink:
    """Where a file goes, telling when its bytes come."""

    def __init__(self, inner: "Sink", path: str, total_size: int, watch: Watch) -> None:
        self.inner: Final = inner
        self._tell: Final = _telling(watch, path, total_size)

    def write(self, offset: int, plain: memoryview) -> None:
        """Take verified bytes."""
        self.inner.write(offset, plain)
        self._tell(len(plain))

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill ``target`` with what an earlier try left."""
        return self.inner.read_into(target, offset)

    def finish(self, entry: "Entry") -> None:
        """All bytes are there."""
        self.inner.finish(entry)

    def abandon(self) -> bool:
        """They will not all come."""
        return self.inner.abandon()


def settle(sinks: "Sequence[Sink]") -> bool:
    """Make what many local files were given, watched or not, durable at once; False if it could not be."""
    from dfs.core.local import FileSink, settle as settle_files

    inner = [sink.inner if isinstance(sink, WatchedSink) else sink for sink in sinks]
    files = [sink for sink in inner if isinstance(sink, FileSink)]
    return settle_files(files) and len(files) == len(inner)


def _telling(watch: Watch, path: str, total_size: int | None) -> Callable[[int], object]:
    """Return what tells of one file; one of unknown size is not told of."""

    def tell(size: int) -> None:
        if total_size is not None:
            watch(path, size, total_size)

    return tell
