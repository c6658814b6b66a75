"""`records.frozen` answers as `attrs.frozen` does."""

import copy
import importlib
import pkgutil
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

import attrs
import pytest
from hypothesis import given, settings, strategies as st

import dfs.core
from dfs.core import records
from dfs.core.records import define, evolve, frozen

T = TypeVar("T")


def make(decorator: Any) -> tuple[type, type, type]:
    """Define the same three classes with one of the decorators."""

    @decorator
    class Empty:
        pass

    @decorator
    class One:
        value: Any

    @decorator
    class Several:
        name: str
        body: bytes = attrs.field(default=b"", repr=False)
        seen: int = attrs.field(default=0, eq=False)

    return Empty, One, Several


OURS, THEIRS = make(frozen), make(attrs.frozen)
VALUES: list[tuple[int, tuple[Any, ...]]] = [
    (0, ()),
    (1, (1,)),
    (1, ((1,),)),
    (1, ("a",)),
    (2, ("a",)),
    (2, ("a", b"x")),
    (2, ("a", b"x", 7)),
    (2, ("b", b"x", 7)),
]


@pytest.mark.parametrize("left", VALUES)
@pytest.mark.parametrize("right", VALUES)
def test_equality_and_hash_are_those_of_attrs(
    left: tuple[int, tuple[Any, ...]], right: tuple[int, tuple[Any, ...]]
) -> None:
    ours = OURS[left[0]](*left[1]), OURS[right[0]](*right[1])
    theirs = THEIRS[left[0]](*left[1]), THEIRS[right[0]](*right[1])
    assert (ours[0] == ours[1]) is (theirs[0] == theirs[1])
    if ours[0] == ours[1]:
        assert hash(ours[0]) == hash(ours[1])


@pytest.mark.parametrize(("index", "values"), VALUES)
def test_repr_is_that_of_attrs(index: int, values: tuple[Any, ...]) -> None:
    assert repr(OURS[index](*values)) == repr(THEIRS[index](*values))


def test_another_type_is_not_equal_even_with_the_same_fields() -> None:
    assert OURS[1](1) != THEIRS[1](1)
    assert OURS[1](1) != (1,)
    assert OURS[1](1).__eq__((1,)) is NotImplemented


def test_fields_cannot_be_set() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        OURS[1](1).value = 2


def test_options_and_own_methods_are_kept() -> None:
    @frozen(kw_only=True)
    class Named:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

    assert repr(Named(name="a")) == "<a>"
    assert attrs.evolve(Named(name="a"), name="b") == Named(name="b")
    with pytest.raises(TypeError):
        Named("a")  # type: ignore[call-arg] # what is tested

    @frozen(kw_only=True)
    class First:
        name: str

    with pytest.raises(TypeError, match="positional"):
        First("a")  # type: ignore[call-arg] # what is tested


# --- Methods that are made when they are needed -------------------------------------------------------------


def test_fields_are_known_before_the_first_object() -> None:
    ours, theirs = make(frozen)[2], make(attrs.frozen)[2]
    assert attrs.has(ours)
    names = [(field.name, field.default, field.eq, field.repr) for field in attrs.fields(ours)]
    assert names == [(field.name, field.default, field.eq, field.repr) for field in attrs.fields(theirs)]
    attrs.fields(ours)
    assert vars(ours)["__match_args__"] == vars(theirs)["__match_args__"] == ("name", "body", "seen")


def test_the_first_object_is_like_all_others() -> None:
    made = make(frozen)[2]
    first = made("a", body=b"x")
    assert first == made("a", b"x")
    assert repr(first) == "Several(name='a', seen=0)"
    assert type(first).__qualname__ == "make.<locals>.Several"
    assert not hasattr(first, "__dict__")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        make(frozen)[2]()


