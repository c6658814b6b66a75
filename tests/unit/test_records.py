"""`records.frozen` answers as `attrs.frozen` does."""

from typing import Any

import attrs
import pytest

from dfs.core.records import frozen


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
