"""The code `replicate`: every share is the whole stripe, k = 1. n times the space, nothing to compute."""

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
NAME: Final = "replicate"


class Replicate:
    """Any one share is the stripe."""

    copies = 1

    def __init__(self, geometry: Geometry) -> None:
        self.geometry: Final = geometry

    def share_size(self, stripe_size: int) -> int:
        """Return the size of the stripe."""
        return stripe_size

    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        """Copy the stripe into each."""
        if len(parity) != self.geometry.total - 1 or any(len(target) != len(stripe) for target in parity):
            raise ValueError(f"{NAME} makes {self.geometry.total - 1} more shares of the stripe's size")
        for target in parity:
            target[:] = stripe

    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        """Copy the first share."""
        if not {*shares, *wanted} <= {*range(self.geometry.total)}:
            raise ValueError(f"a share index lies between 0 and {self.geometry.total - 1}")
        if not shares:
            raise IncompleteError("none of the shares is there, 1 is needed")
        if len({len(buffer) for buffer in (*shares.values(), *wanted.values())}) != 1:
            raise ValueError("all shares of a stripe have one size")
        stripe = shares[min(shares)]
        for target in wanted.values():
            target[:] = stripe


def make(options: CodeOptions) -> Code:
    """Make the code; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has none")
    geometry = options.geometry
    if geometry.needed != 1:
        raise ConfigError(f"plugin {NAME} needs k = 1, not {geometry.needed} of {geometry.total}")
    return Replicate(geometry)


def fit(geometry: Geometry) -> Geometry:
    """Return 1 of n: any copy is enough."""
    return Geometry(1, geometry.total)


@hookimpl
def dfs_codes() -> Iterable[CodePlugin]:
    """Declare replicate."""
    return (CodePlugin(name=NAME, summary="n whole copies, any one is enough", make=make, fit=fit),)
