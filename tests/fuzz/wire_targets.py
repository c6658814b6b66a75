"""Fuzz targets of the wire: headers, control bodies, whole conversations, bulk rows, rosters."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from attrs import define
from xxhash import xxh3_128_digest

from dfs.core import auth, bulk_rows, encoding, limits, messages, wire
from dfs.core.auth import Rekeyed, sign_login
from dfs.core.bulk_rows import RowState
from dfs.core.conversation import Conversation
from dfs.core.env import RealFiles
from dfs.core.errors import DfsError, RemoteProtocolError
from dfs.core.interface import StoreOptions, VaultStore
from dfs.core.keys import login_keys
from dfs.core.manifest import open_entry
from dfs.core.messages import CODES, MESSAGES
from dfs.core.node import VaultNode, Work, transact
from dfs.core.roster import decode_roster, encode_roster, group_of
from dfs.core.types import DirectoryId, NameId, Node, NodeId, RegisterKey, Roster
from dfs.core.wire import Header, Role, Session
from dfs.plugins import memory_store
from tests.fuzz.target import Target

GOLDEN: Final = Path(__file__).parents[1] / "golden"
_HEAD: Final = limits.HEADER_SIZE - limits.CHECKSUM_SIZE
_CODES: Final = sorted(MESSAGES)
NODE_ID: Final = NodeId(b"n" * limits.NODE_ID_SIZE)
INES: Final = login_keys(b"i" * 32)
GREETING: Final = messages.HelloReply(NODE_ID, 1, "orchard", bytes(32), "attic", "1", ())


def golden(name: str, *kinds: str) -> Iterator[dict[str, Any]]:
    """Yield the cases of a golden file, those that must be refused too."""
    content = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    yield from (case for case in (*content["cases"], *content["refused"]) if case["kind"] in kinds)


def bytes_of(case: dict[str, Any], *names: str) -> bytes:
    """Return what a golden case says must come out, or what must be refused."""
    found = case.get("bytes") or next(case["expected"][name] for name in names if name in case["expected"])
    return bytes.fromhex(found[2:])


# --- Frames -------------------------------------------------------------------------------------------------


def _header(raw: bytes) -> object:
    header = wire.decode_header(raw[: limits.HEADER_SIZE])
    assert header.control_size <= limits.CONTROL_SIZE_MAX
    assert header.bulk_size <= limits.BULK_SIZE_MAX
    body = raw[limits.HEADER_SIZE :]
    wire.check_bulk(header, body)
    return wire.decode_control(header, body[: header.control_size])


def _sealed_header(role: Role, code: int, control: bytes, bulk: bytes = b"", request_id: int = 1) -> Header:
    """Return a header whose checksums are right, whatever it is about."""
    checksum = xxh3_128_digest(bulk) if bulk and code != CODES[messages.Store] else wire.NO_CHECKSUM
    head = wire.MAGIC + bytes((wire.WIRE_VERSION, role)) + code.to_bytes(2, "big")
    head += request_id.to_bytes(8, "big") + len(control).to_bytes(4, "big") + bytes(4)
    head += len(bulk).to_bytes(8, "big") + checksum
    return wire.decode_header(head + xxh3_128_digest(head + control))


def _control(raw: bytes) -> object:
    """Byte 0 names role and message, the rest is a control body."""
    role, index = divmod(raw[0] if raw else 0, len(_CODES))
    header = _sealed_header(Role(role % len(Role)), _CODES[index], raw[1:])
    message, mark = wire.decode_control(header, raw[1:])
    again: object = message if header.role is Role.REQUEST else (mark, message)
    assert encoding.encode(again) == raw[1:]
    if isinstance(message, messages.ErrorReply):
        assert isinstance(wire.fault_of(message), DfsError)
    return message


def _frames() -> Iterator[bytes]:
    for case in golden("frames", "frame"):
        yield bytes_of(case, "frame")


def _controls() -> Iterator[bytes]:
    for frame in _frames():
        role, code = frame[5], int.from_bytes(frame[6:8], "big")
        if role in set(Role) and code in MESSAGES:
            yield bytes((role * len(_CODES) + _CODES.index(code),)) + frame[limits.HEADER_SIZE :]


# --- A reply as the client takes it -------------------------------------------------------------------------


def _reply(raw: bytes) -> object:
    """Byte 0 is what was asked, byte 1 the role of the answer, the rest its control body."""
    request = MESSAGES[_CODES[(raw[0] if raw else 0) % len(_CODES)]][0]
    session = Session(wire.Phase.AUTHENTICATED, 1)
    session._waiting.append((1, request))
    role = Role.ERROR if raw[1:2] == b"\x02" else Role.REPLY
    header = _sealed_header(role, CODES[request], raw[2:])
    if role is Role.ERROR:  # what a node says it met may be anything, even what only we may say
        message, _mark = wire.decode_control(header, raw[2:])
        assert isinstance(message, messages.ErrorReply)
        return wire.fault_of(message).line
    return session.answered(header, raw[2:])


def _replies() -> Iterator[bytes]:
    for frame in _frames():
        if frame[5] in {Role.REPLY, Role.ERROR} and int.from_bytes(frame[6:8], "big") in MESSAGES:
            index = _CODES.index(int.from_bytes(frame[6:8], "big"))
            yield bytes((index, frame[5])) + frame[limits.HEADER_SIZE :]


# --- A conversation -----------------------------------------------------------------------------------------


@define
class _Still:
    """A clock that stands and entropy from a seed (interface.Env)."""

    entropy: random.Random

    def monotonic_s(self) -> float:
        return 1.0

    def wall_s(self) -> float:
        return 1.0

    def random_bytes(self, size: int) -> bytes:
        return self.entropy.randbytes(size)


@define
class _Commits:
    """Commits at once (node.Commits)."""

    store: VaultStore

    def run(self, work: Callable[..., Any]) -> Any:
        (result,), _mark = transact(self.store, [work])
        if isinstance(result, DfsError):
            raise result
        return result

    def later(self, work: Work) -> None:
        self.run(work)


class _House:
    """A house with one account and a fresh vault (conversation.House)."""

    greeting = GREETING

    def __init__(self, env: _Still) -> None:
        options = StoreOptions(directory="", files=RealFiles(), env=env, inline_size_max=64, reserve_size=0)
        store = memory_store.make(options).vault("ines", create=True)
        self.opened = VaultNode(NODE_ID, 1, store, _Commits(store), env)

    def public_key(self, user: str) -> bytes | None:
        return INES.public_key if user in {"ines", "medic"} else None

    def admits(self, user: str, public_key: bytes) -> bool:
        return public_key == INES.public_key

    def is_healer(self, user: str) -> bool:
        return user == "medic"

    def is_clear(self, user: str) -> bool:
        return False

    def rekeyed(self, user: str) -> Rekeyed | None:
        return None

    def users(self) -> list[str]:
        return ["ines"]

    def vault(self, user: str) -> VaultNode:
        return self.opened

    def adopt(self, node_id: NodeId, incarnation: int) -> None:
        """Adopt nothing."""


# Signing and verifying would be most of a run, and nothing that the fuzzer makes up changes what is signed:
# both are functions of their arguments alone, so results are remembered.
_sign_login: Final = lru_cache(sign_login)
auth._verified = lru_cache(auth._verified)

ROSTER: Final = encode_roster(Roster(1, (Node(NODE_ID),), 1, 0))
_LOG_IN: Final = 0xFF  # in place of a message: greet and log in with a right proof


def _conversation(raw: bytes) -> object:
    """Bytes are requests: index of the message, u16 size of the control body, it, u16 size of bulk, it."""
    env = _Still(random.Random(1))
    house = _House(env)
    talk = Conversation(house, env, b"certificate")
    request_id = offset = 0
    while offset < len(raw):
        request_id += 1
        if raw[offset] == _LOG_IN:
            user = "medic" if raw[offset + 1 : offset + 2] == b"m" else "ines"
            offset += 2
            frames = _login(talk, user)
        else:
            code = _CODES[raw[offset] % len(_CODES)]
            control, offset = _part(raw, offset + 1)
            bulk, offset = _part(raw, offset)
            frames = iter([(code, control, bulk)])
        for code, control, bulk in frames:
            try:
                header = _sealed_header(Role.REQUEST, code, control, bulk, request_id)
                talk.answer(header, control, memoryview(bulk))
            except RemoteProtocolError:
                return talk.session.phase  # the connection ends
            except DfsError as error:  # refused, and the conversation goes on
                wire.encode_error(code, request_id, error)
    return talk.session.phase


def _part(raw: bytes, offset: int) -> tuple[bytes, int]:
    end = offset + 2 + int.from_bytes(raw[offset : offset + 2], "big")
    return raw[offset + 2 : end], end


def _login(talk: Conversation, user: str) -> Iterator[tuple[int, bytes, bytes]]:
    encode = encoding.encode
    yield CODES[messages.Hello], encode(messages.Hello(b"c" * 32, "", ())), b""
    greeting = talk._greeting
    if greeting is not None:
        proof = _sign_login(
            INES.seed,
            realm=greeting.realm,
            user=user,
            node_id=greeting.node_id,
            client_nonce=b"c" * 32,
            node_nonce=greeting.nonce,
            channel_binding=b"certificate",
        )
        yield CODES[messages.Login], encode(messages.Login(user, proof)), b""


def _conversations() -> Iterator[bytes]:
    requests = [frame for frame in _frames() if frame[5] == Role.REQUEST]
    create = _spoken(CODES[messages.Create], encoding.encode(messages.Create(ROSTER)))
    yield b"\xffi" + create
    for frame in requests:
        code = int.from_bytes(frame[6:8], "big")
        if code in MESSAGES:
            size = int.from_bytes(frame[16:20], "big")
            body = frame[limits.HEADER_SIZE :]
            spoken = _spoken(code, body[:size], body[size:])
            yield spoken
            yield b"\xffi" + create + spoken
    yield b"\xffm" + _spoken(CODES[messages.Enter], encoding.encode(messages.Enter("ines")))


def _spoken(code: int, control: bytes, bulk: bytes = b"") -> bytes:
    parts = b"".join(len(part).to_bytes(2, "big") + part for part in (control, bulk))
    return bytes((_CODES.index(code),)) + parts


# --- Bulk rows and rosters ----------------------------------------------------------------------------------


def _rows(
    decode: Callable[[bytes], Any], encode: Callable[[Any], bytes], look: Callable[[Any], object] = len
) -> Callable[[bytes], object]:
    def parse(raw: bytes) -> object:
        rows = decode(raw)
        assert encode(rows) == raw
        return look(rows)

    return parse


def _open_all(listed: Any) -> None:
    """Look at rows as a client does."""
    for name, state in listed:
        _open_state(RegisterKey(DirectoryId(bytes(16)), NameId(name)), state)


def _open_state(key: RegisterKey, state: RowState) -> None:
    if state.row is not None:
        try:
            open_entry(bytes(32), key, state.row)
        except DfsError:
            return


def _encode_claims(claims: Any) -> bytes:
    return b"".join(map(bulk_rows.encode_claim, claims))


ROWS: Final = {
    "states": _rows(bulk_rows.decode_states, bulk_rows.encode_states),
    "listed": _rows(bulk_rows.decode_listed, bulk_rows.encode_listed, _open_all),
    "promises": _rows(bulk_rows.decode_promises, bulk_rows.encode_promises),
    "accepts": _rows(bulk_rows.decode_accepts, bulk_rows.encode_accepts),
    "replays": _rows(bulk_rows.decode_replays, bulk_rows.encode_replays),
    "lacking": _rows(bulk_rows.decode_lacking, bulk_rows.encode_lacking),
    "claims": _rows(bulk_rows.decode_claims, _encode_claims),
}


def _rows_of(kind: str) -> Callable[[], Iterable[bytes]]:
    def seeds() -> Iterator[bytes]:
        for case in golden("frames", "rows", kind):
            if case["kind"] == kind or case["inputs"]["kind"] == kind:
                yield bytes_of(case, "bulk")

    return seeds


def _roster(raw: bytes) -> object:
    roster = decode_roster(raw)
    assert encode_roster(roster) == raw
    return group_of(roster, DirectoryId(raw[:16].ljust(16, b"\0")))


def _rosters() -> Iterator[bytes]:
    for case in golden("rosters", "roster"):
        yield bytes_of(case, "encoded")


TARGETS: Final = (
    Target("header", _header, _frames),
    Target("control", _control, _controls),
    Target("reply", _reply, _replies),
    Target("conversation", _conversation, _conversations),
    *(Target(f"rows-{kind}", parse, _rows_of(kind)) for kind, parse in ROWS.items()),
    Target("roster", _roster, _rosters),
)
