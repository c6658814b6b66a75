"""A conversation from the greeting to the login and on: who is let in, and what every proof is bound to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from xxhash import xxh3_128_digest

from dfs.core import keys, limits, messages
from dfs.core.auth import Rekeyed, sign_login, sign_rekey
from dfs.core.bulk_rows import ReplayItem, encode_accepts, encode_replays
from dfs.core.conversation import DUMMY_KEY, Conversation
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import (
    ConflictError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NotInitialisedError,
    RemoteProtocolError,
    StoreError,
)
from dfs.core.interface import StoreOptions, VaultStore
from dfs.core.messages import ShareHead
from dfs.core.node import Answer, VaultNode, Work, transact
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.types import NO_BALLOT, Claim, Geometry, Node, NodeId, Roster, VaultState
from dfs.core.wire import Mark, Phase, Session, decode_header
from dfs.plugins import memory_store
from dfs.testing.stores import ballot, register_key, share_key

NODE_ID = NodeId(b"n" * 16)
ROSTER = encode_roster(Roster(1, (Node(NODE_ID),), 1, 0))
DIGEST = roster_digest(ROSTER)
GREETING = messages.HelloReply(NODE_ID, 1, "orchard", bytes(32), "attic", "1", ())
INES, MEDIC = keys.login_keys(b"i" * 32), keys.login_keys(b"m" * 32)


@define
class Direct:
    """Commits at once and tells the mark."""

    store: VaultStore
    mark: int = 0

    def run(self, work: Any) -> Any:
        (result,), self.mark = transact(self.store, [work])
        return result

    def later(self, work: Work) -> None:
        self.run(work)


@define
class FakeHouse:
    opened_vault: VaultNode
    known: dict[str, bytes] = field(factory=lambda: {"ines": INES.public_key})
    healers: set[str] = field(factory=set)
    clear: set[str] = field(factory=set)
    opened: list[str] = field(factory=list)
    greeting: messages.HelloReply = GREETING

    def public_key(self, user: str) -> bytes | None:
        return self.known.get(user)

    def admits(self, user: str, public_key: bytes) -> bool:
        return self.known.get(user) == public_key

    def is_healer(self, user: str) -> bool:
        return user in self.healers

    def is_clear(self, user: str) -> bool:
        return user in self.clear

    def rekeyed(self, user: str) -> Rekeyed | None:
        return self.opened_vault.rekeyed

    def users(self) -> list[str]:
        return sorted(self.known.keys() - self.healers)

    def vault(self, user: str) -> VaultNode:
        self.opened.append(user)
        return self.opened_vault

    def adopt(self, node_id: NodeId, incarnation: int) -> None:
        self.greeting = evolve(self.greeting, node_id=node_id, incarnation=incarnation)


@define
class Talk:
    """Both ends of a conversation."""

    house: FakeHouse
    conversation: Conversation
    session: Session = field(factory=Session)
    answer: Answer = field(default=Answer(messages.Empty()))

    def ask(self, request: messages.Request, bulk: bytes = b"") -> Any:
        frame = self.session.ask(request, [bulk] if bulk else ())
        header = decode_header(frame[: limits.HEADER_SIZE])
        self.answer = self.conversation.answer(header, frame[limits.HEADER_SIZE :], memoryview(bulk))
        self.session.advance(type(request))
        return self.answer.reply

    def log_in(self, user: str = "ines", seed: bytes = INES.seed, **changed: Any) -> Any:
        hello = self.ask(messages.Hello(b"c" * 32, "", ()))
        signed = {
            "realm": hello.realm,
            "node_id": hello.node_id,
            "client_nonce": b"c" * 32,
            "node_nonce": hello.nonce,
            "channel_binding": b"certificate",
            "user": user,
        } | changed
        return self.ask(messages.Login(user, sign_login(seed, **signed)))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FakeHouse]:
    env = RealEnv()
    store = memory_store.make(
        StoreOptions(directory=str(tmp_path), files=RealFiles(), env=env, inline_size_max=64, reserve_size=0)
    )
    vault_store = store.vault("ines", create=True)
    yield FakeHouse(VaultNode(NODE_ID, 1, vault_store, Direct(vault_store), env))
    store.close()


def talk_with(house: FakeHouse) -> Talk:
    return Talk(house, Conversation(house, RealEnv(), b"certificate"))


@pytest.fixture
def talk(house: FakeHouse) -> Talk:
    return talk_with(house)


def test_a_login_opens_the_vault(talk: Talk) -> None:
    assert talk.conversation.mark == Mark()
    assert talk.log_in() == messages.LoginReply(VaultState.NEW, b"")
    assert talk.house.opened == ["ines"]
    assert talk.conversation.session.phase is Phase.AUTHENTICATED
    talk.ask(messages.Create(ROSTER))
    talk.house.opened_vault.advance(7)
    assert talk.conversation.mark == Mark(1, 7)


@pytest.mark.parametrize(
    "changed",
    [
        {"user": "olga"},
        {"seed": b"x" * 32},
        {"realm": "meadow"},
        {"node_id": NodeId(bytes(16))},
        {"client_nonce": bytes(32)},
        {"node_nonce": bytes(32)},
        {"channel_binding": b""},
    ],
)
def test_a_proof_for_anything_else_is_refused_in_the_same_words(talk: Talk, changed: dict[str, Any]) -> None:
    with pytest.raises(LoginError, match=r"^Invalid Username/Password\. Please try again\.$"):
        talk.log_in(**changed)
    assert talk.house.opened == []
    assert talk.conversation.session.phase is Phase.GREETED


@pytest.mark.parametrize("user", ["ines", "olga"])
def test_the_key_that_unknown_users_are_checked_against_opens_nothing(talk: Talk, user: str) -> None:
    """Its private key is in RFC 8032 for everybody."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == DUMMY_KEY
    with pytest.raises(LoginError, match=r"^Invalid Username/Password"):
        talk.log_in(user, seed)
    assert talk.house.opened == []


