"""Users are isolated: what is another's is answered like what does not exist, byte for byte."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from attrs import frozen
from xxhash import xxh3_128_digest

from dfs.core import auth, bulk_rows, commit, limits, messages, register, wire
from dfs.core.auth import sign_login, sign_rekey
from dfs.core.bulk_rows import AcceptItem, ReplayItem
from dfs.core.env import RealFiles
from dfs.core.errors import DfsError
from dfs.core.keys import LoginKeys, login_keys
from dfs.core.messages import CODES, ConfirmItem, Floor, PrepareItem, ShareHead
from dfs.core.node import in_full
from dfs.core.types import (
    NO_BALLOT,
    Claim,
    DirectoryId,
    Geometry,
    NameId,
    NodeId,
    RegisterKey,
    ShareKey,
    StripeId,
)
from dfs.testing.stores import ballot
from tests.unit.server_kit import (
    DIGEST,
    INES,
    NODE_ID,
    REALM,
    ROSTER,
    TOM,
    Client,
    House,
    deadline,
    plain,
)

Asked: TypeAlias = tuple[messages.Request, bytes]
BODY, VALUE, TAG = b"a share of four and twenty", b"\x01" + b"sealed" * 20, b"t" * 32


HELD = ballot(3)  # of the value ines has
BOTH = ((True, True), (True, False), (False, True))


@frozen
class Names:
    """Ids of one vault: a share that is kept, one that is owed, a register, a part that is only staged.

    ``login``: the keys by which its owner logs in.
    """

    user: str
    kept: ShareKey
    owed: ShareKey
    key: RegisterKey
    node: NodeId
    login: LoginKeys

    @classmethod
    def of(cls, user: str, letter: bytes) -> "Names":
        """Ids that differ from those of another letter, and have the same order among each other."""
        kept, owed = (ShareKey(StripeId(number + letter * 31), 0) for number in (b"1", b"2"))
        key = RegisterKey(DirectoryId(letter * 16), NameId(letter * 16))
        return cls(user, kept, owed, key, NodeId(letter * 16), login_keys(letter * 32))

    @property
    def claims(self) -> list[Claim]:
        """Claims on both shares."""
        return [
            Claim(share.stripe, len(BODY), "rs@1", Geometry(1, 1), ((0,),))
            for share in (self.kept, self.owed)
        ]

    def item(self, counter: int, *, staged: bool = False) -> AcceptItem:
        """A value that claims both."""
        claims = b"".join(map(bulk_rows.encode_claim, self.claims))
        claim_set = register.claim_set_digest(claims)
        digest = register.value_digest(VALUE, claim_set)
        there = b"" if staged else claims
        return AcceptItem(self.key, ballot(counter), VALUE, digest, claim_set, there, lenient=True)

    @property
    def rekey(self) -> messages.Rekey:
        """The owner's key told once more, which changes nothing; signed by somebody else for all others."""
        key = self.login.public_key
        signature = sign_rekey(
            self.login.seed, realm=REALM, user=self.user, node_id=NODE_ID, old=key, new=key, epoch=1
        )
        return messages.Rekey(key, 1, signature)

    @property
    def replaced(self) -> Sequence[bytes]:
        """All that a reply may say again."""
        item = self.item(1)
        keys = (self.kept.stripe, self.owed.stripe, self.key.directory)
        return (item.claim_set, item.digest, *keys)


def probes(names: Names) -> list[Asked]:
    """Every request that names something, or could tell of it."""
    roster, key = DIGEST, names.key
    shares = (names.kept, names.owed)
    return [
        *((messages.Read(roster, values, with_shares, (key,)), b"") for values, with_shares in BOTH),
        *((messages.List(roster, key.directory, after, 9, True), b"") for after in (b"", key.name)),
        *((messages.ListDigest(roster, key.directory, after, 9), b"") for after in (b"", key.name)),
        *((messages.Directories(roster, after), b"") for after in (b"", key.directory)),
        *((messages.Claimed(roster, key, HELD, position), b"") for position in (0, 1)),
        (messages.Has(shares), b""),
        (messages.Fetch(shares), b""),
        (messages.Verify(shares), b""),
        *((messages.Lacking(roster, after), b"") for after in (b"", names.owed.stripe)),
        (messages.Condemn(shares), b""),
        (messages.Accept(roster, 1), bulk_rows.encode_accepts([names.item(1, staged=True)])),
        *(
            (messages.Confirm(roster, durable, (ConfirmItem(key, HELD, TAG, True),)), b"")
            for durable in (True, False)
        ),
        (messages.Forget(roster, (PrepareItem(key, HELD),)), b""),
        (messages.Status(), b""),
        (messages.Quota(), b""),
        (messages.Ping(), b""),
        (messages.Create(ROSTER), b""),
        (messages.Activate(roster), b""),
        (messages.Join(ROSTER), b""),
        (messages.Quarantine(1), b""),
        (messages.EndJoin(roster, 1), b""),
        (messages.Vaults(""), b""),
        (messages.Vaults(names.user), b""),
        (messages.Enter(names.user), b""),
        (messages.Adopt(names.node, 2), b""),
        (names.rekey, b""),
    ]


