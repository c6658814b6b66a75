"""Frames and sessions without I/O: header and control body to and from bytes, and what may come when.

A frame is a fixed 64-byte header, a msgpack control body and raw bulk bytes. The header's checksum covers
header and control body, the bulk has a checksum of its own (or, all zero, its parts bring theirs). Every
length is checked before anything is allocated. See docs/formats.md.
"""

import enum
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from xxhash import xxh3_128_digest

from dfs.core import encoding, errors, limits, messages
from dfs.core.encoding import record, uint
from dfs.core.errors import DfsError, RemoteProtocolError
from dfs.core.messages import CODES, MESSAGES, ErrorReply, Message, Request, Response, shape_of
from dfs.core.paths import printable
from dfs.core.records import define, field, frozen
from dfs.core.types import Buffer

MAGIC: Final = b"DFSw"
WIRE_VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">4sBBHQIIQ16s")  # 48 bytes, then 16 of head checksum
NO_CHECKSUM: Final = bytes(limits.CHECKSUM_SIZE)
_HEAD_SIZE: Final = _LAYOUT.size

# The numbers of errors on the wire; never reused. A class that is missing here travels as 0.
FAULTS: Final[Mapping[int, type[DfsError]]] = {
    0: DfsError,
    1: RemoteProtocolError,
    2: errors.LoginError,
    3: errors.ForbiddenError,
    4: errors.NotInitialisedError,
    5: errors.ConflictError,
    6: errors.StoreError,
    7: errors.DiskFullError,
    8: errors.QuotaError,
    9: errors.BusyError,
    10: errors.IntegrityError,
    11: errors.NodeError,
    12: errors.NotFoundError,
}
ROSTER_DIFFERS: Final = 100  # an ErrorReply whose ``extra`` is the node's roster
_KINDS: Final = {fault: kind for kind, fault in FAULTS.items()}


class Role(enum.IntEnum):
    """What a frame is."""

    REQUEST = 0
    REPLY = 1
    ERROR = 2


class RosterDiffersError(DfsError):
    """The node knows another roster; ``roster`` holds its bytes. Handled by the client, never shown."""

    def __init__(self, roster: bytes) -> None:
        super().__init__("the node knows another roster")
        self.roster = roster


@frozen
class Header:
    """The checked header of a frame; sizes in bytes."""

    role: Role
    code: int
    request_id: int
    control_size: int
    bulk_size: int
    bulk_checksum: bytes
    raw: bytes


@frozen
class Mark:
    """What every reply after the login tells of the vault: the node's incarnation and its high-water mark."""

    incarnation: int = 0
    mark: int = 0


def _frame(
    role: Role, code: int, request_id: int, control: bytes, bulk: Sequence[Buffer], *, summed: bool
) -> bytes:
    bulk_size = sum(len(part) for part in bulk)
    if len(control) > limits.CONTROL_SIZE_MAX or bulk_size > limits.BULK_SIZE_MAX:
        raise errors.LocalProtocolError(f"a frame of {len(control)} + {bulk_size} bytes is too large")
    checksum = xxh3_128_digest(b"".join(bulk)) if summed and bulk_size else NO_CHECKSUM
    head = _LAYOUT.pack(MAGIC, WIRE_VERSION, role, code, request_id, len(control), 0, bulk_size, checksum)
    return head + xxh3_128_digest(head + control) + control


def encode_request(request: Request, request_id: int, bulk: Sequence[Buffer] = ()) -> bytes:
    """Return header and control body of a request; the bulk is sent behind it as it is.

    Share bodies (STORE) bring their own checksums; all other bulk gets one in the header.
    """
    summed = not isinstance(request, messages.Store)
    return _frame(
        Role.REQUEST, CODES[type(request)], request_id, encoding.encode(request), bulk, summed=summed
    )


def encode_reply(
    code: int, request_id: int, reply: Response, mark: Mark, bulk: Sequence[Buffer] = ()
) -> bytes:
    """Return header and control body of a reply."""
    control = encoding.encode((mark, reply))
    return _frame(Role.REPLY, code, request_id, control, bulk, summed=True)


