"""The roster: canonical bytes, strict reading, and groups that spread by weight and zone."""

from collections import Counter

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from dfs.core import limits
from dfs.core.errors import RemoteProtocolError
from dfs.core.roster import (
    decode_roster,
    encode_roster,
    group_of,
    lineage,
    rank,
    roster_digest,
    score,
    succeeds,
)
from dfs.core.types import DirectoryId, Node, NodeId, Roster


def node(number: int, weight: float = 1.0, zone: str = "") -> Node:
    return Node(NodeId(number.to_bytes(16, "big")), weight, zone)


def keys(count: int) -> list[DirectoryId]:
    return [DirectoryId(number.to_bytes(16, "big")) for number in range(count)]


ROSTER = Roster(3, (node(1), node(2, 2.5, "north"), node(3, 1.0, "süd")), 3, 0)

weights = st.integers(1, 10**9 - 1).map(lambda thousandths: thousandths / 1000)
nodes = st.builds(
    Node,
    st.binary(min_size=16, max_size=16).map(NodeId),
    weights,
    st.text(max_size=20).filter(str.isprintable),
)


@st.composite
def rosters(draw: st.DrawFn) -> Roster:
    members = draw(st.lists(nodes, min_size=1, max_size=20, unique_by=lambda member: member.node_id))
    group_size = draw(st.integers(1, min(len(members), limits.GROUP_SIZE_MAX)))
    epoch = draw(st.integers(1, (1 << 32) - 1))
    return Roster(epoch, tuple(members), group_size, draw(st.integers(0, group_size - 1)))


@given(rosters())
def test_a_roster_comes_back(roster: Roster) -> None:
    assert decode_roster(encode_roster(roster)) == roster


@given(st.binary(max_size=200))
def test_anything_else_is_refused(encoded: bytes) -> None:
    try:
        roster = decode_roster(encoded)
    except RemoteProtocolError:
        return
    assert encode_roster(roster) == encoded


@given(st.integers(0, 10**4), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_another_roster(place: int, change: int) -> None:
    encoded = bytearray(encode_roster(ROSTER))
    encoded[place % len(encoded)] ^= change
    try:
        roster = decode_roster(bytes(encoded))
    except RemoteProtocolError:
        return
    assert roster != ROSTER


def test_another_format_is_refused() -> None:
    encoded = bytearray(encode_roster(ROSTER))
    assert encoded[1] == 1
    for other in (0, 2):
        encoded[1] = other
        with pytest.raises(RemoteProtocolError, match="expected 1"):
            decode_roster(bytes(encoded))


def test_what_breaks_a_rule_of_rosters_is_refused() -> None:
    twice = encode_roster(ROSTER).replace((2).to_bytes(16, "big"), (1).to_bytes(16, "big"))
    with pytest.raises(RemoteProtocolError, match="twice"):
        decode_roster(twice)


def test_a_tiny_weight_stays_above_zero() -> None:
    tiny = Roster(1, (node(1, 0.0001),), 1, 0)
    assert decode_roster(encode_roster(tiny)).nodes[0].weight == 0.001


def test_the_digest_follows_the_bytes() -> None:
    first = encode_roster(ROSTER)
    second = encode_roster(Roster(4, ROSTER.nodes, 3, 0))
    assert len({roster_digest(first), roster_digest(second)}) == 2
    assert len(roster_digest(first)) == limits.DIGEST_SIZE


def test_every_node_is_ranked_once_whatever_their_order() -> None:
    members = [node(number) for number in range(7)]
    for key in keys(20):
        ranked = rank(key, members)
        assert sorted(ranked, key=lambda member: member.node_id) == members
        assert ranked == rank(key, members[::-1])


def test_a_node_that_goes_takes_only_its_own_place() -> None:
    members = [node(number) for number in range(8)]
    for key in keys(50):
        ranked = rank(key, members)
        without = [member for member in members if member != ranked[2]]
        assert rank(key, without) == tuple(member for member in ranked if member != ranked[2])


def test_first_places_follow_the_weights() -> None:
    members = [node(1, 1.0), node(2, 3.0)]
    first = Counter(rank(key, members)[0].node_id for key in keys(2000))
    assert 1400 < first[members[1].node_id] < 1600  # 1,500 expected, 19 is one deviation


def test_scores_are_positive_and_differ() -> None:
    scores = {score(key, node(1)) for key in keys(100)}
    assert len(scores) == 100
    assert min(scores) > 0


def test_zones_take_turns() -> None:
    members = [node(number, zone="ab"[number % 2]) for number in range(6)]
    for key in keys(20):
        zones = [member.zone for member in rank(key, members)]
        assert all(set(zones[place : place + 2]) == {"a", "b"} for place in (0, 2, 4))


def test_a_small_zone_does_not_hold_up_the_rest() -> None:
    members = [node(1, zone="far"), *(node(number, zone="near") for number in range(2, 6))]
    for key in keys(20):
        zones = [member.zone for member in rank(key, members)]
        assert zones[:2].count("far") == 1
        assert zones[2:] == ["near"] * 3


def test_a_group_of_all_nodes_is_the_roster() -> None:
    assert group_of(ROSTER, keys(1)[0]) == (0, 1, 2)


def test_a_group_is_the_best_nodes_in_roster_order() -> None:
    roster = Roster(1, tuple(node(number) for number in range(10)), 4, 1)
    groups = set()
    for key in keys(50):
        group = group_of(roster, key)
        best = rank(key, roster.nodes)[:4]
        assert list(group) == sorted(group)
        assert {roster.nodes[index] for index in group} == set(best)
        groups.add(group)
    assert len(groups) > 20


def test_only_a_later_epoch_of_the_same_nodes_succeeds() -> None:
    before = encode_roster(ROSTER)
    later = encode_roster(evolve(ROSTER, epoch=4))
    assert succeeds(later, before)
    assert lineage(later) == (encode_roster(evolve(ROSTER, epoch=1)), 4)
    for other in (
        before,
        encode_roster(evolve(ROSTER, epoch=2)),
        encode_roster(evolve(ROSTER, epoch=9, nodes=ROSTER.nodes[:2], group_size=2)),
        encode_roster(evolve(ROSTER, epoch=9, tolerance=1)),
        encode_roster(evolve(ROSTER, epoch=9, nodes=ROSTER.nodes[::-1])),
        b"",
        b"\x95",
    ):
        assert not succeeds(other, before)
    assert not succeeds(later, b"none")
