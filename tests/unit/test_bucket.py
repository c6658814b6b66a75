"""The store `bucket`: whose bucket it is, what a new machine finds in it, outages, what requests it makes."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

import obstore
from attrs import evolve

from dfs.core.api import (
    RESTORED,
    CorruptShareError,
    DiskFullError,
    NotInitialisedError,
    RegisterRow,
    StoreError,
    StoreOptions,
    Transaction,
    VaultStore,
)
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins.volumes.bucket import store as store_module
from dfs.plugins.volumes.bucket.snapshots import (
    PIECE_SIZE,
    decode_snapshot,
)
from dfs.plugins.volumes.bucket.store import BucketStore
from dfs.testing.stores import (
    FaultyFiles,
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
from tests.unit.bucket_kit import Buckets, Requests, memory

SIZE = 20_000
IDENTITY = b"dfs node 1\nid 000102030405060708090a0b0c0d0e0f\nincarnation 1\n"


@pytest.fixture(name="buckets")
def make_buckets(monkeypatch: pytest.MonkeyPatch) -> Buckets:
    monkeypatch.setattr(store_module, "TICK_S", 3600.0)  # each test says itself when to tidy
    return memory()


@pytest.fixture(name="options")
def make_options(tmp_path: Path) -> StoreOptions:
    (tmp_path / "one").mkdir()
    return StoreOptions(
        directory=str(tmp_path / "one" / "node"),
        files=RealFiles(),
        env=RealEnv(),
        inline_size_max=64,
        reserve_size=0,
    )


Open = Callable[..., BucketStore]


@pytest.fixture(name="start")
def open_stores(buckets: Buckets, options: StoreOptions) -> Iterator[Open]:
    """Open the store, or that of another machine with the same bucket; all end with the test."""
    opened: list[BucketStore] = []

    def start(machine: str = "node", **values: str) -> BucketStore:
        directory = str(Path(options.directory).parent / machine)
        opened.append(buckets.open(evolve(options, directory=directory), **values))
        return opened[-1]

    yield start
    for store in opened:
        if store not in CRASHED:
            store.close()
    CRASHED.clear()


@pytest.fixture(name="store")
def open_store(start: Open) -> BucketStore:
    return start()


@pytest.fixture(name="vault")
def make_vault(store: BucketStore) -> VaultStore:
    return store.vault("alice", create=True)


def requests_of(buckets: Buckets, options: StoreOptions) -> Requests:
    return buckets.of(Path(options.directory).parent, options.files)[1]


def names_in(buckets: Buckets, options: StoreOptions, folder: str = "") -> list[str]:
    objects, _ = buckets.of(Path(options.directory).parent, options.files)
    return sorted(each["path"] for each in obstore.list(objects, folder or None).collect())


def write_identity(options: StoreOptions, text: bytes = IDENTITY) -> None:
    (Path(options.directory) / ".node" / "node-id").write_bytes(text)


# --- What it asks of a bucket: the figures of docs/howto/bucket.md ------------------------------------------


def asked(requests: Requests, deed: Callable[[], object]) -> dict[str, int]:
    """The requests that a deed made."""
    before = requests.counts.copy()
    deed()
    return dict(requests.counts - before)


def test_what_each_operation_costs(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    requests = requests_of(buckets, options)
    small = [share_key(number) for number in range(100, 200)]

    def keep_and_copy() -> None:
        keep(vault, share_key(3))
        copy(store)

    found = {
        "a share": asked(requests, lambda: keep(vault, share_key(1), share_key(2), size=SIZE)),
        "small shares": asked(requests, lambda: keep(vault, *small)),
        "get": asked(requests, lambda: read(vault, share_key(1))),
        "get, small": asked(requests, lambda: read(vault, small[0])),
        "scrub": asked(requests, lambda: vault.verify(share_key(1))),
        "collect": asked(requests, lambda: collect(vault)),
        "collected": asked(requests, store.tidy),
        "copy": asked(requests, keep_and_copy),
        "copy, nothing new": asked(requests, lambda: copy(store)),
    }
    assert found == {
        "a share": {"PUT": 2},  # one each
        "small shares": {},
        "get": {"GET": 1},
        "get, small": {},
        "scrub": {"GET": 1},
        "collect": {},
        # One to remove both. The first copy of a new vault: who holds the bucket; are there older lists, and
        # pieces; a piece, the list.
        "collected": {"DELETE": 1, "GET": 1, "LIST": 2, "PUT": 2},
        # Who holds the bucket, the piece that changed, the list.
        "copy": {"GET": 1, "PUT": 2},
        "copy, nothing new": {},
    }


def test_what_starts_cost(start: Open, buckets: Buckets, options: StoreOptions) -> None:
    requests = requests_of(buckets, options)
    store = start()
    write_identity(options)
    keep(store.vault("alice", create=True), share_key(1), share_key(2), size=SIZE)
    copy(store)
    keep(store.vault("alice", create=True), share_key(4))
    store.close()
    opened: list[BucketStore] = []

    def begin(machine: str = "node", restore: str = "false") -> None:
        opened.append(start(machine, restore=restore))
        write_identity(options)
        opened[-1].vault("alice", create=False)

    found = {"start": asked(requests, begin)}
    keep(opened[-1].vault("alice", create=False), share_key(3))
    found["first copy"] = asked(requests, lambda: copy(opened[-1]))
    crash(opened[-1])
    found["start after a crash"] = asked(requests, begin)
    opened[-1]._keepers["alice"].due_s = float("inf")
    found["its first look"] = asked(requests, opened[-1].tidy)
    crash(opened[-1])
    found["new machine"] = asked(requests, lambda: begin("second", restore="true"))
    assert found == {
        "start": {"GET": 1, "PUT": 1},  # who holds the bucket; the node's id
        # Who holds it, the two lists that are there; where they are, and pieces; a piece, a list; and what
        # these replace.
        "first copy": {"GET": 3, "LIST": 2, "PUT": 2, "DELETE": 1},
        "start after a crash": {"GET": 1, "PUT": 1},
        "its first look": {"LIST": 1},
        # Who holds it, its id, the newest list twice, a piece; which vaults, the lists twice, the shares; the
        # new holder.
        "new machine": {"GET": 5, "LIST": 4, "PUT": 1},
    }


def copy(store: BucketStore) -> None:
    """Copy all rows now, if they changed."""
    for keeper in store._keepers.values():
        keeper.due_s = 0.0
    store.tidy()


def test_a_large_share_is_read_in_windows(vault: VaultStore, buckets: Buckets, options: StoreOptions) -> None:
    size = (8 << 20) + 1
    keep(vault, share_key(1), size=size)
    assert asked(requests_of(buckets, options), lambda: vault.verify(share_key(1))) == {"GET": 2}


def test_a_copy_sends_only_what_changed(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    def work(transaction: Transaction) -> None:
        for number in range(200):
            row = RegisterRow(accepted=ballot(1), value=bytes((number,)) * 60_000)
            transaction.set_register(register_key(number), row)

    vault.transact(work)
    requests = requests_of(buckets, options)
    first = asked(requests, store.tidy)
    keep(vault, share_key(1))
    second = asked(requests, lambda: copy(store))
    assert first["PUT"] >= 4
    assert second["PUT"] <= 3  # the first piece, the one with the share, the list


def test_two_copies_are_kept(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    for number in range(4):
        keep(vault, share_key(number))
        copy(store)
    assert names_in(buckets, options, "alice/snapshots") == [
        "alice/snapshots/0000000000000003",
        "alice/snapshots/0000000000000004",
    ]
    assert len(names_in(buckets, options, "alice/pieces")) == 2


# --- Objects come and go ------------------------------------------------------------------------------------


def test_what_was_given_up_is_removed(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    staged = stage(vault, share_key(1), SIZE)
    store.tidy()
    assert len(names_in(buckets, options, "alice/shares")) == 1
    vault.transact(lambda transaction: transaction.keep([staged]))
    keep(vault, share_key(1), size=SIZE)  # it is there already: not kept a second time
    assert len(names_in(buckets, options, "alice/shares")) == 2
    store.tidy()
    assert len(names_in(buckets, options, "alice/shares")) == 1
    vault.verify(share_key(1))


def test_an_object_outlives_its_row_as_long_as_it_is_read(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    keep(vault, share_key(1), size=SIZE)
    share = vault.share(share_key(1))
    assert collect(vault) == 1
    store.tidy()
    body = bytearray(SIZE)
    assert share.read_into(memoryview(body), 0) == SIZE
    assert body == body_of(share_key(1), SIZE)
    share.close()
    store.tidy()
    assert names_in(buckets, options, "alice/shares") == []


def test_a_share_that_comes_again_is_another_object(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    """Removing the old one, which comes late, must not hit the new."""
    keep(vault, share_key(1), size=SIZE)
    assert collect(vault) == 1
    keep(vault, share_key(1), size=SIZE)
    store.tidy()
    vault.verify(share_key(1))
    assert len(names_in(buckets, options, "alice/shares")) == 1


def test_after_a_crash_orphans_are_found(start: Open, buckets: Buckets, options: StoreOptions) -> None:
    store = start()
    vault = store.vault("alice", create=True)
    keep(vault, share_key(1), size=SIZE)
    lost = stage(vault, share_key(2), SIZE)
    foreign = "alice/shares/readme"
    obstore.put(buckets.of(Path(options.directory).parent, options.files)[0], foreign, b"not ours")
    crash(store)
    store = start()
    vault = store.vault("alice", create=False)
    keep(vault, share_key(3), size=SIZE)
    open_one = stage(vault, share_key(4), SIZE)
    assert len(names_in(buckets, options, "alice/shares")) == 5
    store.tidy()
    del lost
    assert len(names_in(buckets, options, "alice/shares")) == 4
    assert foreign in names_in(buckets, options, "alice/shares")
    vault.transact(lambda transaction: transaction.keep([open_one]))
    for number in (1, 3, 4):
        vault.verify(share_key(number))
    requests = requests_of(buckets, options)
    assert "LIST" not in asked(requests, store.tidy)  # once


CRASHED: list[BucketStore] = []


def crash(store: BucketStore) -> None:
    """End a store as a kill does: nothing is finished, locks are gone."""
    CRASHED.append(store)
    store._stopping.set()
    store._thread.join()
    for keeper in store._keepers.values():
        keeper.vault._writer.close()
    store._release()


def test_a_missing_object_is_a_corrupt_share(
    vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    keep(vault, share_key(1), share_key(2), share_key(3), size=SIZE)
    objects, _ = buckets.of(Path(options.directory).parent, options.files)
    first, second, third = names_in(buckets, options, "alice/shares")
    obstore.delete(objects, first)
    obstore.put(objects, second, b"short")
    obstore.put(objects, third, b"")
    for number in (1, 2, 3):
        with pytest.raises(CorruptShareError):
            vault.verify(share_key(number))
    assert vault.read_only_reason is None


# --- Outages ------------------------------------------------------------------------------------------------


def test_an_outage_stops_shares_only_and_ends_by_itself(
    store: BucketStore,
    vault: VaultStore,
    buckets: Buckets,
    options: StoreOptions,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keep(vault, share_key(1), size=SIZE)
    files = FaultyFiles(RealFiles())
    requests = requests_of(buckets, options)
    requests.files, before = files, requests.counts["PUT"]
    files.fail("sync", 5, count=2)
    with pytest.raises(
        StoreError, match=r"the bucket s3://bucket/node: alice/shares/.* cannot be written"
    ) as caught:
        stage(vault, share_key(2), SIZE)
    assert "goes on by itself" in caught.value.next_step
    assert vault.read_only_reason == caught.value.what
    with pytest.raises(StoreError, match="cannot be written"):
        stage(vault, share_key(2), SIZE)
    assert requests.counts["PUT"] == before + 1  # nobody waits for what is known to fail
    keep(vault, share_key(4))  # small ones, registers and reads go on
    vault.transact(lambda transaction: transaction.set_register(register_key(1), RegisterRow(value=b"new")))
    vault.verify(share_key(1))
    with caplog.at_level(logging.WARNING, "dfs"):
        store.tidy()  # the second failure
        assert vault.read_only_reason
        store.tidy()
    assert not vault.read_only_reason
    keep(vault, share_key(2), size=SIZE)
    assert len(names_in(buckets, options, "alice/shares")) == 2


def test_a_copy_that_fails_is_not_sent_again_and_again(
    store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    """With credentials that may not remove anything, each try would cost as much as a copy."""
    for number in range(2):
        keep(vault, share_key(number))
        copy(store)
    keep(vault, share_key(9))
    files = FaultyFiles(RealFiles())
    files.fail("remove", 13, count=1000)
    requests = requests_of(buckets, options)
    requests.files = files
    assert asked(requests, lambda: copy(store))["DELETE"] == 1
    assert asked(requests, store.tidy) == {}
    requests.files = RealFiles()
    assert asked(requests, lambda: copy(store))["DELETE"] == 1
    assert len(names_in(buckets, options, "alice/snapshots")) == 2


def test_a_node_stops_beside_a_bucket_that_hangs(
    start: Open, monkeypatch: pytest.MonkeyPatch, buckets: Buckets, options: StoreOptions
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(store_module, "TICK_S", 0.0)
    entered, answer = threading.Event(), threading.Event()
    real = Requests.put

    def hanging(*words: Any, **how: Any) -> object:
        if words[2].startswith("alice/pieces"):
            entered.set()
            answer.wait()
        return real(*words, **how)

    monkeypatch.setattr(Requests, "put", hanging)
    store = start()
    keep(store.vault("alice", create=True), share_key(1))
    entered.wait()
    store.close()
    answer.set()
    store._thread.join()
    again = start()
    assert again.vault("alice", create=False).shares(None, 10) == [share_key(1)]


def test_a_full_purse_is_a_full_disk(start: Open) -> None:
    store = start(capacity="1 MiB")
    vault = store.vault("alice", create=True)
    other = store.vault("bob", create=True)
    keep(vault, share_key(1), size=700_000)
    assert vault.free_size == other.free_size == (1 << 20) - 700_000
    with pytest.raises(DiskFullError):
        stage(other, share_key(2), 700_000)


# --- Whose bucket it is -------------------------------------------------------------------------------------


def test_an_empty_directory_takes_over_only_when_told(start: Open, vault: VaultStore) -> None:
    with pytest.raises(NotInitialisedError, match=r"holds a node, and .* is empty") as caught:
        start("second")
    assert "restore = true" in caught.value.next_step


def test_a_machine_that_was_given_up_learns_it(start: Open, store: BucketStore, vault: VaultStore) -> None:
    keep(vault, share_key(1), size=SIZE)
    store.tidy()
    second = start("second", restore="true")
    keep(vault, share_key(3))
    copy(store)
    assert "another machine has taken over" in str(vault.read_only_reason)
    with pytest.raises(StoreError, match="read-only"):
        keep(vault, share_key(2), size=SIZE)
    vault.verify(share_key(1))
    store.close()
    with pytest.raises(StoreError, match="another machine has taken over"):
        start()
    second.vault("alice", create=False).verify(share_key(1))


def test_rows_without_their_bucket_do_not_start(
    start: Open, store: BucketStore, vault: VaultStore, buckets: Buckets
) -> None:
    """With another bucket's address in the conf all shares would seem to be lost."""
    store.close()
    buckets._made.clear()
    with pytest.raises(StoreError, match="holds nothing of this node") as caught:
        start()
    assert "url" in caught.value.next_step


