"""The contract of a store: all that its Protocols promise, in three parts."""

from dfs.testing.contracts.store_crashes import StoreCrashes
from dfs.testing.contracts.store_rows import StoreRows
from dfs.testing.contracts.store_shares import StoreShares


class StoreContract(StoreShares, StoreRows, StoreCrashes):
    """Derive it and name the ``plugin``."""
