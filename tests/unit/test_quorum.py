"""Quorums: the table of the design for n = 1..16, and thresholds of every code against brute force."""

from collections.abc import Collection, Sequence
from itertools import chain, combinations

import pytest
from hypothesis import given, strategies as st

from dfs.core import limits
from dfs.core.errors import ConfigError
from dfs.core.quorum import (
    Quorum,
    default_geometry,
    default_tolerance,
    quorum_of,
    readable,
    share_threshold,
    survives,
)
from dfs.core.types import Geometry

Rows = Sequence[tuple[int, ...]]

# n: r, k, R, W, H, and least survived losses when a write is OK
TABLE = {
    1: (0, 1, 1, 1, 1, 0),
    2: (0, 1, 1, 2, 2, 1),
    3: (0, 1, 2, 2, 2, 1),
    4: (1, 2, 3, 3, 3, 1),
    5: (1, 2, 3, 4, 4, 2),
    6: (1, 3, 4, 4, 4, 1),
    7: (1, 3, 4, 5, 5, 2),
    8: (1, 4, 5, 5, 5, 1),
    9: (1, 4, 5, 6, 6, 2),
    10: (1, 5, 6, 6, 6, 1),
    11: (1, 5, 6, 7, 7, 2),
    12: (1, 6, 7, 7, 7, 1),
    13: (1, 6, 7, 8, 8, 2),
    14: (1, 7, 8, 8, 8, 1),
    15: (1, 7, 8, 9, 9, 2),
    16: (1, 8, 9, 9, 9, 1),
}


def one_each(total: int) -> Rows:
    return tuple((index,) for index in range(total))


def ring(total: int) -> Rows:
    """What split makes of the original's ring: share i on node i and on the one before."""
    return tuple((index, (index - 1) % total) for index in range(total))


def is_readable(geometry: Geometry, rows: Rows, holders: Collection[int]) -> bool:
    """Say the same as `readable`, from the other side: which shares are within reach."""
    reached = {index for index, nodes in enumerate(rows) if set(nodes) & set(holders)}
    return len(reached) >= geometry.needed


def subsets(nodes: Collection[int]) -> chain[tuple[int, ...]]:
    return chain.from_iterable(combinations(sorted(nodes), size) for size in range(len(nodes) + 1))


@pytest.mark.parametrize("total", TABLE)
def test_the_table(total: int) -> None:
    tolerance, needed, read, write, threshold, survived = TABLE[total]
    assert default_tolerance(total) == tolerance
    assert default_geometry(total) == Geometry(needed, total)
    quorum = quorum_of(total, tolerance)
    assert quorum == Quorum(total, tolerance, read, write)
    assert share_threshold(Geometry(needed, total), one_each(total), quorum) == threshold
    assert survives(Geometry(needed, total), one_each(total), range(threshold)) == survived


def test_the_table_is_whole() -> None:
    assert list(TABLE) == list(range(1, limits.GROUP_SIZE_MAX + 1))


@pytest.mark.parametrize("total", TABLE)
@pytest.mark.parametrize("tolerance", range(4))
def test_every_read_meets_every_write_on_a_node_that_remembers(total: int, tolerance: int) -> None:
    try:
        quorum = quorum_of(total, tolerance)
    except ConfigError:
        assert (total + 1 + tolerance + 1) // 2 > total  # not even asking everybody would do
        return
    assert quorum.read + quorum.write >= total + 1 + tolerance
    assert 0 <= quorum.write - quorum.read <= 1
    assert max(quorum.read, quorum.write) <= total
    # A chosen ballot is on W nodes, of which r may have forgotten: fewer than this many can lack it.
    assert quorum.excluded() == total - quorum.write + tolerance + 1
    # Those of the r that are known to be rolled back cannot be among the ones that lack it.
    for known in range(tolerance + 3):
        assert quorum.excluded(known) == total - quorum.write + max(0, tolerance - known) + 1


