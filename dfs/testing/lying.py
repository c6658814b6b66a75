"""A node that lies by script: real node logic, and a lie between it and the client.

A `Lie` is asked in place of the node; it may ask the node (`truth`) and change what it says, or answer
without it. `LIES` has one of each kind there is. `LyingVault` puts a lie before a vault, `beguile` before all
vaults of a server in this process. For tests of clients: whatever one node of a group says, they get right
bytes or an error.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, limits, messages
from dfs.core.bulk_rows import Promise, RowState
from dfs.core.errors import IntegrityError, StoreError
from dfs.core.messages import AcceptResult, FetchResult
from dfs.core.node import Answer, VaultNode, digest_of, in_full
from dfs.core.records import evolve
from dfs.core.roster import encode_roster
from dfs.core.server import Server
from dfs.core.types import NO_BALLOT, Ballot, Buffer, Node, NodeId, RegisterKey, Roster, ShareKey
from dfs.core.wire import RosterDiffersError

Truth: TypeAlias = Callable[[], Answer]
Lie: TypeAlias = Callable[[messages.Request, Truth], Answer]
Rows: TypeAlias = Callable[[RegisterKey, RowState], RowState]

FAR: Final = Ballot(b"\x80" + bytes(7) + b"l" * 16)  # counter 2^63
NEAR_COUNTER: Final = 1000  # above all others of a test, and not implausible


class LyingVault:
    """A vault on a node behind a lie; all else is the vault's own."""

    def __init__(self, vault: VaultNode, lie: Lie) -> None:
        self._vault = vault
        self._lie = lie

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the vault has
        return getattr(self._vault, name)

    def answer(self, request: messages.Request, bulk: memoryview) -> Answer:
        """Answer as the lie does; a digest is one of the rows that it tells."""
        if isinstance(request, messages.ListDigest):
            return digest_of(self.answer(in_full(request), bulk))
        return self._lie(request, partial(self._vault.answer, request, bulk))


def beguile(server: Server, lie: Lie) -> None:
    """Let a server lie from now on to everybody who logs in."""
    house = server._house  # noqa: SLF001 - of the same package; no honest node has a door for this
    honest = house.vault
    house.vault = lambda user: LyingVault(honest(user), lie)  # type: ignore[assignment, method-assign, return-value]


# --- What lies are made of ----------------------------------------------------------------------------------


def joined(bulk: Sequence[Buffer]) -> bytes:
    """Return bulk in one piece."""
    return b"".join(bytes(part) for part in bulk)


@frozen
class FalseShare:
    """Any bytes as a stored share (interface.ShareSlice)."""

    body: bytes = field(repr=False)
    file_range: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.body)

    @property
    def checksum(self) -> bytes:
        """Right for these bytes."""
        return xxh3_128_digest(self.body)

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read."""
        piece = self.body[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing is open."""


def bodies(answer: Answer) -> list[bytes]:
    """Return the share bodies of an answer, and close them."""
    found = []
    for share in answer.shares:
        body = bytearray(share.size)
        share.read_into(memoryview(body), 0)
        share.close()
        found.append(bytes(body))
    return found


def change_rows(change: Rows) -> Lie:
    """Return a lie that changes what is said of registers, in READ, LIST and PREPARE."""

    def lie(request: messages.Request, truth: Truth) -> Answer:
        answer = truth()
        if isinstance(request, messages.Read):
            states = bulk_rows.decode_states(joined(answer.bulk))
            told = [change(key, state) for key, state in zip(request.keys, states, strict=True)]
            return evolve(answer, bulk=(bulk_rows.encode_states(told),))
        if isinstance(request, messages.List):
            rows = [
                (name, change(RegisterKey(request.directory, name), state))
                for name, state in bulk_rows.decode_listed(joined(answer.bulk))
            ]
            return evolve(answer, bulk=(bulk_rows.encode_listed(rows),))
        if isinstance(request, messages.Prepare):
            promises = bulk_rows.decode_promises(joined(answer.bulk))
            asked = [item.key for item in request.items]
            given = [
                evolve(promise, state=change(key, promise.state))
                for key, promise in zip(asked, promises, strict=True)
            ]
            return evolve(answer, bulk=(bulk_rows.encode_promises(given),))
        return answer

    return lie


