"""Where a command is stopped, or what it writes or reads ends: a clean line, and nothing half-visible."""

import json
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster

CHUNK_SIZE = 4 << 20
BIG = os.urandom(3 * CHUNK_SIZE)
SLOW = "2 MiB/s"  # so that a test has time to come in between
SLOWEST = ("--limit-up", "32 KiB/s", "--limit-down", "32 KiB/s")


def wait_until(there: Callable[[], object]) -> None:
    """Look again and again, until something is there; the test's time limit is the bound."""
    pause = threading.Event()
    while not there():
        pause.wait(0.02)


def interruptible() -> None:
    """Undo what a shell does to all that it runs in the background, and what a node does to its process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def interrupted(cluster: Cluster, *words: str, when: Callable[[], object]) -> str:
    """Run a command, press Ctrl-C when something is so, and return what it said; its status must be 130."""
    process = subprocess.Popen(
        cluster.command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cluster.environment,
        cwd=cluster.folder,
        preexec_fn=interruptible,  # noqa: PLW1509 - it calls nothing that could wait
    )
    try:
        wait_until(lambda: when() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
    told = (out + err).decode()
    assert process.returncode == 130, told
    assert "Traceback" not in told
    return told


def chunks_in(part: bytes) -> int:
    """Return how many chunks of BIG are there, whole."""
    starts = range(0, len(BIG), CHUNK_SIZE)
    return sum(part[start : start + CHUNK_SIZE] == BIG[start : start + CHUNK_SIZE] for start in starts)


def stored_size(cluster: Cluster) -> int:
    return sum(path.stat().st_size for path in cluster.folder.glob("DFS1/**/*.vol"))


def test_an_interrupted_put_leaves_nothing_visible_and_is_gone_on_with(cluster: Cluster) -> None:
    path = cluster.file("big", BIG)
    cluster.dfs("mkdir", "made")
    before = stored_size(cluster)
    told = interrupted(
        cluster, "--limit-up", SLOW, "put", str(path), when=lambda: stored_size(cluster) > before + (1 << 20)
    )
    assert "interrupted: " in told
    assert cluster.names() == ["made/"]
    cluster.dfs("put", str(path))
    assert cluster.got("big") == BIG


def test_an_interrupted_get_keeps_the_older_file_and_leaves_no_other(cluster: Cluster) -> None:
    cluster.dfs("put", str(cluster.file("big", BIG)))
    target = cluster.folder / "target"
    target.mkdir()
    (target / "big").write_bytes(b"older")
    output = str(target) + "/"
    for words in (("get", "big", "-o", output), ("get", "-r", "/", "-o", output)):
        told = interrupted(
            cluster, "--limit-down", SLOW, *words, when=lambda: list(target.glob(".big.*.part"))
        )
        assert "interrupted" in told
        assert {path.name: path.read_bytes() for path in target.iterdir()} == {"big": b"older"}
    cluster.dfs("get", "big", "-o", output)
    assert (target / "big").read_bytes() == BIG


@pytest.mark.parametrize("end", ["killed", "interrupted"])
def test_a_get_that_was_ended_half_way_is_gone_on_with(cluster: Cluster, end: str) -> None:
    cluster.dfs("put", str(cluster.file("big", BIG)))
    target = cluster.folder / "target"
    target.mkdir()
    words = ("get", "big", "-o", str(target) + "/")
    slow = ("--limit-down", SLOW, "--jobs", "1", *words)  # one chunk after the other

    def two_chunks_came() -> bool:
        return any(chunks_in(path.read_bytes()) >= 2 for path in target.iterdir())

    if end == "killed":
        process = subprocess.Popen(cluster.command(*slow), env=cluster.environment, cwd=cluster.folder)
        try:
            wait_until(two_chunks_came)
        finally:
            process.kill()
            process.wait()
    else:
        assert "interrupted" in interrupted(cluster, *slow, "--resume", when=two_chunks_came)
    (part,) = target.iterdir()
    with part.open("r+b") as left:  # a power cut does such things
        left.seek(1 << 20)
        left.write(b"damage")
    (got,) = json.loads(cluster.dfs("--json", *words, "--resume").stdout)["data"]["files"]
    assert (target / "big").read_bytes() == BIG
    assert list(target.iterdir()) == [target / "big"]
    assert sum(got["bytes_by_node"].values()) <= len(BIG) - (3 << 20)
    assert got["extra_bytes"] == 0


def test_only_whole_files_are_gone_on_with(cluster: Cluster) -> None:
    for more in (("--range", "0-9"), ("-o", "-")):
        assert b"whole files" in cluster.dfs("get", "big", "--resume", *more, status=2).stderr


def test_an_interrupted_move_of_a_folder_loses_nothing_and_can_be_run_again(cluster: Cluster) -> None:
    for number in range(30):
        cluster.file(f"box/f{number:02}", os.urandom(3000))
    cluster.dfs("put", "-r", str(cluster.folder / "local" / "box"))
    session = interrupted(
        cluster,
        *(*SLOWEST, "mv", "-r", "box", "moved"),  # it takes longer than to look twice
        when=lambda: "moved/" in cluster.names() and cluster.names("moved"),
    )
    assert "interrupted" in session
    there = {name.rpartition("/")[2] for name in cluster.names("-R") if not name.endswith("/")}
    assert there == {f"f{number:02}" for number in range(30)}
    cluster.dfs("cp", "-r", "moved", "box", status=None)  # whatever is where, another run ends with all of it
    names = {name for name in cluster.names("-R") if "/f" in name}
    assert {name.rpartition("/")[2] for name in names} == there


@pytest.fixture
def many(cluster: Cluster) -> Cluster:
    for number in range(300):
        cluster.file(f"many/file number {number:03} with a long name", b"")
    cluster.dfs("put", "-r", str(cluster.folder / "local" / "many"))
    cluster.dfs("put", str(cluster.file("big", BIG)))
    return cluster


def piped(cluster: Cluster, *words: str, size: int, **more: Any) -> tuple[int, bytes, str]:
    """Run a command, read so many bytes of its output and close the pipe; status, bytes and stderr."""
    process = subprocess.Popen(
        cluster.command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cluster.environment,
        cwd=cluster.folder,
        **more,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    read = process.stdout.read(size)
    process.stdout.close()
    told = process.stderr.read().decode()
    process.stderr.close()
    return process.wait(20), read, told


def test_who_reads_our_output_may_have_enough(many: Cluster) -> None:
    assert piped(many, "cat", "big", size=10) == (0, BIG[:10], "")
    assert piped(many, "get", "big", "-o", "-", size=10)[:2] == (0, BIG[:10])
    for line in ("ls many", "ls -l many", "find", "tree", "map", "--json-lines ls many"):
        words = line.split()
        status, read, told = piped(many, *words, size=1)
        assert (status, len(read), told) == (0, 1, "")


def outcome(cluster: Cluster, *words: str, **more: Any) -> tuple[int, str]:
    """Run a command with descriptors of its own; status and stderr."""
    ended = subprocess.run(
        cluster.command(*words),
        stderr=subprocess.PIPE,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=60,
        check=False,
        **more,
    )
    told = ended.stderr.decode()
    assert "Traceback" not in told
    assert "unexpected" not in told
    return ended.returncode, told


@pytest.fixture
def full_device() -> Iterator[Any]:
    with Path("/dev/full").open("wb") as full:
        yield full


def test_where_output_goes_may_be_full(many: Cluster, full_device: Any) -> None:
    for words in (("ls",), ("cat", "big"), ("--json", "ls"), ("find",), ("get", "big", "-o", "-")):
        status, told = outcome(many, *words, stdout=full_device)
        assert status == 2, words
        assert "No space left on device" in told
        assert len(told.splitlines()) <= 2


def test_output_may_be_closed(many: Cluster) -> None:
    for words in (("ls",), ("cat", "big"), ("--json", "ls"), ("put", str(many.folder / "local" / "big"))):
        status, told = outcome(many, *words, preexec_fn=lambda: os.close(1))
        assert (status, "error" in told) == (0, False), (words, told)


def test_the_local_disk_may_be_full_or_cannot_be_written(many: Cluster) -> None:
    target = many.folder / "target"
    target.mkdir()
    (target / "big").write_bytes(b"older")

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    status, told = outcome(many, "get", "big", "-o", str(target), preexec_fn=small_files_only)
    assert status == 2
    assert "big: File too large" in told
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"big": b"older"}
    status, told = outcome(many, "get", "big", "-o", "/proc/nothing/can/be/made/here/")
    assert status == 2
    assert "/proc/nothing" in told
    status, told = outcome(many, "get", "big", "-o", "/sys/big")  # nobody may write there, not even root
    assert status == 2
    assert "/sys/big: " in told
    assert "Check the path and its rights" in told


def test_a_file_may_vanish_or_change_before_it_is_read(cluster: Cluster) -> None:
    first, second = cluster.file("tree/a", BIG), cluster.file("tree/z", BIG[::-1])
    before = stored_size(cluster)
    process = cluster.start("--limit-up", SLOW, "put", "-r", str(first.parent), "--to", "box")
    wait_until(lambda: stored_size(cluster) > before + (1 << 20))
    second.unlink()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert "z: No such file or directory" in told
    assert "Traceback" not in told
    assert cluster.names("box") == ["a"]
    assert cluster.got("box/a") == BIG


def test_a_file_that_shrinks_while_it_is_read_is_not_stored(cluster: Cluster) -> None:
    path = cluster.file("log", BIG * 6)  # more than is read ahead
    before = stored_size(cluster)
    process = cluster.start("--limit-up", SLOW, "--jobs", "2", "put", str(path))
    wait_until(lambda: stored_size(cluster) > before + (1 << 20))
    os.truncate(path, 1 << 20)
    _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    assert (process.returncode, cluster.names()) == (9, []), told
    assert "log became shorter while it was read" in told
