"""Who watches that no key ever seals two different things under one nonce, wherever in a process it happens.

For tests: the ciphers of the library are watched, so chunks, entries and wraps are, whoever seals them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from attrs import define, field
from blake3 import blake3

from dfs.core.interface import Buffer

CIPHERS: Final = ("AESGCM", "AESGCMSIV", "ChaCha20Poly1305")


@define(eq=False)
class Sealings:
    """What was sealed, by cipher, key and nonce. ``repeated``: ciphers that sealed two different things."""

    sealed: dict[tuple[str, bytes, bytes], bytes] = field(factory=dict, repr=False)
    repeated: list[str] = field(factory=list)
    _lock: threading.Lock = field(factory=threading.Lock, repr=False)

    def saw(self, cipher: str, key: bytes, nonce: Buffer, plain: Buffer, context: Buffer | None) -> None:
        """Take note of a sealing; the same once more is no second thing."""
        bound = bytes(context or b"")
        digest = blake3(len(bound).to_bytes(8, "big") + bound).update(plain).digest()
        with self._lock:
            if self.sealed.setdefault((cipher, bytes(key), bytes(nonce)), digest) != digest:
                self.repeated.append(cipher)

    def count(self, cipher: str) -> int:
        """Return how many pairs of key and nonce a cipher has used."""
        return sum(1 for used, _, _ in self.sealed if used == cipher)


class _Watched:
    """A cipher object of the library whose sealing is watched."""

    def __init__(self, real: Any, name: str, key: bytes, sealings: Sealings) -> None:  # noqa: ANN401
        self._real = real
        self._name = name
        self._key = bytes(key)
        self._sealings = sealings

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - opening is the real one's
        return getattr(self._real, name)

    def encrypt(self, nonce: Buffer, plain: Buffer, context: Buffer | None) -> bytes:
        self._sealings.saw(self._name, self._key, nonce, plain, context)
        sealed: bytes = self._real.encrypt(nonce, plain, context)
        return sealed

    def encrypt_into(self, nonce: Buffer, plain: Buffer, context: Buffer | None, target: Buffer) -> int:
        self._sealings.saw(self._name, self._key, nonce, plain, context)
        size: int = self._real.encrypt_into(nonce, plain, context, target)
        return size


@contextmanager
def watched() -> Iterator[Sealings]:
    """Watch all sealing in this process while the context is open.

    Ciphers that were made before are not seen; dfs makes one for each chunk and entry.
    """
    from cryptography.hazmat.primitives.ciphers import aead

    sealings = Sealings()
    real = {name: getattr(aead, name) for name in CIPHERS}

    def maker(name: str) -> Any:  # noqa: ANN401
        return lambda key: _Watched(real[name](key), name, key, sealings)

    for name in CIPHERS:
        setattr(aead, name, maker(name))
    try:
        yield sealings
    finally:
        for name in CIPHERS:
            setattr(aead, name, real[name])
