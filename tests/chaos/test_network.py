"""Real nodes and real clients on a real network that is cut, reset, slowed and lossy, while nodes are frozen
and killed: no acknowledged byte is lost, and one order of all operations explains what every client saw.
"""

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from dfs.testing.simulation.checker import Seen, explained
from tests.chaos.kit import ROOT, needs, python_environment, tally, write_conf, write_user
from tests.chaos.net import Member, far_nodes, network
from tests.chaos.patron import PATHS
from tests.e2e.conftest import Node

NODE_COUNT, CLIENT_COUNT = 4, 3
SECONDS = 8.0
PATIENCE_S = 60.0  # for a client to end its last operation


@define
class Fleet:
    """Nodes and clients, each at its place."""

    folder: Path
    nodes: list[Node]
    members: Sequence[Member]
    clients: Sequence[Member]
    faults: Counter[str] = field(factory=Counter)

    def patron(self, number: int, seed: str, seconds: float) -> "subprocess.Popen[bytes]":
        """Start a client at a place."""
        state = self.folder / f"state-{number}"
        words = [str(write_conf(self.folder, self.nodes)), str(state), seed, str(seconds)]
        with (self.folder / f"seen-{number}-{seed}").open("w") as log:
            return subprocess.Popen(
                [*self.clients[number].inside, sys.executable, "-m", "tests.chaos.patron", *words],
                stdout=log,
                env=python_environment() | {"HOME": str(self.folder)},
                cwd=ROOT,
            )

    def settle(self, number: int, seed: str) -> None:
        """Let a client read every file once."""
        assert self.patron(number, seed, 0).wait(PATIENCE_S) == 0

    def seen(self) -> list[list[Any]]:
        """What all clients noted."""
        logs = [log.read_text().splitlines() for log in sorted(self.folder.glob("seen-*"))]
        return [json.loads(line) for lines in logs for line in lines]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    users = write_user(tmp_path)
    environment = python_environment() | {"HOME": str(tmp_path)}
    with network(NODE_COUNT, CLIENT_COUNT) as (members, clients):
        made = Fleet(tmp_path, far_nodes(members, tmp_path, users, environment), members, clients)
        try:
            for node in made.nodes:
                node.start()
            made.settle(0, "first")  # makes the vault
            yield made
        finally:
            for node in made.nodes:
                node.kill()


# --- Faults -------------------------------------------------------------------------------------------------


def faults_of(fleet: Fleet, dice: random.Random) -> tuple[str, Callable[[], object], Callable[[], object]]:
    """Draw a fault: its name, what begins it and what ends it."""
    number = dice.randrange(NODE_COUNT)
    node, member = fleet.nodes[number], fleet.members[number]
    client = dice.choice(fleet.clients)
    one_way = dice.choice([f"out ip daddr {client.address} drop", f"in ip saddr {client.address} drop"])
    rules: dict[str, Sequence[str]] = {
        "cut off": ("in drop", "out drop"),
        "one-way": ("in drop",),
        "one-way back": ("out drop",),
        "bridge": (f"in ip saddr {client.address} drop", f"out ip daddr {client.address} drop"),
        "bridge one-way": (one_way,),
        "reset": ("in meta l4proto tcp reject with tcp reset",),
        "5 % lost": (
            "in numgen random mod 100 < 5 drop",
            "out numgen random mod 100 < 5 drop",
        ),
        "1 Mbit/s": ("out limit rate over 125 kbytes/second drop",),
    }
    name = dice.choice([*rules, "frozen", "killed", "all cut"])
    if name == "frozen":
        return name, node.freeze, node.thaw
    if name == "killed":
        return name, node.kill, node.start
    if name == "all cut":

        def cut_all() -> None:
            for each in fleet.members:
                each.spoil("all cut", "in drop", "out drop")

        def join_one_by_one() -> None:
            for each in dice.sample(list(fleet.members), NODE_COUNT):
                each.restore("all cut")
                threading.Event().wait(dice.random() / 4)

        return name, cut_all, join_one_by_one
    return name, lambda: member.spoil(name, *rules[name]), lambda: member.restore(name)


