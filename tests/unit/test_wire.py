"""Frames and sessions: what is sent comes back, and nothing else gets through."""

import struct

import pytest
from attrs import fields
from hypothesis import given, strategies as st
from xxhash import xxh3_128_digest

from dfs.core import errors, limits, messages, wire
from dfs.core.errors import DfsError, LocalProtocolError, RemoteProtocolError
from dfs.core.messages import CODES, MESSAGES, Request
from dfs.core.types import NO_BALLOT, DirectoryId, NameId, NodeId, RegisterKey, ShareKey, StripeId, VaultState
from dfs.core.wire import Header, Mark, Phase, Role, RosterDiffersError, Session

DIGEST = b"r" * 32
KEY = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16))
SHARE = ShareKey(StripeId(b"s" * 32), 1)
HELLO = messages.Hello(b"n" * 32, "1.0", ())
GREETING = messages.HelloReply(NodeId(b"i" * 16), 1, "dfs", b"m" * 32, "DFS1", "1.0", ())
LOGIN = messages.Login("alice", b"s" * 64)
LET_IN = messages.LoginReply(VaultState.ACTIVE, b"roster")
READ = messages.Read(DIGEST, with_values=True, with_shares=False, keys=(KEY,))
STORE = messages.Store((messages.ShareHead(SHARE, 4, b"c" * 16),))


def frame(raw: bytes) -> tuple[Header, bytes]:
    return wire.decode_header(raw[: limits.HEADER_SIZE]), raw[limits.HEADER_SIZE :]


def reply_to(session: Session, reply: messages.Response, mark: Mark | None = None) -> tuple[Header, bytes]:
    request_id, request = session._waiting[0]
    return frame(wire.encode_reply(CODES[request], request_id, reply, mark or Mark()))


def logged_in() -> Session:
    session = Session()
    session.ask(HELLO)
    session.answered(*reply_to(session, GREETING))
    session.ask(LOGIN)
    session.answered(*reply_to(session, LET_IN))
    assert session.phase is Phase.AUTHENTICATED
    return session


# --- Frames -------------------------------------------------------------------------------------------------


def test_a_request_comes_back() -> None:
    header, control = frame(wire.encode_request(READ, 7))
    assert (header.role, header.code, header.request_id, header.bulk_size) == (Role.REQUEST, 16, 7, 0)
    assert header.control_size == len(control)
    assert wire.decode_control(header, control) == (READ, Mark())


def test_a_reply_comes_back_with_its_mark() -> None:
    mark = Mark(3, 1 << 60)
    header, control = frame(wire.encode_reply(16, 9, messages.ReadReply(1), mark, (b"rows",)))
    assert (header.role, header.request_id, header.bulk_size) == (Role.REPLY, 9, 4)
    assert wire.decode_control(header, control) == (messages.ReadReply(1), mark)
    wire.check_bulk(header, b"rows")
    with pytest.raises(RemoteProtocolError, match="bulk arrived damaged"):
        wire.check_bulk(header, b"rowz")


def test_the_header_is_as_written_down() -> None:
    raw = wire.encode_request(messages.Accept(DIGEST, 1), 5, (b"ab", b"c"))
    assert raw[:12] == b"DFSw\x01\x00\x00\x14" + bytes(4)
    assert struct.unpack(">QIIQ", raw[8:32]) == (5, len(raw) - 64, 0, 3)
    assert raw[32:48] == xxh3_128_digest(b"abc")
    assert raw[48:64] == xxh3_128_digest(raw[:48] + raw[64:])


def test_share_bodies_bring_their_own_checksums() -> None:
    header, _ = frame(wire.encode_request(STORE, 1, (b"body",)))
    assert (header.bulk_size, header.bulk_checksum) == (4, wire.NO_CHECKSUM)
    wire.check_bulk(header, b"what")
    found = messages.FetchReply((messages.FetchResult(0, 4, b"c" * 16), messages.FetchResult(1, 0, b"")))
    header, control = frame(wire.encode_fetch_reply(2, found, Mark(1, 2)))
    assert (header.code, header.bulk_size, header.bulk_checksum) == (34, 4, wire.NO_CHECKSUM)
    assert wire.decode_control(header, control) == (found, Mark(1, 2))


