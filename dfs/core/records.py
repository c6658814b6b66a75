"""`frozen`, `define`, `field` and `evolve` as in attrs, at a fraction of what a command pays for its classes.

attrs writes and compiles the methods of a class when it is defined, which takes 0.2 ms or more. Here a
class gets its slots at once. Its first objects are made by functions that suit every class; attrs gets to see
it when it has made many, when somebody asks for its fields, or when it wants what only attrs can do, such as
validators. Whatever stage a class is in, it answers the same.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Final, Generic

import attrs

if TYPE_CHECKING:
    from attrs import define, evolve, field, frozen
else:

    def frozen(cls: type | None = None, **options: object) -> object:
        """Do what `attrs.frozen` does. Not for ``order=True``, which needs the compiled methods."""
        given = {"eq": False, "repr": False} | options

        def build(plain: type) -> type:
            made = attrs.frozen(plain, **given)
            fields = attrs.fields(made)
            methods = {"__repr__": _printer(tuple(each.name for each in fields if each.repr))}
            if options.get("eq", True):
                methods |= _comparing(tuple(each.name for each in fields if each.eq))
            return _with_methods(made, methods, plain.__dict__)

        return _decorated(cls, build, options, frozen=True)

    def define(cls: type | None = None, **options: object) -> object:
        """Do what `attrs.define` does."""
        return _decorated(cls, lambda plain: attrs.define(plain, **options), options, frozen=False)

    def field(**options: object) -> object:
        """Do what `attrs.field` does, in classes of this module."""
        return _Described(options)

    def evolve(record: object, **changes: object) -> object:
        """Do what `attrs.evolve` does."""
        sketch = record.__class__.__dict__.get("__sketch__")
        if sketch is None:
            return attrs.evolve(record, **changes)
        for part in sketch.parts:
            if part.is_argument and part.argument not in changes:
                changes[part.argument] = getattr(record, part.name)
        return record.__class__(**changes)


__all__ = ["define", "described", "evolve", "field", "frozen"]

Build = Callable[[type], type]
OBJECTS_MAX: Final = 64  # made without attrs; then its methods, which are quicker, are worth writing
_SIMPLE: Final = {"default", "factory", "repr", "eq", "init", "metadata"}  # options that need no attrs
# What Python itself puts into a class: no other one is defined with it.
_OWN: Final = {"__dict__", "__weakref__", "__annotate__", "__annotate_func__", "__annotations_cache__"}
_STATE: Final = ("__getstate__", "__setstate__")  # for copies
# Methods that attrs heeds and what is made without it does not.
_HEEDED: Final = {"__attrs_pre_init__", "__setattr__", *_STATE}
_ROOTS: Final = (object, Generic)
_MISSING: Final = object()


def described(cls: type) -> Sequence[tuple[str, Mapping[Any, Any]]]:
    """Return name and metadata of each field. Raises: attrs.exceptions.NotAnAttrsClassError."""
    sketch = cls.__dict__.get("__sketch__")
    if sketch is None:
        return [(each.name, each.metadata) for each in attrs.fields(cls)]
    return [(part.name, part.options.get("metadata", {})) for part in sketch.parts]


class _Described:
    """A field as it was described."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options


class _Part:
    """A field. ``value``: what its class gives it: a description, a default, or nothing."""

    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.argument = name.lstrip("_")
        self.options = value.options if isinstance(value, _Described) else {}
        self.default = self.options.get("default", _MISSING) if isinstance(value, _Described) else value
        self.factory = self.options.get("factory")
        self.is_argument = self.options.get("init", True)
        self.has_default = self.default is not _MISSING or self.factory is not None
        self.is_simple = self.options.keys() <= _SIMPLE and not isinstance(self.default, _FOREIGN)

    def fresh(self) -> object:
        """What it is for an object that was told nothing."""
        return self.default if self.factory is None else self.factory()  # type: ignore[operator] # attrs' rule


_FOREIGN: Final[tuple[type, ...]] = (type(attrs.field()), type(attrs.Factory(list)))


def _decorated(cls: type | None, build: Build, options: Mapping[str, object], *, frozen: bool) -> object:
    def make(plain: type) -> type:
        base, *others = plain.__bases__
        known = base in _ROOTS or "__sketch__" in base.__dict__
        if others or not known or "__init__" in plain.__dict__:
            return build(_with_fields(plain))
        return _Sketch(plain, build, options, frozen=frozen).made

    return make if cls is None else make(cls)


def _with_fields(plain: type) -> type:
    """Give a class the fields of attrs for those that were described."""
    for name, value in list(plain.__dict__.items()):
        if isinstance(value, _Described):
            setattr(plain, name, attrs.field(**value.options))  # type: ignore[call-overload] # they are its own
    return plain


