"""Shares to nodes: each is asked what it has, and sent what it lacks.

Pure operations (effects.py). A node that fails is left out; who holds what in the end is returned, never
guessed.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from dfs.core import limits, messages
from dfs.core.effects import Operation, Send, ask
from dfs.core.errors import RemoteProtocolError
from dfs.core.pipeline import Stripe
from dfs.core.records import field, frozen
from dfs.core.runs import runs
from dfs.core.transfer import Group
from dfs.core.types import NodeId

UNASKED_SIZE_MAX: Final = 8 * limits.KIB  # for one node: TCP sends twice as much before anything comes back


@frozen
class Placed:
    """A stripe and where it goes: row i = nodes of share i."""

    stripe: Stripe
    rows: tuple[tuple[NodeId, ...], ...]

    def indexes_on(self, node: NodeId) -> list[int]:
        """Return the shares a node should hold."""
        return [index for index, nodes in enumerate(self.rows) if node in nodes]


@frozen
class Stored:
    """``holders``: nodes that durably hold every share they should. ``sent_size``: share bytes sent.

    ``found``: whether a node that was asked had one before.
    """

    holders: frozenset[NodeId]
    sent_size: int
    errors: Mapping[NodeId, Exception] = field(factory=dict)
    found: bool = False


Shares: TypeAlias = list[tuple[Placed, int]]  # shares by stripe and index


def _share_size(share: tuple[Placed, int]) -> int:
    return share[0].stripe.share_size


def _size(shares: Shares) -> int:
    return sum(map(_share_size, shares))


def store_stripes(
    group: Group, stripes: Sequence[Placed], *, expect_new: bool = False, hasty: bool = False
) -> Operation[Stored]:
    """Bring stripes to their nodes: ask each what it has, send what it lacks.

    ``expect_new``: probably nobody has any. One node is asked, and while it has none, all others are believed
    to have none either: what they have after all comes once more, and is kept once. ``hasty``: not even one
    is asked where asking takes as long as sending.
    """
    if not stripes:
        return Stored(frozenset(group.nodes), 0)
    wanted = {
        node: [(placed, index) for placed in stripes for index in placed.indexes_on(node)]
        for node in group.nodes
    }
    asked = [stripes[0].rows[0][0]] if expect_new else list(group.nodes)  # another one for each stripe
    if expect_new and hasty and max(map(_size, wanted.values())) <= UNASKED_SIZE_MAX:
        asked = []
    lacking, errors = yield from _lacking({node: wanted[node] for node in asked})
    found = any(len(shares) < len(wanted[node]) for node, shares in lacking.items())
    if expect_new and (found or errors):
        more, more_errors = yield from _lacking({node: wanted[node] for node in wanted if node not in asked})
        lacking, errors = lacking | more, errors | more_errors
    lacking = {node: lacking.get(node, shares) for node, shares in wanted.items() if node not in errors}
    sent_size = 0
    queues = {
        node: list(runs(shares, _share_size, limits.SHARE_SIZE_MAX, limits.BATCH_COUNT_MAX))
        for node, shares in lacking.items()
        if shares
    }
    while queues:
        batches = {node: queue.pop(0) for node, queue in queues.items()}
        sends = [_store(node, batch) for node, batch in batches.items()]
        answers = yield from ask(sends, lambda answers: len(answers.replies) >= group.quorum.write)
        errors.update(answers.errors)
        sent_size += sum(_size(batches[node]) for node in answers.replies)
        queues = {node: queue for node, queue in queues.items() if queue and node not in errors}
    holders = frozenset(lacking) - frozenset(errors)
    return Stored(holders, sent_size, errors, found)


def _lacking(
    wanted: Mapping[NodeId, Shares],
) -> Operation[tuple[dict[NodeId, Shares], dict[NodeId, Exception]]]:
    """Return what each node lacks of the shares it should hold, and the errors of those that did not say."""
    lacking: dict[NodeId, Shares] = {node: [] for node in wanted}
    errors: dict[NodeId, Exception] = {}
    for first in range(0, max(map(len, wanted.values()), default=0), limits.BATCH_COUNT_MAX):
        part = {node: shares[first : first + limits.BATCH_COUNT_MAX] for node, shares in wanted.items()}
        sends = [
            Send(node, node, messages.Has(tuple(placed.stripe.key(index) for placed, index in shares)))
            for node, shares in part.items()
            if shares and node not in errors
        ]
        # One that is asked alone is hurried at once: no other's answer tells that it is slow.
        answers = yield from ask(sends, lambda _: len(wanted) == 1, quick=True)
        errors.update(answers.errors)
        for node, reply in answers.replies.items():
            held = reply.response.held if isinstance(reply.response, messages.HasReply) else ()
            if len(held) != len(part[node]):
                errors[node] = RemoteProtocolError("a HAS reply of another length")
                continue
            lacking[node].extend(share for share, has in zip(part[node], held, strict=True) if not has)
    return {node: shares for node, shares in lacking.items() if node not in errors}, errors


def _store(node: NodeId, batch: Shares) -> Send:
    heads = tuple(
        messages.ShareHead(placed.stripe.key(index), placed.stripe.share_size, placed.stripe.checksums[index])
        for placed, index in batch
    )
    return Send(
        node, node, messages.Store(heads), tuple(placed.stripe.shares[index] for placed, index in batch)
    )
