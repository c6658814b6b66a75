"""Defects of transports, stores and commands."""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click
from attrs import evolve

from dfs.core.api import (
    Ballot,
    Buffer,
    Claim,
    CommandContext,
    CommandPlugin,
    CorruptShareError,
    DfsError,
    DirectoryId,
    File,
    RegisterKey,
    ShareKey,
    SocketListener,
    SocketStream,
    Staged,
    TimedOutError,
    Transaction,
    UnreachableError,
)
from dfs.plugins import memory_store, tcp, volumes
from tests.kit.defects import Around, broken, seed

(TCP,) = tcp.dfs_transports()
(MEMORY,) = memory_store.dfs_stores()
(VOLUMES,) = volumes.dfs_stores()


# --- Transports ---


def streams(wrap: Callable[[Any], Any]) -> Any:
    """Return the transport tcp with each of its streams wrapped."""

    class Listening(Around):
        def accept(self, deadline_s: float) -> Any:
            return wrap(self.inner.accept(deadline_s))

    class Wrapped(Around):
        def connect(self, address: str, deadline_s: float) -> Any:
            return wrap(self.inner.connect(address, deadline_s))

        def listen(self, address: str) -> Any:
            return Listening(self.inner.listen(address))

    return broken(TCP, Wrapped)


def transport(around: Callable[[Any], Any]) -> Any:
    return broken(TCP, around)


class OneCall(Around):
    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        joined = b"".join(buffers)
        if joined:
            self.inner.connection.setblocking(True)
            self.inner.connection.send(joined)


class Backwards(Around):
    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        self.inner.send(list(buffers)[::-1], deadline_s)


class Forgetting(Around):
    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        try:
            self.inner.send(buffers, deadline_s)
        except TimedOutError:
            self.inner._unsent = self.inner._unsent[1:]
            raise


class Borrowing(SocketStream):
    def keep(self, views: Any) -> None:
        self._unsent = list(views)


class Reckless(Around):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True
        self.inner.close()


class Numbered(Around):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.number = inner.fileno()

    def fileno(self) -> int:
        return int(self.number)


class EndRaises(Around):
    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        size: int = self.inner.receive_into(target, deadline_s)
        if size == 0:
            raise UnreachableError("the peer is gone")
        return size


class ReadingAhead(Around):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.ahead = b""

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        if not self.ahead:
            room = bytearray(64 * 1024)
            self.ahead = bytes(room[: self.inner.receive_into(memoryview(room), deadline_s)])
        piece, self.ahead = self.ahead[: len(target)], self.ahead[len(target) :]
        target[: len(piece)] = piece
        return len(piece)


class CopyingStream(Around):
    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        self.inner.send([b"".join(buffers)], deadline_s)


class Seeking(Around):
    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        self.inner.send_file(descriptor, offset, size, deadline_s)


class Short(Around):
    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        with suppress(CorruptShareError):
            self.inner.send_file(descriptor, offset, size, deadline_s)


class KeepingTarget(Around):
    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        self.kept = target[:0]
        return int(self.inner.receive_into(target, deadline_s))


class Dropping(Around):
    """Reads a byte to see whether the peer is there."""

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        if deadline_s < time.monotonic() + 1:
            return int(self.inner.receive_into(target, deadline_s))
        if not getattr(self, "peeked", False):
            self.peeked = True
            self.inner.receive_into(memoryview(bytearray(1)), deadline_s)
        return int(self.inner.receive_into(target, deadline_s))


class Unbound(Around):
    @property
    def channel_binding(self) -> bytes:
        return os.urandom(32)


class Sharing(Around):
    def listen(self, address: str) -> Any:
        name, _, port = address.rpartition(":")
        if not port.isdecimal():
            return self.inner.listen(address)
        server = socket.create_server((name, int(port)), reuse_port=True)
        return SocketListener(server, SocketStream)


