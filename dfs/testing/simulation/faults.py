"""What befalls nodes, disks, networks and clients, drawn from the seed.

Trouble that destroys what was durable (rot, rollback) keeps to few nodes, the ``victims``: as many as every
acknowledged file is promised to survive, and at most r of them rolled back.
"""

import errno
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from attrs import define, field

from dfs.core.quorum import quorum_of
from dfs.testing.simulation.clients import Network
from dfs.testing.simulation.nodes import SimNode, roster_of
from dfs.testing.simulation.workload import Users
from dfs.testing.simulation.world import World

OPERATOR_S: Final = 5.0  # how long a vault stays read-only before somebody restarts the node


@define(eq=False)
class Troubles:
    """All faults of a run. ``rolled_back``: nodes put back to an old copy."""

    world: World
    nodes: list[SimNode]
    network: Network
    users: Users
    next_step: float = 0.0
    victims: list[SimNode] = field(factory=list)
    rolled_back: set[int] = field(factory=set)
    copies: list[tuple[SimNode, object]] = field(factory=list)
    over: bool = False

    def __attrs_post_init__(self) -> None:
        self._wait()

    def _wait(self) -> None:
        self.next_step = self.world.step + self.world.draw.expovariate(
            1 / (self.world.plan.calm_steps or 1.0)
        )

    def tick(self) -> None:
        """Strike when it is time."""
        faults: Mapping[str, float] = self.world.plan.faults or {}
        if self.over or not faults or self.world.step < self.next_step:
            return
        self._wait()
        (kind,) = self.world.draw.choices(list(faults), list(faults.values()))
        STRIKES[kind](self)

    def calm(self) -> None:
        """End all trouble; what was destroyed stays so."""
        self.over = True
        self.network.calm()
        for node in self.nodes:
            disk = node.disk
            disk.space, disk.cut_after, node.slow_s, node.silent = 2, None, 0.0, False
            disk.armed.clear()
            node.quota = None
            node.thaw()
            self._restart_read_only(node)
            if not node.up and not node.start():
                self.world.violate(f"{node.name} does not start any more: {node.refusal}")

    # --- Who ------------------------------------------------------------------------------------------------

    def _node(self) -> SimNode:
        return self.world.draw.choice(self.nodes)

    def victim(self, *, register: bool = False) -> SimNode | None:
        """Return a node that may lose what was durable; ``register``: entries too, not only shares."""
        plan = self.world.plan
        roster = roster_of(plan)
        quorum = quorum_of(roster.group_size, roster.tolerance)
        needed = plan.needed or 1
        spare = min(quorum.total, max(needed + 1, quorum.write)) - needed
        if register:
            spare = min(spare, quorum.total - max(quorum.read, quorum.write))
        if plan.degraded:
            spare = 0
        if len(self.victims) < spare:
            node = self._node()
            if node not in self.victims:
                self.victims.append(node)
            return node
        return self.world.draw.choice(self.victims[:spare]) if spare > 0 else None

    # --- Processes ------------------------------------------------------------------------------------------

    def _down(self, node: SimNode) -> None:
        draw = self.world.draw
        node.silent = draw.random() < 0.3
        node.fall()
        self.revive_later(node)

    def revive_later(self, node: SimNode) -> None:
        """Let a node that is down start again after a while."""
        draw = self.world.draw
        self.world.later(draw.choice([0.02, 0.2, 2.0, 30.0]) * draw.random(), partial(self._revive, node))

    def _revive(self, node: SimNode) -> None:
        if self.world.draw.random() < 0.1 and not self.over:
            node.disk.cut_after = self.world.draw.randrange(20)
        if not node.up and not node.start():
            self.world.later(1.0, partial(self._revive, node))

    def crash(self) -> None:
        """A node stops between two steps."""
        node = self._node()
        if node.up:
            self.world.fault("crash", node.name)
            self._down(node)

    def cut(self) -> None:
        """The power fails at one of the next steps of a disk."""
        node = self._node()
        node.disk.cut_after = self.world.draw.randrange(30)
        self.world.fault("cut", f"{node.name} after {node.disk.cut_after} steps")

    def freeze(self) -> None:
        """A node stands still for a while."""
        node, draw = self._node(), self.world.draw
        if node.up and not node.frozen:
            node.frozen = True
            self.world.fault("freeze", node.name)
            self.world.later(draw.choice([0.1, 1.0, 10.0, 60.0]) * draw.random(), node.thaw)

    def slow(self) -> None:
        """A node gets slow, and fast again later."""
        node, draw = self._node(), self.world.draw
        node.slow_s = draw.choice([0.05, 0.5, 3.0])
        self.world.fault("slow", node.name)
        self.world.later(10 * draw.random(), partial(setattr, node, "slow_s", 0.0))

    def client(self) -> None:
        """A client process ends."""
        busy = [actor for actor in self.users.actors if actor.wish is not None]
        if busy:
            actor = self.world.draw.choice(busy)
            self.world.fault("client", actor.client.name)
            actor.crash()

    def skew(self) -> None:
        """Clocks are set."""
        draw = self.world.draw
        clocks = [node.clock for node in self.nodes] + [actor.client.clock for actor in self.users.actors]
        clock = draw.choice(clocks)
        if clock is not None:
            self.world.fault("skew", "a clock")
            clock.wall_offset_s = draw.uniform(-1e9, 1e9)
            clock.drift(draw.uniform(0.5, 2.0))

    def tidy(self) -> None:
        """Garbage is collected."""
        node = self._node()
        self.world.fault("tidy", node.name)
        node.tidy()

    def scrub(self) -> None:
        """A part of what a node keeps is read again."""
        node = self._node()
        self.world.fault("scrub", node.name)
        node.scrub(self.world.draw.randrange(1, 10))

    # --- Networks -------------------------------------------------------------------------------------------

    def loss(self) -> None:
        """Many messages get lost for a while."""
        network, before, draw = self.network, self.network.loss, self.world.draw
        self.world.fault("loss", "a while")
        network.loss = draw.choice([0.1, 0.3])
        self.world.later(draw.random() * 2, lambda: setattr(network, "loss", 0.0 if self.over else before))

    def partition(self) -> None:
        """Some clients do not reach some nodes: in both ways or one, all nodes of a side but perhaps one."""
        draw, network = self.world.draw, self.network
        form = draw.choice(["full", "bridge", "deaf", "mute"])
        clients = [actor.index for actor in self.users.actors if draw.random() < 0.7]
        sides = {node.index: draw.random() < 0.5 for node in self.nodes}
        bridge = draw.choice(self.nodes).index if form == "bridge" else -1
        pairs = set()
        for client in clients:
            side = draw.random() < 0.5
            pairs |= {(client, node) for node, there in sides.items() if there is not side and node != bridge}
        if form != "mute":
            network.deaf |= pairs
        if form != "deaf":
            network.mute |= pairs
        self.world.fault(f"partition {form}", str(sorted(pairs)))

        def mend() -> None:
            network.deaf -= pairs
            network.mute -= pairs

        self.world.later(draw.choice([0.1, 1.0, 20.0]) * draw.random(), mend)

    # --- Disks ----------------------------------------------------------------------------------------------

    def full(self) -> None:
        """A disk is full, or nearly, for a while."""
        node, draw = self._node(), self.world.draw
        node.disk.space = draw.randrange(2)
        self.world.fault("full", f"{node.name} {node.disk.space}")
        self.world.later(draw.random() * 5, partial(setattr, node.disk, "space", 2))

    def quota(self) -> None:
        """The user's quota on a node, or on all of them, is about what is used, for a while."""
        draw = self.world.draw
        nodes = self.nodes if draw.random() < 0.5 else [self._node()]
        for node in nodes:
            if node.up:
                used_size = node.open_vault.store.view(lambda view: view.usage())
                node.quota = int(used_size * draw.choice([0.5, 1.0, 1.04])) + draw.choice([0, 1000])
                self.world.later(draw.random() * 10, partial(setattr, node, "quota", None))
        self.world.fault("quota", ", ".join(f"{node.name} {node.quota}" for node in nodes))

    def fail(self, what: str) -> None:
        """The next call of a kind fails; a vault that is read-only then is looked after by an operator."""
        node = self._node()
        node.disk.armed[what] = (
            errno.EIO if what != "write" else self.world.draw.choice([errno.EIO, errno.ENOSPC])
        )
        self.world.fault(what, node.name)
        self.world.later(OPERATOR_S, partial(self._restart_read_only, node))

    def _restart_read_only(self, node: SimNode) -> None:
        if node.up and node.open_vault.store.read_only_reason is not None:
            self.world.reached["read-only"] += 1
            node.fall()
            self._revive(node)

    def rot(self) -> None:
        """Bytes change where they lie: in a volume, a small share or an entry."""
        draw = self.world.draw
        form = draw.choice(["volume", "share", "register"])
        node = self.victim(register=form == "register")
        if node is None or self.world.plan.store == "memory":
            return
        if _rot_volume(node, self.world) if form == "volume" else rot_row(node, self.world, form):
            node.damaged = True
            self.world.fault("rot", f"{form} of {node.name}")

    def rollback(self) -> None:
        """A node is put back to an earlier copy of its disk, which is taken first."""
        tolerance = roster_of(self.world.plan).tolerance
        copies = self.copies
        if not copies or (len(copies) < 3 and self.world.draw.random() < 0.5):
            node = copies[0][0] if copies else self.victim(register=True)
            if node is not None and tolerance > 0 and node.up:
                copies.append((node, node.image()))
            return
        node, image = self.world.draw.choice(copies)
        self.world.fault("rollback", node.name)
        self.rolled_back.add(node.index)
        self._put_back(node, image)

    def replace(self) -> None:
        """A node gets an empty disk, and its old id under a new incarnation."""
        node = self.victim(register=True)
        if node is not None:
            self.world.fault("replace", node.name)
            self.copies = [copy for copy in self.copies if copy[0] is not node]
            node.incarnation += 1
            self._put_back(node, None)

    def _put_back(self, node: SimNode, image: object) -> None:
        node.damaged = True
        node.fall()
        node.restore(image)
        self.revive_later(node)


