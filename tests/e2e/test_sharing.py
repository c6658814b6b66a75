"""Several clients and several users at once; nobody sees what is not theirs."""

import random
import signal
import statistics
import time
from typing import Any

import pytest

ONE = random.Random(11).randbytes(700_000)
TWO = random.Random(12).randbytes(700_001)


def test_two_users_with_one_file_name_keep_their_own(cluster: Any) -> None:
    alice, bob = cluster.conf("Alice"), cluster.conf("Bob")
    cluster.dfs("put", str(cluster.file("a/notes", ONE)), conf=alice)
    cluster.dfs("put", str(cluster.file("b/notes", TWO)), conf=bob)
    for conf, content in ((alice, ONE), (bob, TWO)):
        target = cluster.folder / "out"
        cluster.dfs("get", "notes", "-o", str(target), conf=conf)
        assert target.read_bytes() == content
    cluster.dfs("rm", "notes", conf=bob)
    assert cluster.dfs("ls", conf=bob).stdout == b""
    assert cluster.dfs("ls", conf=alice).stdout == b"notes\n"
    cluster.dfs("get", "notes", status=4, conf=bob)


def test_two_clients_of_one_user_and_one_of_another_at_once(cluster: Any) -> None:
    alice, bob = cluster.conf("Alice"), cluster.conf("Bob")
    cluster.dfs("ls", conf=alice)
    cluster.dfs("ls", conf=bob)
    jobs = [
        cluster.start("put", str(cluster.file(f"{index}/same", body)), conf=conf)
        for index, (conf, body) in enumerate([(alice, ONE), (alice, TWO), (bob, ONE + TWO)])
    ]
    for job in jobs:
        assert job.wait(60) == 0, job.stderr.read() if job.stderr else ""
    target = cluster.folder / "out"
    cluster.dfs("get", "same", "-o", str(target), conf=alice)
    assert target.read_bytes() in {ONE, TWO}, "one whole version, never a mix"
    cluster.dfs("get", "same", "-o", str(target), conf=bob)
    assert target.read_bytes() == ONE + TWO


def test_list_while_a_large_put_runs(cluster: Any) -> None:
    cluster.dfs("put", str(cluster.file("first", ONE)))
    large = cluster.folder / "large"
    with large.open("wb") as file:
        for seed in range(96):
            file.write(random.Random(seed).randbytes(1024 * 1024))
    job = cluster.start("put", str(large))
    listings = []
    while job.poll() is None:
        listings.append(cluster.names())
    assert job.returncode == 0
    assert listings
    assert all(names in (["first"], ["first", "large"]) for names in listings)
    assert cluster.names() == ["first", "large"]


def test_wrong_password_and_unknown_user_look_alike(cluster: Any) -> None:
    cluster.dfs("ls")
    confs = {
        "wrong": cluster.conf("Alice", "not the password", "wrong.conf"),
        "unknown": cluster.conf("Mallory", "white rabbit", "unknown.conf"),
    }
    told: dict[str, set[bytes]] = {name: set() for name in confs}
    times: dict[str, list[float]] = {name: [] for name in confs}
    for turn in range(6):
        for node in cluster.nodes if turn in {2, 4} else ():  # four guesses are free, a restart forgets them
            node.end(signal.SIGTERM)
            node.start()
        for name, conf in confs.items():
            started_s = time.monotonic()
            ended = cluster.dfs("ls", status=12, conf=conf)
            times[name].append(time.monotonic() - started_s)
            told[name].add(ended.stderr)
            assert ended.stdout == b""
    assert told["wrong"] == told["unknown"]
    assert all(b"Invalid Username/Password. Please try again." in text for text in told["wrong"])
    medians = [statistics.median(values) for values in times.values()]
    assert max(medians) < 2 * min(medians)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd/../x", "a/../../b"])
def test_paths_do_not_climb(cluster: Any, name: str) -> None:
    cluster.dfs("put", str(cluster.file("f", b"x")), "--to", name, status=2)
    assert cluster.names() == []
