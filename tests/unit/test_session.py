"""A session: folders to be in, all commands of `dfs` beside the words of the original, one cluster."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dfs import cluster as cluster_module
from dfs.core.errors import ConfigError, ConflictError, NotFoundError
from dfs.session import Session


@pytest.fixture
def script(home: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs lines at the prompt, as from a pipe, and returns what was printed."""
    home.write("f.txt", b"first\n")
    home.write("g.bin", bytes(3000))

    def run(*lines: str, flags: tuple[str, ...] = (), status: int = 0) -> list[str]:
        text = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode()))
        monkeypatch.setattr(sys, "stdin", text)
        printed: list[str] = home.dfs(*flags, "client", status=status)
        return printed

    return run


def test_folders_one_can_be_in(script: Any, home: Any) -> None:
    sent = "4 of 4 nodes, survives any 2"
    assert script("MKDIR a/b", "cd a", "PWD", "PUT f.txt", "PUT g.bin b") == [
        *("a/b/ created.", "/a", "/a", f"File send.  6 B, {sent}", f"File send.  2.9 KiB, {sent}"),
    ]
    head = "Files in the Servers are:"
    assert script("cd /a", "LIST", "cd b", "ls", "cd ..", "pwd") == [
        *("/a", head, "b/", "f.txt", "/a/b", head, "g.bin", "/a", "/a"),
    ]
    assert home.dfs("ls", "-R") == ["a/", "a/b/", "a/b/g.bin", "a/f.txt"]


def test_names_begin_where_one_is_or_at_the_top(script: Any, home: Any) -> None:
    script("PUT f.txt", "MKDIR sub", "cd sub", "PUT g.bin", "RM /f.txt", "MKDIR deep", "cd", "LIST /sub")
    assert home.out.splitlines()[-3:] == ["Files in the Servers are:", "deep/", "g.bin"]
    assert home.dfs("ls") == ["sub/"]
    script("cd sub", "GET g.bin", "GET /sub/g.bin", "cat /sub/missing", "stat g.bin")
    assert "sub/g.bin" in home.out.splitlines()
    assert "sub/missing does not exist" in home.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cd nowhere", "nowhere does not exist"),
        ("cd f.txt", "is a file"),
        ("lcd nowhere", "nowhere: No such file"),
    ],
)
def test_where_one_cannot_go(script: Any, home: Any, line: str, told: str) -> None:
    script("PUT f.txt", line, "pwd")
    assert told in home.out
    assert home.out.splitlines()[-1] == "/"


def test_a_local_folder_can_be_gone_to_and_the_conf_is_still_found(
    script: Any, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.folder / "down").mkdir()
    monkeypatch.chdir(home.folder)  # so that it is gone back to after the test
    touched = home.folder / "dfs.toml"
    script("PUT f.txt", "lcd down", "GET f.txt")
    assert (home.folder / "down" / "f.txt").read_bytes() == b"first\n"
    monkeypatch.chdir(home.folder)
    session = Session({}, interactive=True)
    session.opened()
    assert session.change_local_folder("down") == str(home.folder / "down")
    touched.write_text(touched.read_text() + "\n")  # it changed: read again, from where the session began
    assert session.opened().ls()
    session.close()


def test_every_command_of_dfs_and_its_options(script: Any, home: Any) -> None:
    home.write("tree/a/x.txt")
    home.write("tree/b/y.txt")
    lines = script("put -r tree", "find --name '*.txt'", "mv -r tree forest", "TREE forest -L 1", "ls *st")
    assert "tree/a/x.txt" in lines
    assert "tree -> forest" in lines
    assert (
        lines[-5:] == ["|-- a/", "`-- b/", "2 folders, 2 files, 14 B", "forest/"][-5:]
        or lines[-1] == "forest/"
    )


def test_one_login_serves_them_all(script: Any, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = []
    open_cluster = cluster_module.open_cluster

    def counted(*arguments: Any, **named: Any) -> Any:
        logins.append(arguments)
        return open_cluster(*arguments, **named)

    monkeypatch.setattr(cluster_module, "open_cluster", counted)
    script("PUT f.txt", "cat f.txt", "stat f.txt", "put --to x f.txt", "df", "LIST", "rm *.txt")
    assert len(logins) == 1
    script("LIST", "cat --transport memory x", "LIST")  # another transport may be another cluster
    assert len(logins) == 3
    assert "x" in home.out


def test_statistics_are_those_of_the_command(script: Any, home: Any) -> None:
    script("PUT g.bin", "cat g.bin --stats", "stat g.bin --stats")
    rows = [line for line in home.err.splitlines() if line.startswith("stats: all nodes")]
    assert len(rows) == 2
    assert all(int(row.split("round_trips ")[1].split(",")[0]) < 40 for row in rows)


def test_what_belongs_elsewhere_and_what_is_nothing(script: Any, home: Any) -> None:
    lines = script("serve", "client", "frobnicate", "stat", "cat --range x f.txt", "LIST")
    assert "serve is no command of the prompt; run it outside: dfs serve" in lines
    assert "Please provide one of the following commands." in lines
    assert "error: Missing argument 'PATH...'" in home.err
    assert "error: --range: expected" in home.err
    assert lines[-1] == "No file Found"


def test_help_names_what_else_there_is(script: Any, home: Any) -> None:
    assert "stat" in script("help")[-1]
    assert any("Example: dfs cat" in line for line in script("cat --help"))


def test_programs_get_an_envelope_a_line(script: Any, home: Any) -> None:
    lines = script("PUT f.txt", "LIST", "GET missing", flags=("--json",))
    envelopes = [json.loads(line) for line in lines]
    assert [(each["command"], each["code"]) for each in envelopes] == [
        *(("put", 0), ("ls", 0), ("get", 4), ("client", 0)),
    ]


def test_a_command_of_a_session_ends_with_its_own_status(home: Any) -> None:
    home.dfs("client", "--command", "stat missing", status=4)
    home.dfs("client", "--command", "cat --range x f", status=2)
    home.dfs("client", "--command", "df")


def test_a_session_by_itself(home: Any) -> None:
    session = Session({}, interactive=False)
    assert session.node_counts == (0, 0)
    session.opened().mkdir("a/b")
    assert session.node_counts == (4, 4)
    assert session.change_folder("a/b/../b") == "/a/b"
    assert (session.place("c"), session.place("/c")) == ("a/b/c", "c")
    assert session.change_folder("../../..") == "/"
    for word, error in (("none", NotFoundError), ("a/\x07", ConfigError)):
        with pytest.raises(error):
            session.change_folder(word)
    home.write("f")
    session.opened().put("f", str(Path("f")))
    with pytest.raises(ConflictError):
        session.change_folder("f")
    session.close()
