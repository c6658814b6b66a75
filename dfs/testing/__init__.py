"""The kit for people who write plugins: values and fakes for their tests. Imports `dfs.core.api` only."""
