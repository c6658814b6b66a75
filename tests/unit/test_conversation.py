"""A conversation from the greeting to the login and on: who is let in, and what every proof is bound to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from dfs.core import keys, limits, messages
from dfs.core.auth import sign_login
from dfs.core.conversation import Conversation
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import LoginError, RemoteProtocolError
from dfs.core.interface import StoreOptions, VaultStore
from dfs.core.node import VaultNode, Work, transact
from dfs.core.roster import encode_roster
from dfs.core.types import Node, NodeId, Roster, VaultState
from dfs.core.wire import Mark, Phase, Session, decode_header
from dfs.plugins import memory_store

NODE_ID = NodeId(b"n" * 16)
ROSTER = encode_roster(Roster(1, (Node(NODE_ID),), 1, 0))
GREETING = messages.HelloReply(NODE_ID, 1, "orchard", bytes(32), "attic", "1", ())
INES = keys.login_keys(b"i" * 32)


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
    opened: list[str] = field(factory=list)
    greeting: messages.HelloReply = GREETING

    def public_key(self, user: str) -> bytes | None:
        return self.known.get(user)

    def admits(self, user: str, public_key: bytes) -> bool:
        return self.known.get(user) == public_key

    def vault(self, user: str) -> VaultNode:
        self.opened.append(user)
        return self.opened_vault


@define
class Talk:
    """Both ends of a conversation."""

    house: FakeHouse
    conversation: Conversation
    session: Session = field(factory=Session)

    def ask(self, request: messages.Request, bulk: bytes = b"") -> Any:
        frame = self.session.ask(request, [bulk] if bulk else ())
        header = decode_header(frame[: limits.HEADER_SIZE])
        answer = self.conversation.answer(header, frame[limits.HEADER_SIZE :], memoryview(bulk))
        self.session.advance(type(request))
        return answer.reply

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
