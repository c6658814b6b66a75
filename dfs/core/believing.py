"""Whether what a node says of a register can be true: its seal, its digest, its confirmation."""

from collections.abc import Sequence
from hmac import compare_digest

from dfs.core.bulk_rows import RowState
from dfs.core.errors import CorruptEntryError
from dfs.core.keys import confirm_tag
from dfs.core.register import value_digest
from dfs.core.transfer import Vault
from dfs.core.types import NodeId, RegisterKey, RegisterRow


def checked(
    vault: Vault, nodes: Sequence[NodeId], key: RegisterKey, state: RowState, *, valued: bool = True
) -> RowState:
    """Return the state, as corrupt if its value is not authentic (a damaged or lying row is no vote).

    ``nodes``: those that say exactly this. A confirmation that is false counts for nothing, and they are
    suspected.
    ``valued``: values were asked for; a row that lacks its own is not authentic either.
    """
    row = state.row
    if row is None or not row.accepted or vault.keyless:
        return state
    if row.confirmed and not proven(vault, key, row):
        vault.suspect(nodes, "a confirmation that nobody gave")
    if not (row.value or valued):
        return state
    try:
        vault.open(key, row)
    except CorruptEntryError:
        vault.suspect(nodes, "an entry that is not authentic")
        return RowState(corrupt=True)
    if row.digest != value_digest(row.value, row.claim_set):
        vault.suspect(nodes, "an entry under another digest")
        return RowState(corrupt=True)
    return state


def proven(vault: Vault, key: RegisterKey, row: RegisterRow) -> bool:
    """Return whether a row's confirm tag shows that its ballot was chosen."""
    if vault.keyless or not row.confirmed:
        return False
    return compare_digest(row.confirmed, confirm_tag(vault.keys, key, row.accepted, row.digest))