@pytest.mark.parametrize("place", range(limits.HEADER_SIZE * 8))
def test_no_bit_of_a_header_may_change(place: int) -> None:
    raw = bytearray(wire.encode_reply(16, 9, messages.ReadReply(1), Mark(1, 1), (b"rows",)))
    raw[place // 8] ^= 1 << place % 8
    with pytest.raises(RemoteProtocolError):
        wire.decode_control(*frame(bytes(raw)))


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_byte_of_a_control_body_may_change(place: int, change: int) -> None:
    raw = bytearray(wire.encode_request(READ, 7))
    raw[64 + place % (len(raw) - 64)] ^= change
    with pytest.raises(RemoteProtocolError, match="arrived damaged"):
        wire.decode_control(*frame(bytes(raw)))


@given(st.binary(min_size=64, max_size=64))
def test_any_header_is_one_or_the_error(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.decode_control(wire.decode_header(raw), b"")


def packed(*, magic: bytes = b"DFSw", version: int = 1, role: int = 0, code: int = 5, zero: int = 0) -> bytes:
    return struct.pack(">4sBBHQIIQ16s", magic, version, role, code, 1, 0, zero, 0, bytes(16)) + bytes(16)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (packed(magic=b"HTTP"), "does not speak the dfs protocol"),
        (packed(version=2), "wire version 2, this dfs speaks 1"),
        (packed(role=3), "unknown message"),
        (packed(code=13), "unknown message"),
        (packed(zero=1), "unknown message"),
        (packed()[:-1], "64 bytes"),
    ],
)
def test_other_headers_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        wire.decode_header(raw)


def sized(control_size: int, bulk_size: int) -> bytes:
    return struct.pack(">4sBBHQIIQ16s", b"DFSw", 1, 0, 5, 1, control_size, 0, bulk_size, bytes(16)) + bytes(
        16
    )


def test_sizes_are_checked_before_anything_is_allocated() -> None:
    header = wire.decode_header(sized(limits.CONTROL_SIZE_MAX, limits.BULK_SIZE_MAX))
    assert (header.control_size, header.bulk_size) == (limits.CONTROL_SIZE_MAX, limits.BULK_SIZE_MAX)
    for raw in (
        sized(limits.CONTROL_SIZE_MAX + 1, 0),
        sized(0, limits.BULK_SIZE_MAX + 1),
        sized(0, (1 << 64) - 1),
    ):
        with pytest.raises(RemoteProtocolError, match="too large"):
            wire.decode_header(raw)


def test_our_own_frames_keep_the_bounds() -> None:
    with pytest.raises(LocalProtocolError, match="too large"):
        wire.encode_request(messages.Create(bytes(limits.CONTROL_SIZE_MAX)), 1)
    with pytest.raises(LocalProtocolError, match="too large"):
        wire.encode_request(STORE, 1, (bytes(limits.BULK_SIZE_MAX), b"x"))


# --- Errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", wire.FAULTS)
def test_errors_travel_by_number(number: int) -> None:
    cls = wire.FAULTS[number]
    error = cls("what happened", kept="what was kept", next_step="what to do")
    header, control = frame(wire.encode_error(16, 3, error))
    assert (header.role, header.code, header.request_id) == (Role.ERROR, 16, 3)
    reply, _ = wire.decode_control(header, control)
    assert isinstance(reply, messages.ErrorReply)
    again = wire.fault_of(reply)
    assert type(again) is cls
    assert (again.what, again.kept, again.next_step) == ("what happened", "what was kept", "what to do")


def test_an_error_without_a_number_travels_as_its_next_relative() -> None:
    reply, _ = wire.decode_control(*frame(wire.encode_error(1, 1, errors.CorruptShareError("bad"))))
    assert isinstance(reply, messages.ErrorReply)
    assert type(wire.fault_of(reply)) is errors.IntegrityError
    reply, _ = wire.decode_control(*frame(wire.encode_error(1, 1, errors.ConfigError("bad"))))
    assert isinstance(reply, messages.ErrorReply)
    assert type(wire.fault_of(reply)) is DfsError


def test_another_roster_brings_it_along() -> None:
    reply, _ = wire.decode_control(*frame(wire.encode_error(16, 1, RosterDiffersError(b"theirs"))))
    assert isinstance(reply, messages.ErrorReply)
    error = wire.fault_of(reply)
    assert isinstance(error, RosterDiffersError)
    assert error.roster == b"theirs"


def test_an_unknown_number_is_some_error() -> None:
    assert type(wire.fault_of(messages.ErrorReply(77, "new", "", "", b""))) is DfsError


def test_long_stories_are_cut() -> None:
    error = DfsError("ü" * 5000, kept="ü" * 5000, next_step="ü" * 5000)
    reply, _ = wire.decode_control(*frame(wire.encode_error(1, 1, error)))
    assert isinstance(reply, messages.ErrorReply)
    assert len(reply.what) == 500


# --- Sessions -----------------------------------------------------------------------------------------------


