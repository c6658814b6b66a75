"""Repair beside a node that lies: honest nodes get what they lack, and a lie is left where it is."""

import os
from collections.abc import Callable
from typing import Final

import pytest
from attrs import evolve
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, messages
from dfs.core.bulk_rows import LackingStripe
from dfs.core.keys import register_key
from dfs.core.node import Answer
from dfs.core.pipeline import Slot
from dfs.core.register import counter_of, make_ballot
from dfs.core.repairing import Scope, repair
from dfs.core.standing import Repaired
from dfs.core.types import Claim, DirectoryId, Geometry, VaultState
from tests.unit.histories import PATH, get, put
from tests.unit.test_repairing import count_shares, healer, lose, returning
from tests.unit.world import Tamper, World

BODY: Final = os.urandom(200_000)


def repaired(world: World, *, keyless: bool = False) -> Repaired:
    world.flush()
    vault = healer(world) if keyless else world.vault()
    return world.run(repair(vault, Scope(), [Slot(), Slot()]))


def garbage(kind: type[messages.Request]) -> Tamper:
    """Answer one kind of question with a bulk that is none."""

    def tamper(request: messages.Request, answer: Answer) -> Answer:
        return evolve(answer, bulk=(b"\xc1",)) if isinstance(request, kind) else answer

    return tamper


def nothing(kind: type[messages.Request]) -> Tamper:
    """Answer one kind of question with an empty array."""

    def tamper(request: messages.Request, answer: Answer) -> Answer:
        return evolve(answer, bulk=(b"\x90",)) if isinstance(request, kind) else answer

    return tamper


def lacking(change: Callable[[Claim], Claim], *indexes: int, more: bool = False) -> Tamper:
    """Say that shares of some stripe are lacking, under a claim that nobody else knows."""

    def tamper(request: messages.Request, answer: Answer) -> Answer:
        if not isinstance(request, messages.Lacking):
            return answer
        claim = change(CLAIM)
        bulk = bulk_rows.encode_lacking([LackingStripe(claim, indexes)])
        return Answer(messages.LackingReply(1, more), (bulk,))

    return tamper


def endless(request: messages.Request, answer: Answer) -> Answer:
    if not isinstance(request, messages.Directories):
        return answer
    state = messages.DirectoryState(DirectoryId(b"d" * 16), 1, b"")  # type: ignore[arg-type]
    return Answer(messages.DirectoriesReply((state,), more=True))


CLAIM: Final = Claim(b"s" * 32, 100, "reed-solomon@1", Geometry(2, 4), ((0,), (1,), (2,), (3,)))  # type: ignore[arg-type]
LIES: Final[dict[str, Tamper]] = {
    "lacking is garbage": garbage(messages.Lacking),
    "claims are garbage": garbage(messages.Claimed),
    "rows are garbage": garbage(messages.Read),
    "rows are none": nothing(messages.Read),
    "a list is garbage": garbage(messages.List),
    "directories without end": endless,
    "stripes without end": lacking(lambda claim: claim, 0, more=True),
    "no share at all": lacking(lambda claim: claim),
    "a share that cannot be": lacking(lambda claim: claim, 9),
    "a node that is not": lacking(lambda claim: evolve(claim, nodes=((0,), (900,), (2,), (3,))), 0),
    "too few rows": lacking(lambda claim: evolve(claim, nodes=((0,),)), 0),
    "a code nobody has": lacking(lambda claim: evolve(claim, code="oracle@1"), 0),
}


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("lie", LIES)
def test_one_liar_stops_no_repair(lie: str, place: int) -> None:
    world = World(1)
    world.servers[1].up = False
    world.run(put(world, BODY))
    world.servers[1].up = True
    world.servers[place].tamper = LIES[lie]
    repaired(world)
    assert count_shares(world.servers[1]) == 1
    world.servers[place].tamper = None
    world.servers[place].up = False
    assert world.run(get(world))[1] == BODY


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("lie", LIES)
def test_one_liar_stops_no_healer(lie: str, place: int) -> None:
    world = World(2)
    world.run(put(world, BODY))
    victim = world.servers[1].store
    (key,) = victim.shares(None, 10)
    victim.transact(lambda transaction: transaction.mark_corrupt(key))
    world.servers[place].tamper = LIES[lie]
    repaired(world, keyless=True)
    assert victim.view(lambda view: view.counts()) == (1, 0, 0)


