"""The command line itself: words, options, exit codes, and what is never imported for its help."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from dfs import listing
from dfs.cli import COMMANDS, main, main_classic, run
from dfs.context import Context
from dfs.core.errors import DfsError

HEAVY = {
    *("asyncio", "cryptography", "importlib.metadata", "numpy", "prompt_toolkit", "pyeclib", "pyzstd"),
    *("rich", "sqlite3", "ssl", "urllib", "attrs", "attr", "pluggy", "blake3"),
}


def modules_after(*arguments: str) -> set[str]:
    text = (
        "import sys; from dfs.cli import run\n"
        "code = run(sys.argv[1:]); assert code == 0, code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return set(ended.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    assert HEAVY & modules_after("--help") == set()


def test_help_of_a_command_imports_nothing_heavy() -> None:
    assert HEAVY & modules_after("put", "--help") == set()


def test_version_does_without_the_machinery() -> None:
    assert {"ssl", "sqlite3", "cryptography", "dfs.cluster"} & modules_after("--version") == set()


def test_python_m_dfs_is_dfs() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dfs", "--version"], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout.startswith("dfs ")


def test_help_lists_every_command_and_no_heavy_word(bare_home: Any) -> None:
    lines = bare_home.dfs("--help")
    listed = {line.split()[0] for line in lines[lines.index("Commands:") + 1 :]}
    assert listed == {"serve", "client", "put", "get", "ls", *COMMANDS}


def test_without_any_conf_a_few_lines_say_where_to_begin(bare_home: Any) -> None:
    lines = bare_home.dfs()
    assert len(lines) == 4
    named = {word for line in lines for word in re.findall(r"dfs (\w+)", line)} - {"config"}
    assert named == {"demo", "serve", "init", "client"}  # and each of them is a command
    assert named <= {"serve", "client", *COMMANDS}
    assert lines[0].startswith("No conf found (./dfc.conf, ~/dfc.conf, ./dfs.toml")
    assert any("dfs demo" in line for line in lines)


def test_with_a_conf_the_bare_word_is_help(home: Any) -> None:
    assert "Commands:" in home.dfs()


@pytest.mark.parametrize("word", ["ls", "LIST", "Ls", "list"])
def test_commands_have_aliases_in_any_case(home: Any, word: str) -> None:
    assert home.dfs(word) == []


@pytest.mark.parametrize(("word", "meant"), [("lis", "list"), ("gett", "get"), ("mkdri", "mkdir")])
def test_an_unknown_word_names_the_nearest(bare_home: Any, word: str, meant: str) -> None:
    bare_home.dfs(word, status=2)
    assert f"no such command: '{word}'; did you mean '{meant}'?" in bare_home.err


def test_a_faulty_conf_keeps_no_unknown_word_from_being_told(bare_home: Any) -> None:
    bare_home.write("dfc.conf", b"nonsense\n")
    bare_home.dfs("frobnicate", status=2)
    assert "no such command" in bare_home.err


@pytest.mark.parametrize(
    "arguments",
    [("ls", "--bad"), ("put",), ("get",), ("ls", "a", "b"), ("rm",), ("put", "x", "--if-version", "zz")],
)
def test_misuse_is_one_line_and_2(home: Any, arguments: tuple[str, ...]) -> None:
    home.dfs(*arguments, status=2)
    assert home.err.startswith("error: ")
    assert len(home.err.splitlines()) == 1


def test_global_options_stand_before_and_after_the_word(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    assert home.dfs("--json", "ls") == home.dfs("ls", "--json")
    home.dfs("-q", "put", "f")
    assert home.err == ""
    home.dfs("put", "-q", "f")
    assert home.err == ""
    home.dfs("ls", "--geometry", "9 of 4", status=2)
    assert "--geometry" in home.err
    home.dfs("--timeout", "5", "ls", status=2)
    assert home.err.startswith("error: --timeout: expected a duration")


def test_a_dry_run_before_the_word_changes_nothing_either(home: Any) -> None:
    home.dfs("mkdir", "folder")
    assert home.dfs("-n", "rm", "-r", "folder") == ["would remove folder"]
    assert home.dfs("ls") == ["folder/"]
    home.dfs("-n", "ls", status=2)
    assert "dfs ls has no -n" in home.err


def test_a_cluster_is_chosen_by_name(home: Any) -> None:
    assert home.dfs("-C", "default", "ls") == []
    home.dfs("-C", "elsewhere", "ls", status=2)
    assert "no conf of a cluster 'elsewhere'" in home.err
    home.dfs("mkdir", "default:x")
    assert home.dfs("ls", "dfs:") == ["x/"]


def test_a_password_in_the_environment_is_refused(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFS_PASSWORD", "white rabbit")
    for words in (("ls",), ("version",), ("serve", "--dir", "x", "--port", "0")):
        home.dfs(*words, status=2)
        assert "DFS_PASSWORD" in home.err
        assert "white rabbit" not in home.err


def test_a_password_others_can_read_is_one_warning(bare_home: Any) -> None:
    bare_home.write("dfc.conf", b"Server A 127.0.0.1:9\nUsername: Alice\nPassword: white rabbit\n")
    (bare_home.folder / "dfc.conf").chmod(0o644)
    bare_home.dfs("--transport", "nothing", "ls", status=2)
    warning, error = bare_home.err.splitlines()
    assert warning.startswith("warning: ")
    assert warning.endswith("chmod 600 dfc.conf")
    assert error.startswith("error: there is no transport")


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_one_line_and_1(home: Any, monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(listing, "ls", broken)
    home.dfs("ls", *(["--debug"] if debug else []), status=1)
    assert "error: unexpected KeyError: 'a bug'" in home.err
    assert "(DFS-E900)" in home.err
    assert ("Traceback" in home.err) is debug


def test_an_interrupt_is_130(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "ls", interrupted)
    home.dfs("ls", status=130)
    assert "interrupted" in home.err


def test_errors_are_objects_for_programs(home: Any) -> None:
    envelope = home.json("ls", "nowhere", status=4)
    assert envelope["name"] == "not-found"
    assert envelope["error"]["code"] == "DFS-E404"
    assert envelope["error"]["kept"]
    assert envelope["error"]["next"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("10001",), "a folder is missing"),
        (("127.0.0.1", "10001"), "is no folder"),
        (("DFS1", "99999"), "out of range"),
        (("DFS1", "7771", "no-users-file"), "no-users-file is not there"),
    ],
)
def test_bare_words_that_mean_a_server_are_told_as_such(
    bare_home: Any, words: tuple[str, ...], reason: str
) -> None:
    for start in ((), ("serve",)):
        if start and len(words) == 1:
            continue
        bare_home.dfs(*start, *words, status=2)
        assert reason in bare_home.err


def test_a_plugin_file_brings_a_command(home: Any) -> None:
    home.write(
        "hello.py",
        b"import click\nfrom dfs.core.api import CommandPlugin, hookimpl\nDFS_API_VERSION = 1\n"
        b"@click.command('hello')\n@click.pass_obj\ndef hello(context):\n    context.emit('', {}, 'hello')\n"
        b"@hookimpl\ndef dfs_commands():\n"
        b"    return [CommandPlugin(name='hello', summary='greet', make=lambda options: hello)]\n",
    )
    assert home.dfs("--plugin", "hello.py", "hello") == ["hello"]
    home.dfs("hello", status=2)
    home.dfs("--plugin", "missing.py", "hello", status=2)
    assert "missing.py cannot be imported" in home.err


def test_a_closed_pipe_ends_silently() -> None:
    code = (
        "import sys, dfs.cli\n"
        "from dfs.context import Context\n"
        "def work():\n    for _ in range(100_000): context.output.result('line')\n"
        "context = Context()\nsys.exit(dfs.cli.guarded(context, work))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(10) == 0


def test_main_takes_the_words_of_the_process(monkeypatch: pytest.MonkeyPatch, bare_home: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["dfs", "frobnicate"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2


def test_dfc_without_a_conf_names_where_it_looked(monkeypatch: pytest.MonkeyPatch, bare_home: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["dfc", "list"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        main_classic()
    assert end.value.code == 2
    assert "dfc.conf" in bare_home.capture.readouterr().err


def test_only_errors_of_dfs_are_told_and_gone_on_with(bare_home: Any) -> None:
    context = Context()
    context.fail(DfsError("told"))
    assert context.status == 1
    with pytest.raises(KeyError):
        context.fail(KeyError("not told"))


def test_run_returns_and_never_exits(bare_home: Any) -> None:
    assert run(["--help"]) == 0
    assert run(["put", "--help"]) == 0


def test_v_says_who_answers(home: Any) -> None:
    home.dfs("ls")
    home.kill(1)
    home.dfs("-v", "ls")
    assert home.err.splitlines() == [
        "odile at default: 3 of 4 nodes, any 2 of 4 shares bring a file back",
    ]
    home.dfs("ls", "-vv")
    assert [line.split()[-1] for line in home.err.splitlines()[1:]] == ["up", "up", "up", "connection"]
