"""The store `bucket`: its options, the door to buckets, names of objects and lists of pieces."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

from attrs import evolve
from obstore.store import MemoryStore

from dfs.core.api import (
    ConfigError,
    NotFoundError,
    StoreError,
    StoreOptions,
    UnknownKeyError,
)
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins.volumes import bucket
from dfs.plugins.volumes.bucket.door import ObjectBucket, open_bucket
from dfs.plugins.volumes.bucket.objects import object_name, read_name
from dfs.plugins.volumes.bucket.options import bucket_options
from dfs.plugins.volumes.bucket.snapshots import (
    PIECE_SIZE,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
)
from dfs.testing.stores import share_key


def test_names_of_objects_tell_what_a_row_needs() -> None:
    key, checksum = share_key(7, 3), bytes(range(16))
    name = object_name(key, checksum, 0x1234)
    found = read_name(f"alice/{name}")
    assert found is not None
    assert (found.key, found.checksum, found.number) == (key, checksum, 0x1234)


@pytest.mark.parametrize(
    "name", ["alice/shares/00/x", "alice/shares/..", "", "alice/snapshots/0000000000000001"]
)
def test_other_names_tell_nothing(name: str) -> None:
    assert read_name(name) is None


def test_lists_of_pieces_are_read_as_written_or_not_at_all() -> None:
    made = Snapshot(5, "älice", PIECE_SIZE + 1, PIECE_SIZE, (b"a" * 32, b"b" * 32))
    body = encode_snapshot(made)
    assert decode_snapshot(body) == made
    for place in range(len(body)):
        spoiled = bytearray(body)
        spoiled[place] ^= 1
        assert decode_snapshot(bytes(spoiled)) is None
        assert decode_snapshot(body[:place]) is None
    assert decode_snapshot(encode_snapshot(evolve(made, pieces=made.pieces[:1]))) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "url is such as"),
        ({"url": "http://somewhere"}, "url is such as"),
        ({"url": "memory:///"}, "url is such as"),
        ({"url": "s3:///folder"}, "url is such as"),
        ({"url": "s3://one:two@bucket"}, "nothing else"),
        ({"url": "s3://bucket?key=1"}, "nothing else"),
        ({"url": "s3://bucket", "capacity": "much"}, "capacity is a size"),
        ({"url": "s3://bucket", "capacity": "0 GiB"}, "capacity is a size"),
        ({"url": "s3://bucket", "snapshot_minutes": "0"}, "snapshot_minutes is 1 to"),
        ({"url": "s3://bucket", "restore": "perhaps"}, "restore is true or false"),
        ({"url": "s3://bucket", "endpoint": "ftp://x"}, "endpoint is such as"),
    ],
)
def test_options_that_are_none(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        bucket_options(values)


def test_credentials_are_refused_in_confs() -> None:
    with pytest.raises(UnknownKeyError, match="has no option 'secret_access_key'") as caught:
        bucket_options({"url": "s3://bucket", "secret_access_key": "hush"})
    assert "environment" in caught.value.next_step
    assert "hush" not in str(caught.value)


def test_options_in_full() -> None:
    made = bucket_options(
        {"url": "s3://bucket/a/", "capacity": "3 TiB", "snapshot_minutes": "5", "restore": "True"}
    )
    assert (made.url, made.capacity, made.snapshot_s, made.restore) == ("s3://bucket/a", 3 << 40, 300.0, True)


@pytest.mark.parametrize("url", ["s3://bucket/a", "gs://bucket/a", "az://container/a"])
def test_doors_open_without_a_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "one")
    assert open_bucket(bucket_options({"url": url})).url == url


def test_options_of_another_kind_of_bucket_are_refused() -> None:
    with pytest.raises(ConfigError, match="'region' is not valid for store 'GCS'"):
        open_bucket(bucket_options({"url": "gs://bucket", "region": "x"}))


def test_a_folder_is_a_bucket_too(tmp_path: Path) -> None:
    door = open_bucket(bucket_options({"url": f"file://{tmp_path}/b"}))
    door.put("a/b", b"text")
    assert bytes(door.get("a/b", 1, 3)) == b"ex"
    assert list(door.names("a")) == [("a/b", 4)]
    door.delete(["a/b", "a/none"])
    with pytest.raises(NotFoundError):
        door.get("a/b")
    assert list(door.names("none")) == []


def test_who_does_not_answer_is_named_and_not_waited_for_long() -> None:
    options = bucket_options({"url": "s3://bucket/a", "endpoint": "http://127.0.0.1:1", "region": "x"})
    door = open_bucket(options)
    with pytest.raises(StoreError, match="the bucket s3://bucket/a: x cannot be written") as caught:
        door.put("x", b"")
    assert len(str(caught.value)) < 400
    assert door.outage == caught.value.what


def test_a_reason_tells_neither_signatures_nor_pages() -> None:
    said = (
        "Generic Azure error: Error doing PUT https://one.example/x?sv=1&sig=hush in 2ms - Server returned"
        " non-2xx status code: 403 Forbidden: <?xml version='1.0'?><Error>hush</Error>\n\nDebug source: hush"
    )

    class Refusing:
        def put(self, *_words: object, **_how: object) -> None:
            raise ValueError(said)

    door = ObjectBucket(MemoryStore(), "az://container", Refusing())
    with pytest.raises(StoreError, match="403 Forbidden") as caught:
        door.put("x", b"")
    assert "hush" not in str(caught.value)
    assert "https://one.example/x in 2ms" in caught.value.what


def test_without_the_library_its_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    (plugin,) = bucket.dfs_stores()
    with pytest.raises(ConfigError, match="needs the package obstore") as caught:
        plugin.make(
            StoreOptions(
                directory=str(tmp_path),
                files=RealFiles(),
                env=RealEnv(),
                inline_size_max=64,
                values={"url": "s3://bucket"},
            )
        )
    assert "dfs[objectstore]" in caught.value.next_step
