"""Operations and what they yield, driven by hand: who is asked, hurried, dropped and waited for."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from dfs.core import effects, limits, messages
from dfs.core.effects import (
    Answers,
    Done,
    Drop,
    Effect,
    Event,
    Failed,
    Hurry,
    Operation,
    Reply,
    Send,
    Sleep,
    Work,
    ask,
    parallel,
    sleep,
    together,
    work,
)
from dfs.core.errors import DfsError, RemoteProtocolError, TimedOutError
from dfs.core.types import NodeId

NODES = [NodeId(bytes((index,)) * 16) for index in range(4)]
A, B, C, D = NODES

SLOW_S = limits.PATIENCE_DURABLE_S  # while a disk may be busy


class Drive:
    """An operation and what it has yielded last."""

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation
        self.last: Sequence[Effect] = next(operation)
        self.result: Any = None

    def send(self, event: Event) -> Sequence[Effect]:
        self.last = self.operation.send(event)
        return self.last

    def end(self, event: Event) -> Any:
        with pytest.raises(StopIteration) as ended:
            self.operation.send(event)
        return ended.value.value


def sends(nodes: Sequence[NodeId] = NODES) -> list[Send]:
    return [Send(node, node, messages.Ping()) for node in nodes]


def reply(node: NodeId) -> Reply:
    return Reply(node, messages.Empty())


def failed(tag: effects.Tag) -> Failed:
    return Failed(tag, TimedOutError("does not answer"))


def count(wanted: int) -> Callable[[Answers], bool]:
    return lambda answers: len(answers.replies) >= wanted


def test_work_returns_or_raises_and_passes_over_what_nobody_waits_for() -> None:
    drive = Drive(work(lambda: 1))
    assert isinstance(drive.last[0], Work)
    assert drive.send(Done("hedge")) == ()
    assert drive.end(Done("work", 7)) == 7
    with pytest.raises(TimedOutError):
        Drive(work(lambda: 1)).send(failed("work"))


def test_sleep_ends_with_its_own_event() -> None:
    drive = Drive(sleep(2.5))
    assert drive.last == (Sleep("sleep", 2.5),)
    assert drive.send(Done("other")) == ()
    assert drive.end(Done("sleep")) is None


def test_the_last_node_is_hurried_and_waited_for() -> None:
    drive = Drive(ask(sends()))
    assert drive.send(reply(A)) == ()
    assert drive.send(failed(B)) == ()
    assert drive.send(reply(C)) == (Hurry(D, SLOW_S, knock=True),)
    answers = drive.end(reply(D))
    assert (list(answers.replies), list(answers.errors)) == ([A, C, D], [B])


def test_one_node_alone_is_not_hurried() -> None:
    drive = Drive(ask(sends([A])))
    assert list(drive.end(reply(A)).replies) == [A]


def test_quick_answers_hurry_all_others_once() -> None:
    drive = Drive(ask(sends(), quick=True))
    assert drive.send(failed(A)) == ()
    assert drive.send(reply(B)) == (Hurry(C), Hurry(D))
    assert drive.send(reply(C)) == ()
    assert len(drive.end(failed(D)).replies) == 2


def test_enough_answers_hurry_stragglers_or_drop_them() -> None:
    drive = Drive(ask(sends(), count(2)))
    drive.send(reply(A))
    assert drive.send(reply(B)) == (Hurry(C, SLOW_S, knock=True), Hurry(D, SLOW_S, knock=True))
    dropping = Drive(ask(sends(), count(2), stragglers=False))
    dropping.send(reply(A))
    assert dropping.send(reply(B)) == (Drop(C), Drop(D), Sleep("dropped", 0.0))
    assert dropping.send(reply(C)) == (), "too late"
    assert list(dropping.end(Done("dropped")).replies) == [A, B]


def test_a_reply_that_cannot_be_taken_is_an_error_of_its_node() -> None:
    taken = []

    def take(node: NodeId, _reply: Reply) -> None:
        if node == A:
            raise RemoteProtocolError("nonsense")
        taken.append(node)

    drive = Drive(ask(sends([A, B]), count(1), take=take))
    assert drive.send(reply(A)) == (Hurry(B, SLOW_S, knock=True),), "it does not count as enough"
    answers = drive.end(reply(B))
    assert taken == [B]
    assert list(answers.replies) == [B]
    assert isinstance(answers.errors[A], RemoteProtocolError)


def test_events_of_nobody_are_passed_over() -> None:
    drive = Drive(ask(sends([A])))
    assert drive.send(reply(B)) == ()
    assert drive.send(Done("hedge")) == ()
    assert list(drive.end(reply(A)).replies) == [A]


# --- Side by side -------------------------------------------------------------------------------------------


def one(slot: str, name: str, log: list[str]) -> Operation[str]:
    log.append(f"{name} on {slot}")
    yield (Sleep(name, 1.0),)
    return name.upper()


def test_jobs_share_slots_and_keep_their_order() -> None:
    log: list[str] = []
    jobs = [partial(one, name=name, log=log) for name in "abc"]
    drive = Drive(parallel(jobs, ["left", "right"]))
    assert drive.last == (Sleep((0, "a"), 1.0), Sleep((1, "b"), 1.0))
    assert drive.send(Done((1, "b"))) == (Sleep((2, "c"), 1.0),)
    assert log == ["a on right", "b on left", "c on left"]
    assert drive.send(Done((2, "c"))) == ()
    assert drive.end(Done((0, "a"))) == ["A", "B", "C"]


def test_no_jobs_need_no_events() -> None:
    with pytest.raises(StopIteration) as ended:
        next(together([]))
    assert ended.value.value == []


def test_together_runs_a_few_at_a_time() -> None:
    drive = Drive(together([sleep(1.0), sleep(2.0)], 1))
    assert drive.last == (Sleep((0, "sleep"), 1.0),)
    assert drive.send(Done((0, "sleep"))) == (Sleep((1, "sleep"), 2.0),)
    assert drive.end(Done((1, "sleep"))) == [None, None]


def busy(closed: list[bool]) -> Operation[None]:
    try:
        yield (Send("send", A, messages.Ping()), Work("work", int), Sleep("sleep", 9.0))
    finally:
        closed.append(True)


def failing() -> Operation[None]:
    event = yield (Work("work", int),)
    assert isinstance(event, Failed)
    raise event.error


def test_an_error_is_raised_when_nobody_uses_a_slot_any_more() -> None:
    closed: list[bool] = []
    drive = Drive(together([busy(closed), failing()]))
    assert drive.send(failed((1, "work"))) == (Hurry((0, "send"), remember=False),)
    assert drive.send(Done((0, "work"))) == ()
    assert closed == []
    with pytest.raises(TimedOutError):
        drive.send(reply_to((0, "send")))
    assert closed == [True]


def reply_to(tag: effects.Tag) -> Reply:
    return Reply(tag, messages.Empty())


def test_an_error_before_the_first_event_of_a_job_does_not_wait_for_what_was_never_begun() -> None:
    def never() -> Operation[None]:
        for error in [DfsError("at once")]:
            raise error
        yield ()

    with pytest.raises(DfsError, match="at once"):
        next(together([busy([]), never()]))


def test_jobs_end_when_their_operation_is_given_up() -> None:
    closed: list[bool] = []
    drive = Drive(together([busy(closed)]))
    drive.operation.close()
    assert closed == [True]


def test_dropped_requests_are_not_waited_for() -> None:
    def dropping() -> Operation[None]:
        yield (Send("send", A, messages.Ping()), Work("work", int))
        yield (Drop("send"), Sleep("sleep", 0.0))
        raise DfsError("over")

    drive = Drive(together([dropping()]))
    drive.send(Done((0, "work")))
    with pytest.raises(DfsError, match="over"):
        drive.send(Done((0, "sleep")))


def test_events_from_before_the_jobs_are_passed_over() -> None:
    drive = Drive(together([sleep(1.0)]))
    assert drive.send(Done("sleep")) == ()
    assert drive.send(Done((7, "sleep"))) == ()
    assert drive.end(Done((0, "sleep"))) == [None]


def test_works_of_many_are_done_in_one_call() -> None:
    def twice(number: int) -> Operation[int]:
        return (yield from work(lambda: 2 * number))

    drive = Drive(effects.in_one_call([twice(number) for number in range(3)]))
    (only,) = drive.last
    assert isinstance(only, Work)
    assert drive.end(Done(only.tag, only.call())) == [0, 2, 4]


def test_what_wants_more_than_works_goes_on_afterwards() -> None:
    def asking() -> Operation[int]:
        first = yield from work(lambda: 1)
        answers = yield from ask(sends([A]))
        return first + len(answers.replies)

    drive = Drive(effects.in_one_call([asking(), work(lambda: 5)]))
    (only,) = drive.last
    assert isinstance(only, Work)
    (send,) = drive.send(Done(only.tag, only.call()))
    assert isinstance(send, Send)
    assert drive.end(reply(A)) == [2, 5]


def test_a_failure_in_one_call_reaches_who_wanted_it() -> None:
    def fail() -> int:
        raise DfsError("no")

    def patient() -> Operation[str]:
        try:
            yield from work(fail)
        except DfsError as error:
            return error.what
        return "?"

    drive = Drive(effects.in_one_call([patient()]))
    (only,) = drive.last
    assert isinstance(only, Work)
    assert drive.end(Done(only.tag, only.call())) == ["no"]
