"""Get files: from their entries to verified bytes; pure operations.

Small files come with their entries, many a request; one of one chunk takes a slot, a large one goes chunk by
chunk through all slots. Exactly k shares of a chunk are asked for, the data shares first; another one only
when a node fails, is slow or has sent wrong bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from hmac import compare_digest
from typing import Final, Protocol, TypeAlias

from dfs.core import limits
from dfs.core.effects import Operation, in_one_call, parallel, together, work
from dfs.core.errors import DfsError, IncompleteError, IntegrityError, NotFoundError, QuorumError
from dfs.core.keys import chunk_id, register_key
from dfs.core.paths import printable
from dfs.core.pipeline import Slot
from dfs.core.reading import Found, comes_along, read_registers
from dfs.core.records import define, evolve, field, frozen
from dfs.core.spans import Span, span_bounds
from dfs.core.transfer import Came, Ledger, Source, Vault, chunks_of, fetch_chunk, sources_of
from dfs.core.types import Entry, EntryKind, Manifest, NodeId, Plain

RESTART_COUNT: Final = 4  # versions tried while others keep replacing the file
PART_COUNT: Final = 2  # requests under way: what one brought is written while the other is answered
CALL_COUNT: Final = 64  # small files that are open at a time, and become durable together
FINISH_COUNT: Final = 4  # of them that one call on a worker finishes where each waits for the disk
LANE_COUNT: Final = 16  # such calls at a time, or small files whose shares are fetched


def _ignore(_size: int) -> None:
    """Take progress nobody watches."""


def _settle_none(_sinks: "Sequence[Sink]") -> bool:
    """Leave it to each file to become durable."""
    return False


class Sink(Protocol):
    """Where a file goes; called on worker threads. Nothing is visible before `finish`."""

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill ``target`` with what an earlier try left, as far as it did; nobody has verified that."""

    def write(self, offset: int, plain: memoryview) -> None:
        """Take verified bytes."""

    def finish(self, entry: Entry) -> None:
        """All bytes are there."""

    def abandon(self) -> bool:
        """They will not all come; twice is fine. Returns whether no trace is left."""


Settle: TypeAlias = Callable[[Sequence[Sink]], bool]  # makes what sinks have durable; False: it could not


@frozen
class GetItem:
    """One file to fetch, or the ``span`` of it. ``open_sink`` runs on a worker once the entry is known.

    ``resume``: the sink is first asked for each chunk; what it has is not fetched. For whole files.
    """

    path: str
    open_sink: Callable[[Entry], Sink] = field(repr=False)
    span: Span = field(factory=Span)
    resume: bool = False


@frozen
class Got:
    """A file that was fetched. ``stale``: fewer than R nodes answered.

    ``received``: share bytes by node; ``needed_size``: how many k shares of each chunk have, at least needed.
    ``kept_size``: plain bytes that were here from an earlier try.
    """

    entry: Entry
    stale: bool
    received: Mapping[NodeId, int]
    suspects: frozenset[NodeId]
    needed_size: int = 0
    span: Span = field(factory=Span)
    kept_size: int = 0

    @property
    def size(self) -> int:
        """Plain bytes of the part that was asked for."""
        start, end = span_bounds(self.span, self.entry.size)
        return end - start


class _Kind(Enum):
    """What is still to be fetched of a file once its entry was read."""

    HERE = auto()  # nothing: all bytes came along
    SMALL = auto()  # shares that should have come along
    ONE_CHUNK = auto()
    MANY_CHUNKS = auto()


def _kind(found: Found) -> _Kind:
    manifest = found.entry.manifest if found.entry is not None else None
    if manifest is None:
        return _Kind.HERE
    if not comes_along(manifest):
        return _Kind.MANY_CHUNKS if manifest.listed or len(manifest.chunks) > 1 else _Kind.ONE_CHUNK
    here = {share.key.index for share in found.shares.values()}
    return _Kind.HERE if len(here) >= manifest.recipe.geometry.needed else _Kind.SMALL


@define
class _Getting:
    """One file on its way in."""

    item: GetItem
    found: Found
    kind: _Kind
    sink: Sink | None = None
    ledger: Ledger = field(factory=Ledger)
    error: DfsError | None = None
    kept_size: int = 0

    def result(self) -> "Got | DfsError":
        """Return what became of it."""
        if self.error is not None or self.found.entry is None:
            return self.error or NotFoundError(self.item.path)
        ledger = self.ledger
        suspects = frozenset(ledger.suspects)
        return Got(
            self.found.entry,
            self.found.stale,
            ledger.received,
            suspects,
            ledger.needed_size,
            self.item.span,
            self.kept_size,
        )


