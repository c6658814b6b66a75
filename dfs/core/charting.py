"""Charts: which node holds how much of each file, and of each chunk of a file; pure operations.

They come from the counts in the nodes' rows and from what nodes say they lack: no share is read for them.
"""

from collections.abc import Collection, Mapping, Sequence

from dfs.core import bulk_rows, messages
from dfs.core.effects import Operation, Reply, Send, ask
from dfs.core.errors import RemoteProtocolError
from dfs.core.folders import Listed, stat, walk
from dfs.core.keys import register_key
from dfs.core.reading import Found, read_registers
from dfs.core.standing import Cell, CellState, ChartRow
from dfs.core.transfer import Group, Vault, claims_of
from dfs.core.types import Claim, EntryKind, NodeId, RegisterRow, StripeId


def chart(vault: Vault, path: str, *, chunks: bool = False) -> Operation[list[ChartRow]]:
    """Return a row for a file, or for each file below a folder; with ``chunks`` one for each chunk instead.

    Raises:
        NotFoundError, QuorumError. IncompleteError: the chunk list of a large file cannot be had.
    """
    item = yield from stat(vault, path)
    below = [item] if item.entry.kind is EntryKind.FILE else (yield from walk(vault, path))
    files = [each for each in below if each.entry.kind is EntryKind.FILE]
    keys = {each.entry.path: register_key(vault.keys, each.entry.path) for each in files}
    found = (yield from read_registers(vault, list(keys.values()), wait_all=True)) if keys else {}
    rows: list[ChartRow] = []
    for each in files:
        key = keys[each.entry.path]
        group = vault.group(key.directory)
        if chunks and each.entry.manifest is not None:
            rows.extend((yield from _chunk_rows(vault, each, group, found[key])))
        else:
            most = max((row.claimed_count for row in found[key].rows.values()), default=0)
            cells = tuple(_cell(node, found[key], most) for node in group.nodes)
            rows.append(ChartRow(each.entry.path, None, cells))
    return rows


def _cell(node: NodeId, found: Found, most: int) -> Cell:
    """Return what a node says of a file; ``most``: shares that another node should hold of it."""
    if node not in found.answered:
        return Cell(node, CellState.AWAY, total=most)
    row = found.rows.get(node)
    if row is None:
        return Cell(node, CellState.CORRUPT if node in found.corrupt else CellState.MISSING, total=most)
    held = row.claimed_count - row.owed_count - row.corrupt_count
    state = CellState.OK
    if row.corrupt_count:
        state = CellState.CORRUPT
    elif row.owed_count:
        state = CellState.MISSING
    return Cell(node, state, held=held, total=row.claimed_count)


def _chunk_rows(vault: Vault, item: Listed, group: Group, found: Found) -> Operation[list[ChartRow]]:
    claims = yield from claims_of(vault, group, item.entry)
    there = [node for node in group.nodes if node in found.answered]
    lacking = yield from _lacking(vault, there, {claim.stripe for claim in claims})
    return [
        ChartRow(item.entry.path, number, _chunk_cells(vault, claim, group, found, lacking))
        for number, claim in enumerate(claims)
    ]


def _chunk_cells(
    vault: Vault,
    claim: Claim,
    group: Group,
    found: Found,
    lacking: Mapping[NodeId, Collection[tuple[StripeId, int]]],
) -> tuple[Cell, ...]:
    held: dict[NodeId, list[int]] = {node: [] for node in group.nodes}
    for index, nodes in enumerate(vault.nodes_of(claim.nodes)):
        for node in nodes:
            held[node].append(index)
    cells = []
    for node, indexes in held.items():
        row = found.rows.get(node)
        if node not in lacking:
            cells.append(Cell(node, CellState.AWAY, 0, len(indexes), tuple(indexes)))
            continue
        absent = [index for index in indexes if row is None or (claim.stripe, index) in lacking[node]]
        state = _lack(row) if absent else CellState.OK
        cells.append(Cell(node, state, len(indexes) - len(absent), len(indexes), tuple(indexes)))
    return tuple(cells)


def _lack(row: RegisterRow | None) -> CellState:
    """Return how a share is lacking: nodes tell which ones they lack, and only in all how many are bad."""
    return CellState.CORRUPT if row is not None and row.corrupt_count else CellState.MISSING


def _lacking(
    vault: Vault, nodes: Sequence[NodeId], stripes: Collection[StripeId]
) -> Operation[dict[NodeId, set[tuple[StripeId, int]]]]:
    """Return which shares of some stripes nodes say they lack; those that say nothing are left out."""
    after: dict[NodeId, bytes] = dict.fromkeys(nodes, b"")
    lacking: dict[NodeId, set[tuple[StripeId, int]]] = {}
    silent: set[NodeId] = set()

    def take(node: NodeId, reply: Reply) -> None:
        told = bulk_rows.decode_lacking(reply.bulk)
        more = isinstance(reply.response, messages.LackingReply) and reply.response.more
        if more and (not told or told[-1].claim.stripe <= asked[node]):
            raise RemoteProtocolError("lacking shares that do not go on")
        lacking.setdefault(node, set()).update(
            (row.claim.stripe, index) for row in told for index in row.indexes if row.claim.stripe in stripes
        )
        if more:
            after[node] = told[-1].claim.stripe

    while after:
        asked, after = after, {}
        answers = yield from ask(
            [Send(node, node, messages.Lacking(vault.roster_digest, last)) for node, last in asked.items()],
            take=take,
            quick=True,
        )
        silent.update(answers.errors)
    return {node: shares for node, shares in lacking.items() if node not in silent}
