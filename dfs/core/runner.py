"""Runs client operations: nodes through their links, work on worker threads, time from the clock.

A thread switch costs more than a small request. So while an operation waits for nothing else, the thread that
runs it sends its small requests and takes in their replies itself (they are direct), and does a work that is
all the operation wants.
"""

import heapq
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from dfs.core.effects import (
    Done,
    Drop,
    Effect,
    Event,
    Failed,
    Hurry,
    Operation,
    Send,
    Sleep,
    Tag,
    Work,
    done,
)
from dfs.core.errors import UnreachableError
from dfs.core.exchange import Job
from dfs.core.interface import Env
from dfs.core.link import Link
from dfs.core.records import define, field
from dfs.core.sockets import ready_of
from dfs.core.types import NodeId

T = TypeVar("T")
WORKER_COUNT_MIN = 16  # who writes small files waits for the disk most of the time
_Posted: TypeAlias = tuple[object, Event]  # the job or work it answers, and the event


class Workers:
    """A few threads that run calls in the order they came; started when first used."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._started = 0
        self._waiting = 0
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], None]) -> None:
        """Queue a call that raises nothing."""
        with self._lock:
            self._waiting += 1
            if self._waiting > self._started < self._count:
                self._started += 1
                threading.Thread(target=self._run, name="worker", daemon=True).start()
        self._calls.put(call)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """End the threads when they are done."""
        with self._lock:
            for _ in range(self._started):
                self._calls.put(None)


@define
class _Run:
    """One operation under way."""

    posted: "queue.SimpleQueue[_Posted]" = field(factory=queue.SimpleQueue)
    waiting: dict[Tag, object] = field(factory=dict)  # tag -> the job or work whose answer is due
    direct: dict[Tag, tuple[Link, Job]] = field(factory=dict)  # requests that this thread goes on with
    elsewhere: set[Tag] = field(factory=set)  # requests and works that threads answer
    hurried: dict[Tag, tuple[Link, Job]] = field(factory=dict)
    sleeping: list[tuple[float, int, Sleep]] = field(factory=list)
    ready: list[_Posted] = field(factory=list)
    count: int = 0

    def last_direct(self, link: Link) -> Job | None:
        """Return the last of the direct requests to a node, None without one."""
        return next((job for other, job in reversed(self.direct.values()) if other is link), None)

    def due_s(self) -> float | None:
        """Return when something is due without an event, None if nothing is."""
        times = [job.expiry_s for _, job in self.hurried.values() if job.expiry_s is not None and not job.cut]
        if self.sleeping:
            times.append(self.sleeping[0][0])
        return min(times, default=None)


class Runner:
    """Runs operations, one after the other or from several threads."""

    def __init__(self, links: Mapping[NodeId, Link], env: Env, worker_count: int) -> None:
        self.links = dict(links)
        self._env = env
        self._workers = Workers(max(worker_count, WORKER_COUNT_MIN))

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its result or raise its error."""
        run = _Run()
        try:
            effects = next(operation)
            while True:
                if len(effects) == 1 and isinstance(effects[0], Work) and not run.waiting:
                    effects = operation.send(_done(effects[0]))
                    continue
                for effect in effects:
                    self._start(run, effect)
                effects = operation.send(self._next(run))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # an operation returns T
        except BaseException:
            operation.close()
            for tag, (link, job) in self._running(run).items():
                job.remember = False
                link.cut(job)
                run.waiting.pop(tag, None)
            raise

    def _running(self, run: _Run) -> dict[Tag, tuple[Link, Job]]:
        return {
            tag: (self.links[job.send.node], job)
            for tag, job in run.waiting.items()
            if isinstance(job, Job) and job.send.node in self.links
        }

    def _start(self, run: _Run, effect: Effect) -> None:
        if isinstance(effect, Send):
            self._send(run, effect)
        elif isinstance(effect, Work):
            self._work(run, effect)
        elif isinstance(effect, Sleep):
            run.count += 1
            run.waiting[effect.tag] = effect
            heapq.heappush(run.sleeping, (self._env.monotonic_s() + effect.seconds, run.count, effect))
        elif isinstance(effect, Hurry):
            job = run.waiting.get(effect.tag)
            if isinstance(job, Job):
                job.patience_s, job.remember, job.knock = effect.patience_s, effect.remember, effect.knock
                job.hurried_s = self._env.monotonic_s()
                run.hurried[effect.tag] = (self.links[job.send.node], job)
        elif isinstance(effect, Drop):
            run.waiting.pop(effect.tag, None)
            run.hurried.pop(effect.tag, None)
            run.elsewhere.discard(effect.tag)
            if effect.tag in run.direct:
                link, job = run.direct.pop(effect.tag)
                link.leave(job)

    def _send(self, run: _Run, effect: Send) -> None:
        link = self.links.get(effect.node)
        if link is None:
            run.waiting[effect.tag] = effect
            run.ready.append((effect, Failed(effect.tag, UnreachableError("not in the conf"))))
            return

        def post(job: Job, event: Event) -> None:
            run.posted.put((job, event))

        job = link.begin(effect, post, run.last_direct(link)) if not run.elsewhere else None
        if job is None:
            job = link.submit(effect, post)
        if job.direct:
            run.direct[effect.tag] = (link, job)
        else:
            run.elsewhere.add(effect.tag)
        run.waiting[effect.tag] = job

    def _work(self, run: _Run, effect: Work) -> None:
        run.waiting[effect.tag] = effect
        if effect.brief and not run.elsewhere:  # what comes meanwhile waits in its connection
            run.ready.append((effect, _done(effect)))
            return
        run.elsewhere.add(effect.tag)

        def call() -> None:
            run.posted.put((effect, _done(effect)))

        self._workers.submit(call)

    def _next(self, run: _Run) -> Event:
        """Return the next event that somebody waits for."""
        while True:
            if run.ready:
                source, event = run.ready.pop(0)
            elif run.direct and not run.elsewhere:
                self._go_on(run)
                continue
            else:
                for tag in list(run.direct):
                    self._hand_over(run, tag)
                due_s = run.due_s()
                try:
                    timeout_s = None if due_s is None else max(0.0, due_s - self._env.monotonic_s())
                    source, event = run.posted.get(timeout=timeout_s)
                except queue.Empty:
                    self._expire(run)
                    continue
            if run.waiting.get(event.tag) is source:
                del run.waiting[event.tag]
                run.hurried.pop(event.tag, None)
                run.elsewhere.discard(event.tag)
                return event

    def _go_on(self, run: _Run) -> None:
        """Wait for what comes over the connections of direct requests, and go on with those."""
        waiting = list(run.direct.items())
        exchanges = [job.exchange for _, (_, job) in waiting if job.exchange is not None]
        due_s = run.due_s()
        until_s = min(exchange.deadline_s for exchange in exchanges)
        ready = ready_of(
            [exchange.connection.stream for exchange in exchanges],
            until_s if due_s is None else min(until_s, due_s),
        )
        for index in ready:
            tag, (link, job) = waiting[index]
            event = link.go_on(job)
            if event is not None:
                del run.direct[tag]
                run.ready.append((job, event))
            elif not job.direct:
                del run.direct[tag]
                run.elsewhere.add(tag)
        now_s = self._env.monotonic_s()
        for (tag, _), exchange in zip(waiting, exchanges, strict=True):
            if exchange.deadline_s <= now_s and tag in run.direct:
                self._hand_over(run, tag)  # its thread finds that it is too late
        if not run.ready:
            self._expire(run)

    def _hand_over(self, run: _Run, tag: Tag) -> None:
        """Let a thread of its link go on with a direct request."""
        link, job = run.direct.pop(tag)
        link.hand_over(job)
        run.elsewhere.add(tag)

    def _expire(self, run: _Run) -> None:
        now_s = self._env.monotonic_s()
        for tag, (link, job) in list(run.hurried.items()):
            if not job.cut and job.expiry_s is not None and job.expiry_s <= now_s:
                if tag in run.direct:  # others close its connection, perhaps
                    self._hand_over(run, tag)
                (link.knock if job.knock else link.cut)(job)
        while run.sleeping and run.sleeping[0][0] <= now_s:
            _, _, ended = heapq.heappop(run.sleeping)
            run.ready.append((ended, Done(ended.tag)))

    def close(self) -> None:
        """End all links and workers."""
        for link in self.links.values():
            link.close()
        self._workers.close()


def _done(effect: Work) -> Event:
    """Do a work here and now. It must not end a worker, nor the process in place of the operation."""
    try:
        return done(effect)
    except (SystemExit, GeneratorExit) as error:
        return Failed(effect.tag, RuntimeError(repr(error)))


def core_count() -> int:
    """Return the cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
