"""The key hierarchy: password or key file -> login seed and key-encryption key; master key -> all others.

No clock, no entropy: random bytes are arguments. Sources: Argon2id RFC 9106, HKDF RFC 5869, AES-GCM-SIV
RFC 8452, BLAKE3 keyed mode and extendable output. Exact inputs are in docs/formats.md.
"""

import threading

from blake3 import blake3

from dfs.core import encoding, limits
from dfs.core.encoding import exactly, raw, record
from dfs.core.errors import ConfigError, IntegrityError
from dfs.core.records import field, frozen
from dfs.core.types import (
    Ballot,
    Buffer,
    ChunkId,
    DirectoryId,
    Geometry,
    NameId,
    RegisterKey,
    StripeId,
)

SECRET_SIZE = 32
MASTER_SIZE = 32
WRAP_FORMAT = 1
WRAP_NONCE_SIZE = 12
WRAP_SIZE_MAX = 256
ROOT_PATH = ""
# Two derivations at once hang for ever: OpenSSL shares its few Argon2 threads out, and both wait for more.
_DERIVING = threading.Lock()
WRAP_REGISTER = RegisterKey(DirectoryId(bytes(limits.DIRECTORY_ID_SIZE)), NameId(bytes(limits.NAME_ID_SIZE)))


@frozen
class KdfParameters:
    """Cost of Argon2id: ``memory_size`` in bytes; all zero = a random key file, no derivation."""

    memory_size: int = limits.KDF_MEMORY_MIN
    passes: int = limits.KDF_PASSES_MIN
    lanes: int = 4

    def __attrs_post_init__(self) -> None:
        if self.memory_size == self.passes == self.lanes == 0:
            return
        if not limits.KDF_MEMORY_MIN <= self.memory_size <= limits.KDF_MEMORY_MAX:
            raise ConfigError(
                f"kdf memory lies between {limits.KDF_MEMORY_MIN} and {limits.KDF_MEMORY_MAX} bytes"
            )
        if not limits.KDF_PASSES_MIN <= self.passes <= limits.KDF_PASSES_MAX:
            raise ConfigError(f"kdf passes lie between {limits.KDF_PASSES_MIN} and {limits.KDF_PASSES_MAX}")
        if not limits.KDF_LANES_MIN <= self.lanes <= limits.KDF_LANES_MAX:
            raise ConfigError(f"kdf lanes lie between {limits.KDF_LANES_MIN} and {limits.KDF_LANES_MAX}")


KEY_FILE = KdfParameters(0, 0, 0)


@frozen
class LoginKeys:
    """What the password (or key file) gives: the seed of the Ed25519 login key and the key-encryption key."""

    seed: bytes = field(repr=False)
    kek: bytes = field(repr=False)
    public_key: bytes


@frozen
class VaultKeys:
    """What the master key gives; each a 32-byte key used for one purpose."""

    identity: bytes = field(repr=False)  # names chunks
    stripe: bytes = field(repr=False)  # names stripes
    chunk: bytes = field(repr=False)  # derives one key a chunk
    entry: bytes = field(repr=False)  # seals entries
    name: bytes = field(repr=False)  # hides paths
    floor: bytes = field(repr=False)  # authenticates what the client remembers locally
    confirm: bytes = field(repr=False)  # tags confirmations


def password_secret(password: bytes, realm: str, user: str, kdf: KdfParameters) -> bytes:
    """Return the 32-byte secret of a password: Argon2id, salted with a hash of realm and user."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    salt = blake3(encoding.encode((realm, user)), derive_key_context="dfs 1 password salt").digest(16)
    derive = Argon2id(
        salt=salt,
        length=SECRET_SIZE,
        iterations=kdf.passes,
        lanes=kdf.lanes,
        memory_cost=kdf.memory_size // limits.KIB,
    )
    with _DERIVING:
        secret: bytes = derive.derive(password)
    return secret


def expand(secret: bytes, label: str) -> bytes:
    """Return the 32-byte key of a secret for one purpose."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key: bytes = HKDF(SHA256(), 32, salt=None, info=b"dfs 1 " + label.encode()).derive(secret)
    return key


