"""The cipher chacha20-poly1305: the contract of ciphers with its frozen bytes."""

from dfs.plugins import chacha20_poly1305
from dfs.testing import CipherContract
from dfs.testing.contracts.cipher import CipherVector


class TestChaCha20Poly1305(CipherContract):
    (plugin,) = chacha20_poly1305.dfs_ciphers()
    # Both pin the bytes of format version 1.
    vectors = (
        CipherVector(
            key="00" * 32,
            context="",
            plain="00" * 16,
            sealed="9f07e7be5551387a98ba977c732d080dc34a88047320f52aa2c6683ef8084d2f",
        ),
        CipherVector(
            key=bytes(range(32)).hex(),
            context=b"dfs context".hex(),
            plain=b"a chunk of plain bytes".hex(),
            sealed="79982159d888cdf17c077c11c3222749d8d38a8184de61a5fd5c6f921f89b3ceac13dbd6ab52",
        ),
    )


def test_declaration() -> None:
    plugin, cipher = TestChaCha20Poly1305.plugin, TestChaCha20Poly1305().new()
    assert (plugin.name, plugin.format_version) == ("chacha20-poly1305", 1)
    assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 16, True)
