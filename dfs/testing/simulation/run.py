"""One seed from first to last: users and troubles, then quiet, then the judgement."""

import gc
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final

from attrs import define, evolve, field

from dfs.core import consensus, folders, limits, node as node_module
from dfs.core.effects import Operation
from dfs.core.errors import IncompleteError, IntegrityError, NotFoundError
from dfs.core.paths import ancestors
from dfs.core.transfer import Vault
from dfs.core.types import Version
from dfs.plugins.volumes import files as volume_files, store as volume_store
from dfs.testing.simulation import invariants
from dfs.testing.simulation.checker import UndecidedError, explained
from dfs.testing.simulation.clients import Client, Network, Running, make_client
from dfs.testing.simulation.faults import Troubles
from dfs.testing.simulation.nodes import make_nodes
from dfs.testing.simulation.plan import Plan, Verdict
from dfs.testing.simulation.sealing import Witness
from dfs.testing.simulation.workload import PATHS, Histories, Users, Wish, get, put
from dfs.testing.simulation.world import World

QUIET_S: Final = 300.0  # virtual seconds after which everything must have ended once faults stop
STEP_COUNT_MAX: Final = 200_000
AUDITOR: Final = 99  # index of the client that looks once more at the end


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
        yield folders, "PAGE_COUNT", 2
        yield node_module, "COLLECT_COUNT", 3
        yield volume_files, "ALLOCATE_STEP", 512


@contextmanager
def scaled(plan: Plan) -> Iterator[None]:
    """Scale bounds down while a run lasts."""
    before = [(module, name, getattr(module, name)) for module, name, _ in bounds(plan)]
    try:
        for module, name, value in bounds(plan):
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def run_seed(seed: int, plan: Plan | None = None, trace: Callable[[str], None] | None = None) -> Verdict:
    """Run one seed and return what came of it.

    Args:
        plan: what to fix; the rest is drawn from the seed.
        trace: called with a readable line for every event.
    """
    drawn = (plan or Plan()).drawn(seed)
    collecting = gc.isenabled()
    gc.disable()  # when cycles are found must not depend on what ran before
    try:
        with scaled(drawn):
            world = World(seed, drawn, trace)
            run = _Run(world)
            try:
                run.go()
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is what a run looks for
                told = traceback.extract_tb(problem.__traceback__)[-1]
                world.violate(f"{problem!r} in {told.name}, {told.filename.rpartition('/')[2]}:{told.lineno}")
            return run.verdict()
    finally:
        if collecting:
            gc.enable()


