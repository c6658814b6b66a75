"""The login proof: what the client signs and how a node checks it. Source: Ed25519, RFC 8032.

The signature covers realm, user, node id, both nonces and the hash of the node's certificate, so it is worth
nothing at another node, in another session or behind another certificate.

A login key is changed by its owner: the old key signs the new one, and the node keeps what was signed.
"""

from typing import Final

from dfs.core import encoding
from dfs.core.encoding import exactly, raw, record, uint
from dfs.core.errors import StoreError
from dfs.core.records import frozen
from dfs.core.types import NodeId

KEY_SIZE: Final = 32
KEYS_IN_FORCE_MAX: Final = 2  # of a user: the newest one and, until it is used, the one before
REKEYED_FORMAT: Final = 1
REKEYED_SIZE_MAX: Final = 256


def _statement(
    realm: str, user: str, node_id: NodeId, client_nonce: bytes, node_nonce: bytes, channel_binding: bytes
) -> bytes:
    return encoding.encode(("dfs 1 login", realm, user, node_id, client_nonce, node_nonce, channel_binding))


def sign_login(
    seed: bytes,
    *,
    realm: str,
    user: str,
    node_id: NodeId,
    client_nonce: bytes,
    node_nonce: bytes,
    channel_binding: bytes,
) -> bytes:
    """Return the 64-byte signature; ``channel_binding`` b"" on a transport without certificates."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    statement = _statement(realm, user, node_id, client_nonce, node_nonce, channel_binding)
    return Ed25519PrivateKey.from_private_bytes(seed).sign(statement)


def verify_login(
    public_key: bytes,
    signature: bytes,
    *,
    realm: str,
    user: str,
    node_id: NodeId,
    client_nonce: bytes,
    node_nonce: bytes,
    channel_binding: bytes,
) -> bool:
    """Return whether the signature is right."""
    statement = _statement(realm, user, node_id, client_nonce, node_nonce, channel_binding)
    return _verified(public_key, signature, statement)


def _verified(public_key: bytes, signature: bytes, statement: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, statement)
    except InvalidSignature:
        return False
    return True


# --- Login keys that their owner changed ------------------------------------------------------------------


def _change(realm: str, user: str, node_id: NodeId, old: bytes, new: bytes, epoch: int) -> bytes:
    return encoding.encode(("dfs 1 rekey", realm, user, node_id, old, new, epoch))


def sign_rekey(
    seed: bytes, *, realm: str, user: str, node_id: NodeId, old: bytes, new: bytes, epoch: int
) -> bytes:
    """Return the 64-byte signature of the key ``old`` (public), whose seed this is, under the key ``new``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    statement = _change(realm, user, node_id, old, new, epoch)
    return Ed25519PrivateKey.from_private_bytes(seed).sign(statement)


def verify_rekey(
    signature: bytes, *, realm: str, user: str, node_id: NodeId, old: bytes, new: bytes, epoch: int
) -> bool:
    """Return whether ``old`` signed this change."""
    return _verified(old, signature, _change(realm, user, node_id, old, new, epoch))


@frozen
class Rekeyed:
    """A login key that takes the place of that in the users file, for as long as the file says ``line``.

    ``former``: the key before, good until the first login with the new one; b"" from then on.
    """

    line: bytes
    epoch: int
    public_key: bytes
    former: bytes


_KEY = raw(KEY_SIZE)
_REKEYED = record(
    lambda _format, *fields: Rekeyed(*fields), exactly(REKEYED_FORMAT), _KEY, uint(), _KEY, raw(0, KEY_SIZE)
)


def encode_rekeyed(rekeyed: Rekeyed) -> bytes:
    """Return what a node keeps of a changed key."""
    return encoding.encode((REKEYED_FORMAT, rekeyed.line, rekeyed.epoch, rekeyed.public_key, rekeyed.former))


def decode_rekeyed(encoded: bytes) -> Rekeyed:
    """Return a changed key. Raises: StoreError: the bytes are none."""
    rekeyed: Rekeyed = encoding.decode(
        encoded, _REKEYED, what="a login key", error=StoreError, size_max=REKEYED_SIZE_MAX
    )
    return rekeyed


def keys_in_force(line: bytes, rekeyed: Rekeyed | None) -> tuple[bytes, ...]:
    """Return the login keys of a user with this key in the users file, the newest first."""
    if rekeyed is None or rekeyed.line != line:
        return (line,)
    return (rekeyed.public_key, rekeyed.former) if rekeyed.former else (rekeyed.public_key,)
