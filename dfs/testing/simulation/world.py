"""Virtual time: events in order, drawn chance, clocks that differ, and a trace of it all."""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b

from attrs import define, field

from dfs.testing.simulation.plan import Plan

Happening = Callable[[], None]


@define(eq=False)
class Clock:
    """What one process takes for the time (interface.Env): its clocks drift and start anywhere."""

    world: "World"
    entropy: random.Random
    rate: float = 1.0
    start_s: float = 0.0
    wall_offset_s: float = 0.0

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back."""
        return self.start_s + self.world.now_s * self.rate

    def wall_s(self) -> float:
        """Seconds since 1970, or what this process takes for it."""
        return self.world.now_s * self.rate + self.wall_offset_s

    def drift(self, rate: float) -> None:
        """Run at another rate from now on."""
        self.start_s += self.world.now_s * (self.rate - rate)
        self.rate = rate

    def random_bytes(self, size: int) -> bytes:
        """Bytes that are as good as random, and the same in every run of the seed."""
        return self.entropy.randbytes(size)


@define(eq=False)
class World:
    """Time and chance of one run. ``violations``: what must not happen and did."""

    seed: int
    plan: Plan
    tell: Callable[[str], None] | None = None
    now_s: float = 0.0
    step: int = 0
    draw: random.Random = field(init=False)
    violations: list[str] = field(factory=list)
    faults: Counter[str] = field(factory=Counter)
    reached: Counter[str] = field(factory=Counter)
    _events: list[tuple[float, int, Happening]] = field(factory=list)
    _count: int = 0
    _trace: "blake2b" = field(factory=lambda: blake2b(digest_size=16))

    def __attrs_post_init__(self) -> None:
        self.draw = random.Random(f"world {self.seed}")

    def clock(self, name: str) -> Clock:
        """Return the clock of a process that starts now."""
        entropy = random.Random(f"{name} {self.seed} {self.step}")
        if not self.plan.skew:
            return Clock(self, entropy)
        draw = self.draw
        return Clock(self, entropy, draw.uniform(0.9, 1.1), draw.uniform(0, 1e6), draw.uniform(-1e9, 1e9))

    def later(self, delay_s: float, happen: Happening) -> None:
        """Let something happen after a delay."""
        self._count += 1
        heapq.heappush(self._events, (self.now_s + delay_s, self._count, happen))

    def tick(self) -> bool:
        """Let the next thing happen; False when nothing is left to come."""
        if not self._events:
            return False
        self.step += 1
        due_s, _, happen = heapq.heappop(self._events)
        self.now_s = max(self.now_s, due_s)
        happen()
        return True

    def note(self, text: Callable[[], str], *parts: bytes) -> None:
        """Add an event to the trace: ``parts`` to its hash, ``text`` for those who read it."""
        self._trace.update(b"%d %.9f " % (self.step, self.now_s))
        for part in parts:
            self._trace.update(part)
        if self.tell is not None:
            self.tell(f"{self.step:6d} {self.now_s:10.4f}  {text()}")

    def fault(self, kind: str, text: str) -> None:
        """Count a fault that happens now."""
        self.faults[kind] += 1
        self.note(lambda: f"!! {kind}: {text}", kind.encode(), text.encode())

    def violate(self, text: str) -> None:
        """Note what must never happen."""
        if text not in self.violations:
            self.violations.append(text)
            self.note(lambda: f"VIOLATION {text}", text.encode())

    @property
    def trace_hash(self) -> str:
        """The hash of everything noted so far."""
        return self._trace.copy().hexdigest()
