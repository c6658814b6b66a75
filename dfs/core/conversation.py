"""The node's end of a connection: greeting, login, and who may ask what afterwards; no socket, no thread."""

from typing import Protocol

from attrs import define, evolve, field

from dfs.core import limits, messages
from dfs.core.auth import verify_login
from dfs.core.errors import LoginError, NotInitialisedError
from dfs.core.interface import Env
from dfs.core.node import Answer, VaultNode
from dfs.core.wire import Header, Mark, Session, check_bulk

# Of RFC 8032, test 2: what the proof of an unknown user is checked against.
_DUMMY_KEY = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")


class House(Protocol):
    """What a conversation needs of the process around it."""

    @property
    def greeting(self) -> messages.HelloReply:
        """Who this node is; its nonce is replaced for every connection."""

    def public_key(self, user: str) -> bytes | None:
        """The login key of a user, None if there is no such user."""

    def admits(self, user: str, public_key: bytes) -> bool:
        """Whether this is the user's login key still; asked for every request, so it never waits."""

    def vault(self, user: str) -> VaultNode:
        """The vault of a user who has logged in; made at the first login."""


@define
class Conversation:
    """The node's end of one connection. ``channel_binding``: of the stream, after its handshake."""

    house: House
    env: Env
    channel_binding: bytes
    session: Session = field(factory=Session)
    user: str = ""
    vault: VaultNode | None = None
    _public_key: bytes = b""
    _greeting: messages.HelloReply | None = None
    _client_nonce: bytes = b""

    def answer(self, header: Header, control: bytes, bulk: memoryview) -> Answer:
        """Return the answer to one frame.

        Raises:
            RemoteProtocolError: the peer broke the protocol; the connection must end.
            DfsError: the request is refused; the conversation goes on.
        """
        request = self.session.asked(header, control)
        check_bulk(header, bulk)
        if isinstance(request, messages.Hello):
            answer = self._hello(request)
        elif isinstance(request, messages.Login):
            answer = self._login(request)
        elif self.vault is not None:
            if not self.house.admits(self.user, self._public_key):
                raise LoginError(f"the account {self.user} was removed or its key changed")
            answer = self.vault.answer(request, bulk)
        else:
            answer = Answer(messages.Empty())  # PING before the login
        self.session.advance(type(request))
        return answer

    @property
    def mark(self) -> Mark:
        """What every reply says of the vault."""
        return Mark(self.vault.incarnation, self.vault.mark) if self.vault is not None else Mark()

    def _hello(self, request: messages.Hello) -> Answer:
        self._client_nonce = request.nonce
        self._greeting = evolve(self.house.greeting, nonce=self.env.random_bytes(limits.NONCE_SIZE))
        return Answer(self._greeting)

    def _login(self, request: messages.Login) -> Answer:
        greeting = self._greeting
        if greeting is None:
            raise NotInitialisedError("a login before the greeting")
        public_key = self.house.public_key(request.user)
        right = verify_login(
            public_key or _DUMMY_KEY,
            request.signature,
            realm=greeting.realm,
            user=request.user,
            node_id=greeting.node_id,
            client_nonce=self._client_nonce,
            node_nonce=greeting.nonce,
            channel_binding=self.channel_binding,
        )
        if public_key is None or not right:
            raise LoginError("Invalid Username/Password. Please try again.")
        self.user = request.user
        self._public_key = public_key
        self.vault = self.house.vault(request.user)
        return Answer(self.vault.login_reply())
