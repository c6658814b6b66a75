"""Values that were chosen, told to the nodes: what a reader need not complete, and tombstones that may go.

Pure operations (effects.py).
"""

from collections.abc import Sequence

from dfs.core import messages
from dfs.core.bulk_rows import AcceptItem
from dfs.core.effects import Answers, Operation, Send, ask
from dfs.core.keys import confirm_tag
from dfs.core.transfer import Group, Vault
from dfs.core.types import EntryKind


def confirm(vault: Vault, group: Group, chosen: Sequence[tuple[AcceptItem, bool]]) -> Operation[None]:
    """Tell the nodes of a group what was chosen, each with whether it is safe (H nodes hold their shares).

    Tombstones are told durably, and dropped where all n nodes hold them.
    """
    for durable in (False, True):
        part = [each for each in chosen if durable is (each[0].value[0] == EntryKind.TOMBSTONE)]
        if not part:
            continue
        items = tuple(
            messages.ConfirmItem(
                item.key, item.ballot, confirm_tag(vault.keys, item.key, item.ballot, item.digest), safe
            )
            for item, safe in part
        )
        request = messages.Confirm(vault.roster_digest, durable, items)
        answers = yield from ask(
            [Send(node, node, request) for node in group.nodes],
            lambda answers: len(answers.replies) >= group.quorum.write,
            quick=not durable,
        )
        if durable:
            yield from _forget(vault, group, [item for item, _ in part], answers)


def _forget(vault: Vault, group: Group, items: Sequence[AcceptItem], answers: Answers) -> Operation[None]:
    """Drop tombstones that all n nodes hold confirmed; while a node does not count (JOINING) they stay."""
    if len(answers.replies) < len(group.nodes) or not vault.counted.issuperset(group.nodes):
        return
    held = [
        reply.response.held
        for reply in answers.replies.values()
        if isinstance(reply.response, messages.ConfirmReply)
    ]
    forgotten = tuple(
        messages.PrepareItem(item.key, item.ballot)
        for index, item in enumerate(items)
        if len(held) == len(group.nodes) and all(index < len(answer) and answer[index] for answer in held)
    )
    if forgotten:
        request = messages.Forget(vault.roster_digest, forgotten)
        yield from ask([Send(node, node, request) for node in group.nodes])
