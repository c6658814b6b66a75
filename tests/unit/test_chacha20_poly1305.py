"""The cipher chacha20-poly1305: the suite of authenticated ciphers with its frozen bytes."""

from dfs.plugins import chacha20_poly1305
from tests.unit.aead_kit import AeadSuite


class TestChaCha20Poly1305(AeadSuite):
    (plugin,) = chacha20_poly1305.dfs_ciphers()
    name = "chacha20-poly1305"
    # Both pin the bytes of format version 1.
    sealed_zeros = "9f07e7be5551387a98ba977c732d080dc34a88047320f52aa2c6683ef8084d2f"
    sealed_chunk = "79982159d888cdf17c077c11c3222749d8d38a8184de61a5fd5c6f921f89b3ceac13dbd6ab52"
