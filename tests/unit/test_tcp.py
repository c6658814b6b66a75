"""The transport tcp; what it shares with the others is in test_sockets.py."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dfs.core.errors import CorruptShareError, TimedOutError
from dfs.core.interface import Stream, TransportOptions
from dfs.plugins import tcp

MIB = 1024 * 1024


def soon() -> float:
    return time.monotonic() + 10.0


@pytest.fixture
def pair() -> Iterator[tuple[Stream, Stream]]:
    transport = tcp.make(TransportOptions())
    listener = transport.listen("127.0.0.1:0")
    client = transport.connect(listener.address, soon())
    server = listener.accept(soon())
    listener.close()
    yield client, server
    client.close()
    server.close()


def received(stream: Stream, size: int) -> bytes:
    target = memoryview(bytearray(size))
    offset = 0
    while offset < size:
        offset += stream.receive_into(target[offset:], soon())
    return bytes(target)


def test_it_hides_nothing() -> None:
    assert not tcp.make(TransportOptions()).confidential


def test_small_messages_are_not_held_back(pair: tuple[Stream, Stream]) -> None:
    for stream in pair:
        with socket.socket(fileno=os.dup(stream.fileno())) as copy:
            assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_file_range_is_sent(pair: tuple[Stream, Stream], tmp_path: Path) -> None:
    client, server = pair
    content = bytes(range(256)) * (12 * MIB // 256)
    path = tmp_path / "volume"
    path.write_bytes(content)
    assert client.can_send_file
    with path.open("rb") as file, ThreadPoolExecutor() as threads:
        arrival = threads.submit(received, server, 8 * MIB)
        client.send_file(file.fileno(), 100, 8 * MIB, soon())
        assert arrival.result() == content[100 : 100 + 8 * MIB]
        assert file.tell() == 0


def test_a_file_that_ends_early_is_corrupt(pair: tuple[Stream, Stream], tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(b"12345")
    with path.open("rb") as file, pytest.raises(CorruptShareError, match="3 bytes early"):
        pair[0].send_file(file.fileno(), 2, 6, soon())


def test_sending_a_file_keeps_its_deadline(pair: tuple[Stream, Stream], tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(64 * MIB)
        with pytest.raises(TimedOutError):
            pair[0].send_file(file.fileno(), 0, 64 * MIB, time.monotonic() + 0.02)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_addresses_wear_brackets() -> None:
    transport = tcp.make(TransportOptions())
    listener = transport.listen("[::1]:0")
    client = transport.connect(listener.address, soon())
    server = listener.accept(soon())
    assert listener.address.startswith("[::1]:")
    assert server.peer.startswith("[::1]:")
    for each in (client, server, listener):
        each.close()


def test_an_empty_name_is_every_address() -> None:
    transport = tcp.make(TransportOptions())
    listener = transport.listen(":0")
    port = listener.address.rpartition(":")[2]
    client = transport.connect(f"127.0.0.1:{port}", soon())
    server = listener.accept(soon())
    assert server.peer.startswith("127.0.0.1:")
    for each in (client, server, listener):
        each.close()
