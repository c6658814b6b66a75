"""What users do in a `Town`, step by step, and what must be there afterwards.

A ledger, one JSON line a thing said, is written next to the nodes: which step began, how it ended, and what
each node acknowledged. It outlives the process that is killed, so that `inspect` knows what was promised.
"""

import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from dfs.core import bulk_rows, messages
from dfs.core.errors import CorruptEntryError, DfsError, UnknownOutcomeError
from dfs.core.interface import View
from dfs.core.node import Answer
from dfs.core.types import Ballot, DirectoryId, NameId, RegisterKey, ShareKey, StripeId
from tests.chaos.town import NODES, Resident, Town

SHARE_COUNT_MAX: Final = 10_000
PROBE: Final = "probe"
STEP_COUNT: Final = 100_000  # more than anybody is busy with


@frozen
class Step:
    """One thing a user does: put ``path`` with the bytes of ``seed``, rm it, get it, ls, tidy, or mend."""

    verb: str
    path: str = ""
    seed: int = 0
    size: int = 0

    @property
    def content(self) -> bytes | None:
        """What the path holds when the step took effect."""
        return random.Random(self.seed).randbytes(self.size) if self.verb == "put" else None


DEEDS: Final[Mapping[str, Sequence[Step]]] = {
    "found": [
        Step("put", "old/large", 1, 600_000),
        Step("put", "old/small", 2, 20_000),
        Step("put", "old/inline", 3, 6_000),
        Step("put", "old/tiny", 4, 300),
        Step("put", "doomed", 5, 20_000),
        Step("put", "doomed-large", 6, 600_000),
    ],
    "put": [
        Step("put", "new/large", 11, 610_000),
        Step("put", "new/small", 12, 30_000),
        Step("put", "new/tiny", 13, 200),
    ],
    "overwrite": [
        Step("put", "old/large", 21, 530_000),
        Step("put", "old/small", 22, 22_000),
        Step("put", "old/tiny", 23, 500),
        Step("tidy"),
    ],
    "delete": [Step("rm", "doomed"), Step("rm", "doomed-large"), Step("ls")],
    "collect": [
        Step("rm", "doomed-large"),
        Step("put", "old/small", 31, 100),
        Step("tidy"),
        Step("put", "again/large", 32, 600_000),  # into the volumes that came free
        Step("tidy"),
    ],
    "repair": [Step("mend")],
    "start": [Step("ls"), Step("get", "old/large"), Step("put", "started", 41, 12_000)],
}


def busy(seed: int, count: int) -> list[Step]:
    """Return so many steps of a user who stores, overwrites and removes a dozen files."""
    dice = random.Random(seed)
    steps = []
    for number in range(count):
        path = f"room{dice.randrange(2)}/file{dice.randrange(6)}"
        verb = dice.choices(["put", "rm", "tidy"], [8, 2, 1])[0]
        size = dice.choice([200, 6_000, 30_000, 450_000, 600_000])
        steps.append(Step(verb, path, 1000 * seed + number, size if verb == "put" else 0))
    return steps


Possible = dict[str, set[bytes | None]]


@define
class Ledger:
    """Writes what was said to ``path``, each line by one call."""

    path: Path
    _descriptor: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def say(self, *words: object) -> None:
        """Write one line."""
        os.write(self._descriptor, json.dumps(words).encode() + b"\n")

    def witness(self, number: int, request: messages.Request, _bulk: memoryview, answer: Answer) -> None:
        """Note what a node acknowledged as durable."""
        if isinstance(request, messages.Store):
            for head in request.shares:
                self.say("kept", number, head.key.stripe.hex(), head.key.index, head.checksum.hex())
        elif isinstance(request, messages.Prepare):
            promises = bulk_rows.decode_promises(bytes(answer.bulk[0]))
            for item, promise in zip(request.items, promises, strict=True):
                if promise.granted:
                    self.say("promised", number, *_named(item.key), item.ballot.hex())
        elif isinstance(request, messages.Accept):
            assert isinstance(answer.reply, messages.AcceptReply)
            items = bulk_rows.decode_accepts(_bulk)
            for accept, result in zip(items, answer.reply.results, strict=True):
                if result.status in {messages.ACCEPTED, messages.OWING}:
                    strict = result.status == messages.ACCEPTED
                    self.say(
                        "accepted",
                        number,
                        *_named(accept.key),
                        accept.ballot.hex(),
                        accept.digest.hex(),
                        strict,
                    )


def _named(key: RegisterKey) -> tuple[str, str]:
    return key.directory.hex(), key.name.hex()


