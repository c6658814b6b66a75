"""The placement rendezvous: follows the rank it is given, row by row."""

from collections.abc import Sequence

import pytest

from dfs.core.api import (
    ConfigError,
    IntegrityError,
    Node,
    NodeId,
    Placement,
    PlacementOptions,
    Scope,
    UnknownKeyError,
)
from dfs.plugins import rendezvous

NODES = tuple(Node(NodeId(bytes([index]) * 16)) for index in range(5))


def rank(key: bytes, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Turn the nodes by the first byte of the key, backwards."""
    return tuple(nodes[(key[0] - index) % len(nodes)] for index in range(len(nodes)))


@pytest.fixture(name="placement")
def make_placement() -> Placement:
    return rendezvous.make(PlacementOptions(rank=rank))


def indexes(rows: tuple[tuple[Node, ...], ...]) -> list[list[int]]:
    return [[NODES.index(node) for node in row] for row in rows]


def test_one_copy_follows_the_rank(placement: Placement) -> None:
    assert indexes(placement.place(b"", b"\3", 4, 1, NODES)) == [[3], [2], [1], [0]]
    assert indexes(placement.place(b"", b"\0", 5, 1, NODES)) == [[0], [4], [3], [2], [1]]


def test_more_copies_go_on_the_next_nodes_round(placement: Placement) -> None:
    assert indexes(placement.place(b"", b"\2", 3, 2, NODES[:3])) == [[2, 1], [1, 0], [0, 2]]
    assert indexes(placement.place(b"", b"\0", 1, 3, NODES[:3])) == [[0, 2, 1]]


def test_a_single_node_is_listed_once(placement: Placement) -> None:
    assert indexes(placement.place(b"", b"\0", 1, 2, NODES[:1])) == [[0]]


@pytest.mark.parametrize(
    ("count", "copies", "total"), [(4, 1, 3), (1, 4, 3), (3, 3, 2), (1, 1, 0), (2, 2, 1)]
)
def test_too_few_nodes_are_refused(placement: Placement, count: int, copies: int, total: int) -> None:
    with pytest.raises(ConfigError):
        placement.place(b"", b"\0", count, copies, NODES[:total])


def test_nothing_is_remembered(placement: Placement) -> None:
    assert placement.facts(b"", NODES) == b""
    assert placement.scope is Scope.CHUNK
    with pytest.raises(IntegrityError):
        placement.place(b"\0", b"\0", 1, 1, NODES)


def test_declaration() -> None:
    (plugin,) = rendezvous.dfs_placements()
    assert (plugin.name, plugin.format_version) == ("rendezvous", 1)
    with pytest.raises(UnknownKeyError, match="rendezvous has no option 'hash'"):
        plugin.make(PlacementOptions(rank=rank, values={"hash": "name"}))
