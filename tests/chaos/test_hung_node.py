"""One node hangs: what is under way ends, and what comes after costs hardly more than with the node dead.

Times are told as ratios to the healthy run, and bounded by the patience that clients have (limits.PATIENCE_S
and its like), never by the clock of this machine alone.
"""

import random
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from dfs.core.limits import KNOCK_AFTER_S, KNOCK_TIMEOUT_S, PATIENCE_S
from tests.chaos.kit import tally

BIG = random.Random(1).randbytes(24_000_000)
SMALL = random.Random(2).randbytes(40_000)
NOISE_S = 3.0  # of a busy machine


def taken_s(act: Callable[[], object], count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun_s = time.monotonic()
        act()
        times.append(time.monotonic() - begun_s)
    return times


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("big", 1),
        pytest.param("small", 15, marks=pytest.mark.chaos),
        pytest.param("big", 15, marks=pytest.mark.chaos),
    ],
)
def test_a_hung_node_delays_no_more_than_patience(cluster: Any, size: str, count: int) -> None:
    path = str(cluster.file("file", SMALL if size == "small" else BIG))
    body = SMALL if size == "small" else BIG

    def put() -> None:
        assert cluster.dfs("put", path, status=None).returncode in {0, 3}  # 3: one node has not got its share

    def get() -> None:
        assert cluster.got("file") == body

    healthy = {"put": taken_s(put, count), "get": taken_s(get, count)}
    cluster.nodes[1].freeze()
    hung = {"get": taken_s(get, count), "put": taken_s(put, count)}
    cluster.nodes[1].thaw()
    get()
    for what, times in hung.items():
        ratio = statistics.median(times) / statistics.median(healthy[what])
        worst = max(times) / max(healthy[what])
        tally(
            f"hung node, {size} {what}", runs=count, median_ratio=f"{ratio:.2f}", worst_ratio=f"{worst:.2f}"
        )
        assert max(times) < 2 * max(healthy[what]) + PATIENCE_S + NOISE_S


@pytest.mark.chaos
def test_a_node_that_hangs_half_way_is_left_behind(cluster: Any) -> None:
    """A PUT goes on with three nodes, whenever the fourth stops; so does a GET."""
    path = cluster.file("file", BIG)
    begun_s = time.monotonic()
    cluster.dfs("put", str(path))
    healthy_s = time.monotonic() - begun_s
    for part in (0.4, 0.8):
        process = cluster.start("put", str(path), "-y")
        with suppress(subprocess.TimeoutExpired):
            process.wait(part * healthy_s)
        cluster.nodes[2].freeze()
        assert process.wait(2 * healthy_s + KNOCK_AFTER_S + KNOCK_TIMEOUT_S + NOISE_S) in {0, 3}
        assert cluster.got("file") == BIG
        cluster.nodes[2].thaw()
        assert cluster.got("file") == BIG
