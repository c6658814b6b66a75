"""What operations know of their vault; exactly the shares a chunk needs, fetched; what an entry claims.

Pure operations (effects.py). A node that fails is left out; who holds what in the end is returned, never
guessed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product

from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, messages, pipeline, register
from dfs.core.effects import (
    Done,
    Effects,
    Event,
    Failed,
    Hurry,
    Operation,
    Reply,
    Send,
    Sleep,
    ask,
    work,
)
from dfs.core.errors import IncompleteError, IntegrityError, NodeError, RemoteProtocolError
from dfs.core.floors import Floors
from dfs.core.interface import Buffer, Code
from dfs.core.keys import VaultKeys
from dfs.core.manifest import chunks_digest, decode_chunks, open_entry
from dfs.core.pipeline import Packer, Slot, Stages
from dfs.core.quorum import Quorum, quorum_of, readable
from dfs.core.recent import Recent
from dfs.core.records import define, evolve, field, frozen
from dfs.core.roster import group_of
from dfs.core.types import (
    BAD_SHARES,
    Ballot,
    Chunk,
    Claim,
    DirectoryId,
    Entry,
    Geometry,
    Manifest,
    NodeId,
    Recipe,
    RegisterKey,
    RegisterRow,
    Roster,
    ShareKey,
    StripeId,
)

ENTRY_COUNT = 16 * limits.REGISTER_COUNT  # opened entries kept, as several nodes tell the same ones ...
ENTRY_SIZE = 4 * limits.KIB  # ... up to this sealed size
GROUP_COUNT = 1024  # groups kept; ranking all nodes of a large roster takes a while


@frozen
class Group:
    """The nodes of a directory: ``indexes`` into the roster, ``nodes`` in the same order."""

    indexes: tuple[int, ...]
    nodes: tuple[NodeId, ...]
    quorum: Quorum


@frozen
class Vault:
    """What operations know of the vault they work on.

    ``counted``: nodes whose vault is ACTIVE (they count in R), ``returning``: those that lost state and take
    writes only, ``rolled_back``: those of them that came back with older state (QUARANTINED). ``entropy``:
    fresh random bytes. ``names``: what people call the nodes. ``stages_of``: the behaviours behind a recipe,
    ``packer_of``: behind a qualified compressor name, ``code_of``: behind a claim's code and geometry (all
    raise PluginError when one is missing). ``keyless``: a healer's view, which has no keys to open or prove
    anything with. ``floors``: what this client has seen of registers. ``suspicions``: nodes that told what
    cannot be true, and what; it grows while operations run. ``others``: keys of a generation that lies beside
    this one while the master key is rotated. ``closed``: nobody writes, because the copy of it is being made
    whole.
    """

    keys: VaultKeys = field(repr=False)
    roster: Roster
    roster_digest: bytes
    counted: frozenset[NodeId]
    entropy: Callable[[int], bytes] = field(repr=False)
    names: Mapping[NodeId, str]
    stages_of: Callable[[Recipe], Stages] = field(repr=False)
    packer_of: Callable[[str], Packer] = field(repr=False)
    code_of: Callable[[str, Geometry], Code] = field(repr=False)
    returning: frozenset[NodeId] = frozenset()
    rolled_back: frozenset[NodeId] = frozenset()
    keyless: bool = False
    floors: Floors = field(factory=Floors, repr=False, eq=False)
    suspicions: dict[NodeId, str] = field(factory=dict, eq=False)
    others: tuple[VaultKeys, ...] = field(default=(), repr=False)
    closed: bool = False
    _opened: Recent[tuple[RegisterKey, Ballot, bytes], Entry] = field(
        factory=lambda: Recent(ENTRY_COUNT), init=False, repr=False, eq=False
    )
    _groups: Recent[DirectoryId, Group] = field(
        factory=lambda: Recent(GROUP_COUNT), init=False, repr=False, eq=False
    )

    def suspect(self, nodes: Iterable[NodeId], reason: str) -> None:
        """Remember that nodes told what cannot be true; the first reason of each stays."""
        for node in nodes:
            self.suspicions.setdefault(node, reason)

    def note(self, errors: Mapping[NodeId, Exception]) -> None:
        """Suspect the nodes whose answers were nonsense."""
        for node, error in errors.items():
            if isinstance(error, (RemoteProtocolError, IntegrityError)):
                self.suspect([node], error.what)

    def open(self, key: RegisterKey, row: RegisterRow) -> Entry:
        """Return the entry in a row. Raises: CorruptEntryError: it was not sealed for this place."""
        if len(row.value) > ENTRY_SIZE:
            return open_entry(self.keys.entry, key, row)
        place = (key, row.accepted, row.value)
        return self._opened.get(place, lambda: open_entry(self.keys.entry, key, row))

    def group(self, directory: DirectoryId) -> Group:
        """Return the group of a directory."""
        return self._groups.get(directory, lambda: self._group_of(directory))

    def _group_of(self, directory: DirectoryId) -> Group:
        indexes = group_of(self.roster, directory)
        nodes = tuple(self.roster.nodes[index].node_id for index in indexes)
        return Group(indexes, nodes, quorum_of(len(nodes), self.roster.tolerance))

    def nodes_of(self, rows: Sequence[Sequence[int]]) -> tuple[tuple[NodeId, ...], ...]:
        """Return node ids for rows of roster indexes."""
        return tuple(tuple(self.roster.nodes[index].node_id for index in row) for row in rows)

    def named(self, nodes: Sequence[NodeId]) -> str:
        """Return node names for a message."""
        return ", ".join(self.names.get(node, node.hex()[:8]) for node in nodes)

    def clauses(self, errors: Mapping[NodeId, Exception]) -> list[str]:
        """Return why nodes did not answer, one clause each."""
        ordered = sorted(errors, key=self._place)
        return [f"{self.named([node])}: {self._reason(node, errors[node])}" for node in ordered]

    def _reason(self, node: NodeId, error: Exception) -> str:
        """Return why a node did not answer, without its name and address again."""
        label = self.named([node])
        what = str(getattr(error, "what", error))
        return what.removeprefix(f"{label} ").removeprefix(f"{label.rpartition(' ')[2]} ")

    def _place(self, node: NodeId) -> int:
        """Return where a node stands in the ring; one that is not in it stands first."""
        places = {known.node_id: place for place, known in enumerate(self.roster.nodes)}
        return places.get(node, -1)

    def reasons(self, errors: Mapping[NodeId, Exception]) -> str:
        """Return why nodes did not answer, in one line; nodes with one reason together."""
        nodes_by_reason: dict[str, list[NodeId]] = {}
        for node in sorted(errors, key=self._place):
            nodes_by_reason.setdefault(self._reason(node, errors[node]), []).append(node)
        return "; ".join(f"{self.named(nodes)}: {reason}" for reason, nodes in nodes_by_reason.items())


# --- Download -----------------------------------------------------------------------------------------------


@define
class Ledger:
    """What a command learned while fetching: bytes by node, nodes too slow to wait for, nodes that lied.

    ``needed_size``: bytes that k shares of each chunk have.
    """

    received: dict[NodeId, int] = field(factory=dict)
    needed_size: int = 0
    slow: set[NodeId] = field(factory=set)
    suspects: set[NodeId] = field(factory=set)
    errors: dict[NodeId, Exception] = field(factory=dict)


@frozen
class Came:
    """A share as it came: who sent it, with which checksum."""

    node: NodeId
    checksum: bytes
    body: Buffer = field(repr=False)


@frozen
class Source:
    """One chunk to fetch: its stages, stripe id, where its shares are, and some that came with the entry."""

    stages: Stages
    chunk: Chunk
    stripe: StripeId
    rows: tuple[tuple[NodeId, ...], ...]
    shares: Mapping[int, Came] = field(factory=dict, repr=False)


@define
class _Fetch:
    """The fetching of one chunk: which (share, node) pairs are under way, done, or still to try."""

    vault: Vault
    source: Source
    slot: Slot
    ledger: Ledger
    came: dict[int, Came] = field(factory=dict)
    waiting: dict[tuple[int, NodeId], None] = field(factory=dict)
    tried: dict[tuple[int, NodeId], int] = field(factory=dict)

    @property
    def share_size(self) -> int:
        """Bytes of each share."""
        return pipeline.stripe_size(self.source.stages, self.source.chunk)[1]

    def target(self, index: int) -> memoryview:
        """Return where a share goes: data shares to their place in the stripe, others behind each other."""
        geometry, size = self.source.stages.recipe.geometry, self.share_size
        name, count, place = (
            ("stripe", geometry.needed, index)
            if index < geometry.needed
            else ("parity", geometry.total - geometry.needed, index - geometry.needed)
        )
        return self.slot.view(name, count * size)[place * size : (place + 1) * size]

    def sends(self, count: int) -> list[Send]:
        """Return requests so that ``count`` shares are there or under way, the best sources first."""
        chosen: list[Send] = []
        while len(self.came) + len(self.waiting) < count:
            pair = self._next()
            if pair is None:
                break
            chosen.append(self.send(pair, self.target(pair[0])))
        return chosen

    def send(self, pair: tuple[int, NodeId], target: memoryview) -> Send:
        """Return the request for one share of one node."""
        index, node = pair
        self.tried[pair] = self.tried.get(pair, 0) + 1
        self.waiting[pair] = None
        request = messages.Fetch((ShareKey(self.source.stripe, index),))
        return Send(pair, node, request, into=(target,))

    def _next(self) -> tuple[int, NodeId] | None:
        busy = {index for index, _ in self.waiting} | set(self.came)
        pairs = [
            (self.tried.get((index, node), 0), node in self.ledger.slow, index, preference, node)
            for index, nodes in enumerate(self.source.rows)
            if index not in busy
            for preference, node in enumerate(nodes)
            if self.tried.get((index, node), 0) < (2 if node in self.ledger.slow else 1)
        ]
        if not pairs:
            return None
        _, _, index, _, node = min(pairs)
        return index, node

    def take(self, event: Event, target: memoryview | None = None) -> Came | None:
        """Note the answer to one request and return the share it brought into ``target``, if any."""
        pair = next((pair for pair in self.waiting if pair == event.tag), None)
        if pair is None:
            return None
        del self.waiting[pair]
        index, node = pair
        if isinstance(event, Failed):
            self.vault.note({node: event.error})
            self.ledger.errors[node] = event.error
            self.ledger.slow.add(node)
        if not isinstance(event, Reply) or not isinstance(event.response, messages.FetchReply):
            return None
        (result,) = event.response.results
        if result.status != messages.FOUND:
            if result.status == messages.CORRUPT:
                self.ledger.suspects.add(node)
            self.ledger.errors[node] = NodeError("its share is missing or damaged")
            return None
        return self.keep(index, Came(node, result.checksum, self.target(index) if target is None else target))

    def keep(self, index: int, came: Came) -> Came:
        """Take a share over."""
        received = self.ledger.received
        received[came.node] = received.get(came.node, 0) + len(came.body)
        self.came.setdefault(index, came)
        return came


def _collect(fetch: _Fetch, count: int) -> Operation[None]:
    effects: Effects = tuple(fetch.sends(count))
    if effects:
        effects = (*effects, Sleep("hedge", limits.HEDGE_S))
    while fetch.waiting:
        event = yield effects
        effects = ()
        if isinstance(event, Done):
            hurried = [pair for pair in fetch.waiting if fetch.tried[pair] == 1]
            effects = tuple(Hurry(pair, limits.HEDGE_S, remember=False) for pair in hurried)
        else:
            fetch.take(event)
            effects = tuple(fetch.sends(count))


def _collect_copies(fetch: _Fetch) -> Operation[dict[int, list[Came]]]:
    """Fetch every copy of every share that is not here yet, and return all there are of each, those first
    whose checksum fits.
    """
    copies = {index: [evolve(came, body=bytes(came.body))] for index, came in fetch.came.items()}
    here = {(index, came.node) for index, came in fetch.came.items()}
    targets = {
        (index, node): memoryview(bytearray(fetch.share_size))
        for index, nodes in enumerate(fetch.source.rows)
        for node in nodes
        if (index, node) not in here
    }
    effects: Effects = (
        *(fetch.send(pair, target) for pair, target in targets.items()),
        *(Hurry(pair, remember=False) for pair in targets),
    )
    while fetch.waiting:
        event = yield effects
        effects = ()
        pair = next((pair for pair in fetch.waiting if pair == event.tag), None)
        if pair is not None and (came := fetch.take(event, targets[pair])) is not None:
            copies.setdefault(pair[0], []).append(evolve(came, body=bytes(came.body)))
    for there in copies.values():
        there.sort(key=lambda came: xxh3_128_digest(came.body) != came.checksum)
    return copies


def fetch_chunk(
    vault: Vault, source: Source, slot: Slot, ledger: Ledger, deliver: Callable[[memoryview], object]
) -> Operation[None]:
    """Fetch k shares of a chunk, open it and hand the plain bytes to ``deliver`` on a worker thread.

    Raises:
        IncompleteError: fewer than k shares can be had. IntegrityError: no set of them gives the chunk.
    """
    fetch = _Fetch(vault, source, slot, ledger)
    geometry = source.stages.recipe.geometry
    ledger.needed_size += geometry.needed * fetch.share_size
    for index, came in source.shares.items():
        if len(came.body) == fetch.share_size:  # a node may send anything
            fetch.keep(index, came)
        else:
            vault.suspect([came.node], BAD_SHARES)
    yield from _collect(fetch, geometry.needed)
    if len(fetch.came) < geometry.needed:
        raise _incomplete(fetch)
    target = slot.view("plain", source.chunk.plain_size)

    def open_it() -> bool:
        bodies = {index: came.body for index, came in fetch.came.items()}
        try:
            pipeline.open_stripe(source.stages, vault.keys, slot, source.chunk, bodies, target)
        except IntegrityError:
            return False
        deliver(target)
        return True

    if (yield from work(open_it)):
        return
    copies = yield from _collect_copies(fetch)

    def open_anyhow() -> set[NodeId]:
        liars = _open_doubtful(vault, source, copies, target)
        deliver(target)
        return liars

    liars = yield from work(open_anyhow)
    vault.suspect(liars, BAD_SHARES)
    ledger.suspects |= liars


def _open_doubtful(
    vault: Vault, source: Source, copies: Mapping[int, Sequence[Came]], target: memoryview
) -> set[NodeId]:
    """Open a chunk although some copies of its shares are wrong, and return the nodes that sent those.

    Raises:
        IntegrityError: no choice tried gives the chunk.
    """
    choices = islice(product(*copies.values()), pipeline.SUBSET_COUNT_MAX)
    for choice in choices:
        chosen = dict(zip(copies, choice, strict=True))
        bodies = {index: came.body for index, came in chosen.items()}
        checksums = {index: came.checksum for index, came in chosen.items()}
        try:
            found = pipeline.open_doubtful(source.stages, vault.keys, source.chunk, bodies, checksums, target)
        except IntegrityError:
            continue
        wrong = {chosen[index].node for index in found.bad}
        return wrong | {
            came.node for index in found.good for came in copies[index] if came.body != bodies[index]
        }
    raise IntegrityError("no set of shares gives the chunk that was stored")


def _incomplete(fetch: _Fetch) -> IncompleteError:
    geometry = fetch.source.stages.recipe.geometry
    there = len(fetch.came)
    return IncompleteError(
        f"needs {geometry.needed} of {geometry.total} shares, {there} reachable"
        f" ({fetch.vault.reasons(fetch.ledger.errors)})"
    )


# --- What an entry claims -----------------------------------------------------------------------------------


def sources_of(vault: Vault, group: Group, manifest: Manifest, chunks: Sequence[Chunk]) -> Iterator[Source]:
    """Yield what is needed to fetch each of some chunks of a manifest.

    Raises:
        PluginError: the manifest needs a plugin that is not installed.
    """
    stages = vault.stages_of(manifest.recipe)
    for chunk in chunks:
        stripe = pipeline.name_stripe(stages, vault.keys, chunk)
        rows = pipeline.place_stripe(stages, manifest.facts, stripe, group.indexes, vault.roster.nodes)
        yield Source(stages, chunk, stripe, vault.nodes_of(rows))


def chunks_of(vault: Vault, group: Group, manifest: Manifest, ledger: Ledger) -> Operation[tuple[Chunk, ...]]:
    """Return all chunks of a file, fetching the chunk list if it is stored as chunks itself.

    Raises:
        IncompleteError, IntegrityError: the list cannot be had.
    """
    chunks = manifest.chunks
    if manifest.listed:
        parts: list[bytes] = []
        for source in sources_of(vault, group, manifest, manifest.chunks):
            yield from fetch_chunk(vault, source, Slot(), ledger, lambda plain: parts.append(bytes(plain)))
        chunks = decode_chunks(b"".join(parts))
    if chunks_digest(chunks) != manifest.chunks_digest:
        raise IntegrityError("a chunk list is not the one its entry names")
    return chunks


def claims_of(vault: Vault, group: Group, entry: Entry) -> Operation[Sequence[Claim]]:
    """Return the claims of an entry, as they follow from its manifest."""
    manifest = entry.manifest
    if manifest is None:
        return ()
    chunks = yield from chunks_of(vault, group, manifest, Ledger())
    stages = vault.stages_of(manifest.recipe)
    listed = manifest.chunks if manifest.listed else ()
    return claims_on(vault, group, stages, manifest.facts, (*chunks, *listed))


def claims_of_row(
    vault: Vault, key: RegisterKey, row: RegisterRow, tellers: Sequence[NodeId]
) -> Operation[tuple[Claim, ...] | None]:
    """Return the claims of a register's value as one of these nodes tells them; None if none does in full."""
    if not row.claim_set:
        return ()
    for node in tellers:
        claims: list[Claim] = []
        more = True
        while more:
            request = messages.Claimed(vault.roster_digest, key, row.accepted, len(claims))
            told, more = yield from _claims_page(node, request)
            claims.extend(told)
        if register.claim_set_digest(b"".join(map(bulk_rows.encode_claim, claims))) == row.claim_set:
            return tuple(claims)
    return None


