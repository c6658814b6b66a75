"""A link to a node, over a way that a test can damage, and what came of its requests.

A test module imports each fixture it needs by its function, so: `make as make`.
"""

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, evolve, field

from dfs.core import messages
from dfs.core.effects import Event, Failed, Send
from dfs.core.env import RealEnv
from dfs.core.exchange import Job
from dfs.core.interface import Listener, Stream, Transport, TransportOptions
from dfs.core.keys import login_keys
from dfs.core.link import Identity, Link, Trust
from dfs.core.sockets import ready_of
from dfs.core.types import NodeId
from dfs.plugins import memory_transport

SECRET = bytes(range(32))  # the user's of the home
NODE = NodeId(b"n" * 16)


@define
class Way:
    """The memory transport; counts connections and lets a test damage what goes over them."""

    inner: Transport = field(factory=lambda: memory_transport.make(TransportOptions()))
    streams: list[Any] = field(factory=list)
    used: list[Any] = field(factory=list)  # a stream each time something came over it
    certificate: bytes = b""
    damage: Exception | None = None
    blind: bool = False  # no selector can watch its streams

    @property
    def confidential(self) -> bool:
        return True

    def connect(self, address: str, deadline_s: float) -> Stream:
        self.streams.append(None)
        stream: Any = self.inner.connect(address, deadline_s)
        self.streams[-1] = stream
        return Damaged(stream, self)

    def listen(self, address: str) -> Listener:
        return self.inner.listen(address)


@define
class Damaged:
    """A stream that fails as its way says."""

    inner: Any
    way: Way

    @property
    def channel_binding(self) -> bytes:
        return self.way.certificate

    def fileno(self) -> int:
        return -1 if self.way.blind else int(self.inner.fileno())

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        self.way.used.append(self.inner)
        if self.way.damage is not None:
            raise self.way.damage
        size: int = self.inner.receive_into(target, deadline_s)
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    __hash__ = object.__hash__


@define
class Bench:
    """A link and the events it posted."""

    link: Link
    way: Way
    events: "queue.SimpleQueue[Event]" = field(factory=queue.SimpleQueue)

    def submit(self, tag: object, request: messages.Request = messages.Ping(), **more: Any) -> Job:  # noqa: B008
        return self.link.submit(Send(tag, NODE, request, **more), lambda _, event: self.events.put(event))

    def begin(
        self,
        tag: object,
        request: messages.Request = messages.Ping(),  # noqa: B008
        behind: Job | None = None,
        **more: Any,
    ) -> Job | None:
        send = Send(tag, NODE, request, **more)
        return self.link.begin(send, lambda _, event: self.events.put(event), behind)

    def finish(self, job: Job) -> Event:
        """Go on with a direct request to its end."""
        event = None
        while event is None and job.direct:
            assert job.exchange is not None
            assert ready_of([job.exchange.connection.stream], time.monotonic() + 10) == [0]
            event = self.link.go_on(job)
        return event or self.event()

    def event(self) -> Event:
        return self.events.get(timeout=10)

    def ask(self, request: messages.Request = messages.Ping(), **more: Any) -> Event:  # noqa: B008
        self.submit("asked", request, **more)
        event = self.event()
        assert event.tag == "asked"
        return event

    def error(self, request: messages.Request = messages.Ping(), **more: Any) -> Exception:  # noqa: B008
        event = self.ask(request, **more)
        assert isinstance(event, Failed)
        return event.error


Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make benches, by default what a user of the home needs, and close them at the end."""
    made: list[Bench] = []

    def bench(address: str, *, connection_count_max: int = 2, way: Way | None = None, **more: Any) -> Bench:
        identity = Identity("dfs", "odile", lambda: login_keys(SECRET), "test")
        trust = Trust({}, True, lambda _address, _digest: None)
        way = way or Way()
        link = Link(
            name="A",
            address=address,
            transport=way,
            identity=evolve(identity, **{key: more[key] for key in more if key in {"realm", "user", "keys"}}),
            trust=more.get("trust", trust),
            env=RealEnv(),
            connection_count_max=connection_count_max,
            connect_timeout_s=more.get("timeout_s", 5.0),
            request_timeout_s=more.get("request_timeout_s", 5.0),
        )
        made.append(Bench(link, way))
        return made[-1]

    yield bench
    for each in made:
        each.link.close()


@pytest.fixture
def address(home: Any) -> str:
    """Where a node answers."""
    return str(home.nodes[0].server.address)
