"""The volume files of a vault: appended to until full, given back when nothing in them is kept any more.

What is in a volume is told by rows alone. Bytes are never overwritten while a row, a staged share or an open
slice may mean them: a volume only grows until it is sealed, a sealed one only gets holes, and an emptied one
is used again under a new generation, which its header and every row in it carry. OSError escapes where a
caller can still refuse (`stage`, `sync`); after a commit nothing is raised any more, a failure then makes
the vault read-only.
"""

import contextlib
import errno
import re
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from weakref import WeakSet

import xxhash
from attrs import define, field

from dfs.core.api import (
    Buffer,
    CorruptShareError,
    File,
    Files,
    InvariantError,
    ShareKey,
    StoreError,
)

from .bodies import FULL_ERRORS, Damage
from .rows import Dropped, Place, Rows, StagedShare, VolumeRows

MAGIC: Final = b"DFSVOLUM"
FORMAT: Final = 1
HEADER: Final = struct.Struct(
    ">8sHIQ16s"
)  # magic, format, number, generation, vault id; their xxh3-128 follows
HEADER_SIZE: Final = 64
NAME_PATTERN: Final = re.compile(r"([0-9a-f]{8})\.vol")
ALLOCATE_STEP: Final = 16 << 20
FREE_COUNT_MAX: Final = (
    2  # emptied volumes kept for reuse: overwriting is up to 1.8 times as fast as new pages
)
IDLE_FILE_COUNT_MAX: Final = 32  # open files that nobody uses now


@define(eq=False)
class Volume:
    """One file. ``end``: where the next share goes. ``allocated``: up to where the file has space."""

    number: int
    path: str
    generation: int
    end: int
    allocated: int
    share_count: int = 0
    file: File | None = None
    user_count: int = 0
    slices: dict[int, int] = field(factory=dict)  # offset of a share -> slices open on it
    dead: list[Place] = field(factory=list)  # without row, not punched yet
    # A staged share that nobody holds any more can never be kept, so the set need not be told of it.
    staged: WeakSet[StagedShare] = field(factory=WeakSet)

    @property
    def meant(self) -> bool:
        """Whether a row, a staged share or a slice may mean bytes in here."""
        return bool(self.share_count or self.slices or len(self.staged))


