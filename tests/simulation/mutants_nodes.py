"""Rules of nodes and their stores, broken one by one: promises, claims, tombstones, what is durable.

Each function returns the patches of one mutant, with fresh state; `mutants.py` says which is which.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import evolve

from dfs.core import bulk_rows, messages, register
from dfs.core.bulk_rows import AcceptItem, Promise, RowState
from dfs.core.interface import Transaction, View
from dfs.core.messages import AcceptResult
from dfs.core.node import Answer, VaultNode
from dfs.core.types import Ballot, NodeId, RegisterKey
from dfs.plugins.volumes.files import Volumes
from dfs.plugins.volumes.vault import RowsVault
from tests.simulation.mutants_clients import reused_attempt
from tests.simulation.mutants_patching import Function, Patch, Patches, Spied

TOMBSTONE_AGE_S = 0.1  # of virtual time: long for a message, short for a node that is away


def _nothing(*_arguments: object) -> tuple[()]:
    return ()


def _with_transactions(**changed: Function) -> Callable[[Function], Function]:
    """Answer a message over transactions some of whose functions are others."""

    def change(original: Function) -> Function:
        def answer(node: VaultNode, request: messages.Request, bulk: memoryview) -> Answer:
            commit = node.commit

            def run(work: Callable[[Any], Any]) -> Any:
                return commit.run(lambda transaction: work(Spied(transaction, **changed)))

            node.commit = Spied(commit, run=run)
            try:
                answered: Answer = original(node, request, bulk)
            finally:
                node.commit = commit
            return answered

        return answer

    return change


# --- Promises and rows --------------------------------------------------------------------------------------


def volatile_promises() -> Patches:
    """M11: a promise is kept in memory only."""
    kept: dict[int, tuple[VaultNode, dict[RegisterKey, Ballot]]] = {}  # by identity: a restart forgets

    def promises_of(node: VaultNode) -> dict[RegisterKey, Ballot]:
        return kept.setdefault(id(node), (node, {}))[1]

    def preparing(_original: Function) -> Function:
        def prepare(node: VaultNode, request: messages.Prepare, _bulk: memoryview) -> Answer:
            def work(view: View) -> list[Promise]:
                def remember(key: RegisterKey, row: Any) -> None:
                    promises_of(node)[key] = row.promised

                forgetful: Any = Spied(view, set_register=remember)
                return [node._promise(forgetful, item) for item in request.items]

            promises = node.store.view(work)
            return Answer(messages.PrepareReply(len(promises)), (bulk_rows.encode_promises(promises),))

        return prepare

    def reading(original: Function) -> Function:
        def row_state(node: VaultNode, view: View, key: RegisterKey) -> RowState:
            state: RowState = original(node, view, key)
            promised = promises_of(node).get(key, Ballot(b""))
            row = state.row or register.EMPTY_ROW
            return evolve(state, row=evolve(row, promised=promised)) if promised > row.promised else state

        return row_state

    return [Patch(VaultNode, "prepare", preparing), Patch(VaultNode, "_row_state", reading)]


def corrupt_as_absent() -> Patches:
    """M19: a row that fails its digest is answered as none."""

    def changed(original: Function) -> Function:
        def row_state(node: VaultNode, view: View, key: RegisterKey) -> RowState:
            state: RowState = original(node, view, key)
            return RowState(floor=view.floor(key.directory)) if state.corrupt else state

        return row_state

    return [Patch(VaultNode, "_row_state", changed)]


def contradictions_accepted() -> Patches:
    """M22: an equal ballot with another digest is accepted (equal ones need M9)."""

    def changed(original: Function) -> Function:
        def accept(node: VaultNode, transaction: Transaction, item: AcceptItem) -> AcceptResult:
            row = node._row_state(transaction, item.key).row
            if row is not None and row.accepted == item.ballot:
                transaction.set_register(item.key, evolve(row, digest=item.digest))
            accepted: AcceptResult = original(node, transaction, item)
            return accepted

        return accept

    return [*reused_attempt(), Patch(VaultNode, "_accept", changed)]


def any_roster() -> Patches:
    """M25: the digest of the roster is not checked."""

    def changed(original: Function) -> Function:
        def answer(node: VaultNode, request: messages.Request, bulk: memoryview) -> Answer:
            named: Any = request
            if hasattr(request, "roster_digest"):
                named = evolve(named, roster_digest=node._digest)
            answered: Answer = original(node, named, bulk)
            return answered

        return answer

    return [Patch(VaultNode, "answer", changed)]


# --- Tombstones ---------------------------------------------------------------------------------------------


def tombstones_by_age() -> Patches:
    """M13: a node drops tombstones when they are old."""
    seen: dict[tuple[NodeId, RegisterKey], tuple[Ballot, float]] = {}

    def noting(original: Function) -> Function:
        def confirm(node: VaultNode, transaction: Transaction, item: messages.ConfirmItem) -> bool:
            right: bool = original(node, transaction, item)
            row = node._row_state(transaction, item.key).row
            if right and row is not None and register.is_tombstone(row):
                seen[node.node_id, item.key] = (item.ballot, node.env.monotonic_s())
            return right

        return confirm

    def dropping(original: Function) -> Function:
        def tidy(node: VaultNode) -> bool:
            for (node_id, key), (ballot, since_s) in list(seen.items()):
                if node_id == node.node_id and node.env.monotonic_s() >= since_s + TOMBSTONE_AGE_S:
                    del seen[node_id, key]
                    node.commit.run(partial(drop, key=key, ballot=ballot))
            more: bool = original(node)
            return more

        return tidy

    def drop(transaction: Transaction, key: RegisterKey, ballot: Ballot) -> None:
        row = transaction.register(key)
        if row is not None and row.accepted == ballot:
            transaction.set_register(key, None)

    return [Patch(VaultNode, "_confirm", noting), Patch(VaultNode, "tidy", dropping)]


def no_floor() -> Patches:
    """M29: FORGET leaves no floor."""
    return [Patch(VaultNode, "forget", _with_transactions(set_floor=_nothing))]


# --- Claims and pins ----------------------------------------------------------------------------------------


def unchecked_accept() -> Patches:
    """M15: ACCEPT does not look again whether the shares are there."""

    def changed(original: Function) -> Function:
        def accept(node: VaultNode, transaction: Transaction, item: AcceptItem) -> AcceptResult:
            accepted: AcceptResult = original(node, Spied(transaction, missing=_nothing), item)
            return accepted

        return accept

    return [Patch(VaultNode, "_accept", changed)]


def unpinned() -> Patches:
    """M16: a node says "have" without pinning."""
    return [Patch(VaultNode, "has", _with_transactions(pin=_nothing))]


def claims_dropped_at_accept() -> Patches:
    """M17: an ACCEPT drops the claims of older ballots."""

    def changed(original: Function) -> Function:
        def accept(node: VaultNode, transaction: Transaction, item: AcceptItem) -> AcceptResult:
            accepted: AcceptResult = original(node, transaction, item)
            if accepted.status in {messages.ACCEPTED, messages.OWING}:
                transaction.unclaim(item.key, item.ballot)
                node.collectable = True
            return accepted

        return accept

    return [Patch(VaultNode, "_accept", changed)]


# --- Durability ---------------------------------------------------------------------------------------------


def punched_before_commit() -> Patches:
    """M17: space is given back before the commit that drops its rows."""

    def changed(original: Function) -> Function:
        def sync(vault: RowsVault, transaction: Any) -> None:
            original(vault, transaction)
            vault._bodies.committed((), transaction.dropped)
            transaction.dropped.clear()

        return sync

    return [Patch(RowsVault, "_sync", changed)]


def unsynced() -> Patches:
    """M11: shares are acknowledged before they are synced."""
    return [Patch(Volumes, "sync", lambda _original: _nothing)]


def sync_retried() -> Patches:
    """M12: a failed sync is tried again, and believed then."""

    def changed(original: Function) -> Function:
        def sync(volumes: Volumes, shares: Any) -> None:
            kept = list(shares)
            try:
                original(volumes, kept)
            except OSError:
                original(volumes, kept)

        return sync

    return [Patch(Volumes, "sync", changed)]