def test_a_session_greets_logs_in_and_asks() -> None:
    session = logged_in()
    session.ask(READ)
    reply, mark = session.answered(*reply_to(session, messages.ReadReply(1), Mark(2, 3)))
    assert (reply, mark, session.request_id) == (messages.ReadReply(1), Mark(2, 3), 3)


ALLOWED: dict[Phase, set[type[Request]]] = {
    Phase.CONNECTED: {messages.Hello},
    Phase.GREETED: {messages.Login, messages.Ping},
    Phase.AUTHENTICATED: set(CODES) - {messages.Hello, messages.Login},
    Phase.CLOSED: set(),
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("request_class", CODES, ids=lambda cls: cls.__name__)
def test_what_may_come_when(phase: Phase, request_class: type[Request]) -> None:
    session = Session(phase)
    if request_class in ALLOWED[phase]:
        session.allow(request_class)
        return
    with pytest.raises(RemoteProtocolError, match="may not come"):
        session.allow(request_class)


def test_the_node_refuses_by_the_header_alone() -> None:
    session = Session()
    header, control = frame(wire.encode_request(HELLO, 1))
    session.expect(header)
    assert session.asked(header, control) == HELLO
    with pytest.raises(RemoteProtocolError, match="may not come"):
        session.expect(wire.decode_header(wire.encode_request(READ, 1)[:64]))
    with pytest.raises(RemoteProtocolError, match="a reply where a request"):
        session.expect(wire.decode_header(wire.encode_reply(1, 1, GREETING, Mark())[:64]))
    with pytest.raises(RemoteProtocolError, match="Hello has no bulk"):
        session.expect(wire.decode_header(wire.encode_request(HELLO, 1, (b"x",))[:64]))


@pytest.mark.parametrize("request_class", CODES, ids=lambda cls: cls.__name__)
def test_only_four_requests_have_bulk(request_class: type[Request]) -> None:
    header = Header(Role.REQUEST, CODES[request_class], 1, 0, 1, wire.NO_CHECKSUM, b"")
    session = Session(Phase.AUTHENTICATED)
    if request_class in {messages.Claims, messages.Accept, messages.Replay, messages.Store}:
        session.expect(header)
        return
    with pytest.raises(RemoteProtocolError):
        session.expect(header)


def test_strangers_may_say_little() -> None:
    size = limits.CONTROL_SIZE_BEFORE_LOGIN_MAX
    for code, session in ((1, Session()), (2, Session(Phase.GREETED))):
        session.expect(Header(Role.REQUEST, code, 1, size, 0, wire.NO_CHECKSUM, b""))
        with pytest.raises(RemoteProtocolError, match="too large"):
            session.expect(Header(Role.REQUEST, code, 1, size + 1, 0, wire.NO_CHECKSUM, b""))


def test_a_refused_login_may_be_tried_again() -> None:
    session = Session()
    session.ask(HELLO)
    session.answered(*reply_to(session, GREETING))
    session.ask(LOGIN)
    with pytest.raises(errors.LoginError):
        session.answered(*frame(wire.encode_error(2, 2, errors.LoginError("no"))))
    assert session.phase is Phase.GREETED
    session.ask(LOGIN)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (wire.encode_reply(16, 4, messages.ReadReply(1), Mark()), "another request"),
        (
            wire.encode_reply(17, 3, messages.ListReply(1, more=False, floor=NO_BALLOT), Mark()),
            "another request",
        ),
        (wire.encode_request(READ, 3), "nobody asked"),
    ],
)
def test_only_the_reply_that_is_due_is_taken(raw: bytes, reason: str) -> None:
    session = logged_in()
    session.ask(READ)
    with pytest.raises(RemoteProtocolError, match=reason):
        session.answered(*frame(raw))


def test_a_second_reply_is_refused() -> None:
    session = logged_in()
    session.ask(READ)
    reply = reply_to(session, messages.ReadReply(1))
    session.answered(*reply)
    with pytest.raises(RemoteProtocolError, match="nobody asked"):
        session.answered(*reply)


def test_codes_and_faults_are_never_used_twice() -> None:
    assert len({request for request, _ in MESSAGES.values()}) == len(MESSAGES)
    assert len(set(wire.FAULTS.values())) == len(wire.FAULTS)
    assert wire.ROSTER_DIFFERS not in wire.FAULTS
    assert [attribute.name for attribute in fields(Mark)] == ["incarnation", "mark"]


def test_what_a_node_says_of_an_error_steers_no_terminal() -> None:
    fault = wire.fault_of(messages.ErrorReply(5, "no\x1b[2J", "all\nis lost.", "run\u202eit.", b""))
    assert fault.line == "no\\x1b[2J. all\\nis lost. run\\u202eit.  (DFS-E409)"