def change_value(change: Callable[[bytes], bytes]) -> Lie:
    """Return a lie that changes values; digest and confirmation stay what they were."""

    def rows(_key: RegisterKey, state: RowState) -> RowState:
        if state.row is None or not state.row.value:
            return state
        return evolve(state, row=evolve(state.row, value=change(state.row.value)))

    return change_rows(rows)


def change_shares(change: Callable[[ShareKey, bytes], bytes]) -> Lie:
    """Return a lie that sends other share bodies, under checksums that fit them."""

    def lie(request: messages.Request, truth: Truth) -> Answer:
        answer = truth()
        if isinstance(request, messages.Fetch) and isinstance(answer.reply, messages.FetchReply):
            there = iter(bodies(answer))
            results, told = [], []
            for key, result in zip(request.keys, answer.reply.results, strict=True):
                if result.status == messages.FOUND:
                    told.append(change(key, next(there)))
                    result = FetchResult(messages.FOUND, len(told[-1]), xxh3_128_digest(told[-1]))  # noqa: PLW2901
                results.append(result)
            return Answer(messages.FetchReply(tuple(results)), shares=tuple(map(FalseShare, told)))
        if isinstance(request, messages.Read):  # small ones come along
            states = [
                evolve(
                    state,
                    shares=tuple(
                        evolve(share, body=body, checksum=xxh3_128_digest(body))
                        for share in state.shares
                        for body in [change(share.key, share.body)]
                    ),
                )
                for state in bulk_rows.decode_states(joined(answer.bulk))
            ]
            return evolve(answer, bulk=(bulk_rows.encode_states(states),))
        return answer

    return lie


def change_bulk(change: Callable[[bytes], bytes]) -> Lie:
    """Return a lie that changes the bytes of every bulk, whatever they mean."""

    def lie(_request: messages.Request, truth: Truth) -> Answer:
        answer = truth()
        return evolve(answer, bulk=(change(joined(answer.bulk)),)) if answer.bulk else answer

    return lie


def raising(error: Exception) -> Lie:
    """Return a lie that refuses everything."""

    def lie(_request: messages.Request, _truth: Truth) -> Answer:
        raise error

    return lie


# --- Lies that remember -------------------------------------------------------------------------------------


@define
class Replayer:
    """Tells of each register for ever what was first told, and takes nothing new while it says so."""

    told: dict[RegisterKey, RowState] = field(factory=dict)

    def __call__(self, request: messages.Request, truth: Truth) -> Answer:
        """Answer."""
        if isinstance(request, messages.Accept):
            return Answer(messages.AcceptReply((AcceptResult(messages.ACCEPTED),) * request.count))
        if isinstance(request, messages.Confirm):
            return Answer(messages.ConfirmReply((True,) * len(request.items) if request.durable else ()))
        return change_rows(self._as_first)(request, truth)

    def _as_first(self, key: RegisterKey, state: RowState) -> RowState:
        if state.row is None or not state.row.value:
            return self.told.get(key, state)
        return self.told.setdefault(key, state)


@define
class Swapper:
    """Tells of each register what another one holds, as far as it has seen any."""

    seen: dict[RegisterKey, RowState] = field(factory=dict)

    def __call__(self, request: messages.Request, truth: Truth) -> Answer:
        """Answer."""
        return change_rows(self._of_another)(request, truth)

    def _of_another(self, key: RegisterKey, state: RowState) -> RowState:
        if state.row is not None and state.row.value:
            self.seen[key] = state
        others = [other for known, other in self.seen.items() if known != key]
        return others[-1] if others else state


@define
class ShareSwapper:
    """Sends for each share the body of another one of the same size, as far as it has seen any."""

    seen: dict[ShareKey, bytes] = field(factory=dict)

    def __call__(self, request: messages.Request, truth: Truth) -> Answer:
        """Answer."""
        return change_shares(self._of_another)(request, truth)

    def _of_another(self, key: ShareKey, body: bytes) -> bytes:
        self.seen[key] = body
        others = (other for known, other in self.seen.items() if known != key and len(other) == len(body))
        return next(others, body)


