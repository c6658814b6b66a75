"""What a running server does beside serving: it scrubs, and an empty one takes over another's id."""

import errno
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dfs.core import messages, server
from dfs.core.env import RealFiles
from dfs.core.errors import (
    BusyError,
    ConflictError,
    LoginError,
    NotFoundError,
    RemoteProtocolError,
    StoreError,
)
from dfs.core.identity import ensure_node_id, set_node_id
from dfs.core.node import VaultNode
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.scrubbing import Step
from dfs.core.types import Claim, Geometry, Node, NodeId, Roster, VaultState
from dfs.testing.stores import FaultyFiles, ballot, register_key
from tests.unit.server_kit import (
    INES,
    NODE_ID,
    TOM,
    House,
    deadline,
    plain,
    share_key,
    tcp_house as tcp_house,
)

OTHER = NodeId(b"o" * 16)
ROSTER = encode_roster(Roster(1, (Node(OTHER),), 1, 0))


def identity(house: House, tmp_path: Path) -> tuple[NodeId, int]:
    """What the node would be after a restart."""
    return ensure_node_id(str(tmp_path / "node" / ".node"), house.env)


# --- Another node's id ---


def test_an_empty_node_takes_over_an_id_and_goes_on_with_it(tcp_house: House, tmp_path: Path) -> None:
    bystander, client = tcp_house.logged_in("tom", TOM), tcp_house.logged_in()
    assert client.ask(messages.Adopt(OTHER, 7))[0] == messages.Empty()
    ended = client.stream.receive_into(memoryview(bytearray(1)), deadline()) == 0
    assert ended, "it was the last answer"
    assert identity(tcp_house, tmp_path) == (OTHER, 7)
    with pytest.raises(RemoteProtocolError, match="another one"):
        bystander.ask(messages.Status())
    again = tcp_house.connect()
    hello, _ = again.ask(messages.Hello(bytes(32), "", ()))
    assert (hello.node_id, hello.incarnation) == (OTHER, 7)
    owner = tcp_house.logged_in()
    assert owner.ask(messages.Join(ROSTER))[0].state is VaultState.JOINING
    assert owner.mark.incarnation == 7
    owner.ask(messages.EndJoin(roster_digest(ROSTER), owner.mark.mark))
    with pytest.raises(ConflictError):
        owner.ask(messages.Adopt(NODE_ID, 8))
    assert identity(tcp_house, tmp_path) == (OTHER, 7)
    assert owner.ask(messages.Status())[0].state is VaultState.ACTIVE, "a refusal ends nothing"


@pytest.mark.parametrize("kept", ["roster", "share"])
def test_a_node_that_keeps_something_stays_who_it_is(tcp_house: House, tmp_path: Path, kept: str) -> None:
    set_node_id(str(tmp_path / "node" / ".node"), NODE_ID, 3)
    ines, tom = tcp_house.logged_in(), tcp_house.logged_in("tom", TOM)
    if kept == "roster":
        ines.make_vault()
    else:
        ines.keep(share_key(1), b"body")
    with pytest.raises(ConflictError):
        tom.ask(messages.Adopt(OTHER, 7))
    assert identity(tcp_house, tmp_path) == (NODE_ID, 3)
    ines.keep(share_key(2), b"more")


# --- A disk that fails ---


def test_after_a_failed_sync_a_vault_is_read_only_until_the_node_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = bytes(100_000)  # too large for the database
    files = FaultyFiles(RealFiles())
    with closing(House(tmp_path, plain(tmp_path), files=files)) as house:
        client = house.logged_in()
        client.make_vault()
        client.keep(share_key(1), body)
        files.fail("sync", errno.EIO)
        with pytest.raises(StoreError, match="cannot be synced"):
            client.keep(share_key(2), body)
        sync_count = len(files.told("sync"))
        for number, refused in ((3, body), (4, b"small")):
            with pytest.raises(StoreError, match="read-only"):
                client.keep(share_key(number), refused)
        status = client.ask(messages.Status())[0]
        assert "cannot be synced" in status.read_only
        reply, bulk = client.ask(messages.Fetch((share_key(1), share_key(2))))
        assert [result.status for result in reply.results] == [messages.FOUND, messages.ABSENT]
        assert bulk == body
        assert house.connect().log_in("ines", INES).state is VaultState.READ_ONLY
        assert house.logged_in("tom", TOM).ask(messages.Status())[0].read_only == ""
    assert "a vault is read-only from now on" in caplog.text
    assert len(files.told("sync")) == sync_count, "a failed sync is not tried again"
    with closing(House(tmp_path, plain(tmp_path))) as house:
        client = house.connect()
        assert client.log_in("ines", INES).state is VaultState.ACTIVE
        assert client.ask(messages.Verify((share_key(1),)))[0].statuses == (messages.FOUND,)
        client.keep(share_key(2), body)


