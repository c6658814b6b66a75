"""Group commit: who waits together is committed together; nobody gets another's error or is left waiting."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from dfs.core import commit
from dfs.core.commit import CommitQueue
from dfs.core.errors import BusyError, ConflictError, StoreError
from dfs.core.interface import Transaction, VaultStore

WAIT_S = 10


class FakeStore:
    """Transactions over a dictionary, each of which waits for the gate."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.read_only_reason: str | None = None
        self.transaction_count = 0
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def transact(self, work: Callable[[Any], Any]) -> Any:
        self.begun.release()
        assert self.gate.wait(WAIT_S)
        if self.read_only_reason is not None:
            raise StoreError(self.read_only_reason)
        kept = dict(self.values)
        try:
            result = work(self)
        except Exception:
            self.values = kept
            raise
        self.transaction_count += 1
        return result

    def meta(self, name: str) -> bytes | None:
        return self.values.get(name)

    def set_meta(self, name: str, value: bytes) -> None:
        self.values[name] = value


class TellingQueue(CommitQueue):
    """A queue that tells when somebody came."""

    def _add(self, waiting: commit._Waiting) -> None:
        super()._add(waiting)
        self._condition.notify_all()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def marks() -> list[int]:
    return []


@pytest.fixture
def queue(store: FakeStore, marks: list[int]) -> Iterator[CommitQueue]:
    queue = TellingQueue(cast("VaultStore", store))
    queue.start(marks.append)
    yield queue
    store.gate.set()
    queue.close()


def setting(name: str, value: bytes = b"x") -> Callable[[Transaction], str]:
    def work(transaction: Transaction) -> str:
        transaction.set_meta(name, value)
        return name

    return work


def refusing(_transaction: Transaction) -> None:
    raise ConflictError("no")


def gather(queue: CommitQueue, count: int) -> None:
    """Wait until so many works are in the queue."""
    with queue._condition:
        assert queue._condition.wait_for(lambda: len(queue._waiting) == count, WAIT_S)


def test_a_work_gives_its_result_once_the_mark_is_known(queue: CommitQueue, marks: list[int]) -> None:
    assert queue.run(setting("a")) == "a"
    assert marks == [1]
    assert queue.run(setting("b")) == "b"
    assert marks == [1, 2]


def test_works_that_wait_share_a_transaction(queue: CommitQueue, store: FakeStore) -> None:
    store.gate.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(queue.run, setting("first"))
        assert store.begun.acquire(timeout=WAIT_S)
        others = [pool.submit(queue.run, setting(str(i))) for i in range(8)]
        gather(queue, 8)
        store.gate.set()
        assert [first.result(WAIT_S), *(other.result(WAIT_S) for other in others)] == ["first", *"01234567"]
    assert store.transaction_count == 2


def test_who_is_alone_commits_by_itself(queue: CommitQueue) -> None:
    assert queue.run(lambda _transaction: threading.current_thread()) is threading.current_thread()


def test_the_lead_goes_to_one_who_came_meanwhile(queue: CommitQueue, store: FakeStore) -> None:
    def who(_transaction: Transaction) -> threading.Thread:
        return threading.current_thread()

    store.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(lambda: (queue.run(who), threading.current_thread()))
        assert store.begun.acquire(timeout=WAIT_S)
        others = [pool.submit(lambda: (queue.run(who), threading.current_thread())) for _ in range(3)]
        gather(queue, 3)
        store.gate.set()
        (leader, own), told = first.result(WAIT_S), [other.result(WAIT_S) for other in others]
    assert leader is own
    (heir,) = {by for by, _ in told}
    assert heir in {thread for _, thread in told}
    assert store.transaction_count == 2


def test_many_who_come_and_go_all_get_their_own(queue: CommitQueue, store: FakeStore) -> None:
    def bring(number: int) -> None:
        for turn in range(40):
            name = f"{number}.{turn}"
            if turn % 3:
                assert queue.run(setting(name)) == name
            else:
                queue.later(setting(name))

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(bring, number) for number in range(16)]:
            future.result(WAIT_S)
    queue.close()
    assert len(store.values.keys() - {"mark"}) >= 16 * 40


