"""The values of dfs: frozen, typed, without behaviour.

Identifiers are bytes. A `Ballot` is bytes too, laid out so that byte order is ballot order; `NO_BALLOT` sorts
below every real one. See docs/formats.md for the exact inputs of every identifier.
"""

import enum
from collections.abc import Mapping
from typing import Final, NewType, TypeAlias

import attrs

from dfs.core import limits
from dfs.core.records import field, frozen

Buffer: TypeAlias = bytes | bytearray | memoryview

NodeId = NewType("NodeId", bytes)
DirectoryId = NewType("DirectoryId", bytes)
NameId = NewType("NameId", bytes)
ChunkId = NewType("ChunkId", bytes)
StripeId = NewType("StripeId", bytes)
Ballot = NewType("Ballot", bytes)
Version = NewType("Version", bytes)  # the operation id inside an entry: what users see

NO_BALLOT: Final = Ballot(b"")
BAD_SHARES: Final = "shares that are not what was stored"  # why a node is suspected
CODEC_PLAIN: Final = 0  # the codec byte of a chunk kept as it is

Plain = NewType("Plain", memoryview)  # a chunk as cut from the file
Packed = NewType("Packed", memoryview)  # the chunk after compression
Sealed = NewType("Sealed", memoryview)  # the packed chunk after encryption


def _check(*, holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)


@frozen
class Node:
    """One storage server as the roster and placements see it.

    ``weight``: share of the data relative to the others, > 0. ``zone``: nodes of one zone are likely to fail
    together.
    """

    node_id: NodeId
    weight: float = 1.0
    zone: str = ""

    def __attrs_post_init__(self) -> None:
        _check(holds=len(self.node_id) == limits.NODE_ID_SIZE, text="a node id has 16 bytes")
        _check(holds=0.0 < self.weight < 1e6, text="a node's weight lies between 0 and 1,000,000")


@frozen
class Roster:
    """The nodes of a vault in ring order. ``group_size``: n; ``tolerance``: r, rolled-back nodes borne."""

    epoch: int
    nodes: tuple[Node, ...]
    group_size: int
    tolerance: int

    def __attrs_post_init__(self) -> None:
        count = len(self.nodes)
        _check(holds=1 <= self.epoch < 1 << 32, text="an epoch lies between 1 and 2^32 - 1")
        _check(
            holds=1 <= count <= limits.NODE_COUNT_MAX, text=f"a roster has 1 to {limits.NODE_COUNT_MAX} nodes"
        )
        _check(
            holds=1 <= self.group_size <= min(count, limits.GROUP_SIZE_MAX),
            text="n lies between 1 and the node count",
        )
        _check(holds=0 <= self.tolerance < self.group_size, text="r lies between 0 and n - 1")
        _check(holds=len({node.node_id for node in self.nodes}) == count, text="a roster names a node twice")


@frozen
class Geometry:
    """``needed`` (k) of ``total`` (n) shares bring a stripe back."""

    needed: int
    total: int

    def __attrs_post_init__(self) -> None:
        _check(
            holds=1 <= self.needed <= self.total <= limits.GROUP_SIZE_MAX,
            text=f"a geometry is 1 <= k <= n <= {limits.GROUP_SIZE_MAX}, not {self.needed} of {self.total}",
        )


@attrs.frozen(order=True)
class ShareKey:
    """The name of a share on a node: stripe id and 0-based share index."""

    stripe: StripeId
    index: int


@attrs.frozen(order=True)
class RegisterKey:
    """The name of a register: keyed hashes of the directory's path and of the name in it."""

    directory: DirectoryId
    name: NameId


@frozen
class RegisterRow:
    """What a node holds of one register. The counts are computed by the store, for shares on this node.

    ``confirmed``: the confirm tag, empty until confirmed. ``safe``: the confirmation said that H was reached.
    ``claim_set``: digest of the claims of the accepted value, empty when it claims nothing.
    """

    promised: Ballot = NO_BALLOT
    accepted: Ballot = NO_BALLOT
    value: bytes = field(default=b"", repr=False)
    digest: bytes = b""
    claim_set: bytes = b""
    confirmed: bytes = b""
    safe: bool = False
    claimed_count: int = 0
    owed_count: int = 0
    corrupt_count: int = 0


@frozen
class Claim:
    """Plaintext note, the same on all nodes of a group: which roster node holds which share of a stripe.

    ``nodes``: row i = roster indexes of the nodes of share i, preferred first. ``code``: ``name@format``.
    """

    stripe: StripeId
    share_size: int
    code: str
    geometry: Geometry
    nodes: tuple[tuple[int, ...], ...]


class EntryKind(enum.IntEnum):
    """What a path maps to; the number is the byte in front of every sealed entry."""

    FILE = 1
    FOLDER = 2
    TOMBSTONE = 3


@frozen
class Chunk:
    """One chunk in a manifest. Sizes in bytes; ``codec``: how it was packed, 0 = kept plain."""

    chunk_id: ChunkId
    codec: int
    plain_size: int
    packed_size: int


@frozen
class Recipe:
    """The plugins and geometry a file version is made with, as ``package:name@format``."""

    cipher: str
    compressor: str
    code: str
    placement: str
    geometry: Geometry


@frozen
class Manifest:
    """The ordered chunks of a file version and the recipe that made them.

    ``listed``: the chunk list itself is stored in ``chunks`` (it was larger than CHUNK_LIST_INLINE_SIZE_MAX).
    ``facts``: what the placement wants remembered. ``chunks_digest``: hash over the ordered (chunk id, size)
    pairs.
    """

    recipe: Recipe
    facts: bytes
    chunks: tuple[Chunk, ...] = field(repr=False)
    listed: bool
    chunks_digest: bytes


@frozen
class Entry:
    """What a path maps to. ``size``: bytes of plain file. ``mtime_ns``: since the epoch, from the writer.

    ``content``: the packed file itself when it is small, with ``content_codec``; then there is no manifest.
    ``previous``: digest of the value this one replaced, empty for the first.
    """

    path: str
    kind: EntryKind
    version: Version
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0
    content: bytes | None = field(default=None, repr=False)
    content_codec: int = CODEC_PLAIN
    content_compressor: str = ""
    manifest: Manifest | None = None
    previous: bytes = b""


class VaultState(enum.IntEnum):
    """The state of a vault on one node."""

    NEW = 0
    ACTIVE = 1
    JOINING = 2
    QUARANTINED = 3
    READ_ONLY = 4


RESTORED: Final = "restored"  # a meta value, not empty: a store brought the vault back from an older copy
RETURNING: Final = frozenset({VaultState.JOINING, VaultState.QUARANTINED})  # takes writes, does not count


class OutcomeKind(enum.Enum):
    """How a write ended."""

    OK = "ok"
    DEGRADED = "degraded"


@frozen
class Outcome:
    """A write that took effect on ``node_count`` of ``node_total`` nodes; it ``survives`` further losses.

    ``sent_size``: share bytes sent. ``stored_size``: share bytes the nodes hold for it now.
    ``missing``: the nodes that have not got what they should hold.
    """

    path: str
    kind: OutcomeKind
    version: Version
    size: int
    node_count: int
    node_total: int
    survives: int
    sent_size: int = 0
    stored_size: int = 0
    missing: tuple[NodeId, ...] = ()


class Scope(enum.Enum):
    """What the key of a placement is."""

    CHUNK = "chunk"  # the stripe id: each stripe its own order
    NAME = "name"  # the last path component, NFC, UTF-8
    CONTENT = "content"  # MD5 of the whole plain file, 16 bytes: one extra pass


Settings = Mapping[str, str]  # the values of one conf section, as text
