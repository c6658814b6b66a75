"""Files that tell how far they are, read and written piece by piece."""

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from dfs.core.local import BytesContent, FileSink
from dfs.core.types import Entry, EntryKind, Version
from dfs.watching import WatchedContent, WatchedSink, settle


@define
class Told:
    rows: list[tuple[str, int, int]] = field(factory=list)

    def __call__(self, path: str, size: int, total_size: int, /) -> None:
        self.rows.append((path, size, total_size))


def test_content_tells_when_it_is_read() -> None:
    told = Told()
    content = WatchedContent(BytesContent(b"twelve bytes", 7), "f", told)
    target = memoryview(bytearray(8))
    assert [content.read_into(target, 0), content.read_into(target, 8)] == [8, 4]
    assert told.rows == [("f", 8, 12), ("f", 4, 12)]
    assert (content.size, content.mtime_ns) == (12, 7)
    assert content.md5() == BytesContent(b"twelve bytes", 7).md5()


def test_what_has_no_size_is_not_told_of() -> None:
    told = Told()
    inner: Any = BytesContent(b"x", 0)
    inner.size = None
    WatchedContent(inner, "f", told).read_into(memoryview(bytearray(8)), 0)
    assert told.rows == []


@define
class Shelf:
    written: list[bytes] = field(factory=list)
    ended: list[str] = field(factory=list)

    def write(self, offset: int, plain: memoryview) -> None:
        self.written.append(bytes(plain))

    def read_into(self, target: memoryview, offset: int) -> int:
        target[:2] = b"ol"
        return 2

    def finish(self, entry: Entry) -> None:
        self.ended.append("finished")

    def abandon(self) -> bool:
        self.ended.append("abandoned")
        return True


def test_a_sink_tells_when_bytes_came() -> None:
    told, shelf = Told(), Shelf()
    sink = WatchedSink(shelf, "f", 3, told)
    assert sink.read_into(memoryview(bytearray(3)), 0) == 2
    sink.write(0, memoryview(b"abc"))
    sink.finish(Entry("f", EntryKind.FILE, Version(bytes(16))))
    assert sink.abandon()
    assert (shelf.written, shelf.ended) == ([b"abc"], ["finished", "abandoned"])
    assert told.rows == [("f", 3, 3)]


def test_watched_files_are_settled_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.core.local.sync_file_system", lambda _descriptor: True)  # not everywhere
    files = [FileSink(str(tmp_path / str(number))) for number in range(10)]
    watched = [WatchedSink(file, "f", 3, Told()) if number % 2 else file for number, file in enumerate(files)]
    assert settle(watched) is all(file.settled for file in files)
    assert all(file.settled for file in files)
    assert not settle([*watched, Shelf()]), "nobody knows what a sink of another kind does"
    for file in files:
        file.abandon()
