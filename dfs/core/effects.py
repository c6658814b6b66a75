"""How client operations talk to the world: they yield effects and receive events, so they contain no I/O.

An `Operation` is a generator. The shell runs it over threads and sockets, the simulator over virtual time.
Every Send, Work and Sleep is answered by exactly one event with its tag, once nobody touches its buffers any
more; a dropped one may be answered too, which is then ignored.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from dfs.core import limits, messages
from dfs.core.errors import DfsError
from dfs.core.records import define, evolve, field, frozen
from dfs.core.types import Buffer, NodeId

T = TypeVar("T")
S = TypeVar("S")
Tag: TypeAlias = Hashable


@frozen
class Send:
    """Ask a node. ``into``: where a FETCH reply's bodies go, in order, each exactly as long as the share."""

    tag: Tag
    node: NodeId
    request: messages.Request
    bulk: Sequence[Buffer] = field(default=(), repr=False)
    into: Sequence[memoryview] | None = field(default=None, repr=False)


@frozen
class Work:
    """Run ``call`` on a worker thread; it may be slow and may read or write the local file.

    ``brief``: it takes some milliseconds, so it may be done while answers of nodes wait to be taken in.
    """

    tag: Tag
    call: Callable[[], object] = field(repr=False)
    brief: bool = False


@frozen
class Sleep:
    """Wait."""

    tag: Tag
    seconds: float


@frozen
class Hurry:
    """From now on a Send fails once its node makes no progress for ``patience_s``.

    ``remember``: the node is then left out of what follows until it answers a probe. ``knock``: after
    KNOCK_AFTER_S without progress it is asked for a greeting on a connection of its own; one that does not
    even give that is frozen, not busy, and patience is over.
    """

    tag: Tag
    patience_s: float = limits.PATIENCE_S
    remember: bool = True
    knock: bool = False


@frozen
class Drop:
    """The answer to a Sleep, or to a Send without buffers, is not needed any more."""

    tag: Tag


@frozen
class Reply:
    """A node answered. ``bulk``: what came with it, unless it went ``into`` buffers. ``mark``: how many
    commits its vault had seen. ``again``: it was asked twice, and what it did the first time nobody heard.
    """

    tag: Tag
    response: messages.Response
    bulk: Buffer = field(default=b"", repr=False)
    mark: int = 0
    again: bool = False


@frozen
class Done:
    """A Work or Sleep ended."""

    tag: Tag
    value: object = None


@frozen
class Failed:
    """A Send or Work failed."""

    tag: Tag
    error: Exception


Effect: TypeAlias = Send | Work | Sleep | Hurry | Drop
Event: TypeAlias = Reply | Done | Failed
Effects: TypeAlias = tuple[Effect, ...]
Operation: TypeAlias = Generator[Effects, Event, T]


def work(call: Callable[[], T], *, brief: bool = False) -> Operation[T]:
    """Run one call on a worker and return its result or raise its error. ``brief``: see Work."""
    event = yield (Work("work", call, brief),)
    while event.tag != "work":  # an answer nobody waits for any more
        event = yield ()
    if isinstance(event, Failed):
        raise event.error
    return event.value  # type: ignore[union-attr, return-value] # a Work is answered by Done


def sleep(seconds: float) -> Operation[None]:
    """Wait."""
    event = yield (Sleep("sleep", seconds),)
    while event.tag != "sleep":
        event = yield ()


@frozen
class Answers:
    """What nodes said: ``replies`` and ``errors`` by node."""

    replies: dict[NodeId, Reply] = field(factory=dict)
    errors: dict[NodeId, Exception] = field(factory=dict)


def _take_any(_node: NodeId, _reply: Reply) -> None:
    """Take a reply as it is."""


def ask(
    sends: Sequence[Send],
    enough: Callable[[Answers], bool] = lambda _answers: False,
    *,
    take: Callable[[NodeId, Reply], None] = _take_any,
    stragglers: bool = True,
    quick: bool = False,
) -> Operation[Answers]:
    """Ask several nodes at once and return what they said.

    Args:
        sends: one a node, tagged with the node.
        enough: whether what is there suffices, perhaps before anybody answers. Nodes without an answer are
            then hurried (``stragglers``: late answers are still of use) or dropped. When only one node is
            left it is hurried in any case.
        take: called once with each reply. What it raises is the node's error: one that answers nonsense is as
            good as away.
        quick: the answer costs a node no disk sync, so all others are hurried as soon as one has answered,
            with less patience. Every command begins with such a request, so a frozen node is found by it.
    """

    def hurry(node: NodeId) -> Hurry:
        patience_s = limits.PATIENCE_S if quick else limits.PATIENCE_DURABLE_S
        return Hurry(node, patience_s, knock=not quick)

    answers = Answers()
    waiting = {
        send.node: send for send in sends
    }  # ordered: what an operation does follows from its events alone
    hurried: set[NodeId] = set()
    effects: Effects = tuple(sends)
    if enough(answers):
        effects += tuple(hurry(node) for node in waiting)
        hurried.update(waiting)
    while waiting:
        event = yield effects
        effects = ()
        node = next((late for late in waiting if late == event.tag), None)
        if node is None:
            continue
        del waiting[node]
        if isinstance(event, Failed):
            answers.errors[node] = event.error
        elif isinstance(event, Reply):
            try:
                take(node, event)
            except DfsError as error:
                answers.errors[node] = error
            else:
                answers.replies[node] = event
        satisfied = enough(answers)
        if satisfied and not stragglers:
            break
        if satisfied or (answers.replies and quick) or len(waiting) == 1 < len(sends):
            effects = tuple(hurry(late) for late in waiting if late not in hurried)
            hurried.update(waiting)
    if waiting:
        yield from _drop(waiting)
    return answers


