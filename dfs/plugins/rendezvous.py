"""The placement `rendezvous`, the default: each stripe its own order of the nodes, weighted, zone-aware.

The order is the core's own rendezvous hashing, so nothing is remembered: the stripe id tells where its shares
are.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dfs.core.api import (
    ConfigError,
    IntegrityError,
    Node,
    Placement,
    PlacementOptions,
    PlacementPlugin,
    Scope,
    UnknownKeyError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "rendezvous"


class Rendezvous:
    """Share i is on the i-th best node, its further copies on the next ones round."""

    scope = Scope.CHUNK

    def __init__(self, rank: Callable[[bytes, Sequence[Node]], tuple[Node, ...]]) -> None:
        self._rank: Final = rank

    def facts(self, key: bytes, nodes: Sequence[Node]) -> bytes:
        """Return nothing."""
        return b""

    def place(
        self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]
    ) -> tuple[tuple[Node, ...], ...]:
        """Rank the nodes by the stripe id. A single node holds each share once, whatever ``copies``."""
        if facts:
            raise IntegrityError(f"placement {NAME} keeps no facts, {len(facts)} bytes of them are there")
        total = len(nodes)
        if count > total or (copies > total > 1) or not total:
            raise ConfigError(f"{count} shares, {copies} times each, do not fit on {total} nodes")
        ranked = self._rank(key, nodes)
        steps = range(min(copies, total))
        return tuple(tuple(ranked[(index + step) % total] for step in steps) for index in range(count))


def make(options: PlacementOptions) -> Placement:
    """Make the placement; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has none")
    return Rendezvous(options.rank)


@hookimpl
def dfs_placements() -> Iterable[PlacementPlugin]:
    """Declare rendezvous."""
    return (PlacementPlugin(name=NAME, summary="weighted, zone-aware hashing, the default", make=make),)
