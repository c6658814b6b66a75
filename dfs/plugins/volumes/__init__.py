"""The store `volumes`, the default: SQLite rows and append-only volume files.

store.py is the directory of a node, vault.py one vault in it, rows.py its tables, files.py its volume files.
Option ``volume_size``: bytes of a full volume, default 256 MiB.
"""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import Store, StoreOptions, StorePlugin, hookimpl

DFS_API_VERSION: Final = 1
NAME: Final = "volumes"


def make(options: StoreOptions) -> Store:
    """Open the store; SQLite is imported only now."""
    from .store import VolumesStore

    return VolumesStore(options)


@hookimpl
def dfs_stores() -> Iterable[StorePlugin]:
    """Declare volumes."""
    return (StorePlugin(name=NAME, summary="SQLite rows and append-only volume files", make=make),)
