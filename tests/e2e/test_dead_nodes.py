"""What dead, frozen and returning nodes cost, and what is said of it."""

import itertools
import random
import signal
import time
from typing import Any

import pytest

CONTENT = random.Random(1).randbytes(6_000_000)
SMALL = random.Random(2).randbytes(40_000)
TINY = b"short enough for the entry"
PATIENCE_S = 1.0  # what a frozen or dead node may cost a command


def _stored(cluster: Any) -> None:
    for name, content in {"big": CONTENT, "small": SMALL, "tiny": TINY}.items():
        cluster.dfs("put", str(cluster.file(name, content)))


@pytest.mark.parametrize("pair", list(itertools.combinations(range(4), 2)))
def test_any_two_of_four_may_die(cluster: Any, pair: tuple[int, int]) -> None:
    _stored(cluster)
    for index in pair:
        cluster.nodes[index].kill()
    assert cluster.got("big") == CONTENT
    assert cluster.got("small") == SMALL
    assert cluster.got("tiny") == TINY
    listed = cluster.dfs("ls", "-l")
    assert listed.stdout.decode().count("2/4") >= 2
    assert b"may be stale" in listed.stderr
    refused = cluster.dfs("put", str(cluster.file("new", b"x" * 5000)), status=7)
    assert b"put failed" in refused.stderr
    assert "new" not in "\n".join(cluster.names())


def test_with_three_dead_every_file_is_named(cluster: Any) -> None:
    _stored(cluster)
    for node in cluster.nodes[1:]:
        node.kill()
    assert cluster.names() == ["big [incomplete]", "small [incomplete]", "tiny"]
    target = cluster.folder / "out"
    target.write_bytes(b"older copy")
    failed = cluster.dfs("get", "big", "-o", str(target), status=5)
    for name in ("DFS2", "DFS3", "DFS4"):
        assert name.encode() in failed.stderr
    assert target.read_bytes() == b"older copy"
    assert [path.name for path in cluster.folder.glob("*.part")] == []
    assert cluster.got("tiny") == TINY
    unknown = cluster.dfs("get", "unheard", status=None)
    assert unknown.returncode != 4, "absence cannot be told with one node of four"


def test_put_with_one_node_down_says_what_survives(cluster: Any) -> None:
    _stored(cluster)
    for index, node in enumerate(cluster.nodes):
        node.kill()
        ended = cluster.dfs("put", str(cluster.file(f"during-{index}", CONTENT[index:])), status=3)
        assert b"3 of 4 nodes, survives any 1" in ended.stderr
        assert cluster.got(f"during-{index}") == CONTENT[index:]
        node.start()
    assert len(cluster.names()) == 7


def test_all_dead_is_one_quick_line(cluster: Any) -> None:
    _stored(cluster)
    for node in cluster.nodes:
        node.kill()
    ended = cluster.dfs("ls", status=7)
    assert len(ended.stderr.decode().strip().splitlines()) == 1


def _quickest_s(cluster: Any, *arguments: str, status: int) -> float:
    """The least wall time of three runs: noise only ever adds."""
    times = []
    for _ in range(3):
        started_s = time.monotonic()
        cluster.dfs(*arguments, status=status)
        times.append(time.monotonic() - started_s)
    return min(times)


def test_a_frozen_node_costs_a_second_at_most(cluster: Any) -> None:
    """Compared with the same commands while the node is dead, so that slow machines do not matter."""
    _stored(cluster)
    path = str(cluster.file("more", CONTENT))
    healthy_s = {name: _quickest_s(cluster, *words, status=0) for name, words in _commands(path).items()}
    cluster.nodes[2].freeze()
    for name, words in _commands(path).items():
        frozen_s = _quickest_s(cluster, *words, status=3 if name == "put" else 0)
        assert frozen_s - healthy_s[name] < PATIENCE_S + 1.0, name  # a second of noise allowed
    cluster.nodes[2].thaw()
    assert cluster.got("more") == CONTENT


def _commands(path: str) -> dict[str, tuple[str, ...]]:
    return {"ls": ("ls",), "get": ("get", "big"), "put": ("put", path)}


def test_a_returning_node_is_used_by_the_running_client(cluster: Any) -> None:
    path = cluster.file("back.bin", SMALL)
    client = cluster.start("client", cwd=path.parent)

    def say(line: str) -> str:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(line + "\n")
        client.stdin.flush()
        return str(client.stdout.readline())

    assert say("PUT back.bin").startswith("File send.")
    cluster.nodes[3].kill()
    down = [say("PUT back.bin")]
    assert client.stdout is not None
    while not down[-1].startswith("File send."):
        down.append(client.stdout.readline())
    assert any("Server 4 is down." in line for line in down)
    assert "3 of 4 nodes" in down[-1]
    cluster.nodes[3].start()
    back = say("PUT back.bin")
    while not back.startswith("File send."):
        back = client.stdout.readline()
    assert "4 of 4 nodes" in back, back
    assert client.stdin is not None
    client.stdin.close()
    assert client.wait(10) == 0


def test_sigterm_ends_a_node_quickly_and_cleanly(cluster: Any) -> None:
    node = cluster.nodes[0]
    assert node.end(signal.SIGTERM) == 0
    node.start()
    _stored(cluster)
    assert cluster.got("big") == CONTENT
