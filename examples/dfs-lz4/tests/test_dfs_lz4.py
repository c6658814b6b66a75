"""The contract of compressors over `lz4`."""

import dfs_lz4

from dfs.testing import CompressorContract
from dfs.testing.contracts.compressor import CompressorVector

# What format version 1 made, frozen: every later version must unpack it.
VECTOR = CompressorVector(
    packed="04224d186040820f0000005f746578742005001050746578742000000000",
    plain=(b"text " * 9).hex(),
)


class TestLz4(CompressorContract):
    (plugin,) = dfs_lz4.dfs_compressors()
    vectors = (VECTOR,)


class TestLz4AtALevel(CompressorContract):
    (plugin,) = dfs_lz4.dfs_compressors()
    values = {"level": "9"}
    vectors = (VECTOR,)