def test_what_is_defined_can_be_changed_and_compared_as_in_attrs() -> None:
    @define
    class Counter:
        name: str
        seen: list[int] = attrs.field(factory=list)

        @property
        def total(self) -> int:
            return sum(self.seen)

    @define(eq=False)
    class Thing:
        name: str = ""

    first, second = Counter("a"), Counter("a")
    assert first == second
    first.seen.append(3)
    first.name = "b"
    assert (first.total, second.seen, first != second) == (3, [], True)
    assert repr(first) == "Counter(name='b', seen=[3])"
    with pytest.raises(TypeError):
        hash(first)
    with pytest.raises(AttributeError):
        first.other = 1  # type: ignore[attr-defined] # what is tested
    assert Thing() != Thing()
    assert len({Thing(), Thing()}) == 2


def test_what_inherits_or_begins_by_itself_is_made_at_once() -> None:
    @frozen
    class Base:
        name: str

    @frozen
    class Below(Base):
        more: int = 0

    @define
    class Own:
        name: str

        def __init__(self) -> None:
            self.name = "own"

    assert Below("a", 1) == Below(name="a", more=1)
    assert [field.name for field in attrs.fields(Below)] == ["name", "more"]
    assert Own().name == "own"  # type: ignore[call-arg] # attrs' own type knows no other __init__


def test_many_threads_may_make_the_first_objects() -> None:
    for _ in range(50):
        made = make(frozen)[2]
        with ThreadPoolExecutor(8) as pool:
            objects = list(pool.map(lambda _, made=made: made("a"), range(8)))
        assert len(set(objects)) == 1


