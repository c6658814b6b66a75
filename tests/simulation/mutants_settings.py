"""What runs of mutants add to a simulation: a node that lies, a client with an old roster, users who try
again; and watchers of rules that otherwise show only when much more goes wrong.

None of it breaks a rule: the right code stays clean with it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from attrs import evolve

from dfs.core import bulk_rows, consensus, limits, messages
from dfs.core.bulk_rows import RowState
from dfs.core.effects import Operation
from dfs.core.errors import CorruptShareError, DfsError, UnknownOutcomeError
from dfs.core.interface import View
from dfs.core.keys import register_key
from dfs.core.manifest import open_entry
from dfs.core.node import Answer, VaultNode
from dfs.core.quorum import share_threshold
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.transfer import Group, Vault
from dfs.core.types import NO_BALLOT, Ballot, Claim, Outcome, RegisterKey, ShareKey
from dfs.testing.simulation import workload
from dfs.testing.simulation.clients import Client
from dfs.testing.simulation.disk import Disk
from dfs.testing.simulation.nodes import SimNode, node_id_of
from dfs.testing.simulation.workload import Wish
from dfs.testing.simulation.world import World
from tests.simulation.mutants_patching import Function, Patch, Patches

TRY_COUNT = 4
SHARE_COUNT = 1000
CUT_LATER = 30  # steps of a disk


# --- Other people -------------------------------------------------------------------------------------------


def a_liar() -> Patches:
    """The first node calls everything it holds confirmed, with a tag it made up."""

    def lying(original: Function) -> Function:
        def row_state(node: VaultNode, view: View, key: RegisterKey) -> RowState:
            state: RowState = original(node, view, key)
            if node.node_id != node_id_of(0) or state.row is None or not state.row.accepted:
                return state
            return evolve(state, row=evolve(state.row, confirmed=state.row.confirmed or bytes(32)))

        return row_state

    return [Patch(VaultNode, "_row_state", lying)]


def an_old_roster() -> Patches:
    """One client believes that the vault lives on its first two nodes alone."""

    def misled(original: Function) -> Function:
        def opening(client: Client) -> Operation[Vault]:
            vault: Vault = yield from original(client)
            if client.index == 1:
                old = evolve(vault.roster, nodes=vault.roster.nodes[:2], group_size=2, tolerance=0)
                vault = client.vault = evolve(
                    vault, roster=old, roster_digest=roster_digest(encode_roster(old))
                )
            return vault

        return opening

    return [Patch(Client, "open", misled)]


def users_who_try_again() -> Patches:
    """Users run a command again, with the same operation id, when they cannot know how it ended."""

    def again(original: Function) -> Function:
        def put(client: Client, vault: Vault, wish: Wish, *rest: Any) -> Operation[Outcome]:
            unknown: UnknownOutcomeError | None = None
            for _ in range(TRY_COUNT):
                try:
                    outcome: Outcome = yield from original(client, vault, wish, *rest)
                except UnknownOutcomeError as error:
                    unknown = error
                except DfsError as error:  # others may have written over it; to meet oneself is no excuse
                    if unknown is None or wish.version.hex() in str(error):
                        raise
                else:
                    return outcome
            assert unknown is not None
            raise unknown

        return put

    return [Patch(workload, "put", again)]


def cuts_while_collecting() -> Patches:
    """A power cut that is due strikes at the commit of a collection; what starts again is checked."""
    doomed: set[int] = set()

    def collecting(original: Function) -> Function:
        def tidy(node: VaultNode) -> bool:
            disk: Disk = node.store._files  # type: ignore[attr-defined] # the store is `volumes`
            if disk.cut_after is not None:
                disk.cut_after = CUT_LATER
                doomed.add(id(disk))
            more: bool = original(node)
            doomed.discard(id(disk))
            return more

        return tidy

    def reaching(original: Function) -> Function:
        def reach(disk: Disk, what: str) -> None:
            if what == "commit" and id(disk) in doomed:
                doomed.discard(id(disk))
                disk.cut_after = 0
            original(disk, what)

        return reach

    return [Patch(VaultNode, "tidy", collecting), Patch(Disk, "reach", reaching), *checked_starts()]


# --- Watchers -----------------------------------------------------------------------------------------------


def _world_of(node: VaultNode) -> World:
    world: World = node.env.world  # type: ignore[attr-defined] # a Clock
    return world


def watched_pins() -> Patches:
    """No share that a node said it has is collected before its pin ends."""
    told: dict[int, tuple[VaultNode, dict[ShareKey, float]]] = {}  # by identity: a restart is another node

    def telling(original: Function) -> Function:
        def has(node: VaultNode, request: messages.Has, bulk: memoryview) -> Answer:
            answer: Answer = original(node, request, bulk)
            assert isinstance(answer.reply, messages.HasReply)
            until_s = node.env.monotonic_s() + limits.PIN_LEASE_S
            held = [key for key, here in zip(request.keys, answer.reply.held, strict=True) if here]
            told.setdefault(id(node), (node, {}))[1].update(dict.fromkeys(held, until_s))
            return answer

        return has

    def collecting(original: Function) -> Function:
        def tidy(node: VaultNode) -> bool:
            more: bool = original(node)
            pinned = told.get(id(node), (node, {}))[1]
            due = [key for key, until_s in pinned.items() if until_s > node.env.monotonic_s()]
            if node.store.view(lambda view: view.missing(due)):
                _world_of(node).violate("a node collected a share that it had said it has")
            return more

        return tidy

    return [Patch(VaultNode, "has", telling), Patch(VaultNode, "tidy", collecting)]


def watched_claims() -> Patches:
    """Whatever is accepted, older claims stay as long as nothing newer is confirmed safe."""

    def accepting(original: Function) -> Function:
        def accept(node: VaultNode, request: messages.Accept, bulk: memoryview) -> Answer:
            keys = [item.key for item in bulk_rows.decode_accepts(bulk)]
            before = node.store.view(lambda view: [claims_of_row(view, key) for key in keys])
            answer: Answer = original(node, request, bulk)
            for key, (ballot, count) in zip(keys, before, strict=True):
                if node.store.view(partial(lost_claims, key=key, ballot=ballot, count=count)):
                    _world_of(node).violate("an ACCEPT dropped claims of the version before")
            return answer

        return accept

    def claims_of_row(view: View, key: RegisterKey) -> tuple[Ballot, int]:
        row = view.register(key)
        return (row.accepted, len(view.claims(key, row.accepted))) if row is not None else (NO_BALLOT, 0)

    def lost_claims(view: View, key: RegisterKey, ballot: Ballot, count: int) -> bool:
        row = view.register(key)
        return row is not None and not row.safe and len(view.claims(key, ballot)) < count

    return [Patch(VaultNode, "accept", accepting)]


def checked_starts() -> Patches:
    """When a node starts, every share that has a row has its bytes."""

    def starting(original: Function) -> Function:
        def start(node: SimNode) -> bool:
            before, started = node.up, bool(original(node))
            if before or not started or node.damaged:
                return started
            store, cut_after = node.open_vault.store, node.disk.cut_after
            node.disk.cut_after = None  # to look is no step of the node
            for key in store.shares(None, SHARE_COUNT):
                try:
                    store.verify(key)
                except CorruptShareError as error:
                    node.world.violate(f"{node.name} starts with a share that lost its bytes: {error.what}")
            node.disk.cut_after = cut_after
            return started

        return start

    return [Patch(SimNode, "start", starting)]


class Census:
    """All nodes of a run: who holds what, as nobody in it can know. A node that is away or damaged, or has
    gone on to a newer version, counts as holding all it should.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, SimNode] = {}

    def patch(self) -> Patch:
        """Get to know nodes as they start."""

        def starting(original: Function) -> Function:
            def start(node: SimNode) -> bool:
                if (
                    node.world.plan.operation_count is not None
                ):  # else only its disk is made, once for all runs
                    if any(known.world is not node.world for known in self.nodes.values()):
                        self.nodes.clear()
                    self.nodes[node.index] = node
                return bool(original(node))

            return start

        return Patch(SimNode, "start", starting)

    def holds(self, node: SimNode, key: RegisterKey, ballot: bytes, claim: Claim) -> bool:
        """Return whether a node has all its shares of a claim, or may have dropped them since."""
        if node.vault is None or node.damaged or node.disk.dead:
            return True
        own = [ShareKey(claim.stripe, share) for share, row in enumerate(claim.nodes) if node.index in row]

        def look(view: View) -> bool:
            row = view.register(key)
            if row is None or not row.accepted:  # a tombstone came later, and was forgotten
                dropped = (view.floor(key.directory) or NO_BALLOT) >= ballot
            else:
                dropped = row.accepted > ballot
            return dropped or not view.missing(own)

        return node.vault.store.view(look)

    def holders(self, key: RegisterKey, ballot: bytes, claim: Claim) -> int:
        """Return how many nodes have all the shares of a claim that they should."""
        return sum(1 for node in self.nodes.values() if self.holds(node, key, ballot, claim))


