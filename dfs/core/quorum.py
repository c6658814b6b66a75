"""How many nodes must answer: the only place that computes R, W and H.

n nodes hold a register, r of them may have been rolled back unnoticed. R + W >= n + 1 + r makes every read
meet every chosen write on a node that remembers it. H is how many nodes must hold their shares before a
version may be accepted.
Source: CASPaxos (Rystsov 2018) with grid-free quorums; the r term was found and confirmed by simulation.
"""

from collections.abc import Collection, Sequence
from itertools import combinations

from dfs.core import limits
from dfs.core.errors import ConfigError
from dfs.core.records import frozen
from dfs.core.types import Geometry


@frozen
class Quorum:
    """``total`` n, ``tolerance`` r, ``read`` R and ``write`` W of one group."""

    total: int
    tolerance: int
    read: int
    write: int

    def excluded(self, known: int = 0) -> int:
        """So many promising nodes that lack a ballot prove that it was not chosen: n - W + 1 + r.

        ``known``: nodes that were rolled back, and known to be: they promise nothing, and of the r nodes that
        may have forgotten, so many fewer are among those that do.
        """
        return self.total - self.write + 1 + max(0, self.tolerance - known)


def default_tolerance(total: int) -> int:
    """Return r: one rolled-back or replaying node is tolerated from four nodes on."""
    return 1 if total >= 4 else 0


def quorum_of(total: int, tolerance: int) -> Quorum:
    """Return the quorum of ``total`` nodes with the smallest max(R, W); the odd one goes to W.

    Raises:
        ConfigError: the numbers break an inequality.
    """
    if not 1 <= total <= limits.GROUP_SIZE_MAX:
        raise ConfigError(f"a group has 1 to {limits.GROUP_SIZE_MAX} nodes, not {total}")
    both = total + 1 + tolerance
    write, read = (both + 1) // 2, both // 2
    if tolerance < 0 or write > total or read < 1:
        raise ConfigError(f"{total} nodes cannot tolerate {tolerance} rolled-back nodes")
    return Quorum(total, tolerance, read, write)


def default_geometry(node_count: int) -> Geometry:
    """Return k of n for a new vault on so many nodes."""
    total = min(node_count, limits.GROUP_SIZE_MAX)
    return Geometry(max(1, total // 2), total)


def share_threshold(geometry: Geometry, rows: Sequence[Collection[int]], quorum: Quorum) -> int:
    """Return H, the least count of nodes that must hold their shares before ACCEPT.

    Args:
        geometry: k and n of the code.
        rows: row i = nodes of share i, as the placement gave them.

    For one share a node it is min(n, max(k + 1, W)); otherwise the least count such that, whichever nodes
    they are, one further loss is survived. A map that survives no loss needs every node.
    """
    if _one_each(rows):
        return min(geometry.total, max(geometry.needed + 1, quorum.write))
    node_count = len({node for row in rows for node in row})
    survived = 0
    while survived < node_count and _always_readable(geometry, rows, survived + 1):
        survived += 1
    return max(min(node_count, quorum.write), node_count - max(0, survived - 1))


def _one_each(rows: Sequence[Collection[int]]) -> bool:
    """Return whether each share is on a node of its own, as it is with most codes: then counting suffices."""
    return all(len(row) == 1 for row in rows) and len({node for row in rows for node in row}) == len(rows)


def _always_readable(geometry: Geometry, rows: Sequence[Collection[int]], lost_count: int) -> bool:
    nodes = sorted({node for row in rows for node in row})
    return all(
        readable(geometry, rows, set(nodes).difference(lost)) for lost in combinations(nodes, lost_count)
    )


def readable(geometry: Geometry, rows: Sequence[Collection[int]], holders: Collection[int]) -> bool:
    """Return whether the shares on ``holders`` give the stripe back."""
    return sum(1 for row in rows if any(node in holders for node in row)) >= geometry.needed


def survives(geometry: Geometry, rows: Sequence[Collection[int]], holders: Collection[int]) -> int:
    """Return how many of ``holders``, any of them, may still be lost before the stripe is; -1 if it is."""
    if _one_each(rows):
        return max(-1, sum(1 for row in rows for node in row if node in holders) - geometry.needed)
    remaining = sorted(set(holders))
    if not readable(geometry, rows, remaining):
        return -1
    for lost_count in range(1, len(remaining) + 1):
        for lost in combinations(remaining, lost_count):
            if not readable(geometry, rows, set(remaining).difference(lost)):
                return lost_count - 1
    return len(remaining)