def get_files(
    vault: Vault,
    items: Sequence[GetItem],
    slots: Sequence[Slot],
    progress: Callable[[int], object] = _ignore,
    settle: Settle = _settle_none,
) -> Operation[list[Got | DfsError]]:
    """Fetch files and return what was got or the error of each. With one slot, chunks come in order.

    ``settle``: called on a worker with sinks that have all their bytes, before they are finished.

    Raises:
        QuorumError: no node answers.
    """
    slow: set[NodeId] = set()
    step = limits.REGISTER_COUNT
    parts = [
        _get_part(vault, items[first : first + step], slow, progress, settle)
        for first in range(0, len(items), step)
    ]
    by_kind: dict[_Kind, list[_Getting]] = {kind: [] for kind in _Kind}
    gettings = [getting for part in (yield from together(parts, PART_COUNT)) for getting in part]
    for getting in gettings:
        by_kind[getting.kind].append(getting)
    for kind, lanes in ((_Kind.SMALL, [Slot() for _ in range(LANE_COUNT)]), (_Kind.ONE_CHUNK, slots)):
        jobs = [partial(_get_one, vault, getting, progress) for getting in by_kind[kind]]
        yield from parallel(jobs, [[slot] for slot in lanes])
    for getting in by_kind[_Kind.MANY_CHUNKS]:
        yield from _get_one(vault, getting, progress, slots)
    return [getting.result() for getting in gettings]


def _get_part(
    vault: Vault,
    items: Sequence[GetItem],
    slow: set[NodeId],
    progress: Callable[[int], object],
    settle: Settle,
) -> Operation[list[_Getting]]:
    """Read the entries of some files with one request a node, and get those whose bytes come with them."""
    keys = [register_key(vault.keys, item.path) for item in items]
    found = yield from read_registers(vault, list(dict.fromkeys(keys)), with_shares=True)
    gettings = [_Getting(item, found[key], _kind(found[key])) for item, key in zip(items, keys, strict=True)]
    for getting in gettings:
        getting.ledger.slow = slow
    here = [getting for getting in gettings if getting.kind is _Kind.HERE]
    slot = Slot()
    for first in range(0, len(here), CALL_COUNT):
        yield from _get_here(vault, here[first : first + CALL_COUNT], slot, progress, settle)
    return gettings


def _get_here(
    vault: Vault,
    gettings: Sequence[_Getting],
    slot: Slot,
    progress: Callable[[int], object],
    settle: Settle,
) -> Operation[None]:
    """Write small files whose bytes came with their entries, and let them become durable together."""
    got: list[int] = []  # told afterwards: progress is shown by the thread that runs the operation
    try:
        deliveries = [_get_file(vault, getting, [slot], got.append) for getting in gettings]
        yield from in_one_call(deliveries, brief=True)
        came = [getting for getting in gettings if getting.error is None]
        sinks = [getting.sink for getting in came if getting.sink is not None]
        settled = yield from work(lambda: settle(sinks), brief=True)
        step = len(came) if settled else FINISH_COUNT
        parts = [came[first : first + step] for first in range(0, len(came), step or 1)]
        yield from together([_finish(part, brief=settled) for part in parts], LANE_COUNT)
    except BaseException:  # given up from outside, so nothing can be waited for
        _abandon(gettings)
        raise
    for size in got:
        progress(size)


def _get_one(
    vault: Vault, getting: _Getting, progress: Callable[[int], object], slots: Sequence[Slot]
) -> Operation[None]:
    try:
        yield from _get_file(vault, getting, slots, progress)
        yield from _finish([getting])
    except BaseException:
        _abandon([getting])
        raise


def _abandon(gettings: Iterable[_Getting]) -> None:
    for getting in gettings:
        if getting.sink is not None:
            getting.sink.abandon()


def _finish(gettings: Sequence[_Getting], *, brief: bool = False) -> Operation[None]:
    """Let files that have come appear at their places."""

    def finish() -> None:
        for getting in gettings:
            entry, sink = getting.found.entry, getting.sink
            if getting.error is not None or entry is None or sink is None:
                continue
            try:
                sink.finish(entry)
            except DfsError as error:
                getting.error = error
                sink.abandon()

    return work(finish, brief=brief)


def _get_file(
    vault: Vault, getting: _Getting, slots: Sequence[Slot], progress: Callable[[int], object]
) -> Operation[None]:
    for _ in range(RESTART_COUNT):
        getting.error = None
        try:
            yield from _get_version(vault, getting, slots, progress)
        except DfsError as error:
            getting.error = error
            traceless = getting.sink is None or (yield from work(getting.sink.abandon))
            if not traceless or not isinstance(error, IncompleteError):
                return
            if not (yield from _read_again(vault, getting)):
                return
        else:
            return


