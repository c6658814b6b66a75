"""Whether one order of operations explains what clients saw of a register.

Source: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of Lowe, "Testing
for linearizability" (2017): operations left over and a value that led nowhere once lead nowhere again.
"""

from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

ANYTHING: Final = b""  # in the place of a value: it does not matter which
STATE_COUNT_MAX: Final = 200_000  # states looked at before a history counts as undecided


@frozen
class Seen:
    """One operation as its client saw it; values are versions, None is absence.

    ``begun``, ``ended``: steps of the world. ``needs``: what must be there, ``avoids``: what must not be,
    ``leaves``: what it writes; ANYTHING where it makes no difference. ``certain``: it took effect before
    ``ended``; else later or never. ``what``: for people.
    """

    begun: int
    ended: int
    leaves: bytes | None = ANYTHING
    needs: bytes | None = ANYTHING
    avoids: bytes | None = ANYTHING
    certain: bool = True
    what: str = ""

    def fits(self, value: bytes | None) -> bool:
        """Return whether it can take effect where the register holds ``value``."""
        return self.needs in {ANYTHING, value} and (self.avoids == ANYTHING or self.avoids != value)


class UndecidedError(Exception):
    """A history is too tangled to be judged."""


@define
class _Search:
    """What leads nowhere: bits of the operations left, and the value."""

    history: Sequence[Seen]
    certain: int = 0
    dead: set[tuple[int, bytes | None]] = field(factory=set)

    def explains(self, left: int, value: bytes | None) -> bool:
        left = self._without_readers(left, value)
        if not left & self.certain:
            return True
        if (left, value) in self.dead:
            return False
        if len(self.dead) >= STATE_COUNT_MAX:
            raise UndecidedError
        for index in self._first(left):
            seen = self.history[index]
            if (
                seen.fits(value)
                and seen.leaves != ANYTHING
                and self.explains(left & ~(1 << index), seen.leaves)
            ):
                return True
        self.dead.add((left, value))
        return False

    def _without_readers(self, left: int, value: bytes | None) -> int:
        """Take what may come next and changes nothing: no order is lost by that."""
        taken = True
        while taken:
            taken = False
            for index in self._first(left):
                seen = self.history[index]
                if seen.leaves == ANYTHING and seen.fits(value):
                    left &= ~(1 << index)
                    taken = True
        return left

    def _first(self, left: int) -> list[int]:
        """Return the operations that began before any certain one that is left had ended."""
        indexes = [index for index in range(len(self.history)) if left >> index & 1]
        ends = [self.history[index].ended for index in indexes if self.certain >> index & 1]
        first_end = min(ends, default=0)
        return [index for index in indexes if self.history[index].begun <= first_end]


def explained(history: Sequence[Seen], value: bytes | None = None) -> bool:
    """Return whether the operations can be put in one order that fits what each saw and when.

    Args:
        history: of one register.
        value: what it held at first.

    Raises:
        UndecidedError: there are too many orders to try.
    """
    certain = sum(1 << index for index, seen in enumerate(history) if seen.certain)
    return _Search(history, certain).explains((1 << len(history)) - 1, value)
