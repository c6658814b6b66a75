"""The contract of a store, second part: registers, floors, meta values, claims, pins and collection."""

import itertools
from collections.abc import Callable

import pytest

from dfs.core.api import (
    NO_BALLOT,
    Ballot,
    CorruptEntryError,
    DirectoryId,
    NotFoundError,
    RegisterRow,
    Transaction,
    VaultStore,
)
from dfs.testing.contracts.store_setup import StoreSetup
from dfs.testing.stores import DIRECTORY, ballot, claim, collect, keep, register_key, share_key, stage

ROW = RegisterRow(ballot(2), ballot(1), b"value", b"d" * 32, b"c" * 32, b"t" * 32, safe=True, claimed_count=3)


def raise_floor(vault: VaultStore, to: Ballot) -> None:
    """Raise the floor of the directory."""
    vault.transact(lambda transaction: transaction.set_floor(DIRECTORY, to))


def set_meta(vault: VaultStore, name: str, value: bytes) -> None:
    """Set a meta value."""
    vault.transact(lambda transaction: transaction.set_meta(name, value))


def hold(kind: str) -> tuple[Callable[[Transaction], object], Callable[[Transaction], object]]:
    """How share 1 comes to be held, and how that ends."""
    key, mine = register_key(1), [claim(1)]
    return {
        "claim": (lambda t: t.claim(key, ballot(1), mine), lambda t: t.unclaim(key, ballot(2))),
        "claim replaced": (
            lambda t: t.claim(key, ballot(1), mine),
            lambda t: t.claim(key, ballot(1), [claim(2)]),
        ),
        "pin": (lambda t: t.pin([share_key(1)], 5.0), lambda t: t.unpin(5.0)),
        "staged claims": (lambda t: t.stage_claims(b"set", 0, mine, 5.0), lambda t: t.unpin(5.0)),
    }[kind]


