"""What must hold on every node once all is quiet, whatever happened before."""

from collections.abc import Iterator

from dfs.core.errors import CorruptEntryError, CorruptShareError, DfsError, NotFoundError
from dfs.core.interface import View
from dfs.core.keys import directory_id
from dfs.core.transfer import Vault
from dfs.core.types import NO_BALLOT, RegisterKey, RegisterRow, ShareKey
from dfs.plugins.volumes.charging import counted
from dfs.testing.simulation.nodes import SimNode

ROW_COUNT_MAX = 1000


def broken(node: SimNode, vault: Vault, folders: list[str]) -> Iterator[str]:
    """Yield what does not hold on a node; folders: all there ever were."""
    store = node.open_vault.store
    if not node.damaged:
        for share in store.shares(None, ROW_COUNT_MAX):
            try:
                store.verify(share)
            except (CorruptShareError, NotFoundError) as error:
                yield f"{node.name}: {error.what}, though nothing happened to its disk"
        told = store.view(lambda view: view.usage())
        for database in node.disk.databases.values():
            if (there := counted(database)) != told:
                yield f"{node.name} says that {told} bytes are used where its rows take {there}"
    for folder in folders:
        directory = directory_id(vault.keys, folder)
        rows = store.view(lambda view: list(view.registers(directory, b"", ROW_COUNT_MAX)))  # noqa: B023 - at once
        for key, row in rows:
            if row is not None:
                yield from store.view(lambda view: list(_row_faults(node, view, vault, key, row)))  # noqa: B023 - at once


def _row_faults(node: SimNode, view: View, vault: Vault, key: RegisterKey, row: RegisterRow) -> Iterator[str]:
    if row.accepted == NO_BALLOT:
        return
    index = next(index for index, other in enumerate(vault.roster.nodes) if other.node_id == node.node_id)
    try:
        claims = view.claims(key, row.accepted)
    except (CorruptEntryError, DfsError):
        return
    own = [
        ShareKey(claim.stripe, share)
        for claim in claims
        for share, nodes in enumerate(claim.nodes)
        if index in nodes
    ]
    if len(own) != row.claimed_count:
        yield f"{node.name} counts {row.claimed_count} claimed shares where {len(own)} are"
    missing = view.missing(own)
    if len(missing) > row.owed_count and not node.damaged:
        yield f"{node.name} lacks {len(missing)} shares that are claimed, and owes {row.owed_count}"


def garbage(node: SimNode) -> int:
    """Return the shares of a node that nothing claims; all pins have ended and it has tidied up."""
    for database in node.disk.databases.values():
        (count,) = database.execute(
            "SELECT COUNT(*) FROM shares WHERE stripe NOT IN (SELECT stripe FROM claims)"
        ).fetchone()
        return int(count)
    return 0