def watched_confirms() -> Patches:
    """`safe` is said of a version only when H nodes have its shares; none is completed with fewer than k."""
    census = Census()

    def choosing(original: Function) -> Function:
        def choose(vault: Vault, group: Group, attempts: Sequence[Any], *, prepared: bool) -> Operation[None]:
            yield from original(vault, group, attempts, prepared=prepared)
            for attempt in attempts:
                if attempt.item is not None and isinstance(attempt.outcome, consensus.Changed):
                    for claim in attempt.proposal.claims or ():
                        look(group, attempt, claim)

        return choose

    def look(group: Group, attempt: Any, claim: Claim) -> None:
        count = census.holders(attempt.change.key, attempt.ballot, claim)
        world = next(iter(census.nodes.values())).world
        if attempt.outcome.safe and count < share_threshold(claim.geometry, claim.nodes, group.quorum):
            world.violate(f"safe is said of a version whose shares lie on {count} nodes")
        if not attempt.own and count < claim.geometry.needed:
            world.violate(f"a reader completed a version of which {count} shares are left")

    return [census.patch(), Patch(consensus, "_choose", choosing)]


def watched_outcomes() -> Patches:
    """What is said of a stored file is so: the nodes named hold their shares."""
    census = Census()

    def telling(original: Function) -> Function:
        def put(client: Client, vault: Vault, wish: Wish, *rest: Any) -> Operation[Outcome]:
            outcome: Outcome = yield from original(client, vault, wish, *rest)
            key = register_key(vault.keys, wish.path)
            for node in census.nodes.values():
                if node.node_id not in outcome.missing and lacks(vault, node, key, wish):
                    client.world.violate(
                        f"{wish.text}: {node.name} is said to hold its shares, and owes them"
                    )
            return outcome

        return put

    def lacks(vault: Vault, node: SimNode, key: RegisterKey, wish: Wish) -> bool:
        if node.vault is None or node.damaged or node.disk.dead:
            return False
        row = node.vault.store.view(lambda view: view.register(key))
        if row is None or not row.accepted or open_entry(vault.keys.entry, key, row).version != wish.version:
            return False
        return row.owed_count > 0

    return [census.patch(), Patch(workload, "put", telling)]
