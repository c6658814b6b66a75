"""Operations over threads: who answers what, who is given up when, and what an interrupt leaves behind."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from attrs import define, field

from dfs.core import limits, messages
from dfs.core.effects import (
    Done,
    Drop,
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
from dfs.core.env import RealEnv
from dfs.core.errors import NotFoundError, TimedOutError, UnreachableError
from dfs.core.exchange import Job
from dfs.core.link import Link
from dfs.core.runner import Runner, Workers, core_count
from dfs.core.types import NodeId

A, B = (NodeId(bytes((index,)) * 16) for index in range(2))


@define
class FakeLink:
    """Answers at once, or holds requests until they are cut."""

    silent: bool = False
    held: list[Job] = field(factory=list)
    cuts: list[Job] = field(factory=list)
    knocks: list[Job] = field(factory=list)
    closed: bool = False

    def begin(self, _send: Send, _post: Callable[[Job, Event], None], _behind: Job | None) -> None:
        """Have no idle connection."""

    def submit(self, send: Send, post: Callable[[Job, Event], None]) -> Job:
        job = Job(send, post)
        if self.silent:
            self.held.append(job)
        else:
            post(job, Reply(send.tag, messages.Empty()))
        return job

    def knock(self, job: Job) -> None:
        job.knock = False
        self.knocks.append(job)

    def cut(self, job: Job) -> None:
        job.cut = True
        self.cuts.append(job)
        job.post(job, Failed(job.send.tag, TimedOutError("does not answer")))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def links() -> dict[NodeId, FakeLink]:
    return {A: FakeLink(), B: FakeLink()}


@pytest.fixture
def runner(links: dict[NodeId, FakeLink]) -> Iterator[Runner]:
    made = Runner(cast("dict[NodeId, Link]", links), RealEnv(), 2)
    yield made
    made.close()
    assert all(link.closed for link in links.values())


def ping(node: NodeId, tag: object = None) -> Send:
    return Send(node if tag is None else tag, node, messages.Ping())


def events(*effects: Any, count: int) -> Operation[list[Event]]:
    """Begin effects and return the first events."""
    seen = [(yield tuple(effects))]
    while len(seen) < count:
        seen.append((yield ()))
    return seen


def test_nodes_answer(runner: Runner) -> None:
    answers = runner.run(ask([ping(A), ping(B)]))
    assert set(answers.replies) == {A, B}


def test_a_node_nobody_knows_cannot_be_reached(runner: Runner) -> None:
    answers = runner.run(ask([ping(NodeId(b"x" * 16))]))
    (error,) = answers.errors.values()
    assert isinstance(error, UnreachableError)


def test_a_work_alone_is_done_here_others_elsewhere_and_errors_come_back(runner: Runner) -> None:
    assert runner.run(work(threading.current_thread)) is threading.current_thread()
    both = runner.run(together([work(threading.current_thread), work(threading.current_thread)]))
    assert threading.current_thread() not in both

    def fail() -> None:
        raise NotFoundError("gone")

    with pytest.raises(NotFoundError, match="gone"):
        runner.run(work(fail))


def test_a_brief_work_is_done_here_unless_threads_are_at_work(runner: Runner) -> None:
    here = threading.current_thread()
    waiting = events(Sleep("nap", 0.0), Work("brief", threading.current_thread, brief=True), count=2)
    assert Done("brief", here) in runner.run(waiting)
    beside = events(ping(A), Work("brief", threading.current_thread, brief=True), count=2)
    done = next(event for event in runner.run(beside) if isinstance(event, Done))
    assert done.value is not here


def test_an_exit_in_a_worker_is_an_error_of_the_operation(runner: Runner) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        runner.run(work(leave))
    assert runner.run(work(lambda: 1)) == 1, "the worker lives"


def test_sleeps_end_in_order(runner: Runner) -> None:
    seen = runner.run(events(Sleep("long", 0.02), Sleep("short", 0.0), Sleep("middle", 0.01), count=3))
    assert [event.tag for event in seen] == ["short", "middle", "long"]
    runner.run(sleep(0.0))


def test_who_is_hurried_is_cut_when_patience_ends(runner: Runner, links: dict[NodeId, FakeLink]) -> None:
    links[A].silent = True
    (event,) = runner.run(events(ping(A), Hurry(A, 0.01, remember=False), count=1))
    assert isinstance(event, Failed)
    (job,) = links[A].cuts
    assert not job.remember


def test_a_knock_comes_before_patience_ends(
    runner: Runner, links: dict[NodeId, FakeLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KNOCK_AFTER_S", 0.01)
    links[A].silent = True
    (event,) = runner.run(events(ping(A), Hurry(A, 0.02, knock=True), count=1))
    assert isinstance(event, Failed)
    assert links[A].knocks == links[A].cuts == links[A].held, "nobody greeted, but no thread says so here"


def test_progress_lengthens_patience(runner: Runner, links: dict[NodeId, FakeLink]) -> None:
    links[A].silent = True
    env = RealEnv()

    def going() -> Operation[float]:
        began_s = env.monotonic_s()
        yield (ping(A), Sleep("begun", 0.0))
        links[A].held[0].progress_s = env.monotonic_s() + 0.05  # as if bytes came then
        event = yield (Hurry(A, 0.01),)
        assert event.tag == A
        return env.monotonic_s() - began_s

    assert runner.run(going()) >= 0.06


def test_what_is_dropped_is_not_heard_of_again(runner: Runner, links: dict[NodeId, FakeLink]) -> None:
    links[A].silent = True

    def dropping() -> Operation[Event]:
        yield (ping(A), Sleep("begun", 0.0))
        event = yield (Drop(A), Sleep("dropped", 0.0))
        links[A].cut(links[A].held[0])
        assert event.tag == "dropped"
        return (yield (Sleep("end", 0.01),))

    assert runner.run(dropping()).tag == "end"


def test_a_tag_that_is_used_again_gets_its_own_answer(runner: Runner, links: dict[NodeId, FakeLink]) -> None:
    links[A].silent = True

    def again() -> Operation[Event]:
        yield (ping(A, "tag"), Sleep("begun", 0.0))
        links[A].silent = False
        event = yield (Drop("tag"), ping(B, "tag"))
        return event

    assert isinstance(runner.run(again()), Reply)


def test_an_interrupt_gives_up_what_is_under_way(runner: Runner, links: dict[NodeId, FakeLink]) -> None:
    links[A].silent = links[B].silent = True

    def interrupted() -> Operation[None]:
        yield (ping(A), ping(B), Sleep("begun", 0.0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(interrupted())
    assert [not job.remember for job in (*links[A].cuts, *links[B].cuts)] == [True, True]


def test_operations_of_several_threads_do_not_meet(runner: Runner) -> None:
    results: list[int] = []

    def run(number: int) -> None:
        def job(_slot: int) -> Operation[int]:
            return work(lambda: number)

        results.extend(runner.run(parallel([job] * 5, [1, 2])))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(list(range(6)) * 5)


def test_workers_are_started_as_needed_and_end() -> None:
    workers = Workers(3)
    gate, begun = threading.Event(), threading.Semaphore(0)
    names: set[str] = set()

    def call() -> None:
        names.add(threading.current_thread().name + str(threading.get_ident()))
        begun.release()
        gate.wait(5)

    for _ in range(5):
        workers.submit(call)
    for _ in range(3):
        assert begun.acquire(timeout=5)
    assert len(names) == 3
    gate.set()
    for _ in range(2):
        assert begun.acquire(timeout=5)
    assert len(names) == 3
    workers.close()


def test_there_is_a_core() -> None:
    assert core_count() >= 1