def _drop(nodes: Iterable[NodeId]) -> Operation[None]:
    event = yield (*(Drop(node) for node in nodes), Sleep("dropped", 0.0))
    while event.tag != "dropped":
        event = yield ()


@frozen
class _Running(Generic[T, S]):
    operation: Operation[T]
    slot: S


def parallel(jobs: Iterable[Callable[[S], Operation[T]]], slots: Sequence[S]) -> Operation[list[T]]:
    """Run jobs side by side, each with a slot of its own, and return their results in order.

    The first error ends all, but is raised only when nobody works on any slot any more.
    """
    crew: _Crew[T, S] = _Crew(enumerate(jobs), list(slots))
    unanswered: dict[Tag, Send | Work] = {}
    try:
        effects = crew.fill()
        while crew.running:
            _note(unanswered, effects)
            event = yield effects
            unanswered.pop(event.tag, None)
            effects = crew.take(event)
    except Exception:
        yield from _wait_for(unanswered)
        raise
    finally:
        for job in crew.running.values():
            job.operation.close()
    return [crew.results[index] for index in sorted(crew.results)]


@define
class _Crew(Generic[T, S]):
    """The jobs of `parallel`: those to come, the slots nobody uses, those under way, and results by index."""

    jobs: Iterator[tuple[int, Callable[[S], Operation[T]]]]
    free: list[S]
    running: dict[int, _Running[T, S]] = field(factory=dict)
    results: dict[int, T] = field(factory=dict)

    def fill(self) -> Effects:
        """Start jobs while there are slots."""
        effects: Effects = ()
        while self.free:
            index, job = next(self.jobs, (-1, None))
            if job is None:
                break
            slot = self.free.pop()
            self.running[index] = _Running(job(slot), slot)
            effects += self._advance(index, None)
        return effects

    def take(self, event: Event) -> Effects:
        """Hand an event to its job; one that was yielded before the jobs began is nobody's."""
        index, tag = event.tag if isinstance(event.tag, tuple) else (-1, event.tag)
        return self._advance(index, evolve(event, tag=tag)) + self.fill() if index in self.running else ()

    def _advance(self, index: int, event: Event | None) -> Effects:
        job = self.running[index]
        try:
            effects = next(job.operation) if event is None else job.operation.send(event)
        except StopIteration as end:
            self.results[index] = end.value
            self.free.append(self.running.pop(index).slot)
            return ()
        return tuple(evolve(effect, tag=(index, effect.tag)) for effect in effects)


def _note(unanswered: dict[Tag, Send | Work], effects: Effects) -> None:
    for effect in effects:
        if isinstance(effect, (Send, Work)):
            unanswered[effect.tag] = effect
        elif isinstance(effect, Drop):
            unanswered.pop(effect.tag, None)


def _wait_for(unanswered: dict[Tag, Send | Work]) -> Operation[None]:
    """Wait until nobody touches the buffers of what is under way."""
    effects: Effects = tuple(
        Hurry(tag, remember=False) for tag, effect in unanswered.items() if isinstance(effect, Send)
    )
    while unanswered:
        event = yield effects
        effects = ()
        unanswered.pop(event.tag, None)


def in_one_call(operations: Sequence[Operation[T]], *, brief: bool = False) -> Operation[list[T]]:
    """Run operations one after the other, all within one call on a worker as far as they want only Works.

    For many short ones: handing one over costs more than doing it. Those that want more go on afterwards, one
    by one. What one of them raises ends all. ``brief``: see Work; of all calls together.
    """
    begun = yield from work(lambda: [_begun(operation) for operation in operations], brief=brief)
    results: list[T] = []
    for operation, (effects, result) in zip(operations, begun, strict=True):
        results.append((yield from _resumed(operation, effects)) if effects else result)
    return results


def _begun(operation: Operation[T]) -> tuple[Effects, T]:
    """Run an operation, doing its Works here and now, to its end or until it wants something else.

    Returns: what it wants, and what it returned if it wants nothing.
    """
    try:
        effects = next(operation)
        while len(effects) == 1 and isinstance(effects[0], Work):
            effects = operation.send(done(effects[0]))
    except StopIteration as end:
        return (), end.value
    return effects, None  # type: ignore[return-value] # nobody looks at it


def done(effect: Work) -> Event:
    """Do a Work here and now and return the event that answers it."""
    try:
        return Done(effect.tag, effect.call())
    except Exception as error:  # noqa: BLE001 - handed on, whatever it is
        return Failed(effect.tag, error)


def _resumed(operation: Operation[T], effects: Effects) -> Operation[T]:
    """Go on with an operation that has yielded ``effects``."""
    try:
        while True:
            effects = operation.send((yield effects))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return] # an operation returns T
    finally:
        operation.close()


def together(operations: Sequence[Operation[T]], count_max: int = 0) -> Operation[list[T]]:
    """Run operations side by side, at most ``count_max`` at a time (0: all); returns results in order."""

    def job(_slot: int, operation: Operation[T]) -> Operation[T]:
        return operation

    jobs = [partial(job, operation=operation) for operation in operations]
    return (yield from parallel(jobs, list(range(count_max or len(operations)))))


def beside(operation: Operation[T], other: Operation[S]) -> Operation[tuple[T, S]]:
    """Run two operations side by side and return both results."""
    both: list[Operation[Any]] = [operation, other]
    first, second = yield from together(both)
    return first, second
