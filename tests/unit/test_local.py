"""Local files: what is read is what is there, what arrives appears whole or not at all."""

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from dfs.core import limits
from dfs.core.errors import ConfigError, ConflictError, DfsError, NotFoundError
from dfs.core.local import (
    SETTLE_COUNT_MIN,
    BytesContent,
    FileContent,
    FileSink,
    LocalError,
    StreamContent,
    StreamSink,
    content_of,
    excluded,
    settle,
    tree,
)
from dfs.core.types import Entry, EntryKind, Version

ENTRY = Entry(
    path="file",
    kind=EntryKind.FILE,
    version=Version(bytes(limits.OPERATION_ID_SIZE)),
    size=5,
    mtime_ns=1_700_000_000 * 10**9,
    mode=0o640,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- What is read ---


def test_a_file_is_read_from_any_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    path.chmod(0o640)
    content = FileContent(str(path))
    assert (content.size, content.mode, content.mtime_ns) == (10, 0o640, path.stat().st_mtime_ns)
    target = memoryview(bytearray(4))
    assert (content.read_into(target, 3), bytes(target)) == (4, b"3456")
    assert (content.read_into(target, 8), bytes(target[:2])) == (2, b"89")
    assert content.read_into(target, 10) == 0
    assert content.md5() == hashlib.md5(b"0123456789", usedforsecurity=False).digest()
    content.close()
    content.close()


def test_thousands_of_small_files_leave_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"small")
    before = len(os.listdir("/dev/fd"))
    contents = [FileContent(str(path)) for _ in range(50)]
    for content in contents:
        content.read_into(memoryview(bytearray(10)), 0)
    assert len(os.listdir("/dev/fd")) == before


def test_an_empty_file_has_the_md5_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert FileContent(str(tmp_path / "empty")).md5().hex() == "d41d8cd98f00b204e9800998ecf8427e"


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="File does not exist"):
        FileContent(str(tmp_path / "none"))
    with pytest.raises(LocalError, match="not a regular file"):
        FileContent(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalError, match="not a regular file"):
        FileContent(str(tmp_path / "pipe"))


def test_a_file_that_went_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    content = FileContent(str(path))
    path.unlink()
    with pytest.raises(LocalError, match="No such file"):
        content.read_into(memoryview(bytearray(1)), 0)


