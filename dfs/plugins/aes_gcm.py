"""The cipher `aes-gcm`: AES-256 in Galois/counter mode (NIST SP 800-38D), the default.

The nonce is constant. That is safe only because each key seals exactly one byte string: the core derives the
key from the name of the bytes it seals (docs/formats.md).
"""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import Buffer, Cipher, CipherPlugin, IntegrityError, Options, UnknownKeyError, hookimpl

DFS_API_VERSION: Final = 1
NAME: Final = "aes-gcm"
KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
NONCE: Final = bytes(12)


class AesGcm:
    """AES-256-GCM straight into the caller's buffers; the tag stands behind the bytes."""

    key_size = KEY_SIZE
    overhead_size = TAG_SIZE
    authenticated = True

    def __init__(self) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead: Final = AESGCM
        self._invalid: Final = InvalidTag

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Seal ``source`` and append its tag."""
        _check_sizes(key, plain=source, sealed=target)
        self._aead(key).encrypt_into(NONCE, source, context, target)

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Open ``source`` if its tag is right."""
        _check_sizes(key, plain=target, sealed=source)
        try:
            self._aead(key).decrypt_into(NONCE, source, context, target)
        except self._invalid as error:
            raise IntegrityError("sealed bytes fail their AES-GCM tag") from error


def _check_sizes(key: bytes, *, plain: Buffer, sealed: Buffer) -> None:
    # AESGCM would take 16-byte keys too and so quietly become another cipher.
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key of {NAME} has {KEY_SIZE} bytes, not {len(key)}")
    if len(sealed) != len(plain) + TAG_SIZE:
        raise ValueError(f"{len(plain)} plain bytes make {len(plain) + TAG_SIZE} sealed, not {len(sealed)}")


def make(options: Options) -> Cipher:
    """Make the cipher; it has no options."""
    for key in options.values:
        raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has none")
    return AesGcm()


@hookimpl
def dfs_ciphers() -> Iterable[CipherPlugin]:
    """Declare aes-gcm."""
    return (CipherPlugin(name=NAME, summary="AES-256-GCM, the default", make=make),)