def encode_fetch_reply(request_id: int, reply: messages.FetchReply, mark: Mark) -> bytes:
    """Return header and control body of a FETCH reply; its bulk, the share bodies, follows."""
    control = encoding.encode((mark, reply))
    bulk_size = sum(result.size for result in reply.results if result.status == messages.FOUND)
    code = CODES[messages.Fetch]
    head = _LAYOUT.pack(
        MAGIC, WIRE_VERSION, Role.REPLY, code, request_id, len(control), 0, bulk_size, NO_CHECKSUM
    )
    return head + xxh3_128_digest(head + control) + control


def encode_error(code: int, request_id: int, error: DfsError) -> bytes:
    """Return the frame of an error reply."""
    if isinstance(error, RosterDiffersError):
        fault = ErrorReply(ROSTER_DIFFERS, error.what, "", "", error.roster)
    else:
        kind = next((_KINDS[cls] for cls in type(error).__mro__ if cls in _KINDS), 0)
        fault = ErrorReply(kind, error.what[:500], error.kept[:250], error.next_step[:250], b"")
    return _frame(Role.ERROR, code, request_id, encoding.encode((Mark(), fault)), (), summed=True)


def decode_header(head: Buffer) -> Header:
    """Return the header of 64 bytes, its lengths within bounds.

    Raises:
        RemoteProtocolError: no frame of this version, or a length out of bounds.
    """
    raw = bytes(head)
    if len(raw) != limits.HEADER_SIZE:
        raise RemoteProtocolError("a header has 64 bytes")
    magic, version, role, code, request_id, control_size, zero, bulk_size, checksum = _LAYOUT.unpack(
        raw[:_HEAD_SIZE]
    )
    if magic != MAGIC:
        raise RemoteProtocolError("the peer does not speak the dfs protocol (or not over this transport)")
    if version != WIRE_VERSION:
        raise RemoteProtocolError(f"the peer speaks wire version {version}, this dfs speaks {WIRE_VERSION}")
    if role > Role.ERROR or zero or code not in MESSAGES:
        raise RemoteProtocolError(f"unknown message (role {role}, code {code})")
    if control_size > limits.CONTROL_SIZE_MAX or bulk_size > limits.BULK_SIZE_MAX:
        raise RemoteProtocolError(f"a frame of {control_size} + {bulk_size} bytes is too large")
    return Header(Role(role), code, request_id, control_size, bulk_size, checksum, raw)


def decode_control(header: Header, control: bytes) -> tuple[Message, Mark]:
    """Return the message of a control body, and for replies the mark.

    Raises:
        RemoteProtocolError: damaged, or not the message its code promises.
    """
    if xxh3_128_digest(header.raw[:_HEAD_SIZE] + control) != header.raw[_HEAD_SIZE:]:
        raise RemoteProtocolError("a frame arrived damaged")
    request, reply = MESSAGES[header.code]
    size_max = limits.CONTROL_SIZE_MAX
    if header.role is Role.REQUEST:
        shape, name = shape_of(request), request.__name__
        message: Message = encoding.decode(
            control, shape, what=name, error=RemoteProtocolError, size_max=size_max
        )
        return message, Mark()
    cls = reply if header.role is Role.REPLY else ErrorReply
    shape = record(lambda mark, answer: (answer, mark), _MARK, shape_of(cls))
    answered: tuple[Message, Mark] = encoding.decode(
        control, shape, what=cls.__name__, error=RemoteProtocolError, size_max=size_max
    )
    return answered


_MARK = record(Mark, uint((1 << 32) - 1), uint())


def check_bulk(header: Header, bulk: Buffer) -> None:
    """Check bulk against the header's checksum, if it brings one.

    Raises:
        RemoteProtocolError: damaged.
    """
    if header.bulk_checksum != NO_CHECKSUM and xxh3_128_digest(bulk) != header.bulk_checksum:
        raise RemoteProtocolError("a frame's bulk arrived damaged")