# --- A lost machine -----------------------------------------------------------------------------------------


def test_a_new_machine_finds_rows_of_the_last_copy_and_all_shares(
    start: Open, store: BucketStore, vault: VaultStore, options: StoreOptions
) -> None:
    write_identity(options)
    store.vault("Älice", create=True)
    small, large, gone, young = share_key(1), share_key(2), share_key(3), share_key(4)
    keep(vault, small)
    keep(vault, large, gone, size=SIZE)
    vault.transact(
        lambda change: change.set_register(register_key(1), RegisterRow(accepted=ballot(1), value=b"v"))
    )
    vault.transact(lambda change: change.claim(register_key(1), ballot(1), [claim(1), claim(2), claim(3)]))
    store.tidy()
    vault.transact(lambda change: change.claim(register_key(1), ballot(1), [claim(1), claim(2)]))
    assert collect(vault) == 1
    store.tidy()
    keep(vault, young, size=SIZE)
    keep(vault, share_key(5))  # small and younger than the copy: lost
    crash(store)
    second = start("second", restore="true")
    assert second.users() == ["alice", "Älice"]
    back = second.vault("alice", create=False)
    assert back.shares(None, 10) == [small, large, gone, young]
    for key in (small, large, young):
        back.verify(key)
    with pytest.raises(CorruptShareError):
        back.verify(gone)
    assert back.view(lambda view: (view.meta(RESTORED), view.missing([small, large, gone, young]))) == (
        b"\1",
        [gone],
    )
    row = back.view(lambda view: view.register(register_key(1)))
    assert row is not None
    assert row.value == b"v"
    assert (Path(options.directory).parent / "second/.node/node-id-lost").read_bytes() == IDENTITY
    assert collect(back) == 0  # what was found is pinned until it is replayed whose it is
    assert back.used_size == 5 + 3 * SIZE


