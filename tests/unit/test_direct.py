"""Requests that need no thread: sent and taken in by who asks, handed over to a thread, left, cut."""

import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dfs.core import messages
from dfs.core.effects import (
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
)
from dfs.core.env import RealEnv
from dfs.core.errors import RealmError, TimedOutError, UnreachableError
from dfs.core.exchange import Job
from dfs.core.link import DIRECT_SIZE_MAX
from dfs.core.runner import Runner
from dfs.core.types import ShareKey, StripeId
from dfs.core.wire import Mark
from tests.unit.benches import NODE, Bench, Make, address as address, make as make

# --- At a link ---


def test_a_direct_request_needs_no_thread(make: Make, address: str) -> None:
    bench = make(address)
    assert bench.begin("first") is None, "there is no connection yet"
    bench.ask()
    for tag in range(3):
        job = bench.begin(tag)
        assert job is not None
        assert job.direct
        assert bench.begin("meanwhile") is None, "the connection is in use"
        assert bench.finish(job) == Reply(tag, messages.Empty())
    assert len(bench.way.streams) == 1
    assert bench.events.empty()
    assert bench.link.traffic.request_count == 5, "a greeting, a login, and three"


@pytest.mark.parametrize(
    "why", ["shares are due", "no selector can watch it", "the node is left out", "closed"]
)
def test_a_request_that_cannot_be_direct_is_not_begun(make: Make, address: str, why: str) -> None:
    bench = make(address)
    bench.ask()
    more: dict[str, Any] = {"into": [memoryview(bytearray(5))]} if why == "shares are due" else {}
    bench.way.blind = why == "no selector can watch it"
    if why == "the node is left out":
        bench.link._refusal = RealmError("another realm")
    if why == "closed":
        bench.link.close()
    assert bench.begin("asked", **more) is None


