"""The node's end of a connection: greeting, login, and who may ask what afterwards; no socket, no thread."""

from collections.abc import Sequence
from typing import Final, Protocol

from dfs.core import limits, messages
from dfs.core.auth import KEYS_IN_FORCE_MAX, Rekeyed, keys_in_force, verify_login
from dfs.core.bulk_rows import decode_replays
from dfs.core.door import Door
from dfs.core.errors import (
    ForbiddenError,
    LoginError,
    NotFoundError,
    NotInitialisedError,
    RemoteProtocolError,
)
from dfs.core.interface import Env
from dfs.core.node import Answer, VaultNode
from dfs.core.records import define, evolve, field
from dfs.core.types import RETURNING, NodeId, VaultState
from dfs.core.wire import Header, Mark, Phase, Session, check_bulk

# Of RFC 8032, test 2: what a proof is checked against where there is no key. It lets nobody in.
DUMMY_KEY: Final = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
USERS_SIZE_MAX: Final = 32 * limits.KIB  # bytes of names in one reply: they fit its control body

# What a healer may ask about the vault it has entered: no promise, no new ballot, no end of anything.
HEALER_RIGHTS: Final = frozenset({
    messages.Join, messages.Quarantine, messages.EndJoin, messages.Read, messages.List, messages.ListDigest,
    messages.Directories, messages.Claimed, messages.Lacking, messages.Fetch, messages.Verify,
    messages.Claims, messages.Replay, messages.RaiseFloors, messages.Status, messages.Quota, messages.Store,
})  # fmt: skip


class House(Protocol):
    """What a conversation needs of the process around it."""

    @property
    def greeting(self) -> messages.HelloReply:
        """Who this node is; its nonce is replaced for every connection."""

    def public_key(self, user: str) -> bytes | None:
        """The login key of a user by the users file, None if there is no such user."""

    def admits(self, user: str, public_key: bytes) -> bool:
        """Whether this is the key in the users file still; asked for every request, so it never waits."""

    def is_clear(self, user: str) -> bool:
        """Whether the users file has a password of this user, no key."""

    def rekeyed(self, user: str) -> Rekeyed | None:
        """The login key that this user changed to, if there is one; makes no vault."""

    def is_healer(self, user: str) -> bool:
        """Whether this account is a healer: it has no vault, and limited rights about those of all others."""

    def users(self) -> Sequence[str]:
        """Who may have a vault here, in byte order of their names."""

    def vault(self, user: str) -> VaultNode:
        """The vault of a user who has logged in; made at the first login."""

    def adopt(self, node_id: NodeId, incarnation: int) -> None:
        """Become another node. Raises: ConflictError: something is kept here. StoreError, ConfigError."""