@pytest.mark.parametrize(("total", "tolerance"), [(0, 0), (17, 1), (4, -1), (1, 1), (3, 3)])
def test_impossible_groups_are_refused(total: int, tolerance: int) -> None:
    with pytest.raises(ConfigError):
        quorum_of(total, tolerance)


def test_large_clusters_have_groups_of_sixteen() -> None:
    assert default_geometry(40) == Geometry(8, 16)


@pytest.mark.parametrize(
    ("needed", "total", "threshold"),
    [(3, 4, 4), (1, 4, 3), (2, 4, 3), (4, 4, 4), (5, 6, 6), (1, 16, 9), (12, 16, 13), (1, 1, 1)],
)
def test_another_k_moves_the_threshold_only(needed: int, total: int, threshold: int) -> None:
    quorum = quorum_of(total, default_tolerance(total))
    assert share_threshold(Geometry(needed, total), one_each(total), quorum) == threshold


@pytest.mark.parametrize(("total", "threshold"), [(2, 2), (3, 3), (4, 4), (5, 5)])
def test_split_on_the_ring_needs_every_node(total: int, threshold: int) -> None:
    """Two neighbours hold all there is of one part, so from n - 1 nodes one more loss may be too many."""
    geometry = Geometry(total, total)
    quorum = quorum_of(total, default_tolerance(total))
    assert share_threshold(geometry, ring(total), quorum) == threshold
    assert survives(geometry, ring(total), range(total)) == 1


def test_a_map_that_survives_nothing_needs_every_node() -> None:
    rows = one_each(4)
    assert share_threshold(Geometry(4, 4), rows, quorum_of(4, 1)) == 4
    assert survives(Geometry(4, 4), rows, range(4)) == 0


def test_replicas_on_more_nodes_than_shares() -> None:
    rows = ((0, 1), (2, 3))
    geometry = Geometry(1, 2)
    assert share_threshold(geometry, rows, quorum_of(4, 1)) == 3
    assert survives(geometry, rows, {0, 1, 2, 3}) == 3
    assert survives(geometry, rows, {0, 2}) == 1


def test_what_is_lost_survives_nothing() -> None:
    assert survives(Geometry(2, 4), one_each(4), {3}) == -1
    assert not readable(Geometry(2, 4), one_each(4), {3})
    assert readable(Geometry(2, 4), one_each(4), {0, 3})


@st.composite
def maps(draw: st.DrawFn) -> tuple[Geometry, Rows]:
    total = draw(st.integers(1, 5))
    node_count = draw(st.integers(1, 5))
    node = st.integers(0, node_count - 1)
    rows = draw(
        st.lists(
            st.lists(node, min_size=1, max_size=2, unique=True).map(tuple), min_size=total, max_size=total
        )
    )
    return Geometry(draw(st.integers(1, total)), total), tuple(rows)


@given(maps())
def test_readable_and_survives_agree_with_brute_force(case: tuple[Geometry, Rows]) -> None:
    geometry, rows = case
    nodes = {node for row in rows for node in row}
    for holders in subsets(nodes):
        assert readable(geometry, rows, holders) is is_readable(geometry, rows, holders)
        fatal = [
            len(lost)
            for lost in subsets(holders)
            if not is_readable(geometry, rows, set(holders).difference(lost))
        ]
        assert survives(geometry, rows, holders) == min(fatal, default=len(holders) + 1) - 1


@given(maps())
def test_the_threshold_leaves_one_more_loss_to_survive(case: tuple[Geometry, Rows]) -> None:
    geometry, rows = case
    nodes = {node for row in rows for node in row}
    total = max(len(nodes), 1)
    threshold = share_threshold(geometry, rows, quorum_of(total, default_tolerance(total)))
    assert 1 <= threshold <= max(len(nodes), geometry.total)
    if survives(geometry, rows, nodes) >= 1 and threshold <= len(nodes):
        held = list(combinations(sorted(nodes), threshold))
        assert all(survives(geometry, rows, holders) >= 1 for holders in held)
