"""What the programs say: one JSON line for each timed operation, at once, and a Markdown table at the end.

The fields of a line are told in docs/performance.md, and so are the bounds in `MUST`.
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import sqlite3
import ssl
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rig import GIB, MIB, OWN_FOLDER, Sample

VERSION = 1
LIBRARIES = (
    "attrs",
    "blake3",
    "click",
    "cryptography",
    "msgpack",
    "pyeclib",
    "pyfastcdc",
    "pyzstd",
    "xxhash",
)
FIGURES = {"mb_s": "MB/s", "files_s": "files/s", "ms": "ms", "s": "s", "mib": "MiB"}
ANY_SIZE = {"wire_bytes", "rss_client_mib", "rss_nodes_mib"}  # bounds that hold for small inputs too
RISING = {"mb_s", "files_s", "ratio"}  # the more the better; of all others less is better

# (program, work, op, transport): what must be met, at 2 of 4; the ratios on any machine, the rest on the
# reference machine. Of figures in ms the ratio is "so many times the floor": there, less is better too.
MUST: Mapping[tuple[str, str, str, str], Mapping[str, float]] = {
    ("large", "W1", "put", "tcp"): {"ratio": 0.30, "mb_s": 300, "cpu_s_per_gib": 2.8},
    ("large", "W1", "put", "tls"): {"ratio": 0.22, "mb_s": 240, "cpu_s_per_gib": 5.2},
    ("large", "W1", "get", "tcp"): {"ratio": 0.50, "mb_s": 1200, "cpu_s_per_gib": 1.1},
    ("large", "W1", "get", "tls"): {"ratio": 0.22, "mb_s": 550, "cpu_s_per_gib": 2.5},
    ("large", "W2", "put", "tcp"): {"mb_s": 300},
    ("large", "W2", "put", "tls"): {"mb_s": 250},
    ("large", "W2", "get", "tls"): {"mb_s": 450},
    ("large", "W4", "get, 1 killed", "tcp"): {"ratio": 0.90},
    ("large", "W4", "get, 1 killed", "tls"): {"ratio": 0.90},
    ("large", "W4", "get, 2 killed", "tcp"): {"ratio": 0.90, "mb_s": 1100},
    ("large", "W4", "get, 2 killed", "tls"): {"ratio": 0.90},
    ("large", "W4", "put, 1 killed", "tcp"): {"ratio": 0.90},
    ("large", "W4", "put, 1 killed", "tls"): {"ratio": 0.90},
    ("large", "W5", "put", "tcp"): {"wire_bytes": 9 * MIB, "median_s": 1.5},
    ("large", "W5", "put", "tls"): {"wire_bytes": 9 * MIB, "median_s": 1.5},
    ("small", "W3", "put -r", "tls"): {"median_s": 0.75},
    ("small", "W3", "ls", "tls"): {"median_s": 0.15},
    ("small", "W3", "get -r", "tls"): {"median_s": 0.70},
    ("small", "W3", "library put, batched", "tcp"): {"ratio": 0.40, "files_s": 4000},
    ("small", "W3", "library put, batched", "tls"): {"ratio": 0.40},
    ("small", "W3", "library get, batched", "tcp"): {"files_s": 4000},
    ("latency", "open", "ping", "tcp"): {"median_s": 60e-6},
    ("latency", "open", "put 4 KiB", "tcp"): {"median_s": 4e-3},
    ("latency", "open", "put 4 KiB", "tls"): {"median_s": 4e-3},
    ("latency", "open", "get 4 KiB", "tcp"): {"median_s": 2e-3},
    ("latency", "open", "get 4 KiB", "tls"): {"median_s": 2e-3},
    ("latency", "open", "ls", "tcp"): {"median_s": 30e-3},
    ("latency", "open", "ls", "tls"): {"median_s": 30e-3},
    ("latency", "W6", "put", "tcp"): {"ratio": 11.5, "median_s": 0.15},
    ("latency", "W6", "put", "tls"): {"median_s": 0.17},
    ("latency", "W6", "get", "tcp"): {"ratio": 11.5, "median_s": 0.15},
    ("latency", "W6", "get", "tls"): {"median_s": 0.17},
    ("latency", "W6", "ls", "tcp"): {"ratio": 11.5, "median_s": 0.15},
    ("latency", "W6", "ls", "tls"): {"median_s": 0.17},
    ("startup", "start", "dfs --help", ""): {"median_s": 0.1},
    ("memory", "client", "put", ""): {"rss_client_mib": 128},
    ("memory", "client", "get", ""): {"rss_client_mib": 128},
    ("memory", "nodes", "8 connections", ""): {"rss_nodes_mib": 128},
}


def machine(folder: Path) -> dict[str, object]:
    """Return what the figures were made on. ``load``: processes that wanted to run at the start."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        mounts = []
    real = folder.resolve()
    fitting = [(len(point), kind) for point, kind in mounts if real.is_relative_to(point)]
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "fs": max(fitting)[1] if fitting else "",
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that does the work."""
    found = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
    }
    for name in ("dfs", *LIBRARIES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit that is measured, with + when files differ from it; "" when git does not know."""
    git = ["git", "-C", str(OWN_FOLDER), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _code_link() -> str:
    """Return over which link the erasure code works here."""
    from dfs.core.api import CodeOptions, Geometry
    from dfs.core.registry import Registry
    from dfs.plugins import BUILTIN

    plugin = Registry(BUILTIN).get("dfs_codes", "reed-solomon").plugin
    return str(getattr(plugin.make(CodeOptions(geometry=Geometry(2, 4))), "link", ""))


def median(values: Sequence[float | None]) -> float | None:
    """Return the median; None when a value is not known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return what a distribution is told by, in seconds."""
    ordered = sorted(values)
    return {
        "min_s": significant(ordered[0]),
        "p99_s": significant(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]),
        "max_s": significant(ordered[-1]),
    }


