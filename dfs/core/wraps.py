"""Wraps: the master key of a vault, sealed once for each password, key file or recovery key that opens it.

Each lies in a register of its own in the wrap directory, so that a new one is written before an old one goes.
Beside the master key stands the ring, sealed under the master key: what is left to do about other keys, and
how far a rotation of the master key has come. See docs/formats.md, chapter 2, and docs/decisions/
0011-passwords-change-one-node-at-a-time.md and 0015-a-rotation-copies-beside-what-is-there.md.
"""

import enum
from typing import Final

from dfs.core import encoding, limits
from dfs.core.encoding import exactly, items, raw, raw_max, record, uint
from dfs.core.errors import ConfigError, IntegrityError
from dfs.core.keys import (
    MASTER_SIZE,
    SECRET_SIZE,
    WRAP_FORMAT,
    WRAP_NONCE_SIZE,
    WRAP_REGISTER,
    WRAP_SIZE_MAX,
    KdfParameters,
    LoginKeys,
    expand,
    unwrap_master,
    wrap_context,
)
from dfs.core.records import field, frozen
from dfs.core.types import NameId, RegisterKey

RINGED_FORMAT: Final = 2
RING_FORMAT: Final = 1
TURNED_RING_FORMAT: Final = 2  # of a vault whose master key was rotated, or is being so
KIN_COUNT_MAX: Final = 6
FURTHER_COUNT_MAX: Final = 4
RINGED_SIZE_MAX: Final = limits.CONTENT_INLINE_SIZE_MAX
_TAG_SIZE: Final = 16


@frozen
class Kin:
    """Another password of the vault. ``epoch``: of its login key; ``kek``: opens its wrap.

    ``seed``: of its login key, which nodes may still have; b"" where nobody needs to log in with it.
    """

    epoch: int
    kek: bytes = field(repr=False)
    seed: bytes = field(default=b"", repr=False)


class Stage(enum.IntEnum):
    """How far a rotation has come; the number is kept."""

    COPYING = 1  # what there is goes into the next generation; everybody works on with the present one
    CLOSED = 2  # nobody writes, so that the copy becomes whole
    REMOVING = 3  # the next generation is the vault's; the former one is taken away


@frozen
class Turn:
    """A rotation under way. ``master``: of the other generation: the next one, while REMOVING the former one.

    ``roster_epoch``: what the nodes must know before this stage counts, so that they refuse everybody who
    opened the vault before it; 0 while COPYING.
    """

    stage: Stage
    roster_epoch: int
    master: bytes = field(repr=False)


@frozen
class Ring:
    """What a wrap says of the other keys. ``epoch``: of its own login key, 0 for that of the users file.

    ``kin``: passwords before this one, and changes that were begun and not finished; their wraps go when all
    nodes have the newest login key. ``further``: keks of recovery keys. ``generation``: of the master key,
    counted from 1; ``turn``: to the next one.
    """

    epoch: int = 0
    kin: tuple[Kin, ...] = ()
    further: tuple[bytes, ...] = field(default=(), repr=False)
    generation: int = 1
    turn: Turn | None = None

    def __attrs_post_init__(self) -> None:
        if len(self.kin) > KIN_COUNT_MAX:
            raise ConfigError(
                "the password was changed too often while nodes were away",
                next_step="Start all nodes, run dfs status, then change it.",
            )
        if len(self.further) > FURTHER_COUNT_MAX:
            raise ConfigError(
                f"there are {FURTHER_COUNT_MAX} recovery sheets already",
                next_step="Make one that replaces them all: dfs key export --only.",
            )

    @property
    def newest_epoch(self) -> int:
        """The highest epoch that any change took so far."""
        return max((self.epoch, *(kin.epoch for kin in self.kin)))

    @property
    def former(self) -> tuple[Kin, ...]:
        """Those whose login keys nodes may still have, the newest first."""
        return tuple(sorted((kin for kin in self.kin if kin.seed), key=lambda kin: -kin.epoch))


