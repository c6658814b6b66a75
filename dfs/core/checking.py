"""Check: how every file stands, from what nodes say of their rows; on request they read and hash shares.

Pure operations. Nothing is changed but what nodes know of themselves: a share found bad is marked so.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from attrs import fields

from dfs.core import limits, messages
from dfs.core.effects import Operation, Reply, Send, ask
from dfs.core.errors import DfsError
from dfs.core.folders import Health, Listed, standing, stat, walk
from dfs.core.keys import directory_id, register_key
from dfs.core.paths import printable
from dfs.core.reading import Found, read_registers
from dfs.core.records import define, field
from dfs.core.runs import runs
from dfs.core.standing import Checked, FileStanding, FileState, Flaw
from dfs.core.transfer import Group, Vault, claims_of
from dfs.core.types import EntryKind, NodeId, RegisterKey, ShareKey

VERIFY_SIZE: Final = 64 * limits.MIB  # share bytes one request lets a node read
MISSING: Final = "missing"
CORRUPT: Final = "corrupt"


@define
class _Reading:
    """What nodes found when they read their shares: flaws by path, and how many bytes they read."""

    flaws: dict[str, set[Flaw]] = field(factory=dict)
    size: int = 0


def check(vault: Vault, path: str, *, read_ratio: float = 0.0) -> Operation[Checked]:
    """Return how a file, or all files below a folder, stand.

    Args:
        read_ratio: the part of all chunks (0 to 1, drawn at random) whose shares nodes read and hash.

    Raises:
        NotFoundError, QuorumError.
    """
    met = yield from ask(
        [Send(node.node_id, node.node_id, messages.Ping()) for node in vault.roster.nodes], quick=True
    )
    away = {node: str(getattr(error, "what", error)) for node, error in met.errors.items()}
    listed = yield from _files(vault, path)
    reading = _Reading()
    if read_ratio:
        for item in listed:
            yield from _read(vault, item, read_ratio, reading)
        listed = yield from _files(vault, path)
    flawed = [item for item in listed if item.health is not Health.COMPLETE or item.stale]
    found = yield from _rows(vault, flawed)
    files = [_standing_of(vault, item, found.get(item.entry.path), reading) for item in listed]
    return Checked(tuple(files), away, reading.size)


def _files(vault: Vault, path: str) -> Operation[list[Listed]]:
    """Return the files to check."""
    item = yield from stat(vault, path)
    if item.entry.kind is EntryKind.FILE:
        return [item]
    below = yield from walk(vault, path)
    return [item for item in below if item.entry.kind is EntryKind.FILE]


def _group_of(vault: Vault, path: str) -> Group:
    return vault.group(directory_id(vault.keys, path.rpartition("/")[0]))


def _rows(vault: Vault, listed: Sequence[Listed]) -> Operation[Mapping[str, Found]]:
    """Return what every node says of some files."""
    keys: dict[RegisterKey, str] = {
        register_key(vault.keys, item.entry.path): item.entry.path for item in listed
    }
    if not keys:
        return {}
    found = yield from read_registers(vault, list(keys), wait_all=True)
    return {path: found[key] for key, path in keys.items()}


def _standing_of(vault: Vault, item: Listed, found: Found | None, reading: _Reading) -> FileStanding:
    entry = item.entry
    flaws = set(reading.flaws.get(entry.path, ()))
    if found is not None:
        flaws |= {Flaw(node, CORRUPT) for node in found.corrupt}
        for node in found.answered - found.corrupt:
            row = found.rows.get(node)
            if row is None or row.owed_count:
                flaws.add(Flaw(node, MISSING))
            if row is not None and row.corrupt_count:
                flaws.add(Flaw(node, CORRUPT))
    geometry = entry.manifest.recipe.geometry if entry.manifest is not None else None
    quorum = _group_of(vault, entry.path).quorum
    return FileStanding(
        path=entry.path,
        size=entry.size,
        state=_state(item, flaws),
        held=item.node_count,
        total=item.node_total,
        needed=geometry.needed if geometry is not None else quorum.total - quorum.write + 1,
        survives=item.survives,
        stale=item.stale,
        flaws=tuple(sorted(flaws, key=lambda flaw: (flaw.node, flaw.what))),
        holders=item.holders,
    )


def _state(item: Listed, flaws: Collection[Flaw]) -> FileState:
    if item.health is Health.INCOMPLETE:
        return FileState.INCOMPLETE
    if any(flaw.what == CORRUPT for flaw in flaws):
        return FileState.CORRUPT
    whole = item.health is Health.COMPLETE and not flaws
    return FileState.COMPLETE if whole else FileState.DEGRADED


# --- Reading shares -----------------------------------------------------------------------------------------


def _read(vault: Vault, item: Listed, ratio: float, reading: _Reading) -> Operation[None]:
    """Let nodes read the shares of a file."""
    group = _group_of(vault, item.entry.path)
    try:
        claims = yield from claims_of(vault, group, item.entry)
    except DfsError:
        return  # its chunk list cannot be had: its rows tell that it is incomplete
    chosen = [claim for claim in claims if ratio >= 1 or _drawn(vault) < ratio]
    wanted: dict[NodeId, list[tuple[ShareKey, int]]] = {node: [] for node in group.nodes}
    for claim in chosen:
        for index, nodes in enumerate(vault.nodes_of(claim.nodes)):
            for node in nodes:
                wanted[node].append((ShareKey(claim.stripe, index), claim.share_size))
    batches = {
        node: list(runs(shares, itemgetter(1), VERIFY_SIZE, limits.BATCH_COUNT_MAX))
        for node, shares in wanted.items()
        if shares
    }
    flaws = reading.flaws.setdefault(item.entry.path, set())
    for position in range(max(map(len, batches.values()), default=0)):
        part = {node: rows[position] for node, rows in batches.items() if position < len(rows)}
        answers = yield from ask(
            [
                Send(node, node, messages.Verify(tuple(key for key, _ in shares)))
                for node, shares in part.items()
            ]
        )
        for node, reply in answers.replies.items():
            reading.size += sum(size for _, size in part[node])
            flaws |= set(_flaws(node, reply))


def _drawn(vault: Vault) -> float:
    return int.from_bytes(vault.entropy(4), "big") / (1 << 32)


def _flaws(node: NodeId, reply: Reply) -> Iterator[Flaw]:
    told = reply.response
    for status in told.statuses if isinstance(told, messages.VerifyReply) else ():
        if status != messages.FOUND:
            yield Flaw(node, CORRUPT if status == messages.CORRUPT else MISSING)


# --- Nodes --------------------------------------------------------------------------------------------------


def nodes_status(
    vault: Vault,
) -> Operation[tuple[dict[NodeId, dict[str, Any]], dict[NodeId, Exception]]]:
    """Return what every node says of its vault, as fields of a NodeStanding, or why it says nothing."""
    nodes = [node.node_id for node in vault.roster.nodes]
    answers = yield from ask([Send(node, node, messages.Status()) for node in nodes], quick=True)
    quotas = yield from ask([Send(node, node, messages.Quota()) for node in answers.replies], quick=True)
    told: dict[NodeId, dict[str, Any]] = {}
    for node, reply in answers.replies.items():
        if isinstance(reply.response, messages.StatusReply):
            names = (attribute.name for attribute in fields(messages.StatusReply))
            told[node] = {name: getattr(reply.response, name) for name in names}
            told[node]["read_only"] = printable(reply.response.read_only)
    for node, reply in quotas.replies.items():
        if isinstance(reply.response, messages.QuotaReply) and node in told:
            used_size, quota = reply.response.used_size, reply.response.quota
            told[node] |= {"charged_size": used_size, "quota": quota[0] if quota else None}
    return told, dict(answers.errors)


# --- What if ------------------------------------------------------------------------------------------------


def lost_without(vault: Vault, path: str, killed: Collection[NodeId] | int) -> Operation[frozenset[str]]:
    """Return the files that could not be read any more without some nodes, or any choice of so many."""
    listed = yield from _files(vault, path)
    if isinstance(killed, int):
        return frozenset(item.entry.path for item in listed if _spare(item) < killed)
    lost = set()
    for item in listed:
        left = item.holders.difference(killed)
        without = standing(vault, _group_of(vault, item.entry.path), item.entry, left)
        if without["health"] is Health.INCOMPLETE or not left:
            lost.add(item.entry.path)
    return frozenset(lost)


def _spare(item: Listed) -> int:
    """Return how many nodes, any of them, may go before nothing of a file can be read; -1: none can now."""
    if item.health is Health.INCOMPLETE:
        return -1
    return item.survives if item.entry.manifest is not None else len(item.holders) - 1
