"""`records.frozen` answers as `attrs.frozen` does."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

from dfs.core.records import define, frozen


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
        intruder = Intruder(lambda: objects.append(made("a")))
        name: str
        size: int = 3

    made: Any = Seen
    objects.append(made("a", 3))
    assert len(objects) == 2
    assert objects[0] == objects[1]


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
        for given in values[: 2 + kind]:
            assert repr(ours(**given)) == repr(theirs(**given))
            assert attrs.asdict(ours(**given)) == attrs.asdict(theirs(**given))
            assert ours(**given) == ours(**given) != ours(name="b")
            assert hash(ours(**given)) == hash(ours(**given))
            assert not hasattr(ours(**given), "__dict__")
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
