"""What a person sees on narrow and wide terminals, and where the locale knows no UTF-8."""

import json
import os
import re
from pathlib import Path

import pexpect
import pytest

from tests.e2e.conftest import Cluster, MakeCluster

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NAME = "a name that is longer than forty columns of a terminal.txt"


@pytest.fixture
def full(cluster: Cluster) -> Cluster:
    cluster.file(NAME, os.urandom(5000))
    cluster.file("r\u00e9sum\u00e9 \u65e5\u672c.pdf", b"figures")
    cluster.dfs("put", *map(str, (cluster.folder / "local").iterdir()))
    return cluster


def shown(cluster: Cluster, *words: str, width: int, **variables: str) -> str:
    command, *arguments = cluster.command(*words)
    child = pexpect.spawn(
        command,
        arguments,
        env={**cluster.environment, "TERM": "xterm", **variables},
        cwd=str(cluster.folder),
        encoding="utf-8",
        timeout=60,
        dimensions=(24, width),
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    return str(child.before)


@pytest.mark.parametrize("width", [40, 200])
def test_names_are_whole_on_every_terminal(full: Cluster, width: int) -> None:
    for words in (("ls",), ("ls", "-l"), ("tree",), ("find",), ("map",), ("du", NAME), ("stat", NAME)):
        assert NAME in shown(full, *words, width=width).replace("\r\n", "\n")


@pytest.mark.parametrize("width", [40, 200])
def test_a_bar_fits_every_terminal(full: Cluster, width: int) -> None:
    path: Path = full.file("large", os.urandom(4 << 20))
    text = shown(full, "--limit-up", "4 MiB/s", "put", str(path), width=width)
    lines = [ESCAPES.sub("", line) for line in re.split(r"[\r\n]+", text)]
    bars = [line for line in lines if "MiB/s" in line]
    assert bars
    assert max(map(len, bars)) <= width
    assert "large  4.0 MiB, 4 of 4 nodes, survives any 2" in lines


@pytest.mark.long
def test_ten_thousand_files_are_listed_whole_and_in_order(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    names = sorted(f"file number {number:05} of many" for number in range(10_000))
    for name in names:
        cluster.file(f"many/{name}", b"")
    cluster.dfs("put", "-q", "-r", str(cluster.folder / "local" / "many"))
    assert cluster.names("many") == names
    for width in (40, 200):
        shown_names = shown(cluster, "ls", "many", width=width).splitlines()
        assert shown_names == names
    rows = cluster.names("-l", "many")
    assert [row.partition("  file ")[2] for row in rows[1:-1]] == [name[5:] for name in names]
    assert rows[-1] == "10000 files, 0 B."
    told = json.loads(cluster.dfs("--json", "ls", "many").stdout)
    assert [entry["path"] for entry in told["data"]["entries"]] == [f"many/{name}" for name in names]
    lines = cluster.dfs("--json-lines", "ls", "many").stdout.splitlines()
    assert len(lines) == 10_001


def test_a_locale_without_utf_8_shows_what_it_can(full: Cluster) -> None:
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    text = shown(full, "ls", width=80, **plain)
    assert r"r\xe9sum\xe9 \u65e5\u672c.pdf" in text
    assert text.isascii()
    assert shown(full, "ls", "-l", width=80, **plain).isascii()
    assert shown(full, "tree", width=80, **plain).isascii()