_KEK = raw(SECRET_SIZE)
_KIN = record(Kin, uint(), _KEK, raw(0, SECRET_SIZE))
_RING = record(
    lambda _format, *fields: Ring(*fields),
    exactly(RING_FORMAT),
    uint(),
    items(_KIN, KIN_COUNT_MAX),
    items(_KEK, FURTHER_COUNT_MAX),
)
_TURN = record(
    Turn,
    lambda value: Stage(uint(Stage.REMOVING)(value)),
    uint((1 << 32) - 1),
    raw(MASTER_SIZE),
)
_TURNED_RING = record(
    lambda _format, epoch, kin, further, generation, turns: Ring(
        epoch, kin, further, generation, turns[0] if turns else None
    ),
    exactly(TURNED_RING_FORMAT),
    uint(),
    items(_KIN, KIN_COUNT_MAX),
    items(_KEK, FURTHER_COUNT_MAX),
    uint((1 << 32) - 1),
    items(_TURN, 1),
)
_RINGED = record(
    lambda _format, nonce, sealed, ring: (nonce, sealed, ring),
    exactly(RINGED_FORMAT),
    raw(WRAP_NONCE_SIZE),
    raw(MASTER_SIZE + _TAG_SIZE),
    raw_max(RINGED_SIZE_MAX),
)


def wrap_register(kek: bytes) -> RegisterKey:
    """Return where the wrap under a kek lies, unless it is the vault's first."""
    name = expand(kek, "wrap name")[: limits.NAME_ID_SIZE]
    return RegisterKey(WRAP_REGISTER.directory, NameId(name))


def seal_wrap(
    master: bytes, ring: Ring, kek: bytes, nonce: bytes, context: tuple[str, str, KdfParameters]
) -> bytes:
    """Return a wrap. ``nonce``: 12 fresh random bytes. ``context``: realm, user and derivation of the kek."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    bound = wrap_context(RINGED_FORMAT, *context)
    sealed_ring = AESGCMSIV(expand(master, "ring")).encrypt(nonce, encode_ring(ring), bound)
    sealed = AESGCMSIV(kek).encrypt(nonce, master, bound)
    return encoding.encode((RINGED_FORMAT, nonce, sealed, sealed_ring))


def open_wrapped(wrap: bytes, kek: bytes, context: tuple[str, str, KdfParameters]) -> tuple[bytes, Ring]:
    """Return the master key and the ring of a wrap of any format.

    Raises:
        IntegrityError: another password, realm, user or derivation made it, or it was altered.
    """
    if wrap[1:2] == bytes((WRAP_FORMAT,)) and len(wrap) <= WRAP_SIZE_MAX:
        return unwrap_master(wrap, kek, *context), Ring()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    nonce, sealed, sealed_ring = encoding.decode(
        wrap, _RINGED, what="a wrap", error=IntegrityError, size_max=RINGED_SIZE_MAX
    )
    bound = wrap_context(RINGED_FORMAT, *context)
    try:
        master: bytes = AESGCMSIV(kek).decrypt(nonce, sealed, bound)
        plain = AESGCMSIV(expand(master, "ring")).decrypt(nonce, sealed_ring, bound)
    except (InvalidTag, ValueError):
        raise IntegrityError("the vault's key does not open with this password") from None
    return master, decode_ring(plain)


def encode_ring(ring: Ring) -> bytes:
    """Return the canonical bytes of a ring: in the format of before where nothing was ever rotated."""
    if ring.generation == 1 and ring.turn is None:
        return encoding.encode((RING_FORMAT, ring.epoch, ring.kin, ring.further))
    turns = () if ring.turn is None else (ring.turn,)
    return encoding.encode((TURNED_RING_FORMAT, ring.epoch, ring.kin, ring.further, ring.generation, turns))


def decode_ring(encoded: bytes) -> Ring:
    """Return the ring of canonical bytes of any format.

    Raises:
        IntegrityError: they are none.
    """
    shape = _TURNED_RING if encoded[1:2] == bytes((TURNED_RING_FORMAT,)) else _RING
    ring: Ring = encoding.decode(
        encoded, shape, what="a ring", error=IntegrityError, size_max=RINGED_SIZE_MAX
    )
    if (
        not ring.generation or encode_ring(ring) != encoded
    ):  # the later format says nothing that the former one can
        raise IntegrityError("a ring in another format than its content has")
    return ring


def keys_of(kin: Kin) -> LoginKeys:
    """Return the login keys of a former password."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_key = Ed25519PrivateKey.from_private_bytes(kin.seed).public_key().public_bytes_raw()
    return LoginKeys(kin.seed, kin.kek, public_key)
