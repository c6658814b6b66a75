"""The key hierarchy against independent computations, and what a wrap opens for."""

import hashlib
import hmac
import threading

import pytest
from attrs import asdict
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, strategies as st

from dfs.core import keys, limits
from dfs.core.errors import ConfigError, IntegrityError
from dfs.core.keys import KEY_FILE, KdfParameters, VaultKeys
from dfs.core.types import Ballot, ChunkId, DirectoryId, Geometry, NameId, RegisterKey

MASTER = bytes(range(32))
VAULT = keys.vault_keys(MASTER)
KDF = KdfParameters()
NONCE = b"n" * 12
CHUNK = ChunkId(b"c" * 32)


def hkdf(secret: bytes, label: str) -> bytes:
    """RFC 5869 with SHA-256, no salt, one round: 32 bytes."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, b"dfs 1 " + label.encode() + b"\x01", hashlib.sha256).digest()


def short(text: str) -> bytes:
    """Msgpack of a text below 32 bytes."""
    return bytes((0xA0 | len(text.encode()),)) + text.encode()


def binary(raw: bytes) -> bytes:
    """Msgpack of bytes below 256."""
    return bytes((0xC4, len(raw))) + raw


# --- Derivation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["identity", "stripe", "chunk", "entry", "name", "floor", "confirm"])
def test_vault_keys_follow_from_the_master(label: str) -> None:
    assert getattr(VAULT, label) == hkdf(MASTER, label)


def test_no_key_serves_two_purposes() -> None:
    login = keys.login_keys(MASTER)
    assert len({*asdict(VAULT).values(), login.seed, login.kek, MASTER}) == 10


def test_login_keys_follow_from_the_secret() -> None:
    login = keys.login_keys(MASTER)
    assert (login.seed, login.kek) == (hkdf(MASTER, "login"), hkdf(MASTER, "kek"))
    assert (
        login.public_key == Ed25519PrivateKey.from_private_bytes(login.seed).public_key().public_bytes_raw()
    )


def test_secrets_do_not_show() -> None:
    shown = repr(VAULT) + repr(keys.login_keys(MASTER))
    for secret in (*asdict(VAULT).values(), keys.login_keys(MASTER).seed):
        assert repr(secret)[2:-1] not in shown


def test_a_password_is_salted_with_realm_and_user() -> None:
    assert KdfParameters(memory_size=64 * limits.MIB, passes=3, lanes=4) == KDF
    derived = {
        keys.password_secret(b"secret", "dfs", "alice", KDF),
        keys.password_secret(b"secret", "dfs", "bob", KDF),
        keys.password_secret(b"secret", "home", "alice", KDF),
        keys.password_secret(b"Secret", "dfs", "alice", KDF),
    }
    assert len(derived) == 4
    assert {len(secret) for secret in derived} == {keys.SECRET_SIZE}


def test_two_derivations_at_once_end() -> None:
    """They once hung for ever: OpenSSL has few threads for Argon2 and both waited for more."""
    threads = [
        threading.Thread(target=keys.password_secret, args=(b"x", "dfs", "alice", KDF), daemon=True)
        for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    "parameters",
    [
        (limits.KDF_MEMORY_MIN - 1, 3, 4),
        (limits.KDF_MEMORY_MAX + 1, 3, 4),
        (limits.KDF_MEMORY_MIN, 2, 4),
        (limits.KDF_MEMORY_MIN, 65, 4),
        (limits.KDF_MEMORY_MIN, 3, 0),
        (limits.KDF_MEMORY_MIN, 3, 65),
        (0, 0, 4),
        (0, 3, 0),
    ],
)
def test_weak_and_ruinous_derivations_are_refused(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        KdfParameters(*parameters)


# --- The wrap -----------------------------------------------------------------------------------------------


def wrap(kdf: KdfParameters = KDF) -> bytes:
    return keys.wrap_master(MASTER, VAULT.entry, NONCE, "dfs", "alice", kdf)


@pytest.mark.parametrize("kdf", [KDF, KEY_FILE])
def test_a_wrap_opens(kdf: KdfParameters) -> None:
    assert keys.unwrap_master(wrap(kdf), VAULT.entry, "dfs", "alice", kdf) == MASTER
    assert len(wrap(kdf)) <= keys.WRAP_SIZE_MAX


@pytest.mark.parametrize(
    ("kek", "realm", "user", "kdf"),
    [
        (VAULT.name, "dfs", "alice", KDF),
        (VAULT.entry, "home", "alice", KDF),
        (VAULT.entry, "dfs", "bob", KDF),
        (VAULT.entry, "dfs", "alice", KdfParameters(passes=4)),
        (VAULT.entry, "dfs", "alice", KEY_FILE),
    ],
)
def test_a_wrap_opens_for_nothing_else(kek: bytes, realm: str, user: str, kdf: KdfParameters) -> None:
    with pytest.raises(IntegrityError):
        keys.unwrap_master(wrap(), kek, realm, user, kdf)


def test_a_changed_wrap_does_not_open() -> None:
    for place in range(len(wrap())):
        changed = bytearray(wrap())
        changed[place] ^= 0x40
        with pytest.raises(IntegrityError):
            keys.unwrap_master(bytes(changed), VAULT.entry, "dfs", "alice", KDF)


@given(st.binary(max_size=300))
def test_anything_else_is_no_wrap(encoded: bytes) -> None:
    with pytest.raises(IntegrityError):
        keys.unwrap_master(encoded, VAULT.entry, "dfs", "alice", KDF)


# --- Names --------------------------------------------------------------------------------------------------


def test_chunk_ids_cover_codec_and_packed_bytes() -> None:
    packed = b"packed bytes"
    expected = blake3(b"\x01" + packed, key=VAULT.identity).digest()
    assert keys.chunk_id(VAULT, 1, packed) == keys.chunk_id(VAULT, 1, memoryview(packed)) == expected
    assert keys.chunk_id(VAULT, 0, packed) != expected
    assert keys.chunk_id(VAULT, 0, b"\x01" + packed) != expected


def test_stripe_ids_cover_the_whole_setting() -> None:
    inputs = b"\x95" + binary(CHUNK) + short("aes-gcm@1") + short("reed-solomon@1") + b"\x02\x04"
    expected = blake3(inputs, key=VAULT.stripe).digest()
    assert keys.stripe_id(VAULT, CHUNK, "aes-gcm@1", "reed-solomon@1", Geometry(2, 4)) == expected
    ids = {
        keys.stripe_id(VAULT, chunk, cipher, code, Geometry(*geometry))
        for chunk in (CHUNK, ChunkId(b"d" * 32))
        for cipher in ("aes-gcm@1", "aes-gcm@2")
        for code in ("reed-solomon@1", "split@1")
        for geometry in ((2, 4), (2, 5), (1, 4))
    }
    assert len(ids) == 24


def test_chunk_keys_cover_chunk_and_cipher_only() -> None:
    """The same bytes under another code need no other key: it seals the same string."""
    inputs = b"\x92" + binary(CHUNK) + short("aes-gcm@1")
    assert keys.chunk_key(VAULT, CHUNK, "aes-gcm@1", 48) == blake3(inputs, key=VAULT.chunk).digest(48)
    assert keys.chunk_key(VAULT, CHUNK, "aes-gcm@2", 32) != keys.chunk_key(VAULT, CHUNK, "aes-gcm@1", 32)


@pytest.mark.parametrize(
    ("path", "parent", "name"), [("a", "", "a"), ("a/b/ü", "a/b", "ü"), ("a/b", "a", "b")]
)
def test_registers_hide_folder_and_name(path: str, parent: str, name: str) -> None:
    directory = blake3(b"\x01" + parent.encode(), key=VAULT.name).digest(16)
    name_id = blake3(b"\x02" + directory + name.encode(), key=VAULT.name).digest(16)
    assert keys.directory_id(VAULT, parent) == directory
    assert keys.register_key(VAULT, path) == RegisterKey(DirectoryId(directory), NameId(name_id))


@given(st.lists(st.text("ab/", max_size=6).map(lambda path: path.strip("/")), unique=True))
def test_no_two_paths_share_a_register(paths: list[str]) -> None:
    named = [path for path in paths if path]
    assert len({keys.register_key(VAULT, path) for path in named}) == len(named)


def test_the_wrap_register_is_no_paths() -> None:
    zero = bytes(16)
    assert RegisterKey(DirectoryId(zero), NameId(zero)) == keys.WRAP_REGISTER
    assert keys.register_key(VAULT, "a").directory != zero


def test_a_confirm_tag_covers_register_ballot_and_digest() -> None:
    register = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16))
    ballot, digest = Ballot(b"b" * 24), b"x" * 32
    inputs = b"\x94" + binary(b"d" * 16) + binary(b"n" * 16) + binary(ballot) + binary(digest)
    tag = keys.confirm_tag(VAULT, register, ballot, digest)
    assert tag == blake3(inputs, key=VAULT.confirm).digest()
    others = {
        keys.confirm_tag(VAULT, RegisterKey(DirectoryId(b"e" * 16), register.name), ballot, digest),
        keys.confirm_tag(VAULT, RegisterKey(register.directory, NameId(b"m" * 16)), ballot, digest),
        keys.confirm_tag(VAULT, register, Ballot(b"c" * 24), digest),
        keys.confirm_tag(VAULT, register, ballot, b"y" * 32),
        keys.confirm_tag(keys.vault_keys(bytes(32)), register, ballot, digest),
    }
    assert len(others | {tag}) == 6


def test_another_vault_has_other_names_for_the_same_things() -> None:
    other: VaultKeys = keys.vault_keys(bytes(32))
    assert keys.chunk_id(other, 0, b"x") != keys.chunk_id(VAULT, 0, b"x")
    assert keys.register_key(other, "a") != keys.register_key(VAULT, "a")
