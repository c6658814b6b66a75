"""Why nodes did not do what they were asked, as people are told."""

from collections.abc import Iterable, Mapping

from dfs.core import messages
from dfs.core.effects import Answers, Operation, Send, ask
from dfs.core.errors import BusyError, DiskFullError, QuorumError, QuotaError, SpaceError
from dfs.core.quotas import over_quota
from dfs.core.transfer import Group, Vault
from dfs.core.types import NodeId


def require_open(vault: Vault) -> None:
    """Check that a vault may be written.

    Raises:
        BusyError: not while the last changes before another master key are copied.
    """
    if vault.closed:
        raise BusyError(
            "the vault's key is being rotated: until that is done it can be read, not written",
            kept="Nothing was changed.",
            next_step="Try again in a while. A rotation that was cut off goes on with: dfs key rotate",
        )


def too_few(vault: Vault, group: Group, answers: Answers, needed: int) -> QuorumError:
    """Return the error of an operation that too few nodes answered."""
    there = len(group.nodes) - len(answers.errors)
    return QuorumError(
        f"{there} of {len(group.nodes)} nodes answer, {needed} needed ({vault.reasons(answers.errors)})"
    )


def space_errors(statuses: Mapping[NodeId, Iterable[int]]) -> Operation[dict[NodeId, SpaceError]]:
    """Return which nodes have no room, by the statuses each gave; those over quota are asked for figures."""
    full: dict[NodeId, SpaceError] = {
        node: DiskFullError("its disk is full") for node, given in statuses.items() if messages.FULL in given
    }
    over = [node for node, given in statuses.items() if messages.OVER_QUOTA in given]
    if not over:
        return full
    full |= dict.fromkeys(over, QuotaError("no room in the quota"))
    answers = yield from ask([Send(node, node, messages.Quota()) for node in over], quick=True)
    for node, reply in answers.replies.items():
        told = reply.response
        if isinstance(told, messages.QuotaReply) and told.quota:
            full[node] = over_quota(told.used_size, *told.quota)
    return full


def without_room(
    statuses: Mapping[NodeId, int], errors: Mapping[NodeId, Exception]
) -> dict[NodeId, Exception]:
    """Return the nodes that did not take one value for want of room, and why.

    ``statuses``: what they said of it. ``errors``: why they did not take the whole ACCEPT.
    """
    refused = {messages.FULL, messages.OVER_QUOTA}
    return {
        node: error
        for node, error in errors.items()
        if isinstance(error, SpaceError) and statuses.get(node, messages.FULL) in refused
    }


def no_room(vault: Vault, shown: str, full: Mapping[NodeId, Exception]) -> SpaceError:
    """Return the error of a change that nodes have no room for; ``full``: in which some are SpaceErrors."""
    kind = next(type(error) for error in full.values() if isinstance(error, SpaceError))
    return kind(f"{shown}: {vault.reasons(full)}")
