"""The demonstration: every step told, the truth told, and nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from dfs.core.api import CommandContext, Options
from dfs.plugins import command_demo
from dfs.plugins.command_demo import DemoError, demo

ROOT = Path(__file__).parents[2]


class Context:
    """Keeps what a command prints."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def emit(self, kind: str, values: Mapping[str, object], text: str = "") -> None:
        self.texts.append(text)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the demonstration needs no {name}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demonstration makes its own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def shown(*words: str) -> list[str]:
    context = Context()
    demo.main(list(words), obj=context, standalone_mode=False)
    return context.texts


def processes_in(folder: Path) -> list[int]:
    """Processes whose current folder lies below one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if entry.readlink().is_relative_to(folder):
                found.append(int(entry.parent.name))
        except OSError:
            continue  # it ended, or it is not ours
    return found


@pytest.mark.long
def test_a_file_survives_two_dead_nodes(folder: Path) -> None:
    assert shown() == [
        "1 four nodes in a temporary folder, geometry 2 of 4",
        "2 user and vault made",
        "3 put sample.bin 8.0 MiB: 4 of 4 nodes, survives any 2",
        "4 killed dfs1 and dfs3",
        "5 get sample.bin 8.0 MiB from dfs2, dfs4: identical",
        "6 restarted both, deleted the shares on dfs3",
        "7 repair made 2 shares (read 8.0 MiB, wrote 4.0 MiB)",
        "8 check --read-data: 1 file complete, 0 corrupt",
        "Nothing left behind. To keep it: dfs demo --keep",
    ]
    assert list(folder.iterdir()) == []
    assert processes_in(folder) == []


@pytest.mark.long
def test_it_can_be_kept(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "dfs", "demo", "--nodes", "2", "--keep"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    running = processes_in(tmp_path)
    try:
        (made,) = tmp_path.iterdir()
        assert "\n4 killed dfs1\n" in ended.stdout
        assert f"--conf {made}/client.toml client\n" in ended.stdout
        named = ended.stdout.rpartition("kill ")[2].partition(";")[0]
        assert sorted(map(int, named.split())) == sorted(running)
        assert (made / "password").stat().st_mode & 0o077 == 0
    finally:
        for process in running:
            os.kill(process, signal.SIGKILL)


def test_nodes_that_do_not_start_are_told_with_what_they_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = command_demo._Demo.__init__

    def with_broken_program(self: command_demo._Demo, context: CommandContext, node_count: int) -> None:
        made(self, context, node_count)
        self.program = [sys.executable, "-c", "raise SystemExit('no room')"]

    monkeypatch.setattr(command_demo._Demo, "__init__", with_broken_program)
    with pytest.raises(DemoError, match="dfs1 did not start: no room") as failure:
        shown()
    assert failure.value.exit_code == 6
    assert list(folder.iterdir()) == []


def test_a_command_that_fails_is_told(folder: Path) -> None:
    stage = command_demo._Demo(Context(), 2)
    stage.program = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
    with pytest.raises(DemoError, match="dfs put x ended with status 1: the disk is full"):
        stage.run("put", "x")
    stage.program = [
        *(sys.executable, "-c"),
        """print('{"error": {"what": "no node answers"}}'); raise SystemExit(7)""",
    ]
    with pytest.raises(DemoError, match="ended with status 7: no node answers"):
        stage.run("ls")


@pytest.mark.parametrize("broken", ["get", "check"])
def test_a_lie_is_not_shown_as_success(folder: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = command_demo._Demo(Context(), 2)
    (stage.folder / "sample.bin.back").write_bytes(b"other bytes")
    told = {"files": [{"size": 8, "bytes_by_node": {"dfs1": 8}}], "complete": 0, "corrupt": 1}
    monkeypatch.setattr(stage, "run", lambda *_words: told)
    with pytest.raises(DemoError, match=r"came back different|0 files complete, 1 corrupt, although"):
        stage.get(b"the bytes") if broken == "get" else stage.check()


@pytest.mark.parametrize(("node_count", "names"), [(2, "1"), (3, "13"), (4, "13"), (5, "135"), (6, "135")])
def test_as_many_nodes_die_as_can(folder: Path, node_count: int, names: str) -> None:
    stage = command_demo._Demo(Context(), node_count)
    assert [node.name for node in stage.victims] == [f"dfs{name}" for name in names]


def test_settings_of_the_user_have_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DFS_GEOMETRY", "1 of 4")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    environ = command_demo._clean_environ(tmp_path)
    assert not {name for name in environ if name.startswith("DFS_")} | ({"NOTIFY_SOCKET"} & environ.keys())
    assert environ["XDG_STATE_HOME"] == str(tmp_path / "state")
    root = Path(environ["PYTHONPATH"].split(os.pathsep)[0])
    assert (root / "dfs/plugins/command_demo.py").is_file()


def test_it_is_declared() -> None:
    (plugin,) = command_demo.dfs_commands()
    made = plugin.make(Options())
    assert (plugin.name, made) == ("demo", demo)
    assert isinstance(made, click.Command)
