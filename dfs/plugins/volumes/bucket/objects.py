"""The larger shares of a vault as objects of a bucket, one a share.

An object is written once, when its share is staged, and never changed: its name has a random part, so a share
that comes again is another object, and to remove the old one can never hit the new. A row is committed only
for an object that the bucket has acknowledged. What no row, no staged share and no open slice means any more
is removed by `tidy`; what a crash left behind is found by `sweep`.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final
from weakref import ref

from attrs import frozen

from dfs.core.api import (
    Buffer,
    CorruptShareError,
    Env,
    InvariantError,
    NotFoundError,
    ShareKey,
    StoreError,
    StripeId,
)
from dfs.plugins.volumes.bodies import Damage
from dfs.plugins.volumes.rows import Dropped, Place, Rows, StagedShare

from .door import DELETE_COUNT_MAX, Bucket

FOLDER: Final = "shares"
NAME: Final = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})\.([0-9]{1,3})\.([0-9a-f]{32})\.([0-9a-f]{16})")
INDEX_MAX: Final = 255
NUMBER_SIZE: Final = 8
NUMBER_MASK: Final = (1 << 63) - 1  # SQLite's integers have a sign
WINDOW_SIZE: Final = 8 << 20  # bytes one request reads at most


@frozen
class Found:
    """What the name of an object tells."""

    key: ShareKey
    checksum: bytes
    number: int


def object_name(key: ShareKey, checksum: bytes, number: int) -> str:
    """Return the name of a share's object below the vault's folder."""
    stripe = key.stripe.hex()
    return f"{FOLDER}/{stripe[:2]}/{stripe}.{key.index}.{checksum.hex()}.{number:016x}"


def read_name(name: str) -> Found | None:
    """Return what a name tells, None when it is not of ours."""
    match = NAME.fullmatch(name.rpartition(f"{FOLDER}/")[2])
    if match is None or int(match[2]) > INDEX_MAX:
        return None
    key = ShareKey(StripeId(bytes.fromhex(match[1])), int(match[2]))
    return Found(key, bytes.fromhex(match[3]), int(match[4], 16))


def batched(names: Iterator[tuple[str, int]], count: int) -> Iterator[list[tuple[str, int]]]:
    """Yield a listing in lists of ``count``."""
    while some := list(islice(names, count)):
        yield some


class ObjectSlice:
    """A share in a bucket, open. One request reads up to WINDOW_SIZE of it, however little is asked for."""

    file_range: Final = None

    def __init__(self, objects: "Objects", name: str, size: int, checksum: bytes) -> None:
        self.size: Final = size
        self.checksum: Final = checksum
        self._objects: Objects | None = objects
        self._bucket: Final = objects.bucket
        self._name: Final = name
        self._start = 0
        self._window = memoryview(b"")

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read up to len(target) bytes from ``offset``."""
        wanted = min(len(target), max(0, self.size - offset))
        done = 0
        while done < wanted:
            piece = self._at(offset + done)[: wanted - done]
            target[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def _at(self, offset: int) -> memoryview:
        """Return what is known from an offset on, at least a byte."""
        if not self._start <= offset < self._start + len(self._window):
            try:
                window = self._bucket.get(self._name, offset, min(self.size, offset + WINDOW_SIZE))
            except NotFoundError as gone:
                raise CorruptShareError(gone.what) from None
            if len(window) < min(self.size, offset + WINDOW_SIZE) - offset:
                raise CorruptShareError(f"the object {self._name} is shorter than its row says")
            self._start, self._window = offset, memoryview(window)
        return self._window[offset - self._start :]

    def close(self) -> None:
        """Let go of it; twice is fine."""
        objects, self._objects = self._objects, None
        if objects is not None:
            self._window = memoryview(b"")
            objects.close_slice(self._name)


class Objects:
    """All objects of a vault (`Bodies`). Thread-safe.

    ``room_left``: how many more bytes the node may keep in the bucket.
    """

    def __init__(self, bucket: Bucket, folder: str, env: Env, room_left: Callable[[], int]) -> None:
        self.lock: Final = threading.Lock()
        self.bucket: Final = bucket
        self.folder: Final = folder
        self._env: Final = env
        self._room_left: Final = room_left
        self._staged: dict[str, ref[StagedShare]] = {}  # written, without a row yet
        self._slices: dict[str, int] = {}  # how many are open on an object
        self._dead: dict[str, None] = {}  # without a row
        self._swept = True

    def name_of(self, key: ShareKey, checksum: bytes, place: Place) -> str:
        """Return the name of an object in the bucket."""
        return f"{self.folder}/{object_name(key, checksum, place.generation)}"

    @property
    def outage(self) -> str | None:
        """Why nothing can be staged for now."""
        return self.bucket.outage

    @property
    def settled(self) -> bool:
        """Whether no object is left that a start would have to look for."""
        with self.lock:
            return self._swept and not (self._dead or self._staged)

    @property
    def swept(self) -> bool:
        """Whether what a crash left behind was looked for."""
        return self._swept

    def start(self, _rows: Rows, *, settled: bool) -> Sequence[Damage]:
        """What a crash left behind costs requests to find, so it is looked for later (`sweep`)."""
        self._swept = settled
        return ()

    def room(self, free_size: int) -> int:
        """Return what the bucket may still take, as long as rows find room on the disk."""
        return self._room_left() if free_size else 0

    def shed(self) -> None:
        """Nothing is kept for convenience."""

    # --- Writing --------------------------------------------------------------------------------------------

    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> StagedShare:
        """Write an object; returns when the bucket has it."""
        number = int.from_bytes(self._env.random_bytes(NUMBER_SIZE), "big") & NUMBER_MASK
        share = StagedShare(key, checksum, len(body), None, Place(0, number, 0, len(body)))
        name = f"{self.folder}/{object_name(key, checksum, number)}"
        with self.lock:
            self._staged[name] = ref(share)
        try:
            self.bucket.put(name, body)
        except StoreError:
            with self.lock:  # it may be there all the same, if only the answer was lost
                del self._staged[name]
                self._dead[name] = None
            raise
        return share

    def sync(self, shares: Iterable[StagedShare]) -> None:
        """The bucket has acknowledged them: only look whether they are ours."""
        with self.lock:
            for share in shares:
                if share.place is not None and self._name(share) not in self._staged:
                    raise InvariantError("a staged share is not of this vault")

    def _name(self, share: StagedShare) -> str:
        return self.name_of(share.key, share.checksum, share.place) if share.place is not None else ""

    def adopt(self, found: Found, size: int) -> StagedShare:
        """Return a share whose object is there already, to be kept."""
        share = StagedShare(found.key, found.checksum, size, None, Place(0, found.number, 0, size))
        with self.lock:
            self._staged[self._name(share)] = ref(share)
        return share

    # --- After a commit -------------------------------------------------------------------------------------

    def committed(self, kept: Iterable[StagedShare], dropped: Iterable[Dropped]) -> None:
        """Take over what a commit made true."""
        with self.lock:
            for share in kept:
                share.spent = True
                self._staged.pop(self._name(share), None)
            for gone in dropped:
                self._dead[self.name_of(gone.key, gone.checksum, gone.place)] = None

    def tidy(self) -> int:
        """Remove the objects that nothing means any more; returns how many. Raises: StoreError."""
        with self.lock:
            given_up = [name for name, share in self._staged.items() if share() is None]
            for name in given_up:
                del self._staged[name]
                self._dead[name] = None
            names = [name for name in self._dead if name not in self._slices]
        if names:
            self.bucket.delete(names)
            with self.lock:
                for name in names:
                    del self._dead[name]
        return len(names)

    def sweep(self, view: Callable[[Callable[[Rows], list[str]]], list[str]]) -> int:
        """Remove the objects that a crash left behind; returns how many. ``view``: reads rows.

        An object was written before it was listed, so it is staged, or has its row, or is nobody's: what is
        kept leaves `_staged` only after its commit. Raises: StoreError.
        """
        count = 0
        for some in batched(self.bucket.names(f"{self.folder}/{FOLDER}"), DELETE_COUNT_MAX):
            with self.lock:
                loose = [name for name, _ in some if name not in self._staged and name not in self._slices]
            orphans = view(lambda rows, loose=loose: [name for name in loose if not _is_meant(rows, name)])  # type: ignore[misc]
            self.bucket.delete(orphans)
            count += len(orphans)
        self._swept = True
        return count

    # --- Reading --------------------------------------------------------------------------------------------

    def open_slice(self, key: ShareKey, checksum: bytes, place: Place) -> ObjectSlice:
        """Open a share; no request is made before it is read."""
        name = self.name_of(key, checksum, place)
        self._slices[name] = self._slices.get(name, 0) + 1
        return ObjectSlice(self, name, place.size, checksum)

    def close_slice(self, name: str) -> None:
        """End one reading of an object."""
        with self.lock:
            self._slices[name] -= 1
            if not self._slices[name]:
                del self._slices[name]

    def close(self, *, cut: bool) -> None:
        """Nothing is open. What could not be removed is swept at the next start."""


def _is_meant(rows: Rows, name: str) -> bool:
    """Whether a row means this very object; what has no name of ours is not ours to remove."""
    found = read_name(name)
    row = rows.share(found.key) if found is not None else None
    if found is None:
        return True
    return row is not None and row.place is not None and row.place.generation == found.number
