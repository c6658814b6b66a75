"""The judgement over a run: everything is read once more, every node looked into, every history explained."""

from typing import Final

from attrs import define

from dfs.core import folders, repairing
from dfs.core.errors import IncompleteError, IntegrityError, NotFoundError
from dfs.core.paths import ancestors
from dfs.core.pipeline import Slot
from dfs.core.records import evolve
from dfs.core.standing import Planned, Repaired
from dfs.core.transfer import Vault
from dfs.core.types import VaultState, Version
from dfs.testing.simulation import invariants
from dfs.testing.simulation.checker import UndecidedError, explained
from dfs.testing.simulation.clients import Client
from dfs.testing.simulation.cluster import Cluster
from dfs.testing.simulation.faults import Troubles
from dfs.testing.simulation.nodes import HEALER, USER
from dfs.testing.simulation.workload import Histories, Wish, get, put
from dfs.testing.simulation.world import World

AUDITOR: Final = 99  # index of the client that looks once more at the end
HEALING: Final = 98  # index of the healer
HEALED_SEEDS: Final = 3  # every so many seeds a healer repairs first, without keys
REPAIR_COUNT: Final = 4  # the last one has nothing to do any more


@define(eq=False)
class Audit:
    """What is looked at when all is quiet again."""

    cluster: Cluster
    histories: Histories
    troubles: Troubles

    @property
    def world(self) -> World:
        """Where it all happened."""
        return self.cluster.world

    def judge(self) -> None:
        """Note everything that does not hold as a violation."""
        self.cluster.forget()
        user = self.world.draw.choice([AUDITOR, 0])  # who knows nothing, and who remembers marks
        vault = self._read(user)
        if vault is not None:
            self._judge_nodes(vault)
            self._repair(user)
        self._judge_histories()

    # --- Reading once more ----------------------------------------------------------------------------------

    def _opened(self, user: int, name: str = USER) -> tuple[Client, Vault | None]:
        client = self.cluster.client(user, name)
        opened = self.cluster.run(client, client.open(), "opening")
        vault: Vault | None = opened.result
        if vault is None:
            self.world.violate(f"the vault cannot be opened at the end: {opened.error}")
        return client, vault

    def _read(self, user: int) -> Vault | None:
        """Read everything with a fresh client."""
        client, vault = self._opened(user)
        if vault is None:
            return None
        for path in self.histories.paths:
            for _ in range(2):
                self._read_path(client, vault, path)
        for folder in sorted({path.rpartition("/")[0] for path in self.histories.paths}):
            running = self.cluster.run(client, folders.list_folder(vault, folder), "a list")
            self.histories.note(Wish("list", folder), running)
        return vault

    def _read_path(self, client: Client, vault: Vault, path: str) -> None:
        running = self.cluster.run(client, get(vault, path), "a get")
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
        """Check that what cannot be decided can still be replaced, and read then.

        While a node is to be brought up to date and all n are needed (k = n - 1), only a degraded write goes.
        """
        version = Version(client.clock.random_bytes(16))
        wish = Wish("put", path, version, b"anew", degraded=bool(vault.returning))
        self.histories.bodies[version] = wish.body
        for what, operation in (("put", put(client, vault, wish, 256)), ("get", get(vault, path))):
            running = self.cluster.run(client, operation, f"a {what}")
            self.histories.note(evolve(wish, kind=what), running)
            if running.error is not None:
                self.world.violate(f"{path} cannot be written over: {what}: {running.error}")

    # --- Repairing ------------------------------------------------------------------------------------------

    def _repair(self, user: int) -> None:
        """Repair until there is nothing to do; then all n nodes hold all they should."""
        if self.world.seed % HEALED_SEEDS == 0:
            self._heal()
            self._read(user)  # what a healer does changes nothing that anybody reads
        repaired: Repaired | None = None
        for _ in range(REPAIR_COUNT):
            repaired = self._repaired_once(user)
            if repaired is None or _is_idle(repaired):
                break
            client, vault = self._opened(user)  # what can neither be rebuilt nor excluded is written over
            if vault is not None:
                for path in self.histories.paths:
                    self._read_path(client, vault, path)
        else:
            self.world.violate(f"repairs never end: {repaired}")
        for node in self.cluster.nodes:
            _, owed_count, corrupt_count = node.open_vault.store.view(lambda view: view.counts())
            if node.open_vault.state is not VaultState.ACTIVE:
                self.world.violate(f"{node.name} is {node.open_vault.state.name} after all repairs")
            if owed_count or corrupt_count:
                self.world.violate(
                    f"after all repairs {node.name} owes {owed_count}, {corrupt_count} are corrupt"
                )

    def _heal(self) -> None:
        """Let a healer make what is missing, with its powers only."""
        repaired = self._repaired(*self._opened(HEALING, HEALER))
        if repaired is not None:
            self.world.reached["shares made again without keys"] += repaired.shares
            self.world.reached["nodes that count again without keys"] += len(repaired.joined)

    def _repaired(self, client: Client, vault: Vault | None) -> Repaired | None:
        if vault is None:
            return None
        operation = repairing.repair(vault, repairing.Scope(), [Slot(), Slot()])
        running = self.cluster.run(client, operation, "a repair")
        repaired: Repaired | None = running.result
        if repaired is None:
            self.world.violate(f"a repair fails: {running.error}")
        return repaired

    def _repaired_once(self, user: int) -> Repaired | None:
        repaired = self._repaired(*self._opened(user))
        if repaired is None:
            return None
        self.world.reached["shares made again"] += repaired.shares
        self.world.reached["registers replayed"] += repaired.registers
        self.world.reached["nodes that count again"] += len(repaired.joined)
        return repaired

    # --- Looking into nodes and histories -------------------------------------------------------------------

    def _judge_nodes(self, vault: Vault) -> None:
        ever = {"", "d", *(folder for path in self.histories.paths for folder in ancestors(path))}
        for node in self.cluster.nodes:
            if not node.up:
                self.world.violate(f"{node.name} is down at the end: {node.refusal}")
                continue
            for fault in invariants.broken(node, vault, sorted(ever)):
                self.world.violate(fault)
        self.cluster.forget()
        for node in self.cluster.nodes:
            count = invariants.garbage(node)
            if count:
                self.world.violate(f"{node.name} keeps {count} shares that nothing claims")

    def _judge_histories(self) -> None:
        self.histories.settle_renames()
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


def _is_idle(repaired: Repaired) -> bool:
    """Return whether a repair had nothing to do and left nothing."""
    return repaired.planned == Planned() and not repaired.joined and not repaired.left
