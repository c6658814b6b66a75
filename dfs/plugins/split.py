"""The code `split`: a stripe in k = n parts, each kept on two nodes. What the original did; no parity.

With the placement `ring` any two nodes that are not neighbours may be lost; `reed-solomon` costs as much and
loses nothing with any two.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dfs.core.api import (
    Buffer,
    Code,
    CodeOptions,
    CodePlugin,
    ConfigError,
    Geometry,
    IncompleteError,
    UnknownKeyError,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "split"


class Split:
    """Every share is needed, none is computed."""

    copies = 2

    def __init__(self, geometry: Geometry) -> None:
        self.geometry: Final = geometry

    def share_size(self, stripe_size: int) -> int:
        """Return a k-th of the stripe, rounded up."""
        return -(-stripe_size // self.geometry.needed)

    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        """Check the sizes: the parts are the stripe already."""
        if parity or len(stripe) % self.geometry.needed:
            raise ValueError(f"{NAME} takes a multiple of {self.geometry.needed} bytes and makes no parity")

    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        """Copy the wanted parts."""
        if not {*shares, *wanted} <= {*range(self.geometry.total)}:
            raise ValueError(f"a share index lies between 0 and {self.geometry.total - 1}")
        if len(shares) < self.geometry.needed:
            raise IncompleteError(f"{len(shares)} of the {self.geometry.needed} parts are there")
        if len({len(buffer) for buffer in (*shares.values(), *wanted.values())}) != 1:
            raise ValueError("all shares of a stripe have one size")
        for index, target in wanted.items():
            target[:] = shares[index]


def make(options: CodeOptions) -> Code:
    """Make the code; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has none")
    geometry = options.geometry
    if geometry.needed != geometry.total:
        raise ConfigError(f"plugin {NAME} needs k = n, not {geometry.needed} of {geometry.total}")
    return Split(geometry)


def fit(geometry: Geometry) -> Geometry:
    """Return n of n: all parts are needed."""
    return Geometry(geometry.total, geometry.total)


@hookimpl
def dfs_codes() -> Iterable[CodePlugin]:
    """Declare split."""
    return (CodePlugin(name=NAME, summary="n parts, each on two nodes, all needed", make=make, fit=fit),)
