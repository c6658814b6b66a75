"""Decisions of a register: tables for a node's side, a model that tries every history for the client's."""

from collections.abc import Mapping, Sequence

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings, strategies as st

from dfs.core import limits, register
from dfs.core.bulk_rows import RowState
from dfs.core.quorum import Quorum, default_tolerance, quorum_of
from dfs.core.register import Memory, Verdict, decide_read
from dfs.core.types import NO_BALLOT, Ballot, NodeId, RegisterRow


def ballot(counter: int, attempt: int = 0) -> Ballot:
    return register.make_ballot(counter, bytes((attempt,)) * 16)


def row(counter: int, *, digest: bytes = b"", value: bytes = b"v", confirmed: bool = False) -> RegisterRow:
    at = ballot(counter)
    return RegisterRow(at, at, value, digest or at, confirmed=b"tag" if confirmed else b"")


def node(number: int) -> NodeId:
    return NodeId(bytes((number,)) * 16)


def read(
    rows: Mapping[int, RegisterRow | RowState | None],
    quorum: Quorum,
    *,
    final: bool = True,
    away: Sequence[int] = (),
    rolled_back: int = 0,
) -> register.Reading:
    """Read from ACTIVE nodes but those that are ``away`` from the count (JOINING, QUARANTINED)."""
    states = {node(at): held if isinstance(held, RowState) else RowState(held) for at, held in rows.items()}
    counted = frozenset(node(at) for at in range(quorum.total) if at not in away)
    return decide_read(
        states,
        quorum,
        counted=counted,
        confirmed=lambda held: held.confirmed == b"tag",
        final=final,
        rolled_back=rolled_back,
    )


FOUR = quorum_of(4, 1)  # R = W = 3

# --- Ballots and digests ------------------------------------------------------------------------------------

counters = st.integers(0, (1 << 64) - 1)
attempts = st.binary(min_size=16, max_size=16)


@given(counters, attempts, counters, attempts)
def test_ballots_compare_by_counter_then_attempt(
    first: int, first_attempt: bytes, second: int, second_attempt: bytes
) -> None:
    one, other = register.make_ballot(first, first_attempt), register.make_ballot(second, second_attempt)
    assert (one < other) is ((first, first_attempt) < (second, second_attempt))
    assert one > NO_BALLOT
    assert register.counter_of(one) == first
    assert len(one) == limits.BALLOT_SIZE


def test_the_next_counter_is_above_all_seen() -> None:
    assert register.next_counter([]) == 1
    assert register.next_counter([NO_BALLOT]) == 1
    assert register.next_counter([ballot(3), ballot(7), NO_BALLOT]) == 8


def test_a_ballot_far_ahead_is_noticed() -> None:
    jump = limits.BALLOT_COUNTER_JUMP_MAX
    assert not register.jumps(ballot(5 + jump), 5)
    assert register.jumps(ballot(6 + jump), 5)
    assert not register.jumps(NO_BALLOT, 0)


def test_digests_name_value_and_claims() -> None:
    claim_set = register.claim_set_digest(b"claims")
    digests = {
        register.value_digest(b"value", claim_set),
        register.value_digest(b"value", b""),
        register.value_digest(b"other", claim_set),
        claim_set,
    }
    assert {len(digest) for digest in digests} == {limits.DIGEST_SIZE}
    assert len(digests) == 4
    assert register.claim_set_digest(b"") == b""


# --- The node's side ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promised", "floor", "asked", "obstacle"),
    [
        (None, 0, 1, 0),
        (None, 3, 4, 0),
        (None, 3, 3, 3),
        (None, 3, 2, 3),
        (2, 0, 3, 0),
        (2, 0, 2, 0),  # the same ballot again: the reply to the first was lost
        (3, 0, 2, 3),
        (2, 9, 3, 0),  # the floor is for missing rows only
    ],
)
def test_what_stands_in_the_way(promised: int | None, floor: int, asked: int, obstacle: int) -> None:
    held = None if promised is None else RegisterRow(promised=ballot(promised))
    at_floor = ballot(floor) if floor else NO_BALLOT
    expected = ballot(obstacle) if obstacle else NO_BALLOT
    assert register.obstacle(held, at_floor, ballot(asked)) == expected