class RawErrors(Around):
    def connect(self, address: str, deadline_s: float) -> Any:
        name, _, port = address.rpartition(":")
        return SocketStream(socket.create_connection((name, int(port))), address)


class Greeting(Around):
    """Waits for the first byte of a peer before it takes the next one."""

    def listen(self, address: str) -> Any:
        class Waiting(Around):
            def accept(self, deadline_s: float) -> Any:
                stream = self.inner.accept(deadline_s)
                stream.connection.settimeout(0.5)
                try:
                    stream.connection.recv(1, socket.MSG_PEEK)
                except TimeoutError as error:
                    raise TimedOutError("the peer is silent") from error
                finally:
                    stream.connection.settimeout(0)
                return stream

        return Waiting(self.inner.listen(address))


class Nameless(Around):
    @property
    def peer(self) -> str:
        return "somebody"


def borrowing() -> Any:
    class Wrapped(Around):
        def connect(self, address: str, deadline_s: float) -> Any:
            stream = self.inner.connect(address, deadline_s)
            return Borrowing(stream.connection, address)

    return broken(TCP, Wrapped)


ORDER = "test_bytes_arrive_in_order"
LATE = "test_a_send_that_ran_out_of_time_goes_on"
for what, caught_by, plugin in (
    ("buffers go out backwards", ORDER, streams(Backwards)),
    ("what ran out of time is lost", LATE, streams(Forgetting)),
    ("what ran out of time is not copied", LATE, borrowing()),
    ("closing twice fails", "test_a_closed_stream_refuses_everything", streams(Reckless)),
    ("a descriptor after close", "test_a_closed_stream_refuses_everything", streams(Numbered)),
    ("the end is an error", "test_end_of_stream_is_zero_and_stays_zero", streams(EndRaises)),
    ("bytes read ahead are not told", "test_no_byte_hides_from_a_selector", streams(ReadingAhead)),
    ("buffers are joined", "test_a_large_send_makes_no_copy", streams(CopyingStream)),
    ("the position of a file is moved", "test_a_file_range_is_sent", streams(Seeking)),
    ("a file that ended early is passed over", "test_a_file_that_ends_early_is_corrupt", streams(Short)),
    ("the target is kept", "test_buffers_are_let_go_of", streams(KeepingTarget)),
    ("the first byte is dropped", "test_receive_keeps_its_deadline_and_loses_nothing", streams(Dropping)),
    ("each end has its own binding", "test_both_ends_agree_on_the_channel_binding", streams(Unbound)),
    ("peers have no address", "test_streams_name_their_peer", streams(Nameless)),
    ("an address is shared", "test_an_address_is_taken_once", transport(Sharing)),
    ("an error of the system escapes", "test_nobody_listens_any_more", transport(RawErrors)),
    ("accept waits for the peer", "test_accept_comes_before_the_handshake", transport(Greeting)),
):
    seed("transport", what, caught_by, plugin)


# --- Stores ---


def vaults(wrap: Callable[[Any], Any], plugin: Any = MEMORY) -> Any:
    """Return a store with each of its vaults wrapped, once."""

    class Wrapped(Around):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            self.made: dict[str, Any] = {}

        def vault(self, user: str, *, create: bool) -> Any:
            vault = self.inner.vault(user, create=create)
            return self.made.setdefault(user, wrap(vault))

    return broken(plugin, Wrapped)


def transactions(wrap: Callable[[Any], Any]) -> Any:
    """Return the store memory with each transaction wrapped."""

    class Vault(Around):
        def transact(self, work: Callable[[Transaction], Any]) -> Any:
            return self.inner.transact(lambda transaction: work(wrap(transaction)))

    return vaults(Vault)


class Trusting(Around):
    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> Staged:
        from xxhash import xxh3_128_digest

        return self.inner.stage(key, xxh3_128_digest(body), body)  # type: ignore[no-any-return]


