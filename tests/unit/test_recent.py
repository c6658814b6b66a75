"""What was worked out lately is not worked out again, and room for it is bounded."""

import pytest

from dfs.core.recent import Recent


def test_is_made_once_and_the_oldest_makes_room() -> None:
    recent: Recent[int, str] = Recent(2)
    made: list[int] = []

    def ask(key: int) -> str:
        def make() -> str:
            made.append(key)
            return f"<{key}>"

        return recent.get(key, make)

    assert [ask(key) for key in (1, 2, 1, 2)] == ["<1>", "<2>", "<1>", "<2>"]
    assert made == [1, 2]
    assert [ask(key) for key in (3, 2, 1)] == ["<3>", "<2>", "<1>"]
    assert made == [1, 2, 3, 1]


def test_a_failure_is_not_kept() -> None:
    recent: Recent[int, float] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get(0, lambda: 1 / 0)
    assert recent.get(0, lambda: 2.0) == pytest.approx(2.0)