def test_every_greeting_has_its_own_nonce(house: FakeHouse) -> None:
    nonces = {talk_with(house).ask(messages.Hello(bytes(32), "", ())).nonce for _ in range(2)}
    assert len(nonces) == 2


def test_ping_needs_no_login_and_everything_else_does(talk: Talk) -> None:
    talk.ask(messages.Hello(bytes(32), "", ()))
    assert talk.ask(messages.Ping()) == messages.Empty()
    talk.session.phase = Phase.AUTHENTICATED
    with pytest.raises(RemoteProtocolError, match="may not come"):
        talk.ask(messages.Status())


def test_who_is_no_longer_known_is_no_longer_answered(talk: Talk) -> None:
    talk.log_in()
    talk.ask(messages.Status())
    del talk.house.known["ines"]
    with pytest.raises(LoginError):
        talk.ask(messages.Status())


def test_damaged_bulk_is_not_answered(talk: Talk) -> None:
    talk.log_in()
    frame = talk.session.ask(messages.Claims(bytes(32), 0), [b"bulk"])
    header = decode_header(frame[: limits.HEADER_SIZE])
    with pytest.raises(RemoteProtocolError, match="damaged"):
        talk.conversation.answer(header, frame[limits.HEADER_SIZE :], memoryview(b"bulK"))


# --- Healers ---

REPLAYED = ReplayItem(register_key(1), ballot(1), NO_BALLOT, b"", b"", b"", b"", b"", False)


@pytest.fixture
def healer(talk: Talk) -> Talk:
    """One who is logged in as a healer, and has not entered a vault yet."""
    talk.house.known["medic"] = MEDIC.public_key
    talk.house.known["tom"] = bytes(32)
    talk.house.healers.add("medic")
    assert talk.log_in("medic", MEDIC.seed) == messages.LoginReply(VaultState.NEW, b"")
    assert talk.house.opened == []
    return talk


def test_a_healer_has_no_vault_and_enters_those_of_others(healer: Talk) -> None:
    assert healer.ask(messages.Ping()) == messages.Empty()
    assert healer.ask(messages.Status()).share_count == 0
    assert healer.ask(messages.Vaults("")) == messages.VaultsReply(("ines", "tom"), False)
    assert healer.ask(messages.Vaults("ines")) == messages.VaultsReply(("tom",), False)
    assert healer.conversation.mark == Mark()
    assert healer.ask(messages.Enter("ines")) == messages.LoginReply(VaultState.NEW, b"")
    assert healer.house.opened == ["ines"]
    assert healer.conversation.mark == Mark(1, 0)
    with pytest.raises(NotFoundError):
        healer.ask(messages.Enter("nobody"))
    with pytest.raises(NotFoundError):
        healer.ask(messages.Enter("medic"))


