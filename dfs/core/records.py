"""`frozen`, as in attrs, at less than half the time to define: a command pays for every class it imports.

attrs writes and compiles `__eq__`, `__hash__` and `__repr__` of each class. Here they are closures over
`operator.attrgetter`. What they answer is the same; the fields' ``eq`` and ``repr`` are obeyed.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen
else:
    import attrs

    def frozen(cls: type | None = None, **options: object) -> object:
        """Do what `attrs.frozen` does. Not for ``order=True``, which needs the compiled methods."""

        def make(plain: type) -> type:
            made = attrs.frozen(plain, eq=False, repr=False, **options)
            fields = attrs.fields(made)
            _compare_by(made, tuple(field.name for field in fields if field.eq))
            if "__repr__" not in plain.__dict__:
                made.__repr__ = _printer(tuple(field.name for field in fields if field.repr))
            return made

        return make if cls is None else make(cls)


__all__ = ["frozen"]


def _nothing(_record: object) -> tuple[()]:
    """What a record without fields consists of."""
    return ()


def _compare_by(cls: type, names: tuple[str, ...]) -> None:
    """Make records of exactly this class equal, and hash alike, by these fields."""
    value: Callable[[object], object] = attrgetter(*names) if names else _nothing

    def equal(self: object, other: object) -> bool:
        return value(self) == value(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: object) -> int:
        return hash(value(self))

    cls.__eq__ = equal  # type: ignore[method-assign, assignment]
    cls.__hash__ = hashed  # type: ignore[method-assign, assignment]


def _printer(names: tuple[str, ...]) -> Callable[[object], str]:
    """Return a `__repr__` that shows these fields."""

    def show(self: object) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__.rsplit('>.', 1)[-1]}({fields})"

    return show