class Intruder:
    """An attribute of a class: whoever looks what it is waits until another thread has made an object."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.thread = threading.Thread(target=work)

    @property  # type: ignore[misc] # it cannot be set, whatever an object's can
    def __class__(self) -> type:  # attrs asks each attribute of a class
        if self.thread.ident is None:
            self.thread.start()
            self.thread.join()
        return Intruder


def test_another_thread_may_finish_a_class_meanwhile() -> None:
    objects: list[Any] = []

    @frozen
    class Seen:
        intruder = Intruder(lambda: objects.append(attrs.evolve(made("a"), size=3)))
        name: str
        size: int = 3

    made: Any = Seen
    assert [field.name for field in attrs.fields(made)] == ["name", "size"]
    assert objects == [made("a", 3)]


def inherited(decorator: Any) -> tuple[Any, Any]:
    """Define a record and one that builds upon it."""

    @decorator(kw_only=True)
    class Base:
        name: str = attrs.field(validator=attrs.validators.instance_of(str))
        size: int = 0

    @decorator(kw_only=True)
    class Further(Base):
        size: int = 1
        body: bytes = attrs.field(default=b"", repr=False)

        @property
        def whole(self) -> int:
            return self.size + len(self.body)

    return Base, Further


def test_records_upon_records_are_those_of_attrs() -> None:
    values: list[dict[str, Any]] = [{"name": "a"}, {"name": "a", "size": 2}, {"name": "a", "body": b"xyz"}]
    for kind in (0, 1):
        ours, theirs = inherited(frozen)[kind], inherited(attrs.frozen)[kind]
        for named in values[: 2 + kind]:
            assert repr(ours(**named)) == repr(theirs(**named))
            assert attrs.asdict(ours(**named)) == attrs.asdict(theirs(**named))
            assert ours(**named) == ours(**named) != ours(name="b")
            assert hash(ours(**named)) == hash(ours(**named))
            assert not hasattr(ours(**named), "__dict__")
        with pytest.raises(TypeError, match="must be <class 'str'>"):
            ours(name=1)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            ours(name="a").size = 3
    base, further = inherited(frozen)
    assert further(name="a", size=2, body=b"xyz").whole == 5
    assert base(name="a", size=1) != further(name="a", size=1)
    assert issubclass(further, base)
    assert [field.name for field in attrs.fields(inherited(frozen)[1])] == ["name", "size", "body"]
    assert attrs.evolve(further(name="a"), size=9).size == 9


# --- Every stage of a class answers as attrs does -----------------------------------------------------------

NAMES = ("alpha", "_beta", "gamma", "delta")
VALUES_OF_FIELDS = (1, "x", (2, 3))


@frozen
class Shape:
    """What a class is made of."""

    decorators: list[str]  # of the class and its base
    options: list[dict[str, Any]]
    fields: list[tuple[str, dict[str, Any] | None]]  # None: only annotated
    split: int  # so many of them stand in a base

    def made(self, decorators: Any, field: Any) -> Any:
        def build(bases: tuple[type, ...], fields: list[tuple[str, dict[str, Any] | None]]) -> type:
            decorate = getattr(decorators, self.decorators[not bases])
            body = {name: field(**given) for name, given in fields if given is not None}
            hints = {name: Any for name, _ in fields}
            name = "Below" if bases else "Base"
            plain = type(name, bases, {"__annotations__": hints, **body})
            made: type = decorate(**self.options[not bases])(plain)
            return made

        base = build((), self.fields[: self.split])
        return build((base,), self.fields[self.split :]) if self.split < len(self.fields) else base


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    options = st.fixed_dictionaries({}, optional={"kw_only": st.booleans(), "eq": st.booleans()})
    two_options = draw(options.map(lambda each: [each, each]) | st.lists(options, min_size=2, max_size=2))
    decorator = st.sampled_from(["frozen", "define"])
    decorators = draw(decorator.map(lambda each: [each, each]) | st.lists(decorator, min_size=2, max_size=2))
    fields: list[tuple[str, dict[str, Any] | None]] = []
    for name in NAMES[: draw(st.integers(0, len(NAMES)))]:
        given = draw(
            st.none()
            | st.fixed_dictionaries(
                {},
                optional={
                    "default": st.sampled_from(VALUES_OF_FIELDS),
                    "repr": st.booleans(),
                    "eq": st.booleans(),
                    "metadata": st.just({"some": "thing"}),
                },
            )
        )
        if given is not None and "default" not in given and draw(st.booleans()):
            given["factory"] = lambda: (4,)
        has_default = given is not None and ("default" in given or "factory" in given)
        if given is not None and has_default and draw(st.integers(0, 3)) == 0:
            given["init"] = False
        if not has_default and any(each and each.keys() & {"default", "factory"} for _, each in fields):
            given = {**(given or {}), "default": 0}  # attrs wants those first that have no default
        fields.append((name, given))
    split = draw(st.integers(0, len(fields)))
    if split and draw(st.integers(0, 3)) == 0:
        fields.append((fields[0][0], {"default": "other"}))
    return Shape(decorators, two_options, fields, split)


@st.composite
def calls(draw: st.DrawFn, shape: Shape) -> tuple[list[Any], dict[str, Any]]:
    """Values in order and by name, often right."""
    last = {name: place for place, (name, _) in enumerate(shape.fields)}  # a base's may be described anew
    fields = [
        (name.lstrip("_"), described or {})
        for place, (name, described) in enumerate(shape.fields)
        if last[name] == place
    ]
    arguments = [name for name, described in fields if described.get("init", True)]
    required = {name for name, described in fields if not described.keys() & {"default", "factory"}}
    value = st.sampled_from(VALUES_OF_FIELDS)
    count = 0 if any(each.get("kw_only") for each in shape.options) else draw(st.integers(0, len(arguments)))
    values = draw(st.lists(value, min_size=count, max_size=count))
    named = {name: draw(value) for name in arguments[count:] if name in required or draw(st.booleans())}
    mistake = draw(st.sampled_from(["", "", "", "more", "less", "unheard", "twice"]))
    if mistake == "more":
        values.append(draw(value))
        named.pop(arguments[count] if arguments[count:] else "", None)
    elif mistake == "less":
        named = {}
    elif mistake == "unheard":
        named["_beta"] = 1
    elif mistake == "twice" and arguments:
        named[arguments[0]] = 1
    return values, named


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or how it fails."""
    try:
        return call()
    except (TypeError, AttributeError) as error:
        return type(error), str(error)


