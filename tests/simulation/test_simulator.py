"""The simulator itself: seeds run clean, replay exactly, and its command line tells what it met."""

import subprocess
import sys
from collections import Counter

import pytest

from dfs.testing import simulator
from dfs.testing.simulation.plan import FAULTS, Plan
from dfs.testing.simulator import run_seed

SEEDS = range(30)
FAILED_ONCE = (
    729429081815,  # a half-written value on two nodes and on one known to be rolled back blocked its path
    1001784,  # a writer whose value was completed and removed by others wrote it again
    1003323,  # a node known to be rolled back brought a deleted file back
    1006951,  # with k = n - 1 and a node to be brought up to date only a degraded write decides
    1009302,  # a tombstone that one node had not forgotten kept a node from counting again
    1012919,  # an old copy of a deleted file was a reason to refuse a new one
    11003209,  # a version that had been removed was removed again, with OK, from an old copy
    9002994,  # beside a quarantined node a half-written value was taken for one that may have been forgotten
    4014776,  # two clients removed the same version, and both were told that they had
)


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_run_clean(seed: int) -> None:
    verdict = run_seed(seed)
    assert verdict.violations == ()
    assert verdict.operations > 0


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_seeds_that_failed_once_run_clean(seed: int) -> None:
    assert run_seed(seed).violations == ()


def test_the_same_seed_is_the_same_run() -> None:
    """In this process, whatever ran before, and in another one that orders its sets otherwise."""
    seeds = [3, 8, 17]
    code = f"from dfs.testing.simulator import run_seed\nfor s in {seeds}: print(run_seed(s).trace_hash)"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]
    assert printed[0] == printed[1] == [run_seed(seed).trace_hash for seed in seeds]
    assert len({*printed[0]}) == len(seeds)


def test_a_trace_tells_every_event_and_changes_none() -> None:
    lines: list[str] = []
    assert run_seed(8, trace=lines.append).trace_hash == run_seed(8).trace_hash
    assert any(" -> n1  PREPARE " in line for line in lines)
    assert any(" n1 is up" in line for line in lines)


def test_healers_repair_without_keys() -> None:
    """What they bring back is judged as everything else is, after repairs of the owner too."""
    plan = Plan(node_count=5, needed=2, faults={"replace": 1.0}, calm_steps=10.0, degraded=0.0)
    reached: Counter[str] = Counter()
    for seed in range(0, 30, 3):
        verdict = run_seed(seed, plan)
        assert verdict.violations == ()
        reached.update(verdict.reached)
    assert reached["shares made again without keys"] > 0
    assert reached["nodes that count again without keys"] > 0


def test_a_plan_fixes_what_it_says_and_leaves_the_rest_to_the_seed() -> None:
    plan = Plan(node_count=3, faults={}, loss=0.0, operation_count=7)
    drawn = plan.drawn(5)
    assert (drawn.node_count, drawn.faults, drawn.operation_count) == (3, {}, 7)
    assert None not in (drawn.client_count, drawn.weights, drawn.lease_s, drawn.store)
    assert plan.drawn(5) == drawn != plan.drawn(6)
    verdict = run_seed(5, plan)
    assert (verdict.operations, verdict.violations, verdict.faults) == (7, (), {})


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_strikes(kind: str) -> None:
    plan = Plan(node_count=5, needed=2, faults={kind: 1.0}, calm_steps=10.0, store="volumes", degraded=0.0)
    struck: set[str] = set()
    for seed in range(8):
        verdict = run_seed(seed, plan)
        assert verdict.violations == ()
        struck |= {name.partition(" ")[0] for name in verdict.faults}
        if struck:
            break
    assert struck == {kind}


def test_the_command_line_runs_and_replays(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulator.main(["--seeds", "0..3", "--verbose"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("--seeds 0..3\n4 seeds, ")
    assert "seeds a second and core" in told
    assert "reached: " in told
    assert simulator.main(["--seed", "2", "--trace"]) == 0
    told = capsys.readouterr().out
    assert f"trace {run_seed(2).trace_hash}" in told
    assert "PING" in told


def test_fresh_seeds_are_told_before_they_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulator.main(["--fresh", "2"]) == 0
    first_line, second_line, *_ = capsys.readouterr().out.splitlines()
    assert first_line.startswith("--seeds ")
    assert second_line.startswith("2 seeds, ")


def test_a_failing_seed_fails_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = simulator.Verdict(7, ("a file is lost",), "00", 1, 1.0, {"crash": 2}, {})
    monkeypatch.setattr(simulator, "run_seed", lambda *_seed, **_trace: broken)
    assert simulator.main(["--seeds", "7..7"]) == 1
    assert simulator.main(["--seed", "7"]) == 1
    assert capsys.readouterr().out.count("seed 7: a file is lost") == 2
