"""Large files: put, put again and get of random bytes, beside what the disk does with the same bytes in the
same run.

Run: python bench/large.py [--quick] [--transport tls|tcp] [--size MIB] [--repeat N]. Client and four nodes
share this machine; 2 of 4, AES-GCM, durable before acknowledged. Prints one JSON line a figure, then a table;
a mismatch fails.
"""

import argparse
import filecmp
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from startup import DFS, nodes

MIB = 1024 * 1024


def cpu_s() -> float:
    """Return CPU seconds of the children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return (wall seconds, CPU seconds) of one command."""
    cpu_before_s, started_s = cpu_s(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, check=True)
    return time.perf_counter() - started_s, cpu_s() - cpu_before_s


def floor_put(folder: Path, size: int) -> float:
    """Return seconds that four processes take to write the same share bytes, synced every 32 MiB and at the
    end.
    """
    writer = (
        "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); b = os.urandom(2 << 20)\n"
        "for i in range(int(sys.argv[2])):\n os.write(f, b)\n if i % 16 == 15: os.fdatasync(f)\n"
        "os.fdatasync(f)"
    )
    count = str(max(1, size // 2 // (2 * MIB)))
    for attempt in range(2):  # the first one makes the pages warm
        started_s = time.perf_counter()
        writers = [
            subprocess.Popen([sys.executable, "-c", writer, str(folder / f"floor{number}"), count])
            for number in range(4)
        ]
        for each in writers:
            each.wait()
        floor_s = time.perf_counter() - started_s
        for number in range(4):
            (folder / f"floor{number}").unlink()
        if attempt:
            return floor_s
    raise AssertionError


def floor_get(source: Path) -> float:
    """Return seconds of a plain copy to a new file, warm."""
    target = source.with_suffix(".copy")
    for _ in range(2):
        started_s = time.perf_counter()
        subprocess.run(["cp", str(source), str(target)], check=True)
        floor_s = time.perf_counter() - started_s
        target.unlink()
    return floor_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--transport", choices=["tls", "tcp"], default="tls")
    parser.add_argument("--size", type=int, default=0, help="MiB")
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--out")
    options = parser.parse_args()
    size = (options.size or (128 if options.quick else 1024)) * MIB
    repeat = options.repeat or (2 if options.quick else 5)
    rows: dict[str, list[tuple[float, float]]] = {"put": [], "put again": [], "get": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        source, back = folder / "source", folder / "back"
        floors = {"put": floor_put(folder, size)}
        with source.open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
        floors["get"] = floors["put again"] = floor_get(source)
        with nodes(folder, options.transport, environment) as conf:
            client = [*DFS, "--conf", str(conf), "--transport", options.transport]
            for turn in range(repeat + 1):
                with source.open("r+b") as file:  # new bytes in every chunk, so that nothing is there already
                    for offset in range(0, size, 4 * MIB):
                        file.seek(offset)
                        file.write(os.urandom(16))
                figures = {
                    "put": run([*client, "put", str(source), "--to", "big"], environment),
                    "put again": run([*client, "put", str(source), "--to", "big"], environment),
                    "get": run([*client, "get", "big", "-o", str(back)], environment),
                }
                if not filecmp.cmp(source, back, shallow=False):
                    raise SystemExit("the bytes that came back differ")
                back.unlink()
                for op, figure in figures.items():
                    if turn:  # the first turn warms up
                        rows[op].append(figure)
        shutil.rmtree(folder / "state", ignore_errors=True)
    report(rows, floors, size, options.transport, options.out)


def report(
    rows: dict[str, list[tuple[float, float]]],
    floors: dict[str, float],
    size: int,
    transport: str,
    out: str | None,
) -> None:
    """Print one JSON line an operation, then a table."""
    lines = []
    table = [f"| {transport} | MB/s | client CPU-s/GiB | floor MB/s | ratio |", "|---|---|---|---|---|"]
    for op, figures in rows.items():
        wall_s = statistics.median(wall for wall, _ in figures)
        client_cpu_s = statistics.median(cpu for _, cpu in figures) * 1024 * MIB / size
        speed, floor = size / 1e6 / wall_s, size / 1e6 / floors[op]
        fields = {"v": 1, "program": "large", "work": "W1", "op": op, "variant": {"transport": transport}}
        fields |= {"bytes": size, "wall_s": [round(wall, 3) for wall, _ in figures], "mb_s": round(speed, 1)}
        fields |= {"cpu_client_s_per_gib": round(client_cpu_s, 2), "floor_mb_s": round(floor, 1)}
        lines.append(json.dumps({**fields, "ratio": round(speed / floor, 3), "check": "ok"}))
        table.append(f"| {op} | {speed:.0f} | {client_cpu_s:.2f} | {floor:.0f} | {speed / floor:.2f} |")
    print(*lines, "", *table, sep="\n")
    if out:
        with Path(out).open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
