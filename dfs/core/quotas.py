"""Whether what a request wants has room in its user's quota, asked in the transaction that takes it up.

A quota bounds growth: what takes no more than before is never refused, however far a quota was lowered.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from dfs.core.charges import Purpose, bound, claim_charge, register_charge, share_charge
from dfs.core.errors import QuotaError
from dfs.core.interface import Transaction, View
from dfs.core.messages import ShareHead
from dfs.core.types import Claim, RegisterRow, ShareKey
from dfs.core.units import size_text

T = TypeVar("T")


def over_quota(used_size: int, quota: int) -> QuotaError:
    """Return the refusal of a node; the client adds which one it was."""
    return QuotaError(f"no room in the quota, {size_text(used_size)} of {size_text(quota)} are used")


def has_room(view: View, quota: int | None, growth: int, purpose: Purpose) -> bool:
    """Return whether ``growth`` more bytes may be used."""
    return quota is None or growth <= 0 or view.usage() + growth <= bound(quota, purpose)


def may_remove(view: View, quota: int, row: RegisterRow | None) -> bool:
    """Return whether a tombstone is taken though it needs room: where a quota was lowered below what is used.

    A node that promised but never got the value would else keep others from removing it. That takes no more
    than one tombstone for each row there is already.
    """
    return row is not None and view.usage() > quota


def within(
    work: Callable[[Transaction], T], quota: int | None, purpose: Purpose
) -> Callable[[Transaction], T]:
    """Return the work, undone with a QuotaError if it takes more than before and more than there may be."""
    if quota is None:
        return work

    def bounded(transaction: Transaction) -> T:
        before = transaction.usage()
        result = work(transaction)
        after = transaction.usage()
        removing = purpose is Purpose.REMOVAL and before > quota  # see `may_remove`
        if after > before and after > bound(quota, purpose) and not removing:
            raise over_quota(before, quota)
        return result

    return bounded


def require_room(view: View, quota: int, heads: Sequence[ShareHead]) -> None:
    """Refuse shares before their bytes are written. What is owed or bad here was charged before.

    Raises:
        QuotaError: they do not fit.
    """
    keys = [head.key for head in heads]
    fresh = set(view.missing(keys)).difference(view.owed(keys))
    growth = sum(share_charge(head.size) for head in heads if head.key in fresh)
    if not has_room(view, quota, growth, Purpose.NEW):
        raise over_quota(view.usage(), quota)


def value_growth(
    view: View,
    before: RegisterRow | None,
    after: RegisterRow,
    claims: Sequence[Claim],
    absent: Sequence[ShareKey],
) -> int:
    """Return what accepting a value takes; ``absent``: its shares that will be owed."""
    growth = register_charge(after) - register_charge(before)
    if before is None or before.accepted != after.accepted:
        growth += sum(map(claim_charge, claims))
    sizes = {claim.stripe: claim.share_size for claim in claims}
    fresh = set(absent).difference(view.owed(absent))
    return growth + sum(share_charge(sizes[key.stripe]) for key in fresh)