@pytest.mark.parametrize("keyless", [False, True])
@pytest.mark.parametrize(("size", "needed"), [(7, 2), (100_000, 1)])
def test_a_false_claim_hides_no_true_one(*, keyless: bool, size: int, needed: int) -> None:
    """It names a stripe that is there, of which another node lacks its share."""
    world = World(3)
    world.run(put(world, BODY))
    victim, liar = world.servers[1].store, world.servers[0]
    (key,) = victim.shares(None, 10)
    victim.transact(lambda transaction: transaction.mark_corrupt(key))
    ((claim, _),) = victim.view(lambda view: view.lacking(b"", 10))
    (own,) = liar.store.shares(None, 10)
    false = evolve(claim, share_size=size, geometry=Geometry(needed, 4))
    liar.tamper = lacking(lambda _claim: false, own.index)
    repaired(world, keyless=keyless)
    liar.tamper = None
    liar.up = world.servers[2].up = False
    assert world.run(get(world))[1] == BODY


@pytest.mark.parametrize("keyless", [False, True])
def test_a_false_claim_spoils_no_share(*, keyless: bool) -> None:
    """Its copies are the liar's own bytes, and one of them is of a share that another node has lost."""
    world = World(5)
    world.run(put(world, BODY))
    at = {server.store.shares(None, 1)[0].index: server for server in world.servers}
    victim, liar = at[0], at[2]
    (key,) = victim.store.shares(None, 10)
    victim.store.transact(lambda transaction: transaction.mark_corrupt(key))
    ((claim, _),) = victim.store.view(lambda view: view.lacking(b"", 10))
    lost, _, own, last = claim.nodes
    false = evolve(claim, code="replicate@1", geometry=Geometry(1, 4), nodes=(lost, own, own, last))
    tell, body = lacking(lambda _claim: false, 3), b"l" * claim.share_size

    def lie(request: messages.Request, answer: Answer) -> Answer:
        if isinstance(request, messages.Fetch):
            result = messages.FetchResult(messages.FOUND, len(body), xxh3_128_digest(body))
            return Answer(messages.FetchReply((result,) * len(request.keys)), (body,) * len(request.keys))
        return tell(request, answer)

    liar.tamper = lie
    repaired(world, keyless=keyless)
    liar.tamper = None
    repaired(world)  # a healer could not tell who lied; a share that looks right is not made again
    liar.up = at[3].up = False
    assert world.run(get(world))[1] == BODY


def test_a_promise_far_beyond_all_others_is_not_handed_on() -> None:
    """Else one liar and one node that was repaired would stop all writers of a path."""
    world = World(4)
    world.run(put(world, BODY))
    key = register_key(world.vault().keys, PATH)

    def inflate(request: messages.Request, answer: Answer) -> Answer:
        if not isinstance(request, messages.List):
            return answer
        listed = bulk_rows.decode_listed(b"".join(bytes(part) for part in answer.bulk))
        rows = [
            (name, evolve(state, row=evolve(state.row, promised=make_ballot(1 << 62, b"l" * 16))))
            for name, state in listed
            if state.row is not None
        ]
        return evolve(answer, bulk=(bulk_rows.encode_listed(rows),))

    world.servers[3].tamper = inflate
    lose(world, 1)
    vault = returning(world, world.vault())
    world.flush()
    done = world.run(repair(vault, Scope(), [Slot()]))
    assert done.joined == (world.servers[1].node_id,)
    assert world.servers[1].vault.state is VaultState.ACTIVE
    row = world.servers[1].store.view(lambda view: view.register(key))
    assert row is not None
    assert counter_of(row.promised) < 100
