"""The cipher aes-gcm: the contract of ciphers with its frozen bytes."""

from dfs.plugins import aes_gcm
from dfs.testing import CipherContract
from dfs.testing.contracts.cipher import CipherVector


class TestAesGcm(CipherContract):
    (plugin,) = aes_gcm.dfs_ciphers()
    vectors = (
        # Test case 14 of the GCM specification.
        CipherVector(
            key="00" * 32,
            context="",
            plain="00" * 16,
            sealed="cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),
        # Pins the bytes of format version 1.
        CipherVector(
            key=bytes(range(32)).hex(),
            context=b"dfs context".hex(),
            plain=b"a chunk of plain bytes".hex(),
            sealed="6f9cd6b6c042e89d67ce8945744df8f7f2212f274df2eb857d9a3502e5d31de771107c5adf02",
        ),
    )


def test_declaration() -> None:
    plugin, cipher = TestAesGcm.plugin, TestAesGcm().new()
    assert (plugin.name, plugin.format_version) == ("aes-gcm", 1)
    assert (cipher.key_size, cipher.overhead_size, cipher.authenticated) == (32, 16, True)
