"""The store `memory`: what `volumes` does, as far as anyone can see, in dictionaries.

For tests and the simulator; nothing survives the process. A transaction works on copies of the tables it
changes and swaps them in at the end, so a view holds a picture that never changes and waits for nobody.
Option ``capacity``: bytes of the pretended disk.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import xxhash
from attrs import define, evolve, field, frozen

from dfs.core.api import (
    NO_BALLOT,
    ROW_SIZE,
    Ballot,
    Buffer,
    Claim,
    ConfigError,
    CorruptEntryError,
    CorruptShareError,
    DirectoryId,
    DiskFullError,
    NotFoundError,
    NotInitialisedError,
    RegisterKey,
    RegisterRow,
    ShareKey,
    ShareSlice,
    Staged,
    Store,
    StoreError,
    StoreOptions,
    StorePlugin,
    StripeId,
    Transaction,
    UnknownKeyError,
    VaultStore,
    View,
    claim_charge,
    hookimpl,
    invariant,
    register_charge,
    share_charge,
)

DFS_API_VERSION: Final = 1
NAME: Final = "memory"
CAPACITY: Final = 1 << 40

T = TypeVar("T")


@frozen
class Body:
    """The bytes of a share and the checksum they came with."""

    raw: bytes = field(repr=False)
    checksum: bytes


@define(eq=False)
class StagedBody:
    """A verified share; ``spent``: a row was committed for it."""

    key: ShareKey
    body: Body
    spent: bool = False


@frozen(eq=False)
class Tables:
    """All rows of a vault. Once published, none of the dictionaries is changed."""

    registers: dict[RegisterKey, RegisterRow] = field(factory=dict)
    spoiled: dict[RegisterKey, None] = field(factory=dict)
    shares: dict[ShareKey, Body] = field(factory=dict)
    corrupt: dict[ShareKey, None] = field(factory=dict)
    claims: dict[tuple[RegisterKey, Ballot], tuple[Claim, ...]] = field(factory=dict)
    staged_claims: dict[tuple[bytes, int], tuple[float, tuple[Claim, ...]]] = field(factory=dict)
    owed: dict[tuple[RegisterKey, Ballot, ShareKey], None] = field(factory=dict)
    pins: dict[StripeId, float] = field(factory=dict)
    floors: dict[DirectoryId, Ballot] = field(factory=dict)
    meta: dict[str, bytes] = field(factory=dict)
    used_size: int = 0


class BodySlice:
    """A share, open."""

    file_range: Final = None

    def __init__(self, body: Body) -> None:
        self.size: Final = len(body.raw)
        self.checksum: Final = body.checksum
        self._raw: Final = memoryview(body.raw)

    def read_into(self, target: memoryview, offset: int) -> int:
        """Copy up to len(target) bytes from ``offset``."""
        piece = self._raw[max(0, offset) : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing is held."""


