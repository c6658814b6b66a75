"""The transport memory; what it shares with the others is in test_sockets.py."""

import time

import pytest

from dfs.core.errors import UnreachableError
from dfs.core.interface import TransportOptions
from dfs.plugins import memory_transport


def soon() -> float:
    return time.monotonic() + 10.0


def test_two_transports_of_a_process_meet() -> None:
    listener = memory_transport.make(TransportOptions()).listen("meeting:1")
    client = memory_transport.make(TransportOptions()).connect("meeting:1", soon())
    server = listener.accept(soon())
    client.send([b"hello"], soon())
    target = bytearray(5)
    assert server.receive_into(memoryview(target), soon()) == 5
    assert target == b"hello"
    for each in (client, server, listener):
        each.close()


def test_free_ports_differ() -> None:
    transport = memory_transport.make(TransportOptions())
    listeners = [transport.listen("many:0") for _ in range(3)]
    assert len({listener.address for listener in listeners}) == 3
    for listener in listeners:
        listener.close()


def test_an_address_is_free_after_close() -> None:
    transport = memory_transport.make(TransportOptions())
    transport.listen("again:1").close()
    transport.listen("again:1").close()


def test_a_full_backlog_refuses_and_recovers() -> None:
    transport = memory_transport.make(TransportOptions())
    listener = transport.listen("full:1")
    clients = [transport.connect("full:1", soon()) for _ in range(memory_transport.BACKLOG)]
    with pytest.raises(UnreachableError, match="too many wait"):
        transport.connect("full:1", soon())
    servers = [listener.accept(soon())]
    clients.append(transport.connect("full:1", soon()))
    servers += [listener.accept(soon()) for _ in range(memory_transport.BACKLOG)]
    listener.close()
    for stream in (*clients, *servers):
        stream.close()


def test_closing_ends_the_connections_that_wait() -> None:
    transport = memory_transport.make(TransportOptions())
    listener = transport.listen("waiting:1")
    client = transport.connect("waiting:1", soon())
    listener.close()
    assert client.receive_into(memoryview(bytearray(1)), soon()) == 0
    client.close()


def test_it_is_confidential() -> None:
    assert memory_transport.make(TransportOptions()).confidential
