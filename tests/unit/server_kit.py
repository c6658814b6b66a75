"""For the tests of a server: a running one, and the least a client must do, over real sockets.

A test module imports each fixture it needs by its function, so: `tcp_house as tcp_house`.
"""

import base64
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from xxhash import xxh3_128_digest

from dfs.core import keys, limits, messages, wire
from dfs.core.accounts import Accounts
from dfs.core.auth import sign_login
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import UnreachableError
from dfs.core.identity import ensure_certificate
from dfs.core.interface import Buffer, Files, Store, StoreOptions, Stream, Transport, TransportOptions
from dfs.core.keys import KEY_FILE, LoginKeys
from dfs.core.messages import ShareHead
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.server import Server, ServerOptions
from dfs.core.sockets import SocketStream
from dfs.core.types import (
    DirectoryId,
    NameId,
    Node,
    NodeId,
    RegisterKey,
    Roster,
    ShareKey,
    StripeId,
)
from dfs.plugins import tcp, tls, volumes

NODE_ID = NodeId(b"n" * 16)
REALM = "orchard"
ROSTER = encode_roster(Roster(1, (Node(NODE_ID),), 1, 0))
DIGEST = roster_digest(ROSTER)
WRAP = RegisterKey(DirectoryId(b"d" * 16), NameId(b"w" * 16))
INES = keys.login_keys(b"i" * 32)
TOM = keys.login_keys(b"t" * 32)


def deadline() -> float:
    return time.monotonic() + 10


def share_key(number: int) -> ShareKey:
    return ShareKey(StripeId(number.to_bytes(32, "big")), 0)


@define
class Client:
    """The least a client must do, one request at a time."""

    stream: Stream
    session: wire.Session = field(factory=wire.Session)
    mark: wire.Mark = field(factory=wire.Mark)

    def receive(self, size: int) -> bytes:
        body = bytearray(size)
        filled = 0
        while filled < size:
            came = self.stream.receive_into(memoryview(body)[filled:], deadline())
            if came == 0:
                raise UnreachableError("the node ended the connection")
            filled += came
        return bytes(body)

    def ask(self, request: messages.Request, bulk: Sequence[Buffer] = ()) -> tuple[Any, bytes]:
        self.stream.send([self.session.ask(request, bulk), *bulk], deadline())
        return self.answer()

    def answer(self) -> tuple[Any, bytes]:
        header = wire.decode_header(self.receive(limits.HEADER_SIZE))
        control = self.receive(header.control_size)
        bulk = self.receive(header.bulk_size)
        reply, self.mark = self.session.answered(header, control)
        wire.check_bulk(header, bulk)
        return reply, bulk

    def log_in(self, user: str, login: LoginKeys) -> messages.LoginReply:
        hello, _ = self.ask(messages.Hello(b"c" * 32, "test", ()))
        signature = sign_login(
            login.seed,
            realm=hello.realm,
            user=user,
            node_id=hello.node_id,
            client_nonce=b"c" * 32,
            node_nonce=hello.nonce,
            channel_binding=self.stream.channel_binding,
        )
        reply, _ = self.ask(messages.Login(user, signature))
        assert isinstance(reply, messages.LoginReply)
        return reply

    def make_vault(self) -> None:
        self.ask(messages.Create(ROSTER))
        self.ask(messages.Activate(DIGEST))

    def keep(self, key: ShareKey, body: bytes) -> None:
        self.ask(messages.Store((ShareHead(key, len(body), xxh3_128_digest(body)),)), [body])


class House:
    """A running server and the ways to it."""

    def __init__(
        self,
        tmp_path: Path,
        transport: Transport,
        *,
        connection_count_max: int = 300,
        address_share_max: int = 300,
        user_share_max: int = 300,
        files: Files | None = None,
    ) -> None:
        self.transport = transport
        self.env = RealEnv()
        self.users = tmp_path / "users"
        self.write_users(INES)
        self.accounts = Accounts(str(self.users), REALM, KEY_FILE)
        self.store: Store = volumes.make(
            StoreOptions(
                directory=str(tmp_path / "node"),
                files=files or RealFiles(),
                env=RealEnv(),
                inline_size_max=limits.SHARE_INLINE_SIZE_MAX,
                reserve_size=0,
            )
        )
        self.server = Server(
            ServerOptions(
                directory=str(tmp_path / "node"),
                name="attic",
                realm=REALM,
                address="127.0.0.1:0",
                transport=transport,
                store=self.store,
                env=RealEnv(),
                accounts=self.accounts,
                node_id=NODE_ID,
                incarnation=3,
                version="1",
                max_connections=connection_count_max,
                max_connections_per_address=address_share_max,
                max_connections_per_user=user_share_max,
            )
        )
        self.accounts.start()
        self.server.start()
        self.clients: list[Client] = []

    def set_quota(self, size: int | None) -> None:
        """Bound every user, from the next login or look at the file on."""
        self.write_users(INES, settings="" if size is None else f" quota={size}B")

    def write_users(self, ines: LoginKeys, tom_role: str = "user", settings: str = "") -> None:
        lines = [
            f"{name} ed25519:{base64.b64encode(login.public_key).decode()} role={role}{settings}"
            for name, login, role in (("ines", ines, "user"), ("tom", TOM, tom_role))
        ]
        self.users.write_text("\n".join(lines))

    def connect(self, source: str = "") -> Client:
        """Connect; ``source``: from another address of this machine."""
        stream = (
            self._connected(source) if source else self.transport.connect(self.server.address, deadline())
        )
        client = Client(stream)
        self.clients.append(client)
        stream.handshake(deadline())
        return client

    def _connected(self, source: str) -> Stream:
        name, _, port = self.server.address.rpartition(":")
        sock = socket.create_connection((name, int(port)), timeout=10, source_address=(source, 0))
        if isinstance(self.transport, tls.TlsTransport):
            return tls.ClientStream(self.transport._client_context, None, sock, self.server.address)
        return SocketStream(sock, self.server.address)

    def logged_in(self, user: str = "ines", login: LoginKeys = INES) -> Client:
        client = self.connect()
        client.log_in(user, login)
        return client

    def socket(self) -> socket.socket:
        name, _, port = self.server.address.rpartition(":")
        return socket.create_connection((name, int(port)), timeout=10)

    def close(self) -> None:
        for client in self.clients:
            client.stream.close()
        self.server.stop(1)


def plain(_path: Path) -> Transport:
    return tcp.make(TransportOptions())


def secured(path: Path) -> Transport:
    path.mkdir()
    certificate_path, key_path, _ = ensure_certificate(str(path), "attic")
    return tls.make(TransportOptions(certificate_path=certificate_path, key_path=key_path))


@pytest.fixture(params=[plain, secured], ids=["tcp", "tls"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    with closing(House(tmp_path, request.param(tmp_path / "certificate"))) as house:
        yield house


@pytest.fixture
def tcp_house(tmp_path: Path) -> Iterator[House]:
    with closing(House(tmp_path, plain(tmp_path))) as house:
        yield house
