"""A plugin in one file, installed nowhere: `dfs --plugin local_plugin.py put --placement turn FILE`.

The placement `turn` puts share i on node i of the group, turned by the first byte of the stripe's id: easy to
follow by eye.
"""

from collections.abc import Iterable, Sequence
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


class Turn:
    """The group, turned."""

    scope = Scope.CHUNK

    def facts(self, key: bytes, nodes: Sequence[Node]) -> bytes:
        """Return nothing."""
        return b""

    def place(
        self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]
    ) -> tuple[tuple[Node, ...], ...]:
        """Take the nodes in turn."""
        total = len(nodes)
        if facts:
            raise IntegrityError("the placement turn keeps no facts")
        if not total or count > total or (copies > total > 1):
            raise ConfigError(f"{count} shares, {copies} times each, do not fit on {total} nodes")
        steps = range(min(copies, total))
        return tuple(
            tuple(nodes[(index + step + key[0]) % total] for step in steps) for index in range(count)
        )


def make(options: PlacementOptions) -> Placement:
    """Make it; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"the placement turn has no option {key!r}")
    return Turn()


@hookimpl
def dfs_placements() -> Iterable[PlacementPlugin]:
    """Declare it."""
    return (PlacementPlugin(name="turn", summary="the group, turned by a byte", make=make),)
