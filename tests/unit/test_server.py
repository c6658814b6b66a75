"""The server over real sockets: what a client sees, what a broken or hostile peer costs, how it stops."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, messages, register, wire
from dfs.core.auth import sign_rekey
from dfs.core.bulk_rows import AcceptItem
from dfs.core.errors import BusyError, DfsError, LoginError, StoreError, UnreachableError
from dfs.core.interface import Listener, Stream, Transport
from dfs.core.messages import ConfirmItem, PrepareItem, ShareHead
from dfs.core.server import THREAD_COUNT_MAX, Server
from dfs.core.types import (
    Claim,
    Geometry,
    RegisterKey,
    VaultState,
)
from tests.unit.server_kit import (
    DIGEST,
    INES,
    NODE_ID,
    REALM,
    ROSTER,
    TOM,
    WRAP,
    Client,
    House,
    deadline,
    house as house,
    plain,
    secured,
    share_key,
    tcp_house as tcp_house,
)

# --- A client's day -----------------------------------------------------------------------------------------


def test_a_file_goes_in_and_comes_back(house: House) -> None:
    client = house.connect()
    assert client.log_in("ines", INES) == messages.LoginReply(VaultState.NEW, b"")
    assert client.ask(messages.Create(ROSTER))[0] == messages.CreateReply(ROSTER)
    client.ask(messages.Activate(DIGEST))

    large, small = bytes(range(256)) * 10_000, b"small"
    heads = [ShareHead(share_key(i), len(b), xxh3_128_digest(b)) for i, b in enumerate((large, small))]
    client.ask(messages.Store(tuple(heads)), [large, small])
    asked = (share_key(0), share_key(7), share_key(1))
    assert client.ask(messages.Has(asked))[0].held == (True, False, True)
    reply, bulk = client.ask(messages.Fetch(asked))
    assert [result.status for result in reply.results] == [messages.FOUND, messages.ABSENT, messages.FOUND]
    assert bulk == large + small

    put(client, WRAP, b"\x01entry", [0, 1])
    (state,) = bulk_rows.decode_states(client.ask(messages.Read(DIGEST, True, True, (WRAP,)))[1])
    assert state.row is not None
    assert state.row.value == b"\x01entry"
    assert state.row.confirmed == b"tag".ljust(32)
    listed, bulk = client.ask(messages.List(DIGEST, WRAP.directory, b"", 100, True))
    assert [name for name, _ in bulk_rows.decode_listed(bulk)] == [WRAP.name]
    assert not listed.more
    assert client.mark.incarnation == 3
    assert client.mark.mark > 0


def put(client: Client, key: RegisterKey, value: bytes, stripes: Sequence[int]) -> None:
    """Prepare, accept and confirm a value that claims whole-stripe shares."""
    ballot = register.make_ballot(1, b"a" * 16)
    _, bulk = client.ask(messages.Prepare(DIGEST, (PrepareItem(key, ballot),)))
    assert bulk_rows.decode_promises(bulk)[0].granted
    claimed = [Claim(share_key(i).stripe, 1, "code@1", Geometry(1, 1), ((0,),)) for i in stripes]
    claims = b"".join(map(bulk_rows.encode_claim, claimed))
    claim_set = register.claim_set_digest(claims)
    digest = register.value_digest(value, claim_set)
    rows = bulk_rows.encode_accepts([AcceptItem(key, ballot, value, digest, claim_set, claims, False)])
    assert client.ask(messages.Accept(DIGEST, 1), [rows])[0].results[0].status == messages.ACCEPTED
    confirmation = ConfirmItem(key, ballot, b"tag".ljust(32), True)
    assert client.ask(messages.Confirm(DIGEST, True, (confirmation,)))[0].held == (True,)


def test_vaults_stay_apart_and_survive_a_restart_of_the_connection(tcp_house: House) -> None:
    ines, tom = tcp_house.logged_in(), tcp_house.logged_in("tom", TOM)
    ines.make_vault()
    ines.keep(share_key(0), b"hers")
    assert tom.ask(messages.Has((share_key(0),)))[0].held == (False,)
    assert tom.ask(messages.Status())[0].state is VaultState.NEW
    again = tcp_house.logged_in()
    assert again.ask(messages.Has((share_key(0),)))[0].held == (True,)
    assert again.ask(messages.Status())[0].state is VaultState.ACTIVE


def test_a_reply_larger_than_any_buffer_arrives_whole(house: House) -> None:
    client = house.logged_in()
    body = bytes(range(251)) * ((8 * limits.MIB) // 251)
    client.keep(share_key(0), body)
    reply, bulk = client.ask(messages.Fetch((share_key(0), share_key(0))))
    assert bulk == body * 2
    assert reply.results[0].checksum == xxh3_128_digest(body)


def test_nothing_depends_on_patience(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.core.server.PATIENCE_S", 0.0)  # every step, of the handshake too, is parked
    client = house.logged_in()
    body = bytes(range(256)) * 8192
    client.keep(share_key(0), body)
    assert client.ask(messages.Fetch((share_key(0),)))[1] == body


# --- Who may not --------------------------------------------------------------------------------------------


def test_unknown_user_and_wrong_password_look_alike(house: House) -> None:
    stories = []
    for user, login in (("ines", TOM), ("olga", TOM)):
        client = house.connect()
        with pytest.raises(LoginError) as caught:
            client.log_in(user, login)
        stories.append(caught.value.line)
    assert stories[0] == stories[1]
    assert list(house.store.users()) == []


def test_a_login_does_not_look_through_the_vaults_of_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many users each login would open each of their databases."""

    def looked() -> list[str]:
        raise StoreError("all vaults were looked through")

    monkeypatch.setattr(house.store, "users", looked)
    for _ in range(2):
        house.logged_in().make_vault()
    assert house.server._house.kept() == ["ines"]


