"""The login proof: right only for the very statement that was signed."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dfs.core.auth import sign_login, verify_login
from dfs.core.keys import login_keys
from dfs.core.types import NodeId

KEYS = login_keys(bytes(range(32)))
STATEMENT: dict[str, Any] = {
    "realm": "dfs",
    "user": "alice",
    "node_id": NodeId(b"n" * 16),
    "client_nonce": b"c" * 32,
    "node_nonce": b"s" * 32,
    "channel_binding": b"b" * 32,
}


def test_the_proof_is_right() -> None:
    signature = sign_login(KEYS.seed, **STATEMENT)
    assert len(signature) == 64
    assert verify_login(KEYS.public_key, signature, **STATEMENT)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("realm", "home"),
        ("user", "bob"),
        ("node_id", NodeId(b"m" * 16)),
        ("client_nonce", b"d" * 32),
        ("node_nonce", b"t" * 32),
        ("channel_binding", b"x" * 32),
        ("channel_binding", b""),
    ],
)
def test_every_part_is_signed(part: str, other: str | bytes) -> None:
    signature = sign_login(KEYS.seed, **STATEMENT)
    assert not verify_login(KEYS.public_key, signature, **{**STATEMENT, part: other})


def test_parts_cannot_flow_into_each_other() -> None:
    signature = sign_login(KEYS.seed, **{**STATEMENT, "realm": "ab", "user": "c"})
    assert not verify_login(KEYS.public_key, signature, **{**STATEMENT, "realm": "a", "user": "bc"})


def test_another_key_or_a_changed_signature_is_wrong() -> None:
    signature = sign_login(KEYS.seed, **STATEMENT)
    other = login_keys(bytes(32))
    assert not verify_login(other.public_key, signature, **STATEMENT)
    for place in (0, 31, 32, 63):
        changed = bytearray(signature)
        changed[place] ^= 1
        assert not verify_login(KEYS.public_key, bytes(changed), **STATEMENT)


def test_the_statement_is_what_the_format_page_says() -> None:
    """Signed over the bytes as docs/formats.md puts them together, by hand."""
    strings = b"\xab" + b"dfs 1 login" + b"\xa3dfs" + b"\xa5alice"
    raw = (
        b"\xc4\x10" + b"n" * 16 + b"\xc4\x20" + b"c" * 32 + b"\xc4\x20" + b"s" * 32 + b"\xc4\x20" + b"b" * 32
    )
    expected = Ed25519PrivateKey.from_private_bytes(KEYS.seed).sign(b"\x97" + strings + raw)
    assert sign_login(KEYS.seed, **STATEMENT) == expected
