"""The door to a bucket: a handful of requests, each bounded in time, and what their failures mean.

Requests that may help are tried again by the library, a bounded number of times. What then still fails stands
for all: until a probe finds that the bucket answers again, nothing is written, so that nobody waits in line
for the same failure. A failed read stops no other read.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from dfs.core.api import Buffer, ConfigError, NotFoundError, StoreError

from .options import NAME, BucketOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

TIMEOUT: Final = timedelta(seconds=30)  # of one request, from its first byte to its last
CONNECT_TIMEOUT: Final = timedelta(seconds=5)
RETRY_COUNT_MAX: Final = 3
RETRY_S_MAX: Final = 60  # after which nothing is tried again
DELETE_COUNT_MAX: Final = 1000  # objects of one request, as S3 has it
LIST_COUNT_MAX: Final = 1000
PROBE_NAME: Final = ".node/probe"
REASON_SIZE_MAX: Final = 160
SIGNED: Final = re.compile(r"\?\S+")


class Bucket(Protocol):
    """A folder of a bucket. Thread-safe. Names are relative, parts of them are divided by slashes."""

    @property
    def url(self) -> str:
        """What people call it."""

    @property
    def outage(self) -> str | None:
        """Why nothing can be written for now; None while it can."""

    def put(self, name: str, body: Buffer) -> None:
        """Make or replace an object: durable on return. Raises: StoreError."""

    def get(self, name: str, start: int = 0, end: int | None = None) -> Buffer:
        """Return the bytes of an object, or those of a range that is not empty, as far as it goes.

        Raises: NotFoundError: no such object. StoreError: not known.
        """

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; missing ones are fine. Raises: StoreError."""

    def names(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield name and size of all objects below a folder, in no order. Raises: StoreError."""

    def folders(self) -> Sequence[str]:
        """Return the folders that are not empty. Raises: StoreError."""

    def probe(self) -> None:
        """Find out whether the bucket takes and gives objects. Raises: StoreError: it does not."""


class ObjectBucket:
    """A bucket behind the library obstore, or what stands in its place (``library``)."""

    def __init__(self, store: "ObjectStore", url: str, library: Any = None) -> None:  # noqa: ANN401 - a module
        import obstore
        from obstore.exceptions import BaseError

        self.url: Final = url
        self.outage: str | None = None
        self._obstore: Final = library or obstore
        self._store: Final = store
        # Of the library, of a local folder, and of names it does not like.
        self._failures: Final = (BaseError, OSError, ValueError)

    def put(self, name: str, body: Buffer) -> None:
        """Make or replace an object, by one request."""
        if self.outage is not None:
            raise StoreError(self.outage, next_step="The node goes on by itself once the bucket answers.")
        self._put(name, body)

    def _put(self, name: str, body: Buffer) -> None:
        try:
            # The library may hold on to what it was given, and whoever stages a share reuses the buffer.
            self._obstore.put(self._store, name, bytes(body), use_multipart=False)
        except self._failures as problem:
            error = self._error(f"{name} cannot be written", problem)
            self.outage = error.what
            raise error from None

    def get(self, name: str, start: int = 0, end: int | None = None) -> Buffer:
        """Return the bytes of an object or a range of it."""
        try:
            if end is None:
                return memoryview(self._obstore.get(self._store, name).bytes())
            return memoryview(self._obstore.get_range(self._store, name, start=start, end=end))
        except FileNotFoundError:
            raise NotFoundError(f"{self.url} has no object {name}") from None
        except self._failures as problem:
            if end is not None and self._ends_before(name, start):
                return memoryview(b"")
            raise self._error(f"{name} cannot be read", problem) from None

    def _ends_before(self, name: str, start: int) -> bool:
        """Whether a range was refused because there is nothing in it; kinds say that in different ways."""
        try:
            return bool(self._obstore.head(self._store, name)["size"] <= start)
        except self._failures:
            return False

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, as many at once as the bucket's kind can."""
        for first in range(0, len(names), DELETE_COUNT_MAX):
            some = list(names[first : first + DELETE_COUNT_MAX])
            try:
                self._obstore.delete(self._store, some)
            except FileNotFoundError:  # said of one of them by some kinds; of the others nothing is known
                self._delete_each(some)
            except self._failures as problem:
                raise self._error(f"{some[0]} cannot be removed", problem) from None

    def _delete_each(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                self._obstore.delete(self._store, name)
            except FileNotFoundError:
                continue
            except self._failures as problem:
                raise self._error(f"{name} cannot be removed", problem) from None

    def names(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield name and size of all objects below a folder, a request for each thousand."""
        try:
            for some in self._obstore.list(self._store, folder, chunk_size=LIST_COUNT_MAX):
                yield from ((each["path"], each["size"]) for each in some)
        except FileNotFoundError:
            return
        except self._failures as problem:
            raise self._error(f"{folder} cannot be listed", problem) from None

    def folders(self) -> Sequence[str]:
        """Return the folders that are not empty."""
        try:
            return list(self._obstore.list_with_delimiter(self._store)["common_prefixes"])
        except FileNotFoundError:
            return ()
        except self._failures as problem:
            raise self._error("it cannot be listed", problem) from None

    def probe(self) -> None:
        """Write and read a small object."""
        self._put(PROBE_NAME, b"dfs")
        self.get(PROBE_NAME)
        self.outage = None

    def _error(self, what: str, problem: Exception) -> StoreError:
        """Return what to raise: the library's first line, without the page a server sent.

        Without the end of addresses, too: some kinds sign there.
        """
        lines = str(problem).splitlines() or [type(problem).__name__]
        reason = SIGNED.sub("", lines[0].partition(": <")[0]).strip()
        if len(reason) > REASON_SIZE_MAX:
            reason = f"{reason[:REASON_SIZE_MAX]}…"
        return StoreError(f"the bucket {self.url}: {what}: {reason}", next_step=self._advice(problem))

    def _advice(self, problem: Exception) -> str:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        if isinstance(problem, PermissionDeniedError | UnauthenticatedError):
            return "Give the node credentials in its environment that may read, write, list and delete there."
        if isinstance(problem, FileNotFoundError):
            return "Make the bucket, or mend url in [plugin.bucket]."
        return "Look whether the bucket can be reached; the node goes on by itself once it answers."


def open_bucket(options: BucketOptions) -> ObjectBucket:
    """Return the door to a bucket; no request is made yet. Raises: ConfigError."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url
    except ImportError:
        raise ConfigError(
            f"plugin {NAME} needs the package obstore",
            next_step="Install it: pip install 'dfs[objectstore]'.",
        ) from None
    if options.url.startswith("file:"):
        return ObjectBucket(LocalStore(options.url.removeprefix("file://"), mkdir=True), options.url)
    config: Any = {"endpoint": options.endpoint, "region": options.region}
    config = {key: value for key, value in config.items() if value is not None}
    plain = options.endpoint is not None and options.endpoint.startswith("http:")
    try:
        store = from_url(
            options.url,
            config=config,
            client_options={"timeout": TIMEOUT, "connect_timeout": CONNECT_TIMEOUT, "allow_http": plain},
            retry_config={"max_retries": RETRY_COUNT_MAX, "retry_timeout": timedelta(seconds=RETRY_S_MAX)},
        )
    except (BaseError, ValueError) as problem:
        reason = (str(problem).splitlines() or [""])[0]
        raise ConfigError(f"plugin {NAME}: {options.url} cannot be opened: {reason}") from None
    return ObjectBucket(store, options.url)