def test_nothing_but_greetings_before_the_login(tcp_house: House) -> None:
    client = tcp_house.connect()
    client.session.phase = wire.Phase.AUTHENTICATED
    with pytest.raises(DfsError, match="may not come"):
        client.ask(messages.Has((share_key(0),)))
    with pytest.raises(UnreachableError):
        client.receive(1)


def test_an_owner_changes_the_key_of_the_login(tcp_house: House) -> None:
    client = tcp_house.logged_in()
    household = tcp_house.server._house
    assert (household.rekeyed("nobody"), household.rekeyed("ines")) == (None, None)
    assert not household.is_clear("ines")
    client.make_vault()
    statement: Any = {"realm": REALM, "user": "ines", "node_id": NODE_ID, "epoch": 1}
    signature = sign_rekey(INES.seed, old=INES.public_key, new=TOM.public_key, **statement)
    client.ask(messages.Rekey(TOM.public_key, 1, signature))
    tcp_house.logged_in("ines", TOM)
    with pytest.raises(LoginError):
        tcp_house.logged_in()


def test_a_changed_key_ends_what_was_logged_in_with_the_old_one(tcp_house: House) -> None:
    client = tcp_house.logged_in()
    client.ask(messages.Status())
    tcp_house.write_users(TOM)
    tcp_house.accounts.reload()
    with pytest.raises(LoginError, match="changed"):
        client.ask(messages.Status())
    tcp_house.logged_in("ines", TOM).ask(messages.Status())


def test_a_refused_request_leaves_the_connection_usable(tcp_house: House) -> None:
    client = tcp_house.logged_in()
    with pytest.raises(wire.RosterDiffersError):
        client.ask(messages.Activate(DIGEST))
    assert client.ask(messages.Status())[0].state is VaultState.NEW


# --- Peers that break things --------------------------------------------------------------------------------


def test_garbage_costs_only_its_own_connection(house: House) -> None:
    client = house.logged_in()
    with ExitStack() as stack:
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n" * 10,
            bytes(64),
            b"\xff" * 5000,
            b"\x16\x03\x01\x00\x05" * 20,
        ):
            sock = stack.enter_context(house.socket())
            sock.sendall(garbage)
            assert ended(sock)
    client.ask(messages.Status())