class _Fields:
    """In place of the fields of a class that attrs has not seen yet."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self.finish = finish

    def __get__(self, _record: object, cls: type) -> object:
        self.finish()
        return cls.__attrs_attrs__  # type: ignore[attr-defined] # it is there now


class _Sketch:
    """A class with its slots, and everything else to come when it is needed: ``made``."""

    def __init__(self, plain: type, build: Build, options: Mapping[str, object], *, frozen: bool) -> None:
        self.build = build
        self.options = options
        self.frozen = frozen
        self.keywords_only = options.get("kw_only", False)
        self.untouched = [plain]
        self.beginning = self._beginning()
        self.names = names = plain.__annotations__
        self.body = {name: value for name, value in plain.__dict__.items() if name not in _OWN}
        self.body |= {"__annotations__": names, "__qualname__": plain.__qualname__}
        base = plain.__bases__[0]
        self.base: _Sketch | None = None if base in _ROOTS else base.__sketch__  # type: ignore[attr-defined]
        slots = [name for name in names if not hasattr(base, name)] + ["__weakref__"] * (base in _ROOTS)
        hollow = {name: value for name, value in self.body.items() if name not in names}
        hollow |= {"__slots__": tuple(slots), "__init__": self.beginning}
        hollow |= {"__attrs_attrs__": _Fields(self.finish), "__sketch__": self}
        hollow |= {name: self._postponed(name) for name in _STATE if name not in hollow}
        self.made = type(plain)(plain.__name__, plain.__bases__, hollow)

    @cached_property
    def parts(self) -> "Sequence[_Part]":
        """All fields, those of the base first."""
        before = () if self.base is None else self.base.parts
        own = (_Part(name, self.body.get(name, _MISSING)) for name in self.names)
        return [*(part for part in before if part.name not in self.names), *own]

    @cached_property
    def is_simple(self) -> bool:
        """Whether nothing is wanted that only attrs can do."""
        base = self.base
        like_base = base is None or (
            base.is_simple and (base.frozen, base.keywords_only) == (self.frozen, self.keywords_only)
        )
        return (
            like_base
            and self.options.keys() <= {"eq", "kw_only"}
            and all(part.is_simple for part in self.parts)
            and not self.body.keys() & _HEEDED
        )

    def finish(self) -> None:
        """Have attrs write all methods. Several threads may be here."""
        body = self.body
        if self.base is not None:
            attrs.fields(self.base.made)  # attrs sees by the methods of a base what it is
        try:
            own = self.untouched.pop()
        except IndexError:  # attrs changes the class it reads: another thread at it makes the same of a copy
            own = type(self.made)(self.made.__name__, self.made.__bases__, body)
        done = self.build(_with_fields(own)).__dict__
        skipped = {*self.names, "__dict__", "__slots__", "__weakref__", "__init__"}
        _with_methods(self.made, {name: done[name] for name in done.keys() - skipped}, body)
        self.made.__init__ = done["__init__"]  # type: ignore[misc] # the last: who sees it finds all others

    def _beginning(self) -> Callable[..., None]:
        """Return the `__init__` of the first object."""

        def begin(record: object, *values: object, **named: object) -> None:
            self.begin()
            self.made.__init__(record, *values, **named)  # type: ignore[misc]

        return begin

    def begin(self) -> None:
        """Give the class its first methods, unless it has some."""
        if self.made.__dict__["__init__"] is not self.beginning:
            return
        if self.base is not None:
            self.base.begin()  # it may inherit them
        if self.is_simple:
            self._dress()
        else:
            self.finish()

    def _dress(self) -> None:
        """Give the class methods that suit every class."""
        told = [part for part in self.parts if part.is_argument]
        shown = tuple(part.name for part in self.parts if part.options.get("repr", True))
        methods: dict[str, object] = {"__repr__": _printer(shown)}
        methods["__match_args__"] = () if self.keywords_only else tuple(part.name for part in told)
        if self.options.get("eq", True):
            methods |= _comparing(tuple(part.name for part in self.parts if part.options.get("eq", True)))
            methods |= {} if self.frozen else {"__hash__": None}
        if self.frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
        _with_methods(self.made, methods, self.body)
        self.made.__init__ = self._first([part.argument for part in told])  # type: ignore[misc] # the last, as above

    def _postponed(self, name: str) -> Callable[..., object]:
        def method(record: object, *values: object) -> object:
            self.finish()
            return getattr(record, name)(*values)

        return method

    def _first(self, given: Sequence[str]) -> Callable[..., None]:
        """Return the `__init__` of the first objects; ``given``: its arguments."""
        places = () if self.keywords_only else given
        known = frozenset(given)
        required = {part.argument for part in self.parts if part.is_argument and not part.has_default}
        setters = [
            (part, getattr(self.made, part.name).__set__)
            for part in self.parts
            if part.is_argument or part.has_default
        ]
        after = getattr(self.made, "__attrs_post_init__", None)
        left = OBJECTS_MAX

        def first(record: object, *values: object, **named: object) -> None:
            nonlocal left
            left -= 1
            told = dict(zip(places, values, strict=False)) | named
            right = len(told) == len(values) + len(named) and required <= told.keys() <= known
            if left < 0 or not right:  # attrs says what is wrong
                self.finish()
                self.made.__init__(record, *values, **named)  # type: ignore[misc]
                return
            for part, put in setters:
                is_told = part.is_argument and part.argument in told
                put(record, told[part.argument] if is_told else part.fresh())
            if after is not None:
                after(record)

        return first


def _with_methods(cls: type, methods: Mapping[str, object], own: Mapping[str, object]) -> type:
    """Give a class what it did not define itself."""
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    return cls


def _refuse(_record: object, *_change: object) -> None:
    raise attrs.exceptions.FrozenInstanceError


def _nothing(_record: object) -> tuple[()]:
    """What a record without fields consists of."""
    return ()


def _comparing(names: tuple[str, ...]) -> dict[str, object]:
    """Return what makes records of exactly one class equal, and hash alike, by these fields."""
    value: Callable[[object], object] = attrgetter(*names) if names else _nothing

    def equal(self: object, other: object) -> bool:
        return value(self) == value(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: object) -> int:
        return hash(value(self))

    return {"__eq__": equal, "__hash__": hashed}


def _printer(names: tuple[str, ...]) -> Callable[[object], str]:
    """Return a `__repr__` that shows these fields."""

    @recursive_repr("...")
    def show(self: object) -> str:
        fields = ", ".join(f"{name}={getattr(self, name, attrs.NOTHING)!r}" for name in names)
        return f"{self.__class__.__qualname__.rsplit('>.', 1)[-1]}({fields})"

    return show
