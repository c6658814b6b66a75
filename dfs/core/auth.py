"""The login proof: what the client signs and how a node checks it. Source: Ed25519, RFC 8032.

The signature covers realm, user, node id, both nonces and the hash of the node's certificate, so it is worth
nothing at another node, in another session or behind another certificate.
"""

from dfs.core import encoding
from dfs.core.types import NodeId


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
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    statement = _statement(realm, user, node_id, client_nonce, node_nonce, channel_binding)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, statement)
    except InvalidSignature:
        return False
    return True
