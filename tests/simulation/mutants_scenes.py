"""Scenes: short directed runs that meet a rule which is hardly ever met by chance.

A scene says who does what and who cannot reach whom; the seed decides which nodes play which part, how long
messages take and when things happen. None of it breaks a rule: the right code stays clean with it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define

from dfs.core.node import VaultNode
from dfs.core.types import Version
from dfs.testing.simulation.clients import Client, Running
from dfs.testing.simulation.cluster import Cluster
from dfs.testing.simulation.faults import Troubles, rot_row
from dfs.testing.simulation.nodes import SimNode
from dfs.testing.simulation.run import _Run
from dfs.testing.simulation.workload import Wish
from dfs.testing.simulation.world import World
from tests.simulation.mutants_patching import Function, Patch, Patches

PATH = "a"
BYSTANDER = 9  # index of a client
CHUNK_SIZE = 256  # see workload.py
TIDY_S = 0.002  # between two collections while a file is read
TIDY_COUNT = 100
RESTART_RATIO = 0.15  # of steps while two clients write at once


@define(eq=False)
class Stage:
    """Where a scene is played. ``nodes``: in an order drawn from the seed."""

    run: _Run
    nodes: list[SimNode]

    @property
    def world(self) -> World:
        """Its time and chance."""
        return self.run.world

    @property
    def cluster(self) -> Cluster:
        """Its nodes and its network."""
        return self.run.cluster

    @property
    def troubles(self) -> Troubles:
        """Whom trouble has struck."""
        return self.run.troubles

    def opened(self, index: int) -> Client:
        """Return a new client that has opened the vault."""
        return self.cluster.opened(index)[0]

    def part(self, client: Client, *nodes: SimNode) -> None:
        """Let what a client asks reach all nodes but these."""
        network = self.cluster.network
        network.deaf = {pair for pair in network.deaf if pair[0] != client.index}
        network.deaf |= {(client.index, node.index) for node in nodes}

    def begin(self, client: Client, kind: str, body: bytes = b"") -> Running[Any]:
        """Let a client begin to do something; what it sees is noted."""
        assert client.vault is not None
        version = Version(self.world.draw.randbytes(16)) if body else Version(b"")
        wish = Wish(kind, PATH, version, body)
        if body:
            self.run.histories.bodies[version] = body
        operation = self.run.users.operation(client, client.vault, wish)
        return client.start(operation, partial(self.run.histories.note, wish))

    def do(self, client: Client, kind: str, body: bytes = b"") -> None:
        """Let a client do something from first to last."""
        running = self.begin(client, kind, body)
        self.cluster.until(lambda: running.ended is not None, kind)

    def strike(self, node: SimNode) -> None:
        """Note that a node loses what was durable."""
        self.troubles.victims.append(node)
        node.damaged = True

    def empty(self, node: SimNode) -> None:
        """Give a node an empty disk, and let somebody tell it what it was."""
        self.strike(node)
        self.world.fault("replace", node.name)
        node.incarnation += 1
        node.fall()
        node.restore(None)
        assert node.start()
        self.opened(BYSTANDER)


def _scene(play: Callable[[Stage], None]) -> Patches:
    def going(original: Function) -> Function:
        def go(run: _Run) -> None:
            nodes = list(run.cluster.nodes)
            run.world.draw.shuffle(nodes)
            play(Stage(run, nodes))
            original(run)

        return go

    return [Patch(_Run, "go", going)]


def joining_and_away() -> Patches:
    """Of the two nodes that took a file, one lost it and the other is away from a reader."""

    def play(stage: Stage) -> None:
        lost, holder, empty = stage.nodes
        writer = stage.opened(1)
        stage.part(writer, empty)
        stage.do(writer, "put", b"body")
        stage.empty(lost)
        reader = stage.opened(2)
        stage.part(reader, holder)
        stage.do(reader, "get")

    return _scene(play)


def corrupt_and_away() -> Patches:
    """Of the two nodes that took a file, one has its entry damaged and the other is away from a reader."""

    def play(stage: Stage) -> None:
        rotten, holder, empty = stage.nodes
        writer, reader = stage.opened(1), stage.opened(2)
        stage.part(writer, empty)
        stage.do(writer, "put", b"body")
        stage.strike(rotten)
        assert rot_row(rotten, stage.world, "register")
        stage.world.fault("rot", f"register of {rotten.name}")
        stage.part(reader, holder)
        stage.do(reader, "get")

    return _scene(play)


def removed_behind_a_return() -> Patches:
    """A file is removed by who takes a node for JOINING that has long caught up, and does not reach it."""

    def play(stage: Stage) -> None:
        lost = stage.nodes[0]
        stage.do(stage.opened(1), "put", b"body")
        stage.empty(lost)
        remover = stage.opened(2)
        stage.do(stage.opened(1), "repair")
        stage.part(remover, lost)
        stage.do(remover, "rm")
        stage.do(stage.opened(1), "get")

    return _scene(play)


def _collect(vault: VaultNode) -> None:
    vault.collectable = True
    vault.tidy()


def replaced_while_read() -> Patches:
    """A file of several chunks is written over while it is read; what is old is collected at once."""

    def play(stage: Stage) -> None:
        writer, reader = stage.opened(1), stage.opened(2)
        before, after = (stage.world.draw.randbytes(3 * CHUNK_SIZE) for _ in range(2))
        stage.do(writer, "put", before)
        stage.cluster.forget()
        writing = stage.begin(writer, "put", after)
        stage.cluster.wait(stage.world.draw.random() * 0.05)
        reading = stage.begin(reader, "get")
        for count in range(TIDY_COUNT):
            for node in stage.nodes:
                stage.world.later(count * TIDY_S, partial(node.guarded, _collect))
        stage.cluster.until(lambda: None not in (writing.ended, reading.ended), "what users do")

    return _scene(play)


def restarts_between_promises() -> Patches:
    """Two clients make one file; each reaches a node of its own and one between, which keeps restarting."""

    def play(stage: Stage) -> None:
        between, *own = stage.nodes
        clients = [stage.opened(1), stage.opened(2)]
        for client, node in zip(clients, own, strict=True):
            stage.part(client, node)
        writing = [stage.begin(client, "absent", b"body %d" % client.index) for client in clients]
        while any(running.ended is None for running in writing) and stage.cluster.tick():
            if stage.world.draw.random() < RESTART_RATIO:
                between.fall()
                assert between.start()

    return _scene(play)