# --- Healers over a real connection ---


def test_a_healer_logs_in_and_enters(tcp_house: House) -> None:
    tcp_house.write_users(INES, tom_role="healer")
    healer = tcp_house.logged_in("tom", TOM)
    assert healer.ask(messages.Vaults(""))[0].users == ("ines",)
    assert healer.ask(messages.Enter("ines"))[0].state is VaultState.NEW
    with pytest.raises(NotFoundError):
        healer.ask(messages.Enter("tom"))
    tcp_house.write_users(INES)
    tcp_house.accounts.reload()
    with pytest.raises(LoginError):
        healer.ask(messages.Status())


# --- Scrubbing ---


class Watched:
    """Counts scrubs that ended; one can wait for the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended = threading.Semaphore(0)
        original = VaultNode.scrub

        def scrub(vault: VaultNode, **options: Any) -> Step:
            step = original(vault, **options)
            if step.ended:
                self.ended.release()
            return step

        monkeypatch.setattr(VaultNode, "scrub", scrub)
        monkeypatch.setattr(server, "SCRUB_PAUSE_S", 0.0)
        monkeypatch.setattr(server, "SCRUB_REST_S", 0.01)

    def wait(self) -> None:
        assert self.ended.acquire(timeout=15)


@pytest.fixture
def scrubs(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, begin_s: float) -> House:
    monkeypatch.setattr(server, "SCRUB_BEGIN_S", begin_s)
    return House(tmp_path, plain(tmp_path))


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a node that holds a large share, one bit of which has changed since."""
    body = bytes(range(256)) * 1000
    with closing(started(tmp_path, monkeypatch, begin_s=3600)) as house:
        client = house.logged_in()
        client.make_vault()
        client.keep(share_key(1), body)
        client.keep(share_key(2), body)
        claims = [
            Claim(share_key(number).stripe, len(body), "a@1", Geometry(1, 1), ((0,),)) for number in (1, 2)
        ]
        house.store.vault("ines", create=False).transact(
            lambda transaction: transaction.claim(register_key(1), ballot(1), claims)
        )
    (volume,) = (tmp_path / "node" / "ines" / "volumes").iterdir()
    content = bytearray(volume.read_bytes())
    content[content.index(body) + 1000] ^= 1
    volume.write_bytes(content)
    return tmp_path


def test_a_server_scrubs_by_itself_once_a_period(
    filled: Path, monkeypatch: pytest.MonkeyPatch, scrubs: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(started(filled, monkeypatch, begin_s=0)) as house:
        scrubs.wait()
        status = house.logged_in().ask(messages.Status())[0]
        assert (status.share_count, status.corrupt_count) == (2, 1)
        assert 0 <= house.env.wall_s() - status.scrubbed_s < 60
    assert [record.message for record in caplog.records if record.message.startswith("scrub:")] == [
        f"scrub: share 0 of stripe {share_key(1).stripe.hex()} fails its checksum"
    ]
    assert not scrubs.ended.acquire(timeout=0), "once is enough for half the days"


def test_what_cannot_be_opened_is_told_once_and_the_others_are_scrubbed(
    filled: Path, monkeypatch: pytest.MonkeyPatch, scrubs: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    (filled / "node" / "aaron").mkdir()
    (filled / "node" / "aaron" / "vault.db").write_bytes(b"no database" * 1000)
    with closing(started(filled, monkeypatch, begin_s=0)):
        scrubs.wait()
    told = [record.message for record in caplog.records if "aaron" in record.message]
    assert len(told) == 1
    assert "cannot be scrubbed" in told[0]


def test_a_scrub_that_fails_ends_nothing_else(
    tcp_house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(vault: VaultNode, **_: Any) -> Step:
        raise BusyError("not now")

    monkeypatch.setattr(VaultNode, "scrub", fail)
    client = tcp_house.logged_in()
    client.make_vault()
    running = tcp_house.server
    running._scrub_vault(running._house.vault("ines"), 1.0)
    assert "could not be scrubbed" in caplog.text
    assert client.ask(messages.Status())[0].state is VaultState.ACTIVE
