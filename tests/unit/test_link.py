"""One link to a node: every request ends in one event, whatever the node, the way or we ourselves do."""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from dfs.core import limits, messages
from dfs.core.effects import (
    Failed,
    Reply,
)
from dfs.core.errors import (
    DfsError,
    LocalProtocolError,
    LoginError,
    PeerIdentityError,
    RealmError,
    RemoteProtocolError,
    TimedOutError,
    UnknownCertificateError,
    UnreachableError,
)
from dfs.core.interface import Stream, Transport, TransportOptions
from dfs.core.keys import login_keys
from dfs.core.link import Trust
from dfs.core.types import ShareKey, StripeId
from dfs.plugins import memory_transport
from tests.unit.benches import NODE, Make, Way, address as address, make as make

PIN = bytes(32)


class Frozen:
    """Somebody who lets people in and never says a word."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._listener = memory_transport.make(TransportOptions()).listen(address)
        self._guests: list[Stream] = []

    def wait(self) -> None:
        """Wait for a guest."""
        self._guests.append(self._listener.accept(time.monotonic() + 5))

    def close(self) -> None:
        self._listener.close()
        for guest in self._guests:
            guest.close()


@define
class Moved:
    """The memory transport, but whoever is meant now answers at another address."""

    inner: Transport
    address: str
    lets_in: Callable[[], bool] = lambda: True

    def connect(self, _address: str, deadline_s: float) -> Stream:
        if not self.lets_in():
            raise UnreachableError("not yet")
        return self.inner.connect(self.address, deadline_s)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Frozen]:
    with closing(Frozen(f"{tmp_path.name}-frozen:1")) as frozen:
        yield frozen


# --- Requests ---


def test_a_request_is_answered_by_the_node_that_was_met(make: Make, address: str) -> None:
    bench = make(address)
    assert bench.ask() == Reply("asked", messages.Empty(), b"")
    assert bench.link.met is not None
    assert bench.link.met.hello.realm == "dfs"
    traffic = bench.link.traffic
    assert traffic.request_count == 2, "HELLO and LOGIN: a node that lets us in has answered a PING"
    assert traffic.sent_size > 3 * limits.HEADER_SIZE
    assert traffic.received_size > 3 * limits.HEADER_SIZE
    assert bench.link.down is None


def test_requests_share_the_connections(make: Make, address: str) -> None:
    bench = make(address, connection_count_max=2)
    for tag in range(20):
        bench.submit(tag)
    events = [bench.event() for _ in range(20)]
    assert sorted(event.tag for event in events) == list(range(20))  # type: ignore[type-var]
    assert all(isinstance(event, Reply) for event in events)
    assert 1 <= len(bench.way.streams) <= 2


def test_the_connection_that_was_busy_last_is_taken_first(make: Make, address: str) -> None:
    bench = make(address, connection_count_max=4)
    for tag in range(40):
        bench.submit(tag)
    for _ in range(40):
        bench.event()
    used: set[int] = set()
    for _ in range(8):
        while len(bench.link._idle) < len(bench.way.streams):  # a thread goes to sleep after its event
            os.sched_yield()
        bench.way.used.clear()
        assert isinstance(bench.ask(), Reply)
        used.update(map(id, bench.way.used))
    assert len(used) == 1


def test_a_refused_request_keeps_the_connection(make: Make, address: str) -> None:
    bench = make(address)
    assert isinstance(bench.error(messages.Activate(bytes(32))), DfsError)
    assert isinstance(bench.ask(), Reply)
    assert len(bench.way.streams) == 1


def test_shares_of_other_sizes_than_asked_for_end_the_connection(make: Make, address: str) -> None:
    bench = make(address, connection_count_max=1)
    fetch = messages.Fetch((ShareKey(StripeId(bytes(32)), 0),))
    assert isinstance(bench.error(fetch, into=[]), RemoteProtocolError)
    assert isinstance(bench.ask(fetch, into=[memoryview(bytearray(5))]), Reply), "absent is an answer"
    assert len(bench.way.streams) == 2


def test_a_connection_the_node_gave_up_is_made_anew(make: Make, address: str) -> None:
    bench = make(address, connection_count_max=1)
    first = bench.ask()
    bench.way.streams[0].connection.shutdown(socket.SHUT_RDWR)
    second = bench.ask()
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.again, second.again) == (False, True), "the node may have been asked twice"
    assert len(bench.way.streams) == 2


# --- Nodes that are left out ---


def test_a_node_that_refuses_is_tried_once_a_command(make: Make) -> None:
    bench = make("nobody:1")
    assert isinstance(bench.error(), UnreachableError)
    assert isinstance(bench.error(), UnreachableError)
    assert len(bench.way.streams) == 1
    assert bench.link.down is not None
    bench.link.begin_command()
    assert isinstance(bench.error(), UnreachableError)
    assert len(bench.way.streams) == 2


def test_a_node_that_does_not_answer_costs_its_patience_once(make: Make, frozen: Frozen) -> None:
    bench = make(frozen.address, connection_count_max=1)
    first, second, third = (bench.submit(tag) for tag in range(3))
    frozen.wait()
    bench.link.cut(second)
    assert bench.event().tag == 1, "it was not under way yet"
    bench.link.cut(first)
    events = {event.tag: event for event in (bench.event(), bench.event())}
    assert set(events) == {first.send.tag, third.send.tag}
    assert all(isinstance(e, Failed) and isinstance(e.error, TimedOutError) for e in events.values())
    bench.link.begin_command()
    assert isinstance(bench.error(), TimedOutError)
    assert len(bench.way.streams) == 1


def test_a_node_that_is_too_slow_is_left_out(make: Make, frozen: Frozen) -> None:
    bench = make(frozen.address, timeout_s=0.01, request_timeout_s=3600.0)
    assert isinstance(bench.error(), TimedOutError), "until it said who it is, the time to connect counts"
    assert isinstance(bench.link.down, TimedOutError)


def test_a_request_given_up_by_its_operation_says_nothing_of_the_node(make: Make, frozen: Frozen) -> None:
    bench = make(frozen.address)
    job = bench.submit("asked")
    frozen.wait()
    job.remember = False
    bench.link.cut(job)
    event = bench.event()
    assert isinstance(event, Failed)
    assert bench.link.down is None


def knock_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "knock A"]


def test_who_does_not_even_greet_is_frozen(
    make: Make, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KNOCK_TIMEOUT_S", 0.01)
    bench = make(frozen.address, timeout_s=3600.0, connection_count_max=1)
    job = bench.submit("asked")
    frozen.wait()
    while not job.cut:  # its own greeting may still count as progress: it is noted after it was seen here
        bench.link.knock(job)
        for thread in knock_threads():
            thread.join(10)
    event = bench.event()
    assert isinstance(event, Failed)
    assert isinstance(event.error, TimedOutError)
    assert isinstance(bench.link.down, TimedOutError), "it is left out of what follows"


def test_who_greets_is_only_busy(make: Make, address: str, frozen: Frozen) -> None:
    bench = make(frozen.address, timeout_s=3600.0, connection_count_max=1)
    job = bench.submit("asked")
    frozen.wait()
    bench.way.inner = Moved(bench.way.inner, address)  # type: ignore[assignment]
    bench.link.knock(job)
    for thread in knock_threads():
        thread.join(10)
    assert not job.cut
    assert bench.link.down is None
    bench.link.cut(job)
    assert isinstance(bench.event(), Failed)


def test_a_probe_brings_a_node_back(
    make: Make, address: str, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROBE_INTERVAL_S", 0.001)
    way = Way()
    bench = make(frozen.address, way=way)
    let_in = threading.Event()
    job = bench.submit("asked")
    frozen.wait()
    way.inner = Moved(way.inner, address, let_in.is_set)  # type: ignore[assignment]
    bench.link.cut(job)
    bench.event()
    assert bench.link.down is not None
    (probe,) = [thread for thread in threading.enumerate() if thread.name == "probe A"]
    let_in.set()
    probe.join(10)
    assert isinstance(bench.ask(), Reply)


def test_a_probe_that_is_turned_away_found_somebody(
    make: Make, address: str, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROBE_INTERVAL_S", 0.001)
    bench = make(frozen.address, user="stranger")
    job = bench.submit("asked")
    frozen.wait()
    bench.way.inner = Moved(bench.way.inner, address)  # type: ignore[assignment]
    bench.link.cut(job)
    bench.event()
    for probe in [thread for thread in threading.enumerate() if thread.name == "probe A"]:
        probe.join(10)
    assert isinstance(bench.error(), LoginError)


# --- Who it is ---


def test_a_wrong_login_is_tried_once_a_command(make: Make, address: str) -> None:
    bench = make(address, keys=lambda: login_keys(bytes(32)))
    assert isinstance(bench.error(), LoginError)
    assert isinstance(bench.error(), LoginError)
    assert len(bench.way.streams) == 1


def test_what_the_derivation_raises_is_told(make: Make, address: str) -> None:
    def keys() -> Any:
        raise LoginError("no memory for it")

    error = make(address, keys=keys).error()
    assert isinstance(error, LoginError)
    assert error.what == "no memory for it"


def test_a_node_of_another_realm_learns_nothing(make: Make, address: str) -> None:
    error = make(address, realm="elsewhere").error()
    assert isinstance(error, RealmError)
    assert "'dfs'" in error.what
    assert "'elsewhere'" in error.what


def test_another_node_than_before_is_refused(make: Make, address: str) -> None:
    bench = make(address)
    bench.link.expected = NODE
    error = bench.error()
    assert isinstance(error, PeerIdentityError)
    assert "another node than before" in error.what


@pytest.mark.parametrize(("pinned", "kind"), [(False, UnknownCertificateError), (True, PeerIdentityError)])
def test_an_unknown_or_changed_certificate_is_named(
    make: Make, address: str, pinned: bool, kind: type[DfsError]
) -> None:
    learned: list[str] = []
    trust = Trust({address: PIN} if pinned else {}, pinned, lambda where, _digest: learned.append(where))
    bench = make(address, trust=trust, way=Way(certificate=b"c" * 32))
    error = bench.error()
    assert type(error) is kind
    assert f"A {address} shows certificate SHA256:{(b'c' * 32).hex()}" in error.what
    assert learned == []


# --- The end, and bugs ---


def test_after_the_end_everything_fails_at_once(make: Make, frozen: Frozen) -> None:
    bench = make(frozen.address, connection_count_max=1)
    bench.submit(0)
    bench.submit(1)
    frozen.wait()
    bench.link.close()
    bench.submit(2)
    assert sorted(event.tag for event in (bench.event(), bench.event(), bench.event())) == [0, 1, 2]  # type: ignore[type-var]
    assert isinstance(bench.error(), UnreachableError)


def test_whatever_escapes_every_request_ends_in_one_event(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    escaped: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda details: escaped.put(details.exc_value))
    bench = make(address, connection_count_max=1)
    bench.ask()
    bench.way.damage = ZeroDivisionError("a bug")
    for tag in range(5):
        bench.submit(tag)
    events = [bench.event() for _ in range(5)]
    assert sorted(event.tag for event in events) == list(range(5))  # type: ignore[type-var]
    assert all(isinstance(e, Failed) and isinstance(e.error, LocalProtocolError) for e in events)
    assert {type(escaped.get(timeout=10)) for _ in range(5)} == {ZeroDivisionError}, "it is still seen"
    bench.way.damage = None
    assert isinstance(bench.ask(), Reply)
    assert bench.events.empty()
