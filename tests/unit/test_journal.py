"""What `--log-json` writes: lines that programs read, of one command or many."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dfs.core.errors import ConfigError
from dfs.core.redaction import conceal
from dfs.journal import Journal


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_what_a_command_says_and_how_it_ends_is_appended(home: Any) -> None:
    log = home.folder / "log"
    home.write("f", os.urandom(9000))
    home.dfs("ls")
    home.kill(1)
    home.dfs("--log-json", "log", "put", "f", status=3)
    home.dfs("get", "missing", "--json", "--log-json", "log", status=4)
    stored, degraded, ended, failed, ended_too = lines(log)
    assert (stored["level"], stored["command"]) == ("info", "put")
    assert stored["text"] == "f  8.8 KiB, 3 of 4 nodes, survives any 1"
    assert (degraded["level"], degraded["code"]) == ("warning", "DFS-E301")
    assert (ended["text"], ended["code"], ended["name"]) == ("ended", 3, "degraded")
    assert [(node["node"], node["down"] is None) for node in ended["nodes"]] == [
        ("A", True),
        ("B", True),
        ("C", True),
        ("D", False),
    ]
    assert ended["nodes"][0]["sent_bytes"] > 4000
    assert (failed["level"], failed["command"], failed["code"]) == ("error", "get", "DFS-E404")
    assert failed["kept"]
    assert ended_too["code"] == 4
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_prompt_writes_it_too(home: Any) -> None:
    home.dfs("--log-json", "log", "client", "--command", "GET missing", status=4)
    home.dfs("--log-json", "log", "client", "--command", "stat missing", status=4)
    found = [(line["command"], line.get("code")) for line in lines(home.folder / "log")]
    assert ("client", "DFS-E404") in found
    assert ("stat", "DFS-E404") in found
    assert ("client", 4) in found


def test_a_file_that_cannot_be_made_is_2_and_nothing_happens(home: Any) -> None:
    home.dfs("--log-json", "no/such/folder", "mkdir", "x", status=2)
    assert home.err.startswith("error: --log-json no/such/folder: No such file or directory")
    assert home.dfs("ls") == []


def test_no_secret_is_written(tmp_path: Path) -> None:
    conceal("grey harbour")
    Journal(str(tmp_path / "log")).line("info", "put", "with grey harbour")
    assert lines(tmp_path / "log")[0]["text"] == "with ***"


def test_when_its_disk_is_full_the_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal("/dev/full")
    journal.line("info", "put", "one")
    journal.line("info", "put", "two")
    assert capsys.readouterr().err == (
        "warning: --log-json /dev/full: No space left on device; it ends here\n"
    )


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        Journal(str(tmp_path))