def perform(town: Town, steps: Sequence[Step], ledger: Ledger) -> None:
    """Do the steps, saying before and after each how it went. Only `DfsError` is an answer."""
    for resident in town.residents.values():
        resident.told = ledger.witness
    for index, step in enumerate(steps):
        ledger.say("begin", index)
        if step.verb == "tidy":
            ledger.say("collecting")  # what nobody claims may go from here on
        try:
            take(town, step)
        except UnknownOutcomeError as error:
            ledger.say("unknown", index, str(error))
        except DfsError as error:
            ledger.say("failed", index, f"{type(error).__name__}: {error}")
        else:
            ledger.say("done", index)
    for number, loss in town.lost.items():
        ledger.say("lost", number, str(loss))
    for number, resident in town.residents.items():
        if resident.store.read_only_reason is not None:
            ledger.say("read-only", number, resident.store.read_only_reason)


def take(town: Town, step: Step) -> None:
    """Do one step. Raises: DfsError."""
    if step.verb == "put":
        town.put(step.path, step.content or b"")
    elif step.verb == "rm":
        town.remove(step.path)
    elif step.verb == "get":
        town.get(step.path)
    elif step.verb == "ls":
        town.names()
    elif step.verb == "mend":
        town.scrub()
        town.repair()
    else:
        assert step.verb == "tidy"
        town.tidy()


# --- What must be there afterwards --------------------------------------------------------------------------


def told(ledger: Path) -> list[list[Any]]:
    """Return what a ledger says; a last line that was cut off is nothing said."""
    lines = ledger.read_bytes().split(b"\n") if ledger.exists() else [b""]
    return [json.loads(line) for line in lines[:-1]]


def possible(before: Possible, steps: Sequence[Step], said: Sequence[Sequence[Any]]) -> Possible:
    """Return what each path may hold: what was acknowledged last, or what an unacknowledged step would leave.

    A step that FAILED leaves everything as it was (RELIABILITY, P4).
    """
    after = {path: set(contents) for path, contents in before.items()}
    undone: frozenset[bytes | None] = frozenset()
    for word, index, *_ in (line for line in said if line[0] in {"begin", "done", "failed"}):
        step = steps[index]
        if step.verb not in {"put", "rm"}:
            continue
        if word == "begin":
            earlier = frozenset(after.get(step.path, {None}))
            after[step.path] = {*earlier, step.content}
            undone = earlier
        else:
            after[step.path] = {step.content} if word == "done" else set(undone)
    return after


@define
class Findings:
    """What is wrong with a town that was started again; nothing, if all is well."""

    problems: list[str] = field(factory=list)

    def expect(self, claim: bool, problem: str) -> None:
        """Note a problem unless the claim holds."""
        if not claim:
            self.problems.append(problem)


def inspect(
    folder: Path, before: Possible, steps: Sequence[Step], seed: str, away: int = 1, *, mend: bool = False
) -> list[str]:
    """Start the town again, without any other step, and return everything that is not as it was promised.

    ``mend``: what was bad is repaired first. Each file must be there, the same with the node ``away`` not
    answering; each share must pass its checksum; each node must hold what it acknowledged; and the town must
    work: a file is stored, fetched, removed, collected.
    """
    findings = Findings()
    said = told(folder / "ledger")
    town = Town(folder, seed)
    try:
        for number, error in town.lost.items():
            findings.expect(False, f"DFS{number} does not start: {error}")
        for number, resident in town.residents.items():
            findings.problems += [f"DFS{number} {problem}" for problem in _broken_words(resident, said)]
        settled = _contents(town, possible(before, steps, said), findings)
        others = [away]
        if mend:
            _mend_all(town, findings)
            others.append(away % len(NODES) + 1)
        findings.problems += _bad_shares(town)
        for other in others:
            if other in town.residents:
                town.residents[other].up = False
            told_of = {path: content for path, content in settled.items() if content or other == away}
            for path, content in told_of.items():  # two nodes of four cannot say that something is not there
                found = _got(town, path, findings, f"with {others} away")
                findings.expect(found == content, f"{path} is another with {others} away")
        for resident in town.residents.values():
            resident.up = True
        _live_on(town, findings)
        for path, content in settled.items():
            findings.expect(_got(town, path, findings, "at last") == content, f"{path} changed after a day")
        findings.problems += _bad_shares(town)
    finally:
        town.close()
    return findings.problems


