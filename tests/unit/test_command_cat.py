"""`dfs cat`: verified bytes on stdout, whole or in part."""

import os
from pathlib import Path
from typing import Any

import pytest

BIG = os.urandom(9 << 20)  # three chunks


@pytest.fixture
def full_home(home: Any) -> Any:
    home.write("big", BIG)
    home.write("a", b"first\n")
    home.write("b", b"second\n")
    home.dfs("put", "big", "a", "b")
    return home


def test_files_come_one_after_the_other(full_home: Any) -> None:
    assert full_home.dfs("cat", "a", "b") == ["first", "second"]
    assert full_home.dfs("cat", "[ab]") == ["first", "second"]
    assert full_home.dfs("cat", "a", "missing", "b", status=4) == ["first", "second"]


@pytest.mark.parametrize(
    ("part", "start", "end"),
    [
        ("0-0", 0, 1),
        ("10-19", 10, 20),
        ("4194303-4194304", (4 << 20) - 1, (4 << 20) + 1),  # over the border of two chunks
        ("8388600-", 8_388_600, 9 << 20),
        ("-100", (9 << 20) - 100, 9 << 20),
        ("9437180-99999999", 9_437_180, 9 << 20),
        ("99999999-", 0, 0),
    ],
)
def test_only_the_bytes_asked_for(full_home: Any, part: str, start: int, end: int) -> None:
    full_home.dfs("get", "big", "--range", part, "-o", "piece")
    assert (full_home.folder / "piece").read_bytes() == BIG[start:end]


def test_a_part_costs_the_traffic_of_its_chunks(full_home: Any) -> None:
    (row,) = full_home.json("get", "big", "--range", "5000000-5000100", "-o", "piece")["data"]["files"]
    assert sum(row["bytes_by_node"].values()) < (4 << 20) + 1000
    assert row["size"] == 101


def test_a_part_of_a_tiny_file(full_home: Any) -> None:
    assert full_home.dfs("cat", "--range", "2-3", "a") == ["rs"]
    assert full_home.dfs("cat", "--range", "-3", "a") == ["st"]


@pytest.mark.parametrize("part", ["", "-", "5-2", "x-y", "1", "1-2-3"])
def test_what_is_no_range_is_refused_before_the_login(home: Any, part: str) -> None:
    home.kill(4)
    home.dfs("cat", "--range", part, "a", status=2)
    assert "--range: " in home.err


def test_json_and_bytes_do_not_mix(full_home: Any) -> None:
    full_home.dfs("--json", "cat", "a", status=2)


def test_a_file_without_enough_shares_gives_no_byte(full_home: Any) -> None:
    full_home.kill(3)
    assert full_home.dfs("cat", "big", status=5) == []
    assert Path("big").stat().st_size == len(BIG)
    assert full_home.dfs("cat", "a") == ["first"]
    assert "may be stale" in full_home.err
    full_home.dfs("--strict", "cat", "a", status=3)
