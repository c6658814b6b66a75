"""Runs fit their bounds and leave nothing out."""

from itertools import pairwise

from hypothesis import given, strategies as st

from dfs.core.runs import runs


@given(st.lists(st.integers(0, 50)), st.integers(1, 60), st.integers(1, 9))
def test_runs_are_as_long_as_their_bounds_allow(sizes: list[int], size_max: int, count_max: int) -> None:
    made = list(runs(sizes, int, size_max, count_max))
    assert [size for run in made for size in run] == sizes
    for run in made:
        assert 1 <= len(run) <= count_max
        assert sum(run) <= size_max or len(run) == 1
    for run, following in pairwise(made):
        assert len(run) == count_max or sum(run) + following[0] > size_max


def test_without_a_bound_of_their_count_only_sizes_matter() -> None:
    assert list(runs("abcdefg", lambda _letter: 1, 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(runs([], int, 1)) == []
