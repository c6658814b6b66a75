"""Two stores, one behaviour: the same is done to `memory` and `volumes`, and all that shows is compared."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dfs.core.api import (
    CorruptShareError,
    DirectoryId,
    RegisterRow,
    Staged,
    StoreOptions,
    Transaction,
    View,
)
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins import memory_store, volumes
from dfs.testing.stores import DIRECTORY, ballot, claim, read, register_key, share_key, stage

INLINE_SIZE_MAX = 64


def options(folder: Path, **values: str) -> StoreOptions:
    return StoreOptions(
        directory=str(folder / "node"),
        files=RealFiles(),
        env=RealEnv(),
        inline_size_max=INLINE_SIZE_MAX,
        reserve_size=0,
        values=values,
    )


def directory_id(number: int) -> DirectoryId:
    return DirectoryId(bytes((number,)) * 16)


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
    def spoil(self, number: int) -> None:
        self.both(lambda transaction: transaction.spoil(register_key(number)))

    @rule(until_s=moments)
    def renew(self, until_s: float) -> None:
        self.both(lambda transaction: transaction.renew(until_s))

    @rule(number=numbers, directory=numbers, counter=counters)
    def fill_directories(self, number: int, directory: int, counter: int) -> None:
        key = register_key(number, directory_id(directory))
        self.both(lambda transaction: transaction.set_register(key, RegisterRow()))
        self.both(lambda transaction: transaction.set_floor(directory_id(number), ballot(counter)))

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
        charged = self.memory.view(lambda view: view.usage())
        assert charged == self.vault.view(lambda view: view.usage())
        assert charged == self.vault.transact(lambda transaction: transaction.usage())
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
        for number, counter in itertools.product(range(4), range(1, 4)):
            held = (register_key(number), ballot(counter))
            seen += [view.claims(*held), view.claims(*held, 1, 1)]
        seen += [view.counts(), view.owed(keys)]
        for after in range(4):
            seen.append(view.lacking(share_key(after).stripe, 2))
            seen.append(view.directories(directory_id(after), 2))
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
