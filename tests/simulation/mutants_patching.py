"""Patches that break one rule of the real code while they are applied, and never go unnoticed.

A patch replaces a function, wherever the package holds it, by what it makes of the original. It fails loudly
when that name is gone, and tells how often the replacement was reached: a mutant nobody meets proves nothing.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias

from attrs import frozen

Function: TypeAlias = Callable[..., Any]
Reached: TypeAlias = Counter[str]

PACKAGE: Final = "dfs"


@frozen
class Patch:
    """What takes the place of a function. ``owner``: the module or class that holds it as ``name``.

    ``change`` makes the replacement of the original. ``everywhere``: also where the package imported it.
    """

    owner: Any
    name: str
    change: Callable[[Function], Function]
    everywhere: bool = True

    @property
    def title(self) -> str:
        """What it replaces, for people."""
        return f"{self.owner.__name__.removeprefix(PACKAGE + '.')}.{self.name}"


Patches: TypeAlias = Sequence[Patch]


class Spied:
    """Something real, but for a few of its functions."""

    def __init__(self, real: object, **changed: Function) -> None:
        self._real = real
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        return self._changed.get(name) or getattr(self._real, name)


@contextmanager
def applied(patches: Sequence[Patch]) -> Iterator[Reached]:
    """Apply patches and count how often each is reached; undo them at the end."""
    reached: Reached = Counter()
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(_applied(patch, reached))
        yield reached


@contextmanager
def _applied(patch: Patch, reached: Reached) -> Iterator[None]:
    assert patch.name in vars(patch.owner), f"{patch.title} is gone: the mutant must follow the code"
    original = vars(patch.owner)[patch.name]
    changed = patch.change(original)

    def counted(*arguments: Any, **named: Any) -> Any:
        reached[patch.title] += 1
        return changed(*arguments, **named)

    _replace(patch, original, counted)
    try:
        yield
    finally:
        _replace(patch, counted, original)


def _replace(patch: Patch, before: Function, after: Function) -> None:
    setattr(patch.owner, patch.name, after)
    if not patch.everywhere:
        return
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] == PACKAGE]:
        for name, found in list(vars(module).items()):
            if found is before:
                setattr(module, name, after)
            elif isinstance(found, dict):  # a table of functions
                found.update({key: after for key, entry in found.items() if entry is before})