def ended(sock: socket.socket) -> bool:
    """Whether the node ends the connection, with or without a last word."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


def test_huge_lengths_are_refused_before_memory_is_taken(tcp_house: House) -> None:
    frame = bytearray(wire.encode_request(messages.Hello(b"c" * 32, "", ()), 1))
    for where, value in ((16, b"\xff\xff\xff\xff"), (24, b"\xff" * 8), (16, b"\x00\x00\xff\xff")):
        with tcp_house.socket() as sock:
            sock.sendall(frame[:where] + value + frame[where + len(value) :])
            assert ended(sock)


def test_bulk_is_taken_only_where_it_belongs(tcp_house: House) -> None:
    client = tcp_house.logged_in()
    head = wire.encode_request(messages.Status(), client.session.request_id + 1, [b"bulk"])
    client.stream.send([head, b"bulk"], deadline())
    header = wire.decode_header(client.receive(64))
    assert header.role is wire.Role.ERROR


def test_half_frames_and_silent_connections_hold_no_thread(house: House) -> None:
    half = wire.encode_request(messages.Hello(b"c" * 32, "", ()), 1)[:70]
    with ExitStack() as stack:
        for piece in [b"", half[:10], half] * (THREAD_COUNT_MAX // 2):
            sock = stack.enter_context(house.socket())
            sock.sendall(piece)
        client = house.logged_in()
        client.make_vault()
        client.keep(share_key(0), b"body")


def test_a_frame_may_come_byte_by_byte(tcp_house: House) -> None:
    frame = wire.encode_request(messages.Hello(b"c" * 32, "", ()), 1)
    with tcp_house.socket() as sock:
        for byte in frame:
            sock.sendall(bytes((byte,)))
        assert sock.recv(4) == b"DFSw"


def test_idle_connections_cost_no_threads(tcp_house: House) -> None:
    tcp_house.logged_in()
    before = threading.active_count()
    clients = [tcp_house.logged_in() for _ in range(THREAD_COUNT_MAX + 50)]
    assert threading.active_count() <= before + THREAD_COUNT_MAX
    for client in clients:
        client.ask(messages.Ping())


@pytest.mark.parametrize("limit", ["HANDSHAKE_TIMEOUT_S", "LOGIN_TIMEOUT_S", "IDLE_TIMEOUT_S"])
def test_who_is_silent_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr("dfs.core.crew.SWEEP_S", 0.01)
    monkeypatch.setattr(limits, limit, 0.2)
    with closing(House(tmp_path, secured(tmp_path / "certificate"))) as house:
        if limit == "HANDSHAKE_TIMEOUT_S":
            with house.socket() as sock:
                assert ended(sock)
            return
        client = house.logged_in() if limit == "IDLE_TIMEOUT_S" else house.connect()
        if limit == "LOGIN_TIMEOUT_S":
            client.ask(messages.Hello(b"c" * 32, "", ()))
        with pytest.raises(UnreachableError):
            client.receive(1)


def test_too_many_connections_are_refused_at_once(tmp_path: Path) -> None:
    with closing(House(tmp_path, plain(tmp_path), connection_count_max=2)) as house:
        house.logged_in()
        house.logged_in()
        with pytest.raises(BusyError, match="too many connections"):
            house.logged_in()
        house.clients[0].stream.close()
        eventually(lambda: answers(house))


def answers(house: House) -> bool:
    try:
        house.logged_in().ask(messages.Ping())
    except BusyError:
        return False
    return True


def eventually(claim: Callable[[], bool]) -> None:
    """Try until it holds: what another process notices at its own time."""
    end_s = deadline()
    while not claim():
        assert time.monotonic() < end_s


def test_addresses_and_users_have_their_shares(tmp_path: Path) -> None:
    transport = secured(tmp_path / "certificate")
    with closing(House(tmp_path, transport, address_share_max=4, user_share_max=2)) as house:
        first = house.logged_in()
        house.logged_in()
        with pytest.raises(BusyError, match="ines has too many connections"):
            house.logged_in()
        house.logged_in("tom", TOM)
        with pytest.raises(BusyError, match="the node has too many connections"):
            house.logged_in("tom", TOM)
        elsewhere = house.connect("127.0.0.2")
        with pytest.raises(BusyError, match="ines has too many connections"):
            elsewhere.log_in("ines", INES)
        first.stream.close()
        eventually(lambda: answers(house))


def test_a_crowd_that_is_told_off_has_an_end_too(tmp_path: Path) -> None:
    with closing(House(tmp_path, plain(tmp_path), connection_count_max=1)) as house, ExitStack() as stack:
        house.logged_in()
        for _ in range(limits.GUEST_COUNT_MAX):
            stack.enter_context(house.socket())
        with house.socket() as sock:
            assert ended(sock)


def test_who_does_not_read_costs_no_thread(house: House) -> None:
    """Each asks for more than the system keeps for a peer, and reads nothing of it."""
    honest, careless = house.logged_in("tom", TOM), house.logged_in()
    careless.keep(share_key(0), bytes(8 * limits.MIB))
    others = [house.logged_in() for _ in range(THREAD_COUNT_MAX + 5)]
    for client in others:
        client.stream.send([client.session.ask(messages.Fetch((share_key(0),) * 2))], deadline())
    eventually(lambda: sum(each.waits_to_send for each in house.server._connections) == len(others))
    honest.make_vault()
    honest.keep(share_key(1), b"body")
    assert honest.ask(messages.Fetch((share_key(1),)))[1] == b"body"
    assert len(house.server._crew._threads) <= THREAD_COUNT_MAX
    assert house.server._crew._idle_count > 0, "they hold no thread"
    assert others[0].answer()[1] == bytes(16 * limits.MIB), "nothing was lost by the wait"


def test_guessing_slows_down_and_locks_nobody_out(tcp_house: House) -> None:
    for user in ("ines", "olga", "ines", "olga", "ines"):
        with pytest.raises(LoginError):
            tcp_house.logged_in(user, TOM)
    with pytest.raises(BusyError, match="the next one is tried in 1 s"):
        tcp_house.logged_in("olga", TOM)
    with pytest.raises(BusyError, match="the next one is tried in 1 s"):
        tcp_house.logged_in("tom", TOM)
    tcp_house.connect("127.0.0.2").log_in("ines", INES)
    tcp_house.connect("127.0.0.2").log_in("tom", TOM)

    def let_in() -> bool:
        client = tcp_house.connect()
        try:
            client.log_in("ines", INES)
        except BusyError:
            client.stream.close()
            return False
        return True

    eventually(let_in)


# --- Many at once -------------------------------------------------------------------------------------------


def test_concurrent_writes_share_transactions(tcp_house: House) -> None:
    count = 24
    clients = [tcp_house.logged_in() for _ in range(count)]
    vault = tcp_house.store.vault("ines", create=False)
    transact, transacted, gate = vault.transact, [], threading.Event()

    def held_up(work: Callable[[Any], Any]) -> Any:
        transacted.append(work)
        assert gate.wait(10)
        return transact(work)

    vault.transact = held_up  # type: ignore[method-assign]
    with ThreadPoolExecutor(count) as pool:
        kept = [pool.submit(clients[0].keep, share_key(0), b"body")]
        eventually(lambda: len(transacted) == 1)
        kept += [pool.submit(clients[i].keep, share_key(i), b"body") for i in range(1, count)]
        queue = tcp_house.server._house._vaults["ines"][1]
        eventually(lambda: len(queue._waiting) == count - 1)
        gate.set()
        for future in kept:
            future.result(10)
    assert len(transacted) == 2
    assert all(clients[0].ask(messages.Has(tuple(share_key(i) for i in range(count))))[0].held)


def test_more_uploads_than_buffers_take_turns(tcp_house: House) -> None:
    body = bytes(limits.SHARE_SIZE_MAX)
    clients = [tcp_house.logged_in() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        kept = [pool.submit(client.keep, share_key(i), body) for i, client in enumerate(clients)]
        for future in kept:
            future.result(20)
    assert tcp_house.server._buffers._size <= limits.BULK_POOL_SIZE


def test_more_busy_clients_than_threads_are_all_served(tcp_house: House) -> None:
    count = THREAD_COUNT_MAX + 8
    clients = [tcp_house.logged_in() for _ in range(count)]
    barrier = threading.Barrier(count)

    def work(client: Client) -> None:
        for _ in range(5):
            barrier.wait(10)  # nobody gets ahead: whoever starves holds up everybody
            client.ask(messages.Status())

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, client) for client in clients]:
            future.result(20)


# --- The end ------------------------------------------------------------------------------------------------


def test_stop_leaves_no_thread_and_ends_every_connection(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with closing(House(tmp_path, plain(tmp_path))) as house:
        client = house.logged_in()
        client.make_vault()
        half = house.connect()
        half.stream.send([b"DFSw"], deadline())
        assert not house.server.wait(0)
        started_s = time.monotonic()
        house.server.stop(5)
        assert time.monotonic() - started_s < 15, "it did not wait for the peer"
        assert house.server.wait(0)
        house.server.stop(5)
        assert set(threading.enumerate()) <= before
        for open_client in (client, half):
            with pytest.raises(UnreachableError):
                open_client.receive(1)
        with pytest.raises(UnreachableError):
            house.connect()


def test_stop_finishes_the_request_that_runs(tmp_path: Path) -> None:
    with closing(House(tmp_path, plain(tmp_path))) as house, ThreadPoolExecutor(2) as pool:
        client = house.logged_in()
        vault = house.store.vault("ines", create=False)
        transact, begun, gate = vault.transact, threading.Event(), threading.Event()

        def held_up(work: Callable[[Any], Any]) -> Any:
            begun.set()
            assert gate.wait(10)
            return transact(work)

        vault.transact = held_up  # type: ignore[method-assign]
        kept = pool.submit(client.keep, share_key(0), b"body")
        assert begun.wait(10)
        stopped = pool.submit(house.server.stop, 10)
        eventually(lambda: house.server._crew._closed)
        assert not stopped.done()
        gate.set()
        kept.result(10)
        stopped.result(10)


def test_stop_does_not_wait_for_a_peer_that_does_not_read(tmp_path: Path) -> None:
    with closing(House(tmp_path, plain(tmp_path))) as house:
        client = house.logged_in()
        client.keep(share_key(0), bytes(8 * limits.MIB))
        client.stream.send([client.session.ask(messages.Fetch((share_key(0),) * 2))], deadline())
        client.receive(1)
        started_s = time.monotonic()
        house.server.stop(0.1)
        assert time.monotonic() - started_s < 15, "it did not wait for the peer"


def test_an_address_in_use_is_named(tcp_house: House, tmp_path: Path) -> None:
    options = evolve(tcp_house.server._options, address=tcp_house.server.address)
    with pytest.raises(BusyError):
        Server(options).start()


# --- Housekeeping -------------------------------------------------------------------------------------------


def test_what_nobody_claims_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.core.server.TIDY_S", 0.01)
    with closing(House(tmp_path, plain(tmp_path))) as house:
        client = house.logged_in()
        client.keep(share_key(0), b"body")
        (vault,) = house.server._house.vaults
        assert vault.store.view(lambda view: view.missing([share_key(0)])) == []
        vault.store.transact(lambda transaction: transaction.unpin(float("inf")))
        vault.collectable = True
        eventually(lambda: vault.store.view(lambda view: view.missing([share_key(0)])) == [share_key(0)])


# --- Streams and listeners without a descriptor -------------------------------------------------------------


class Hidden:
    """A stream, listener or transport that shows no descriptor."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def fileno(self) -> int:
        return -1

    def accept(self, deadline_s: float) -> Stream:
        return cast("Stream", Hidden(self._inner.accept(deadline_s)))

    def listen(self, address: str) -> Listener:
        return cast("Listener", Hidden(self._inner.listen(address)))