def significant(value: float) -> float:
    """Return a figure with four digits that mean something."""
    return float(f"{value:.4g}")


class Report:
    """Collects the lines of one run of a program. ``bare``: dfs has no part in it."""

    def __init__(
        self, program: str, options: argparse.Namespace, folder: Path, *, bare: bool = False
    ) -> None:
        needed, total = options.geometry
        self._program = program
        self._out: Path | None = options.out
        self._transport: str = options.transport
        self._quick: bool = options.quick
        self._lines: list[dict[str, object]] = []
        self._facts = {"machine": machine(folder), "versions": versions(), "commit": commit()}
        self._variant: dict[str, object] = {}
        if not bare:
            self._variant = {
                "transport": options.transport,
                "geometry": f"{needed},{total}",
                "chunk": 4 * MIB,
                "cipher": "aes-gcm",
                "compressor": "zstd",
                "level": 1,
                "code": "reed-solomon",
                "code_link": _code_link(),
                "durable": True,
                "pages": "warm",
            }

    def add(
        self,
        work: str,
        op: str,
        samples: Sequence[Sample],
        *,
        figure: str = "mb_s",
        size: int = 0,
        files: int = 0,
        floor: tuple[str, float] | None = None,
        variant: Mapping[str, object] | None = None,
        **more: object,
    ) -> None:
        """Print and keep the line of an operation.

        ``figure``: what is compared with the floor: mb_s and files_s (ratio = how much of the floor's
        speed), ms and s (ratio = how many times the floor's time). ``floor``: its name and seconds for the
        same work.
        """
        line: dict[str, object] = {
            "v": VERSION,
            "program": self._program,
            "work": work,
            "op": op,
            "figure": figure,
            "quick": self._quick,
            "variant": {**self._variant, **(variant or {})},
            "bytes": size,
            "files": files,
            **_of_samples(samples),
            **_of_amounts(samples, figure, size, files),
            "at_rest_bytes": None,
            "floor": None,
            "ratio": None,
            "check": "ok",
            **more,
            **self._facts,
            "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        if floor is not None:
            name, floor_s = floor
            middle_s = statistics.median(sample.wall_s for sample in samples)
            amount = {"mb_s": size / 1e6, "files_s": files}.get(figure, 0)
            speed = {figure: significant(amount / floor_s)} if amount else {}
            line["floor"] = {"name": name, "median_s": significant(floor_s), **speed}
            line["ratio"] = significant(floor_s / middle_s if figure in RISING else middle_s / floor_s)
        self._lines.append(line)
        text = json.dumps(line)
        print(text, flush=True)
        if self._out is not None:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            with self._out.open("a") as file:
                file.write(f"{text}\n")

    def end(self) -> None:
        """Print the table."""
        print(f"\n{table(self._lines)}", flush=True)


def _of_samples(samples: Sequence[Sample]) -> dict[str, object]:
    """Return the fields that follow from the samples alone."""
    wall_s = [sample.wall_s for sample in samples]

    def middle(name: str) -> float | None:
        return median([getattr(sample, name) for sample in samples])

    def count(name: str) -> int | None:
        return None if (value := middle(name)) is None else round(value)

    client_peaks = [sample.peak_client_mib for sample in samples if sample.peak_client_mib is not None]
    peaks = [max(sample.peak_nodes_mib) for sample in samples if sample.peak_nodes_mib]
    return {
        "wall_s": [significant(each) for each in wall_s],
        **spread(wall_s),
        "median_s": significant(statistics.median(wall_s)),
        **{name: _rounded(middle(name)) for name in ("cpu_client_s", "cpu_nodes_s")},
        "rss_client_mib": _rounded(max(client_peaks, default=None)),
        "rss_nodes_mib": _rounded(max(peaks, default=None)),
        "wire_bytes": count("wire_size"),
        "loopback_bytes": count("loopback_size"),
        "requests": count("request_count"),
        "sync_after_s": _rounded(middle("sync_s")),
    }


def _of_amounts(samples: Sequence[Sample], figure: str, size: int, files: int) -> dict[str, object]:
    """Return speeds, and CPU time for the amount that the figure counts."""
    middle_s = statistics.median(sample.wall_s for sample in samples)
    parts = [
        median([getattr(sample, name) for sample in samples]) for name in ("cpu_client_s", "cpu_nodes_s")
    ]
    known = [part for part in parts if part is not None]
    cpu_s = sum(known) if len(known) == len(parts) else None
    of_size, of_files = figure == "mb_s" and size, figure == "files_s" and files
    return {
        "mb_s": significant(size / 1e6 / middle_s) if size and middle_s else None,
        "files_s": significant(files / middle_s) if files and middle_s else None,
        "cpu_s_per_gib": significant(cpu_s * GIB / size) if cpu_s is not None and of_size else None,
        "cpu_us_per_file": significant(cpu_s * 1e6 / files) if cpu_s is not None and of_files else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else significant(value)


def must_of(line: Mapping[str, object]) -> Mapping[str, float]:
    """Return the bounds of a line; none at another geometry than 2 of 4, of a quick run those of any size."""
    variant = line["variant"]
    assert isinstance(variant, dict)
    if variant.get("geometry") not in {None, "2,4"} or variant.get("pages") == "cold":
        return {}
    program, work, op = (str(line[name]) for name in ("program", "work", "op"))
    transport = str(variant.get("transport", ""))
    must = MUST.get((program, work, op, transport)) or MUST.get((program, work, op, "")) or {}
    return {name: bound for name, bound in must.items() if name in ANY_SIZE or not line["quick"]}


def verdict(line: Mapping[str, object]) -> str:
    """Return what is not met, "met" when all is, or "" when nothing is asked."""
    must = must_of(line)
    missed = []
    for name, bound in must.items():
        value = line.get(name)
        if not isinstance(value, int | float):
            continue
        rising = name in RISING and not (name == "ratio" and line["figure"] not in RISING)
        if (value < bound) if rising else (value > bound):
            missed.append(f"{name} {'<' if rising else '>'} {bound:g}")
    return ", ".join(missed) or ("met" if must else "")


def _shown(line: Mapping[str, object], name: str) -> str:
    value = line[name]
    assert isinstance(value, int | float)
    return f"{value * 1000:.3g} ms" if line["figure"] == "ms" else f"{value:.3g} s"


def _speed(line: Mapping[str, object]) -> str:
    name = str(line["figure"])
    return f"{line[name]:.4g} {FIGURES[name]}" if line.get(name) is not None else ""


def _mb(size: object) -> str:
    return f"{size / 1e6:.4g}" if isinstance(size, int | float) else ""


def _floor(line: Mapping[str, object]) -> str:
    floor = line.get("floor")
    if not isinstance(floor, dict):
        return ""
    of_floor = {**line, **floor}
    shown = _speed(of_floor) if line["figure"] in floor else _shown(of_floor, "median_s")
    return f"{floor['name']}: {shown}"


CELLS: Sequence[tuple[str, Callable[[Mapping[str, object]], object]]] = (
    ("work", lambda line: line["work"]),
    ("operation", lambda line: line["op"]),
    ("median", lambda line: _shown(line, "median_s")),
    ("min", lambda line: _shown(line, "min_s")),
    ("max", lambda line: _shown(line, "max_s")),
    ("speed", _speed),
    ("CPU client s", lambda line: line.get("cpu_client_s")),
    ("CPU nodes s", lambda line: line.get("cpu_nodes_s")),
    ("CPU s/GiB", lambda line: line.get("cpu_s_per_gib")),
    ("CPU µs/file", lambda line: line.get("cpu_us_per_file")),
    ("RSS client MiB", lambda line: line.get("rss_client_mib")),
    ("RSS node MiB", lambda line: line.get("rss_nodes_mib")),
    ("wire MB", lambda line: _mb(line.get("wire_bytes"))),
    ("at rest MB", lambda line: _mb(line.get("at_rest_bytes"))),
    ("sync s", lambda line: line.get("sync_after_s")),
    ("requests/file", lambda line: line.get("requests_per_file")),
    ("all nodes MiB", lambda line: line.get("rss_all_nodes_mib")),
    ("allocated MB", lambda line: _mb(line.get("peak_allocated_bytes"))),
    ("stall ms", lambda line: line.get("stall_ms")),
    ("modules", lambda line: line.get("module_count")),
    ("floor", _floor),
    ("ratio", lambda line: line.get("ratio")),
    ("bounds", verdict),
)


def table(lines: Sequence[Mapping[str, object]]) -> str:
    """Return a Markdown table of those columns in which anything stands."""
    rows = [["" if (value := cell(line)) is None else str(value) for _, cell in CELLS] for line in lines]
    used = [index for index in range(len(CELLS)) if any(row[index] for row in rows)]
    head = [CELLS[index][0] for index in used]
    texts = [head, ["---"] * len(head), *([row[index] for index in used] for row in rows)]
    return "\n".join(f"| {' | '.join(text)} |" for text in texts)