class StoreRows(StoreSetup):
    """Registers, floors, meta values, claims, pins and collection."""

    def test_a_register_comes_back_as_it_was(self, vault: VaultStore) -> None:
        def work(transaction: Transaction) -> None:
            transaction.set_register(register_key(1), RegisterRow(value=b"old"))
            transaction.set_register(register_key(1), ROW)
            transaction.set_register(register_key(2), RegisterRow())
            transaction.set_register(register_key(3), ROW)
            transaction.set_register(register_key(3), None)
            transaction.set_register(register_key(4), None)

        vault.transact(work)
        assert vault.view(lambda view: view.register(register_key(1))) == ROW
        assert vault.view(lambda view: view.register(register_key(2))) == RegisterRow()
        assert vault.view(lambda view: view.register(register_key(3))) is None
        assert vault.view(lambda view: view.register(register_key(1, DirectoryId(b"e" * 16)))) is None

    def test_a_spoiled_row_is_corrupt_until_it_is_replaced(self, vault: VaultStore) -> None:
        def work(transaction: Transaction) -> None:
            transaction.set_register(register_key(1), ROW)
            transaction.set_register(register_key(2), ROW)
            transaction.spoil(register_key(1))
            transaction.spoil(register_key(3))

        vault.transact(work)
        with pytest.raises(CorruptEntryError):
            vault.view(lambda view: view.register(register_key(1)))
        assert vault.view(lambda view: view.register(register_key(3))) is None
        listed = vault.view(lambda view: view.registers(DIRECTORY, b"", 10))
        assert listed == [(register_key(1), None), (register_key(2), ROW)]
        vault.transact(lambda transaction: transaction.set_register(register_key(1), ROW))
        assert vault.view(lambda view: view.register(register_key(1))) == ROW

    def test_a_directory_is_listed_page_by_page(self, vault: VaultStore) -> None:
        def work(transaction: Transaction) -> None:
            for number in (5, 3, 1, 4):
                transaction.set_register(register_key(number), RegisterRow(value=b"%d" % number))
            transaction.set_register(register_key(2, DirectoryId(b"c" * 16)), ROW)
            transaction.set_register(register_key(2, DirectoryId(b"e" * 16)), ROW)

        vault.transact(work)
        listed = [(register_key(number), RegisterRow(value=b"%d" % number)) for number in (1, 3, 4, 5)]
        assert vault.view(lambda view: view.registers(DIRECTORY, b"", 10)) == listed
        assert vault.view(lambda view: view.registers(DIRECTORY, b"", 2)) == listed[:2]
        assert vault.view(lambda view: view.registers(DIRECTORY, listed[1][0].name, 2)) == listed[2:]
        assert vault.view(lambda view: view.registers(DIRECTORY, listed[3][0].name, 2)) == []

    def test_counts_are_computed_for_the_accepted_ballot(self, vault: VaultStore) -> None:
        keep(vault, share_key(1), share_key(2), share_key(2, 1), share_key(3))

        def work(transaction: Transaction) -> None:
            row = RegisterRow(accepted=ballot(2), claimed_count=3, owed_count=77, corrupt_count=77)
            transaction.set_register(register_key(1), row)
            transaction.claim(register_key(1), ballot(1), [claim(3)])
            transaction.claim(register_key(1), ballot(2), [claim(1), claim(2), claim(2)])
            for key in (share_key(2), share_key(2, 1), share_key(3)):
                transaction.mark_corrupt(key)
            transaction.owe(register_key(1), ballot(2), [share_key(4), share_key(5), share_key(4)])
            transaction.owe(register_key(1), ballot(1), [share_key(6)])
            transaction.owe(register_key(2), ballot(2), [share_key(7)])
            assert transaction.register(register_key(1)) == counted

        counted = RegisterRow(accepted=ballot(2), claimed_count=3, owed_count=2, corrupt_count=2)
        vault.transact(work)
        assert vault.view(lambda view: view.register(register_key(1))) == counted
        assert vault.view(lambda view: view.registers(DIRECTORY, b"", 5)) == [(register_key(1), counted)]

    def test_keeping_settles_what_was_owed(self, vault: VaultStore) -> None:
        def owed_count() -> int:
            row = vault.view(lambda view: view.register(register_key(1)))
            assert row is not None
            return row.owed_count

        def work(transaction: Transaction) -> None:
            transaction.set_register(register_key(1), RegisterRow(accepted=ballot(1)))
            transaction.owe(register_key(1), ballot(1), [share_key(1), share_key(1, 1), share_key(2)])

        vault.transact(work)
        assert owed_count() == 3
        keep(vault, share_key(1))
        assert owed_count() == 2
        vault.transact(lambda transaction: transaction.owe(register_key(1), ballot(1), [share_key(1)]))
        assert owed_count() == 3
        keep(vault, share_key(1))  # there already: settled all the same
        assert owed_count() == 2
        vault.transact(lambda transaction: transaction.unclaim(register_key(1), ballot(1)))
        assert owed_count() == 2
        vault.transact(lambda transaction: transaction.unclaim(register_key(1), ballot(2)))
        assert owed_count() == 0

    def test_lacking_names_claimed_stripes_without_a_good_copy(self, vault: VaultStore) -> None:
        keep(vault, *(share_key(number, index) for number in (1, 2, 3, 4) for index in (0, 1)))

        def work(transaction: Transaction) -> None:
            transaction.claim(register_key(1), ballot(1), [claim(1), claim(2), claim(5)])
            transaction.claim(register_key(2), ballot(1), [claim(2)])
            transaction.owe(register_key(1), ballot(1), [share_key(5, 2), share_key(5, 0)])
            transaction.owe(register_key(2), ballot(1), [share_key(2, 2)])
            transaction.owe(register_key(1), ballot(1), [share_key(2, 2)])
            for key in (share_key(1, 1), share_key(2, 0), share_key(3)):  # nobody claims the third
                transaction.mark_corrupt(key)

        vault.transact(work)
        lacking = [(claim(1), (1,)), (claim(2), (0, 2)), (claim(5), (0, 2))]
        assert vault.view(lambda view: view.lacking(b"", 10)) == lacking
        assert vault.view(lambda view: view.lacking(b"", 2)) == lacking[:2]
        assert vault.view(lambda view: view.lacking(share_key(2).stripe, 10)) == lacking[2:]
        assert vault.view(lambda view: view.counts()) == (8, 3, 2)
        named = [share_key(5, 2), share_key(5, 1), share_key(3), share_key(1, 1), share_key(1), share_key(9)]
        assert vault.view(lambda view: view.owed(named)) == [share_key(5, 2), share_key(1, 1)]
        keep(vault, share_key(5, 0), share_key(5, 2), share_key(2, 2), share_key(2, 0), share_key(1, 1))
        assert vault.view(lambda view: view.lacking(b"", 10)) == []
        assert vault.view(lambda view: view.counts()) == (11, 0, 0)

    def test_directories_have_rows_or_a_floor(self, vault: VaultStore) -> None:
        first, second, third = (DirectoryId(letter * 16) for letter in (b"a", b"b", b"c"))

        def work(transaction: Transaction) -> None:
            for number in (1, 2):
                transaction.set_register(register_key(number, second), RegisterRow())
            transaction.set_register(register_key(1, first), ROW)
            transaction.set_floor(third, ballot(3))
            transaction.set_floor(first, ballot(2))

        vault.transact(work)
        told = [(first, 1, ballot(2)), (second, 2, NO_BALLOT), (third, 0, ballot(3))]
        assert vault.view(lambda view: view.directories(b"", 10)) == told
        assert vault.view(lambda view: view.directories(b"", 2)) == told[:2]
        assert vault.view(lambda view: view.directories(first, 10)) == told[1:]

    def test_a_floor_only_rises(self, vault: VaultStore) -> None:
        for counter in (2, 5, 3):
            raise_floor(vault, ballot(counter))
        assert vault.view(lambda view: view.floor(DIRECTORY)) == ballot(5)
        assert vault.view(lambda view: view.floor(DirectoryId(b"e" * 16))) == NO_BALLOT

    def test_meta_values_are_replaced(self, vault: VaultStore) -> None:
        for value in (b"", b"1", b"\0" * 70_000):
            set_meta(vault, "roster", value)
            assert vault.view(lambda view: view.meta("roster")) == value
        assert vault.view(lambda view: view.meta("user")) is None

    def test_claims_come_back_in_order(self, vault: VaultStore) -> None:
        claims = [claim(number % 7, number) for number in range(20)]
        vault.transact(lambda transaction: transaction.claim(register_key(1), ballot(1), claims))
        assert vault.view(lambda view: view.claims(register_key(1), ballot(1))) == claims
        vault.transact(lambda transaction: transaction.claim(register_key(1), ballot(1), claims[:3]))
        assert vault.view(lambda view: view.claims(register_key(1), ballot(1))) == claims[:3]
        assert vault.view(lambda view: view.claims(register_key(1), ballot(2))) == []
        assert vault.view(lambda view: view.claims(register_key(2), ballot(1))) == []

    def test_claims_come_in_pages(self, vault: VaultStore) -> None:
        claims = [claim(number) for number in range(5)]
        vault.transact(lambda transaction: transaction.claim(register_key(1), ballot(1), claims))
        assert vault.view(lambda view: view.claims(register_key(1), ballot(1), 1, 2)) == claims[1:3]
        assert vault.view(lambda view: view.claims(register_key(1), ballot(1), 3)) == claims[3:]
        assert vault.view(lambda view: view.claims(register_key(1), ballot(1), 5, 2)) == []

    def test_staged_claims_are_joined_in_order_of_parts(self, vault: VaultStore) -> None:
        parts = [[claim(1), claim(2)], [claim(3)], [claim(1)]]

        def work(transaction: Transaction) -> None:
            for part_index in (2, 0, 1):
                transaction.stage_claims(b"set", part_index, parts[part_index], 10.0)

        vault.transact(work)
        assert vault.view(lambda view: view.staged_claims(b"set")) == [*parts[0], *parts[1], *parts[2]]
        vault.transact(lambda transaction: transaction.stage_claims(b"set", 1, [], 10.0))
        assert vault.view(lambda view: view.staged_claims(b"set")) == [*parts[0], *parts[2]]
        assert vault.view(lambda view: view.staged_claims(b"other")) == []

    @pytest.mark.parametrize("size", [5, 500])
    def test_what_nothing_holds_is_collected(self, vault: VaultStore, size: int) -> None:
        keep(vault, *[share_key(number, index) for number in range(5) for index in (0, 1)], size=size)

        def work(transaction: Transaction) -> None:
            transaction.claim(register_key(1), ballot(1), [claim(1)])
            transaction.pin([share_key(2, 7)], 10.0)
            transaction.stage_claims(b"set", 0, [claim(3)], 10.0)

        vault.transact(work)
        assert collect(vault, 3) == 3
        assert collect(vault) == 1
        assert collect(vault) == 0
        assert vault.shares(None, 100) == [
            share_key(number, index) for number in (1, 2, 3) for index in (0, 1)
        ]
        assert vault.used_size == 6 * size

    @pytest.mark.parametrize("kind", ["claim", "claim replaced", "pin", "staged claims"])
    @pytest.mark.parametrize("held_first", [False, True])
    def test_a_share_lives_as_long_as_it_is_held(
        self, vault: VaultStore, kind: str, held_first: bool
    ) -> None:
        begin, end = hold(kind)
        if held_first:
            vault.transact(begin)
        keep(vault, share_key(1))
        if not held_first:
            vault.transact(begin)
        assert collect(vault) == 0
        vault.transact(end)
        assert collect(vault) == 1
        with pytest.raises(NotFoundError):
            vault.share(share_key(1))

    @pytest.mark.parametrize(
        ("first", "second"), list(itertools.permutations(["claim", "pin", "staged claims"], 2))
    )
    def test_the_last_hold_counts(self, vault: VaultStore, first: str, second: str) -> None:
        keep(vault, share_key(1))
        (begin, end), (begin_second, end_second) = hold(first), hold(second)
        vault.transact(begin)
        vault.transact(begin_second)
        vault.transact(end)
        same_end = {first, second} == {"pin", "staged claims"}
        assert collect(vault) == (1 if same_end else 0)
        vault.transact(end_second)
        assert collect(vault) == (0 if same_end else 1)

    def test_unclaim_drops_only_lower_ballots(self, vault: VaultStore) -> None:
        keep(vault, share_key(1), share_key(2), share_key(3))

        def work(transaction: Transaction) -> None:
            transaction.claim(register_key(1), ballot(1), [claim(1), claim(2)])
            transaction.claim(register_key(1), ballot(2), [claim(2)])
            transaction.claim(register_key(2), ballot(1), [claim(3)])
            transaction.unclaim(register_key(1), ballot(2))

        vault.transact(work)
        assert vault.view(lambda view: view.claims(register_key(1), ballot(1))) == []
        assert vault.view(lambda view: view.claims(register_key(1), ballot(2))) == [claim(2)]
        assert collect(vault) == 1
        assert vault.shares(None, 10) == [share_key(2), share_key(3)]

    def test_the_later_of_two_pins_counts(self, vault: VaultStore) -> None:
        keep(vault, share_key(1))

        def work(transaction: Transaction) -> None:
            for until_s in (5.0, 9.0, 7.0):
                transaction.pin([share_key(1)], until_s)

        vault.transact(work)
        assert vault.transact(lambda transaction: transaction.unpin(8.9)) == 0
        assert collect(vault) == 0
        assert vault.transact(lambda transaction: transaction.unpin(9.0)) == 1
        assert collect(vault) == 1

    def test_holds_are_renewed_all_together(self, vault: VaultStore) -> None:
        def work(transaction: Transaction) -> None:
            transaction.pin([share_key(1)], 5.0)
            transaction.pin([share_key(2)], 500.0)
            transaction.stage_claims(b"set", 0, [claim(3)], 5.0)
            transaction.renew(50.0)

        vault.transact(work)
        assert vault.transact(lambda transaction: transaction.unpin(49.9)) == 0
        assert vault.view(lambda view: view.staged_claims(b"set")) == [claim(3)]
        assert vault.transact(lambda transaction: transaction.unpin(50.0)) == 4
        assert vault.view(lambda view: view.staged_claims(b"set")) == []

    def test_unpin_counts_pins_and_parts(self, vault: VaultStore) -> None:
        def work(transaction: Transaction) -> None:
            transaction.pin([share_key(1), share_key(1, 1), share_key(2)], 5.0)
            transaction.stage_claims(b"set", 0, [claim(2), claim(3)], 6.0)
            transaction.stage_claims(b"set", 1, [], 5.0)

        vault.transact(work)
        assert vault.transact(lambda transaction: transaction.unpin(5.5)) == 2
        assert vault.view(lambda view: view.staged_claims(b"set")) == [claim(2), claim(3)]
        assert vault.transact(lambda transaction: transaction.unpin(6.0)) == 3
        assert vault.view(lambda view: view.staged_claims(b"set")) == []

    def test_a_corrupt_share_is_collected_with_its_mark(self, vault: VaultStore) -> None:
        keep(vault, share_key(1))
        vault.transact(lambda transaction: transaction.mark_corrupt(share_key(1)))
        assert collect(vault) == 1
        assert vault.used_size == 0
        keep(vault, share_key(1))
        vault.verify(share_key(1))

    def test_one_transaction_may_keep_pin_and_collect(self, vault: VaultStore) -> None:
        staged = [stage(vault, share_key(1)), stage(vault, share_key(2), 500)]

        def work(transaction: Transaction) -> int:
            transaction.keep(staged)
            transaction.pin([share_key(2)], 1.0)
            return transaction.collect(10)

        assert vault.transact(work) == 1
        assert vault.shares(None, 10) == [share_key(2)]
        assert vault.used_size == 500
