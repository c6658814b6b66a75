"""Files come in batches, and many of them in the order in which nodes keep them."""

from itertools import pairwise

from dfs import batches
from dfs.core import limits
from dfs.core.keys import register_key, vault_keys

KEYS = vault_keys(b"m" * 32)


def made(paths: list[str], sizes: list[int | None] | None = None) -> list[list[int]]:
    return list(batches.put_batches(KEYS, paths, sizes or [1] * len(paths)))


def test_few_files_come_as_they_are_given() -> None:
    paths = [f"file{index}" for index in range(limits.REGISTER_COUNT)]
    assert made(paths) == [list(range(len(paths)))]
    assert made([]) == []


def test_rows_of_a_batch_lie_side_by_side() -> None:
    paths = [f"{folder}/file{index}" for index in range(500) for folder in ("b", "a/c", "a")]
    parts = made(paths)
    order = [index for part in parts for index in part]
    assert sorted(order) == list(range(len(paths)))
    assert [len(part) for part in parts] == [batches.PUT_COUNT] * 3 + [300]
    folders = [paths[index].rpartition("/")[0] for index in order]
    assert list(dict.fromkeys(folders)) == ["b", "a/c", "a"], "folder by folder, as they come"
    assert sum(left != right for left, right in pairwise(folders)) == 2
    for folder in ("b", "a/c", "a"):
        names = [register_key(KEYS, paths[i]).name for i in order if paths[i].rpartition("/")[0] == folder]
        assert names == sorted(names)


def test_a_name_that_is_given_twice_keeps_its_order() -> None:
    paths = [f"file{index}" for index in range(200)] * 2
    order = [index for part in made(paths) for index in part]
    assert all(order.index(index) < order.index(index + 200) for index in range(200))


def test_a_batch_has_no_more_bytes_than_its_bound() -> None:
    third = batches.PUT_SIZE // 3
    sizes: list[int | None] = [third, third, third, 1, None, 2 * batches.PUT_SIZE, 5]
    assert made([f"file{index}" for index in range(7)], sizes) == [[0, 1, 2, 3, 4], [5], [6]]


def test_files_to_fetch_come_in_the_same_order() -> None:
    paths = [f"file{index}" for index in range(batches.GET_COUNT + 10)]
    parts = list(batches.get_batches(KEYS, paths))
    assert [len(part) for part in parts] == [batches.GET_COUNT, 10]
    assert [index for part in parts for index in part] == [index for part in made(paths) for index in part]
    assert [list(part) for part in batches.get_batches(KEYS, paths[:5])] == [[0, 1, 2, 3, 4]]
    assert list(batches.get_batches(KEYS, [])) == []
