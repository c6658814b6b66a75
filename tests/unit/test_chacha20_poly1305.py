"""The cipher chacha20-poly1305: frozen bytes, exact sizes, no change passes, only the target is written."""

import pytest
from hypothesis import given, strategies as st

from dfs.core.api import Cipher, IntegrityError, Options, UnknownKeyError
from dfs.plugins import chacha20_poly1305

KEY = bytes(range(32))
CONTEXT = b"dfs context"


@pytest.fixture(name="cipher", scope="module")
def make_cipher() -> Cipher:
    return chacha20_poly1305.make(Options())


def seal(cipher: Cipher, plain: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    sealed = bytearray(len(plain) + cipher.overhead_size)
    cipher.seal_into(key, context, plain, memoryview(sealed))
    return bytes(sealed)


# Both pin the bytes of format version 1.
@pytest.mark.parametrize(
    ("key", "context", "plain", "sealed"),
    [
        (bytes(32), b"", bytes(16), "9f07e7be5551387a98ba977c732d080dc34a88047320f52aa2c6683ef8084d2f"),
        (
            KEY,
            CONTEXT,
            b"a chunk of plain bytes",
            "79982159d888cdf17c077c11c3222749d8d38a8184de61a5fd5c6f921f89b3ceac13dbd6ab52",
        ),
    ],
)
def test_bytes_are_frozen(cipher: Cipher, key: bytes, context: bytes, plain: bytes, sealed: str) -> None:
    assert seal(cipher, plain, key, context) == bytes.fromhex(sealed)
    opened = bytearray(len(plain))
    cipher.open_into(key, context, bytes.fromhex(sealed), memoryview(opened))
    assert opened == plain


@given(st.binary(max_size=300), st.integers(0, 7))
def test_round_trip_at_odd_offsets_writes_only_the_target(plain: bytes, offset: int) -> None:
    cipher = chacha20_poly1305.make(Options())
    sealed = bytearray(b"\xa5" * (offset + len(plain) + 16 + 8))
    room = memoryview(sealed)[offset : offset + len(plain) + 16]
    source = memoryview(b"." * offset + plain)[offset:]  # a read-only slice
    cipher.seal_into(KEY, CONTEXT, source, room)
    assert sealed[:offset] == b"\xa5" * offset
    assert sealed[-8:] == b"\xa5" * 8
    opened = bytearray(b"\x5a" * (offset + len(plain) + 8))
    cipher.open_into(KEY, CONTEXT, room.toreadonly(), memoryview(opened)[offset : offset + len(plain)])
    assert opened == b"\x5a" * offset + plain + b"\x5a" * 8


def test_every_changed_bit_is_refused(cipher: Cipher) -> None:
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
def test_another_key_or_context_is_refused(cipher: Cipher, key: bytes, context: bytes) -> None:
    with pytest.raises(IntegrityError):
        cipher.open_into(key, context, seal(cipher, b"text"), memoryview(bytearray(4)))


@pytest.mark.parametrize("size", [0, 15, 19, 21])
def test_a_target_of_another_size_is_refused(cipher: Cipher, size: int) -> None:
    with pytest.raises(ValueError):
        cipher.seal_into(KEY, CONTEXT, b"text", memoryview(bytearray(size)))
    with pytest.raises(ValueError):
        cipher.open_into(KEY, CONTEXT, bytes(size), memoryview(bytearray(4)))


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_key_of_another_size_is_refused(cipher: Cipher, size: int) -> None:
    with pytest.raises(ValueError):
        cipher.seal_into(bytes(size), CONTEXT, b"text", memoryview(bytearray(20)))
    with pytest.raises(ValueError):
        cipher.open_into(bytes(size), CONTEXT, bytes(20), memoryview(bytearray(4)))


def test_declaration() -> None:
    (plugin,) = chacha20_poly1305.dfs_ciphers()
    cipher = plugin.make(Options())
    assert (plugin.name, plugin.format_version) == ("chacha20-poly1305", 1)
    assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 16, True)
    with pytest.raises(UnknownKeyError, match="chacha20-poly1305 has no option 'nonce'"):
        plugin.make(Options(values={"nonce": "1"}))
