"""Generations of the master key: under whose keys the entries of a directory are sealed.

While the key is rotated, entries of two generations lie beside each other on the nodes, and their ids do not
tell which is whose. See docs/decisions/0015-a-rotation-copies-beside-what-is-there.md.
"""

from typing import Final

from dfs.core import bulk_rows, messages
from dfs.core.believing import checked, proven
from dfs.core.bulk_rows import RowState
from dfs.core.effects import Operation, Reply, Send, ask
from dfs.core.floors import Floors
from dfs.core.reading import list_page
from dfs.core.records import evolve
from dfs.core.transfer import Vault
from dfs.core.types import DirectoryId, NodeId, RegisterKey

READ_COUNT: Final = 16  # entries whose values are asked for, where a list does not tell


def view_of(vault: Vault, directory: DirectoryId) -> Operation[Vault | None]:
    """Return the vault under the keys of a directory's entries, None where no entry is under any of ours.

    Raises:
        QuorumError: no node answers.
    """
    for keys in (vault.keys, *vault.others):
        trial = evolve(vault, keys=keys, floors=Floors(), suspicions={})
        if (yield from _is_ours(trial, directory)):
            return vault if keys is vault.keys else evolve(vault, keys=keys, floors=Floors(), others=())
    return None


def _is_ours(trial: Vault, directory: DirectoryId) -> Operation[bool]:
    """Return whether an entry of the directory opens, or was confirmed, under these keys."""
    group = trial.group(directory)
    page = yield from list_page(trial, group, directory, b"")
    unread: list[RegisterKey] = []
    for name, states in page.rows.items():
        key = RegisterKey(directory, name)
        if any(_opened(state) or _proven(trial, key, state) for state in states.values()):
            return True
        if any(state.row is not None and state.row.accepted for state in states.values()):
            unread.append(key)  # listed without their values
    keys = tuple(unread[:READ_COUNT])
    found: list[bool] = []

    def take(node: NodeId, reply: Reply) -> None:
        states = bulk_rows.decode_states(reply.bulk)
        found.extend(
            _opened(checked(trial, [node], key, state)) for key, state in zip(keys, states, strict=False)
        )

    if keys:
        request = messages.Read(trial.roster_digest, with_values=True, with_shares=False, keys=keys)
        yield from ask([Send(node, node, request) for node in group.nodes], take=take, quick=True)
    return any(found)


def _opened(state: RowState) -> bool:
    """Return whether a row still has its value: one that does not open was taken for corrupt."""
    return state.row is not None and bool(state.row.accepted and state.row.value)


def _proven(trial: Vault, key: RegisterKey, state: RowState) -> bool:
    return state.row is not None and proven(trial, key, state.row)