def _read_again(vault: Vault, getting: _Getting) -> Operation[bool]:
    """Return whether another version has taken the place of one whose shares are gone."""
    key, before = getting.found.key, getting.found.entry
    getting.found = (yield from read_registers(vault, [key], with_shares=True))[key]
    now = getting.found.entry
    return before is not None and (now is None or now.version != before.version)


def _get_version(
    vault: Vault, getting: _Getting, slots: Sequence[Slot], progress: Callable[[int], object]
) -> Operation[None]:
    entry = _file_of(vault, getting)
    if entry.manifest is None:
        yield from work(lambda: _deliver_inline(vault, getting, entry, slots[0]))
        progress(entry.size)
    else:
        yield from _get_chunks(vault, getting, entry, entry.manifest, slots, progress)


def _file_of(vault: Vault, getting: _Getting) -> Entry:
    entry = getting.found.entry
    shown = printable(getting.item.path)
    if getting.found.error is not None:
        raise getting.found.error
    if entry is not None and entry.kind is EntryKind.FILE:
        return entry
    if entry is not None:
        raise NotFoundError(f"{shown} is a folder", next_step="Get it with -r.")
    if getting.found.stale:
        group = vault.group(getting.found.key.directory)
        there = len(getting.found.answered)
        raise QuorumError(
            f"cannot say whether {shown} exists: {there} of {len(group.nodes)} nodes answer,"
            f" {group.quorum.read} needed"
        )
    raise NotFoundError(f"{shown} does not exist")


def _deliver_inline(vault: Vault, getting: _Getting, entry: Entry, slot: Slot) -> None:
    plain = slot.view("plain", entry.size)
    vault.packer_of(entry.content_compressor).unpack_into(entry.content_codec, entry.content or b"", plain)
    sink = getting.sink = getting.item.open_sink(entry)
    start, end = span_bounds(getting.item.span, entry.size)
    sink.write(0, plain[start:end])


def _get_chunks(
    vault: Vault,
    getting: _Getting,
    entry: Entry,
    manifest: Manifest,
    slots: Sequence[Slot],
    progress: Callable[[int], object],
) -> Operation[None]:
    group = vault.group(getting.found.key.directory)
    chunks = yield from chunks_of(vault, group, manifest, getting.ledger)
    if sum(chunk.plain_size for chunk in chunks) != entry.size:
        raise IntegrityError(f"{printable(entry.path)}: its chunks are not as long as the file")
    sink = getting.sink = yield from work(lambda: getting.item.open_sink(entry))
    start, end = span_bounds(getting.item.span, entry.size)

    def job(slot: Slot, source: Source, offset: int) -> Operation[None]:
        def write(plain: memoryview) -> None:
            sink.write(max(0, offset - start), plain[max(0, start - offset) : end - offset])

        kept = partial(_is_kept, vault, sink, source, slot, offset)
        if getting.item.resume and (yield from work(kept)):
            getting.kept_size += source.chunk.plain_size
        else:
            yield from fetch_chunk(vault, source, slot, getting.ledger, write)
        progress(source.chunk.plain_size)

    def jobs() -> Iterator[Callable[[Slot], Operation[None]]]:
        offset = 0
        for source in sources_of(vault, group, manifest, chunks):
            if not (offset < end and offset + source.chunk.plain_size > start):
                offset += source.chunk.plain_size
                continue
            with_shares = evolve(source, shares=_came_along(getting.found, source))
            yield partial(job, source=with_shares, offset=offset)
            offset += source.chunk.plain_size

    yield from parallel(jobs(), slots)


def _is_kept(vault: Vault, sink: Sink, source: Source, slot: Slot, offset: int) -> bool:
    """Return whether a sink has a chunk already: packed again, its bytes give the chunk's own name.

    Bytes that this machine packs otherwise than whoever stored them do not, and are fetched again.
    """
    chunk = source.chunk
    plain = slot.view("plain", chunk.plain_size)
    if sink.read_into(plain, offset) < len(plain):
        return False
    codec, packed = source.stages.packer.pack(Plain(plain))
    return compare_digest(chunk_id(vault.keys, codec, packed), chunk.chunk_id)


def _came_along(found: Found, source: Source) -> Mapping[int, Came]:
    return {
        share.key.index: Came(node, share.checksum, share.body)
        for (node, _), share in found.shares.items()
        if share.key.stripe == source.stripe and share.key.index < len(source.rows)
        if node in source.rows[share.key.index]
    }
