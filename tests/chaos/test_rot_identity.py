"""The files that make a node itself rot: id, certificate, key, format. It does not start, or is not taken for
itself, or nothing that counts has changed; what was stored is read all the same, and written.
"""

import io
import random
from pathlib import Path

import pytest

from dfs.cluster import open_cluster
from tests.chaos.kit import tally, write_conf
from tests.chaos.test_processes import House, house as house

FILES = ("node-id", "certificate.pem", "key.pem", "format")
BODY = random.Random(3).randbytes(900_000)


def starts(house: House) -> bool:
    """Whether the damaged node says that it is ready."""
    node = house.nodes[2]
    try:
        node.start()
    except AssertionError:  # it ended without a ready line, saying why
        return False
    return True


def damaged(content: bytes, dice: random.Random, how: str) -> bytes:
    if how == "flipped":
        place = dice.randrange(len(content))
        return content[:place] + bytes((content[place] ^ 1 << dice.randrange(8),)) + content[place + 1 :]
    return content[: len(content) // 2] if how == "cut" else b""


@pytest.mark.parametrize(
    "name", [FILES[0], *(pytest.param(name, marks=pytest.mark.chaos) for name in FILES[1:])]
)
def test_a_node_that_is_not_itself_any_more_harms_nobody(house: House, name: str) -> None:
    dice = random.Random(name)
    conf, state = str(write_conf(house.folder, house.nodes)), house.folder / "state"
    with open_cluster(conf, state=state) as cluster:
        cluster.put("letter", io.BytesIO(BODY))
    path = house.nodes[2].directory / ".node" / name
    content = path.read_bytes()
    started = 0
    ways = ["flipped", "flipped", "cut", "emptied"]
    for how in ways:
        house.nodes[2].kill()
        path.write_bytes(damaged(content, dice, how))
        started += starts(house)
        check(conf, state, how)
        house.nodes[2].kill()
        path.write_bytes(content)
    house.nodes[2].start()
    with open_cluster(conf, state=state) as cluster:
        assert cluster.put("letter", io.BytesIO(BODY)).node_count == 4, "itself again, it is taken back"
    tally(f"rot, {name}", damages=len(ways), started_anyhow=started)


def check(conf: str, state: Path, how: str) -> None:
    """With three good nodes at least, reading and writing goes on."""
    with open_cluster(conf, state=state) as cluster:
        target = io.BytesIO()
        cluster.get("letter", target)
        assert target.getvalue() == BODY
        assert cluster.put(f"later-{how}", io.BytesIO(b"still writing")).node_count >= 3
