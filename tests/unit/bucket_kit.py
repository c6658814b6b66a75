"""For the tests of the store `bucket`: buckets in memory, in a folder and on an S3 server, watched.

A bucket goes on living when its node's folder is put back to an earlier image. So that images make sense,
every change of a bucket is written down, and an image gets the bucket as it was at its time.
"""

import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import obstore
import pytest
from attrs import define, field
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from dfs.core.api import Files, Store, StoreOptions, StorePlugin
from dfs.plugins.volumes.bucket.door import ObjectBucket
from dfs.plugins.volumes.bucket.options import bucket_options
from dfs.plugins.volumes.bucket.store import BucketStore
from dfs.testing.stores import Event, FaultyFiles

CLOCK = "bucket-clock"  # beside the node's folder: whose bucket, and how many changes it had seen
MakeObjects = Callable[[str], ObjectStore]


@define
class Requests:
    """The library obstore, watched: what was asked for, and what was changed.

    Each change is also an event at the door to the file system: it can fail, and is a point to crash at.
    """

    files: Files | None = None
    clock: Path | None = None
    counts: Counter[str] = field(factory=Counter)
    changes: list[tuple[str, bytes | None]] = field(factory=list)
    lock: threading.Lock = field(factory=threading.Lock)

    def _change(self, name: str, body: bytes | None) -> None:
        self.changes.append((name, body))
        if self.clock is not None:
            self.clock.write_text(f"{self.clock.parent}\n{len(self.changes)}")

    def _happen(self, what: str, name: str) -> None:
        if isinstance(self.files, FaultyFiles):
            self.files.happen(Event(what, os.path.basename(name)))

    def put(self, store: ObjectStore, name: str, body: Any, **how: Any) -> object:
        with self.lock:
            self.counts["PUT"] += 1
            self._happen("sync", name)
            made = obstore.put(store, name, body, **how)
            self._change(name, bytes(body))
            return made

    def delete(self, store: ObjectStore, names: list[str] | str) -> None:
        with self.lock:
            self.counts["DELETE"] += 1
            for name in names if isinstance(names, list) else [names]:
                self._happen("remove", name)
                self._change(name, None)
            obstore.delete(store, names)

    def get(self, store: ObjectStore, name: str) -> object:
        self.counts["GET"] += 1
        return obstore.get(store, name)

    def get_range(self, store: ObjectStore, name: str, **part: int) -> object:
        self.counts["GET"] += 1
        return obstore.get_range(store, name, **part)

    def head(self, store: ObjectStore, name: str) -> object:
        self.counts["GET"] += 1
        return obstore.head(store, name)

    def list(self, store: ObjectStore, folder: str, **how: Any) -> Iterator[Any]:
        self.counts["LIST"] += 1  # an empty page is one, too
        for index, some in enumerate(obstore.list(store, folder, **how)):
            self.counts["LIST"] += bool(index)
            yield some

    def list_with_delimiter(self, store: ObjectStore) -> object:
        self.counts["LIST"] += 1
        return obstore.list_with_delimiter(store)


class Buckets:
    """The buckets of one kind, by the folder of their node; an image of such a folder has one of its own."""

    values: ClassVar[dict[str, str]] = {"url": "s3://bucket/node"}

    def __init__(self, make: MakeObjects) -> None:
        self._make = make
        self._made: dict[str, tuple[ObjectStore, Requests]] = {}

    def of(self, folder: Path, files: Files) -> tuple[ObjectStore, Requests]:
        """The bucket of a node's folder, and who watches it."""
        if str(folder) not in self._made:
            objects, requests = self._make(str(folder)), Requests()
            clock = folder / CLOCK
            if clock.exists():
                origin, change_count = clock.read_text().split("\n")
                _, earlier = self._made.get(origin, (objects, Requests()))
                for name, body in earlier.changes[: int(change_count)]:
                    if body is not None:
                        obstore.put(objects, name, body)
                    else:
                        with suppress(FileNotFoundError):
                            obstore.delete(objects, name)
            self._made[str(folder)] = objects, requests
        objects, requests = self._made[str(folder)]
        folder.mkdir(exist_ok=True)
        requests.files, requests.clock = files, folder / CLOCK
        return objects, requests

    def open(self, options: StoreOptions, **values: str) -> BucketStore:
        """Open a store whose bucket is that of its folder."""
        objects, requests = self.of(Path(options.directory).parent, options.files)
        bucket = ObjectBucket(objects, "s3://bucket/node", requests)
        return BucketStore(options, bucket_options({**self.values, **values}), bucket)

    @property
    def plugin(self) -> StorePlugin:
        """The store, as the contract takes it."""

        def make(options: StoreOptions) -> Store:
            return self.open(options, **options.values)

        return StorePlugin(name="bucket", summary="under test", make=make)


def memory() -> Buckets:
    return Buckets(lambda _folder: MemoryStore())


def local() -> Buckets:
    return Buckets(lambda folder: LocalStore(f"{folder}-bucket", mkdir=True))


class S3Server:
    """A real S3 server in a process of its own."""

    def __init__(self) -> None:
        pytest.importorskip("moto.server", reason="moto[server] is not installed")
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if match := re.search(r"Running on (http://127\.0\.0\.1:[0-9]+)", line):
                self.endpoint = match[1]
                break
        else:
            raise AssertionError("".join(said))
        # What it says of each request must go somewhere.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")  # noqa: S310 - our own server
        urllib.request.urlopen(request).close()  # noqa: S310

    def objects(self, bucket: str, folder: str) -> S3Store:
        """A folder of a bucket."""
        return S3Store(
            bucket,
            prefix=folder,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id="one",
            secret_access_key="two",
            client_options={"allow_http": True},
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def s3(server: S3Server) -> Buckets:
    server.make_bucket("contract")
    numbers = count()
    return Buckets(lambda _folder: server.objects("contract", f"node{next(numbers)}"))
