"""The roster of a vault: its bytes and digest, and which nodes form the group of a directory.

Groups are chosen by weighted rendezvous hashing: node score = -weight / ln(u), u in (0, 1) from a hash of key
and node id; the highest scores win. Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables"
(2005). Among zones the one with the fewest nodes chosen so far goes first, so a group spreads over zones as
evenly as it can.
"""

import math
from collections.abc import Sequence

from blake3 import blake3

from dfs.core import encoding, limits
from dfs.core.encoding import exactly, items, raw, record, text, uint
from dfs.core.errors import RemoteProtocolError
from dfs.core.records import evolve
from dfs.core.types import DirectoryId, Node, NodeId, Roster

ROSTER_FORMAT = 1
ROSTER_SIZE_MAX = 256 * limits.KIB
WEIGHT_SCALE = 1000  # weights travel as thousandths


def encode_roster(roster: Roster) -> bytes:
    """Return the canonical bytes of a roster."""
    nodes = [(node.node_id, max(1, round(node.weight * WEIGHT_SCALE)), node.zone) for node in roster.nodes]
    return encoding.encode((ROSTER_FORMAT, roster.epoch, roster.group_size, roster.tolerance, nodes))


def _node(node_id: bytes, weight: int, zone: str) -> Node:
    return Node(NodeId(node_id), weight / WEIGHT_SCALE, zone)


def _roster(_format: int, epoch: int, group_size: int, tolerance: int, nodes: tuple[Node, ...]) -> Roster:
    return Roster(epoch, nodes, group_size, tolerance)


_NODE = record(_node, raw(limits.NODE_ID_SIZE), uint(10**9), text(255))
_ROSTER = record(
    _roster,
    exactly(ROSTER_FORMAT),
    uint((1 << 32) - 1),
    uint(limits.GROUP_SIZE_MAX),
    uint(limits.GROUP_SIZE_MAX),
    items(_NODE, limits.NODE_COUNT_MAX),
)


def decode_roster(encoded: bytes) -> Roster:
    """Return the roster of canonical bytes.

    Raises:
        RemoteProtocolError: they are none.
    """
    roster: Roster = encoding.decode(
        encoded, _ROSTER, what="a roster", error=RemoteProtocolError, size_max=ROSTER_SIZE_MAX
    )
    return roster


def roster_digest(encoded: bytes) -> bytes:
    """Return the digest that goes with every register request."""
    return blake3(encoded, derive_key_context="dfs 1 roster digest").digest()


def lineage(encoded: bytes) -> tuple[bytes, int]:
    """Return a roster's bytes as they are in epoch 1, and its epoch; what is no roster is its own, epoch 0.

    Rosters of one lineage differ in nothing but when they came into force.
    """
    try:
        roster = decode_roster(encoded)
    except RemoteProtocolError:
        return encoded, 0
    return encode_roster(evolve(roster, epoch=1)), roster.epoch


def succeeds(encoded: bytes, before: bytes) -> bool:
    """Return whether a roster takes the place of another: the same one, in a later epoch."""
    (nodes, epoch), (nodes_before, epoch_before) = lineage(encoded), lineage(before)
    return nodes == nodes_before and epoch > epoch_before


def score(key: bytes, node: Node) -> float:
    """Return the rendezvous score of a node for a key; higher is preferred."""
    drawn = int.from_bytes(blake3(key + node.node_id, derive_key_context="dfs 1 rendezvous").digest(8), "big")
    unit = (drawn >> 11) + 0.5  # 53 bits, never 0
    return -node.weight / math.log(unit / (1 << 53))


def rank(key: bytes, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return all nodes, best first for ``key``: by score, the zone used least so far going first."""
    waiting = sorted(nodes, key=lambda node: (-score(key, node), node.node_id))
    used: dict[str, int] = {}
    ranked: list[Node] = []
    while waiting:
        least = min(used.get(node.zone, 0) for node in waiting)
        chosen = next(node for node in waiting if used.get(node.zone, 0) == least)
        waiting.remove(chosen)
        used[chosen.zone] = least + 1
        ranked.append(chosen)
    return tuple(ranked)


def group_of(roster: Roster, directory: DirectoryId) -> tuple[int, ...]:
    """Return the roster indexes of the nodes that hold a directory, in roster order."""
    if roster.group_size == len(roster.nodes):
        return tuple(range(len(roster.nodes)))
    chosen = {node.node_id for node in rank(directory, roster.nodes)[: roster.group_size]}
    return tuple(index for index, node in enumerate(roster.nodes) if node.node_id in chosen)