def _claims_page(node: NodeId, request: messages.Claimed) -> Operation[tuple[tuple[Claim, ...], bool]]:
    """Return the next claims that a node tells, and whether there may be more."""
    told: tuple[Claim, ...] = ()
    more = False

    def take(_node: NodeId, reply: Reply) -> None:
        nonlocal told, more
        told = bulk_rows.decode_claims(reply.bulk)
        more = isinstance(reply.response, messages.ClaimedReply) and reply.response.more and bool(told)

    yield from ask([Send(node, node, request)], take=take, quick=True)
    return told, more


def claims_on(
    vault: Vault, group: Group, stages: Stages, facts: bytes, chunks: Sequence[Chunk]
) -> tuple[Claim, ...]:
    """Return one claim for each different chunk, in order."""
    different = {chunk.chunk_id: chunk for chunk in chunks}.values()
    nodes = vault.roster.nodes
    return tuple(
        pipeline.claim_stripe(stages, vault.keys, facts, chunk, group.indexes, nodes) for chunk in different
    )


def require_readable(
    vault: Vault, group: Group, claims: Sequence[Claim], whole: Collection[NodeId]
) -> Operation[None]:
    """Check that every claimed stripe can be rebuilt: by nodes known to hold all of theirs, else by asking.

    Raises:
        IncompleteError: it cannot.
    """
    indexes = {index for index, node in zip(group.indexes, group.nodes, strict=True) if node in whole}
    if all(readable(claim.geometry, claim.nodes, indexes) for claim in claims):
        return
    step = limits.BATCH_COUNT_MAX // limits.GROUP_SIZE_MAX
    for first in range(0, len(claims), step):
        part = claims[first : first + step]
        keys = tuple(ShareKey(claim.stripe, index) for claim in part for index in range(claim.geometry.total))
        answers = yield from ask([Send(node, node, messages.Has(keys)) for node in group.nodes], quick=True)
        held = {
            key
            for reply in answers.replies.values()
            if isinstance(reply.response, messages.HasReply)
            for key, has in zip(keys, reply.response.held, strict=False)
            if has
        }
        for claim in part:
            there = sum(1 for index in range(claim.geometry.total) if ShareKey(claim.stripe, index) in held)
            if there < claim.geometry.needed:
                reasons = vault.reasons(answers.errors) or "its writer was cut off"
                raise IncompleteError(
                    f"an earlier version has {there} of {claim.geometry.needed} needed shares within reach"
                    f" and may have been written ({reasons})"
                )
