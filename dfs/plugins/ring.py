"""The placement `ring`: the original's table. One number x turns a file's shares round the ring of nodes.

x = MD5 mod N, of the file's name (option ``hash = name``, the default) or of its content (``hash =
content``). Share i is on nodes (i + x) mod N, preferred, and (i + x - 1) mod N. x is kept in the manifest, so
it tells each node log2 N bits of that MD5; nothing else here needs MD5 to be a good hash.
"""

import hashlib
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
NAME: Final = "ring"
SCOPES: Final = {"name": Scope.NAME, "content": Scope.CONTENT}
DIGEST_SIZE: Final = 16


class Ring:
    """All stripes of a file lie alike."""

    def __init__(self, scope: Scope) -> None:
        self.scope: Final = scope

    def facts(self, key: bytes, nodes: Sequence[Node]) -> bytes:
        """Return x as one byte. The key of scope CONTENT is the MD5 already: no file fits into a key."""
        digest = hashlib.md5(key, usedforsecurity=False).digest() if self.scope is Scope.NAME else key
        if len(digest) != DIGEST_SIZE:
            raise ValueError(f"the key of scope content is an MD5 of {DIGEST_SIZE} bytes, not {len(key)}")
        return bytes((int.from_bytes(digest, "big") % len(nodes),))

    def place(
        self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]
    ) -> tuple[tuple[Node, ...], ...]:
        """Turn the ring by x. A single node holds each share once, whatever ``copies``."""
        total = len(nodes)
        if count > total or (copies > total > 1) or not total:
            raise ConfigError(f"{count} shares, {copies} times each, do not fit on {total} nodes")
        if len(facts) != 1 or facts[0] >= total:
            raise IntegrityError(f"placement {NAME} keeps one number below {total}, not {facts!r}")
        x, steps = facts[0], range(min(copies, total))
        return tuple(tuple(nodes[(index + x - step) % total] for step in steps) for index in range(count))


def make(options: PlacementOptions) -> Placement:
    """Make the placement."""
    for key in options.values:
        if key != "hash":
            raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has hash")
    text = options.values.get("hash", "name")
    if text not in SCOPES:
        raise ConfigError(f"plugin {NAME}: hash is name or content, not {text!r}")
    return Ring(SCOPES[text])


@hookimpl
def dfs_placements() -> Iterable[PlacementPlugin]:
    """Declare ring."""
    return (PlacementPlugin(name=NAME, summary="the original's ring, turned by an MD5", make=make),)
