"""The store `bucket`: rows in SQLite on the node, larger shares as objects in a bucket, for those who outgrow
their disks.

store.py is the directory of a node and its folder in the bucket, options.py what a conf says of both, door.py
the way to the bucket, objects.py the shares in it, snapshots.py copies of the rows, returning.py what a new
machine does with them.
"""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import Store, StoreOptions, StorePlugin, hookimpl

DFS_API_VERSION: Final = 1
NAME: Final = "bucket"


def make(options: StoreOptions) -> Store:
    """Open the store; SQLite and obstore are imported only now."""
    from .door import open_bucket
    from .options import bucket_options
    from .store import BucketStore

    values = bucket_options(options.values)
    return BucketStore(options, values, open_bucket(values))


@hookimpl
def dfs_stores() -> Iterable[StorePlugin]:
    """Declare bucket."""
    return (
        StorePlugin(name=NAME, summary="shares in a bucket (S3, GCS, Azure), rows on the node", make=make),
    )