# --- Single lies --------------------------------------------------------------------------------------------


def flip(raw: bytes) -> bytes:
    """Return the bytes with one bit changed, in the middle."""
    middle = len(raw) // 2
    return raw[:middle] + bytes((raw[middle] ^ 1,)) + raw[middle + 1 :] if raw else raw


def _hide(_key: RegisterKey, _state: RowState) -> RowState:
    return RowState()


def _hide_names(request: messages.Request, truth: Truth) -> Answer:
    if isinstance(request, messages.List):
        return Answer(messages.ListReply(0, False, NO_BALLOT), (bulk_rows.encode_listed(()),))
    return truth()


def _list_for_ever(_request: messages.Request, truth: Truth) -> Answer:
    answer = truth()
    reply = answer.reply
    return evolve(answer, reply=evolve(reply, more=True)) if isinstance(reply, messages.ListReply) else answer


def _confirm_falsely(_key: RegisterKey, state: RowState) -> RowState:
    row = state.row
    return state if row is None or not row.accepted else evolve(
        state, row=evolve(row, confirmed=b"c" * limits.DIGEST_SIZE, safe=True)
    )  # fmt: skip


def _unconfirm(_key: RegisterKey, state: RowState) -> RowState:
    return state if state.row is None else evolve(state, row=evolve(state.row, confirmed=b"", safe=False))


def _digest_falsely(_key: RegisterKey, state: RowState) -> RowState:
    return (
        state if state.row is None else evolve(state, row=evolve(state.row, digest=b"d" * 32, confirmed=b""))
    )


def _claim_falsely(_key: RegisterKey, state: RowState) -> RowState:
    if state.row is None:
        return state
    return evolve(state, row=evolve(state.row, claim_set=b"s" * 32, claimed_count=1 << 31, owed_count=0))


def _accept_far(_key: RegisterKey, state: RowState) -> RowState:
    return state if state.row is None else evolve(state, row=evolve(state.row, accepted=FAR, promised=FAR))


def _promise_far(_key: RegisterKey, state: RowState) -> RowState:
    return state if state.row is None else evolve(state, row=evolve(state.row, promised=FAR))


def _floor_far(_key: RegisterKey, _state: RowState) -> RowState:
    return RowState(floor=FAR)


def _refuse_by(ballot_of: Callable[[], Ballot]) -> Lie:
    def lie(request: messages.Request, truth: Truth) -> Answer:
        if isinstance(request, messages.Prepare):
            refusals = [Promise(False, ballot_of(), RowState()) for _ in request.items]
            return Answer(messages.PrepareReply(len(refusals)), (bulk_rows.encode_promises(refusals),))
        if isinstance(request, messages.Accept):
            return Answer(
                messages.AcceptReply((AcceptResult(messages.REFUSED, ballot_of()),) * request.count)
            )
        return truth()

    return lie


def _rising() -> Callable[[], Ballot]:
    counter = itertools.count(NEAR_COUNTER)
    return lambda: Ballot(next(counter).to_bytes(8, "big") + b"l" * 16)


def _claim_to_hold(request: messages.Request, truth: Truth) -> Answer:
    """Has every share and takes every share, and keeps none."""
    if isinstance(request, messages.Has):
        return Answer(messages.HasReply((True,) * len(request.keys)))
    if isinstance(request, messages.Store):
        return Answer(messages.Empty())
    if isinstance(request, messages.Accept):
        return Answer(messages.AcceptReply((AcceptResult(messages.ACCEPTED),) * request.count))
    return truth()


def _sizes_beyond(request: messages.Request, truth: Truth) -> Answer:
    if isinstance(request, messages.Fetch):
        result = FetchResult(messages.FOUND, (1 << 64) - 1, bytes(limits.CHECKSUM_SIZE))
        return Answer(messages.FetchReply((result,) * len(request.keys)))
    return truth()


