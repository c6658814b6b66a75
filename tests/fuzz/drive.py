"""Coverage-guided fuzzing: `python -m tests.fuzz.drive TARGET|all --runs N [--seconds S]`.

What reaches something new is gathered in .fuzz/TARGET, what does harm beside it; `--keep COUNT` afterwards
puts the smallest of it into the corpus.
Needs atheris, which is no dependency of the tests: `nox -s fuzz` brings it.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MEMORY_MIB: Final = 512  # of the whole process, interpreter and corpus included
INPUT_SECONDS_MAX: Final = 10
KEPT_SIZE_MAX: Final = 1024
GATHERED: Final = Path(".fuzz")


def fuzz(name: str, runs: int, seconds: int, seed: int) -> bool:
    """Fuzz one target in a process of its own, tell what came of it, and return whether nothing did harm."""
    from tests.fuzz.target import INPUT_SIZE_MAX
    from tests.fuzz.targets import TARGETS

    folder = GATHERED / name
    folder.mkdir(parents=True, exist_ok=True)
    for index, raw in enumerate((*TARGETS[name].seeds(), *TARGETS[name].corpus())):
        (folder / f"seed-{index:03}").write_bytes(raw[:INPUT_SIZE_MAX])
    options = [
        f"-atheris_runs={runs}",
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_SIZE_MAX}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-artifact_prefix={folder}-harm-",
        f"-seed={seed}",
        "-print_final_stats=1",
    ]
    ended = _libfuzzer(name, *options, str(folder))
    runs, speed, memory_mib = figures(ended.stderr)
    _tell(f"{name}: {runs:,} runs, {speed:,} a second, peak RSS {memory_mib} MiB")
    if ended.returncode:
        _tell(f"{ended.stdout[-4000:]}\n{ended.stderr[-2000:]}")
    return not ended.returncode


def figures(told: str) -> tuple[int, int, int]:
    """Return runs, runs a second and peak RSS in MiB, as libFuzzer tells them or atheris, who ends first."""
    stats = {key: int(value) for key, value in re.findall(r"stat::(\w+):\s+(\d+)", told)}
    done = re.search(r"^Done (\d+) (?:runs )?in (\d+) second", told, re.MULTILINE)
    runs, seconds = (int(done[1]), int(done[2])) if done else (0, 0)
    memory_mib = max([0, *map(int, re.findall(r"rss: (\d+)Mb", told))])
    return (
        stats.get("number_of_executed_units", runs),
        stats.get("average_exec_per_sec", runs // max(1, seconds)),
        stats.get("peak_rss_mb", memory_mib),
    )


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _libfuzzer(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.drive", name, "--libfuzzer", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")


def become_libfuzzer(name: str, options: Sequence[str]) -> None:
    """Hand this process over to libFuzzer, which ends it."""
    import atheris

    with atheris.instrument_imports(include=["dfs"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]

    def one(raw: bytes) -> None:
        target.run(raw)

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def keep(name: str, count: int) -> None:
    """Keep some of the inputs that reached something new: small ones, of all sizes."""
    from tests.fuzz.target import CORPUS

    gathered = (path for path in (GATHERED / name).iterdir() if not path.name.startswith("seed-"))
    found = sorted((path.stat().st_size, path.name, path) for path in gathered)
    small = [path for size, _, path in found if size <= KEPT_SIZE_MAX]
    kept = small[:: max(1, -(-len(small) // count))]
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in kept:
        (folder / path.name[:12]).write_bytes(path.read_bytes())
    _tell(f"{name}: kept {len(kept)} inputs")


def main(words: Sequence[str]) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.drive", description=__doc__)
    parser.add_argument("target", help="one of tests/fuzz/targets.py, or all")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0, help="0: no bound")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep", type=int, default=0, metavar="COUNT", help="keep so many instead of fuzzing"
    )
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.libfuzzer:
        become_libfuzzer(options.target, options.libfuzzer)
        return
    from tests.fuzz.targets import TARGETS

    good = True
    for name in TARGETS if options.target == "all" else [options.target]:
        if options.keep:
            keep(name, options.keep)
        else:
            good = fuzz(name, options.runs, options.seconds, options.seed) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