@define
class Conversation:
    """The node's end of one connection. ``channel_binding``: of the stream, after its handshake.

    ``address``: by what the peer is counted (`door.address_of`).
    """

    house: House
    env: Env
    channel_binding: bytes
    address: str = ""
    door: Door = field(factory=Door)
    session: Session = field(factory=Session)
    user: str = ""
    vault: VaultNode | None = None
    _healer: bool = False
    _line: bytes = b""  # the key in the users file
    _public_key: bytes = b""  # that of the login, which may be another
    _greeting: messages.HelloReply | None = None
    _client_nonce: bytes = b""
    _greeting_count: int = 0
    _seat: str | None = None

    def answer(self, header: Header, control: bytes, bulk: memoryview) -> Answer:
        """Return the answer to one frame.

        Raises:
            RemoteProtocolError: the peer broke the protocol; the connection must end.
            DfsError: the request is refused; the conversation goes on.
        """
        request = self.session.asked(header, control)
        check_bulk(header, bulk)
        self._require_same_node()
        self._require_login()
        if isinstance(request, messages.Hello):
            answer = self._hello(request)
        elif isinstance(request, messages.Login):
            answer = self._login(request)
        elif self.session.phase is Phase.AUTHENTICATED:
            if not self._stands():
                raise LoginError(f"the account {self.user} was removed, or its key or role changed")
            answer = self._answer_healer(request, bulk) if self._healer else self._answer_owner(request, bulk)
        else:
            answer = Answer(messages.Empty())  # PING before the login
        self.session.advance(type(request))
        return answer

    @property
    def mark(self) -> Mark:
        """What every reply says of the vault."""
        return Mark(self.vault.incarnation, self.vault.mark) if self.vault is not None else Mark()

    def _require_same_node(self) -> None:
        """Refuse to go on as another node than the one that greeted: it took over another's id meanwhile."""
        before, now = self._greeting, self.house.greeting
        if before is not None and (before.node_id, before.incarnation) != (now.node_id, now.incarnation):
            raise RemoteProtocolError("this node has become another one; greet it again")

    def _require_login(self) -> None:
        """Refuse to chat: who does not log in gets so many answers only."""
        if self.session.phase is not Phase.AUTHENTICATED:
            self._greeting_count += 1
            if self._greeting_count > limits.GREETING_COUNT_MAX:
                raise RemoteProtocolError("too many requests without a login")

    def leave(self) -> None:
        """Give back the place among the user's connections; twice is fine."""
        seat, self._seat = self._seat, None
        if seat is not None:
            self.door.users.give(seat)

    def _stands(self) -> bool:
        same_role = self.house.is_healer(self.user) is self._healer
        rekeyed = self.vault.rekeyed if self.vault is not None and not self._healer else None
        in_force = self._public_key in keys_in_force(self._line, rekeyed)
        return same_role and in_force and self.house.admits(self.user, self._line)

    def _answer_owner(self, request: messages.Request, bulk: memoryview) -> Answer:
        vault = self.vault
        if isinstance(request, messages.Adopt):
            if not request.incarnation:
                raise RemoteProtocolError("the first incarnation of a node is 1")
            self.house.adopt(request.node_id, request.incarnation)
            return Answer(messages.Empty(), last=True)
        if vault is None or isinstance(request, messages.Vaults | messages.Enter):
            raise ForbiddenError("only a healer may ask this")
        if isinstance(request, messages.Rekey):
            return self._rekey(vault, request)
        return vault.answer(request, bulk)

    def _rekey(self, vault: VaultNode, request: messages.Rekey) -> Answer:
        greeting = self.house.greeting
        if self.house.is_clear(self.user):
            raise ForbiddenError(
                f"the password of {self.user} stands in clear text in the node's users file",
                next_step="Only its administrator can change it there, or run: dfs user convert.",
            )
        signer, key = self._public_key, request.public_key
        answer = vault.rekey(request, line=self._line, signer=signer, realm=greeting.realm, user=self.user)
        self._public_key = key  # this connection goes on
        return answer

    def _answer_healer(self, request: messages.Request, bulk: memoryview) -> Answer:
        if isinstance(request, messages.Ping):
            return Answer(messages.Empty())
        if isinstance(request, messages.Vaults):
            return Answer(self._vaults(request.after))
        if isinstance(request, messages.Enter):
            if request.user not in self.house.users():
                raise NotFoundError(f"there is no user {request.user} here")
            self.vault = self.house.vault(request.user)
            return Answer(self.vault.login_reply())
        vault = self.vault
        if vault is None and isinstance(request, messages.Status):
            return Answer(messages.StatusReply(VaultState.NEW, 0, 0, "", 0, 0, 0, 0))
        if vault is None or type(request) not in HEALER_RIGHTS:
            raise ForbiddenError("a healer may not ask this")
        if isinstance(request, messages.Store) and not vault.lacks([head.key for head in request.shares]):
            raise ForbiddenError("a healer may store only shares that are lacking")
        counts = vault.state not in RETURNING
        if isinstance(request, messages.Replay) and counts and not vault.damaged(decode_replays(bulk)):
            raise ForbiddenError("a healer may replay only where state was lost")
        return vault.answer(request, bulk)

    def _vaults(self, after: str) -> messages.VaultsReply:
        names = [user for user in self.house.users() if user.encode() > after.encode()]
        told: list[str] = []
        size = 0
        for name in names[: limits.BATCH_COUNT_MAX]:
            size += len(name.encode())
            if size > USERS_SIZE_MAX:
                break
            told.append(name)
        return messages.VaultsReply(tuple(told), len(told) < len(names))

    def _hello(self, request: messages.Hello) -> Answer:
        self._client_nonce = request.nonce
        self._greeting = evolve(self.house.greeting, nonce=self.env.random_bytes(limits.NONCE_SIZE))
        return Answer(self._greeting)

    def _login(self, request: messages.Login) -> Answer:
        greeting = self._greeting
        if greeting is None:
            raise NotInitialisedError("a login before the greeting")
        door, now_s = self.door, self.env.monotonic_s()
        door.require_patience(self.address, request.user, now_s)
        line = self.house.public_key(request.user)
        rekeyed = self.house.rekeyed(request.user)  # asked for strangers too: it takes time
        right = self._signers(greeting, request, keys_in_force(line, rekeyed) if line is not None else ())
        if line is None or not right:
            door.guesses.failed(self.address, request.user, now_s)
            raise LoginError("Invalid Username/Password. Please try again.")
        door.guesses.succeeded(self.address, request.user)
        self.leave()
        door.seat(request.user)
        self._seat = request.user
        self._healer = self.house.is_healer(request.user)
        if not self._healer:
            self.vault = self.house.vault(request.user)
            self.vault.logged_in(line, right[0])
        self.user, self._line, self._public_key = request.user, line, right[0]
        return Answer(self.vault.login_reply() if self.vault else messages.LoginReply(VaultState.NEW, b""))

    def _signers(
        self, greeting: messages.HelloReply, request: messages.Login, keys: Sequence[bytes]
    ) -> list[bytes]:
        """Return those of a user's keys that signed this login.

        As many are tried for everybody, or the time it takes would tell who is known and who changed a key.
        """
        tried = (*keys, *(DUMMY_KEY,) * (KEYS_IN_FORCE_MAX - len(keys)))
        signed = [
            verify_login(
                key,
                request.signature,
                realm=greeting.realm,
                user=request.user,
                node_id=greeting.node_id,
                client_nonce=self._client_nonce,
                node_nonce=greeting.nonce,
                channel_binding=self.channel_binding,
            )
            for key in tried
        ]
        return [key for key, has_signed in zip(keys, signed, strict=False) if has_signed]  # no dummy is one
