"""Changes of registers against real nodes in virtual time: what is chosen, refused, unknown, never twice."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from attrs import evolve

from dfs.core import bulk_rows, consensus, folders, limits, messages, register
from dfs.core.bulk_rows import RowState
from dfs.core.consensus import Change, Changed, Proposal, change_registers
from dfs.core.effects import Operation, sleep
from dfs.core.errors import (
    ConflictError,
    DfsError,
    DiskFullError,
    IncompleteError,
    NotFoundError,
    QuorumError,
    UnknownOutcomeError,
)
from dfs.core.keys import register_key
from dfs.core.node import Answer
from dfs.core.types import Entry, EntryKind, RegisterRow, Version
from tests.unit.histories import Story, explained, get, put, remove
from tests.unit.world import Server, World

LARGE_SIZE = limits.SMALL_SIZE_MAX + 1  # its shares are stored before promises are asked for
PATH = "letter"


@pytest.fixture
def world() -> World:
    return World()


def entry(text: bytes, number: int = 1) -> Entry:
    return Entry(
        PATH,
        EntryKind.FILE,
        Version(bytes((number,)) * 16),
        size=len(text),
        content=text,
        content_compressor="dfs:zstd@1",
    )


def change(world: World, decide: Callable[[Entry | None], Proposal | None]) -> Operation[Changed]:
    key = register_key(world.vault().keys, PATH)
    outcome = (yield from change_registers(world.vault(), [Change(key, PATH, decide)]))[key]
    if isinstance(outcome, DfsError):
        raise outcome
    return outcome


def write(world: World, text: bytes, number: int = 1) -> Operation[Changed]:
    return change(world, lambda _current: Proposal(entry(text, number)))


def row_of(world: World, server: Server) -> RegisterRow | None:
    key = register_key(world.vault().keys, PATH)
    return server.store.view(lambda view: view.register(key))


def content(world: World) -> bytes:
    return world.run(get(world))[1]


def down(world: World, *places: int) -> None:
    for place in places:
        world.servers[place].up = False


def only(world: World, *places: int) -> None:
    for place, server in enumerate(world.servers):
        server.up = place in places


def half_write(world: World, text: bytes, *places: int, number: int = 9) -> None:
    """Write on so few nodes that nobody can call it chosen."""

    def decide(_current: Entry | None) -> Proposal:
        only(world, *places)  # all have promised; now the others go down
        return Proposal(entry(text, number))

    with pytest.raises(UnknownOutcomeError):
        world.run(change(world, decide))
    only(world, 0, 1, 2, 3)


# --- Chosen or not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [0, 1])
def test_a_change_is_chosen_with_enough_nodes(world: World, away: int) -> None:
    down(world, *range(away))
    changed = world.run(write(world, b"one"))
    assert len(changed.accepted) == 4 - away
    assert changed.safe
    assert changed.entry == entry(b"one")
    assert content(world) == b"one"


def test_with_too_few_nodes_nothing_happens(world: World) -> None:
    down(world, 0, 1)
    with pytest.raises(QuorumError, match=r"2 of 4 nodes answer, 3 needed .*dfs1, dfs2: refused"):
        world.run(write(world, b"one"))
    assert not any(
        isinstance(request, messages.Accept) for server in world.servers for request in server.requests
    )


def test_what_was_sent_to_too_few_is_unknown(world: World) -> None:
    half_write(world, b"half", 0)
    held = [row_of(world, server) for server in world.servers]
    assert [row is not None and row.accepted != b"" for row in held] == [True, False, False, False]


def test_a_change_may_leave_things_as_they_are(world: World) -> None:
    assert world.run(change(world, lambda _current: None)).entry is None
    world.run(write(world, b"one"))
    before = [row_of(world, server) for server in world.servers]
    changed = world.run(change(world, lambda _current: None))
    assert changed.entry == entry(b"one")
    assert [row.value for row in before if row] == [row_of(world, server).value for server in world.servers]  # type: ignore[union-attr]


@pytest.mark.parametrize("refuse", [False, True])
def test_what_a_decision_rests_on_is_completed_first(world: World, refuse: bool) -> None:
    """Otherwise it may be gone again: the refusal would speak of a value that never was."""
    half_write(world, b"half", 0)

    def decide(current: Entry | None) -> Proposal | None:
        assert current is not None
        if refuse:
            raise ConflictError("it is there")
        return None

    only(world, 0, 1, 2)
    if refuse:
        with pytest.raises(ConflictError):
            world.run(change(world, decide))
    else:
        world.run(change(world, decide))
    only(world, 1, 2, 3)
    assert content(world) == b"half"


def test_the_entry_remembers_what_it_replaced(world: World) -> None:
    world.run(write(world, b"one"))
    first = row_of(world, world.servers[0])
    world.run(write(world, b"two", 2))
    found = world.run(get(world))[0]
    assert first is not None
    assert found.entry.previous == first.digest


def test_a_full_node_is_told_apart_from_a_silent_one(world: World) -> None:
    for server in world.servers:
        server.refuses[messages.Accept] = DiskFullError("no room")
    with pytest.raises(DiskFullError, match=r"letter: .*no room"):
        world.run(write(world, b"one"))
    world.servers[0].up = False
    world.servers[1].refuses.clear()
    with pytest.raises(UnknownOutcomeError):
        world.run(write(world, b"one"))


def test_nodes_without_room_refuse_a_value_for_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(write(world, b"one"))
    monkeypatch.setattr(type(world.servers[0].store), "free_size", 10)
    with pytest.raises(DiskFullError, match=r"letter: .*its disk is full"):
        world.run(write(world, b"two", 2))
    assert content(world) == b"one"


# --- Several writers ----------------------------------------------------------------------------------------


def test_duelling_writers_all_end(world: World) -> None:
    runnings = [world.start(write(world, bytes((index,)), index)) for index in range(5)]
    world.settle(runnings)
    ended = [running for running in runnings if running.error is None]
    assert len(ended) >= 3
    assert all(isinstance(running.error, UnknownOutcomeError | None) for running in runnings)
    assert content(world) in {bytes((index,)) for index in range(5)}


def test_of_two_who_write_a_new_file_at_once_both_know_how_it_ended() -> None:
    for seed in range(60):
        world = World(seed)
        runnings = [world.start(put(world, body)) for body in (b"one", b"two")]
        world.settle(runnings)
        assert [running.error for running in runnings if running.error is not None] == []
        assert content(world) in {b"one", b"two"}


def test_a_crowd_that_makes_one_folder_ends() -> None:
    world = World()
    runnings = [world.start(put(world, b"one", f"crowd/{number}")) for number in range(64)]
    world.settle(runnings)
    assert [running.error for running in runnings if running.error is not None] == []


def test_of_two_who_must_be_first_one_is() -> None:
    for seed in range(10):
        world = World(seed)
        runnings = [world.start(put(world, bytes((index,)), if_absent=True)) for index in range(2)]
        world.settle(runnings)
        won = [index for index, running in enumerate(runnings) if running.error is None]
        unsure = [running for running in runnings if isinstance(running.error, UnknownOutcomeError)]
        assert len(won) == 1 or unsure
        assert content(world)[0] in {*won, *(runnings.index(running) for running in unsure)}


def test_a_retry_finds_its_own_write(world: World) -> None:
    half_write(world, b"own", 0, number=7)
    seen = []

    def decide(current: Entry | None) -> Proposal | None:
        seen.append(current.version if current else None)
        return Proposal(entry(b"own", 7))

    world.run(change(world, decide))
    assert content(world) == b"own"
    assert seen[-1] in {None, entry(b"own", 7).version}


def interrupted_write(world: World, meanwhile: Callable[[], object]) -> Operation[Changed]:
    """Write "mine" with a ballot that another writer overtakes: it gets no further than the first node."""
    called: list[bool] = []

    def decide(_current: Entry | None) -> Proposal:
        if not called:
            called.append(True)
            only(world, 1, 2, 3)
            meanwhile()
            only(world, 0, 1, 2, 3)
        return Proposal(entry(b"mine", 7))

    return change(world, decide)


def test_a_value_of_ours_that_others_may_have_written_over_is_unknown(world: World) -> None:
    """It was accepted once, and what is there builds upon something else: written again it could take effect
    twice.
    """

    def write_twice() -> None:
        world.run(put(world, b"theirs", if_absent=True))
        world.run(put(world, b"theirs again"))

    with pytest.raises(UnknownOutcomeError, match="others have written it meanwhile"):
        world.run(interrupted_write(world, write_twice))
    assert content(world) == b"theirs again"


def test_a_value_of_ours_beside_one_that_was_built_on_nothing_never_took_effect(world: World) -> None:
    """Nothing so new was forgotten there, so nothing was what they found: ours is written over theirs."""
    world.run(interrupted_write(world, lambda: world.run(put(world, b"theirs", if_absent=True))))
    assert content(world) == b"mine"


def test_a_value_of_ours_that_others_did_not_build_upon_never_took_effect(world: World) -> None:
    world.run(write(world, b"before"))
    world.run(interrupted_write(world, lambda: world.run(write(world, b"theirs", 2))))
    assert content(world) == b"mine"


def accepts(server: Server) -> int:
    return sum(isinstance(request, messages.Accept) for request in server.requests)


def test_a_value_of_ours_that_others_built_upon_took_effect() -> None:
    """A node has accepted it when somebody else comes, reads it there and goes on."""
    seen: set[bytes] = set()
    for seed in range(20):
        world = World(seed)

        def overtake(request: messages.Request, answer: Answer, world: World = world) -> Answer:
            if isinstance(request, messages.Accept) and sum(map(accepts, world.servers)) == 1:
                down(world, 3)
                world.run(change(world, built_upon))
            return answer

        world.servers[0].tamper = overtake
        changed = world.run(write(world, b"mine", 7))
        assert changed.entry is not None
        seen.add(changed.entry.content or b"")
        assert content(world) in {b"mine", b"upon mine"}
    assert seen == {b"mine", b"upon mine"}, "chosen at once, or found under the other's"


def test_a_value_of_ours_that_others_removed_does_not_come_back() -> None:
    """A reader completes what one node accepted, and it is removed: nothing is there again, as before."""
    removed_count = 0
    for seed in range(150):
        world = World(seed)
        begun: list[bool] = []
        removed: list[bool] = []

        def decide(_current: Entry | None, world: World = world, begun: list[bool] = begun) -> Proposal:
            if not begun:
                begun.append(True)
                ballot = register.make_ballot(1, b"\xff" * 16)  # just above ours
                higher = messages.PrepareItem(register_key(world.vault().keys, PATH), ballot)
                world.servers[1].answer(messages.Prepare(world.digest, (higher,)), b"")
                only(world, 0, 1)  # one accepts, one refuses: there is another attempt
            return Proposal(entry(b"mine", 7))

        def overtake(
            request: messages.Request, answer: Answer, world: World = world, removed: list[bool] = removed
        ) -> Answer:
            if isinstance(request, messages.Accept) and accepts(world.servers[0]) == 1 and not removed:
                only(world, 0, 1, 2, 3)
                with suppress(NotFoundError):  # enough others may have said that there is nothing
                    assert content(world) == b"mine"
                    world.run(remove(world))
                    removed.append(True)
            return answer

        world.servers[1].tamper = overtake
        with suppress(UnknownOutcomeError):
            world.run(change(world, decide))
        if removed:
            removed_count += 1
            with pytest.raises(NotFoundError):
                content(world)
    assert removed_count


def built_upon(current: Entry | None) -> Proposal:
    assert current is not None
    return Proposal(entry(b"upon " + (current.content or b""), 2))


# --- Nodes that lie or have lost something ------------------------------------------------------------------


def lie(**values: Any) -> Callable[[messages.Request, Answer], Answer]:
    """Answer every PREPARE with these instead."""

    def tamper(request: messages.Request, answer: Answer) -> Answer:
        if not isinstance(request, messages.Prepare):
            return answer
        promises = [
            evolve(promise, **values)
            for promise in bulk_rows.decode_promises(b"".join(map(bytes, answer.bulk)))
        ]
        return evolve(answer, bulk=(bulk_rows.encode_promises(promises),))

    return tamper


HUGE = register.make_ballot(1 << 62, bytes(16))
FORGED = RegisterRow(promised=HUGE, accepted=HUGE, value=b"\x01forged", digest=bytes(32))


@pytest.mark.parametrize(
    "tamper",
    [
        lie(granted=False, ballot=HUGE, state=RowState()),
        lie(state=RowState(FORGED)),
        lie(state=RowState(evolve(FORGED, value=b""))),
        lambda _request, answer: evolve(answer, bulk=(b"nonsense",)),
        lambda request, answer: (
            evolve(answer, bulk=(bulk_rows.encode_promises([]),))
            if isinstance(request, messages.Prepare)
            else answer
        ),
        lambda request, answer: (
            evolve(answer, reply=messages.AcceptReply(())) if isinstance(request, messages.Accept) else answer
        ),
    ],
    ids=["far ballot", "forged value", "no value", "nonsense", "too few promises", "no results"],
)
def test_one_lying_node_stops_nobody(
    world: World, tamper: Callable[[messages.Request, Answer], Answer]
) -> None:
    world.run(write(world, b"one"))
    world.servers[2].tamper = tamper
    changed = world.run(write(world, b"two", 2))
    assert len(changed.accepted) >= 3
    world.servers[2].tamper = None
    assert content(world) == b"two"
    row = row_of(world, world.servers[0])
    assert row is not None
    assert register.counter_of(row.promised) < 100


@pytest.mark.parametrize("away", [None, 2, 3])
def test_a_deleted_file_does_not_come_back_with_an_old_copy_of_a_node(away: int | None) -> None:
    world = World()
    world.run(put(world, b"secret"))
    copy = world.servers[0].copy()
    world.run(remove(world))
    assert row_of(world, world.servers[0]) is None, "forgotten"
    world.servers[0].restore(copy)
    if away is None:
        with pytest.raises(NotFoundError):
            world.run(get(world))
        assert world.run(change(world, lambda _current: None)).entry is None
    else:  # who is away could tell: the file may as well have been missed by the two others
        down(world, away)
        assert world.run(get(world))[0].stale
        with pytest.raises(IncompleteError):
            world.run(change(world, lambda _current: None))
    world.run(put(world, b"new"))
    assert content(world) == b"new"


def test_an_old_copy_of_a_node_is_no_reason_to_refuse_a_new_file() -> None:
    """Two of three nodes that promise first have forgotten it: the fourth is waited for, and tells."""
    for seed in range(10):
        world = World(seed)
        world.run(put(world, b"secret"))
        world.run(sleep(1.0))  # its confirmation comes
        world.flush()
        copy = world.servers[0].copy()
        world.run(remove(world))
        world.servers[0].restore(copy)
        world.run(put(world, b"new", if_absent=True))
        assert content(world) == b"new"


@pytest.mark.parametrize("away", [None, 3])
def test_a_removed_version_is_not_removed_again_from_an_old_copy(away: int | None) -> None:
    """What holds only over the doubtful value waits for all nodes, and is refused or put off then."""
    for seed in range(10):
        world = World(seed)
        world.run(put(world, b"secret"))
        version = world.run(get(world))[0].entry.version
        copy = world.servers[0].copy()
        world.run(remove(world))
        world.servers[0].restore(copy)

        def decide(current: Entry | None, version: Version = version) -> Proposal:
            if current is None or current.version != version:
                raise NotFoundError(PATH)
            return Proposal(Entry(PATH, EntryKind.TOMBSTONE, Version(b"t" * 16)))

        if away is not None:
            down(world, away)
        with pytest.raises(NotFoundError if away is None else IncompleteError):
            world.run(change(world, decide))


def test_shares_that_vanish_before_the_accept_are_no_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pin that ended too early must not leave an entry without its bytes."""

    def forgetful(request: messages.Request, answer: Answer) -> Answer:
        if isinstance(request, messages.Prepare):
            for server in world.servers:
                server.store.transact(lambda transaction: transaction.unpin(1e12))
                server.store.transact(lambda transaction: transaction.collect(1000))
        return answer

    body = world.random.randbytes(LARGE_SIZE)
    world.servers[3].tamper = forgetful
    with pytest.raises((QuorumError, UnknownOutcomeError), match="0 of 4 nodes accepted"):
        world.run(put(world, body))
    world.servers[3].tamper = None
    with pytest.raises(NotFoundError):
        world.run(get(world))


