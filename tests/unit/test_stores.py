"""The contract of a store, run against each store that comes with dfs, and `dfs.testing.stores`."""

from dfs.plugins import memory_store, volumes
from dfs.testing import StoreContract


class TestMemory(StoreContract):
    (plugin,) = memory_store.dfs_stores()


class TestVolumes(StoreContract):
    (plugin,) = volumes.dfs_stores()


class TestSmallVolumes(StoreContract):
    (plugin,) = volumes.dfs_stores()
    values = {"volume_size": "65536"}  # so that some deeds fill one


def test_the_hooks_declare_the_stores() -> None:
    assert [plugin.name for plugin in (TestMemory.plugin, TestVolumes.plugin)] == ["memory", "volumes"]