def _rot_volume(node: SimNode, world: World) -> bool:
    paths = [path for path, stored in node.disk.stored.items() if path.endswith(".vol") and stored.now]
    if not paths:
        return False
    stored = node.disk.stored[world.draw.choice(sorted(paths))]
    offset = world.draw.randrange(len(stored.now))
    flip = world.draw.randrange(1, 256)
    for content in (stored.now, stored.stable):
        if offset < len(content):
            content[offset] ^= flip
    return True


ROTS: Final = {
    "share": (
        "SELECT row_id, body FROM shares WHERE length(body) > 0 ORDER BY row_id",
        "UPDATE shares SET body = ? WHERE row_id = ?",
    ),
    "register": (
        "SELECT CAST(directory || name AS BLOB), value FROM registers WHERE length(value) > 0 ORDER BY 1",
        "UPDATE registers SET value = ? WHERE CAST(directory || name AS BLOB) = ?",
    ),
}


def rot_row(node: SimNode, world: World, form: str) -> bool:
    """Change a byte of a row of a node, see ROTS; False when there is none."""
    for database in node.disk.databases.values():
        select, update = ROTS[form]
        try:
            found = database.execute(select).fetchall()
        except sqlite3.OperationalError as problem:
            if "no such table" not in str(problem):
                raise
            return False
        if found:
            key, body = world.draw.choice(found)
            changed = bytearray(body)
            changed[world.draw.randrange(len(changed))] ^= world.draw.randrange(1, 256)
            database.execute(update, (bytes(changed), key))
            return True
    return False


STRIKES: Final[Mapping[str, Callable[[Troubles], None]]] = {
    "loss": Troubles.loss,
    "partition": Troubles.partition,
    "crash": Troubles.crash,
    "cut": Troubles.cut,
    "freeze": Troubles.freeze,
    "slow": Troubles.slow,
    "client": Troubles.client,
    "full": Troubles.full,
    "quota": Troubles.quota,
    "sync": lambda troubles: troubles.fail("sync"),
    "write": lambda troubles: troubles.fail("write"),
    "commit": lambda troubles: troubles.fail("commit"),
    "rot": Troubles.rot,
    "rollback": Troubles.rollback,
    "tidy": Troubles.tidy,
    "scrub": Troubles.scrub,
    "replace": Troubles.replace,
    "skew": Troubles.skew,
}