def test_shares_without_any_copy_of_rows_are_found_again(
    start: Open, store: BucketStore, vault: VaultStore
) -> None:
    keep(vault, share_key(1), size=SIZE)
    crash(store)
    second = start("second", restore="true")
    assert second.users() == []  # a name that no copy tells
    back = second.vault("alice", create=True)
    back.verify(share_key(1))
    assert back.view(lambda view: view.meta(RESTORED)) == b"\1"


def test_a_damaged_copy_gives_way_to_the_one_before(
    start: Open, store: BucketStore, vault: VaultStore, buckets: Buckets, options: StoreOptions
) -> None:
    for number in (1, 2):
        vault.transact(lambda change, number=number: change.set_meta("last", b"%d" % number))  # type: ignore[misc]
        copy(store)
    objects, _ = buckets.of(Path(options.directory).parent, options.files)
    newest = decode_snapshot(bytes(obstore.get(objects, "alice/snapshots/0000000000000002").bytes()))
    assert newest is not None
    obstore.put(objects, f"alice/pieces/{newest.pieces[0].hex()}", bytes(PIECE_SIZE))
    crash(store)
    back = start("second", restore="true").vault("alice", create=False)
    assert back.view(lambda view: view.meta("last")) == b"1"


def test_coming_back_may_be_interrupted_anywhere(
    start: Open, store: BucketStore, vault: VaultStore, monkeypatch: pytest.MonkeyPatch, buckets: Buckets
) -> None:
    """Whatever fails on the way, the next start goes on, and the vault never counts as whole."""
    keep(vault, *map(share_key, range(5)), size=SIZE)
    store.tidy()
    keep(vault, share_key(7), size=SIZE)
    crash(store)
    wanted = [share_key(number) for number in (0, 1, 2, 3, 4, 7)]
    for name in ("get", "list", "list_with_delimiter", "put"):
        for count in range(5):
            machine = f"{name}{count}"
            with monkeypatch.context() as patch:
                patch.setattr(Requests, name, failing_after(count, getattr(Requests, name)))
                with suppress(StoreError):
                    opened = start(machine, restore="true")
                    try:
                        opened.vault("alice", create=True)
                    finally:
                        crash(opened)
            opened = start(machine, restore="true")
            back = opened.vault("alice", create=True)
            assert back.view(lambda view: view.meta(RESTORED)) == b"\1"
            assert back.shares(None, 10) == wanted
            for key in wanted:
                back.verify(key)
            crash(opened)


def failing_after(count: int, real: Callable[..., object]) -> Callable[..., object]:
    """A request that is answered so many times, and no more."""
    left = iter(range(count))

    def request(*words: object, **how: object) -> object:
        if next(left, None) is None:
            raise OSError(5, "no answer")
        return real(*words, **how)

    return request