def test_a_promise_changes_nothing_else() -> None:
    held = evolve(row(2, confirmed=True), safe=True, claimed_count=4, owed_count=1)
    assert register.promised(held, ballot(5)) == evolve(held, promised=ballot(5))
    assert register.promised(None, ballot(5)) == RegisterRow(promised=ballot(5))


def test_an_accept_promises_too_and_is_not_confirmed() -> None:
    made = register.accepted(ballot(5), b"v", b"d" * 32, b"c" * 32, 3)
    assert (made.promised, made.accepted, made.claimed_count) == (ballot(5), ballot(5), 3)
    assert (made.confirmed, made.safe) == (b"", False)


# --- Reading: cases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "verdict", "top"),
    [
        ({0: None, 1: None, 2: None}, Verdict.ANSWER, 0),
        ({0: row(1), 1: row(1), 2: row(1)}, Verdict.ANSWER, 1),
        ({0: row(1), 1: row(1), 2: None}, Verdict.COMPLETE, 1),
        ({0: row(1, confirmed=True), 1: None, 2: None}, Verdict.ANSWER, 1),
        ({0: row(2), 1: row(1, confirmed=True), 2: row(1)}, Verdict.COMPLETE, 2),
        ({0: row(1), 1: row(1)}, Verdict.DEGRADED, 1),
        ({0: None}, Verdict.DEGRADED, 0),
        ({0: row(1, confirmed=True), 1: RowState(corrupt=True), 2: None}, Verdict.DEGRADED, 1),
        ({0: row(1), 1: row(1), 2: row(1, digest=b"other")}, Verdict.COMPLETE, 1),
        ({0: RegisterRow(promised=ballot(9)), 1: None, 2: None}, Verdict.ANSWER, 0),
    ],
)
def test_what_a_reader_may_answer(
    rows: Mapping[int, RegisterRow | RowState | None], verdict: Verdict, top: int
) -> None:
    reading = read(rows, FOUR)
    assert reading.verdict is verdict
    assert (reading.top.accepted if reading.top else NO_BALLOT) == (ballot(top) if top else NO_BALLOT)
    assert reading.stale is (verdict is Verdict.DEGRADED)
    again = read(rows, FOUR, final=False)
    assert again.verdict is (verdict if verdict is Verdict.ANSWER else Verdict.WAIT)
    assert not again.stale


def test_joining_nodes_hold_values_but_do_not_count() -> None:
    rows = {0: row(1), 1: row(1), 2: row(2)}
    assert read(rows, FOUR, away=[2]).verdict is Verdict.DEGRADED
    everywhere = {0: row(1), 1: row(1), 2: row(1), 3: None}
    assert read(everywhere, FOUR).verdict is Verdict.ANSWER
    assert read(everywhere, FOUR, away=[2]).verdict is Verdict.COMPLETE
    newer = {**everywhere, 3: row(3, confirmed=True)}
    assert read(newer, FOUR, away=[3]).top == newer[3]


def test_a_row_with_its_value_is_preferred() -> None:
    reading = read({0: row(1, value=b""), 1: row(1), 2: row(1, value=b"")}, FOUR)
    assert reading.top == row(1)
    assert reading.holders.keys() == {node(0), node(1), node(2)}


# --- Forgotten tombstones -----------------------------------------------------------------------------------


def forgotten(counter: int) -> RowState:
    return RowState(floor=ballot(counter))


