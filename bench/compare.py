"""Two results beside each other: medians, ratios and spread, and what is only noise.

compare.py BEFORE AFTER            two files of JSON lines, as --out writes them
compare.py --pairs A B -- NAME ... runs a program as A B A B ... in one call, and compares pair by pair

A and B are folders with a package `dfs` in them, or commits of this repository. NAME is a program here,
what follows are its options; each run does one timed repeat. CPU seconds within 10 % and times within 20 %
are called noise. Only pairs of one call may be told apart: between two files the hour counts as well.

Run: python bench/compare.py --pairs main . --repeat 5 -- large --quick
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median

from attrs import frozen

from lines import significant
from rig import OWN_FOLDER, PYTHON, BenchError, main, make_parser, repeats, workshop

NOISE = {"cpu": 0.10, "time": 0.20}
Key = tuple[str, str, str, str]
Line = Mapping[str, object]


@frozen
class Change:
    """One figure of one operation: before, after, and the ratio after/before; below 1 is better."""

    key: Key
    figure: str
    before: float
    after: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What it means."""
        bound = NOISE["cpu" if self.figure == "CPU s" else "time"]
        if abs(self.ratio - 1) <= bound:
            return "noise"
        return "better" if self.ratio < 1 else "worse"


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a file. Raises: BenchError: it has none, or is something else."""
    try:
        lines = [json.loads(text) for text in path.read_text().splitlines() if text.strip()]
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: {error}") from error
    timed: list[Line] = [
        line for line in lines if isinstance(line, dict) and line.get("v") == 1 and "median_s" in line
    ]
    if not timed:
        raise BenchError(f"{path} has no timed operations in it")
    return timed


def key_of(line: Line) -> Key:
    """Return what makes two lines the same operation."""
    variant = json.dumps(line["variant"], sort_keys=True)
    sizes = f"{variant} {line['bytes']} {line['files']}"
    return str(line["program"]), str(line["work"]), str(line["op"]), sizes


def cpu_of(line: Line) -> float | None:
    """Return CPU seconds of client and nodes together, as far as they are known."""
    parts = [line.get(name) for name in ("cpu_client_s", "cpu_nodes_s")]
    known = [part for part in parts if isinstance(part, int | float)]
    return sum(known) if known else None


def by_key(lines: Sequence[Line]) -> dict[Key, list[Line]]:
    """Return the lines of each operation, in order."""
    found: dict[Key, list[Line]] = {}
    for line in lines:
        found.setdefault(key_of(line), []).append(line)
    return found


def compared(before: Sequence[Line], after: Sequence[Line]) -> list[Change]:
    """Return the changes of all operations that both have; the first is paired with the first, and so on."""
    changes = []
    others = by_key(after)
    for key, lines in by_key(before).items():
        pairs = list(zip(lines, others.get(key, []), strict=False))
        for figure in ("time s", "CPU s"):
            values = [(_value(old, figure), _value(new, figure)) for old, new in pairs]
            known = [(old, new) for old, new in values if old and new]
            if known:
                ratios = [new / old for old, new in known]
                middles = (median(old for old, _ in known), median(new for _, new in known))
                changes.append(Change(key, figure, *middles, median(ratios), min(ratios), max(ratios)))
    return changes


def _value(line: Line, figure: str) -> float | None:
    if figure == "CPU s":
        return cpu_of(line)
    value = line["median_s"]
    return float(value) if isinstance(value, int | float) else None


def table(changes: Sequence[Change]) -> str:
    """Return a Markdown table of the changes."""
    rows = ["| operation | figure | before | after | after/before | spread | |", f"{'|---' * 7}|"]
    for change in changes:
        _, work, op, _ = change.key
        figures = [significant(value) for value in (change.before, change.after)]
        spread = f"{change.low:.2f} to {change.high:.2f}"
        rows.append(
            f"| {change.key[0]} {work} {op} | {change.figure} | {figures[0]} | {figures[1]}"
            f" | {change.ratio:.3f} | {spread} | {change.verdict} |"
        )
    return "\n".join(rows)


# --- Pairs --------------------------------------------------------------------------------------------------


@contextmanager
def source_of(name: str, folder: Path) -> Iterator[Path]:
    """Yield a folder with the package: the one of that name, or the files of a commit."""
    if (Path(name) / "dfs/__init__.py").is_file():
        yield Path(name).resolve()
        return
    git = ["git", "-C", str(OWN_FOLDER.parent), "archive", "--format=tar", name, "dfs"]
    ended = subprocess.run(git, capture_output=True, check=False)
    if ended.returncode:
        raise BenchError(f"{name} is neither a folder with dfs in it nor a commit: {ended.stderr.decode()}")
    target = Path(tempfile.mkdtemp(dir=folder))
    with tarfile.open(fileobj=BytesIO(ended.stdout)) as archive:
        archive.extractall(target, filter="data")
    yield target
    shutil.rmtree(target)


def run_once(source: Path, words: Sequence[str], out: Path) -> None:
    """Run a program with the dfs of a folder, one timed repeat, its lines into a file."""
    program = OWN_FOLDER / f"{words[0]}.py"
    if not program.is_file():
        raise BenchError(f"there is no program {words[0]} in {OWN_FOLDER}")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}
    command = [*PYTHON, str(program), *words[1:], "--repeat", "1", "--out", str(out)]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    try:
        status = process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)  # so that it ends its nodes
        process.wait()
        raise
    if status:
        raise BenchError(f"{' '.join(words)} with {source}: status {status}")


def pairs(names: Sequence[str], words: Sequence[str], repeat: int, folder: Path) -> list[list[Line]]:
    """Return the lines of A and of B, run in turn so often."""
    with source_of(names[0], folder) as first, source_of(names[1], folder) as second:
        outs = [folder / "A", folder / "B"]
        for turn in range(repeat):
            for label, source, out in zip("AB", (first, second), outs, strict=True):
                print(f"{turn + 1}/{repeat} {label}: {words[0]} with {source}", file=sys.stderr, flush=True)
                run_once(source, words, out)
        return [read_lines(out) for out in outs]


def _run() -> None:
    parser = make_parser(__doc__, limit_s=4 * 3600)
    parser.add_argument("--pairs", nargs=2, metavar=("A", "B"), help="run a program with these in turn")
    parser.add_argument(
        "words", nargs="+", metavar="FILE|PROGRAM", help="two files, or a program and its options"
    )
    own, rest = _split(sys.argv[1:])
    options = parser.parse_args([*own, *(["--", *rest] if rest else [])])
    with workshop(options) as folder:
        if options.pairs:
            before, after = pairs(options.pairs, options.words, repeats(options, 2, 5), folder)
        elif len(options.words) == 2:
            before, after = (read_lines(Path(word)) for word in options.words)
        else:
            parser.error("two files are compared, or --pairs A B -- PROGRAM is given")
        changes = compared(before, after)
        if not changes:
            raise BenchError("the two have no operation in common")
        if options.out is not None:
            with options.out.open("a") as file:
                file.writelines(f"{json.dumps(_told(change))}\n" for change in changes)
    print(table(changes))


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before and after --."""
    before = list(words)
    if "--" not in before:
        return before, []
    at = before.index("--")
    return before[:at], before[at + 1 :]


def _told(change: Change) -> dict[str, object]:
    program, work, op, _ = change.key
    return {
        "v": 1,
        "program": "compare",
        "of": program,
        "work": work,
        "op": op,
        "figure": change.figure,
        "before": change.before,
        "after": change.after,
        "ratio": significant(change.ratio),
        "spread": [significant(change.low), significant(change.high)],
        "verdict": change.verdict,
    }


if __name__ == "__main__":
    main(_run)
