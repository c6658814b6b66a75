"""The values refuse what cannot be."""

from collections.abc import Callable

import pytest

from dfs.core import limits
from dfs.core.types import NO_BALLOT, Ballot, Geometry, Node, NodeId, RegisterRow, Roster


def node(index: int, weight: float = 1.0) -> Node:
    return Node(NodeId(index.to_bytes(limits.NODE_ID_SIZE)), weight)


@pytest.mark.parametrize(("needed", "total"), [(1, 1), (2, 4), (16, 16)])
def test_a_geometry_is_k_of_n(needed: int, total: int) -> None:
    assert (Geometry(needed, total).needed, Geometry(needed, total).total) == (needed, total)


@pytest.mark.parametrize(("needed", "total"), [(0, 1), (3, 2), (1, 17), (-1, 4)])
def test_a_geometry_out_of_bounds_is_refused(needed: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{needed} of {total}"):
        Geometry(needed, total)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e6, float("inf"), float("nan")])
def test_a_weight_is_a_positive_number(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        node(1, weight)


def test_a_node_id_has_its_size() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Node(NodeId(b"short"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Roster(0, (node(1),), 1, 0),
        lambda: Roster(1 << 32, (node(1),), 1, 0),
        lambda: Roster(1, (), 1, 0),
        lambda: Roster(1, (node(1),), 2, 0),
        lambda: Roster(1, (node(1),), 1, 1),
        lambda: Roster(1, (node(1), node(1)), 1, 0),
        lambda: Roster(1, tuple(map(node, range(20))), limits.GROUP_SIZE_MAX + 1, 0),
    ],
)
def test_an_impossible_roster_is_refused(make: Callable[[], Roster]) -> None:
    with pytest.raises(ValueError):
        make()


def test_no_ballot_is_below_every_ballot() -> None:
    assert Ballot(bytes(limits.BALLOT_SIZE)) > NO_BALLOT


def test_the_value_of_a_row_is_not_printed() -> None:
    assert "sealed" not in repr(RegisterRow(value=b"sealed"))
