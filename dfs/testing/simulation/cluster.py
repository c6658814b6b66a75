"""A simulated cluster: nodes, network and clients in one world, and how to run single operations in it."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeVar

from attrs import define, field

from dfs.core import consensus, limits, node as node_module, reading
from dfs.core.effects import Operation
from dfs.core.transfer import Vault
from dfs.core.types import NodeId
from dfs.core.wire import Mark
from dfs.plugins.volumes import files as volume_files, store as volume_store
from dfs.testing.simulation.clients import Client, Network, Running, make_client, value_of
from dfs.testing.simulation.nodes import USER, SimNode, make_nodes
from dfs.testing.simulation.plan import Plan
from dfs.testing.simulation.sealing import Witness
from dfs.testing.simulation.world import World

T = TypeVar("T")

QUIET_S: Final = 300.0  # virtual seconds within which anything must end while no fault strikes
STEP_COUNT_MAX: Final = 200_000


def bounds(plan: Plan) -> Iterator[tuple[ModuleType, str, object]]:
    """Yield the bounds that a run scales down, so that few bytes take every path."""
    yield limits, "PIN_LEASE_S", plan.lease_s
    yield volume_store, "VOLUME_SIZE_MIN", 1
    if plan.small:
        yield limits, "CONTENT_INLINE_SIZE_MAX", 64
        yield limits, "SMALL_SIZE_MAX", 600
        yield limits, "CHUNK_LIST_INLINE_SIZE_MAX", 200
        yield consensus, "CLAIMS_INLINE_SIZE_MAX", 200
        yield consensus, "ACCEPT_ROWS_SIZE_MAX", 800
        yield reading, "PAGE_COUNT", 2
        yield node_module, "COLLECT_COUNT", 3
        yield volume_files, "ALLOCATE_STEP", 512


@contextmanager
def scaled(plan: Plan) -> Iterator[None]:
    """Scale bounds down while a run lasts, and leave cycles uncollected: that must not depend on what ran
    before.
    """
    before = [(module, name, getattr(module, name)) for module, name, _ in bounds(plan)]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for module, name, value in bounds(plan):
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        if collecting:
            gc.enable()


@define(eq=False)
class Cluster:
    """The nodes of a world, with an empty vault, and a network. ``memories``: marks that users remember."""

    world: World
    network: Network = field(init=False)
    witness: Witness = field(init=False)
    nodes: list[SimNode] = field(init=False)
    memories: dict[int, dict[NodeId, Mark]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        world, plan = self.world, self.world.plan
        self.network = Network(world, plan.loss or 0.0, plan.doubling or 0.0, plan.tardiness or 0.0)
        if not plan.faults:
            self.network.dawdling = 0.0
        self.witness = Witness(world)
        self.nodes = make_nodes(world)

    def client(self, index: int, user: str = USER) -> Client:
        """Return a new client process, with the memory of the one before."""
        client = make_client(self.world, index, self.network, self.witness, self.nodes, user)
        client.marks = self.memories.setdefault(index, {})
        return client

    def tick(self) -> bool:
        """Let the next thing happen; False when nothing is left to come or too much has."""
        if self.world.step > STEP_COUNT_MAX or not self.world.tick():
            self.world.violate("everybody waits for ever")
            return False
        return True

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Go on until something is done; without faults it must be soon."""
        end_s = self.world.now_s + QUIET_S
        while not done() and self.tick():
            if self.world.now_s > end_s:
                self.world.violate(f"{what} does not end, though all is well")
                return

    def wait(self, delay_s: float) -> None:
        """Let time pass."""
        ended: list[bool] = []
        self.world.later(delay_s, partial(ended.append, True))
        while not ended and self.tick():
            pass

    def run(self, client: Client, operation: Operation[Any], what: str) -> Running[Any]:
        """Run an operation to its end."""
        running = client.start(operation, lambda _running: None)
        self.until(lambda: running.ended is not None, what)
        return running

    def value(self, client: Client, operation: Operation[T]) -> T:
        """Run an operation and return its value, or raise its error."""
        running: Running[T] = self.run(client, operation, "an operation")
        return value_of(running)

    def opened(self, index: int = 0) -> tuple[Client, Vault]:
        """Return a new client that has opened the vault."""
        client = self.client(index)
        return client, self.value(client, client.open())

    def forget(self) -> None:
        """Let all pins end, and collect what nothing holds."""
        self.wait(4 * (self.world.plan.lease_s or 0.0) + 1.0)
        for node in self.nodes:
            while node.tidy():
                self.world.reached["more garbage than one round takes"] += 1


@contextmanager
def town(seed: int = 0, **wanted: Any) -> Iterator[Cluster]:  # noqa: ANN401 - what a plan has
    """A cluster where nothing befalls anybody by chance, for directed tests."""
    wishes: dict[str, Any] = {"faults": {}, "loss": 0.0, "doubling": 0.0, "tardiness": 0.0, "skew": False}
    plan = Plan(**{**wishes, "store": "volumes", "degraded": 0.0, "lease_s": 86400.0, **wanted}).drawn(seed)
    with scaled(plan):
        cluster = Cluster(World(seed, plan))
        yield cluster
        assert not cluster.world.violations, cluster.world.violations