class HalfDone(Around):
    """Commits what was done before an exception."""

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        failure: list[Exception] = []

        def caught(transaction: Transaction) -> Any:
            try:
                return work(transaction)
            except ArithmeticError as error:
                failure.append(error)
                return None

        result = self.inner.transact(caught)
        if failure:
            raise failure[0]
        return result


class Torn(Around):
    """Each look at a vault is at what is committed now."""

    def view(self, work: Callable[[Any], Any]) -> Any:
        inner = self.inner

        class Now:
            def __getattr__(self, name: str) -> Any:
                return lambda *arguments, **options: inner.view(
                    lambda view: getattr(view, name)(*arguments, **options)
                )

        return work(Now())


class Pinless(Around):
    def pin(self, keys: Sequence[ShareKey], until_s: float) -> None:
        pass


class EarlyEnd(Around):
    def pin(self, keys: Sequence[ShareKey], until_s: float) -> None:
        self.inner.pin(keys, until_s - 1.0)


class FallingFloor(Around):
    def set_floor(self, directory: DirectoryId, ballot: Ballot) -> None:
        if ballot[:8] == (3).to_bytes(8, "big"):
            return
        self.inner.set_floor(directory, ballot)


class Unclaiming(Around):
    def unclaim(self, register: RegisterKey, below: Ballot) -> None:
        self.inner.unclaim(register, Ballot(below + b"z"))


class Appending(Around):
    def claim(self, register: RegisterKey, ballot: Ballot, claims: Sequence[Claim]) -> None:
        before = self.inner.claims(register, ballot)
        self.inner.claim(register, ballot, [*before, *claims])


class Misread(Around):
    def share(self, key: ShareKey) -> Any:
        class Slice(Around):
            def read_into(self, target: memoryview, offset: int) -> int:
                return int(self.inner.read_into(target, 0 if offset == 1 else offset))

        return Slice(self.inner.share(key))


class Forgiving(Around):
    def mark_corrupt(self, key: ShareKey) -> None:
        pass


def through(door: Callable[[Any], Any]) -> Any:
    """Return the store volumes behind a door to the file system that does less than it says."""
    return evolve(VOLUMES, make=lambda options: VOLUMES.make(evolve(options, files=door(options.files))))


class Unsynced(Around):
    """Takes the time of a sync for waste."""

    def open(self, path: str, *, create: bool) -> File:
        class Lazy(Around):
            def sync(self) -> None:
                pass

        return Lazy(self.inner.open(path, create=create))


class Unlocked(Around):
    def lock(self, path: str) -> Callable[[], None]:
        return lambda: None


class RawVault(Around):
    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> Staged:
        try:
            return self.inner.stage(key, checksum, body)  # type: ignore[no-any-return]
        except DfsError as error:
            raise OSError(5, "told as it came") from error


class Eager(Around):
    """Acknowledges before the transaction is through, when the disk fails."""

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        try:
            return self.inner.transact(work)
        except DfsError:
            return None


for what, caught_by, plugin in (
    ("checksums are not compared", "test_a_wrong_checksum_is_refused_on_arrival", vaults(Trusting)),
    ("an exception undoes nothing", "test_an_exception_undoes_all_of_it", vaults(HalfDone)),
    ("a view changes while it is looked at", "test_a_view_is_one_picture", vaults(Torn)),
    ("pins hold nothing", "test_a_share_lives_as_long_as_it_is_held", transactions(Pinless)),
    ("pins end early", "test_the_later_of_two_pins_counts", transactions(EarlyEnd)),
    ("unclaim takes the ballot itself", "test_unclaim_drops_only_lower_ballots", transactions(Unclaiming)),
    ("claims pile up", "test_claims_come_back_in_order", transactions(Appending)),
    ("a slice begins elsewhere", "test_a_slice_reads_any_part", vaults(Misread)),
    ("bad shares are forgotten", "test_a_corrupt_share_is_bad_until_it_is_replaced", transactions(Forgiving)),
):
    seed("store", what, caught_by, plugin)