def test_an_error_goes_to_its_own_bringer_only(queue: CommitQueue, store: FakeStore) -> None:
    store.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        pool.submit(queue.run, setting("first"))
        assert store.begun.acquire(timeout=WAIT_S)
        good = [pool.submit(queue.run, setting("a")), pool.submit(queue.run, setting("b"))]
        bad = pool.submit(queue.run, refusing)
        gather(queue, 3)
        store.gate.set()
        assert {future.result(WAIT_S) for future in good} == {"a", "b"}
        with pytest.raises(ConflictError):
            bad.result(WAIT_S)
    assert {"a", "b"} <= set(store.values)


def test_a_failed_disk_fails_all_and_is_told_once(
    queue: CommitQueue, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.read_only_reason = "the disk broke"
    for _ in range(3):
        with pytest.raises(StoreError, match="broke"):
            queue.run(setting("a"))
    assert [record.message for record in caplog.records] == [
        "a vault is read-only from now on: the disk broke"
    ]


def test_a_broken_disk_is_not_tried_again(queue: CommitQueue, store: FakeStore) -> None:
    store.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(queue.run, setting("first"))]
        assert store.begun.acquire(timeout=WAIT_S)
        waiting += [pool.submit(queue.run, setting(name)) for name in "ab"]
        gather(queue, 2)
        store.read_only_reason = "the disk broke"
        store.gate.set()
        for future in waiting:
            with pytest.raises(StoreError):
                future.result(WAIT_S)
    assert store.begun.acquire(timeout=WAIT_S)
    assert not store.begun.acquire(blocking=False), "the works of a failed transaction ran one by one"


def test_a_bug_in_a_work_does_not_end_the_queue(queue: CommitQueue) -> None:
    def buggy(_transaction: Transaction) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        queue.run(buggy)
    assert queue.run(setting("a")) == "a"


def test_what_nobody_waits_for_goes_along_with_the_next(
    queue: CommitQueue, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "LATER_S", 1000)
    queue.later(setting("later"))
    queue.run(setting("now"))
    assert {"later", "now"} <= set(store.values)
    assert store.transaction_count == 1


def test_what_nobody_waits_for_goes_alone_after_a_moment(queue: CommitQueue, store: FakeStore) -> None:
    queue.later(setting("later"))
    assert store.begun.acquire(timeout=WAIT_S)


def test_a_late_failure_is_logged(queue: CommitQueue, caplog: pytest.LogCaptureFixture) -> None:
    queue.later(refusing)
    queue.run(setting("now"))
    assert "nobody waited for" in caplog.text


def test_who_brings_too_much_for_later_waits(
    queue: CommitQueue, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "LATER_COUNT_MAX", 2)
    store.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(queue.run, setting("first"))
        assert store.begun.acquire(timeout=WAIT_S)
        queue.later(setting("a"))
        queue.later(setting("b"))
        third = pool.submit(queue.later, setting("c"))
        gather(queue, 3)
        assert not third.done()
        store.gate.set()
        third.result(WAIT_S)
    assert "c" in store.values


def test_batches_are_bounded(queue: CommitQueue, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "BATCH_COUNT_MAX", 2)
    store.gate.clear()
    for i in range(6):
        queue.later(setting(str(i)))
    store.gate.set()
    queue.run(setting("last"))
    assert store.transaction_count == 4


def test_close_commits_what_waits_and_refuses_more(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "LATER_S", 1000)
    queue = CommitQueue(cast("VaultStore", store))
    queue.start(lambda _mark: None)
    queue.later(setting("later"))
    queue.close()
    queue.close()
    assert "later" in store.values
    with pytest.raises(BusyError):
        queue.run(setting("more"))