def _mend_all(town: Town, findings: Findings) -> None:
    """Finish a repair that was cut short: then every share is where it belongs, and any two nodes suffice."""
    town.tidy()  # what nobody claims is not repaired but collected
    town.scrub()
    try:
        repaired = town.repair()
        findings.expect(not repaired.left, f"repair leaves {repaired.left}")
        again = town.repair()
        findings.expect(not again.shares, "a second repair finds something to do")
    except DfsError as error:
        findings.expect(False, f"cannot be repaired: {error}")


def _contents(town: Town, expected: Possible, findings: Findings) -> dict[str, bytes | None]:
    settled = {}
    for path, contents in expected.items():
        found = _got(town, path, findings, "after the restart")
        shown = None if found is None else f"{len(found)} bytes"
        findings.expect(found in contents, f"{path} holds {shown}, none of {len(contents)} possible contents")
        settled[path] = found
    return settled


def _got(town: Town, path: str, findings: Findings, when: str) -> bytes | None:
    try:
        return town.get(path)
    except DfsError as error:
        findings.expect(False, f"{path} cannot be read {when}: {error}")
        return None


def _bad_shares(town: Town) -> Iterator[str]:
    for number, resident in town.residents.items():
        for key in resident.store.shares(None, SHARE_COUNT_MAX):
            try:
                resident.store.verify(key)
            except DfsError as error:
                yield f"DFS{number}: {error}"


def _live_on(town: Town, findings: Findings) -> None:
    step = Step("put", PROBE, 99, 150_000)
    try:
        town.put(PROBE, step.content or b"")
        findings.expect(town.get(PROBE) == step.content, "a new file is not what was stored")
        town.remove(PROBE)
        town.tidy()
        findings.expect(town.get(PROBE) is None, "a removed file is still there")
    except DfsError as error:
        findings.expect(False, f"the town does not work any more: {type(error).__name__}: {error}")


# --- What a node gave its word for --------------------------------------------------------------------------


def _broken_words(resident: Resident, said: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Return which acknowledgements of a node its store does not bear out."""
    kept: dict[tuple[str, int], None] = {}
    promised: dict[tuple[str, str], str] = {}
    accepted: dict[tuple[str, str], tuple[str, str, bool]] = {}
    for word, *rest in said:
        if word == "collecting":
            kept.clear()
        elif word in {"kept", "promised", "accepted"} and rest[0] == resident.number:
            if word == "kept":
                kept[rest[1], rest[2]] = None
            elif word == "promised":
                promised[rest[1], rest[2]] = rest[3]
            else:
                accepted[rest[1], rest[2]] = (rest[3], rest[4], rest[5])
    keys = [ShareKey(StripeId(bytes.fromhex(stripe)), index) for stripe, index in kept]
    gone = resident.store.view(lambda view: view.missing(keys))
    yield from (f"acknowledged share {key.index} of {key.stripe.hex()[:16]}, it is gone" for key in gone)
    for place in {**promised, **accepted}:
        key = RegisterKey(DirectoryId(bytes.fromhex(place[0])), NameId(bytes.fromhex(place[1])))
        yield from _broken_register(resident, key, promised.get(place, ""), accepted.get(place))


def _broken_register(
    resident: Resident, key: RegisterKey, promised: str, accepted: tuple[str, str, bool] | None
) -> Iterator[str]:
    def missing(view: View) -> Sequence[ShareKey]:
        claims = view.claims(key, row.accepted) if row is not None else ()
        here = [node.node_id for node in NODES].index(resident.vault.node_id)
        return view.missing(
            [
                ShareKey(claim.stripe, index)
                for claim in claims
                for index, nodes in enumerate(claim.nodes)
                if here in nodes
            ]
        )

    try:
        row = resident.store.view(lambda view: view.register(key))
    except CorruptEntryError as error:
        yield str(error)
        return
    floor = resident.store.view(lambda view: view.floor(key.directory))
    highest = max(floor, row.promised if row is not None else floor)
    if Ballot(bytes.fromhex(promised)) > highest:
        yield f"forgot the promise {promised[:16]} for {key.name.hex()[:8]}"
    if accepted is None:
        return
    ballot, digest, strict = Ballot(bytes.fromhex(accepted[0])), bytes.fromhex(accepted[1]), accepted[2]
    if row is None or row.accepted < ballot:
        if ballot > floor:
            yield f"lost the value accepted for {key.name.hex()[:8]}"
    elif row.accepted == ballot:
        if row.digest != digest:
            yield f"holds another value than it accepted for {key.name.hex()[:8]}"
        if strict and resident.store.view(missing):
            yield f"lacks shares that it accepted strictly for {key.name.hex()[:8]}"