def test_a_request_that_is_refused_keeps_the_connection_for_more(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    job = bench.begin("refused", messages.Activate(bytes(32)))
    assert job is not None
    event = bench.finish(job)
    assert isinstance(event, Failed)
    assert not isinstance(event.error, UnreachableError)
    job = bench.begin("asked")
    assert job is not None
    assert bench.finish(job) == Reply("asked", messages.Empty())
    assert len(bench.way.streams) == 1


def test_a_direct_request_over_a_connection_that_ended_is_asked_once_more(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    bench.way.streams[0].connection.shutdown(socket.SHUT_RDWR)
    job = bench.begin("asked")
    assert job is not None
    assert bench.finish(job) == Reply("asked", messages.Empty(), again=True), (
        "the node may have been asked twice"
    )
    assert not job.direct
    assert len(bench.way.streams) == 2


def test_a_request_that_is_handed_over_is_answered_by_a_thread(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    job = bench.begin("asked")
    assert job is not None
    bench.link.hand_over(job)
    assert bench.event() == Reply("asked", messages.Empty())
    assert len(bench.way.streams) == 1, "over the connection on which it was asked"


def test_a_large_request_is_handed_over(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    share = messages.ShareHead(ShareKey(StripeId(bytes(32)), 0), 2 * DIRECT_SIZE_MAX, bytes(16))
    job = bench.begin("asked", messages.Store((share,)), bulk=(bytes(2 * DIRECT_SIZE_MAX),))
    assert job is not None
    assert not job.direct
    assert isinstance(bench.event(), Reply | Failed)
    assert len(bench.way.streams) == 1


def test_an_answer_nobody_needs_comes_before_the_next(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    for request in (
        messages.Ping(),
        messages.Activate(bytes(32)),
    ):  # one that is answered, one that is refused
        left = bench.begin("left", request)
        assert left is not None
        bench.link.leave(left)
        job = bench.begin("asked", messages.Status())
        assert job is not None
        event = bench.finish(job)
        assert isinstance(event, Reply)
        assert isinstance(event.response, messages.StatusReply)
    left = bench.begin("left")
    assert left is not None
    bench.link.leave(left)
    event = bench.ask(messages.Status())
    assert isinstance(event, Reply), "threads take it in as well"
    assert isinstance(event.response, messages.StatusReply)
    assert len(bench.way.streams) == 1
    assert bench.events.empty()


def test_of_two_that_are_left_neither_is_mistaken_for_the_next(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    for _ in range(50):  # the second one may not have been asked yet when it is left
        for _ in range(2):
            left = bench.begin("left")
            assert left is not None
            bench.link.leave(left)
        job = bench.begin("asked", messages.Status())
        assert job is not None
        event = bench.finish(job)
        assert isinstance(event, Reply)
        assert isinstance(event.response, messages.StatusReply)
    assert len(bench.way.streams) == 1


def test_a_direct_request_that_is_cut_ends_its_connection(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    job = bench.begin("asked")
    assert job is not None
    job.remember = False
    bench.link.cut(job)
    event = bench.event()
    assert isinstance(event, Failed)
    assert isinstance(event.error, TimedOutError)
    assert bench.ask() == Reply("asked", messages.Empty())
    assert len(bench.way.streams) == 2


# --- Several over one connection ---


def lined(bench: Bench, count: int = 2) -> list[Job]:
    """Begin requests one behind the other."""
    bench.ask()
    jobs: list[Job] = []
    for tag in range(count):
        job = bench.begin(tag, messages.Status(), behind=jobs[-1] if jobs else None)
        assert job is not None
        assert job.direct
        jobs.append(job)
    return jobs


def told(event: Event) -> bool:
    return isinstance(event, Reply) and isinstance(event.response, messages.StatusReply)


def test_requests_may_go_one_behind_the_other(make: Make, address: str) -> None:
    bench = make(address)
    jobs = lined(bench, 3)
    assert bench.begin("fourth", behind=jobs[-1]) is None, "a line has its bound"
    for index, job in enumerate(jobs):
        event = bench.finish(job)
        assert event.tag == index
        assert told(event)
    assert [bench.finish(job).tag for job in lined(bench)] == [0, 1]
    assert len(bench.way.streams) == 1


def test_what_is_answered_at_once_does_not_go_behind_what_waits_for_the_disk(
    make: Make, address: str
) -> None:
    bench = make(address)
    bench.ask()
    writing = bench.begin("writing", messages.Activate(bytes(32)))
    assert writing is not None
    assert bench.begin("quick", behind=writing) is None
    another = bench.begin("another", messages.Activate(bytes(32)), behind=writing)
    assert another is not None
    assert bench.begin("quick", behind=another) is None
    for job in (writing, another):
        assert isinstance(bench.finish(job), Failed), "the node refuses that"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_line_that_is_handed_over_is_answered_by_threads(
    make: Make, address: str, order: tuple[int, ...]
) -> None:
    bench = make(address)
    jobs = lined(bench, 3)
    for index in order:
        bench.link.hand_over(jobs[index])
    events = [bench.event() for _ in jobs]
    assert [event.tag for event in events] == [0, 1, 2]
    assert all(map(told, events))
    assert len(bench.way.streams) == 1


def test_who_is_handed_over_waits_for_the_direct_one_before_it(make: Make, address: str) -> None:
    bench = make(address)
    first, second = lined(bench)
    bench.link.hand_over(second)
    assert told(bench.finish(first))
    assert told(bench.event())


def test_a_connection_is_given_on_once(make: Make, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is handed over while a thread has the reply before it, but not yet given on the connection."""
    bench = make(address)
    first, second = lined(bench)
    note, reached, go_on = bench.link._note, threading.Event(), threading.Event()

    def slowly(mark: Mark) -> None:
        if not reached.is_set():
            reached.set()
            assert go_on.wait(10)
        note(mark)

    monkeypatch.setattr(bench.link, "_note", slowly)
    bench.link.hand_over(first)
    assert reached.wait(10)
    bench.link.hand_over(second)
    with pytest.raises(queue.Empty):
        bench.events.get(timeout=0.2)  # time for another thread to take it, if it may
    go_on.set()
    assert [bench.event().tag, bench.event().tag] == [0, 1]
    assert len(bench.link._parked) == 1


@pytest.mark.parametrize("index", [0, 1])
def test_of_a_line_one_may_be_left(make: Make, address: str, index: int) -> None:
    bench = make(address)
    jobs = lined(bench)
    bench.link.leave(jobs[index])
    assert bench.begin("meanwhile") is None, "the other one uses the connection"
    event = bench.finish(jobs[1 - index])
    assert event.tag == 1 - index
    assert told(event)
    job = bench.begin("after", messages.Status())
    assert job is not None
    assert told(bench.finish(job))
    assert len(bench.way.streams) == 1


def test_who_is_handed_over_goes_on_when_the_one_before_is_left(make: Make, address: str) -> None:
    bench = make(address)
    first, second = lined(bench)
    bench.link.hand_over(second)
    bench.link.leave(first)
    assert told(bench.event())


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("handed", [False, True])
def test_when_one_of_a_line_is_cut_the_other_is_asked_once_more(
    make: Make, address: str, index: int, *, handed: bool
) -> None:
    bench = make(address)
    jobs = lined(bench)
    if handed:
        bench.link.hand_over(jobs[1])
    jobs[index].remember = False
    bench.link.cut(jobs[index])
    other = jobs[1 - index]
    if other.direct:
        assert bench.link.go_on(other) is None
        assert not other.direct, "a thread asks anew"
    events = {event.tag: event for event in (bench.event(), bench.event())}
    again, failed = events[1 - index], events[index]
    assert told(again)
    assert isinstance(again, Reply)
    assert again.again
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, TimedOutError)


def test_when_a_connection_ends_all_in_its_line_are_asked_once_more(make: Make, address: str) -> None:
    bench = make(address)
    jobs = lined(bench, 3)
    bench.way.streams[0].close()
    for job in jobs:
        event = bench.finish(job)
        assert told(event)
        assert isinstance(event, Reply)
        assert event.again


def test_a_large_request_waits_for_its_turn(make: Make, address: str) -> None:
    bench = make(address)
    bench.ask()
    share = messages.ShareHead(ShareKey(StripeId(bytes(32)), 0), 2 * DIRECT_SIZE_MAX, bytes(16))
    first = bench.begin("first")
    assert first is not None
    store = messages.Store((share,))
    second = bench.begin("second", store, bulk=(bytes(2 * DIRECT_SIZE_MAX),), behind=first)
    assert second is not None
    assert not second.direct
    assert bench.finish(first) == Reply("first", messages.Empty())
    assert bench.event().tag == "second"
    assert len(bench.way.streams) == 1


# --- Under a runner ---


@pytest.fixture
def ran(make: Make, address: str) -> Iterator[tuple[Runner, Bench]]:
    """A runner over one link with an idle connection; what is not answered in a moment is late."""
    bench = make(address, request_timeout_s=0.2)
    assert isinstance(bench.ask(), Reply)
    runner = Runner({NODE: bench.link}, RealEnv(), 2)
    yield runner, bench
    runner.close()


def answers_to(*effects: Effect, count: int = 1) -> Operation[list[Event]]:
    """Begin effects and return the first events."""
    seen = [(yield effects)]
    while len(seen) < count:
        seen.append((yield ()))
    return seen


def test_small_requests_take_no_thread(ran: tuple[Runner, Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    runner, bench = ran
    monkeypatch.setattr(bench.link, "submit", None)
    for _ in range(3):
        assert list(runner.run(ask([Send(NODE, NODE, messages.Ping())])).replies) == [NODE]
    assert len(bench.way.streams) == 1


def test_two_requests_to_a_node_take_one_connection(
    ran: tuple[Runner, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, bench = ran
    monkeypatch.setattr(bench.link, "submit", None)
    sends = [Send(tag, NODE, messages.Ping()) for tag in range(3)]
    events = runner.run(answers_to(*sends, count=3))
    assert events == [Reply(tag, messages.Empty()) for tag in range(3)]
    assert len(bench.way.streams) == 1


def test_a_request_beside_brief_work_is_not(
    ran: tuple[Runner, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, bench = ran
    monkeypatch.setattr(bench.link, "submit", None)
    monkeypatch.setattr(bench.link, "hand_over", None)
    brief = Work("work", threading.current_thread, brief=True)
    worked, asked = runner.run(answers_to(Send("asked", NODE, messages.Ping()), brief, count=2))
    assert (worked, asked) == (Done("work", threading.current_thread()), Reply("asked", messages.Empty()))


def test_a_request_beside_work_is_handed_over(ran: tuple[Runner, Bench]) -> None:
    runner, bench = ran
    gate = threading.Event()
    send, work = Send("asked", NODE, messages.Ping()), Work("work", lambda: gate.wait(10))

    def both() -> Operation[Event]:
        event = yield (send, work)
        gate.set()
        assert (yield ()) == Done("work", True)
        return event

    assert runner.run(both()) == Reply("asked", messages.Empty()), "it does not wait for the work"
    assert len(bench.way.streams) == 1


def test_a_request_that_is_dropped_does_not_answer_for_the_next(ran: tuple[Runner, Bench]) -> None:
    runner, bench = ran
    ping, status = Send("tag", NODE, messages.Ping()), Send("tag", NODE, messages.Status())

    def again() -> Operation[Event]:
        bench.way.damage = TimedOutError("nothing came")
        assert (yield (ping, Sleep("begun", 0.0))) == Done("begun")
        bench.way.damage = None
        return (yield (Drop("tag"), status))

    event = runner.run(again())
    assert isinstance(event, Reply)
    assert isinstance(event.response, messages.StatusReply)
    assert len(bench.way.streams) == 1


@pytest.mark.parametrize("hurried", [False, True])
def test_a_node_that_is_silent_is_given_up(ran: tuple[Runner, Bench], *, hurried: bool) -> None:
    runner, bench = ran
    bench.way.damage = TimedOutError("nothing came")
    hurry = (Hurry("asked", 0.01),) if hurried else ()
    (event,) = runner.run(answers_to(Send("asked", NODE, messages.Ping()), *hurry))
    assert isinstance(event, Failed)
    assert isinstance(event.error, TimedOutError)
    assert isinstance(bench.link.down, TimedOutError)


def test_an_interrupt_leaves_no_reply_behind(ran: tuple[Runner, Bench]) -> None:
    runner, bench = ran

    def interrupted() -> Operation[None]:
        bench.way.damage = TimedOutError("nothing came")
        assert (yield (Send("asked", NODE, messages.Ping()), Sleep("begun", 0.0))) == Done("begun")
        bench.way.damage = None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(interrupted())
    (event,) = runner.run(answers_to(Send("asked", NODE, messages.Status())))
    assert isinstance(event, Reply)
    assert isinstance(event.response, messages.StatusReply)
    assert bench.link.down is None
    assert len(bench.way.streams) == 2
