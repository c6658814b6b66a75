"""Memory is bounded: 2 GiB in and out within 192 MiB of client and nodes each; of a long list a client keeps
little for each name, and a node a page.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SIZE = 2 * 1024 * 1024 * 1024
BOUND_KIB = 192 * 1024
NAME_COUNT = 5000
NAME_KIB = 2  # of a client for each name of a listing: 100,000 of them within 256 MiB
PAGE_KIB = 8 * 1024  # and for what is under way, whatever the length
NODE_KIB = 16 * 1024  # of a node for the page it tells
MEASURE = (
    "import os, resource, sys; status = os.spawnv(os.P_WAIT, sys.argv[1], sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
)


def _measured(cluster: Any, *arguments: str, conf: Path | None = None) -> int:
    """Run a command and return its peak resident size in KiB."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, *cluster.command(*arguments, conf=conf)],
        stdout=subprocess.PIPE,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=280,
        check=True,
        text=True,
    )
    return int(ended.stdout.splitlines()[-1])


def _with_key_file(cluster: Any) -> Path:
    """Return a conf with a key file: to derive keys from a password takes 64 MiB by itself."""
    folder: Path = cluster.folder
    key, conf = folder / "key", folder / "keyed.toml"
    cluster.dfs("key", "new", str(key))
    cluster.dfs("passwd", "--new-key-file", str(key))
    nodes = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    conf.write_text(f'format = 1\nuser = "Alice"\nkey_file = "{key}"\n{nodes}')
    return conf


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


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_long_list_in_bounded_memory(cluster: Any, record_property: Any) -> None:
    source = cluster.folder / "many"
    source.mkdir()
    for index in range(NAME_COUNT):  # each lies in its entry, and is listed without it
        (source / f"{index:06}").write_bytes(os.urandom(512))
    cluster.dfs("put", "-r", str(source))
    conf = _with_key_file(cluster)
    few_kib = _measured(cluster, "ls", conf=conf)
    before = [_peak_kib(node.pid) for node in cluster.nodes]
    many_kib = _measured(cluster, "ls", "many", conf=conf)
    grown = [_peak_kib(node.pid) - peak for node, peak in zip(cluster.nodes, before, strict=True)]
    record_property("peaks_kib", str((few_kib, many_kib, grown)))
    assert cluster.dfs("ls", "many", conf=conf).stdout.count(b"\n") == NAME_COUNT
    assert many_kib - few_kib <= NAME_COUNT * NAME_KIB + PAGE_KIB, (few_kib, many_kib)
    assert max(grown) <= NODE_KIB, grown
