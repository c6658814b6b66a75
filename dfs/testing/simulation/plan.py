"""What one run does, and what came of it. What a plan leaves open is drawn from the seed."""

import random
from collections.abc import Mapping
from typing import Any, Final

from attrs import fields, frozen

from dfs.core.records import evolve

WISHES: Final[Mapping[str, float]] = {
    "put": 5.0,
    "absent": 1.5,  # put --if-absent
    "version": 2.0,  # put --if-version
    "get": 6.0,
    "rm": 2.0,
    "list": 2.0,
    "mkdir": 0.5,
    "rmdir": 0.5,
}
UPKEEP: Final[Mapping[str, float]] = {"rename": 1.0, "repair": 0.5, "check": 0.5}
FAULTS: Final = (
    "loss",
    "partition",
    "crash",
    "cut",
    "freeze",
    "slow",
    "client",
    "full",
    "sync",
    "write",
    "commit",
    "rot",
    "rollback",
    "tidy",
    "scrub",
    "replace",
    "skew",
)

# Beside these, "quota" comes where a plan asks for it.
RARITY: Final = {"rot": 3.0, "rollback": 3.0}  # these often find nothing to do


@frozen(kw_only=True)
class Plan:
    """What a run does; None is drawn from the seed.

    ``needed``: k of the code. ``group_size``: n, nodes of one directory. ``store``: "volumes" or "memory".
    ``weights``: of wishes, ``faults``: of kinds of trouble (one that is left out never comes),
    ``calm_steps``: mean steps between two of them. ``loss``, ``doubling``, ``tardiness``: how often messages
    are lost, come twice or come late. ``lease_s``: how long pins last. ``small``: bounds of sizes so small
    that few bytes take every path. ``share_inline_size``: larger shares go into volumes. ``skew``: clocks
    differ and drift. ``degraded``: how many writes allow a degraded outcome.
    """

    node_count: int | None = None
    needed: int | None = None
    group_size: int | None = None
    client_count: int | None = None
    operation_count: int | None = None
    path_count: int | None = None
    store: str | None = None
    weights: Mapping[str, float] | None = None
    faults: Mapping[str, float] | None = None
    calm_steps: float | None = None
    loss: float | None = None
    doubling: float | None = None
    tardiness: float | None = None
    lease_s: float | None = None
    small: bool | None = None
    share_inline_size: int | None = None
    skew: bool | None = None
    degraded: float | None = None

    def drawn(self, seed: int) -> "Plan":
        """Return the plan with everything decided."""
        draw = random.Random(f"plan {seed}")
        node_count = self.node_count or draw.choice([1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 7])
        kinds = [kind for kind in FAULTS if draw.random() < 0.4]  # few at a time find more than all at once
        found: dict[str, Any] = {
            "node_count": node_count,
            "needed": max(1, node_count // 2) if draw.random() < 0.8 else draw.randrange(1, node_count + 1),
            "client_count": draw.choice([1, 2, 2, 3, 3, 4]),
            "operation_count": draw.randrange(6, 20),
            "path_count": draw.choice([1, 1, 2, 3, 5]),
            "store": "memory" if draw.random() < 0.15 else "volumes",
            "weights": {wish: weight * draw.choice([0.0, 1.0, 1.0, 3.0]) for wish, weight in WISHES.items()},
            "faults": {kind: draw.choice([1.0, 1.0, 3.0]) * RARITY.get(kind, 1.0) for kind in kinds},
            "calm_steps": draw.choice([30.0, 100.0, 300.0]),
            "loss": draw.choice([0.0, 0.0, 0.02, 0.1]),
            "doubling": draw.choice([0.0, 0.0, 0.05]),
            "tardiness": draw.choice([0.0, 0.01, 0.05]),
            "lease_s": draw.choice([0.05, 1.0, 60.0, 86400.0]),
            "small": draw.random() < 0.9,
            "share_inline_size": draw.choice([0, 0, 100, 65536]),
            "skew": draw.random() < 0.5,
            "degraded": draw.choice([0.0, 0.0, 0.5]),
        }
        if not sum(found["weights"].values()):
            found["weights"] = dict(WISHES)
        draw = random.Random(f"more {seed}")
        found["weights"] |= {wish: weight * draw.choice([0.0, 1.0]) for wish, weight in UPKEEP.items()}
        found["group_size"] = node_count
        if self.node_count is None and self.needed is None and draw.random() < 0.2:
            found["group_size"] = draw.randrange((node_count + 1) // 2, node_count + 1)
            found["needed"] = max(1, found["group_size"] // 2)
        names = {attribute.name for attribute in fields(Plan)}
        return evolve(
            self, **{name: found[name] for name in names & found.keys() if getattr(self, name) is None}
        )


@frozen
class Verdict:
    """What came of one seed. ``faults``: trouble by kind. ``reached``: how often each rare path was met."""

    seed: int
    violations: tuple[str, ...]
    trace_hash: str
    operations: int
    virtual_s: float
    faults: Mapping[str, int]
    reached: Mapping[str, int]
