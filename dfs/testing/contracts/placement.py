"""The contract of a placement: different nodes, evenly, the same ones for ever."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from attrs import frozen
from blake3 import blake3
from hypothesis import given, strategies as st

from dfs.core.api import (
    ConfigError,
    IntegrityError,
    Node,
    NodeId,
    Placement,
    PlacementOptions,
    PlacementPlugin,
    Scope,
    Settings,
    limits,
)
from dfs.core.roster import rank
from dfs.testing.contracts.base import OptionedContract, in_threads, property_test

SHAPES = [
    (1, 1, 1),
    (1, 1, 4),
    (4, 1, 4),
    (3, 1, 4),
    (4, 2, 4),
    (2, 2, 2),
    (3, 2, 5),
    (16, 1, 16),
    (14, 1, 16),
]
KEY_COUNT = 600
NAMES = {Scope.CHUNK: 32, Scope.CONTENT: 16}  # sizes of the keys that are hashes


@frozen
class PlacementVector:
    """Rows of a format version for nodes of `node`: ``key`` and ``facts`` in hex, rows of node indexes."""

    key: str
    facts: str
    count: int
    copies: int
    total: int
    rows: tuple[tuple[int, ...], ...]


def node(index: int) -> Node:
    """Return one of the nodes of the tests."""
    return Node(NodeId(blake3(b"node %d" % index).digest()[:16]), 1.0, f"zone {index % 4}")


NODES = tuple(map(node, range(16)))


class PlacementContract(OptionedContract[PlacementPlugin]):
    """Derive it and name the ``plugin``; ``vectors``: frozen rows of its format version."""

    kind = PlacementPlugin
    vectors: ClassVar[Any] = ()  # PlacementVector objects

    def new(self) -> Placement:
        """Return a placement."""
        placement: Placement = self.plugin.make(PlacementOptions(rank=rank, values=self.values))
        return placement

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(PlacementOptions(rank=rank, values=values))

    def key(self, number: int) -> bytes:
        """Return a key as the core makes them for this scope: a stripe id, a name, or an MD5."""
        scope = self.new().scope
        digest: bytes = blake3(b"key %d" % number).digest()
        return b"file-%d.txt" % number if scope is Scope.NAME else digest[: NAMES[scope]]

    def rows(
        self, number: int, count: int, copies: int, nodes: Sequence[Node], placement: Placement | None = None
    ) -> tuple[tuple[Node, ...], ...]:
        """Place what key ``number`` stands for, as the core does."""
        placed, key = placement or self.new(), self.key(number)
        by_chunk = placed.scope is Scope.CHUNK
        facts = placed.facts(b"" if by_chunk else key, nodes)
        return placed.place(facts, key if by_chunk else b"", count, copies, nodes)

    def test_facts_are_few(self) -> None:
        """What a manifest keeps is small, is bytes, and follows from key and nodes alone."""
        placement = self.new()
        assert isinstance(placement.scope, Scope)
        key = b"" if placement.scope is Scope.CHUNK else self.key(1)
        for total in range(1, 17):
            facts = placement.facts(key, NODES[:total])
            assert isinstance(facts, bytes)
            assert len(facts) <= limits.FACTS_SIZE_MAX
            assert facts == self.new().facts(key, NODES[:total])

    @pytest.mark.parametrize(("count", "copies", "total"), SHAPES)
    def test_every_share_has_its_nodes(self, count: int, copies: int, total: int) -> None:
        """``count`` rows of ``copies`` different nodes, all of the group; a single node is listed once."""
        nodes = NODES[:total]
        for number in range(40):
            rows = self.rows(number, count, copies, nodes)
            assert len(rows) == count
            for row in rows:
                assert len(row) == len(set(row)) == min(copies, total)
                assert set(row) <= set(nodes)

    @pytest.mark.parametrize(("count", "copies", "total"), SHAPES)
    def test_no_node_is_preferred_for_two_shares(self, count: int, copies: int, total: int) -> None:
        """A lost node must cost one share of a stripe, not two."""
        for number in range(40):
            preferred = [row[0] for row in self.rows(number, count, copies, NODES[:total])]
            assert len(set(preferred)) == count

    def test_known_answers(self) -> None:
        """Rows of a format version are frozen: shares are looked for where they were put."""
        if not self.vectors:
            pytest.skip(
                "no known answers: set `vectors`, so that shares are found where this format version put them"
            )
        for vector in self.vectors:
            nodes = NODES[: vector.total]
            rows = self.new().place(
                bytes.fromhex(vector.facts), bytes.fromhex(vector.key), vector.count, vector.copies, nodes
            )
            assert tuple(tuple(map(nodes.index, row)) for row in rows) == vector.rows

    def test_placing_is_deterministic(self) -> None:
        """The same rows again and from another instance, whatever was placed meanwhile."""
        placement = self.new()
        first = [self.rows(number, 4, 1, NODES[:7], placement) for number in range(30)]
        for number in reversed(range(30)):
            assert self.rows(number, 4, 1, NODES[:7], placement) == first[number]
            assert self.rows(number, 4, 1, NODES[:7]) == first[number]

    def test_every_node_gets_its_part(self) -> None:
        """Over many keys and nodes of one weight nobody is preferred less than half or twice the mean."""
        nodes = NODES[:5]
        held = Counter(row[0] for number in range(KEY_COUNT) for row in self.rows(number, 2, 1, nodes))
        mean = 2 * KEY_COUNT / len(nodes)
        assert all(mean / 2 <= held[node] <= mean * 2 for node in nodes), [held[node] for node in nodes]

    @pytest.mark.parametrize(
        ("count", "copies", "total"), [(4, 1, 3), (1, 4, 3), (3, 3, 2), (1, 1, 0), (2, 2, 1)]
    )
    def test_too_few_nodes_are_refused(self, count: int, copies: int, total: int) -> None:
        """ConfigError: less safety than asked for is never given silently."""
        placement, key = self.new(), self.key(1)
        by_chunk = placement.scope is Scope.CHUNK
        facts = placement.facts(b"" if by_chunk else key, NODES[: total or 1])
        with pytest.raises(ConfigError):
            placement.place(facts, key if by_chunk else b"", count, copies, NODES[:total])

    @property_test
    @given(st.binary(max_size=70))
    def test_any_facts_place_or_are_refused(self, facts: bytes) -> None:
        """Hostile facts of a manifest: right rows or an IntegrityError, never anything else."""
        placement = self.new()
        key = self.key(1) if placement.scope is Scope.CHUNK else b""
        try:
            rows = placement.place(facts, key, 4, 1, NODES[:4])
        except IntegrityError:
            return
        assert len(rows) == 4
        assert all(len(row) == 1 and row[0] in NODES[:4] for row in rows)

    def test_facts_beyond_any_bound_are_refused(self) -> None:
        """IntegrityError for facts longer than a manifest can hold."""
        placement = self.new()
        key = self.key(1) if placement.scope is Scope.CHUNK else b""
        with pytest.raises(IntegrityError):
            placement.place(b"\xff" * (limits.FACTS_SIZE_MAX + 1), key, 4, 1, NODES[:4])

    def test_the_nodes_are_left_alone(self) -> None:
        """The sequence of nodes belongs to the caller: it is neither changed nor kept."""
        nodes, placement = list(NODES[:6]), self.new()
        rows = self.rows(3, 4, 1, nodes, placement)
        assert nodes == list(NODES[:6])
        nodes.reverse()
        assert self.rows(3, 4, 1, NODES[:6], placement) == rows

    def test_threads_share_one_placement(self) -> None:
        """Eight threads place with one object."""
        placement = self.new()
        right = [self.rows(number, 4, 1, NODES[:9]) for number in range(80)]

        def work(index: int) -> bool:
            numbers = range(index, 80, 2)
            return all(self.rows(number, 4, 1, NODES[:9], placement) == right[number] for number in numbers)

        assert all(in_threads(work))