def _counts_beyond(request: messages.Request, truth: Truth) -> Answer:
    """Answers more than was asked."""
    answer = truth()
    if isinstance(request, messages.Read):
        return evolve(answer, bulk=(bulk_rows.encode_states([RowState()] * (len(request.keys) + 1)),))
    if isinstance(request, messages.Has):
        return Answer(messages.HasReply((True,) * (len(request.keys) + 1)))
    if isinstance(request, messages.Accept):
        return Answer(messages.AcceptReply((AcceptResult(messages.ACCEPTED),) * (request.count + 1)))
    if isinstance(request, messages.Fetch):
        return Answer(messages.FetchReply(()))
    return answer


def _empty(_request: messages.Request, _truth: Truth) -> Answer:
    return Answer(messages.Empty())


def _bomb(raw: bytes) -> bytes:
    """Return arrays in arrays, each of which announces as many items as may be."""
    return b"\xdc\x10\x00" * 30_000 if raw else raw


def _wide_bomb(request: messages.Request, truth: Truth) -> Answer:
    """Answers a READ by four million empty arrays."""
    row = b"\xdc\x10\x00" + b"\x90" * 4096
    answer = truth()
    return (
        evolve(answer, bulk=(b"\xdc\x04\x00" + row * 1024,)) if isinstance(request, messages.Read) else answer
    )


def _own_roster() -> Roster:
    return Roster(1 << 31, (Node(NodeId(b"liar" * 4)),), 1, 0)


@frozen
class Script:
    """A lie to tell. ``make``: a fresh one. ``detected``: whether a client that reads can tell who lied; the
    others only cost the liar its vote.
    """

    make: Callable[[], Lie]
    detected: bool = True


def _plain(lie: Lie, *, detected: bool = True) -> Script:
    return Script(lambda: lie, detected)


LIES: Final[Mapping[str, Script]] = {
    # Registers
    "replays old entries": Script(Replayer, detected=False),
    "swaps entries between names": Script(Swapper),
    "flips a bit of entries": _plain(change_value(flip)),
    "truncates entries": _plain(change_value(lambda value: value[:-1])),
    "says nothing is there": _plain(change_rows(_hide), detected=False),
    "hides names": _plain(_hide_names, detected=False),
    "lists for ever": _plain(_list_for_ever, detected=False),
    "calls everything confirmed": _plain(change_rows(_confirm_falsely)),
    "calls nothing confirmed": _plain(change_rows(_unconfirm), detected=False),
    "tells another digest": _plain(change_rows(_digest_falsely)),
    "tells another claim set": _plain(change_rows(_claim_falsely)),
    "accepted ballot 2^63": _plain(change_rows(_accept_far)),
    "promised ballot 2^63": _plain(change_rows(_promise_far), detected=False),
    "floor 2^63": _plain(change_rows(_floor_far), detected=False),
    # Votes
    "refuses by ballot 2^63": _plain(_refuse_by(lambda: FAR), detected=False),
    "refuses everything": Script(lambda: _refuse_by(_rising()), detected=False),
    "claims what it lacks": _plain(_claim_to_hold, detected=False),
    "another roster": Script(
        lambda: raising(RosterDiffersError(encode_roster(_own_roster()))), detected=False
    ),
    # Shares
    "wrong shares under right checksums": _plain(change_shares(lambda _key, body: flip(body))),
    "other shares of the same size": Script(ShareSwapper),
    "cut shares": _plain(change_shares(lambda _key, body: body[:-1])),
    "shares of 2^64 bytes": _plain(_sizes_beyond),
    # Nonsense
    "truncates every bulk": _plain(change_bulk(lambda raw: raw[:-1])),
    "arrays in arrays": _plain(change_bulk(_bomb)),
    "four million arrays": _plain(_wide_bomb),
    "more answers than questions": _plain(_counts_beyond),
    "an empty answer to everything": _plain(_empty),
    "says its disk is broken": Script(lambda: raising(StoreError("broken")), detected=False),
    "says it is not authentic": Script(lambda: raising(IntegrityError("not authentic")), detected=False),
}
