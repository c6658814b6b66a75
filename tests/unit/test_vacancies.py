"""An empty node takes the place of the node that is lost where the conf has it, and no other."""

from typing import Any

import pytest

from dfs.core.errors import ConfigError, ConflictError, UnreachableError
from dfs.core.types import NodeId
from dfs.core.vacancies import vacancy
from tests.unit.world import World

WORLD = World()
IDS = [server.node_id for server in WORLD.servers]
NEW = NodeId(b"new node" * 2)


class Stub:
    """A node of the conf, or its link: an object with names, equal to itself only."""

    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


def place(name: str, node: NodeId | None) -> Any:
    """A node of the conf and its link; None: it does not answer."""
    met = None if node is None else Stub(hello=Stub(node_id=node))
    return Stub(name=name), Stub(address=f"{name}:1", label=f"{name} {name}:1", met=met)


def found(name: str, *nodes: NodeId | None, absent: Any = ()) -> Any:
    places = [place(name, node) for name, node in zip("ABCD", nodes, strict=True)]
    links = {link.met.hello.node_id: link for _, link in places if link.met is not None}
    link, lost = vacancy(places, links, dict(absent), WORLD.vault(), name)
    return link.label, lost


def test_the_lost_node_is_the_one_at_that_place() -> None:
    assert found("c", IDS[0], IDS[1], NEW, IDS[3]) == ("C C:1", IDS[2])
    assert found("C", None, IDS[1], NEW, IDS[3]) == ("C C:1", IDS[2]), "in the order of the conf"
    assert found("D", IDS[1], IDS[0], IDS[2], NEW) == ("D D:1", IDS[3]), "only one is lost"


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ConflictError, match="2 nodes are lost, and it does not show whose place"):
        found("C", None, IDS[0], NEW, IDS[3])
    with pytest.raises(ConflictError, match="a node of this vault already"):
        found("A", IDS[0], IDS[1], NEW, IDS[3])
    with pytest.raises(ConfigError, match="names no node X"):
        found("X", *IDS)
    with pytest.raises(UnreachableError, match="C C:1 does not answer"):
        found("C", IDS[0], IDS[1], None, IDS[3])
    with pytest.raises(UnreachableError, match="frozen"):
        found("C", IDS[0], IDS[1], None, IDS[3], absent=[("C:1", UnreachableError("frozen"))])