def losing_pins(world: World, *places: int) -> Callable[[messages.Request, Answer], Answer]:
    """Let the pins of some nodes end while a ballot is prepared, and all nodes be there again."""

    def tamper(request: messages.Request, answer: Answer) -> Answer:
        if isinstance(request, messages.Prepare):
            for server in (world.servers[place] for place in places):
                server.store.transact(lambda transaction: transaction.unpin(1e12))
                server.store.transact(lambda transaction: transaction.collect(1000))
            for server in world.servers:
                server.up = True
        return answer

    return tamper


def test_nodes_that_owe_their_shares_accept_last() -> None:
    """Two nodes that lack their shares and two that have them are W of six, but no file: k is three."""
    world = World(node_count=6)
    world.run(put(world, b"old"))
    down(world, 4, 5)
    world.servers[0].tamper = losing_pins(world, 0, 1)
    with pytest.raises(UnknownOutcomeError, match="2 of 6 nodes accepted"):
        world.run(put(world, world.random.randbytes(LARGE_SIZE)))
    world.servers[0].tamper = None
    only(world, 0, 1, 4, 5)
    assert content(world) == b"old"


def test_long_claims_are_staged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "CLAIMS_INLINE_SIZE_MAX", 10)
    body = world.random.randbytes(3000)
    world.run(put(world, body))
    assert any(isinstance(request, messages.Claims) for request in world.servers[0].requests)
    assert content(world) == body


