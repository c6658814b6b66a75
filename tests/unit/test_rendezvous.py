"""The placement rendezvous: the contract of placements; it follows the rank it is given, row by row."""

from collections.abc import Sequence

import pytest

from dfs.core.api import (
    IntegrityError,
    Node,
    NodeId,
    Placement,
    PlacementOptions,
    Scope,
    UnknownKeyError,
)
from dfs.plugins import rendezvous
from dfs.testing import PlacementContract
from dfs.testing.contracts.placement import PlacementVector

NODES = tuple(Node(NodeId(bytes([index]) * 16)) for index in range(5))


VECTORS = (
    PlacementVector((b"k" * 32).hex(), "", 4, 1, 5, ((0,), (1,), (3,), (2,))),
    PlacementVector((b"l" * 32).hex(), "", 3, 2, 3, ((0, 1), (1, 2), (2, 0))),
    PlacementVector((b"m" * 32).hex(), "", 6, 1, 16, ((2,), (8,), (9,), (7,), (10,), (12,))),
)


class TestRendezvous(PlacementContract):
    (plugin,) = rendezvous.dfs_placements()
    vectors = VECTORS


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