def writes(names: Names) -> list[Asked]:
    """Every request that leaves something under these names."""
    roster, key, item = DIGEST, names.key, names.item(2)
    last = names.item(3)
    value = (last.ballot, last.value, last.digest, last.claim_set, last.claims)
    replay = ReplayItem(key, NO_BALLOT, *value, TAG, safe=True)
    return [
        (messages.Store((ShareHead(names.kept, len(BODY), xxh3_128_digest(BODY)),)), BODY),
        (messages.Claims(item.claim_set, 0), item.claims),
        (messages.Prepare(roster, (PrepareItem(key, ballot(2)),)), b""),
        (messages.Accept(roster, 1), bulk_rows.encode_accepts([item])),
        (messages.Replay(roster, 1), bulk_rows.encode_replays([replay])),
        (messages.RaiseFloors(roster, (Floor(key.directory, ballot(1)),)), b""),
    ]


def frame_of(client: Client, request: messages.Request, bulk: bytes) -> bytes:
    """Ask and return the whole reply as it came."""
    parts = [bulk] if bulk else []
    client.stream.send([client.session.ask(request, parts), *parts], deadline())
    head = client.receive(limits.HEADER_SIZE)
    header = wire.decode_header(head)
    control, came = client.receive(header.control_size), client.receive(header.bulk_size)
    with suppress(DfsError):  # a refusal is a reply, too
        client.session.answered(header, control)
    return head + control + came


