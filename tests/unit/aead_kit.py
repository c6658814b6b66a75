"""Authenticated ciphers, all alike: frozen bytes, exact sizes, no change passes, only the target is written.

The tests of a cipher are a class derived from `AeadSuite` that names the plugin and its frozen bytes.
"""

from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dfs.core.api import Cipher, CipherPlugin, IntegrityError, Options, UnknownKeyError

KEY = bytes(range(32))
CONTEXT = b"dfs context"
CHUNK = b"a chunk of plain bytes"


def seal(cipher: Cipher, plain: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    sealed = bytearray(len(plain) + cipher.overhead_size)
    cipher.seal_into(key, context, plain, memoryview(sealed))
    return bytes(sealed)


class AeadSuite:
    plugin: ClassVar[CipherPlugin]
    name: ClassVar[str]
    sealed_zeros: ClassVar[str]  # 16 zeros under a key of zeros and no context, in hex
    sealed_chunk: ClassVar[str]  # CHUNK under KEY and CONTEXT, in hex

    @pytest.fixture(name="cipher")
    def make_cipher(self) -> Cipher:
        return self.plugin.make(Options())

    @pytest.mark.parametrize(
        ("key", "context", "plain", "frozen"),
        [(bytes(32), b"", bytes(16), "sealed_zeros"), (KEY, CONTEXT, CHUNK, "sealed_chunk")],
    )
    def test_bytes_are_frozen(
        self, cipher: Cipher, key: bytes, context: bytes, plain: bytes, frozen: str
    ) -> None:
        sealed = bytes.fromhex(getattr(self, frozen))
        assert seal(cipher, plain, key, context) == sealed
        opened = bytearray(len(plain))
        cipher.open_into(key, context, sealed, memoryview(opened))
        assert opened == plain

    @settings(suppress_health_check=[HealthCheck.differing_executors])  # one class per cipher
    @given(st.binary(max_size=300), st.integers(0, 7))
    def test_round_trip_at_odd_offsets_writes_only_the_target(self, plain: bytes, offset: int) -> None:
        cipher = self.plugin.make(Options())
        sealed = bytearray(b"\xa5" * (offset + len(plain) + 16 + 8))
        room = memoryview(sealed)[offset : offset + len(plain) + 16]
        source = memoryview(b"." * offset + plain)[offset:]  # a read-only slice
        cipher.seal_into(KEY, CONTEXT, source, room)
        assert sealed[:offset] == b"\xa5" * offset
        assert sealed[-8:] == b"\xa5" * 8
        opened = bytearray(b"\x5a" * (offset + len(plain) + 8))
        cipher.open_into(KEY, CONTEXT, room.toreadonly(), memoryview(opened)[offset : offset + len(plain)])
        assert opened == b"\x5a" * offset + plain + b"\x5a" * 8

    def test_every_changed_bit_is_refused(self, cipher: Cipher) -> None:
        plain = b"seventeen bytes.."
        sealed = seal(cipher, plain)
        room = memoryview(bytearray(len(plain)))
        for bit in range(8 * len(sealed)):
            changed = bytearray(sealed)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(IntegrityError):
                cipher.open_into(KEY, CONTEXT, changed, room)

    @pytest.mark.parametrize(
        ("key", "context"), [(KEY[::-1], CONTEXT), (KEY, b""), (KEY, CONTEXT + b"\0"), (KEY, b"dfs contexT")]
    )
    def test_another_key_or_context_is_refused(self, cipher: Cipher, key: bytes, context: bytes) -> None:
        with pytest.raises(IntegrityError):
            cipher.open_into(key, context, seal(cipher, b"text"), memoryview(bytearray(4)))

    @pytest.mark.parametrize("size", [0, 15, 19, 21])
    def test_a_target_of_another_size_is_refused(self, cipher: Cipher, size: int) -> None:
        with pytest.raises(ValueError):
            cipher.seal_into(KEY, CONTEXT, b"text", memoryview(bytearray(size)))
        with pytest.raises(ValueError):
            cipher.open_into(KEY, CONTEXT, bytes(size), memoryview(bytearray(4)))

    @pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
    def test_a_key_of_another_size_is_refused(self, cipher: Cipher, size: int) -> None:
        with pytest.raises(ValueError):
            cipher.seal_into(bytes(size), CONTEXT, b"text", memoryview(bytearray(20)))
        with pytest.raises(ValueError):
            cipher.open_into(bytes(size), CONTEXT, bytes(20), memoryview(bytearray(4)))

    def test_declaration(self, cipher: Cipher) -> None:
        assert (self.plugin.name, self.plugin.format_version) == (self.name, 1)
        assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 16, True)
        with pytest.raises(UnknownKeyError, match=f"{self.name} has no option 'nonce'"):
            self.plugin.make(Options(values={"nonce": "1"}))