def test_streams_without_a_descriptor_have_a_thread_of_their_own(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    house = House(tmp_path, cast("Transport", Hidden(plain(tmp_path))))
    client = house.logged_in()
    client.make_vault()
    client.keep(share_key(0), b"body")
    assert client.ask(messages.Fetch((share_key(0),)))[1] == b"body"
    house.close()
    assert set(threading.enumerate()) <= before


# --- How it is ----------------------------------------------------------------------------------------------


def test_it_says_what_it_did_also_of_connections_that_ended(house: House) -> None:
    client = house.logged_in()
    client.make_vault()
    client.keep(share_key(0), b"body" * 1000)
    with pytest.raises(LoginError):
        house.logged_in("nobody")
    now = house.server.standing()
    assert now.connection_count >= 1
    asked = {messages.MESSAGES[code][0].__name__: count for code, count in now.tally.requests.items()}
    assert (asked["Login"], asked["Store"]) == (2, 1)
    assert now.tally.errors["LoginError"] == 1
    assert now.tally.received_size > 4000
    ((user, vault),) = now.vaults
    assert (user, vault.share_count) == ("ines", 1)
    client.stream.close()
    eventually(lambda: house.server.standing().connection_count < now.connection_count)
    after = house.server.standing().tally
    assert after.requests == {**now.tally.requests, **after.requests}
    assert sum(after.requests.values()) >= sum(now.tally.requests.values())
    assert after.sent_size >= now.tally.sent_size > 0