def alike(client: Client, request: messages.Request, bulk: bytes, names: Names) -> bytes:
    """The reply; where it says names again that were asked for, these, and so its checksums, left out.

    A digest of rows says names again if they do.
    """
    told = frame = frame_of(client, request, bulk)
    said_again = list(names.replaced)
    if isinstance(request, messages.ListDigest):
        said_again.append(bulk_rows.listed_digest((said(frame_of(client, in_full(request), b""))[1],)))
    for place, name in enumerate(said_again):
        told = told.replace(name, bytes((place,)) * len(name))
    return frame if told == frame else told[:32] + told[limits.HEADER_SIZE :]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A node where ines has a vault with everything in it, and tom and tim have empty ones."""
    monkeypatch.setattr(RealFiles, "free_size", lambda _files, _path: (1 << 40, 1 << 41))
    # What nobody waits for goes with the next write, never by itself after a while: replies tell how many
    # commits there were.
    monkeypatch.setattr(commit, "LATER_S", 3600)
    with closing(House(tmp_path, plain(tmp_path))) as house:
        lines = [("ines", INES), ("tom", TOM), ("tim", TOM)]
        house.users.write_text(
            "".join(
                f"{name} ed25519:{base64.b64encode(login.public_key).decode()}\n" for name, login in lines
            )
        )
        owner = house.logged_in("ines", INES)
        owner.make_vault()
        for request, bulk in writes(MINE):
            owner.ask(request, [bulk] if bulk else ())
        yield house


NEW = login_keys(b"n" * 32)
MINE, NOBODYS = Names.of("ines", b"i"), Names.of("nobd", b"r")


def test_every_request_is_asked() -> None:
    asked = {type(request) for request, _ in (*probes(MINE), *writes(MINE))}
    assert asked == set(CODES) - {messages.Hello, messages.Login}


def test_what_is_asked_for_is_there_for_its_owner(house: House) -> None:
    owner, other = house.logged_in("ines", INES), house.logged_in("tom", TOM)
    other.make_vault()
    telling = {
        type(request)
        for request, bulk in probes(MINE)
        if said(frame_of(owner, request, bulk)) != said(frame_of(other, request, bulk))
    }
    reading = {messages.Read, messages.List, messages.Directories, messages.Claimed, messages.Lacking}
    assert telling >= reading | {
        messages.ListDigest,
        messages.Has,
        messages.Fetch,
        messages.Verify,
        messages.Quota,
        messages.Rekey,
    }


def said(frame: bytes) -> tuple[messages.Message, bytes]:
    """The message of a reply and its bulk, without the mark."""
    header = wire.decode_header(frame[: limits.HEADER_SIZE])
    rest = frame[limits.HEADER_SIZE :]
    return wire.decode_control(header, rest[: header.control_size])[0], rest[header.control_size :]


@pytest.mark.parametrize("made", [True, False])
def test_what_is_anothers_is_answered_like_what_is_not_there(house: House, made: bool) -> None:
    """Two users without anything ask the same; one by ids that ines has, one by ids that nobody has."""
    first, second = house.logged_in("tom", TOM), house.logged_in("tim", TOM)
    if made:
        first.make_vault()
        second.make_vault()
    rounds = [probes, writes, probes, writes] if made else [probes]
    for ask in rounds:
        for (request, bulk), (like, like_bulk) in zip(ask(MINE), ask(NOBODYS), strict=True):
            told, told_like = (
                alike(first, request, bulk, MINE),
                alike(second, like, like_bulk, NOBODYS),
            )
            assert told == told_like, request
    for user in ("tom", "tim"):
        house.logged_in(user, TOM)  # their keys are what they were
        assert house.server._house.rekeyed(user) is None
    owner = house.logged_in("ines", INES)
    assert frame_of(owner, messages.Fetch((MINE.kept,)), b"").endswith(BODY)


# --- Logins -------------------------------------------------------------------------------------------------

LOGINS: Mapping[str, tuple[str, bytes]] = {
    "wrong password": ("ines", TOM.seed),
    "no such user": ("nobd", INES.seed),
    "no user at all": ("", INES.seed),
    "a user without a vault": ("tim", INES.seed),
    "a user with a changed key": ("tom", INES.seed),
}


def login_frame(house: House, user: str, seed: bytes) -> bytes:
    client = house.connect()
    hello, _ = client.ask(messages.Hello(b"c" * 32, "test", ()))
    signature = sign_login(
        seed,
        realm=hello.realm,
        user=user,
        node_id=hello.node_id,
        client_nonce=b"c" * 32,
        node_nonce=hello.nonce,
        channel_binding=client.stream.channel_binding,
    )
    return frame_of(client, messages.Login(user, signature), b"")


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys that logins were checked against."""
    keys: list[bytes] = []
    verify: Callable[..., bool] = auth.verify_login

    def noting(public_key: bytes, signature: bytes, **statement: object) -> bool:
        keys.append(public_key)
        return verify(public_key, signature, **statement)

    monkeypatch.setattr("dfs.core.conversation.verify_login", noting)
    return keys


def change_key(house: House, user: str, old: LoginKeys, new: LoginKeys) -> None:
    """Change the login key of a user, who then has a vault; no login uses the new one yet."""
    owner = house.logged_in(user, old)
    owner.make_vault()
    statement: dict[str, Any] = {"realm": REALM, "user": user, "node_id": NODE_ID, "epoch": 1}
    signature = sign_rekey(old.seed, old=old.public_key, new=new.public_key, **statement)
    owner.ask(messages.Rekey(new.public_key, 1, signature))


def test_no_login_that_fails_tells_why(house: House, verified: list[bytes]) -> None:
    change_key(house, "tom", TOM, NEW)
    frames, counts = {}, {}
    for name, (user, seed) in LOGINS.items():
        verified.clear()
        frames[name] = login_frame(house, user, seed)
        counts[name] = len(verified)
    assert len(set(frames.values())) == 1
    assert b"Invalid Username/Password" in frames["no such user"]
    assert counts == dict.fromkeys(LOGINS, 2), "as many keys are tried for each, known or not, changed or not"
    assert house.store.users() == ["ines", "tom"], "and leaves nothing"


def test_a_login_that_succeeds_costs_as_much(house: House, verified: list[bytes]) -> None:
    change_key(house, "tom", TOM, NEW)
    counts = []
    for user, login in (("ines", INES), ("tom", TOM), ("tom", NEW), ("tom", NEW)):  # the former one is over
        verified.clear()
        house.logged_in(user, login)
        counts.append(len(verified))
    assert counts == [2] * 4