class FileSlice:
    """A share in a volume, open."""

    def __init__(self, volumes: "Volumes", volume: Volume, file: File, place: Place, checksum: bytes) -> None:
        self.size: Final = place.size
        self.checksum: Final = checksum
        self._volumes: Volumes | None = volumes
        self._volume: Final = volume
        self._file: Final = file
        self._offset: Final = place.offset

    @property
    def file_range(self) -> tuple[int, int] | None:
        """Descriptor and offset, None when the file has no descriptor."""
        descriptor = self._file.fileno()
        return (descriptor, self._offset) if descriptor >= 0 else None

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read up to len(target) bytes from ``offset``."""
        wanted = min(len(target), max(0, self.size - offset))
        try:
            count = self._file.read_into(target[:wanted], self._offset + offset)
        except OSError as problem:
            raise CorruptShareError(f"a share in {self._volume.path} cannot be read: {problem}") from None
        if count < wanted:
            raise CorruptShareError(f"a share in {self._volume.path} ends behind the file")
        return count

    def close(self) -> None:
        """Let go of it; twice is fine."""
        volumes, self._volumes = self._volumes, None
        if volumes is not None:
            volumes.close_slice(self._volume, self._offset)


class Volumes:
    """All volumes of a vault (`Bodies`). Thread-safe."""

    outage: Final = None  # a disk that fails once is not asked again

    def __init__(
        self, folder: str, files: Files, vault_id: bytes, size_max: int, fail: Callable[[str], StoreError]
    ) -> None:
        self.lock: Final = threading.Lock()
        self._folder: Final = folder
        self._files: Final = files
        self._vault_id: Final = vault_id
        self._size_max: Final = size_max
        self._fail: Final = fail
        self._volumes: dict[int, Volume] = {}
        self._free: list[Volume] = []
        self._idle: dict[int, Volume] = {}  # in the order they fell idle
        self._active: Volume | None = None
        self._number_next = 0
        self._streamed_size = 0
        self._can_punch = True
        self._closed = False

    # --- Start ----------------------------------------------------------------------------------------------

    def start(self, rows: Rows, *, settled: bool) -> list[Damage]:
        """Take over what is there and return what is damaged.

        The bytes behind the last row of a volume are garbage: the highest volume with room goes on there and
        keeps its preallocation, the others are cut. What lies between rows can be given back. ``settled``: it
        was, but for the volume that is appended to.
        """
        by_number: dict[int, dict[int, VolumeRows]] = {}
        for row in rows.volumes():
            by_number.setdefault(row.volume, {})[row.generation] = row
        found = {
            int(match[1], 16)
            for match in map(NAME_PATTERN.fullmatch, self._files.names(self._folder))
            if match
        }
        damages = [Damage(number, -1, 0) for number in by_number if number not in found]
        short = set()
        for number in sorted(found):
            volume = self._take_over(number, by_number.get(number, {}))
            if volume is None and number in by_number:
                damages.append(Damage(number, -1, 0))
            elif volume is not None and (volume.end > volume.allocated or len(by_number[number]) > 1):
                damages.append(Damage(number, volume.generation, volume.allocated))
                short.add(number)
        self._number_next = max(found | set(by_number), default=-1) + 1
        for volume in sorted(self._volumes.values(), key=lambda volume: -volume.number):
            if self._active is None and volume.end < self._size_max and volume.number not in short:
                self._active = volume
                self._use(volume)
                self._note_gaps(volume, rows.ranges(volume.number))
            elif volume.number not in short:
                if volume.allocated > volume.end:
                    self._truncate(volume)
                if not settled:
                    self._note_gaps(volume, rows.ranges(volume.number))
                    self._punch(volume)
        return damages

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be given back, but in the volume that is appended to."""
        with self.lock:
            return not any(volume.dead for volume in self._volumes.values() if volume is not self._active)

    def _take_over(self, number: int, by_generation: Mapping[int, VolumeRows]) -> Volume | None:
        """Return the volume that rows and header agree on; a file without rows is freed or removed."""
        path = self._path(number)
        volume = Volume(number, path, 0, HEADER_SIZE, 0)
        file = self._use(volume)
        try:
            generation = self._read_header(file, number)
            volume.allocated = file.size()
        finally:
            self._release(volume)
        if not by_generation:
            volume.generation = generation or 0
            self._retire(volume, keep=generation is not None)
            return None
        if generation is None or generation not in by_generation:
            self._close_file(volume)
            return None
        rows = by_generation[generation]
        volume.generation, volume.end, volume.share_count = generation, rows.end, rows.share_count
        self._volumes[number] = volume
        return volume

    def _read_header(self, file: File, number: int) -> int | None:
        """Return the generation; None when this is not a header of this volume of this vault."""
        header = bytearray(HEADER_SIZE)
        try:
            count = file.read_into(memoryview(header), 0)
        except OSError as problem:
            if problem.errno != errno.EIO:
                raise
            return None  # a bad sector: the volume's shares will be corrupt, the vault goes on
        fields = bytes(header[: HEADER.size])
        if count < HEADER_SIZE or xxhash.xxh3_128_digest(fields) != header[HEADER.size : HEADER.size + 16]:
            return None
        magic, version, named, generation, vault_id = HEADER.unpack(fields)
        known = (magic, version, named, vault_id) == (MAGIC, FORMAT, number, self._vault_id)
        return int(generation) if known else None

    @staticmethod
    def _note_gaps(volume: Volume, ranges: Sequence[tuple[int, int]]) -> None:
        """Note what lies between the rows of a volume: nothing means it any more."""
        offset = HEADER_SIZE
        for start, size in ranges:
            if start > offset:
                volume.dead.append(Place(volume.number, volume.generation, offset, start - offset))
            offset = max(offset, start + size)

    # --- Writing --------------------------------------------------------------------------------------------

    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> StagedShare:
        """Append the bytes; several threads write at once, only the reservation is taken one by one."""
        size = len(body)
        with self.lock:
            volume = self._volume_for(size)
            self._allocate(volume, volume.end + size)
            share = StagedShare(
                key, checksum, size, None, Place(volume.number, volume.generation, volume.end, size)
            )
            offset = volume.end
            volume.end += size
            volume.allocated = max(volume.allocated, volume.end)
            volume.staged.add(share)
            self._streamed_size += size
            file = self._use(volume)
        try:
            file.write((body,), offset)
        except OSError:
            with self.lock:
                volume.staged.discard(share)
                if volume.end == offset + size:
                    volume.end = offset
                    # Half of it may be written: give the space back. The true cause is raised anyway.
                    with contextlib.suppress(OSError):
                        self._truncate(volume)
            raise
        finally:
            with self.lock:
                self._release(volume)
        return share

    def _volume_for(self, size: int) -> Volume:
        """Return the volume to append to; a volume takes at least one share, however large."""
        if self._active is not None:
            if self._active.end + size <= self._size_max:
                return self._active
            self._seal(self._active)
        for volume in list(self._volumes.values()):
            # Only never kept shares were in it, and nobody has told us when they were given up.
            if not volume.meant:
                self._retire(volume)
        self._active = self._reused_volume() if self._free else self._new_volume()
        self._volumes[self._active.number] = self._active
        return self._active

    def _reused_volume(self) -> Volume:
        volume = self._free[-1]
        file = self._use(volume)
        try:
            self._write_header(file, volume.number, volume.generation + 1)
        except OSError:
            self._release(volume)
            raise
        self._free.pop()
        volume.generation += 1
        volume.end = HEADER_SIZE
        volume.dead.clear()
        return volume

    def _new_volume(self) -> Volume:
        number = self._number_next
        volume = Volume(number, self._path(number), 1, HEADER_SIZE, HEADER_SIZE)
        try:
            volume.file = self._files.open(volume.path, create=True)
            self._write_header(volume.file, number, volume.generation)
            self._files.sync_folder(self._folder)
        except OSError:
            self._close_file(volume)
            self._files.remove(volume.path)
            raise
        volume.user_count = 1
        self._number_next += 1
        return volume

    def _write_header(self, file: File, number: int, generation: int) -> None:
        """Write the header; the sync before the first commit that means this volume makes it durable."""
        fields = HEADER.pack(MAGIC, FORMAT, number, generation, self._vault_id)
        file.write(((fields + xxhash.xxh3_128_digest(fields)).ljust(HEADER_SIZE, b"\0"),), 0)

    def _allocate(self, volume: Volume, end: int) -> None:
        """Reserve space in steps, once so much came in that more is likely to come."""
        if end <= volume.allocated or self._streamed_size < ALLOCATE_STEP or volume.file is None:
            return
        target = max(end, min(volume.allocated + ALLOCATE_STEP, self._size_max))
        volume.file.allocate(volume.allocated, target - volume.allocated)
        volume.allocated = target

    def sync(self, shares: Iterable[StagedShare]) -> None:
        """Make the bytes of staged shares durable: one fdatasync a volume."""
        touched: dict[Volume, File] = {}
        with self.lock:
            for share in shares:
                if share.place is None:
                    continue
                volume = self._volumes.get(share.place.volume)
                if volume is None or share not in volume.staged:
                    raise InvariantError("a staged share is not of this vault, or outlived its volume")
                if volume not in touched:
                    touched[volume] = self._use(volume)
        try:
            for file in touched.values():
                file.sync()
        finally:
            with self.lock:
                for volume in touched:
                    self._release(volume)

    # --- After a commit -------------------------------------------------------------------------------------

    def committed(self, kept: Iterable[StagedShare], dropped: Iterable[Dropped]) -> None:
        """Take over what a commit made true: rows of ``kept``, none any more for ``dropped``."""
        with self.lock:
            for share in kept:
                share.spent = True
                if share.place is not None:
                    volume = self._volumes[share.place.volume]
                    volume.share_count += 1
                    volume.staged.discard(share)
            touched: dict[Volume, None] = {}
            for place in (share.place for share in dropped):
                # Without volume or of another generation: a damaged row, whose place now means other bytes.
                found = self._volumes.get(place.volume)
                if found is not None and found.generation == place.generation:
                    found.share_count -= 1
                    found.dead.append(place)
                    touched[found] = None
            for volume in touched:
                self._settle(volume)

    def _settle(self, volume: Volume) -> None:
        """Give back what nothing means any more. A failure makes the vault read-only, it undoes no commit."""
        try:
            if not volume.meant:
                self._retire(volume)
            elif volume is not self._active:
                self._punch(volume)
        except OSError as problem:
            if problem.errno not in FULL_ERRORS:  # a hole may need room itself: it is punched later
                self._fail(f"{volume.path} cannot be given back: {problem}")

    def _punch(self, volume: Volume) -> None:
        free = [place for place in volume.dead if place.offset not in volume.slices]
        if not free:
            return
        file = self._use(volume)
        try:
            for place in free:
                if self._can_punch:
                    # False = this file system has no holes: the space comes back when the volume is empty.
                    self._can_punch = file.punch(place.offset, place.size)
        finally:
            self._release(volume)
        volume.dead = [place for place in volume.dead if place.offset in volume.slices]

    def _seal(self, volume: Volume) -> None:
        """End appending: cut the preallocation, punch what died meanwhile."""
        self._active = None
        self._release(volume)
        if volume.allocated > volume.end:
            self._truncate(volume)
        self._settle(volume)

    def _retire(self, volume: Volume, *, keep: bool = True) -> None:
        """Move an empty volume to the free list, or remove its file when that is full."""
        if volume is self._active:
            self._active = None
            self._release(volume)
        self._volumes.pop(volume.number, None)
        if keep and len(self._free) < FREE_COUNT_MAX:
            self._free.append(volume)
            return
        self._close_file(volume)
        self._files.remove(volume.path)

    def room(self, free_size: int) -> int:
        """Return how many bytes find room: as many as the disk has."""
        return free_size

    def shed(self) -> None:
        """Remove the free volumes: the disk has no room for them."""
        with self.lock:
            while self._free:
                volume = self._free.pop()
                self._close_file(volume)
                self._files.remove(volume.path)

    def _truncate(self, volume: Volume) -> None:
        file = self._use(volume)
        try:
            file.truncate(volume.end)
            volume.allocated = volume.end
        finally:
            self._release(volume)

    # --- Reading --------------------------------------------------------------------------------------------

    def open_slice(self, _key: ShareKey, checksum: bytes, place: Place) -> FileSlice:
        """Open a share; the caller read its row under ``lock``, so no commit can have punched it since."""
        volume = self._volumes.get(place.volume)
        if volume is None or volume.generation != place.generation:
            raise CorruptShareError(f"the volume {self._path(place.volume)} of a share is missing")
        try:
            file = self._use(volume)
        except FileNotFoundError:
            raise CorruptShareError(f"the volume {volume.path} of a share is missing") from None
        except OSError as problem:
            raise StoreError(f"{volume.path} cannot be opened: {problem}") from None
        if file.size() < place.offset + place.size:
            self._release(volume)
            raise CorruptShareError(f"a share in {volume.path} lies behind the end of the file")
        volume.slices[place.offset] = volume.slices.get(place.offset, 0) + 1
        return FileSlice(self, volume, file, place, checksum)

    def close_slice(self, volume: Volume, offset: int) -> None:
        """End one reading of the share at ``offset``; the last one lets its space go if it was collected."""
        with self.lock:
            volume.slices[offset] -= 1
            if not volume.slices[offset]:
                del volume.slices[offset]
            self._release(volume)
            if any(place.offset == offset for place in volume.dead):
                self._settle(volume)

    # --- Open files -----------------------------------------------------------------------------------------

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08x}.vol"

    def _use(self, volume: Volume) -> File:
        """Return the open file; each use ends with `_release`."""
        file = volume.file or self._files.open(volume.path, create=False)
        volume.file = file
        volume.user_count += 1
        self._idle.pop(volume.number, None)
        return file

    def _release(self, volume: Volume) -> None:
        volume.user_count -= 1
        if volume.user_count:
            return
        self._idle[volume.number] = volume
        bound = 0 if self._closed else IDLE_FILE_COUNT_MAX
        for idle in list(self._idle.values()):
            # The kernel tells a failed write only to those who have the file open: not before a sync.
            if len(self._idle) > bound and (self._closed or not len(idle.staged)):
                self._close_file(idle)

    def _close_file(self, volume: Volume) -> None:
        self._idle.pop(volume.number, None)
        if volume.file is not None:
            volume.file.close()
            volume.file = None

    def close(self, *, cut: bool) -> None:
        """Close all files, one under an open slice with that. ``cut``: give back the preallocation."""
        with self.lock:
            self._closed = True
            active, self._active = self._active, None
            if active is not None:
                try:
                    if cut and active.allocated > active.end:
                        self._truncate(active)
                finally:
                    self._release(active)
            for volume in list(self._idle.values()):
                self._close_file(volume)
