"""Scrubbing: everything a vault keeps is read again, step by step, and what is bad is known from then on.

First the registers: each row is compared with its digest, its claims with theirs, and every share that its
claims want here must be here or owed. Then the shares, re-read and re-hashed. A cursor in the vault says how
far it came, so a restart goes on there. Findings are repaired by whoever asks what is lacking.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from dfs.core import bulk_rows, limits, register
from dfs.core.errors import CorruptEntryError, CorruptShareError, NotFoundError
from dfs.core.interface import Transaction, VaultStore, View
from dfs.core.life import META_SCRUBBED
from dfs.core.records import frozen
from dfs.core.types import Claim, DirectoryId, RegisterKey, RegisterRow, ShareKey, StripeId

META_CURSOR: Final = "scrub_cursor"
_REGISTERS, _SHARES = b"r", b"s"  # what is read; the rest of a cursor is the last key that was
_DIRECTORY_END: Final = 1 + limits.DIRECTORY_ID_SIZE
_STRIPE_END: Final = 1 + limits.STRIPE_ID_SIZE
STEP_SIZE: Final = 4 * limits.MIB  # a step ends once it has read so much

OwnShares: TypeAlias = Callable[[Sequence[Claim]], Iterable[ShareKey]]


@frozen
class Step:
    """What one step did: bytes read, what was bad (for people), whether all is read now."""

    size: int = 0
    findings: tuple[str, ...] = ()
    ended: bool = False


@frozen
class _Found:
    """What a step has to write. ``owed``: shares that should be here, with the register that claims them."""

    cursor: bytes
    size: int
    findings: tuple[str, ...] = ()
    spoiled: tuple[RegisterKey, ...] = ()
    owed: tuple[tuple[RegisterKey, RegisterRow, tuple[ShareKey, ...]], ...] = ()
    bad: tuple[ShareKey, ...] = ()


def scrub(
    store: VaultStore,
    count_max: int,
    own_shares: OwnShares,
    wall_s: float,
    commit: Callable[[Callable[[Transaction], None]], None],
    stopped: Callable[[], bool],
) -> Step:
    """Read the next rows or shares, ``count_max`` at most, and note what is bad.

    Args:
        own_shares: which shares of given claims this node should hold.
        wall_s: seconds since 1970, kept as the end of a scrub.
        commit: makes a change durable.
        stopped: whether to end early; asked in the one step that takes long.

    Raises:
        StoreError: the rows themselves are damaged; the vault is read-only from now on.
    """
    cursor = store.view(lambda view: view.meta(META_CURSOR)) or _REGISTERS
    if cursor[:1] == _REGISTERS:
        found = store.view(lambda view: _read_registers(view, cursor, count_max, own_shares))
    else:
        found = _read_shares(store, cursor, count_max)

    def work(transaction: Transaction) -> None:
        _note(transaction, store, found)
        transaction.set_meta(META_CURSOR, found.cursor or _REGISTERS)
        if not found.cursor:
            transaction.set_meta(META_SCRUBBED, max(0, int(wall_s)).to_bytes(8, "big"))

    # Before the end is noted: what is found is found again after a restart.
    if not found.cursor and not store.check(stopped):
        return Step(found.size)
    commit(work)
    return Step(found.size, found.findings, ended=not found.cursor)


# --- Registers ----------------------------------------------------------------------------------------------


def _read_registers(view: View, cursor: bytes, count_max: int, own_shares: OwnShares) -> _Found:
    size, last = 0, None
    findings: list[str] = []
    spoiled: list[RegisterKey] = []
    owed: list[tuple[RegisterKey, RegisterRow, tuple[ShareKey, ...]]] = []
    for last, row in _rows_after(view, cursor, count_max):
        if row is None:
            findings.append(f"the entry {_named(last)} fails its digest")
            continue
        size += len(row.value)
        claims = _claims_of(view, last, row)
        if claims is None:
            findings.append(f"the claims of entry {_named(last)} fail their digest")
            spoiled.append(last)
        elif unnoticed := _unnoticed(view, own_shares(claims)):
            findings.append(f"{len(unnoticed)} shares of entry {_named(last)} are missing")
            owed.append((last, row, unnoticed))
        if size > STEP_SIZE:
            break
    cursor = _SHARES if last is None else _REGISTERS + last.directory + last.name
    return _Found(cursor, size, tuple(findings), tuple(spoiled), tuple(owed))


def _rows_after(
    view: View, cursor: bytes, count_max: int
) -> Iterator[tuple[RegisterKey, RegisterRow | None]]:
    """Yield up to ``count_max`` rows, going on with the next directory where one ends."""
    directory, name = DirectoryId(cursor[1:_DIRECTORY_END]), cursor[_DIRECTORY_END:]
    while count_max > 0:
        rows = view.registers(directory, name, count_max) if directory else ()
        yield from (row for row in rows if row[0].name > name)
        count_max -= len(rows)
        following = view.directories(directory, 1)
        if not following or following[0][0] <= directory:  # out of order: `check` tells, here it must end
            return
        directory, name = following[0][0], b""


def _named(key: RegisterKey) -> str:
    return f"{key.directory.hex()}/{key.name.hex()}"


def _claims_of(view: View, key: RegisterKey, row: RegisterRow) -> Sequence[Claim] | None:
    """Return the claims of a row, None when they are not what it says."""
    try:
        claims = view.claims(key, row.accepted)
    except CorruptEntryError:
        return None
    encoded = b"".join(bulk_rows.encode_claim(claim) for claim in claims)
    return claims if register.claim_set_digest(encoded) == row.claim_set else None


def _unnoticed(view: View, own: Iterable[ShareKey]) -> tuple[ShareKey, ...]:
    """Return those shares that are neither here, nor owed, nor known to be corrupt."""
    absent = view.missing(list(own))
    known = set(view.owed(absent)) if absent else ()
    return tuple(key for key in absent if key not in known)


# --- Shares -------------------------------------------------------------------------------------------------


def _read_shares(store: VaultStore, cursor: bytes, count_max: int) -> _Found:
    place = cursor[1:]
    after = ShareKey(StripeId(cursor[1:_STRIPE_END]), cursor[_STRIPE_END]) if place else None
    keys = [key for key in store.shares(after, count_max) if after is None or key > after]
    known = set(store.view(lambda view: view.missing(keys)))
    size = 0
    bad: list[ShareKey] = []
    last: ShareKey | None = None
    for last in keys:
        size += 0 if last in known else _verified_size(store, last, bad)
        if size > STEP_SIZE:
            break
    findings = tuple(f"share {key.index} of stripe {key.stripe.hex()} fails its checksum" for key in bad)
    cursor = b"" if last is None else _SHARES + last.stripe + bytes((last.index,))
    return _Found(cursor, size, findings, bad=tuple(bad))


def _verified_size(store: VaultStore, key: ShareKey, bad: list[ShareKey]) -> int:
    """Re-read a share, noting it if it is bad; returns its bytes, 0 when it was collected meanwhile."""
    try:
        share = store.share(key)
        size = share.size
        share.close()
        store.verify(key)
    except NotFoundError:
        return 0
    except CorruptShareError:
        bad.append(key)
        return 0
    return size


# --- Writing ------------------------------------------------------------------------------------------------


def _note(transaction: Transaction, store: VaultStore, found: _Found) -> None:
    """Write what was found, if it is so still: the vault went on meanwhile."""
    for key in found.spoiled:
        row = _row(transaction, key)
        if row is not None and _claims_of(transaction, key, row) is None:
            transaction.spoil(key)
    for key, before, absent in found.owed:
        row = _row(transaction, key)
        if row is not None and row.accepted == before.accepted:
            transaction.owe(key, row.accepted, transaction.missing(absent))
    for share in found.bad:
        mark_if_bad(transaction, store, share)


def _row(view: View, key: RegisterKey) -> RegisterRow | None:
    try:
        return view.register(key)
    except CorruptEntryError:
        return None


def mark_if_bad(transaction: Transaction, store: VaultStore, key: ShareKey) -> None:
    """Mark a share as corrupt that is so still: it may have been replaced since somebody looked."""
    try:
        store.verify(key)
    except NotFoundError:
        return
    except CorruptShareError:
        transaction.mark_corrupt(key)
