"""The kit for people who write plugins: a contract for each hook, values and fakes for their tests.

    from dfs.testing import CipherContract

    class TestMine(CipherContract):
        (plugin,) = dfs_mine.dfs_ciphers()

The contracts need pytest and Hypothesis (`pip install dfs[testing]`); what each of them demands is told in
docs/plugins.md. The simulator in this package needs neither, so a contract is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dfs.testing.contracts.chunker import ChunkerContract as ChunkerContract
    from dfs.testing.contracts.cipher import CipherContract as CipherContract
    from dfs.testing.contracts.code import CodeContract as CodeContract
    from dfs.testing.contracts.command import CommandContract as CommandContract
    from dfs.testing.contracts.compressor import CompressorContract as CompressorContract
    from dfs.testing.contracts.placement import PlacementContract as PlacementContract
    from dfs.testing.contracts.store import StoreContract as StoreContract
    from dfs.testing.contracts.transport import TransportContract as TransportContract

CONTRACTS: Final = {
    "TransportContract": "transport",
    "CipherContract": "cipher",
    "CompressorContract": "compressor",
    "CodeContract": "code",
    "PlacementContract": "placement",
    "ChunkerContract": "chunker",
    "StoreContract": "store",
    "CommandContract": "command",
}


def __getattr__(name: str) -> object:
    if name not in CONTRACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"dfs.testing.contracts.{CONTRACTS[name]}"), name)
