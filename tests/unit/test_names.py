"""What a cluster does with names: patterns, and how much fits on nodes of unequal size."""

from collections.abc import Iterator
from typing import Any

import pytest

from dfs.cluster import Cluster, open_cluster
from dfs.core.errors import ConfigError, NotFoundError
from dfs.names import fits, joint_share_size


@pytest.fixture
def cluster(home: Any) -> Iterator[Cluster]:
    home.write("f")
    for path in ("a.txt", "b.txt", ".c.txt", "x/a.txt", "y/a.txt", "[q].txt", "q.txt"):
        home.dfs("put", "f", "--to", path)
    with open_cluster() as opened:
        yield opened


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a.txt", ["a.txt"]),
        ("missing", ["missing"]),  # no pattern: what it is shows the command
        ("?.txt", ["a.txt", "b.txt", "q.txt"]),
        (".*", [".c.txt"]),
        ("*/a.txt", ["x/a.txt", "y/a.txt"]),
        ("x/*", ["x/a.txt"]),
        ("[xy]/*.txt", ["x/a.txt", "y/a.txt"]),
        ("[q].txt", ["[q].txt"]),  # a name that is there wins
        ("*", ["[q].txt", "a.txt", "b.txt", "q.txt", "x", "y"]),
    ],
)
def test_a_pattern_stands_for_the_names_like_it(cluster: Cluster, pattern: str, found: list[str]) -> None:
    assert cluster.match(pattern) == found


@pytest.mark.parametrize("pattern", ["*.jpg", "*/missing", "a.txt/*", "none/*"])
def test_a_pattern_for_nothing_is_not_found(cluster: Cluster, pattern: str) -> None:
    with pytest.raises(NotFoundError):
        cluster.match(pattern)


def test_where_several_go(cluster: Cluster) -> None:
    assert cluster.target("new", ["a.txt"]) == {"a.txt": "new"}
    assert cluster.target("x", ["a.txt"]) == {"a.txt": "x/a.txt"}
    assert cluster.target("new/", ["a.txt", "b.txt"]) == {"a.txt": "new/a.txt", "b.txt": "new/b.txt"}
    assert cluster.target("", ["x/a.txt"]) == {"x/a.txt": "a.txt"}
    with pytest.raises(ConfigError, match="new is no folder"):
        cluster.target("new", ["a.txt", "b.txt"])


@pytest.mark.parametrize(
    ("limits", "group_size", "copies", "fitting"),
    [
        ([], 4, 1, 0),
        ([5, 5, 5, 5], 4, 1, 5),
        ([1, 5, 5, 5], 4, 1, 1),  # every file needs all four
        ([1, 5, 5, 5], 3, 1, 5),  # three of four: the small one is hardly missed
        ([2, 2, 2, 2, 2, 2], 4, 1, 3),
        ([10, 1, 1, 1], 2, 1, 3),  # the large one takes part in every file, the others share the rest
        ([6, 6, 6, 6], 4, 2, 3),
        ([0, 0, 0], 3, 1, 0),
    ],
)
def test_how_much_fits_together(limits: list[int], group_size: int, copies: int, fitting: int) -> None:
    assert joint_share_size(limits, group_size, copies) == fitting


def test_hidden_names_are_meant_by_patterns_that_say_so() -> None:
    assert not fits(".a", "*")
    assert fits(".a", ".*")
    assert not fits("A", "a")
