"""How long dfs takes to start, and what it loads: `--help`, `--version` and the help of each sub-command.

Each stands beside a bare Python. The line of a command names the libraries whose modules it imported and
how many modules there were in all. Whole commands against nodes are in latency.py.

Run: python bench/startup.py [--quick] [--repeat 31]
"""

import re
from collections.abc import Sequence
from statistics import median

import floors
from lines import Report
from rig import DFS, PYTHON, BenchError, Sample, command, environment, main, make_parser, repeats, workshop

IMPORT_LINE = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)
COMMANDS_TITLE = "Commands:"


def sub_commands(environ: dict[str, str]) -> list[str]:
    """Return the names that `dfs --help` lists."""
    shown = command([*DFS, "--help"], environ).output
    _, found, rest = shown.partition(f"{COMMANDS_TITLE}\n")
    names = re.findall(r"^  ([a-z][\w-]*)", rest, re.MULTILINE)
    if not found or not names:
        raise BenchError(f"dfs --help lists no commands: {shown}")
    return names


def modules(words: Sequence[str], environ: dict[str, str]) -> list[str]:
    """Return the modules that a command imports after the interpreter itself has started."""
    told = command([*PYTHON, "-X", "importtime", *words], environ).told
    bare = command([*PYTHON, "-X", "importtime", "-c", "pass"], environ).told
    return sorted(set(IMPORT_LINE.findall(told)) - set(IMPORT_LINE.findall(bare)))


def _run() -> None:
    options = make_parser(__doc__, limit_s=900).parse_args()
    repeat = repeats(options, 5, 31)
    with workshop(options) as folder:
        environ = environment(folder)
        report = Report("startup", options, folder, bare=True)
        starts = floors.bare_start_s(environ, repeat)
        report.add("start", "bare Python", floors.samples(starts), figure="ms")
        floor = ("bare Python", median(starts))
        jobs = [["--help"], ["--version"], *([name, "--help"] for name in sub_commands(environ))]
        for words in jobs:
            samples = []
            for _ in range(repeat + 1):
                ended = command([*DFS, *words], environ)
                samples.append(Sample(ended.wall_s, ended.cpu_s, peak_client_mib=ended.peak_mib))
            loaded = modules([*DFS[1:], *words], environ)
            report.add(
                "start",
                " ".join(["dfs", *words]),
                samples[1:],
                figure="ms",
                floor=floor,
                module_count=len(loaded),
                libraries=libraries(loaded),
                modules=[name for name in loaded if name.startswith("dfs")],
            )
        report.end()


def libraries(names: Sequence[str]) -> list[str]:
    """Return the top-level packages among modules that are neither Python's nor ours."""
    import sys

    tops = {name.partition(".")[0] for name in names}
    return sorted(top for top in tops if top not in sys.stdlib_module_names and top != "dfs")


if __name__ == "__main__":
    main(_run)
