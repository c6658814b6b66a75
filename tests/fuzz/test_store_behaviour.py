"""Two stores, one behaviour: the same is done to `memory` and `volumes`, and all that shows is compared."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dfs.core.api import (
    Ballot,
    Claim,
    CorruptShareError,
    DirectoryId,
    Geometry,
    NameId,
    RegisterKey,
    RegisterRow,
    ShareKey,
    Staged,
    StoreOptions,
    StripeId,
    Transaction,
    VaultStore,
    View,
)
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins import memory_store, volumes

INLINE_SIZE_MAX = 64
DIRECTORY = DirectoryId(b"d" * 16)


def options(folder: Path, **values: str) -> StoreOptions:
    return StoreOptions(
        directory=str(folder / "node"),
        files=RealFiles(),
        env=RealEnv(),
        inline_size_max=INLINE_SIZE_MAX,
        reserve_size=0,
        values=values,
    )


def share_key(number: int, index: int = 0) -> ShareKey:
    return ShareKey(StripeId(number.to_bytes(32, "big")), index)


def register_key(number: int, directory: DirectoryId = DIRECTORY) -> RegisterKey:
    return RegisterKey(directory, NameId(number.to_bytes(16, "big")))


def ballot(counter: int) -> Ballot:
    return Ballot(counter.to_bytes(8, "big") + b"a" * 16)


def claim(number: int, share_size: int = 5) -> Claim:
    return Claim(
        share_key(number).stripe, share_size, "reed-solomon@1", Geometry(2, 3), ((0,), (1, 1023), ())
    )


def body_of(key: ShareKey, size: int) -> bytes:
    return (key.stripe + bytes((key.index,))) * (size // 33) + b"x" * (size % 33)


def stage(vault: VaultStore, key: ShareKey, size: int = 5) -> Staged:
    body = body_of(key, size)
    return vault.stage(key, xxhash.xxh3_128_digest(body), body)


def read(vault: VaultStore, key: ShareKey) -> bytes:
    share = vault.share(key)
    body = bytearray(share.size)
    assert share.read_into(memoryview(body), 0) == share.size
    share.close()
    share.close()
    return bytes(body)


numbers = st.integers(0, 3)
sizes = st.sampled_from([0, 3, INLINE_SIZE_MAX + 1, 30_000])
counters = st.integers(1, 3)
moments = st.sampled_from([1.0, 2.0, 3.0])


class SameBehaviour(RuleBasedStateMachine):
    """Does the same to both stores and compares; `volumes` is reopened now and then."""

    folder: Path
    attempts = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.options = options(self.folder / str(next(self.attempts)), volume_size="65536")
        self.memory = memory_store.make(options(self.folder)).vault("alice", create=True)
        self.open()

    def open(self) -> None:
        self.store = volumes.make(self.options)
        self.vault = self.store.vault("alice", create=True)

    def teardown(self) -> None:
        self.store.close()

    def both(self, work: Callable[[Transaction], object]) -> None:
        assert self.memory.transact(work) == self.vault.transact(work)

    @rule(number=numbers, index=st.integers(0, 1), size=sizes, undone=st.booleans())
    def keep(self, number: int, index: int, size: int, undone: bool) -> None:
        for vault in (self.memory, self.vault):
            staged = [stage(vault, share_key(number, index), size)]

            def work(transaction: Transaction, staged: list[Staged] = staged) -> None:
                transaction.keep(staged)
                if undone:
                    raise KeyError

            if undone:
                with pytest.raises(KeyError):
                    vault.transact(work)
            else:
                vault.transact(work)

    @rule(number=numbers, counter=counters, claimed=st.lists(numbers, max_size=3))
    def claim(self, number: int, counter: int, claimed: list[int]) -> None:
        row = RegisterRow(accepted=ballot(counter), claimed_count=len(claimed))

        def work(transaction: Transaction) -> None:
            transaction.set_register(register_key(number), row)
            transaction.claim(register_key(number), ballot(counter), [claim(each) for each in claimed])
            absent = transaction.missing([share_key(each) for each in claimed])
            transaction.owe(register_key(number), ballot(counter), absent)

        self.both(work)

    @rule(number=numbers, counter=counters)
    def unclaim(self, number: int, counter: int) -> None:
        self.both(lambda transaction: transaction.unclaim(register_key(number), ballot(counter)))

    @rule(number=numbers, until_s=moments)
    def pin(self, number: int, until_s: float) -> None:
        self.both(lambda transaction: transaction.pin([share_key(number)], until_s))

    @rule(part_index=st.integers(0, 1), claimed=st.lists(numbers, max_size=2), until_s=moments)
    def stage_claims(self, part_index: int, claimed: list[int], until_s: float) -> None:
        claims = [claim(each) for each in claimed]
        self.both(lambda transaction: transaction.stage_claims(b"set", part_index, claims, until_s))

    @rule(now_s=moments)
    def unpin(self, now_s: float) -> None:
        self.both(lambda transaction: transaction.unpin(now_s))

    @rule(count_max=st.integers(0, 5))
    def collect(self, count_max: int) -> None:
        self.both(lambda transaction: transaction.collect(count_max))

    @rule(number=numbers)
    def mark_corrupt(self, number: int) -> None:
        self.both(lambda transaction: transaction.mark_corrupt(share_key(number)))

    @rule(number=numbers)
    def forget(self, number: int) -> None:
        self.both(lambda transaction: transaction.set_register(register_key(number), None))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def looks_the_same(self) -> None:
        assert self.memory.used_size == self.vault.used_size
        assert self.memory.shares(None, 100) == self.vault.shares(None, 100)
        assert self.memory.view(self.picture) == self.vault.view(self.picture)
        for key in self.memory.shares(None, 100):
            found = []
            for vault in (self.memory, self.vault):
                try:
                    found.append(read(vault, key))
                except CorruptShareError:
                    found.append(b"corrupt")
            assert found[0] == found[1]

    @staticmethod
    def picture(view: View) -> list[object]:
        keys = [share_key(number, index) for number in range(4) for index in range(2)]
        seen: list[object] = [
            view.missing(keys),
            view.staged_claims(b"set"),
            view.registers(DIRECTORY, b"", 100),
        ]
        seen += [view.claims(register_key(number), ballot(c)) for number in range(4) for c in range(1, 4)]
        return seen


def test_memory_and_volumes_behave_the_same(tmp_path: Path) -> None:
    class Here(SameBehaviour):
        folder = tmp_path

    bounds = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],  # it opens real files
    )
    run_state_machine_as_test(Here, settings=bounds)
