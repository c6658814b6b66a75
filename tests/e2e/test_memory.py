"""Memory is bounded, whatever the size of a file: 2 GiB in and out, client and nodes within 192 MiB each."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SIZE = 2 * 1024 * 1024 * 1024
BOUND_KIB = 192 * 1024
MEASURE = (
    "import os, resource, sys; status = os.spawnv(os.P_WAIT, sys.argv[1], sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
)


def _measured(cluster: Any, *arguments: str) -> int:
    """Run a command and return its peak resident size in KiB."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, *cluster.command(*arguments)],
        stdout=subprocess.PIPE,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=280,
        check=True,
        text=True,
    )
    return int(ended.stdout.splitlines()[-1])


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_two_gib_in_bounded_memory(cluster: Any, record_property: Any) -> None:
    path, back = cluster.folder / "huge", cluster.folder / "back"
    block = os.urandom(64 * 1024 * 1024)
    with path.open("wb") as file:
        for index in range(SIZE // len(block)):  # every block differs, so nothing is stored only once
            file.write(index.to_bytes(8, "big") + block[8:-8] + index.to_bytes(8, "big"))
            file.flush()
    with path.open("r+b") as file:
        for offset in range(0, SIZE, 4 * 1024 * 1024):
            file.seek(offset)
            file.write(os.urandom(16))
    peaks = {"put": _measured(cluster, "put", str(path))}
    peaks["get"] = _measured(cluster, "get", "huge", "-o", str(back))
    peaks.update({node.name: _peak_kib(node.pid) for node in cluster.nodes})
    record_property("peaks_kib", str(peaks))
    subprocess.run(["cmp", str(path), str(back)], check=True)
    assert max(peaks.values()) <= BOUND_KIB, peaks
