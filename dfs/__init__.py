"""dfs: a secure distributed file store composed from plugins."""

__version__ = "0.1.0"
