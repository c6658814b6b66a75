"""Other shapes of cluster, and the classic scenario over plain tcp with the original's split, ring and a toy
cipher.
"""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

CONTENT = random.Random(21).randbytes(5_000_001)


def _conf(cluster: Any, rows: str, more: str = "") -> Path:
    path: Path = cluster.folder / "client.toml"
    secret = cluster.folder / "secret"
    secret.write_text("white rabbit\n")
    secret.chmod(0o600)
    path.write_text(f'format = 1\nuser = "Alice"\npassword_file = "{secret}"\n{more}\n{rows}')
    return path


def _node(node: Any, **more: object) -> str:
    extra = "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in more.items())
    return f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n{extra}\n'


def test_six_nodes_with_groups_of_four_honour_zones_and_weights(make_cluster: Any) -> None:
    cluster = make_cluster(6)
    zones = ["north", "north", "north", "south", "south", "south"]
    weights = [4.0, 1.0, 1.0, 4.0, 1.0, 1.0]
    rows = "".join(
        _node(node, zone=zone, weight=weight)
        for node, zone, weight in zip(cluster.nodes, zones, weights, strict=True)
    )
    conf = _conf(cluster, rows, "[geometry]\nneeded = 2\ntotal = 4\n")
    tree = cluster.folder / "tree"
    for index in range(24):  # every folder has a group of its own, every file its own content
        (tree / f"folder{index:02}").mkdir(parents=True)
        (tree / f"folder{index:02}" / "f").write_bytes(CONTENT[index : index + 400_000])
    cluster.dfs("put", "-r", str(tree), conf=conf)
    # weights: those of weight 4 get more than those of weight 1 in their zones (both at once: ids are drawn)
    heavy, light, third = (sum(map(_stored_size, cluster.nodes[place::3])) for place in range(3))
    assert heavy > light
    assert heavy > third
    # zones: two shares each in north and south, so a whole zone may die
    for node in cluster.nodes[:3]:
        node.kill()
    target = cluster.folder / "out"
    cluster.dfs("get", "-r", "tree", "-o", str(target), conf=conf)
    for index in range(24):
        assert (target / f"folder{index:02}" / "f").read_bytes() == CONTENT[index : index + 400_000]


def _stored_size(node: Any) -> int:
    volumes = [path for path in node.directory.rglob("*.vol") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in volumes)


def test_three_nodes(make_cluster: Any) -> None:
    cluster = make_cluster(3)
    ended = cluster.dfs("put", str(cluster.file("f", CONTENT)))
    assert b"3 of 3 nodes, survives any 2" in ended.stderr
    for pair in itertools.combinations(cluster.nodes, 2):
        for node in pair:
            node.kill()
        assert cluster.got("f") == CONTENT
        for node in pair:
            node.start()


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_nodes(make_cluster: Any, count: int) -> None:
    cluster = make_cluster(count)
    cluster.dfs("put", str(cluster.file("f", CONTENT)))
    assert cluster.got("f") == CONTENT


CLASSIC = (
    "--transport",
    "tcp",
    "--code",
    "split",
    "--placement",
    "ring",
    "--cipher",
    "xor",
    "--allow-insecure",
    "xor",
)


def test_the_classic_scenario(make_cluster: Any) -> None:
    """Split over a ring: any two nodes that are not neighbours may die, the others cost files, each told by
    LIST.
    """
    cluster = make_cluster(4, "--transport", "tcp", flags=CLASSIC)
    names = ["f.txt", "1.txt", "a b.txt", ".hidden"]  # one for each start of the ring
    for name in names:
        cluster.dfs("put", str(cluster.file(name, CONTENT)))
    for pair in itertools.combinations(range(4), 2):
        for index in pair:
            cluster.nodes[index].kill()
        listed = cluster.names()
        if pair in {(0, 2), (1, 3)}:
            assert listed == [f"{name} !" for name in sorted(names)]
            assert cluster.got("1.txt") == CONTENT
        else:
            assert listed == [f"{name} ! [incomplete]" for name in sorted(names)]
            cluster.dfs("get", "1.txt", "-o", str(cluster.folder / "none"), status=5)
            assert not (cluster.folder / "none").exists()
        for index in pair:
            cluster.nodes[index].start()
    for name in names:
        assert cluster.got(name) == CONTENT
    cluster.nodes[0].kill()
    refused = cluster.dfs("put", str(cluster.file("late", CONTENT)), status=7)
    assert b"late put failed" in refused.stderr


def test_users_in_clear_text_log_in_as_in_the_original(make_cluster: Any) -> None:
    cluster = make_cluster(4, "--transport", "tcp", flags=CLASSIC, clear=True)
    cluster.dfs("put", str(cluster.file("f.txt", CONTENT)))
    assert cluster.got("f.txt") == CONTENT


def test_a_toy_cipher_needs_a_word(make_cluster: Any) -> None:
    cluster = make_cluster(4)
    refused = cluster.dfs("--cipher", "xor", "put", str(cluster.file("f", CONTENT)), status=2)
    assert b"allow_insecure" in refused.stderr


def test_files_of_many_makes_live_side_by_side(cluster: Any) -> None:
    makes = [
        (),
        ("--cipher", "chacha20-poly1305"),
        ("--compressor", "none"),
        ("--code", "replicate"),
        ("--code", "split", "--placement", "ring"),
        ("--geometry", "3 of 4"),
        ("--cipher", "xor", "--allow-insecure", "xor"),
    ]
    for index, flags in enumerate(makes):
        cluster.dfs(*flags, "put", str(cluster.file(f"make{index}", CONTENT)))
    for index in range(len(makes) - 1):
        assert cluster.got(f"make{index}") == CONTENT
    last = len(makes) - 1
    cluster.dfs("get", f"make{last}", "-o", str(cluster.folder / "x"), status=2)
    got = cluster.dfs("--allow-insecure", "xor", "get", f"make{last}", "-o", str(cluster.folder / "x"))
    assert b"warning: cipher xor hides nothing" in got.stderr
    assert f"make{last} !" in cluster.dfs("ls").stdout.decode().splitlines()
    assert (cluster.folder / "x").read_bytes() == CONTENT
