"""Who may come in: counts by address and by user, failed logins, and that no table grows without end."""

import pytest
from hypothesis import given, strategies as st

from dfs.core import limits
from dfs.core.door import Door, Guesses, Recent, Tally, address_of
from dfs.core.errors import BusyError

HOME, ELSEWHERE = "192.0.2.1", "192.0.2.2"


# --- Counting -----------------------------------------------------------------------------------------------


def test_a_tally_has_a_bound_for_each_and_one_for_all() -> None:
    tally = Tally[str](total_max=5, share_max=3)
    assert tally.take("a", 3)
    assert not tally.take("a")
    assert tally.take("b", 2)
    assert not tally.take("c")
    tally.give("a", 2)
    assert tally.take("c", 2)
    assert tally.total == 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4))))
def test_a_tally_forgets_who_has_nothing(moves: list[tuple[str, int]]) -> None:
    tally = Tally[str](total_max=9, share_max=6)
    taken = [(key, count) for key, count in moves if tally.take(key, count)]
    assert tally.total == sum(count for _, count in taken) <= 9
    for key, count in taken:
        tally.give(key, count)
    assert tally.total == 0
    assert tally._shares == {}


def test_who_was_not_met_longest_is_forgotten() -> None:
    table = Recent[str, int](2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        table.set(key, value)
    assert [table.get(key, 0) for key in "abc"] == [3, 0, 4]
    assert len(table) == 2


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.1:5000", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::7]:5001", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:5000", "fe80::/64"),
        ("[nonsense:]:5000", "nonsense:"),
        ("attic:49152", "attic"),
    ],
)
def test_neighbours_of_a_net_are_one_address(peer: str, address: str) -> None:
    assert address_of(peer) == address


# --- Guessing -----------------------------------------------------------------------------------------------


def fail(guesses: Guesses, count: int, *, address: str = HOME, user: str = "ines", now_s: float = 0) -> float:
    """Guess wrongly, each time as soon as that is allowed; returns the time after it."""
    for _ in range(count):
        now_s += guesses.wait_s(address, user, now_s)
        guesses.failed(address, user, now_s)
    return now_s


def test_five_are_free_then_delays_grow_to_a_minute() -> None:
    guesses, now_s, delays = Guesses(), 0.0, []
    for _ in range(16):
        delays.append(round(guesses.wait_s(HOME, "ines", now_s)))
        now_s = fail(guesses, 1, now_s=now_s)
    assert delays[:9] == [0, 0, 0, 0, 0, 1, 2, 4, 7]
    assert delays == sorted(delays)
    assert delays[-1] == limits.GUESS_DELAY_S_MAX - 1 or delays[-1] == limits.GUESS_DELAY_S_MAX


def test_the_right_password_gets_in_after_its_delay() -> None:
    guesses = Guesses()
    now_s = fail(guesses, 20)
    wait_s = guesses.wait_s(HOME, "ines", now_s)
    assert 0 < wait_s <= limits.GUESS_DELAY_S_MAX
    for part in (0.1, 0.5, 0.9):
        left_s = guesses.wait_s(HOME, "ines", now_s + part * wait_s)
        assert left_s == pytest.approx((1 - part) * wait_s), "asking again makes nothing longer"
    assert guesses.wait_s(HOME, "ines", now_s + wait_s) == 0


def test_who_fails_at_home_disturbs_nobody_elsewhere() -> None:
    guesses = Guesses()
    now_s = fail(guesses, 20)
    assert guesses.wait_s(ELSEWHERE, "tom", now_s) == 0
    assert guesses.wait_s(HOME, "tom", now_s) > 0, "an address may not try one user after the other"


def test_guesses_from_everywhere_lock_no_account() -> None:
    """Many addresses never stop guessing; each of them is slowed down, and the user comes in all the same."""
    guesses = Guesses()
    now_s = 0.0
    for number in range(40):
        now_s = fail(guesses, 1, address=f"198.51.100.{number}", now_s=now_s)
    wait_s = guesses.wait_s(HOME, "ines", now_s)
    assert 0 < wait_s <= limits.GUESS_DELAY_S_MAX
    for number in range(40):
        guesses.failed(f"203.0.113.{number}", "ines", now_s + wait_s / 2)
    assert guesses.wait_s(HOME, "ines", now_s + wait_s) == 0
    guesses.succeeded(HOME, "ines")
    assert guesses.wait_s(HOME, "ines", now_s + wait_s) == 0, "from here she is known"
    guesses.failed(HOME, "ines", now_s + wait_s)
    assert guesses.wait_s(HOME, "ines", now_s + wait_s) > 0


def test_an_account_of_ones_own_pays_for_nothing() -> None:
    guesses = Guesses()
    for _ in range(10):
        guesses.failed(HOME, "ines", 0)
        guesses.succeeded(HOME, "tom")
    assert guesses.wait_s(HOME, "tom", 0) == 0
    assert guesses.wait_s(HOME, "ines", 0) > 0


def test_time_forgives() -> None:
    guesses = Guesses()
    now_s = fail(guesses, 20)
    assert guesses.wait_s(HOME, "ines", now_s + limits.STRIKE_COUNT_MAX * limits.STRIKE_S) == 0


def test_the_tables_have_an_end() -> None:
    guesses = Guesses(50)
    for number in range(500):
        guesses.wait_s(f"a{number}", f"u{number % 7}", 0)
        guesses.failed(f"a{number}", f"u{number % 7}", 0)
        guesses.succeeded(f"b{number}", "ines")
        guesses.wait_s(f"c{number}", f"u{number % 7}", 0)
    assert [len(table) for table in vars(guesses).values() if isinstance(table, Recent)] == [50, 7, 50, 50]


def test_patience_is_asked_for_in_words() -> None:
    door = Door()
    for _ in range(5):
        door.require_patience(HOME, "ines", 0)
        door.guesses.failed(HOME, "ines", 0)
    with pytest.raises(BusyError) as caught:
        door.require_patience(HOME, "ines", 0)
    assert "Wait 1 s" in caught.value.line
    door.require_patience(HOME, "ines", 1)


def test_a_user_has_so_many_seats() -> None:
    door = Door(user_share_max=1)
    door.seat("ines")
    with pytest.raises(BusyError, match="too many connections"):
        door.seat("ines")
    door.seat("tom")
    door.users.give("ines")
    door.seat("ines")
