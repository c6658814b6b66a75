"""The checker of histories, by histories of which the verdict is known."""

import random
from itertools import permutations

import pytest

from dfs.testing.simulation import checker
from dfs.testing.simulation.checker import ANYTHING, Seen, UndecidedError, explained

A, B, C = b"a", b"b", b"c"


def write(begun: int, ended: int, value: bytes | None, **more: object) -> Seen:
    return Seen(begun, ended, leaves=value, **more)  # type: ignore[arg-type] # fields by name


def read(begun: int, ended: int, value: bytes | None) -> Seen:
    return Seen(begun, ended, needs=value)


GOOD = {
    "nothing happened": [],
    "absent at first": [read(0, 1, None)],
    "one after the other": [write(0, 1, A), read(2, 3, A), write(4, 5, B), read(6, 7, B)],
    "a read beside a write sees either": [write(0, 5, A), read(1, 2, None), read(3, 4, A)],
    "two writers, either order": [write(0, 5, A), write(1, 4, B), read(6, 7, A), read(8, 9, A)],
    "an unknown write took effect": [write(0, 1, A, certain=False), read(2, 3, A)],
    "an unknown write never did": [write(0, 1, A, certain=False), read(2, 3, None)],
    "an unknown write took effect late": [write(0, 1, A, certain=False), read(2, 3, None), read(4, 5, A)],
    "removed": [write(0, 1, A), write(2, 3, None), read(4, 5, None)],
    "replaced under its condition": [write(0, 1, A), write(2, 3, B, needs=A), read(4, 5, B)],
    "removing what comes later": [write(0, 5, A), write(1, 6, None), read(7, 8, None)],
    "a conflict": [write(0, 1, A), Seen(2, 3, avoids=B), Seen(4, 5, avoids=None), read(6, 7, A)],
    "an unknown condition that cannot have held": [write(0, 1, A), write(2, 3, C, needs=B, certain=False)],
}

BAD = {
    "a lost write": [write(0, 1, A), read(2, 3, None)],
    "out of nowhere": [read(0, 1, A)],
    "the new value, then the old one": [write(0, 9, A), read(1, 2, A), read(3, 4, None)],
    "two values flip": [write(0, 9, A), write(0, 9, B), read(10, 11, A), read(12, 13, B)],
    "a removed file returns": [write(0, 1, A), write(2, 3, None), read(4, 5, None), read(6, 7, A)],
    "an unknown write, seen, then gone": [write(0, 1, A, certain=False), read(2, 3, A), read(4, 5, None)],
    "both of two conditions held": [write(0, 1, A), write(2, 9, B, needs=A), write(2, 9, C, needs=A)],
    "both found it absent": [write(0, 5, A, needs=None), write(0, 5, B, needs=None)],
    "a conflict with what was there": [write(0, 1, A), Seen(2, 3, avoids=A)],
    "seen before it was begun": [read(0, 1, A), write(2, 3, A)],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_one_order_explains(name: str) -> None:
    assert explained(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_no_order_explains(name: str) -> None:
    assert not explained(BAD[name])


def brute(history: list[Seen]) -> bool:
    """Every order of every subset that leaves out nothing certain."""
    doubtful = [seen for seen in history if not seen.certain]
    certain = [seen for seen in history if seen.certain]
    for choice in range(1 << len(doubtful)):
        chosen = [*certain, *(seen for index, seen in enumerate(doubtful) if choice >> index & 1)]
        if any(follows(order) for order in permutations(chosen)):
            return True
    return False


def follows(order: tuple[Seen, ...]) -> bool:
    value: bytes | None = None
    for position, seen in enumerate(order):
        if not seen.fits(value) or any(late.certain and late.ended < seen.begun for late in order[position:]):
            return False
        value = value if seen.leaves == ANYTHING else seen.leaves
    return True


def test_it_agrees_with_trying_every_order() -> None:
    draw = random.Random(3)
    verdicts = []
    for _ in range(1500):
        history = []
        for _ in range(draw.randrange(2, 6)):
            begun = draw.randrange(12)
            leaves, needs = (draw.choice([ANYTHING, A, B, None]) for _ in range(2))
            avoids = draw.choice([ANYTHING, ANYTHING, ANYTHING, A, None])
            certain = draw.random() < 0.7
            history.append(Seen(begun, begun + draw.randrange(12), leaves, needs, avoids, certain))
        verdicts.append(explained(history))
        assert verdicts[-1] == brute(history), history
    assert 50 < sum(verdicts) < 1400


def test_what_is_too_tangled_is_not_called_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "STATE_COUNT_MAX", 10)
    history = [write(0, 99, bytes((65 + index,)), certain=False) for index in range(8)]
    with pytest.raises(UndecidedError):
        explained([*history, read(100, 101, b"never")])