def test_many_users_are_told_in_parts(healer: Talk) -> None:
    healer.house.known |= {f"{number:04}" + "n" * 200: b"" for number in range(400)}
    told: list[str] = []
    more = True
    while more:
        reply = healer.ask(messages.Vaults(told[-1] if told else ""))
        told += reply.users
        more = reply.more
    assert told == healer.house.users()


@pytest.mark.parametrize("entered", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        messages.Create(ROSTER),
        messages.Activate(DIGEST),
        messages.Adopt(NODE_ID, 2),
        messages.Prepare(DIGEST, ()),
        messages.Accept(DIGEST, 0),
        messages.Confirm(DIGEST, True, ()),
        messages.Forget(DIGEST, ()),
        messages.Has(()),
        messages.Condemn(()),
    ],
)
def test_a_healer_may_neither_promise_nor_write_nor_end_anything(
    healer: Talk, request_: messages.Request, entered: bool
) -> None:
    if entered:
        healer.ask(messages.Enter("ines"))
    with pytest.raises(ForbiddenError):
        healer.ask(request_, encode_accepts([]) if isinstance(request_, messages.Accept) else b"")


def test_a_healer_asks_about_nothing_before_it_enters(healer: Talk) -> None:
    for request in (messages.Join(ROSTER), messages.Fetch(()), messages.Lacking(DIGEST, b"")):
        with pytest.raises(ForbiddenError):
            healer.ask(request)


def test_a_healer_brings_back_what_was_lost_and_nothing_else(healer: Talk) -> None:
    healer.ask(messages.Enter("ines"))
    assert healer.ask(messages.Join(ROSTER)).state is VaultState.JOINING
    replayed = encode_replays([REPLAYED])
    healer.ask(messages.Replay(DIGEST, 1), replayed)
    body = b"body!"
    store = messages.Store((ShareHead(share_key(1), len(body), xxh3_128_digest(body)),))
    with pytest.raises(ForbiddenError, match="lacking"):
        healer.ask(store, body)
    owner = healer.house.opened_vault
    claim = Claim(share_key(1).stripe, 5, "rs@1", Geometry(1, 1), ((0,),))
    owner.store.transact(lambda transaction: transaction.claim(register_key(1), ballot(1), [claim]))
    with pytest.raises(ForbiddenError, match="lacking"):
        healer.ask(store, body)
    owner.store.transact(lambda transaction: transaction.owe(register_key(1), ballot(1), [share_key(1)]))
    healer.ask(store, body)
    with pytest.raises(ForbiddenError, match="lacking"):
        healer.ask(store, body)
    assert healer.ask(messages.Verify((share_key(1),))).statuses == (messages.FOUND,)
    assert healer.ask(messages.EndJoin(DIGEST, owner.mark)).state is VaultState.ACTIVE
    with pytest.raises(ForbiddenError, match="state was lost"):
        healer.ask(messages.Replay(DIGEST, 1), replayed)


def test_who_is_no_longer_a_healer_gets_no_more_rights_by_it(healer: Talk) -> None:
    healer.ask(messages.Enter("ines"))
    healer.house.healers.clear()
    with pytest.raises(LoginError, match="role"):
        healer.ask(messages.Has(()))


def test_users_are_no_healers(talk: Talk) -> None:
    talk.log_in()
    for request in (messages.Vaults(""), messages.Enter("ines")):
        with pytest.raises(ForbiddenError):
            talk.ask(request)


# --- Another node's id ---


def test_a_node_that_becomes_another_ends_what_was_said_as_the_first(talk: Talk) -> None:
    other = talk_with(talk.house)
    other.log_in()
    talk.log_in()
    with pytest.raises(RemoteProtocolError, match="first incarnation"):
        talk.ask(messages.Adopt(NodeId(b"o" * 16), 0))
    talk.ask(messages.Adopt(NodeId(b"o" * 16), 2))
    assert talk.answer.last
    with pytest.raises(RemoteProtocolError, match="another one"):
        other.ask(messages.Status())
    again = talk_with(talk.house)
    again.log_in()
    assert not again.answer.last


# --- Another login key ---

NEW, THIRD = keys.login_keys(b"n" * 32), keys.login_keys(b"t" * 32)