def test_many_registers_change_in_one_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "ACCEPT_ROWS_SIZE_MAX", 500)
    monkeypatch.setattr(limits, "REGISTER_COUNT", 8)
    paths = [f"name{index}" for index in range(20)]
    ensured = world.run(folders.ensure_folders(world.vault(), paths))
    assert ensured.made == paths
    accepts = [request for request in world.servers[0].requests if isinstance(request, messages.Accept)]
    assert sum(request.count for request in accepts) == 20
    assert len(accepts) > 3


# --- Histories ----------------------------------------------------------------------------------------------


def tell(seed: int, *, rollback: bool, size: int, node_count: int = 4) -> Story:
    story = Story(World(seed, node_count=node_count, loss=0.04, doubling=0.05), rollback=rollback, size=size)
    story.tell()
    assert not story.failed & story.got, f"seed {seed}: a write that failed was read"
    assert explained(story.history), f"seed {seed}: no order explains it"
    return story


@pytest.mark.parametrize("seed", range(40))
def test_one_order_explains_what_was_seen(seed: int) -> None:
    tell(seed, rollback=seed % 2 == 1, size=40 if seed % 4 < 2 else 3000)


@pytest.mark.long
@pytest.mark.parametrize(
    ("node_count", "rollback"), [(2, False), (3, False), (4, False), (4, True), (5, True)]
)
def test_one_order_explains_many_histories(node_count: int, rollback: bool) -> None:
    for seed in range(1000, 1250):
        tell(seed, rollback=rollback, size=3000, node_count=node_count)


def test_the_same_seed_tells_the_same_story() -> None:
    first, second = (tell(5, rollback=True, size=3000) for _ in range(2))
    assert (first.world.step, first.history) == (second.world.step, second.history)


def test_histories_are_worth_something() -> None:
    stories = [tell(seed, rollback=False, size=40) for seed in range(10)]
    assert sum(story.unsure for story in stories) > 5
    assert sum(len(story.got) for story in stories) > 5