CRASH = "test_a_crash_at_any_point_loses_nothing_acknowledged"
FAILING = "test_an_error_at_any_point_is_told_and_loses_nothing"
seed("store", "shares are not synced", CRASH, through(Unsynced))
seed("store", "two processes in one directory", "test_a_directory_has_one_process", through(Unlocked))
seed("store", "an error of the system escapes", FAILING, vaults(RawVault, VOLUMES))
seed("store", "a failed commit is acknowledged", FAILING, vaults(Eager, VOLUMES))


# --- Commands ---


def command(run: Callable[..., None], **settings: Any) -> CommandPlugin:
    """Return the command `tally`, which counts the words it is given."""

    def make(_options: object) -> click.Command:
        @click.command("tally", help="Count words.", **settings)
        @click.pass_obj
        def made(context: CommandContext, /, words: Sequence[str], **_flags: object) -> None:
            run(context, words)

        whole: click.Command = made
        whole.params.append(click.Argument(["words"], nargs=-1))
        return whole

    return CommandPlugin(name="tally", summary="count words", make=make)


def tally(context: CommandContext, words: Sequence[str]) -> None:
    context.emit("tallies", {"count": len(words)}, str(len(words)))


def printing(context: CommandContext, words: Sequence[str]) -> None:
    sys.stdout.write(f"{len(words)}\n")
    tally(context, words)


def asking(context: CommandContext, words: Sequence[str]) -> None:
    try:
        context.cluster()
    except DfsError:
        context.note("no cluster")


def brittle(context: CommandContext, words: Sequence[str]) -> None:
    context.emit("tallies", {"sum": sum(int(word) for word in words)})


def leaving(context: CommandContext, words: Sequence[str]) -> None:
    tally(context, words)
    sys.exit(0)


def binary(context: CommandContext, words: Sequence[str]) -> None:
    context.emit("tallies", {"words": [word.encode() for word in words]})


def camel(context: CommandContext, words: Sequence[str]) -> None:
    context.emit("tallies", {"wordCount": len(words)})


SEEN: list[str] = []


def keeping(context: CommandContext, words: Sequence[str]) -> None:
    SEEN.extend(words)
    for word in SEEN:
        context.emit("tallies", {"word": word})


def helpless() -> CommandPlugin:
    good = command(tally)

    def make(options: Any) -> click.Command:
        made = good.make(options)
        made.params.append(click.Option(["--long"], is_flag=True))
        return made

    return evolve(good, make=make)


def hiding() -> CommandPlugin:
    good = command(tally)

    def make(options: Any) -> click.Command:
        made = good.make(options)
        made.params.append(click.Option(["--json"], is_flag=True, help="Print JSON."))
        return made

    return evolve(good, make=make)


WORDS = [["one", "two"]]
RECORDS = "test_results_are_records"
for what, caught_by, plugin in (
    ("it prints by itself", RECORDS, command(printing)),
    ("results are bytes", RECORDS, command(binary)),
    ("keys in camel case", RECORDS, command(camel)),
    ("an error is swallowed", "test_errors_are_not_swallowed", command(asking)),
    ("odd words end it", "test_any_words_end_in_a_known_way", command(brittle)),
    ("it leaves by itself", "test_any_words_end_in_a_known_way", command(leaving)),
    ("it remembers the last run", "test_nothing_is_kept_between_two_runs", command(keeping)),
    (
        "unknown options are passed over",
        "test_unknown_options_are_usage_errors",
        command(tally, context_settings={"ignore_unknown_options": True}),
    ),
    ("an option without help", "test_help_tells_what_it_does", helpless()),
    ("an option of dfs is hidden", "test_options_of_dfs_are_left_alone", hiding()),
    ("another name than declared", "test_it_is_called_by_its_name", evolve(command(tally), name="count")),
):
    seed("command", what, caught_by, plugin, examples=WORDS)
SOUND = {"command": command(tally)}
