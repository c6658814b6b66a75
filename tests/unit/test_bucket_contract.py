"""The contract of a store, run against `bucket`: over obstore in memory and in a folder, and over S3."""

from collections.abc import Iterator

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

from dfs.testing import StoreContract
from tests.unit.bucket_kit import S3Server, local, memory, s3


class TestMemory(StoreContract):
    plugin = memory().plugin


class TestLocal(StoreContract):
    plugin = local().plugin


class TestS3(StoreContract):
    plugin = memory().plugin  # until the server runs

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def serve(cls) -> Iterator[None]:
        server = S3Server()
        cls.plugin = s3(server).plugin
        yield
        server.close()
