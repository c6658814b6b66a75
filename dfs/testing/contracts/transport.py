"""The contract of a transport: bytes arrive in order, deadlines are kept, `close` wakes everybody."""

import contextlib
import select
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from dfs.core.api import (
    BusyError,
    ConfigError,
    CorruptShareError,
    DfsError,
    Listener,
    Settings,
    Stream,
    TimedOutError,
    Transport,
    TransportOptions,
    TransportPlugin,
    UnreachableError,
)
from dfs.core.identity import ensure_certificate
from dfs.testing.contracts.base import (
    KIB,
    MIB,
    NOISE,
    THREAD_COUNT,
    OptionedContract,
    check_bytes,
    memory_bound,
    property_test,
)

FLOOD_SIZE = 32 * MIB  # more than the buffers between two ends take
PATTERN = bytes(range(251))


class Pair(NamedTuple):
    """The two ends of a connection, after the handshake."""

    client: Stream
    server: Stream

    def close(self) -> None:
        """Close both."""
        self.client.close()
        self.server.close()


def soon() -> float:
    """Return a deadline far enough for what must happen, near enough to fail a test that hangs."""
    return time.monotonic() + 10.0


def received(stream: Stream, size: int) -> bytes:
    """Return ``size`` bytes of a stream, fewer at its end."""
    target = memoryview(bytearray(size))
    offset = 0
    while offset < size:
        part_size = stream.receive_into(target[offset:], soon())
        assert 0 <= part_size <= size - offset
        if part_size == 0:
            break
        offset += part_size
    return bytes(target[:offset])


def error_of(future: "Future[Any]") -> DfsError:
    """Return the DfsError a thread ended with."""
    error = future.exception(10.0)
    assert isinstance(error, DfsError), error
    return error


