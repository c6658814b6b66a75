"""The toy cipher xor: the contract of ciphers, and that each byte meets its byte of the key."""

import pytest

from dfs.plugins import xor
from dfs.testing import CipherContract
from dfs.testing.contracts.cipher import CipherVector

KEY = bytes(range(100, 132))


class TestXor(CipherContract):
    (plugin,) = xor.dfs_ciphers()
    vectors = (CipherVector(key=KEY.hex(), context="", plain="00" * 40, sealed=(KEY + KEY[:8]).hex()),)


@pytest.mark.parametrize("size", [xor.PIECE_SIZE - 1, xor.PIECE_SIZE, xor.PIECE_SIZE + 1, 2 * xor.PIECE_SIZE])
def test_every_byte_meets_its_byte_of_the_key(size: int) -> None:
    plain = bytes(range(251)) * (size // 251 + 1)
    mixed = bytes(byte ^ KEY[index % 32] for index, byte in enumerate(plain[:size]))
    assert TestXor().seal(plain[:size], KEY) == mixed


def test_declaration() -> None:
    plugin, cipher = TestXor.plugin, TestXor().new()
    assert (plugin.name, plugin.format_version) == ("xor", 1)
    assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 0, False)
