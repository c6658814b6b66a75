"""Who may come in, how often somebody may guess, and how much a node keeps for those who do not read.

Connections are counted by address and by user, failed logins as well; every table has an end. Nothing here
locks an account: whoever waits as long as told is let in with the right password, whatever others do at other
addresses meanwhile.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from dfs.core import limits
from dfs.core.errors import BusyError
from dfs.core.records import frozen

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Tally(Generic[K]):
    """Counts what each key has, ``share_max`` at most, and ``total_max`` over all keys. Thread-safe."""

    def __init__(self, total_max: float = math.inf, share_max: float = math.inf) -> None:
        self._total_max = total_max
        self._share_max = share_max
        self._total = 0
        self._shares: dict[K, int] = {}
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """What all keys have."""
        return self._total

    def take(self, key: K, count: int = 1) -> bool:
        """Count more for a key; False if that were too many."""
        with self._lock:
            share = self._shares.get(key, 0) + count
            if share > self._share_max or self._total + count > self._total_max:
                return False
            self._shares[key] = share
            self._total += count
            return True

    def give(self, key: K, count: int = 1) -> None:
        """Count less again: what `take` granted, once."""
        with self._lock:
            self._total -= count
            self._shares[key] -= count
            if not self._shares[key]:
                del self._shares[key]


class Recent(Generic[K, V]):
    """A table of what was told last of each key, ``count_max`` keys at most; who was not met longest goes."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, default: V) -> V:
        """Return what is known of a key."""
        return self._values.get(key, default)

    def set(self, key: K, value: V) -> None:
        """Know this of a key from now on."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._count_max:
            self._values.popitem(last=False)

    def forget(self, key: K) -> None:
        """Know nothing of a key."""
        self._values.pop(key, None)


@frozen
class Strikes:
    """Failed logins of somebody: ``count`` at the time of the last. One is forgiven every minute."""

    count: float = 0.0
    last_s: float = -math.inf

    def left(self, now_s: float) -> float:
        """Return how many count still."""
        return max(0.0, self.count - (now_s - self.last_s) / limits.STRIKE_S)

    def after_another(self, now_s: float) -> "Strikes":
        """Return them with one more."""
        return Strikes(min(self.left(now_s) + 1, limits.STRIKE_COUNT_MAX), now_s)

    def delay_s(self, now_s: float) -> float:
        """Return how long to wait between two guesses: nothing for the first few, then twice as long each."""
        left = self.left(now_s)
        if left <= limits.GUESS_BURST - 1:
            return 0.0
        return float(min(limits.GUESS_DELAY_S_MAX, 2.0 ** (left - limits.GUESS_BURST)))


_NONE: Final = Strikes()


class Guesses:
    """Failed logins by address and by user, known or not: 5 in a row are free, then delays grow to a minute.

    The delay of an address is one for all its guesses. That of a user, which many addresses may have caused,
    is counted for each address by itself, so that nobody can use up somebody else's turn. An address from
    which a user came in lately, and did not fail since, waits for nobody. Thread-safe.
    """

    def __init__(self, count_max: int = limits.GUESSER_COUNT_MAX) -> None:
        self._lock = threading.Lock()
        self._addresses: Recent[str, Strikes] = Recent(count_max)
        self._users: Recent[str, Strikes] = Recent(count_max)
        self._due: Recent[tuple[str, str], float] = Recent(count_max)
        self._known: Recent[tuple[str, str], bool] = Recent(count_max)

    def wait_s(self, address: str, user: str, now_s: float) -> float:
        """Return how long a login must wait; 0 = it may be tried."""
        pair = address, user
        with self._lock:
            if self._known.get(pair, False):
                return 0.0
            strikes = self._addresses.get(address, _NONE)
            by_address = strikes.last_s + strikes.delay_s(now_s) - now_s
            delay_s = self._users.get(user, _NONE).delay_s(now_s)
            if not delay_s:
                self._due.forget(pair)
                return max(0.0, by_address)
            due_s = min(self._due.get(pair, math.inf), now_s + delay_s)
            self._due.set(pair, due_s)
            return max(0.0, by_address, due_s - now_s)

    def failed(self, address: str, user: str, now_s: float) -> None:
        """Note a wrong guess."""
        pair = address, user
        with self._lock:
            self._known.forget(pair)
            strikes = self._users.get(user, _NONE).after_another(now_s)
            self._users.set(user, strikes)
            self._addresses.set(address, self._addresses.get(address, _NONE).after_another(now_s))
            self._due.set(pair, now_s + strikes.delay_s(now_s))

    def succeeded(self, address: str, user: str) -> None:
        """Note a right login. It forgives nothing, or one's own account would pay for guesses at others."""
        with self._lock:
            self._known.set((address, user), value=True)
            self._due.forget((address, user))


class Door:
    """What a node grants its peers before and after they have logged in. Thread-safe.

    ``addresses``: connections by address. ``users``: those logged in, by user. ``guests``: connections that
    are too many and are let in only to be told so. ``unsent``: bytes of replies that peers do not read, by
    user.
    """

    def __init__(
        self,
        *,
        connection_count_max: int = limits.CONNECTION_COUNT_MAX,
        address_share_max: int = limits.CONNECTION_COUNT_MAX,
        user_share_max: int = limits.CONNECTION_COUNT_MAX,
    ) -> None:
        self.addresses: Final = Tally[str](connection_count_max, address_share_max)
        self.users: Final = Tally[str](share_max=user_share_max)
        self.guests: Final = Tally[str](limits.GUEST_COUNT_MAX, limits.GUEST_COUNT_MAX // 2)
        self.unsent: Final = Tally[str](limits.UNSENT_SIZE_MAX, limits.UNSENT_SHARE_MAX)
        self.guesses: Final = Guesses()

    def require_patience(self, address: str, user: str, now_s: float) -> None:
        """Let a login be tried. Raises: BusyError: too many failed; it says how long to wait."""
        wait_s = math.ceil(self.guesses.wait_s(address, user, now_s))
        if wait_s:
            raise BusyError(
                f"too many failed logins; the next one is tried in {wait_s} s",
                kept="Nothing is locked.",
                next_step=f"Wait {wait_s} s, then run it again.",
            )

    def seat(self, user: str) -> None:
        """Count a connection of a user who has logged in. Raises: BusyError: there are too many."""
        if not self.users.take(user):
            raise BusyError(
                f"{user} has too many connections here",
                next_step="End other commands of this user, or raise max_connections_per_user of the node.",
            )


def address_of(peer: str) -> str:
    """Return by what a peer is counted: its address without the port, of IPv6 the first 64 bits."""
    name = peer.rpartition(":")[0].strip("[]")
    if ":" not in name:
        return name
    import ipaddress  # only for a client with IPv6

    with suppress(ValueError):
        address = ipaddress.IPv6Address(name)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return name