class TransportContract(OptionedContract[TransportPlugin]):
    """Derive it and name the ``plugin``; ``address``: one with a free port.

    A transport that needs a certificate gets one, as a node makes it at its first start.
    """

    kind = TransportPlugin
    address: ClassVar[str] = "127.0.0.1:0"

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(TransportOptions(values=values))

    def new(self, folder: Path) -> Transport:
        """Return a transport for both ends; ``folder``: for its certificate."""
        certificate: str | None = None
        key: str | None = None
        if self.plugin.needs_certificate:
            certificate, key, _ = ensure_certificate(str(folder), "node")
        options = TransportOptions(certificate_path=certificate, key_path=key, values=self.values)
        transport: Transport = self.plugin.make(options)
        return transport

    @pytest.fixture(name="transport")
    def make_transport(self, tmp_path: Path) -> Transport:
        """Make a transport."""
        return self.new(tmp_path)

    @pytest.fixture(name="threads")
    def make_threads(self) -> Iterator[ThreadPoolExecutor]:
        """Threads for the other end."""
        with ThreadPoolExecutor(max_workers=2 * THREAD_COUNT) as pool:
            yield pool

    @pytest.fixture(name="listener")
    def make_listener(self, transport: Transport) -> Iterator[Listener]:
        """Listen on a free address."""
        listener = transport.listen(self.address)
        yield listener
        listener.close()

    def meet(self, transport: Transport, listener: Listener, threads: ThreadPoolExecutor) -> Pair:
        """Connect, accept, and let both greet."""
        client = transport.connect(listener.address, soon())
        server = listener.accept(soon())
        greeting = threads.submit(server.handshake, soon())
        client.handshake(soon())
        greeting.result()
        return Pair(client, server)

    @pytest.fixture(name="pair")
    def make_pair(
        self, transport: Transport, listener: Listener, threads: ThreadPoolExecutor
    ) -> Iterator[Pair]:
        """Connect two ends."""
        pair = self.meet(transport, listener, threads)
        yield pair
        pair.close()

    # Bytes

    @pytest.mark.parametrize(
        "sizes",
        [
            [1],
            [0, 1, 0],
            [64, 200, 3 * MIB],
            [3 * MIB, 1, 2 * MIB, 64],
            [1] * 2500,  # more than one call takes
            [16 * KIB - 1, 16 * KIB, 16 * KIB + 1],
        ],
        ids=["one", "empty", "frame", "mixed", "many", "records"],
    )
    def test_bytes_arrive_in_order(self, pair: Pair, threads: ThreadPoolExecutor, sizes: list[int]) -> None:
        buffers = [bytes([index % 251]) * size for index, size in enumerate(sizes)]
        arrival = threads.submit(received, pair.server, sum(sizes))
        pair.client.send([memoryview(buffer) for buffer in buffers], soon())
        check_bytes(arrival.result(), b"".join(buffers))

    def test_many_turns_lose_nothing(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        """Short and long messages both ways, as a session has them."""

        def answer() -> None:
            for turn in range(60):
                pair.server.send([received(pair.server, 1 + 997 * turn)[::-1]], soon())

        answering = threads.submit(answer)
        for turn in range(60):
            question = NOISE[turn : 1 + 998 * turn]
            pair.client.send([question[: turn // 2], question[turn // 2 :]], soon())
            check_bytes(received(pair.client, len(question)), question[::-1])
        answering.result()

    def test_both_sides_send_and_receive_at_once(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        there, back = NOISE * 4, (NOISE * 4)[::-1]
        arrivals = [
            threads.submit(received, pair.server, len(there)),
            threads.submit(received, pair.client, len(back)),
        ]
        sendings = [
            threads.submit(pair.client.send, [there], soon()),
            threads.submit(pair.server.send, [back], soon()),
        ]
        for sending in sendings:
            sending.result()
        for arrival, wanted in zip(arrivals, (there, back), strict=True):
            check_bytes(arrival.result(), wanted)

    def test_offsets_and_odd_slices_are_kept(self, pair: Pair) -> None:
        """Read-only slices go out as they are; a target is filled where it lies and nowhere else."""
        source = memoryview(bytes(range(256)))
        pair.client.send([source[3:5], source[7:8]], soon())
        target = bytearray(b"-" * 6)
        view = memoryview(target)[1:4]
        size = pair.server.receive_into(view, soon())
        while size < 3:
            size += pair.server.receive_into(view[size:], soon())
        assert target == b"-\x03\x04\x07--"

    @settings(property_test, max_examples=15)
    @given(st.lists(st.binary(max_size=3000), max_size=6))
    def test_any_buffers_arrive_as_one(self, buffers: list[bytes]) -> None:
        whole = b"".join(buffers)
        with TemporaryDirectory() as folder, ThreadPoolExecutor(2) as threads:
            transport = self.new(Path(folder))
            listener = transport.listen(self.address)
            pair = self.meet(transport, listener, threads)
            pair.client.send(buffers, soon())
            check_bytes(received(pair.server, len(whole)), whole)
            pair.close()
            listener.close()

    def test_buffers_are_let_go_of(self, pair: Pair) -> None:
        """Sources may be used for something else once `send` returned, targets after `receive_into`."""
        source, target = bytearray(b"hello"), bytearray(5)
        source_view, target_view = memoryview(source), memoryview(target)
        pair.client.send([source_view], soon())
        size = pair.server.receive_into(target_view, soon())
        source_view.release()
        target_view.release()
        source.append(0)  # BufferError when it is still held
        target.append(0)
        assert target[:size] == b"hello"[:size]

    def test_a_large_send_makes_no_copy(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        """8 MiB go out and come in without an object of that size."""
        body = NOISE * 8
        parts = [memoryview(body)[: 3 * MIB], memoryview(body)[3 * MIB :]]
        target = memoryview(bytearray(len(body)))

        def receive() -> None:
            offset = 0
            while offset < len(body):
                offset += pair.server.receive_into(target[offset:], soon())

        with memory_bound(4 * MIB):
            arrival = threads.submit(receive)
            pair.client.send(parts, soon())
            arrival.result()
        check_bytes(target, body)

    # Ends and deadlines

    def test_end_of_stream_is_zero_and_stays_zero(self, pair: Pair) -> None:
        pair.client.send([b"last"], soon())
        pair.client.close()
        assert received(pair.server, 100) == b"last"
        assert pair.server.receive_into(memoryview(bytearray(1)), soon()) == 0

    def test_receive_keeps_its_deadline_and_loses_nothing(self, pair: Pair) -> None:
        with pytest.raises(TimedOutError):
            pair.client.receive_into(memoryview(bytearray(1)), time.monotonic() + 0.01)
        with pytest.raises(TimedOutError):
            pair.client.receive_into(memoryview(bytearray(1)), time.monotonic() - 1.0)
        pair.server.send([b"late"], soon())
        assert received(pair.client, 4) == b"late"

    @pytest.mark.parametrize("kind_of_buffer", [bytes, bytearray])
    def test_a_send_that_ran_out_of_time_goes_on(
        self, pair: Pair, threads: ThreadPoolExecutor, kind_of_buffer: type[bytes | bytearray]
    ) -> None:
        """What could not go is kept, told by `unsent_size`, and goes first with the next call."""
        assert pair.client.unsent_size == 0
        body = kind_of_buffer(PATTERN * (FLOOD_SIZE // len(PATTERN)))
        sent = bytes(body)
        with pytest.raises(TimedOutError):
            pair.client.send([b"head", body, b"tail"], time.monotonic() + 0.02)
        left_size = pair.client.unsent_size
        assert 0 < left_size <= len(sent) + 8
        if isinstance(body, bytearray):
            body[:] = bytes(len(body))  # it may serve for something else meanwhile
        with pytest.raises(TimedOutError):
            pair.client.send([b"more"], time.monotonic())
        assert pair.client.unsent_size <= left_size + 4
        arrival = threads.submit(received, pair.server, len(sent) + 12)
        pair.client.send((), soon())
        assert pair.client.unsent_size == 0
        check_bytes(arrival.result(), b"head" + sent + b"tailmore")

    def test_deadlines_of_the_two_directions_are_apart(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        arrival = threads.submit(received, pair.client, 5)
        with pytest.raises(TimedOutError):
            pair.client.send([bytes(FLOOD_SIZE)], time.monotonic() + 0.02)
        assert not arrival.done()
        pair.server.send([b"hello"], soon())
        assert arrival.result() == b"hello"

    def test_close_wakes_a_receiver(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        waiting = threads.submit(pair.client.receive_into, memoryview(bytearray(1)), soon())
        pair.client.close()
        assert isinstance(error_of(waiting), UnreachableError)

    def test_close_wakes_a_sender(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        waiting = threads.submit(pair.client.send, [bytes(FLOOD_SIZE)], soon())
        assert len(received(pair.server, MIB)) == MIB  # so it is under way
        pair.client.close()
        assert isinstance(error_of(waiting), UnreachableError)

    def test_a_closed_stream_refuses_everything(self, pair: Pair) -> None:
        pair.client.close()
        pair.client.close()
        assert pair.client.fileno() == -1
        assert pair.client.pending() == 0
        with pytest.raises(UnreachableError):
            pair.client.send([b"x"], soon())
        with pytest.raises(UnreachableError):
            pair.client.receive_into(memoryview(bytearray(1)), soon())

    def test_sending_to_a_peer_that_left_fails(self, pair: Pair) -> None:
        pair.server.close()
        with pytest.raises(UnreachableError):
            pair.client.send([bytes(FLOOD_SIZE)], soon())

    # Files

    def test_a_file_range_is_sent(self, pair: Pair, threads: ThreadPoolExecutor, tmp_path: Path) -> None:
        self.skip_without_files(pair)
        (tmp_path / "volume").write_bytes(NOISE * 4)
        with (tmp_path / "volume").open("rb") as file:
            arrival = threads.submit(received, pair.server, 2 * MIB)
            pair.client.send_file(file.fileno(), 100, 2 * MIB, soon())
            check_bytes(arrival.result(), (NOISE * 4)[100 : 100 + 2 * MIB])
            assert file.tell() == 0, "the file's own position is others'"

    def test_a_file_that_ends_early_is_corrupt(self, pair: Pair, tmp_path: Path) -> None:
        self.skip_without_files(pair)
        (tmp_path / "volume").write_bytes(b"12345")
        with (tmp_path / "volume").open("rb") as file, pytest.raises(CorruptShareError):
            pair.client.send_file(file.fileno(), 2, 6, soon())

    def test_a_file_that_ran_out_of_time_goes_on(
        self, pair: Pair, threads: ThreadPoolExecutor, tmp_path: Path
    ) -> None:
        self.skip_without_files(pair)
        body = PATTERN * (FLOOD_SIZE // len(PATTERN))
        (tmp_path / "volume").write_bytes(b"before" + body)
        with (tmp_path / "volume").open("rb") as volume:
            with pytest.raises(TimedOutError):
                pair.client.send_file(volume.fileno(), 6, len(body), time.monotonic() + 0.02)
            assert 0 < pair.client.unsent_size < len(body)
            with pytest.raises(TimedOutError):
                pair.client.send((), time.monotonic())
            arrival = threads.submit(received, pair.server, len(body) + 4)
            pair.client.send([b"tail"], soon())
        check_bytes(arrival.result(), body + b"tail")

    @staticmethod
    def skip_without_files(pair: Pair) -> None:
        """Skip for a transport that says it sends no files."""
        if not pair.client.can_send_file:
            pytest.skip("declared as sending no files")

    # Who is who, and who waits

    def test_both_ends_agree_on_the_channel_binding(self, pair: Pair) -> None:
        """SHA-256 of the server's certificate on both ends, nothing where there is none."""
        assert pair.client.channel_binding == pair.server.channel_binding
        assert len(pair.client.channel_binding) == (32 if self.plugin.needs_certificate else 0)

    def test_a_selector_sees_connections_and_bytes(
        self, transport: Transport, listener: Listener, pair: Pair
    ) -> None:
        """`fileno` is what a node watches thousands of silent connections by."""

        def readable(descriptor: int) -> bool:
            return bool(select.select([descriptor], [], [], 10.0)[0])

        client = transport.connect(listener.address, soon())
        assert readable(listener.fileno())
        listener.accept(soon()).close()
        client.close()
        pair.client.send([b"x"], soon())
        assert readable(pair.server.fileno())

    def test_no_byte_hides_from_a_selector(self, pair: Pair) -> None:
        """After a short read the rest is seen by a selector or told by `pending`."""
        pair.client.send([b"0123456789"], soon())
        assert received(pair.server, 1) == b"0"
        for index in range(1, 10):
            seen = bool(
                select.select([pair.server.fileno()], [], [], 0 if pair.server.pending() else 10.0)[0]
            )
            assert seen or pair.server.pending() > 0
            assert received(pair.server, 1) == b"%d" % index
        assert pair.server.pending() == 0

    def test_streams_name_their_peer(self, pair: Pair, listener: Listener) -> None:
        """A message names the address that was asked for; the other end has some name as well."""
        assert pair.client.peer == listener.address
        assert pair.server.peer

    def test_accept_comes_before_the_handshake(self, transport: Transport, listener: Listener) -> None:
        """A silent peer must not keep a node from the next one."""
        silent = transport.connect(listener.address, soon())
        first = listener.accept(soon())
        second = transport.connect(listener.address, soon())
        listener.accept(soon()).close()
        for stream in (silent, first, second):
            stream.close()

    def test_a_handshake_with_nobody_keeps_its_deadline(
        self, transport: Transport, listener: Listener
    ) -> None:
        """A peer that says nothing costs its deadline, no more; a transport without greeting needs none."""
        client = transport.connect(listener.address, soon())
        server = listener.accept(soon())
        with contextlib.suppress(TimedOutError):
            server.handshake(time.monotonic() + 0.02)
        client.close()
        server.close()

    def test_accept_keeps_its_deadline(self, listener: Listener) -> None:
        with pytest.raises(TimedOutError):
            listener.accept(time.monotonic() + 0.01)

    def test_close_wakes_accept(self, listener: Listener, threads: ThreadPoolExecutor) -> None:
        waiting = threads.submit(listener.accept, soon())
        listener.close()
        listener.close()
        assert isinstance(error_of(waiting), UnreachableError)
        assert listener.fileno() == -1
        with pytest.raises(UnreachableError):
            listener.accept(soon())

    def test_nobody_listens_any_more(self, transport: Transport, listener: Listener) -> None:
        listener.close()
        with pytest.raises(UnreachableError):
            transport.connect(listener.address, soon())

    def test_an_address_is_taken_once(self, transport: Transport, listener: Listener) -> None:
        """Port 0 is resolved; a second listener is told that it is in use, and gets it afterwards."""
        assert not listener.address.endswith(":0")
        with pytest.raises(BusyError):
            transport.listen(listener.address)
        listener.close()
        transport.listen(listener.address).close()

    @pytest.mark.parametrize("address", ["", "node", "node:port"])
    def test_no_address(self, transport: Transport, address: str) -> None:
        with pytest.raises(ConfigError):
            transport.listen(address)

    def test_connections_do_not_mix(
        self, transport: Transport, listener: Listener, threads: ThreadPoolExecutor
    ) -> None:
        """Eight connections at once, each with bytes of its own, one transport for all."""
        pairs = [self.meet(transport, listener, threads) for _ in range(THREAD_COUNT)]
        bodies = [NOISE[index:] for index in range(THREAD_COUNT)]
        arrivals = [
            threads.submit(received, pair.server, len(body)) for pair, body in zip(pairs, bodies, strict=True)
        ]
        sendings = [
            threads.submit(pair.client.send, [body], soon()) for pair, body in zip(pairs, bodies, strict=True)
        ]
        for sending in sendings:
            sending.result()
        for arrival, body in zip(arrivals, bodies, strict=True):
            check_bytes(arrival.result(), body)
        for pair in pairs:
            pair.close()

    def test_it_says_whether_it_is_confidential(self, transport: Transport) -> None:
        """Policy asks; a transport that hides bytes on the wire proves who the node is, or has no wire."""
        assert isinstance(transport.confidential, bool)
        assert transport.confidential or not self.plugin.needs_certificate
