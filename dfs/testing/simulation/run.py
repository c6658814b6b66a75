"""One seed from first to last: users and troubles, then quiet, then the judgement."""

import traceback
from collections.abc import Callable, Mapping

from attrs import define, field

from dfs.testing.simulation.audit import Audit
from dfs.testing.simulation.cluster import Cluster, scaled
from dfs.testing.simulation.faults import Troubles
from dfs.testing.simulation.plan import Plan, Verdict
from dfs.testing.simulation.workload import PATHS, Histories, Users
from dfs.testing.simulation.world import World


def run_seed(seed: int, plan: Plan | None = None, trace: Callable[[str], None] | None = None) -> Verdict:
    """Run one seed and return what came of it.

    Args:
        plan: what to fix; the rest is drawn from the seed.
        trace: called with a readable line for every event.
    """
    drawn = (plan or Plan()).drawn(seed)
    with scaled(drawn):
        world = World(seed, drawn, trace)
        run = _Run(world)
        try:
            run.go()
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what a run looks for
            told = traceback.extract_tb(problem.__traceback__)[-1]
            world.violate(f"{problem!r} in {told.name}, {told.filename.rpartition('/')[2]}:{told.lineno}")
        return run.verdict()


@define(eq=False)
class _Run:
    """One run."""

    world: World
    cluster: Cluster = field(init=False)
    histories: Histories = field(init=False)
    users: Users = field(init=False)
    troubles: Troubles = field(init=False)

    def __attrs_post_init__(self) -> None:
        world, plan = self.world, self.world.plan
        world.note(lambda: str(plan), str(plan).encode())
        self.cluster = Cluster(world)
        self.histories = Histories(world, list(PATHS[: plan.path_count or 1]))
        self.users = Users(world, self.histories, self.cluster.client)
        self.users.start()
        self.troubles = Troubles(world, self.cluster.nodes, self.cluster.network, self.users)
        for node in self.cluster.nodes:
            node.fallen = self.troubles.revive_later

    def go(self) -> None:
        """Let it all happen, then judge."""
        users = self.users
        while not users.done and self.cluster.tick():
            self.troubles.tick()
        self.troubles.calm()
        self.cluster.until(lambda: users.done, "what users do")
        if not self.world.violations:
            Audit(self.cluster, self.histories, self.troubles).judge()

    def verdict(self) -> Verdict:
        """Return what came of it."""
        world = self.world
        reached: Mapping[str, int] = {**world.reached, **self.histories.outcomes}
        return Verdict(
            seed=world.seed,
            violations=tuple(world.violations),
            trace_hash=world.trace_hash,
            operations=self.users.begun,
            virtual_s=world.now_s,
            faults=dict(world.faults),
            reached=reached,
        )