def login_keys(secret: bytes) -> LoginKeys:
    """Return the login seed, its public key and the kek of a 32-byte secret."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = expand(secret, "login")
    public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return LoginKeys(seed, expand(secret, "kek"), public_key)


def vault_keys(master: bytes) -> VaultKeys:
    """Return the keys of a vault from its master key."""
    labels = ("identity", "stripe", "chunk", "entry", "name", "floor", "confirm")
    return VaultKeys(*(expand(master, label) for label in labels))


# --- The wrap: the master key sealed under the kek --------------------------------------------------------


def wrap_context(wrap_format: int, realm: str, user: str, kdf: KdfParameters) -> bytes:
    """Return what a wrap is bound to besides its key."""
    return encoding.encode(("dfs 1 wrap", wrap_format, realm, user, kdf.memory_size, kdf.passes, kdf.lanes))


def wrap_master(master: bytes, kek: bytes, nonce: bytes, realm: str, user: str, kdf: KdfParameters) -> bytes:
    """Return the wrap of a master key; ``nonce``: 12 fresh random bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    sealed = AESGCMSIV(kek).encrypt(nonce, master, wrap_context(WRAP_FORMAT, realm, user, kdf))
    return encoding.encode((WRAP_FORMAT, nonce, sealed))


def unwrap_master(wrap: bytes, kek: bytes, realm: str, user: str, kdf: KdfParameters) -> bytes:
    """Return the master key of a wrap.

    Raises:
        IntegrityError: another password, realm or user made it, or it was altered.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    nonce, sealed = encoding.decode(wrap, _WRAP, what="a wrap", error=IntegrityError, size_max=WRAP_SIZE_MAX)
    try:
        master: bytes = AESGCMSIV(kek).decrypt(nonce, sealed, wrap_context(WRAP_FORMAT, realm, user, kdf))
    except InvalidTag:
        raise IntegrityError("the vault's key does not open with this password") from None
    return master


def _wrap(_format: int, nonce: bytes, sealed: bytes) -> tuple[bytes, bytes]:
    return nonce, sealed


_WRAP = record(_wrap, exactly(WRAP_FORMAT), raw(WRAP_NONCE_SIZE), raw(MASTER_SIZE + 16))


# --- Names ------------------------------------------------------------------------------------------------


def chunk_id(keys: VaultKeys, codec: int, packed: Buffer) -> ChunkId:
    """Return the name of a packed chunk: keyed BLAKE3 over the codec byte and the packed bytes."""
    return ChunkId(blake3(bytes((codec,)), key=keys.identity).update(packed).digest())


def stripe_id(keys: VaultKeys, chunk: ChunkId, cipher: str, code: str, geometry: Geometry) -> StripeId:
    """Return the name of a stripe; ``cipher`` and ``code`` as ``name@format``."""
    inputs = encoding.encode((chunk, cipher, code, geometry.needed, geometry.total))
    return StripeId(blake3(inputs, key=keys.stripe).digest())


def chunk_key(keys: VaultKeys, chunk: ChunkId, cipher: str, size: int) -> bytes:
    """Return the key of one chunk under one cipher (``name@format``), ``size`` bytes."""
    return blake3(encoding.encode((chunk, cipher)), key=keys.chunk).digest(size)


def directory_id(keys: VaultKeys, path: str) -> DirectoryId:
    """Return the id of a folder from its canonical path; the root is ""."""
    return DirectoryId(blake3(b"\x01" + path.encode(), key=keys.name).digest(limits.DIRECTORY_ID_SIZE))


def register_key(keys: VaultKeys, path: str) -> RegisterKey:
    """Return the register of a canonical path (not the root)."""
    parent, _, name = path.rpartition("/")
    directory = directory_id(keys, parent)
    name_id = blake3(b"\x02" + directory + name.encode(), key=keys.name).digest(limits.NAME_ID_SIZE)
    return RegisterKey(directory, NameId(name_id))


def confirm_tag(keys: VaultKeys, register: RegisterKey, ballot: Ballot, digest: bytes) -> bytes:
    """Return the tag that proves to readers that this ballot was chosen."""
    inputs = encoding.encode((register.directory, register.name, ballot, digest))
    return blake3(inputs, key=keys.confirm).digest()
