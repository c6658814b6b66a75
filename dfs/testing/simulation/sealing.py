"""Who watches that one key never seals two different things."""

from attrs import define, field
from blake3 import blake3

from dfs.core.interface import Buffer, Cipher
from dfs.testing.simulation.world import World


@define(eq=False)
class Witness:
    """What each key has sealed so far; a chunk key has one constant nonce, an entry brings its own."""

    world: World
    sealed: dict[bytes, bytes] = field(factory=dict)

    def saw(self, key: bytes, plain: Buffer) -> None:
        """Take note that a key (with its nonce) seals these bytes."""
        digest = blake3(plain).digest()
        if self.sealed.setdefault(key, digest) != digest:
            self.world.violate("one key and nonce sealed two different things")


@define(eq=False)
class Watching:
    """A cipher whose sealing is watched (interface.Cipher)."""

    _cipher: Cipher
    _witness: Witness

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self._cipher.key_size

    @property
    def overhead_size(self) -> int:
        """Bytes that sealing adds."""
        return self._cipher.overhead_size

    @property
    def authenticated(self) -> bool:
        """Whether opening notices every changed bit."""
        return self._cipher.authenticated

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Seal, and tell the witness."""
        self._witness.saw(key + context, source)
        self._cipher.seal_into(key, context, source, target)

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Open."""
        self._cipher.open_into(key, context, source, target)