@define(eq=False)
class _Run:
    """One run. ``audited``: what the last look found, by path."""

    world: World
    network: Network = field(init=False)
    users: Users = field(init=False)
    troubles: Troubles = field(init=False)
    histories: Histories = field(init=False)
    nodes: list[Any] = field(init=False)
    witness: Witness = field(init=False)

    def __attrs_post_init__(self) -> None:
        world, plan = self.world, self.world.plan
        world.note(lambda: str(plan), str(plan).encode())
        self.network = Network(world, plan.loss or 0.0, plan.doubling or 0.0, plan.tardiness or 0.0)
        self.witness = Witness(world)
        self.nodes = make_nodes(world)
        self.histories = Histories(world, PATHS[: plan.path_count or 1])
        self.users = Users(world, self.histories, self._new_client)
        self.users.start()
        self.troubles = Troubles(world, self.nodes, self.network, self.users)
        for node in self.nodes:
            node.fallen = self.troubles.revive_later

    def _new_client(self, index: int) -> Client:
        return make_client(self.world, index, self.network, self.witness, self.nodes)

    def go(self) -> None:
        """Let it all happen, then judge."""
        users, troubles = self.users, self.troubles
        while not users.done and self._tick():
            troubles.tick()
        troubles.calm()
        self._until(lambda: users.done, "the users' operations")
        if self.world.violations:
            return
        self._let_pins_end()
        vault = self._audit()
        if vault is not None:
            self._judge_nodes(vault)
        self._judge_histories()

    def _tick(self) -> bool:
        if self.world.step > STEP_COUNT_MAX or not self.world.tick():
            self.world.violate("everybody waits for ever")
            return False
        return True

    def _until(self, done: Callable[[], bool], what: str) -> None:
        end_s = self.world.now_s + QUIET_S
        while not done() and self._tick():
            if self.world.now_s > end_s:
                self.world.violate(f"{what} do not end, though all is well again")
                return

    def _let_pins_end(self) -> None:
        ended: list[bool] = []
        self.world.later(4 * (self.world.plan.lease_s or 0.0) + 1.0, partial(ended.append, True))
        while not ended and self._tick():
            """Let pass what is still under way."""
        for node in self.nodes:
            while node.tidy():
                self.world.reached["more garbage than one round takes"] += 1

    # --- The last look --------------------------------------------------------------------------------------

    def _run(self, client: Client, operation: Operation[Any], what: str) -> Running[Any]:
        running = client.start(operation, lambda _running: None)
        self._until(lambda: running.ended is not None, what)
        return running

    def _audit(self) -> Vault | None:
        """Read everything with a client that knows nothing."""
        client = self._new_client(AUDITOR)
        opened = self._run(client, client.open(), "opening")
        vault: Vault | None = opened.result
        if vault is None:
            self.world.violate(f"the vault cannot be opened at the end: {opened.error}")
            return None
        for path in self.histories.paths:
            for _ in range(2):
                self._audit_path(client, vault, path)
        for folder in sorted({path.rpartition("/")[0] for path in self.histories.paths}):
            running = self._run(client, folders.list_folder(vault, folder), "a list")
            self.histories.note(Wish("list", folder), running)
        return vault

    def _audit_path(self, client: Client, vault: Vault, path: str) -> None:
        running = self._run(client, get(vault, path), "a get")
        self.histories.note(Wish("get", path), running)
        error = running.error
        if isinstance(error, IncompleteError | IntegrityError) and self._may_be_undecidable(path):
            self.world.reached["undecidable"] += 1
            self._write_over(client, vault, path)
        elif error is None and running.result is not None and running.result[0].stale:
            self.world.violate(f"{path} can only be read stale at the end")
        elif error is not None and not isinstance(error, NotFoundError):
            self.world.violate(f"{path} is lost: {type(error).__name__}: {error}")

    def _may_be_undecidable(self, path: str) -> bool:
        """Return whether a path may hold a value that can neither be rebuilt nor excluded.

        A version whose outcome is unknown may be on few nodes; when one of those loses its shares, or the
        pins of the others ended before its ACCEPT came there, nobody can say. Nothing that was acknowledged
        is lost then: its shares are claimed still.
        """
        pins_ended = self.world.now_s > (self.world.plan.lease_s or 0.0)
        return path in self.histories.unsure and (bool(self.troubles.victims) or pins_ended)

    def _write_over(self, client: Client, vault: Vault, path: str) -> None:
        """Check that what cannot be decided can still be replaced, and read then."""
        version = Version(client.clock.random_bytes(16))
        wish = Wish("put", path, version, b"anew")
        self.histories.bodies[version] = wish.body
        for what, operation in (("put", put(client, vault, wish, 256)), ("get", get(vault, path))):
            running = self._run(client, operation, f"a {what}")
            self.histories.note(evolve(wish, kind=what), running)
            if running.error is not None:
                self.world.violate(f"{path} cannot be written over: {what}: {running.error}")

    # --- The judgement --------------------------------------------------------------------------------------

    def _judge_nodes(self, vault: Vault) -> None:
        ever = {"", "d", *(folder for path in self.histories.paths for folder in ancestors(path))}
        for node in self.nodes:
            if not node.up:
                self.world.violate(f"{node.name} is down at the end: {node.refusal}")
                continue
            for fault in invariants.broken(node, vault, sorted(ever)):
                self.world.violate(fault)
        self._let_pins_end()
        for node in self.nodes:
            count = invariants.garbage(node)
            if count:
                self.world.violate(f"{node.name} keeps {count} shares that nothing claims")

    def _judge_histories(self) -> None:
        for path, history in self.histories.seen.items():
            try:
                fine = explained(history)
            except UndecidedError:
                fine = False
                self.world.reached["undecided"] += 1
            if not fine:
                told = "; ".join(
                    f"{seen.begun}-{seen.ended if seen.certain else '?'} {seen.what}" for seen in history
                )
                self.world.violate(f"no order explains {path}: {told}")

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
