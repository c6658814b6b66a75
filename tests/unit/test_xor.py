"""The toy cipher xor: the key repeated, whatever the piece, and honest about what it does not do."""

import pytest
from hypothesis import given, strategies as st

from dfs.core.api import Cipher, Options, UnknownKeyError
from dfs.plugins import xor

KEY = bytes(range(100, 132))


@pytest.fixture(name="cipher", scope="module")
def make_cipher() -> Cipher:
    return xor.make(Options())


def plainly_mixed(plain: bytes) -> bytes:
    return bytes(byte ^ KEY[index % 32] for index, byte in enumerate(plain))


@given(st.binary(max_size=200), st.integers(0, 7))
def test_every_byte_meets_its_byte_of_the_key(plain: bytes, offset: int) -> None:
    cipher = xor.make(Options())
    sealed = bytearray(b"\xa5" * (offset + len(plain) + 8))
    room = memoryview(sealed)[offset : offset + len(plain)]
    cipher.seal_into(KEY, b"any", memoryview(b"." * offset + plain)[offset:], room)
    assert sealed == b"\xa5" * offset + plainly_mixed(plain) + b"\xa5" * 8
    opened = bytearray(len(plain))
    cipher.open_into(KEY, b"another", room.toreadonly(), memoryview(opened))
    assert opened == plain


@pytest.mark.parametrize("size", [xor.PIECE_SIZE - 1, xor.PIECE_SIZE, xor.PIECE_SIZE + 1, 2 * xor.PIECE_SIZE])
def test_pieces_leave_no_seam(cipher: Cipher, size: int) -> None:
    plain = bytes(range(251)) * (size // 251 + 1)
    sealed = bytearray(size)
    cipher.seal_into(KEY, b"", plain[:size], memoryview(sealed))
    assert sealed == plainly_mixed(plain[:size])


@pytest.mark.parametrize(("key_size", "target_size"), [(31, 4), (33, 4), (0, 4), (32, 3), (32, 5)])
def test_other_sizes_are_refused(cipher: Cipher, key_size: int, target_size: int) -> None:
    with pytest.raises(ValueError):
        cipher.seal_into(bytes(key_size), b"", b"text", memoryview(bytearray(target_size)))
    with pytest.raises(ValueError):
        cipher.open_into(bytes(key_size), b"", b"text", memoryview(bytearray(target_size)))


def test_declaration() -> None:
    (plugin,) = xor.dfs_ciphers()
    cipher = plugin.make(Options())
    assert (plugin.name, plugin.format_version) == ("xor", 1)
    assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 0, False)
    with pytest.raises(UnknownKeyError, match="xor has no option 'key'"):
        plugin.make(Options(values={"key": "1"}))