class TablesView:
    """The readings of `View`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def register(self, key: RegisterKey) -> RegisterRow | None:
        """Return the row with its owed and corrupt counts."""
        tables = self._tables
        row = tables.registers.get(key)
        if row is None:
            return None
        if key in tables.spoiled:
            raise CorruptEntryError(f"the entry {key.directory.hex()}/{key.name.hex()} is damaged")
        owed = sum(1 for register, ballot, _ in tables.owed if (register, ballot) == (key, row.accepted))
        stripes = {claim.stripe for claim in tables.claims.get((key, row.accepted), ())}
        corrupt = sum(1 for share in tables.corrupt if share.stripe in stripes)
        return evolve(row, owed_count=owed, corrupt_count=corrupt)

    def registers(
        self, directory: DirectoryId, after: bytes, count_max: int
    ) -> Sequence[tuple[RegisterKey, RegisterRow | None]]:
        """Return rows of a directory with name id > ``after``; None where a row is corrupt."""
        keys = sorted(
            key for key in self._tables.registers if key.directory == directory and key.name > after
        )
        spoiled = self._tables.spoiled
        return [(key, None if key in spoiled else self.register(key)) for key in keys[:count_max]]

    def missing(self, keys: Sequence[ShareKey]) -> Sequence[ShareKey]:
        """Return those of which no good row is here."""
        tables = self._tables
        return [key for key in keys if key not in tables.shares or key in tables.corrupt]

    def staged_claims(self, claim_set: bytes) -> Sequence[Claim]:
        """Return the claims staged under a digest."""
        parts = sorted(key for key in self._tables.staged_claims if key[0] == claim_set)
        return [claim for part in parts for claim in self._tables.staged_claims[part][1]]

    def claims(
        self, register: RegisterKey, ballot: Ballot, position: int = 0, count_max: int | None = None
    ) -> Sequence[Claim]:
        """Return the claims an accepted value holds, from a position on."""
        end = None if count_max is None else position + count_max
        return list(self._tables.claims.get((register, ballot), ())[position:end])

    def directories(self, after: bytes, count_max: int) -> Sequence[tuple[DirectoryId, int, Ballot]]:
        """Return directories with id > ``after`` that have rows or a floor: id, rows, floor."""
        tables = self._tables
        row_counts = Counter(key.directory for key in tables.registers)
        found = sorted(directory for directory in {*row_counts, *tables.floors} if directory > after)
        return [(each, row_counts[each], self.floor(each)) for each in found[:count_max]]

    def lacking(self, after: bytes, count_max: int) -> Sequence[tuple[Claim, tuple[int, ...]]]:
        """Return claimed stripes with id > ``after`` of which shares are owed or corrupt."""
        lacking = self._lacking()
        return [lacking[stripe] for stripe in sorted(lacking) if stripe > after][:count_max]

    def _lacking(self) -> dict[StripeId, tuple[Claim, tuple[int, ...]]]:
        tables = self._tables
        shares: dict[StripeId, set[int]] = {}
        for key in (*(key for _, _, key in tables.owed), *tables.corrupt):
            shares.setdefault(key.stripe, set()).add(key.index)
        claims = (claim for held in (tables.claims.values() if shares else ()) for claim in held)
        return {
            claim.stripe: (claim, tuple(sorted(shares[claim.stripe])))
            for claim in claims
            if claim.stripe in shares
        }

    def owed(self, keys: Sequence[ShareKey]) -> Sequence[ShareKey]:
        """Return those that `lacking` would name."""
        lacking = self._lacking()
        return [key for key in keys if key.stripe in lacking and key.index in lacking[key.stripe][1]]

    def counts(self) -> tuple[int, int, int]:
        """Return how many shares are kept, are owed, and are claimed but corrupt."""
        tables = self._tables
        claimed = (
            {claim.stripe for held in tables.claims.values() for claim in held} if tables.corrupt else set()
        )
        corrupt_count = sum(1 for key in tables.corrupt if key.stripe in claimed)
        return len(tables.shares), len({key for _, _, key in tables.owed}), corrupt_count

    def usage(self) -> int:
        """Return what counts against the quota, counted anew."""
        tables = self._tables
        stripes = {key.stripe for key in tables.shares}
        claims = [claim for held in tables.claims.values() for claim in held]
        sizes = {claim.stripe: 0 for claim in claims}
        for claim in claims:
            sizes[claim.stripe] = max(sizes[claim.stripe], claim.share_size)
        row_count = len(tables.staged_claims) + len(tables.floors) + len(tables.pins.keys() - stripes)
        staged = (claim for _, part in tables.staged_claims.values() for claim in part)
        return (
            sum(share_charge(len(body.raw)) for body in tables.shares.values())
            + sum(share_charge(sizes.get(key.stripe, 0)) for key in {key for _, _, key in tables.owed})
            + sum(map(register_charge, tables.registers.values()))
            + sum(map(claim_charge, claims))
            + sum(claim_charge(claim) - ROW_SIZE + 1 + len(claim.stripe) for claim in staged)
            + ROW_SIZE * row_count
        )

    def floor(self, directory: DirectoryId) -> Ballot:
        """Return the highest forgotten ballot of the directory."""
        return self._tables.floors.get(directory, NO_BALLOT)

    def meta(self, name: str) -> bytes | None:
        """Return a small value kept with the vault."""
        return self._tables.meta.get(name)


class TablesTransaction(TablesView):
    """The changes of `Transaction`, made on copies."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.kept: list[StagedBody] = []
        self._copied: set[str] = set()

    @property
    def tables(self) -> Tables:
        """The tables as changed so far."""
        return self._tables

    def _copy(self, *names: str) -> Tables:
        """Return the tables, those named being ours to change."""
        fresh: dict[str, Any] = {
            name: dict(getattr(self._tables, name)) for name in names if name not in self._copied
        }
        if fresh:
            self._tables = evolve(self._tables, **fresh)
            self._copied.update(fresh)
        return self._tables

    def set_register(self, key: RegisterKey, row: RegisterRow | None) -> None:
        """Replace or remove a row."""
        registers = self._copy("registers").registers
        if key in self._tables.spoiled:
            del self._copy("spoiled").spoiled[key]
        if row is None:
            registers.pop(key, None)
        else:
            registers[key] = evolve(row, owed_count=0, corrupt_count=0)

    def spoil(self, key: RegisterKey) -> None:
        """Let a row count as corrupt until it is replaced."""
        if key in self._tables.registers:
            self._copy("spoiled").spoiled[key] = None

    def keep(self, staged: Sequence[Staged]) -> None:
        """Make the rows of staged shares."""
        for share in staged:
            if not isinstance(share, StagedBody):
                raise TypeError("a vault keeps only what its own stage() returned")
            self._keep(share)

    def _keep(self, share: StagedBody) -> None:
        tables = self._tables
        settled = [debt for debt in tables.owed if debt[2] == share.key]
        if settled:
            owed = self._copy("owed").owed
            for debt in settled:
                del owed[debt]
        if share.key in tables.shares and share.key not in tables.corrupt:
            return
        invariant(not share.spent, "a staged share is kept a second time")
        self._drop(share.key)
        self._copy("shares").shares[share.key] = share.body
        self._charge(len(share.body.raw))
        self.kept.append(share)

    def _charge(self, size: int) -> None:
        self._tables = evolve(self._tables, used_size=self._tables.used_size + size)

    def _drop(self, key: ShareKey) -> None:
        """Remove a share and its corrupt mark, if any."""
        if key not in self._tables.shares:
            return
        tables = self._copy("shares", "corrupt")
        body = tables.shares.pop(key)
        tables.corrupt.pop(key, None)
        self._charge(-len(body.raw))

    def claim(self, register: RegisterKey, ballot: Ballot, claims: Sequence[Claim]) -> None:
        """Record claims under a ballot, replacing what that ballot had."""
        self._copy("claims").claims[register, ballot] = tuple(claims)

    def unclaim(self, register: RegisterKey, below: Ballot) -> None:
        """Drop the claims and debts of ballots < ``below``."""
        tables = self._copy("claims", "owed")
        for held in [held for held in tables.claims if held[0] == register and held[1] < below]:
            del tables.claims[held]
        for debt in [debt for debt in tables.owed if debt[0] == register and debt[1] < below]:
            del tables.owed[debt]

    def stage_claims(
        self, claim_set: bytes, part_index: int, claims: Sequence[Claim], until_s: float
    ) -> None:
        """Keep one CLAIMS part, pinning the stripes it names."""
        self._copy("staged_claims").staged_claims[claim_set, part_index] = (until_s, tuple(claims))
        self._pin((claim.stripe for claim in claims), until_s)

    def owe(self, register: RegisterKey, ballot: Ballot, keys: Sequence[ShareKey]) -> None:
        """Record shares this node should hold and lacks."""
        owed = self._copy("owed").owed
        for key in keys:
            owed[register, ballot, key] = None

    def mark_corrupt(self, key: ShareKey) -> None:
        """Remember that a share's bytes are bad, unless they were replaced in this transaction."""
        if key in self._tables.shares and all(share.key != key for share in self.kept):
            self._copy("corrupt").corrupt[key] = None

    def set_floor(self, directory: DirectoryId, ballot: Ballot) -> None:
        """Raise the floor; a lower ballot changes nothing."""
        if ballot > self.floor(directory):
            self._copy("floors").floors[directory] = ballot

    def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small value."""
        self._copy("meta").meta[name] = value

    def pin(self, keys: Sequence[ShareKey], until_s: float) -> None:
        """Keep shares from collection until ``until_s``; what is held is the stripe."""
        self._pin((key.stripe for key in keys), until_s)

    def _pin(self, stripes: Iterable[StripeId], until_s: float) -> None:
        pins = self._copy("pins").pins
        for stripe in stripes:
            pins[stripe] = max(until_s, pins.get(stripe, until_s))

    def unpin(self, now_s: float) -> int:
        """Drop pins and staged claims that ended; returns how many."""
        tables = self._copy("pins", "staged_claims")
        ended = [stripe for stripe, until_s in tables.pins.items() if until_s <= now_s]
        for stripe in ended:
            del tables.pins[stripe]
        parts = [part for part, (until_s, _) in tables.staged_claims.items() if until_s <= now_s]
        for part in parts:
            del tables.staged_claims[part]
        return len(ended) + len(parts)

    def renew(self, until_s: float) -> None:
        """Let every pin and staged claim end at ``until_s``."""
        tables = self._copy("pins", "staged_claims")
        for stripe in tables.pins:
            tables.pins[stripe] = until_s
        for part, (_, claims) in tables.staged_claims.items():
            tables.staged_claims[part] = until_s, claims

    def collect(self, count_max: int) -> int:
        """Drop up to ``count_max`` shares whose stripe has neither claim nor pin, in order of names."""
        held = {claim.stripe for claims in self._tables.claims.values() for claim in claims}
        held.update(self._tables.pins)
        loose = sorted(key for key in self._tables.shares if key.stripe not in held)[:count_max]
        for key in loose:
            self._drop(key)
        return len(loose)


class MemoryVault:
    """What a node keeps for one vault. Thread-safe."""

    def __init__(self, user: str, capacity: int, reserve_size: int) -> None:
        self._user: Final = user
        self._capacity: Final = capacity
        self._reserve_size: Final = reserve_size
        self._write_lock: Final = threading.Lock()
        self._tables = Tables()
        self._closed = False

    @property
    def read_only_reason(self) -> str | None:
        """Why nothing can be written any more."""
        return "it is closed" if self._closed else None

    @property
    def used_size(self) -> int:
        """Share bytes kept."""
        return self._tables.used_size

    @property
    def free_size(self) -> int:
        """Bytes that can still be kept; the reserve is left out."""
        return max(0, self._capacity - self._tables.used_size - self._reserve_size)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the vault of {self._user} is closed")

    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> Staged:
        """Verify the bytes and take a copy."""
        self._check_open()
        if xxhash.xxh3_128_digest(body) != checksum:
            raise CorruptShareError(f"share {key.index} of stripe {key.stripe.hex()[:16]} arrived damaged")
        if self.free_size < len(body):
            raise DiskFullError(f"the vault of {self._user} has no room for {len(body)} more bytes")
        return StagedBody(key, Body(bytes(body), checksum))

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` serially, all or nothing."""
        with self._write_lock:
            self._check_open()
            transaction = TablesTransaction(self._tables)
            result = work(transaction)
            self._tables = transaction.tables
            for share in transaction.kept:
                share.spent = True
            return result

    def view(self, work: Callable[[View], T]) -> T:
        """Run ``work`` on what is committed; never waits for a writer."""
        self._check_open()
        return work(TablesView(self._tables))

    def share(self, key: ShareKey) -> ShareSlice:
        """Open a share."""
        self._check_open()
        tables = self._tables
        body = tables.shares.get(key)
        if body is None:
            raise NotFoundError(f"share {key.index} of stripe {key.stripe.hex()[:16]} is not here")
        if key in tables.corrupt:
            raise CorruptShareError(f"share {key.index} of stripe {key.stripe.hex()[:16]} is known to be bad")
        return BodySlice(body)

    def shares(self, after: ShareKey | None, count_max: int) -> Sequence[ShareKey]:
        """Return share names in order."""
        self._check_open()
        return sorted(key for key in self._tables.shares if after is None or key > after)[:count_max]

    def verify(self, key: ShareKey) -> None:
        """Compare a share with its checksum."""
        share = self.share(key)
        body = bytearray(share.size)
        share.read_into(memoryview(body), 0)
        if xxhash.xxh3_128_digest(body) != share.checksum:
            raise CorruptShareError(f"share {key.index} of stripe {key.stripe.hex()[:16]} fails its checksum")

    def check(self, stopped: Callable[[], bool]) -> bool:
        """Nothing can be damaged here but a share."""
        self._check_open()
        return not stopped()

    def damage(self, key: ShareKey, offset: int = 0) -> None:
        """Flip a bit of a stored share, as a failing disk would; only tests and the simulator call it."""
        with self._write_lock:
            body = self._tables.shares[key]
            raw = bytearray(body.raw)
            raw[offset] ^= 1
            shares = {**self._tables.shares, key: Body(bytes(raw), body.checksum)}
            self._tables = evolve(self._tables, shares=shares)

    def close(self) -> None:
        """Refuse everything from now on; twice is fine."""
        with self._write_lock:
            self._closed = True