def fault_of(reply: ErrorReply) -> DfsError:
    """Return the exception an error reply stands for; no word of it can steer a terminal."""
    if reply.kind == ROSTER_DIFFERS:
        return RosterDiffersError(reply.extra)
    cls = FAULTS.get(reply.kind, DfsError)
    return cls(printable(reply.what), kept=printable(reply.kept), next_step=printable(reply.next_step))


# --- Sessions ---------------------------------------------------------------------------------------------


class Phase(enum.Enum):
    """How far a connection has come."""

    CONNECTED = "connected"
    GREETED = "greeted"
    AUTHENTICATED = "authenticated"
    CLOSED = "closed"


_BEFORE_LOGIN: Final[Mapping[Phase, Mapping[type[Request], Phase]]] = {
    Phase.CONNECTED: {messages.Hello: Phase.GREETED},
    Phase.GREETED: {messages.Login: Phase.AUTHENTICATED, messages.Ping: Phase.GREETED},
    Phase.AUTHENTICATED: {},
    Phase.CLOSED: {},
}
_AFTER_LOGIN: Final = frozenset(CODES) - {messages.Hello, messages.Login}
_WITH_BULK: Final = frozenset({messages.Claims, messages.Accept, messages.Store, messages.Replay})


@define
class Session:
    """The state both ends keep of a connection; requests are answered one by one, as they came."""

    phase: Phase = Phase.CONNECTED
    request_id: int = 0
    _waiting: deque[tuple[int, type[Request]]] = field(factory=deque)

    def allow(self, request: type[Request]) -> None:
        """Check that a request may be sent or received now.

        Raises:
            RemoteProtocolError: not in this phase.
        """
        after_login = self.phase is Phase.AUTHENTICATED and request in _AFTER_LOGIN
        if not after_login and request not in _BEFORE_LOGIN[self.phase]:
            raise RemoteProtocolError(f"{request.__name__} may not come while {self.phase.value}")

    def advance(self, request: type[Request]) -> None:
        """Note that a request was answered without error."""
        self.phase = _BEFORE_LOGIN[self.phase].get(request, self.phase)

    def ask(self, request: Request, bulk: Sequence[Buffer] = ()) -> bytes:
        """Client: return the head of the next request."""
        self.allow(type(request))
        self.request_id += 1
        self._waiting.append((self.request_id, type(request)))
        return encode_request(request, self.request_id, bulk)

    def answered(self, header: Header, control: bytes) -> tuple[Response, Mark]:
        """Client: return the reply to the first of the requests that were asked and not answered yet.

        Raises:
            RemoteProtocolError: not the reply that is due. DfsError: the node refused, see FAULTS.
        """
        if not self._waiting or header.role is Role.REQUEST:
            raise RemoteProtocolError("a reply nobody asked for")
        request_id, waiting = self._waiting[0]
        if header.request_id != request_id or header.code != CODES[waiting]:
            raise RemoteProtocolError("a reply to another request")
        message, mark = decode_control(header, control)
        self._waiting.popleft()
        if isinstance(message, ErrorReply):
            raise fault_of(message)
        self.advance(waiting)
        return message, mark  # type: ignore[return-value] # MESSAGES pairs every request with its reply

    def expect(self, header: Header) -> None:
        """Node: check from its header alone that a request may come now, before memory is taken for its body.

        Raises:
            RemoteProtocolError: it may not, or it is none.
        """
        if header.role is not Role.REQUEST:
            raise RemoteProtocolError("a reply where a request was due")
        request, _ = MESSAGES[header.code]
        self.allow(request)
        if header.bulk_size and request not in _WITH_BULK:
            raise RemoteProtocolError(f"{request.__name__} has no bulk")
        greeting = self.phase is not Phase.AUTHENTICATED
        if greeting and header.control_size > limits.CONTROL_SIZE_BEFORE_LOGIN_MAX:
            raise RemoteProtocolError(f"{request.__name__} is too large")

    def asked(self, header: Header, control: bytes) -> Request:
        """Node: return the request that arrived, if it may come now.

        Raises:
            RemoteProtocolError: it may not, or it is none.
        """
        self.expect(header)
        message, _mark = decode_control(header, control)
        return message  # type: ignore[return-value] # the role says so
