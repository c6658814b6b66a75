"""What `--stats` tells: bytes, round trips and their seconds, in all and by node."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dfs.core.records import evolve

if TYPE_CHECKING:
    from dfs.cluster import NodeTraffic


def since(before: "Mapping[str, NodeTraffic] | None", nodes: "Sequence[NodeTraffic]") -> "list[NodeTraffic]":
    """Return what went to and from nodes since a command began; ``before``: by address, as it was then."""
    return [_difference(before[node.address], node) if before else node for node in nodes]


def _difference(then: "NodeTraffic", now: "NodeTraffic") -> "NodeTraffic":
    return evolve(
        now,
        sent_size=now.sent_size - then.sent_size,
        received_size=now.received_size - then.received_size,
        request_count=now.request_count - then.request_count,
        busy_s=now.busy_s - then.busy_s,
    )


def traffic_lines(nodes: "Sequence[NodeTraffic]") -> list[str]:
    """Return a line for all nodes and one for each; plain numbers, for people and programs."""
    sent, received = sum(node.sent_size for node in nodes), sum(node.received_size for node in nodes)
    requests, busy = sum(node.request_count for node in nodes), sum(node.busy_s for node in nodes)
    rows = [
        ("all nodes", sent, received, requests, busy),
        *((n.name, n.sent_size, n.received_size, n.request_count, n.busy_s) for n in nodes),
    ]
    return [
        f"stats: {name}: sent_bytes {sent_size}, received_bytes {received_size},"
        f" round_trips {request_count}, seconds {busy_s:.3f}"
        for name, sent_size, received_size, request_count, busy_s in rows
    ]