@pytest.mark.parametrize(
    ("states", "memory"),
    [
        ({0: RowState(row(2)), 1: RowState(), 2: RowState()}, Memory.HELD),
        ({0: RowState(row(2)), 1: forgotten(1), 2: forgotten(1), 3: forgotten(1)}, Memory.HELD),
        ({0: RowState(row(2)), 1: forgotten(2), 2: forgotten(2), 3: forgotten(3)}, Memory.FORGOTTEN),
        ({0: RowState(row(2)), 1: forgotten(2), 2: forgotten(2)}, Memory.DOUBTFUL),
        ({0: RowState(row(2)), 1: forgotten(2), 2: RowState()}, Memory.HELD),
        ({0: RowState(row(2)), 1: RowState(row(2)), 2: forgotten(2), 3: forgotten(2)}, Memory.HELD),
    ],
)
def test_a_rolled_back_node_cannot_bring_back_what_was_forgotten(
    states: Mapping[int, RowState], memory: Memory
) -> None:
    by_node = {node(at): state for at, state in states.items()}
    assert register.memories(by_node, FOUR) == {ballot(2): memory}
    reading = read(states, FOUR)
    assert (reading.top is None) is (memory is Memory.FORGOTTEN)
    assert reading.stale is (memory is Memory.DOUBTFUL)
    if memory is Memory.FORGOTTEN:
        assert reading.verdict is Verdict.ANSWER


@pytest.mark.parametrize("confirmed", [False, True])
def test_nor_can_one_that_is_known_to_be_rolled_back(*, confirmed: bool) -> None:
    """It does not count, but what it holds is looked at: the others forgot it."""
    states = {
        0: RowState(row(2, confirmed=confirmed)),
        1: forgotten(2),
        2: forgotten(2),
        3: forgotten(3),
    }
    reading = read(states, FOUR, away=[0])
    assert (reading.verdict, reading.top) == (Verdict.ANSWER, None)
    held = {**states, 1: RowState(row(2)), 2: RowState(row(2)), 3: RowState(row(2))}
    assert read(held, FOUR, away=[0]).verdict is Verdict.ANSWER


def test_beside_a_node_known_to_be_rolled_back_no_other_holder_is_suspected() -> None:
    """It is the one (r = 1): who still counts and holds a value did not come by it from an old copy."""
    half_written = {0: RowState(row(2)), 1: forgotten(3), 2: forgotten(3), 3: RowState()}
    assert read(half_written, FOUR, away=[3]).verdict is Verdict.DEGRADED
    reading = read(half_written, FOUR, away=[3], rolled_back=1)
    assert (reading.verdict, reading.top) == (Verdict.COMPLETE, row(2))


def test_what_only_a_node_known_to_be_rolled_back_holds_needs_fewer_that_forgot_it() -> None:
    states = {0: RowState(), 1: forgotten(3), 2: forgotten(3), 3: RowState(row(2))}
    assert read(states, FOUR, away=[3]).verdict is Verdict.DEGRADED
    reading = read(states, FOUR, away=[3], rolled_back=1)
    assert (reading.verdict, reading.top) == (Verdict.ANSWER, None)


# --- Every history ------------------------------------------------------------------------------------------


@frozen
class History:
    """Some ballots and who accepted each, in order; then up to r nodes went back to an earlier state."""

    quorum: Quorum
    accepts: tuple[frozenset[int], ...]  # of ballot 1, 2, …
    states: tuple[RegisterRow | None, ...]  # of each node now
    rolled_back: frozenset[int]
    asked: frozenset[int]  # at least R nodes

    @property
    def chosen(self) -> int:
        """The highest ballot that was chosen, 0 when none was."""
        sizes = [len(nodes) for nodes in self.accepts]
        return max((at for at, size in enumerate(sizes, start=1) if size >= self.quorum.write), default=0)


@st.composite
def histories(draw: st.DrawFn) -> History:
    total = draw(st.integers(1, 7))
    quorum = quorum_of(total, default_tolerance(total))
    nodes = st.integers(0, total - 1)
    accepts = tuple(draw(st.lists(st.frozensets(nodes), max_size=4)))
    rolled_back = draw(st.frozensets(nodes, max_size=quorum.tolerance))
    states = []
    for at in range(total):
        known = [number for number, holders in enumerate(accepts, start=1) if at in holders]
        if at in rolled_back and known:
            known = known[: draw(st.integers(0, len(known)))]
        last = known[-1] if known else 0
        chosen = last and len(accepts[last - 1]) >= quorum.write
        states.append(row(last, confirmed=bool(chosen) and draw(st.booleans())) if last else None)
    order = draw(st.permutations(range(total)))
    asked = frozenset(order[: draw(st.integers(quorum.read, total))])
    return History(quorum, accepts, tuple(states), rolled_back, asked)


