"""`frozen` and `define`, as in attrs, at a fraction of the time: a command pays for every class it imports.

attrs writes and compiles the methods of a class when it is defined. Here a class gets its slots at once, and
its methods from attrs when its first object is made or its fields are asked for: of all messages, for one, a
command uses a few. What `frozen` classes compare, hash and print by are closures over `operator.attrgetter`,
which answer the same and obey the fields' ``eq`` and ``repr``.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import define, frozen
else:
    import attrs

    def frozen(cls: type | None = None, **options: object) -> object:
        """Do what `attrs.frozen` does. Not for ``order=True``, which needs the compiled methods."""

        def build(plain: type) -> type:
            made = attrs.frozen(plain, eq=False, repr=False, **options)
            fields = attrs.fields(made)
            _compare_by(made, tuple(field.name for field in fields if field.eq))
            if "__repr__" not in plain.__dict__:
                made.__repr__ = _printer(tuple(field.name for field in fields if field.repr))
            return made

        return _decorated(cls, build)

    def define(cls: type | None = None, **options: object) -> object:
        """Do what `attrs.define` does."""
        return _decorated(cls, lambda plain: attrs.define(plain, **options))


__all__ = ["define", "frozen"]

Build = Callable[[type], type]
_OF_A_CLASS = {
    "__annotations__",
    "__dict__",
    "__doc__",
    "__module__",
    "__qualname__",
    "__slots__",
    "__weakref__",
}


def _decorated(cls: type | None, build: Build) -> object:
    def make(plain: type) -> type:
        base, *others = plain.__bases__
        simple = not others and (base is object or "__attrs_attrs__" in base.__dict__)
        return _slotted(plain, build) if simple and "__init__" not in plain.__dict__ else build(plain)

    return make if cls is None else make(cls)


class _Fields:
    """In place of the fields of a class that attrs has not seen yet."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self.finish = finish

    def __get__(self, _record: object, cls: type) -> object:
        self.finish()
        return cls.__attrs_attrs__  # type: ignore[attr-defined] # it is there now


def _slotted(plain: type, build: Build) -> type:
    """Return the class with its slots, and everything else to come when it is needed."""
    names = tuple(plain.__annotations__)
    skipped = {*names, *_OF_A_CLASS}
    body = {name: value for name, value in plain.__dict__.items() if name not in {"__dict__", "__weakref__"}}
    body["__qualname__"] = plain.__qualname__
    untouched = [plain]

    def finish() -> None:
        try:
            own = untouched.pop()
        except IndexError:  # attrs changes the class it reads: another thread at it makes the same of a copy
            own = type(plain)(plain.__name__, plain.__bases__, body)
        done = build(own).__dict__
        for name in done.keys() - body.keys() - skipped - {"__init__"}:
            setattr(made, name, done[name])
        made.__init__ = done["__init__"]  # type: ignore[misc] # the last: who sees it finds all others

    def begin(record: object, *values: object, **named: object) -> None:
        finish()
        made.__init__(record, *values, **named)  # type: ignore[misc]

    base = plain.__bases__[0]
    slots = [name for name in names if not hasattr(base, name)] + ["__weakref__"] * (base is object)
    hollow = {name: value for name, value in body.items() if name not in names}
    hollow |= {"__slots__": tuple(slots), "__init__": begin, "__attrs_attrs__": _Fields(finish)}
    made = type(plain)(plain.__name__, plain.__bases__, hollow)
    return made


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
