"""The cipher aes-gcm: the suite of authenticated ciphers with its frozen bytes."""

from dfs.plugins import aes_gcm
from tests.unit.aead_kit import AeadSuite


class TestAesGcm(AeadSuite):
    (plugin,) = aes_gcm.dfs_ciphers()
    name = "aes-gcm"
    # Test case 14 of the GCM specification; the other pins the bytes of format version 1.
    sealed_zeros = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    sealed_chunk = "6f9cd6b6c042e89d67ce8945744df8f7f2212f274df2eb857d9a3502e5d31de771107c5adf02"