@settings(max_examples=150)
@given(histories())
def test_an_answer_is_the_last_chosen_value(history: History) -> None:
    reading = read({at: history.states[at] for at in history.asked}, history.quorum)
    top = register.counter_of(reading.top.accepted) if reading.top else 0
    assert top >= history.chosen
    assert reading.verdict in {Verdict.ANSWER, Verdict.COMPLETE}
    if reading.verdict is Verdict.ANSWER:
        assert top == history.chosen


@settings(max_examples=150)
@given(histories(), st.data())
def test_an_early_answer_is_right_too(history: History, drawn: st.DataObject) -> None:
    some = drawn.draw(st.frozensets(st.sampled_from(sorted(history.asked))))
    reading = read({at: history.states[at] for at in some}, history.quorum, final=False)
    if reading.verdict is Verdict.ANSWER:
        top = register.counter_of(reading.top.accepted) if reading.top else 0
        assert top == history.chosen
    else:
        assert reading.verdict is Verdict.WAIT


@settings(max_examples=150)
@given(histories())
def test_a_proposer_never_continues_from_below_a_chosen_value(history: History) -> None:
    """Whatever bases it may use, the last chosen value is among them or below none of them."""
    promising = [history.states[at] for at in sorted(history.asked)]
    bases, may_be_empty = register.candidates(promising, history.quorum)
    counters_allowed = [register.counter_of(base.accepted) for base in bases]
    assert counters_allowed == sorted(counters_allowed, reverse=True)
    assert all(counter >= history.chosen for counter in counters_allowed)
    assert not (may_be_empty and history.chosen)
    if any(state is not None for state in promising):
        assert counters_allowed[0] == max(register.counter_of(state.accepted) for state in promising if state)


@settings(max_examples=150)
@given(histories())
def test_nodes_known_to_be_rolled_back_exclude_no_chosen_value(history: History) -> None:
    """They promise nothing, and nobody else may be: fewer of the others suffice, but never too few."""
    promising = [state for at, state in enumerate(history.states) if at not in history.rolled_back]
    bases, may_be_empty = register.candidates(promising, history.quorum, len(history.rolled_back))
    assert all(register.counter_of(base.accepted) >= history.chosen for base in bases)
    assert not (may_be_empty and history.chosen)


def test_a_value_on_too_few_nodes_is_excluded_though_one_of_them_was_rolled_back() -> None:
    """W is 4 of 5: two hold 2 and two lack it, so with the fifth it was on three at most."""
    promising = [row(2), row(2), row(1), row(1)]
    five = quorum_of(5, 1)
    assert len(register.candidates(promising, five)[0]) == 1, "any of them may have forgotten it"
    bases, _ = register.candidates(promising, five, 1)
    assert [register.counter_of(base.accepted) for base in bases] == [2, 1]


def test_a_node_with_a_higher_ballot_may_have_had_the_lower_one() -> None:
    """1 was chosen at three of four, 2 reached one of them, and one forgot: 1 is not excluded."""
    promising = [row(2), row(1), None, None]
    bases, may_be_empty = register.candidates(promising, FOUR)
    assert [register.counter_of(base.accepted) for base in bases] == [2, 1]
    assert not may_be_empty


@pytest.mark.parametrize(
    ("rows", "allowed", "may_be_empty"),
    [
        ([None, None, None], [], True),
        ([row(1), None, None], [1], False),
        ([row(1), None, None, None], [1], True),
        ([row(2), row(1), row(1)], [2], False),
        ([row(2), row(1), row(1), row(1)], [2, 1], False),
        ([row(1), row(1), row(1)], [1], False),
    ],
)
def test_where_a_proposer_may_continue(
    rows: Sequence[RegisterRow | None], allowed: Sequence[int], may_be_empty: bool
) -> None:
    bases, empty = register.candidates(rows, FOUR)
    assert [register.counter_of(base.accepted) for base in bases] == allowed
    assert empty is may_be_empty
