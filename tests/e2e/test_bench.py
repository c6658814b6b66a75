"""The programs of bench/ start, understand their options, and give lines that can be compared."""

import importlib.util
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SHARED = {"lines", "plot", "rig", "workers"}
PROGRAMS = sorted(path.stem for path in BENCH.glob("*.py") if path.stem not in SHARED)
COMMON = ["--quick", "--transport", "--geometry", "--repeat", "--out", "--limit"]
FIELDS = {
    *("v", "program", "work", "op", "variant", "bytes", "files", "wall_s", "median_s", "mb_s", "files_s"),
    *("cpu_client_s", "cpu_nodes_s", "cpu_s_per_gib", "rss_client_mib", "rss_nodes_mib", "wire_bytes"),
    *("at_rest_bytes", "sync_after_s", "floor", "ratio", "check", "machine", "versions", "commit", "time"),
}


def run(environment: dict[str, str], name: str, *arguments: str, status: int = 0) -> str:
    ended = subprocess.run(
        [sys.executable, str(BENCH / f"{name}.py"), *arguments],
        capture_output=True,
        env=environment,
        timeout=170,
        check=False,
        text=True,
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout + ended.stderr


def lines_of(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert lines
    assert all(set(line) >= FIELDS and line["check"] == "ok" and min(line["wall_s"]) > 0 for line in lines)
    return lines


def result(program: str, op: str, median_s: float, cpu_s: float) -> str:
    fields = {"v": 1, "program": program, "work": "W1", "op": op, "variant": {}, "bytes": 1, "files": 1}
    return json.dumps({**fields, "median_s": median_s, "cpu_client_s": cpu_s, "cpu_nodes_s": None})


def test_all_programs_are_there() -> None:
    wanted = {
        "inputs",
        "floors",
        "parts",
        "stages",
        "large",
        "small",
        "latency",
        "startup",
        "memory",
        "scale",
    }
    assert set(PROGRAMS) == wanted | {"peers", "compare", "flood"}


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"flood"}))  # it has one node, and its own measure
def test_every_program_has_the_common_options(environment: dict[str, str], name: str) -> None:
    shown = run(environment, name, "--help")
    assert [option for option in COMMON if option not in shown] == []


@pytest.mark.parametrize(
    "bad", [("--geometry", "4,2"), ("--repeat", "0"), ("--transport", "pigeon"), ("--no",)]
)
def test_bad_options_are_refused(environment: dict[str, str], bad: tuple[str, ...]) -> None:
    assert "usage:" in run(environment, "floors", *bad, status=2)


@pytest.mark.timeout(60)
def test_floors_give_a_line_each(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = run(
        environment, "floors", *["--quick", "--size", "1", "--files", "3", "--repeat", "1", "--out"], str(out)
    )
    ops = [line["op"] for line in lines_of(out)]
    assert ops[:3] == ["cp", "append shares, new space", "append shares, reused space"]
    assert {"4 SQLite, 100 a commit", "bare Python", "tcp ping", "tls bulk"} <= set(ops)
    assert "| floor | tls bulk |" in shown


@pytest.mark.long
@pytest.mark.timeout(180)
def test_small_files_are_measured_and_compared(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        environment,
        "small",
        *["--quick", "--files", "3", "--repeat", "1", "--transport", "tcp", "--out"],
        str(out),
    )
    lines = {line["op"]: line for line in lines_of(out)}
    assert {"put -r", "ls", "get -r", "library put, one by one", "library get, batched"} <= set(lines)
    put = lines["put -r"]
    assert put["files"] == 3
    assert put["wire_bytes"] > put["bytes"]
    assert put["at_rest_bytes"] > 2 * put["bytes"]
    assert put["variant"]["transport"] == "tcp"
    assert put["floor"]["name"] == "SQLite, 500 a commit"
    assert put["ratio"] > 0
    shown = run(environment, "compare", str(out), str(out))
    assert shown.count("| noise |") == 2 * len(lines)


def test_a_comparison_tells_noise_from_a_change(environment: dict[str, str], tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text("\n".join(result("large", op, 1.0, 1.0) for op in ("get", "put", "ls")) + "\n")
    changed = [("get", 1.19, 1.09), ("put", 0.7, 0.8), ("ls", 1.3, 1.2)]
    after.write_text("\n".join(result("large", op, wall, cpu) for op, wall, cpu in changed) + "\n")
    rows = run(environment, "compare", str(before), str(after)).splitlines()[2:]
    verdicts = [row.split("|")[-2].strip() for row in rows]
    assert verdicts == ["noise", "noise", "better", "better", "worse", "worse"]


@pytest.mark.parametrize("content", ["", "no lines", '{"v": 2}\n'])
def test_what_is_no_result_is_refused(environment: dict[str, str], tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    told = run(environment, "compare", str(path), str(path), status=1)
    assert told.startswith(f"compare.py: {path}")


def test_a_plot_is_a_picture_with_all_points() -> None:
    spec = importlib.util.spec_from_file_location("bench_plot", BENCH / "plot.py")
    assert spec is not None
    assert spec.loader is not None
    plot: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plot)
    text = plot.svg("a < b", "x", "y", {"put": [(1, 0.5), (1000, 20)], "get": [(10, 3)]})
    picture = ET.fromstring(text)  # noqa: S314 - our own text
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 3
    with pytest.raises(ValueError, match="positive"):
        plot.svg("nothing", "x", "y", {"put": [(0, 1)]})


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("part", ["names", "folders"])
def test_growth_is_drawn(environment: dict[str, str], tmp_path: Path, part: str) -> None:
    plots = tmp_path / "plots"
    small = ["--quick", "--repeat", "1", "--largest", "100", "--transport", "tcp"]
    run(environment, "scale", "--only", part, *small, "--plots", str(plots))
    assert (plots / f"{part}.svg").read_text().startswith("<svg")