class MemoryStore:
    """Everything a node keeps. Thread-safe."""

    def __init__(self, options: StoreOptions) -> None:
        for key in options.values:
            if key != "capacity":
                raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has capacity")
        text = options.values.get("capacity", str(CAPACITY))
        if not (text.isascii() and text.isdigit()):
            raise ConfigError(f"plugin {NAME}: capacity is bytes, not {text!r}")
        self._capacity: Final = int(text)
        self._reserve_size: Final = options.reserve_size or 0
        self._lock: Final = threading.Lock()
        self._vaults: dict[str, MemoryVault] = {}
        self._closed = False

    def users(self) -> Sequence[str]:
        """Return the users that have a vault here, sorted."""
        with self._lock:
            return sorted(self._vaults)

    def vault(self, user: str, *, create: bool) -> VaultStore:
        """Return the vault of a user, the same object each time."""
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed")
            if user not in self._vaults:
                if not create:
                    raise NotInitialisedError(f"there is no vault of user {user} on this node")
                self._vaults[user] = MemoryVault(user, self._capacity, self._reserve_size)
            return self._vaults[user]

    def close(self) -> None:
        """Close all vaults; twice is fine."""
        with self._lock:
            self._closed = True
            for vault in self._vaults.values():
                vault.close()


def make(options: StoreOptions) -> Store:
    """Make an empty store."""
    return MemoryStore(options)


@hookimpl
def dfs_stores() -> Iterable[StorePlugin]:
    """Declare memory."""
    summary = "nothing survives the process; for tests"
    return (StorePlugin(name=NAME, summary=summary, make=make, durable=False),)
