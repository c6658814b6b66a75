"""The simulator: real operations, wire, nodes and stores over virtual time; one seed decides everything.

``python -m dfs.testing.simulator --seeds A..B [--minutes N] [--jobs N]`` runs seeds and prints what was met;
``--fresh N`` runs N that nobody has run yet. ``--seed X --trace`` replays one with a readable line for every
event. The status is 1 when a seed failed.
"""

import argparse
import multiprocessing
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from attrs import define, field

from dfs.testing.simulation.plan import Plan as Plan, Verdict as Verdict
from dfs.testing.simulation.run import run_seed as run_seed

FRESH_SEED_MAX = 10**12  # fresh seeds begin below
PART_COUNT = 20  # seeds that a process runs before it tells
FAILURE_COUNT_MAX = 20  # failed seeds that are told one by one


@define
class Tally:
    """What many seeds came to."""

    seeds: int = 0
    operations: int = 0
    virtual_s: float = 0.0
    core_s: float = 0.0
    faults: Counter[str] = field(factory=Counter)
    reached: Counter[str] = field(factory=Counter)
    failures: list[Verdict] = field(factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count a seed."""
        self.seeds += 1
        self.operations += verdict.operations
        self.virtual_s += verdict.virtual_s
        self.faults.update(verdict.faults)
        self.reached.update(verdict.reached)
        if verdict.violations:
            self.failures.append(verdict)

    def merge(self, other: "Tally") -> None:
        """Take in what others counted."""
        self.seeds += other.seeds
        self.operations += other.operations
        self.virtual_s += other.virtual_s
        self.core_s += other.core_s
        self.faults.update(other.faults)
        self.reached.update(other.reached)
        self.failures += other.failures

    def lines(self, wall_s: float, *, verbose: bool) -> Iterator[str]:
        """Yield what people should know."""
        yield (
            f"{self.seeds} seeds, {self.operations} operations, {self.virtual_s / 3600:.1f} simulated hours,"
            f" {sum(self.faults.values())} faults, {len(self.failures)} seeds failed"
        )
        yield f"{wall_s:.0f} s, {self.seeds / max(self.core_s, 1e-9):.1f} seeds a second and core"
        yield f"faults: {counted(self.faults)}"
        if verbose:
            yield f"reached: {counted(self.reached)}"


def counted(counter: Counter[str]) -> str:
    """Return what was counted, by name."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


def run_part(seeds: Sequence[int]) -> Tally:
    """Run some seeds."""
    tally = Tally()
    begun_s = time.process_time()
    for seed in seeds:
        tally.add(run_seed(seed))
    tally.core_s = time.process_time() - begun_s
    return tally


def run_seeds(first: int, last: int, *, minutes: float, jobs: int, tell: Callable[[str], None]) -> Tally:
    """Run the seeds first..last, or as many as there is time for."""
    end_s = time.monotonic() + minutes * 60
    told_s = time.monotonic()
    tally = Tally()

    def parts() -> Iterator[range]:
        for start in range(first, last + 1, PART_COUNT):
            if time.monotonic() > end_s:
                return
            yield range(start, min(start + PART_COUNT, last + 1))

    with multiprocessing.get_context("fork").Pool(jobs) if jobs > 1 else _Alone() as crew:
        for part in crew.imap_unordered(run_part, parts()):
            for verdict in part.failures[: max(0, FAILURE_COUNT_MAX - len(tally.failures))]:
                tell(f"seed {verdict.seed}: {'; '.join(verdict.violations)}")
            tally.merge(part)
            if time.monotonic() - told_s > 60:
                told_s = time.monotonic()
                tell(f"... {tally.seeds} seeds, {len(tally.failures)} failed")
    return tally


class _Alone:
    """In the place of a pool: everything in this process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is held."""

    def imap_unordered(
        self, work: Callable[[Sequence[int]], Tally], parts: Iterator[range]
    ) -> Iterator[Tally]:
        """Do one part after the other."""
        return (work(part) for part in parts)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m dfs.testing.simulator", description=__doc__)
    parser.add_argument("--seeds", default="0..1999", help="first and last seed, A..B")
    parser.add_argument("--fresh", type=int, metavar="N", help="run N seeds nobody has run yet")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell every event")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing more after so many minutes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--verbose", action="store_true", help="also tell which paths were taken how often")
    return parser.parse_args(arguments)


def seeds_of(options: argparse.Namespace) -> tuple[int, int]:
    """Return the first and the last seed to run."""
    if options.fresh is not None:
        first = secrets.randbelow(FRESH_SEED_MAX)
        return first, first + options.fresh - 1
    first_text, _, last_text = options.seeds.partition("..")
    return int(first_text), int(last_text or first_text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run seeds and tell what came of them; returns 1 when one failed."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.seed is not None:
        verdict = run_seed(options.seed, trace=print if options.trace else None)
        for violation in verdict.violations:
            print(f"seed {verdict.seed}: {violation}")
        print(f"trace {verdict.trace_hash}, {verdict.operations} operations, {verdict.virtual_s:.1f} s")
        return bool(verdict.violations)
    first, last = seeds_of(options)
    print(f"--seeds {first}..{last}", flush=True)
    begun_s = time.monotonic()
    tally = run_seeds(first, last, minutes=options.minutes, jobs=options.jobs, tell=print)
    for line in tally.lines(time.monotonic() - begun_s, verbose=options.verbose):
        print(line)
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
