"""The public API with streams: pipes in and out, interruptions, and what a cluster tells of itself."""

import io
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import pytest

from dfs.cluster import Cluster, open_cluster
from dfs.core import limits
from dfs.core.errors import ConfigError, NotFoundError

LARGE = random.Random(1).randbytes(3 * limits.CHUNK_SIZE + 17)
SMALL = b"small"


@pytest.fixture
def cluster(home: Any) -> Iterator[Cluster]:
    assert home.nodes
    with open_cluster() as cluster:
        yield cluster


def fetched(cluster: Cluster, path: str) -> bytes:
    target = io.BytesIO()
    cluster.get(path, target)
    return target.getvalue()


class Watched(io.RawIOBase):
    """A stream during which something happens once so many bytes were read."""

    def __init__(self, body: bytes, when: int, happens: Callable[[], None]) -> None:
        self._body = io.BytesIO(body)
        self._when = when
        self._happens: Callable[[], None] | None = happens

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        size = self._body.readinto(target)
        if self._happens is not None and self._body.tell() >= self._when:
            happens, self._happens = self._happens, None
            happens()
        return size


def test_a_pipe_goes_in_and_an_unbuffered_one_comes_out(cluster: Cluster) -> None:
    body = LARGE[:40_000]  # fits a pipe
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        sink.write(body)
        sink.close()
        cluster.put("piped", source)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        cluster.get("piped", cast(BinaryIO, sink))
        sink.close()
        assert source.read() == body


def test_chunks_of_a_stream_come_in_order(cluster: Cluster) -> None:
    sizes: list[int] = []
    cluster.put("file", io.BytesIO(LARGE), progress=sizes.append)
    assert sum(sizes) == len(LARGE)
    assert fetched(cluster, "file") == LARGE


def test_an_interrupted_put_changes_nothing(cluster: Cluster) -> None:
    def interrupt(_size: int, /) -> None:
        raise KeyboardInterrupt

    cluster.put("file", io.BytesIO(SMALL))
    with pytest.raises(KeyboardInterrupt):
        cluster.put("file", io.BytesIO(LARGE), progress=interrupt)
    assert fetched(cluster, "file") == SMALL


def test_a_stream_that_fails_changes_nothing(cluster: Cluster) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(ConfigError, match="the stream cannot be read"):
        cluster.put("file", cast(BinaryIO, Watched(LARGE, limits.CHUNK_SIZE, fail)))
    with pytest.raises(NotFoundError):
        cluster.stat("file")


def test_a_node_that_dies_while_a_stream_is_stored_is_named(cluster: Cluster, home: Any) -> None:
    body = cast(BinaryIO, Watched(LARGE, 2 * limits.CHUNK_SIZE, lambda: home.kill(1)))
    outcome = cluster.put("file", body)
    assert [cluster.node_names[node].partition(" ")[0] for node in outcome.missing] == ["D"]
    assert fetched(cluster, "file") == LARGE


def test_a_cluster_tells_of_itself(cluster: Cluster) -> None:
    assert cluster.user == "odile"
    assert cluster.geometry == (2, 4)
    assert cluster.made
    assert [name for _, name in cluster.nodes] == ["A", "B", "C", "D"]
    cluster.put("file", io.BytesIO(LARGE))
    traffic = cluster.traffic()
    assert [node.name for node in traffic] == ["A", "B", "C", "D"]
    assert all(node.down == "" and node.error is None and node.request_count for node in traffic)
    assert sum(node.sent_size for node in traffic) >= 2 * len(LARGE)
