"""Remote files as file objects: any part in any order, and nothing fetched that is not read."""

import io
import random
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from dfs.cluster import Cluster, open_cluster
from dfs.core.errors import ConflictError, NotFoundError
from dfs.streams import WINDOW_SIZE, RemoteFile

BODY = random.Random(4).randbytes(2 * WINDOW_SIZE + 1000)


class Fetches:
    """Serves parts of ``BODY`` and remembers which."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, start: int, size: int) -> bytes:
        assert 0 <= start < start + size <= len(BODY)
        self.seen.append((start, size))
        return BODY[start : start + size]


@pytest.fixture
def fetches() -> Fetches:
    return Fetches()


@pytest.fixture
def file(fetches: Fetches) -> Iterator[Any]:
    with io.BufferedReader(RemoteFile("body", len(BODY), fetches)) as file:
        yield file


def test_nothing_is_fetched_before_it_is_read(file: Any, fetches: Fetches) -> None:
    assert (file.readable(), file.seekable(), file.writable(), file.tell()) == (True, True, False, 0)
    assert file.seek(0, io.SEEK_END) == len(BODY)
    assert file.read(10) == b""
    assert fetches.seen == []
    assert file.raw.name == "body"


def test_small_reads_share_a_window(file: Any, fetches: Fetches) -> None:
    pieces = [file.read(1000) for _ in range(500)]
    assert b"".join(pieces) == BODY[:500_000]
    assert fetches.seen == [(0, WINDOW_SIZE)]
    file.seek(-100, io.SEEK_END)
    assert file.read(1000) == BODY[-100:]
    assert fetches.seen[1:] == [(2 * WINDOW_SIZE, 1000)]


def test_the_rest_is_fetched_at_once(file: Any, fetches: Fetches) -> None:
    file.seek(5)
    assert file.read() == BODY[5:]
    assert fetches.seen == [(5, len(BODY) - 5)]
    assert file.read() == b""


def test_any_walk_reads_what_is_there(file: Any) -> None:
    dice = random.Random(7)
    model = io.BytesIO(BODY)
    for _ in range(200):
        if dice.random() < 0.5:
            place = dice.randrange(len(BODY) + 100)
            assert file.seek(place) == model.seek(place)
        size = dice.choice([0, 1, 17, 9000, WINDOW_SIZE + 1])
        assert file.read(size) == model.read(size)
        assert file.tell() == model.tell()


def test_what_is_no_place_is_refused(file: Any) -> None:
    for offset, whence in ((-1, 0), (-len(BODY) - 1, 2), (0, 9)):
        with pytest.raises(ValueError):
            file.seek(offset, whence)
    file.close()
    for use in (file.read, file.tell):
        with pytest.raises(ValueError, match="closed"):
            use()


@pytest.fixture
def cluster(home: Any) -> Iterator[Cluster]:
    assert home.nodes
    with open_cluster() as cluster:
        yield cluster


def test_a_file_of_the_cluster_is_read_in_parts(cluster: Cluster) -> None:
    cluster.put("body", io.BytesIO(BODY))
    cluster.put("empty", io.BytesIO(b""))
    before = sum(node.received_size for node in cluster.traffic())
    with cluster.open("body") as file:
        file.seek(WINDOW_SIZE + 7)
        assert file.read(5) == BODY[WINDOW_SIZE + 7 : WINDOW_SIZE + 12]
    received = sum(node.received_size for node in cluster.traffic()) - before
    assert received < 1.1 * WINDOW_SIZE
    with cluster.open("empty") as file:
        assert file.read() == b""


def test_an_archive_is_read_without_fetching_all_of_it(cluster: Cluster) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("large", BODY)
        archive.writestr("note.txt", "hello")
    cluster.put("pack.zip", io.BytesIO(packed.getvalue()))
    before = sum(node.received_size for node in cluster.traffic())
    with cluster.open("pack.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.read("note.txt") == b"hello"
    assert sum(node.received_size for node in cluster.traffic()) - before < WINDOW_SIZE


def test_two_versions_are_never_mixed(cluster: Cluster) -> None:
    cluster.put("body", io.BytesIO(BODY))
    with cluster.open("body") as file:
        assert file.read(9) == BODY[:9]
        cluster.put("body", io.BytesIO(BODY[::-1]))
        file.seek(WINDOW_SIZE)
        with pytest.raises(ConflictError, match="was replaced since it was opened"):
            file.read(9)


def test_what_cannot_be_opened_is_told(cluster: Cluster) -> None:
    cluster.mkdir("folder")
    with pytest.raises(ConflictError, match="is a folder"):
        cluster.open("folder")
    with pytest.raises(NotFoundError):
        cluster.open("missing")
