"""The store `memory` beyond the contract: its pretended disk and its damage."""

import pytest

from dfs.core.api import ConfigError, CorruptShareError, DiskFullError, StoreOptions
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins import memory_store
from dfs.testing.stores import body_of, collect, keep, read, share_key, stage


def make(**values: str) -> memory_store.MemoryVault:
    options = StoreOptions(
        directory="/nowhere",
        files=RealFiles(),
        env=RealEnv(),
        inline_size_max=64,
        reserve_size=100,
        values=values,
    )
    vault = memory_store.make(options).vault("alice", create=True)
    assert isinstance(vault, memory_store.MemoryVault)
    return vault


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1 GiB", "\u0663"])
def test_a_bad_capacity_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="capacity"):
        make(capacity=text)


def test_a_full_disk_keeps_its_reserve() -> None:
    vault = make(capacity="1000")
    assert vault.free_size == 900
    keep(vault, share_key(1), size=800)
    assert (vault.used_size, vault.free_size) == (800, 100)
    with pytest.raises(DiskFullError):
        stage(vault, share_key(2), 101)
    keep(vault, share_key(2), size=100)
    assert vault.free_size == 0
    assert collect(vault) == 2
    assert vault.free_size == 900


def test_damage_is_found_by_verify_and_mended_by_a_new_share() -> None:
    vault = make()
    key = share_key(1)
    keep(vault, key, size=100)
    before = vault.share(key)
    vault.damage(key, 50)
    assert read(vault, key) != body_of(key, 100)
    with pytest.raises(CorruptShareError):
        vault.verify(key)
    target = bytearray(100)
    before.read_into(memoryview(target), 0)
    assert target == body_of(key, 100)
    vault.transact(lambda transaction: transaction.mark_corrupt(key))
    keep(vault, key, size=100)
    vault.verify(key)
