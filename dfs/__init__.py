"""dfs: a secure distributed file store composed from plugins."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "open_cluster":
        from dfs.cluster import open_cluster

        return open_cluster
    raise AttributeError(f"module 'dfs' has no attribute {name!r}")
