"""A flood of idle and half-open connections: counted, never timed (bench/flood.py measures)."""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import flood
from dfs.core import limits, messages
from dfs.core.errors import BusyError, DfsError

IDLE_COUNT, HALF_COUNT = 350, 100
VAULT_DESCRIPTOR_COUNT = 8  # an open vault has a database and volumes, and nothing for a connection
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and many addresses of this machine")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[flood.Node]:
    """A node that was started with few descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with flood.serving(tmp_path, IDLE_COUNT) as node:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            yield node
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def eventually(claim: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 15
    while not claim():
        assert time.monotonic() < end_s


@LINUX
def test_a_flood_costs_memory_but_no_thread(node: flood.Node, request: pytest.FixtureRequest) -> None:
    context = flood.client_context()
    honest = flood.connect(node.port, context)
    request.addfinalizer(honest.stream.close)
    honest.log_in(flood.HONEST)
    honest.ask(messages.Status())
    memory, descriptors = node.figure("VmRSS"), node.descriptor_count
    with flood.flood(node.port, IDLE_COUNT, HALF_COUNT):
        eventually(lambda: node.descriptor_count >= descriptors + IDLE_COUNT + HALF_COUNT // 2)
        for _ in range(20):
            honest.ask(messages.Status())
        late = flood.connect(node.port, context)
        late.log_in(flood.HONEST)
        late.stream.close()
        users = 2 + IDLE_COUNT // flood.CROWD_SIZE
        assert node.figure("Threads") <= flood.THREAD_COUNT_MAX + users
        grown = node.figure("VmHWM") - memory
        assert grown <= 24 * limits.MIB + (IDLE_COUNT + HALF_COUNT) * 64 * limits.KIB
    eventually(lambda: node.descriptor_count <= descriptors + users * VAULT_DESCRIPTOR_COUNT)
    honest.ask(messages.Status())


@LINUX
def test_one_address_does_not_take_all_places(node: flood.Node) -> None:
    """More than its share: the node says so over TLS to some, drops the rest, and serves all others."""
    context = flood.client_context()
    with ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(limits.ADDRESS_CONNECTION_COUNT):
            stack.enter_context(flood.knock(node.port, "127.0.1.2"))
        eventually(lambda: node.descriptor_count >= limits.ADDRESS_CONNECTION_COUNT)
        guest = flood.connect(node.port, context, "127.0.1.2")
        stack.callback(guest.stream.close)
        with pytest.raises(BusyError, match="too many connections"):
            guest.ask(messages.Hello(b"c" * 32, "", ()))
        honest = flood.connect(node.port, context, "127.0.1.3")
        stack.callback(honest.stream.close)
        honest.log_in(flood.HONEST)


@LINUX
def test_who_repeats_guesses_from_everywhere_slows_only_itself_down(node: flood.Node) -> None:
    context = flood.client_context()
    outcomes: list[type[DfsError]] = []

    def guess(source: str) -> None:
        for _ in range(8):
            peer = flood.connect(node.port, context, source)
            try:
                peer.log_in(flood.HONEST, flood.login_of("mallory"))
            except DfsError as error:
                outcomes.append(type(error))
            peer.stream.close()

    threads = [threading.Thread(target=guess, args=(flood.source_of(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(BusyError) > len(outcomes) // 3
    other = flood.connect(node.port, context)
    other.log_in("idle0")
    other.stream.close()

    def let_in() -> bool:
        peer = flood.connect(node.port, context)
        try:
            peer.log_in(flood.HONEST)
        except BusyError:
            return False
        finally:
            peer.stream.close()
        return True

    waited_from_s = time.monotonic()
    while not let_in():
        os.sched_yield()
        assert time.monotonic() < waited_from_s + limits.GUESS_DELAY_S_MAX