def torment(fleet: Fleet, dice: random.Random, ended: threading.Event) -> None:
    """Let one fault after the other happen, some at the same time, until ``ended``; then none is left."""
    under_way: dict[str, Callable[[], object]] = {}
    while not ended.wait(dice.random() * 0.7):
        if len(under_way) >= 2 or (under_way and dice.random() < 0.5):
            under_way.pop(dice.choice(sorted(under_way)))()
        else:
            name, begin, end = faults_of(fleet, dice)
            # A second fault of a kind, or of the same process, would be ended with the first.
            if name not in under_way and not {name, *under_way} >= {"frozen", "killed"}:
                begin()
                fleet.faults[name] += 1
                under_way[name] = end
    for end in under_way.values():
        end()


# --- What was seen ------------------------------------------------------------------------------------------


def history(seen: Sequence[Sequence[Any]]) -> list[Seen]:
    """Return the operations on one path that say something: FAILED ones never took effect."""
    told = []
    for begun, ended, verb, path, token, how, text in seen:
        saw = Seen(begun, ended, what=f"{verb} {path} {how} {text}", certain=how != "unknown")
        if how == "failed" or text.startswith("stale"):
            continue
        if how == "absent":
            told.append(evolve(saw, needs=None))
        elif how == "conflict":
            told.append(evolve(saw, avoids=None))
        elif verb == "get":
            told.append(evolve(saw, needs=text.encode()))
        elif verb == "rm":
            told.append(evolve(saw, leaves=None, avoids=None))
        elif verb == "add":
            told.append(evolve(saw, leaves=token.encode(), needs=None))
        else:
            told.append(evolve(saw, leaves=token.encode()))
    return told


def judge(seen: Sequence[Sequence[Any]]) -> list[str]:
    """Return the paths whose history no order explains, and bytes that nobody wrote."""
    bad = [f"wrong bytes: {line}" for line in seen if "WRONG" in line[6]]
    histories = {path: history([line for line in seen if line[3] == path]) for path in PATHS}
    return bad + [f"{path} is not linearizable" for path, told in histories.items() if not explained(told)]


def chaos(fleet: Fleet, seed: int, seconds: float) -> tuple[list[list[Any]], list[str]]:
    dice = random.Random(seed)
    ended = threading.Event()
    tormentor = threading.Thread(target=torment, args=(fleet, dice, ended))
    patrons = [fleet.patron(number, f"{seed}-{number}", seconds) for number in range(CLIENT_COUNT)]
    tormentor.start()
    try:
        statuses = [patron.wait(seconds + PATIENCE_S) for patron in patrons]
    finally:
        ended.set()
        tormentor.join()
    fleet.settle(0, "last")
    lost = fleet.nodes[dice.randrange(NODE_COUNT)]
    lost.kill()
    fleet.settle(1, "one away")
    lost.start()
    seen = fleet.seen()
    last = sorted(seen, key=lambda line: int(line[0]))[-2 * len(PATHS) :]
    bad = judge(seen) + [f"at the end: {line}" for line in last if line[5] == "failed"]
    return seen, bad + [f"client ended with {status}" for status in statuses if status]


def report(fleet: Fleet, name: str, seen: Sequence[Sequence[Any]], bad: Sequence[str]) -> None:
    outcomes = Counter(line[5] for line in seen)
    tally(name, faults=fleet.faults.total(), operations=len(seen), **outcomes, violations=len(bad))


@needs("namespaces")
def test_a_moment_of_chaos(fleet: Fleet) -> None:
    seen, bad = chaos(fleet, 1, SECONDS)
    report(fleet, f"network, {SECONDS:.0f} s", seen, bad)
    assert bad == []
    assert sum(line[5] == "done" for line in seen) >= 10


@needs("namespaces")
@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(10, 14))
def test_minutes_of_chaos(fleet: Fleet, seed: int, request: pytest.FixtureRequest) -> None:
    seconds = float(request.config.getoption("--chaos-seconds"))
    seen, bad = chaos(fleet, seed, seconds)
    report(fleet, f"network, {seconds:.0f} s, seed {seed}", seen, bad)
    assert bad == []


def test_a_history_that_cannot_be_is_found_out() -> None:
    put = [1, 2, "put", PATHS[0], "x", "done", ""]
    assert judge([put, [3, 4, "get", PATHS[0], "", "done", "x"]]) == []
    assert judge([put, [3, 4, "get", PATHS[0], "", "absent", ""]]) != []
    assert judge([put, [3, 4, "get", PATHS[0], "", "done", "y"]]) != []
    assert judge([[1, 2, "put", PATHS[0], "x", "failed", ""], [3, 4, "get", PATHS[0], "", "done", "x"]]) != []
    assert judge([put, [3, 4, "get", PATHS[0], "", "done", "WRONG"]]) != []