class Drip(io.RawIOBase):
    """A pipe that gives a byte at a time."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        view = memoryview(cast(bytearray, target))
        piece, self.body = self.body[:1], self.body[1:]
        view[: len(piece)] = piece
        return len(piece)


def test_a_stream_is_read_whole_however_it_comes() -> None:
    content = StreamContent(cast(BinaryIO, Drip(b"cdef")), 0, b"ab")
    target = memoryview(bytearray(4))
    assert (content.read_into(target, 0), bytes(target)) == (4, b"abcd")
    assert (content.read_into(target, 4), bytes(target[:2])) == (2, b"ef")
    assert content.read_into(target, 6) == 0
    with pytest.raises(ConfigError, match="pipe"):
        content.md5()


def test_a_stream_with_nothing_but_read_is_enough() -> None:
    class Reader:
        def read(self, size: int) -> bytes:
            return b"xyz"[:size]

    target = memoryview(bytearray(2))
    assert StreamContent(cast(BinaryIO, Reader()), 0).read_into(target, 0) == 2
    assert bytes(target) == b"xy"


def test_a_stream_that_does_not_wait_is_no_end() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        with open(reading, "rb", buffering=0) as stream, pytest.raises(LocalError, match="nothing now"):
            StreamContent(cast(BinaryIO, stream), 0).read_into(memoryview(bytearray(1)), 0)
    finally:
        os.close(writing)


@pytest.mark.parametrize(("more", "kind"), [(0, BytesContent), (1, StreamContent)])
def test_a_stream_that_ends_soon_is_a_small_file(
    monkeypatch: pytest.MonkeyPatch, more: int, kind: type[object]
) -> None:
    monkeypatch.setattr(limits, "SMALL_SIZE_MAX", 10)
    body = bytes(range(10 + more))
    content = content_of(io.BytesIO(body), 7)
    assert type(content) is kind
    target = memoryview(bytearray(20))
    assert content.read_into(target, 0) == len(body)
    assert bytes(target[: len(body)]) == body
    assert content.mtime_ns == 7


# --- What arrives ---


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    sink = FileSink(str(path))
    sink.write(3, memoryview(b"lo"))
    sink.write(0, memoryview(b"hel"))
    assert not path.exists()
    sink.finish(ENTRY)
    assert path.read_bytes() == b"hello"
    assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (ENTRY.mode, ENTRY.mtime_ns)
    assert names(tmp_path) == ["file"]


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    sink = FileSink(str(path))
    sink.write(0, memoryview(b"new"))
    assert names(tmp_path) != ["file"]
    assert sink.abandon()
    assert sink.abandon()
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"
    with pytest.raises(LocalError, match="given up"):
        sink.write(3, memoryview(b"late"))
    with pytest.raises(LocalError):
        sink.finish(ENTRY)
    assert path.read_bytes() == b"old"


def resumed(tmp_path: Path, content: str = "c0ffee", *, resume: bool = True) -> FileSink:
    return FileSink(str(tmp_path / "file"), content=content, resume=resume)


def kept(sink: FileSink, size: int = 8) -> bytes:
    target = bytearray(size)
    return bytes(target[: sink.read_into(memoryview(target), 0)])


def test_what_a_try_left_is_gone_on_with(tmp_path: Path) -> None:
    sink = resumed(tmp_path)
    sink.write(0, memoryview(b"hel"))
    assert sink.abandon()
    assert names(tmp_path) == [".file.c0ffee.part"]
    assert kept(resumed(tmp_path, "other")) == b"", "another content left nothing"
    sink = resumed(tmp_path)
    assert kept(sink) == b"hel"
    sink.write(3, memoryview(b"lo and more"))  # who left it may have written anything
    sink.finish(ENTRY)
    assert (tmp_path / "file").read_bytes() == b"hello"
    assert names(tmp_path) == [".file.other.part", "file"]


def test_who_does_not_resume_begins_anew_and_leaves_nothing(tmp_path: Path) -> None:
    sink = resumed(tmp_path)
    sink.write(0, memoryview(b"hello and more"))
    sink.abandon()
    sink = resumed(tmp_path, resume=False)
    assert kept(sink) == b""
    sink.write(0, memoryview(b"hello"))
    sink.finish(ENTRY)
    assert (tmp_path / "file").read_bytes() == b"hello"
    resumed(tmp_path, resume=False).abandon()
    assert names(tmp_path) == ["file"]


def test_two_who_fetch_one_file_do_not_share_what_is_left(tmp_path: Path) -> None:
    first, second = resumed(tmp_path), resumed(tmp_path)
    first.write(0, memoryview(b"hello"))
    assert kept(second) == b""
    second.abandon()
    assert names(tmp_path) == [".file.c0ffee.part"], "the second one had a file of its own"
    first.finish(ENTRY)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("foreign", ["link", "hard link", "folder", "pipe"])
def test_only_a_file_of_our_own_is_gone_on_with(tmp_path: Path, foreign: str) -> None:
    (tmp_path / "mine").write_bytes(b"hello")
    part = tmp_path / ".file.c0ffee.part"
    if foreign == "link":
        part.symlink_to(tmp_path / "mine")
    elif foreign == "hard link":
        part.hardlink_to(tmp_path / "mine")
    elif foreign == "folder":
        part.mkdir()
    else:
        os.mkfifo(part)
    sink = resumed(tmp_path)
    assert kept(sink) == b""
    sink.write(0, memoryview(b"there"))
    sink.finish(ENTRY)
    assert (tmp_path / "mine").read_bytes() == b"hello"
    assert (tmp_path / "file").read_bytes() == b"there"


def test_links_are_never_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(ConflictError, match="not a regular file"):
        FileSink(str(link))
    link.unlink()
    sink = FileSink(str(link))
    sink.write(0, memoryview(b"theirs"))
    link.symlink_to(target)  # by somebody else, meanwhile
    sink.finish(ENTRY)
    assert target.read_bytes() == b"mine"
    assert not link.is_symlink()
    assert link.read_bytes() == b"theirs"


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ConflictError):
        FileSink(str(tmp_path / "folder"))
    with pytest.raises(ConflictError, match="exists already"):
        FileSink(str(tmp_path / "file"), clobber=False)
    with pytest.raises(LocalError, match="Not a directory"):
        FileSink(str(tmp_path / "file" / "below"))
    with pytest.raises(LocalError, match="No such file"):
        FileSink(str(tmp_path / "none" / "below"))
    assert names(tmp_path) == ["file", "folder"]


def test_a_file_that_appeared_meanwhile_is_not_clobbered(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "file"), clobber=False)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="exists already"):
        sink.finish(ENTRY)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("linkless", [False, True])
def test_without_clobber_a_file_arrives_with_or_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkless: bool
) -> None:
    def refuse(*_places: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    sink = FileSink(str(tmp_path / "file"), clobber=False)
    if linkless:
        monkeypatch.setattr(os, "link", refuse)
    sink.write(0, memoryview(b"new"))
    sink.finish(ENTRY)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    sink = FileSink(str(tmp_path / "file"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(LocalError, match="No space"):
            sink.write(0, memoryview(b"x"))
    sink.abandon()
    assert names(tmp_path) == []


class Sip(io.RawIOBase):
    """A pipe that takes two bytes at a time."""

    def __init__(self) -> None:
        self.body = b""

    def writable(self) -> bool:
        return True

    def write(self, body: object) -> int:
        piece = bytes(cast(bytes, body))[:2]
        self.body += piece
        return len(piece)


def test_a_stream_gets_everything_in_order() -> None:
    stream = Sip()
    sink = StreamSink(cast(BinaryIO, stream))
    assert sink.abandon(), "nothing was written yet"
    sink.write(0, memoryview(b"hello"))
    with pytest.raises(DfsError, match="out of order"):
        sink.write(6, memoryview(b"?"))
    sink.write(5, memoryview(b" you"))
    sink.finish(ENTRY)
    assert stream.body == b"hello you"
    assert not sink.abandon()


def test_a_stream_that_fails_is_told_but_a_reader_that_left_is_none_of_our_errors() -> None:
    class Broken(Sip):
        error: OSError = OSError(28, "No space left on device")

        def write(self, _body: object) -> int:
            raise self.error

    broken = Broken()
    with pytest.raises(LocalError, match="No space"):
        StreamSink(cast(BinaryIO, broken)).write(0, memoryview(b"x"))
    broken.error = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        StreamSink(cast(BinaryIO, broken)).write(0, memoryview(b"x"))


# --- Trees ---


def test_a_tree_is_listed_folders_first_and_without_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b" / "empty").mkdir(parents=True)
    (tmp_path / "b" / "two").touch()
    (tmp_path / "a.txt").touch()
    (tmp_path / "skip").mkdir()
    (tmp_path / "skip" / "inside").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    (tmp_path / "round").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    found = list(tree(str(tmp_path), ["skip", "b/tw*"]))
    assert [(relative, folder) for _, relative, folder in found] == [
        ("b", True),
        ("a.txt", False),
        ("b/empty", True),
    ]
    assert found[1][0] == str(tmp_path / "a.txt")
    told = capsys.readouterr().err
    assert told.count("left out, not a regular file") == 3


@pytest.mark.parametrize(
    ("relative", "pattern", "out"),
    [
        ("a/b.o", "*.o", True),
        ("a/b.o", "a/*", True),
        ("a/b.o", "a", False),
        ("a", "a", True),
        ("A", "a", False),
    ],
)
def test_a_glob_meets_the_path_or_the_name(relative: str, pattern: str, out: bool) -> None:
    assert excluded(relative, [pattern]) is out
    assert not excluded(relative, [])


@pytest.mark.parametrize(
    ("count", "works", "own_count"),
    [(SETTLE_COUNT_MIN, True, 0), (SETTLE_COUNT_MIN - 1, True, 7), (20, False, 20)],
)
def test_many_files_are_on_disk_by_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, works: bool, own_count: int
) -> None:
    own: list[int] = []
    common: list[int] = []

    def sync_all(descriptor: int) -> bool:
        common.append(descriptor)
        return works

    monkeypatch.setattr(os, "fsync", own.append)
    monkeypatch.setattr("dfs.core.local.sync_file_system", sync_all)
    sinks = [FileSink(str(tmp_path / str(number))) for number in range(count)]
    for number, sink in enumerate(sinks):
        sink.write(0, memoryview(str(number).encode()))
    assert settle(sinks) is (own_count == 0)
    assert names(tmp_path)[0].startswith("."), "none has its name yet"
    for sink in sinks:
        sink.finish(ENTRY)
    assert (len(own), len(common)) == (own_count, int(count >= SETTLE_COUNT_MIN))
    assert {path.name: path.read_bytes().decode() for path in tmp_path.iterdir()} == {
        str(number): str(number) for number in range(count)
    }


def test_what_is_written_afterwards_is_not_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own: list[int] = []
    monkeypatch.setattr(os, "fsync", own.append)
    sink = FileSink(str(tmp_path / "file"))
    sink.settled = True
    sink.write(0, memoryview(b"more"))
    sink.finish(ENTRY)
    assert len(own) == 1


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, bool]] = []
    target = tmp_path / "out"
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        done.append(("synced", target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    sink = FileSink(str(target))
    sink.write(0, memoryview(b"body"))
    sink.finish(ENTRY)
    assert done == [("synced", False)]
    assert target.read_bytes() == b"body"
