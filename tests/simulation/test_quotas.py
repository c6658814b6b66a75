"""Quotas that close and open while users write and nodes fall: nothing is lost, and sums stay exact."""

from collections import Counter

from dfs.testing.simulation.plan import Plan
from dfs.testing.simulation.run import run_seed

FAULTS = {"quota": 3.0, "crash": 1.0, "cut": 1.0, "client": 1.0, "loss": 0.5, "tidy": 1.0, "scrub": 0.5}
SEED_COUNT = 60


def test_nothing_is_lost_while_quotas_close_and_open() -> None:
    plan = Plan(faults=FAULTS, calm_steps=30.0, operation_count=15, client_count=3)
    faults: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    for seed in range(SEED_COUNT):
        verdict = run_seed(seed, plan)
        assert not verdict.violations, (seed, verdict.violations)
        faults.update(verdict.faults)
        reached.update(verdict.reached)
    assert faults["quota"] > SEED_COUNT
    assert reached["put QuotaError"] > 0
    assert reached["put ok"] > 0
