"""The placement ring: the contract of placements, the original's table, its numbers x."""

import hashlib
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
from dfs.plugins import ring
from dfs.testing import PlacementContract
from dfs.testing.contracts.placement import PlacementVector

NODES = tuple(Node(NodeId(bytes([index]) * 16)) for index in range(16))


class TestRing(PlacementContract):
    (plugin,) = ring.dfs_placements()
    vectors = (PlacementVector("", "02", 4, 2, 4, ((2, 1), (3, 2), (0, 3), (1, 0))),)


class TestRingOfContents(PlacementContract):
    (plugin,) = ring.dfs_placements()
    values = {"hash": "content"}
    vectors = TestRing.vectors


def rank(_key: bytes, nodes: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(nodes)


def make(hash_of: str = "name") -> Placement:
    return ring.make(PlacementOptions(rank=rank, values={"hash": hash_of}))


def held(x: int, total: int) -> list[set[int]]:
    """The shares each node holds, counted from 0."""
    rows = make().place(bytes([x]), b"", total, 2, NODES[:total])
    return [{index for index, row in enumerate(rows) if node in row} for node in NODES[:total]]


@pytest.mark.parametrize(
    ("x", "pieces"),
    [
        (0, [{1, 2}, {2, 3}, {3, 4}, {4, 1}]),
        (1, [{4, 1}, {1, 2}, {2, 3}, {3, 4}]),
        (2, [{3, 4}, {4, 1}, {1, 2}, {2, 3}]),
        (3, [{2, 3}, {3, 4}, {4, 1}, {1, 2}]),
    ],
)
def test_the_table_of_four(x: int, pieces: list[set[int]]) -> None:
    assert [{index + 1 for index in shares} for shares in held(x, 4)] == pieces


def test_five_nodes_turned_by_two() -> None:
    assert held(2, 5) == [{3, 4}, {4, 0}, {0, 1}, {1, 2}, {2, 3}]


def test_two_nodes_hold_both_and_one_is_listed_once() -> None:
    assert held(0, 2) == held(1, 2) == [{0, 1}, {0, 1}]
    assert make().place(b"\0", b"", 1, 2, NODES[:1]) == ((NODES[0],),)


@pytest.mark.parametrize("total", range(1, 17))
def test_the_closed_form_preferred_first(total: int) -> None:
    for x in range(total):
        rows = make().place(bytes([x]), b"", total, 2, NODES[:total])
        for index, row in enumerate(rows):
            both = (NODES[(index + x) % total], NODES[(index + x - 1) % total])
            assert row == (both if total > 1 else both[:1])
        assert make().place(bytes([x]), b"", total, 1, NODES[:total]) == tuple(row[:1] for row in rows)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("f.txt", (0, 1, 0, 5)),
        ("1.txt", (3, 1, 0, 3)),
        ("a b.txt", (1, 1, 2, 1)),
        (".hidden", (2, 1, 3, 3)),
        ("r\u00e9sum\u00e9.pdf", (3, 1, 0, 0)),
        ("\u65e5\u672c.txt", (2, 0, 1, 2)),
    ],
)
def test_x_of_a_name(name: str, numbers: tuple[int, ...]) -> None:
    key = name.encode()
    assert tuple(make().facts(key, NODES[:total])[0] for total in (4, 3, 5, 7)) == numbers


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (b"", (2, 0, 1, 1)),
        (b"abc", (2, 1, 0, 0)),
        (b"hello", (2, 1, 4, 4)),
        (b"hello\n", (0, 1, 2, 4)),
        (bytes(range(256)), (0, 0, 1, 1)),
        (b"A" * (1 << 20), (0, 1, 2, 3)),
    ],
)
def test_x_of_a_content(content: bytes, numbers: tuple[int, ...]) -> None:
    key = hashlib.md5(content, usedforsecurity=False).digest()
    assert tuple(make("content").facts(key, NODES[:total])[0] for total in (4, 3, 5, 7)) == numbers


def test_a_content_is_given_by_its_digest_only() -> None:
    with pytest.raises(ValueError):
        make("content").facts(b"hello", NODES)


@pytest.mark.parametrize("facts", [b"", b"\4", b"\xff", b"\0\0"])
def test_other_facts_are_refused(facts: bytes) -> None:
    with pytest.raises(IntegrityError):
        make().place(facts, b"", 4, 2, NODES[:4])


def test_declaration() -> None:
    (plugin,) = ring.dfs_placements()
    assert (plugin.name, plugin.format_version) == ("ring", 1)
    assert plugin.make(PlacementOptions(rank=rank)).scope is make("name").scope is Scope.NAME
    assert make("content").scope is Scope.CONTENT
    with pytest.raises(ConfigError, match="hash is name or content, not 'md5'"):
        make("md5")
    with pytest.raises(UnknownKeyError, match="ring has no option 'x': it has hash"):
        plugin.make(PlacementOptions(rank=rank, values={"x": "1"}))