def rekey(new: keys.LoginKeys, epoch: int, old: keys.LoginKeys = INES) -> messages.Rekey:
    statement: dict[str, Any] = {"realm": "orchard", "user": "ines", "node_id": NODE_ID, "epoch": epoch}
    signature = sign_rekey(old.seed, old=old.public_key, new=new.public_key, **statement)
    return messages.Rekey(new.public_key, epoch, signature)


@pytest.fixture
def owner(talk: Talk) -> Talk:
    """One who is logged in to a vault with a roster."""
    talk.log_in()
    talk.ask(messages.Create(ROSTER))
    return talk


def test_both_keys_are_good_until_the_new_one_is_used(owner: Talk) -> None:
    owner.ask(rekey(NEW, 1))
    owner.ask(messages.Status())  # this connection goes on
    old = talk_with(owner.house)
    old.log_in()
    talk_with(owner.house).log_in(seed=NEW.seed)
    with pytest.raises(LoginError, match="its key or role changed"):
        old.ask(messages.Status())
    with pytest.raises(LoginError, match=r"^Invalid Username/Password"):
        talk_with(owner.house).log_in()
    owner.ask(messages.Status())


def test_a_later_change_replaces_one_that_nobody_used(owner: Talk) -> None:
    owner.ask(rekey(NEW, 1))
    again = talk_with(owner.house)
    again.log_in()
    with pytest.raises(ConflictError, match="changed meanwhile"):
        again.ask(rekey(THIRD, 1))
    again.ask(rekey(THIRD, 2))
    with pytest.raises(LoginError):
        talk_with(owner.house).log_in(seed=NEW.seed)
    talk_with(owner.house).log_in(seed=THIRD.seed)


@pytest.mark.parametrize(
    "request_",
    [
        rekey(NEW, 1, old=THIRD),
        evolve(rekey(NEW, 1), epoch=2),
        evolve(rekey(NEW, 1), public_key=THIRD.public_key),
    ],
    ids=["another key", "another epoch", "another new key"],
)
def test_what_the_present_key_did_not_sign_changes_nothing(owner: Talk, request_: messages.Rekey) -> None:
    with pytest.raises(LoginError, match="not signed by the present key"):
        owner.ask(request_)
    talk_with(owner.house).log_in()
    assert owner.house.opened_vault.rekeyed is None


def test_another_line_in_the_users_file_counts_for_good(owner: Talk) -> None:
    owner.ask(rekey(NEW, 1))
    talk_with(owner.house).log_in(seed=NEW.seed)
    owner.house.known["ines"] = THIRD.public_key
    with pytest.raises(LoginError):
        owner.ask(messages.Status())
    with pytest.raises(LoginError):
        talk_with(owner.house).log_in(seed=NEW.seed)
    talk_with(owner.house).log_in(seed=THIRD.seed)
    owner.house.known["ines"] = INES.public_key  # back to the line before: what overrode it stays gone
    with pytest.raises(LoginError):
        talk_with(owner.house).log_in(seed=NEW.seed)
    last = talk_with(owner.house)
    last.log_in()
    last.ask(rekey(NEW, 1))  # and epochs begin anew with a line


def test_a_key_that_is_in_force_may_be_told_again(owner: Talk) -> None:
    owner.ask(rekey(INES, 0))
    assert owner.house.opened_vault.rekeyed is None
    owner.ask(rekey(NEW, 1))
    owner.ask(rekey(NEW, 1, old=NEW))  # it signs itself: it is in use, and the former one is over
    with pytest.raises(LoginError):
        talk_with(owner.house).log_in()


def test_a_password_in_clear_text_is_not_changed_from_outside(owner: Talk) -> None:
    owner.house.clear.add("ines")
    with pytest.raises(ForbiddenError, match="stands in clear text"):
        owner.ask(rekey(NEW, 1))


def test_a_vault_without_roster_and_a_healer_take_no_key(talk: Talk, healer: Talk) -> None:
    with pytest.raises(ForbiddenError):
        healer.ask(rekey(NEW, 1))
    fresh = talk_with(talk.house)
    fresh.log_in()
    with pytest.raises(NotInitialisedError):
        fresh.ask(rekey(NEW, 1))


def test_a_broken_disk_lets_the_new_key_in(owner: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.ask(rekey(NEW, 1))

    def broken(_self: Direct, _work: Any) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(Direct, "run", broken)
    talk_with(owner.house).log_in(seed=NEW.seed)
    talk_with(owner.house).log_in()  # nobody could note that the former one is over
