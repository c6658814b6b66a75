"""The rules of the protocol broken one by one: the simulator must notice each, which proves its teeth.

``python -m tests.simulation.mutants [--only M7,M13] [--minutes 10] [--seed N]`` runs each mutant on fresh
seeds until a violation appears; then the right code on at least as many seeds of the same plan, which must
stay clean. It prints a table, and ends with 1 if a mutant survives or the right code is not clean.
"""

import argparse
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import count, takewhile
from typing import Final

from attrs import frozen

from dfs.testing.simulator import run_seed
from tests.simulation.mutants_patching import applied
from tests.simulation.mutants_table import MUTANTS, Mutant

SLIP: Final = re.compile(r"(Type|Attribute|Name|Key|Index|Value|Assertion)Error\(")  # told by run_seed
CLEAN_COUNT_MIN: Final = 50  # seeds that the right code runs at least


@frozen
class Hunt:
    """What came of running seeds. ``violation``: the first, of ``seed``; empty when all stayed clean."""

    seed_count: int
    seed: int
    violation: str = ""


def hunt(mutant: Mutant, seeds: Iterable[int], *, broken: bool) -> Hunt:
    """Run seeds of a mutant's plan until a violation appears, with the mutant or (not ``broken``) without.

    Fails when the mutant was not met on any of them: such a run proves nothing.
    """
    patches = [*mutant.setting(), *(mutant.patches() if broken else ())]
    seed_count = seed = 0
    with applied(patches) as reached:
        for seed in seeds:
            seed_count += 1
            violations = [told for told in run_seed(seed, mutant.plan).violations if mutant.told in told]
            if violations:
                assert not SLIP.match(violations[0]), f"{mutant.name} does not fit the code: {violations[0]}"
                return Hunt(seed_count, seed, violations[0])
    unmet = [patch.title for patch in patches if not reached[patch.title]]
    assert not unmet or not seed_count, f"{mutant.name} never met {', '.join(unmet)}"
    return Hunt(seed_count, seed)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - a program


def main(arguments: Sequence[str]) -> int:
    """Run the mutants that were asked for and print what came of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--only", default="", help="names of mutants, separated by commas")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for each to be caught")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; fresh when it is left out")
    options = parser.parse_args(arguments)
    first = secrets.randbelow(1 << 40) if options.seed is None else options.seed
    wanted = set(filter(None, options.only.split(",")))
    chosen = [mutant for mutant in MUTANTS if not wanted or {mutant.name, mutant.number} & wanted]
    say(f"first seed {first}; what stands behind a mutant is the violation it was caught by")
    say(f"{'mutant':7} {'rule that is broken':58} {'caught':6} {'seeds':>6} {'s':>6} {'clean':>6}  violation")
    failures = [mutant.name for mutant in chosen if not judge(mutant, first, options.minutes * 60)]
    say(f"{len(chosen) - len(failures)} of {len(chosen)} mutants caught, {sorted(failures) or 'none'} not")
    return 1 if failures or not chosen else 0


def judge(mutant: Mutant, first: int, limit_s: float) -> bool:
    """Hunt one mutant, then the right code on the same seeds; print a line and return whether all is well."""
    started_s = time.monotonic()
    in_time = takewhile(lambda _seed: time.monotonic() < started_s + limit_s, count(first))
    found = hunt(mutant, in_time, broken=True)
    elapsed_s = time.monotonic() - started_s
    clean = hunt(mutant, range(first, first + max(CLEAN_COUNT_MIN, found.seed_count)), broken=False)
    stain = f"  RIGHT CODE, seed {clean.seed}: {clean.violation}" if clean.violation else ""
    say(
        f"{mutant.name:7} {mutant.rule:58} {'yes' if found.violation else 'NO':6} {found.seed_count:6}"
        f" {elapsed_s:6.1f} {clean.seed_count:6}  {found.violation[:110]}{stain}"
    )
    return bool(found.violation) and not clean.violation


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