def seen(cls: Any, values: list[Any], named: dict[str, Any]) -> list[Any]:
    """What is to be seen of an object made like this."""
    made = outcome(lambda: cls(*values, **named))
    if isinstance(made, tuple):
        return [made]
    names = [name for name in NAMES if hasattr(cls, name)]
    twin, other = cls(*values, **named), outcome(lambda: evolve(made, **dict.fromkeys(named, 9)))
    return [
        cls.__match_args__,
        outcome(lambda: repr(made)),
        {name: outcome(partial(getattr, made, name)) for name in names},
        outcome(lambda: made == twin),
        outcome(lambda: made == other),
        made == 1,
        outcome(lambda: hash(made) == hash(twin)),
        outcome(lambda: setattr(made, "gamma", 5)),
        outcome(lambda: setattr(made, "unheard", 5)),
        outcome(lambda: repr(copy.copy(made))),
        outcome(lambda: repr(copy.deepcopy(made))),
        outcome(lambda: repr(other)),
        hasattr(made, "__dict__"),
    ]


@given(chosen=st.data(), stage=st.sampled_from(["first", "first", "many", "fields"]))
@settings(max_examples=300, deadline=None)
def test_every_stage_answers_as_attrs_does(chosen: st.DataObject, stage: str) -> None:
    shape = chosen.draw(shapes())
    values, named = chosen.draw(calls(shape))
    ours, theirs = shape.made(records, records.field), shape.made(attrs, attrs.field)
    if stage == "fields":
        assert [each.name for each in attrs.fields(ours)] == [each.name for each in attrs.fields(theirs)]
    for _ in range(records.OBJECTS_MAX * (stage == "many")):
        outcome(lambda: ours(*values, **named))
    assert seen(ours, values, named) == seen(theirs, values, named)
    assert [name for name, _ in records.described(ours)] == [each.name for each in attrs.fields(theirs)]
    assert [metadata for _, metadata in records.described(ours)] == [
        each.metadata for each in attrs.fields(theirs)
    ]


def test_what_is_made_often_gets_the_methods_of_attrs() -> None:
    @frozen
    class Base:
        name: str
        seen: list[str] = records.field(factory=list)

        def __attrs_post_init__(self) -> None:
            self.seen.append(self.name)

    @frozen
    class Often(Base):
        more: int = 0

    for made in (Base, Often):
        for count in range(records.OBJECTS_MAX + 2):
            assert made("a").seen == ["a"]
            quick = count < records.OBJECTS_MAX
            assert (made.__init__.__qualname__ == f"{made.__qualname__}.__init__") is not quick


def test_a_copy_may_be_the_first_object() -> None:
    made: Any = make(frozen)[2]
    copied = made.__new__(made)
    copied.__setstate__({"name": "a", "body": b"", "seen": 3})
    assert copied == made("a")


def test_what_is_to_be_set_later_is_not_there_before() -> None:
    @define
    class Later:
        name: str
        home: str = records.field(init=False)

    made = Later("a")
    assert repr(made) == "Later(name='a', home=NOTHING)"
    with pytest.raises(AttributeError):
        made.home  # noqa: B018 - what is tested
    made.home = "b"
    assert made.home == "b"


def test_a_record_may_be_generic() -> None:
    @frozen
    class Box(Generic[T]):
        content: T

    made = Box[int](3)
    assert made == Box(3) != Box(4)
    assert repr(made) == "Box(content=3)"
    assert not hasattr(made, "__dict__")
    assert weakref.ref(made)() is made
    assert [each.name for each in attrs.fields(Box)] == ["content"]
    assert attrs.evolve(made, content=4) == Box(4)


def test_no_class_of_attrs_has_a_field_that_only_records_know() -> None:
    count = 0
    for package in (dfs, dfs.core):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if found.ispkg or found.name == "dfs.__main__":
                continue
            module = importlib.import_module(found.name)
            for cls in filter(attrs.has, (each for each in vars(module).values() if isinstance(each, type))):
                count += 1
                described = {field.name: type(field.default) for field in attrs.fields(cls)}
                assert records._Described not in described.values(), cls
    assert count > 200
