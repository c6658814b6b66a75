"""The contract of a store, first part: vaults, shares, transactions and views."""

import threading

import pytest
import xxhash

from dfs.core.api import (
    NO_BALLOT,
    CorruptShareError,
    InvariantError,
    NotFoundError,
    NotInitialisedError,
    RegisterRow,
    Store,
    StoreError,
    Transaction,
    VaultStore,
    View,
    share_charge,
)
from dfs.testing.contracts.base import check_bytes
from dfs.testing.contracts.store_setup import INLINE_SIZE_MAX, StoreSetup
from dfs.testing.stores import (
    DIRECTORY,
    ballot,
    body_of,
    claim,
    collect,
    keep,
    read,
    register_key,
    share_key,
    stage,
)

SIZES = [0, 1, INLINE_SIZE_MAX, INLINE_SIZE_MAX + 1, 70_000]


class StoreShares(StoreSetup):
    """Vaults, shares, transactions and views."""

    def test_a_vault_is_made_only_when_asked(self, store: Store) -> None:
        with pytest.raises(NotInitialisedError):
            store.vault("alice", create=False)
        assert store.users() == []
        made = store.vault("alice", create=True)
        assert store.vault("alice", create=False) is made
        assert store.vault("alice", create=True) is made

    @pytest.mark.parametrize(
        "user", ["alice", "Alice", "älice", "a/../b", ".node", "con", "=", "a" * 255, ""]
    )
    def test_any_user_name_has_a_vault_of_its_own(self, store: Store, user: str) -> None:
        store.vault("bob", create=True).transact(lambda transaction: transaction.set_meta("state", b"bob's"))
        mine = store.vault(user, create=True)
        assert mine.view(lambda view: view.meta("state")) is None
        assert store.users() == sorted([user, "bob"])

    def test_a_closed_store_refuses(self, store: Store, vault: VaultStore) -> None:
        keep(vault, share_key(1))
        store.close()
        store.close()
        with pytest.raises(StoreError):
            vault.transact(lambda transaction: transaction.usage())
        with pytest.raises(StoreError):
            stage(vault, share_key(2))
        with pytest.raises(StoreError):
            vault.view(lambda view: view.meta("state"))
        with pytest.raises(StoreError):
            vault.share(share_key(1))
        with pytest.raises(StoreError):
            store.vault("alice", create=True)
        assert vault.read_only_reason == "it is closed"

    @pytest.mark.parametrize("size", SIZES)
    def test_a_kept_share_comes_back(self, vault: VaultStore, size: int) -> None:
        key = share_key(1, 3)
        staged = stage(vault, key, size)
        assert staged.key == key
        with pytest.raises(NotFoundError):
            vault.share(key)
        vault.transact(lambda transaction: transaction.keep([staged]))
        check_bytes(read(vault, key), body_of(key, size))
        share = vault.share(key)
        assert share.checksum == xxhash.xxh3_128_digest(body_of(key, size))
        share.close()
        vault.verify(key)

    @pytest.mark.parametrize("size", SIZES[1:])
    def test_a_slice_reads_any_part(self, vault: VaultStore, size: int) -> None:
        key, middle = share_key(1), size // 2
        keep(vault, key, size=size)
        share = vault.share(key)
        target = bytearray(size + 7)
        assert share.read_into(memoryview(target), middle) == size - middle
        check_bytes(target[: size - middle], body_of(key, size)[middle:])
        check_bytes(target[size - middle :], bytes(middle + 7))
        assert share.read_into(memoryview(target)[:1], 0) == 1
        assert share.read_into(memoryview(target), size) == 0
        share.close()

    @pytest.mark.parametrize("size", SIZES)
    def test_the_callers_buffer_is_not_kept(self, vault: VaultStore, size: int) -> None:
        key = share_key(1)
        buffer = bytearray(b"?" + body_of(key, size) + b"?")
        view = memoryview(buffer)[1:-1].toreadonly()
        staged = vault.stage(key, xxhash.xxh3_128_digest(view), view)
        buffer[:] = bytes(len(buffer))
        vault.transact(lambda transaction: transaction.keep([staged]))
        check_bytes(read(vault, key), body_of(key, size))

    @pytest.mark.parametrize("size", SIZES)
    def test_a_wrong_checksum_is_refused_on_arrival(self, vault: VaultStore, size: int) -> None:
        with pytest.raises(CorruptShareError):
            vault.stage(share_key(1), xxhash.xxh3_128_digest(b"other"), body_of(share_key(1), size))

    @pytest.mark.parametrize("size", SIZES)
    def test_what_is_there_is_kept_as_it_was(self, vault: VaultStore, size: int) -> None:
        key = share_key(1)
        keep(vault, key, size=size)
        other = b"!" * (size + 1)
        staged = vault.stage(key, xxhash.xxh3_128_digest(other), other)
        vault.transact(lambda transaction: transaction.keep([staged, staged]))
        check_bytes(read(vault, key), body_of(key, size))
        assert vault.used_size == size

    def test_one_transaction_may_keep_a_name_twice(self, vault: VaultStore) -> None:
        first, second = stage(vault, share_key(1), 5), stage(vault, share_key(1), 500)
        vault.transact(lambda transaction: transaction.keep([first, second, first]))
        assert vault.used_size == 5
        check_bytes(read(vault, share_key(1)), body_of(share_key(1), 5))

    @pytest.mark.parametrize("size", [5, 500])
    def test_a_staged_share_makes_one_row_only(self, vault: VaultStore, size: int) -> None:
        staged = stage(vault, share_key(1), size)
        vault.transact(lambda transaction: transaction.keep([staged]))
        assert collect(vault) == 1
        with pytest.raises(InvariantError):
            vault.transact(lambda transaction: transaction.keep([staged]))
        with pytest.raises(NotFoundError):
            vault.share(share_key(1))

    def test_a_transaction_that_failed_may_be_run_again(self, vault: VaultStore) -> None:
        staged = [stage(vault, share_key(1), 5), stage(vault, share_key(2), 500)]

        def work(transaction: Transaction) -> None:
            transaction.keep(staged)
            raise KeyError

        with pytest.raises(KeyError):
            vault.transact(work)
        assert vault.shares(None, 10) == []
        vault.transact(lambda transaction: transaction.keep(staged))
        check_bytes(read(vault, share_key(2)), body_of(share_key(2), 500))

    def test_only_own_staged_shares_are_kept(self, vault: VaultStore) -> None:
        class Stranger:
            key = share_key(1)

        with pytest.raises(TypeError):
            vault.transact(lambda transaction: transaction.keep([Stranger()]))

    def test_shares_are_listed_in_order(self, vault: VaultStore) -> None:
        keys = [share_key(number, index) for number in range(3) for index in (0, 1, 15)]
        keep(vault, *reversed(keys))
        assert vault.shares(None, 100) == keys
        assert vault.shares(None, 2) == keys[:2]
        assert vault.shares(keys[1], 3) == keys[2:5]
        assert vault.shares(keys[-1], 3) == []

    def test_missing_answers_in_the_order_asked(self, vault: VaultStore) -> None:
        keep(vault, share_key(1), share_key(2))
        asked = [share_key(3), share_key(1), share_key(2, 1), share_key(3)]
        assert vault.view(lambda view: view.missing(asked)) == [asked[0], asked[2], asked[3]]

    @pytest.mark.parametrize("size", [5, 500])
    def test_a_corrupt_share_is_bad_until_it_is_replaced(self, vault: VaultStore, size: int) -> None:
        key = share_key(1)
        keep(vault, key, share_key(2), size=size)
        vault.transact(lambda transaction: transaction.mark_corrupt(key))
        with pytest.raises(CorruptShareError):
            vault.share(key)
        with pytest.raises(CorruptShareError):
            vault.verify(key)
        assert vault.view(lambda view: view.missing([key, share_key(2)])) == [key]
        assert vault.shares(None, 10) == [key, share_key(2)]
        assert vault.used_size == 2 * size
        keep(vault, key, size=size + 1)
        check_bytes(read(vault, key), body_of(key, size + 1))
        assert vault.used_size == 2 * size + 1
        vault.verify(key)

    def test_only_shares_that_are_here_can_be_corrupt(self, vault: VaultStore) -> None:
        vault.transact(lambda transaction: transaction.mark_corrupt(share_key(1)))
        keep(vault, share_key(1))
        vault.verify(share_key(1))

    def test_an_absent_share_is_not_found(self, vault: VaultStore) -> None:
        with pytest.raises(NotFoundError):
            vault.share(share_key(1))
        with pytest.raises(NotFoundError):
            vault.verify(share_key(1))

    @pytest.mark.parametrize("size", [5, 500])
    def test_an_open_slice_outlives_its_row(self, vault: VaultStore, size: int) -> None:
        keep(vault, share_key(1), share_key(2), size=size)
        vault.transact(lambda transaction: transaction.pin([share_key(2)], 1.0))
        share = vault.share(share_key(1))
        assert collect(vault) == 1
        for number in range(3, 9):
            keep(vault, share_key(number), size=size)
        target = bytearray(size)
        assert share.read_into(memoryview(target), 0) == size
        check_bytes(target, body_of(share_key(1), size))
        share.close()

    def test_an_exception_undoes_all_of_it(self, vault: VaultStore) -> None:
        keep(vault, share_key(1), size=500)
        staged = stage(vault, share_key(2))

        def work(transaction: Transaction) -> None:
            transaction.keep([staged])
            transaction.set_register(register_key(1), RegisterRow(value=b"new"))
            transaction.set_meta("state", b"new")
            transaction.set_floor(DIRECTORY, ballot(1))
            transaction.claim(register_key(1), ballot(1), [claim(2)])
            transaction.stage_claims(b"set", 0, [claim(2)], 5.0)
            transaction.owe(register_key(1), ballot(1), [share_key(9)])
            transaction.mark_corrupt(share_key(2))
            assert transaction.collect(10) == 1
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            vault.transact(work)

        def check(view: View) -> None:
            assert view.missing([share_key(1), share_key(2)]) == [share_key(2)]
            assert view.register(register_key(1)) is None
            assert view.meta("state") is None
            assert view.floor(DIRECTORY) == NO_BALLOT
            assert view.claims(register_key(1), ballot(1)) == []
            assert view.staged_claims(b"set") == []

        vault.view(check)
        assert vault.used_size == 500
        check_bytes(read(vault, share_key(1)), body_of(share_key(1), 500))
        assert vault.read_only_reason is None

    def test_a_transaction_sees_its_own_changes_and_nobody_else_does(self, vault: VaultStore) -> None:
        staged = stage(vault, share_key(1))

        def work(transaction: Transaction) -> str:
            transaction.keep([staged])
            transaction.set_meta("state", b"new")
            assert transaction.missing([share_key(1)]) == []
            assert transaction.meta("state") == b"new"
            assert transaction.usage() == share_charge(5)
            assert vault.used_size == 0
            assert vault.view(lambda view: view.meta("state")) is None
            assert vault.view(lambda view: view.missing([share_key(1)])) == [share_key(1)]
            return "result"

        assert vault.transact(work) == "result"
        assert vault.used_size == 5

    def test_a_view_is_one_picture(self, vault: VaultStore) -> None:
        vault.transact(lambda transaction: transaction.set_meta("state", b"old"))

        def work(view: View) -> tuple[bytes | None, bytes | None]:
            before = view.meta("state")
            vault.transact(lambda transaction: transaction.set_meta("state", b"new"))
            return before, view.meta("state")

        assert vault.view(work) == (b"old", b"old")
        assert vault.view(lambda view: view.meta("state")) == b"new"

    def test_a_failing_view_leaves_nothing_behind(self, vault: VaultStore) -> None:
        def work(view: View) -> None:
            view.meta("state")
            raise ZeroDivisionError

        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                vault.view(work)
        vault.transact(lambda transaction: transaction.set_meta("state", b"new"))
        assert vault.view(lambda view: view.meta("state")) == b"new"

    def test_views_may_nest(self, vault: VaultStore) -> None:
        vault.transact(lambda transaction: transaction.set_meta("state", b"new"))

        def nest(view: View, depth: int) -> bytes | None:
            return vault.view(lambda inner: nest(inner, depth - 1)) if depth else view.meta("state")

        for _ in range(2):
            assert vault.view(lambda view: nest(view, 12)) == b"new"

    def test_many_threads_at_once(self, vault: VaultStore) -> None:
        def upload(first: int) -> None:
            for number in range(first, first + 8):
                keep(vault, share_key(number), size=40 + number)
                read(vault, share_key(number))

                def work(transaction: Transaction) -> None:
                    count = int(transaction.meta("count") or b"0")
                    transaction.set_meta("count", b"%d" % (count + 1))

                vault.transact(work)

        threads = [threading.Thread(target=upload, args=(8 * index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert vault.view(lambda view: view.meta("count")) == b"64"
        for number in range(64):
            check_bytes(read(vault, share_key(number)), body_of(share_key(number), 40 + number))
