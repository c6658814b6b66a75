"""The cipher aes-gcm: frozen bytes, exact sizes, no change passes, only the target is written."""

import pytest
from hypothesis import given, strategies as st

from dfs.core.api import Cipher, IntegrityError, Options, UnknownKeyError
from dfs.plugins import aes_gcm

KEY = bytes(range(32))
CONTEXT = b"dfs context"


@pytest.fixture(name="cipher", scope="module")
def make_cipher() -> Cipher:
    return aes_gcm.make(Options())


def seal(cipher: Cipher, plain: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    sealed = bytearray(len(plain) + cipher.overhead_size)
    cipher.seal_into(key, context, plain, memoryview(sealed))
    return bytes(sealed)


# The first is test case 14 of the GCM specification; the second pins the bytes of format version 1.
@pytest.mark.parametrize(
    ("key", "context", "plain", "sealed"),
    [
        (bytes(32), b"", bytes(16), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
        (
            KEY,
            CONTEXT,
            b"a chunk of plain bytes",
            "6f9cd6b6c042e89d67ce8945744df8f7f2212f274df2eb857d9a3502e5d31de771107c5adf02",
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
    cipher = aes_gcm.make(Options())
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
    (plugin,) = aes_gcm.dfs_ciphers()
    cipher = plugin.make(Options())
    assert (plugin.name, plugin.format_version) == ("aes-gcm", 1)
    assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 16, True)
    with pytest.raises(UnknownKeyError, match="aes-gcm has no option 'nonce'"):
        plugin.make(Options(values={"nonce": "1"}))
