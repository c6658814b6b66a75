"""What is printed where, which exit code wins, and when a transfer shows how far it is."""

import io
import json

import pytest

from dfs import output
from dfs.core.errors import ConfigError, ConflictError, QuorumError
from dfs.output import Output, worst


@pytest.mark.parametrize(
    ("codes", "wins"),
    [
        ((), 0),
        ((0, 0), 0),
        ((0, 3), 3),
        ((3, 4), 4),
        ((4, 9), 9),
        ((9, 7), 7),
        ((7, 8), 8),
        ((8, 6), 6),
        ((6, 5), 5),
        ((5, 14), 14),
        ((3, 2), 2),
        ((2, 12), 2),
        ((12, 4), 4),
        ((3, 130), 130),
    ],
)
def test_the_worst_of_several_codes_wins(codes: tuple[int, ...], wins: int) -> None:
    assert worst(codes) == wins
    if len(set(codes) - {2, 12}) == len(codes):
        assert worst(codes[::-1]) == wins


def test_results_go_to_stdout_and_talk_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.record("files", {"path": "a"}, "a")
    out.values({"x": 1}, "x is 1")
    out.note("done")
    out.warn("odd")
    out.warn("less of it", prefix="")
    out.error(ConflictError("it is there"))
    out.finish(9)
    told = capsys.readouterr()
    assert told.out == "a\nx is 1\n"
    assert told.err.splitlines() == [
        "done",
        "warning: odd",
        "less of it",
        "error: it is there. Nothing was changed. Look at it (dfs ls -l), then decide.  (DFS-E409)",
    ]


def test_quiet_leaves_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.quiet = True
    out.note("done")
    out.warn("odd")
    out.result("a")
    out.error(ConflictError("it is there"), "in other words")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("a\n", "error: in other words\n")


def test_nothing_printed_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.result("red \x1b[31m\nnext \u202e line")
    out.note("bell \x07")
    told = capsys.readouterr()
    assert told.out == "red \\x1b[31m\nnext \\u202e line\n"
    assert told.err == "bell \\x07\n"


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.json, out.command = True, "put"
    out.record("files", {"path": "a"}, "a")
    out.record("files", {"path": "b"}, "b")
    out.values({"more": 1}, "more")
    out.note("done")
    out.warn("degraded: less of it  (DFS-E301)")
    out.error(QuorumError("too few"))
    out.error(ConfigError("bad", file="dfs.toml", line=3))
    out.finish(2)
    out.finish(2)
    told = capsys.readouterr()
    assert told.err == ""
    envelope = json.loads(told.out)
    assert envelope == {
        "schema": 1,
        "command": "put",
        "code": 2,
        "name": "usage",
        "data": {"files": [{"path": "a"}, {"path": "b"}], "more": 1},
        "warnings": [
            {"code": "DFS-E301", "text": "degraded: less of it  (DFS-E301)"},
            {"code": "DFS-E302", "text": QuorumError("too few").line},
        ],
        "error": {
            "code": "DFS-E202",
            "what": "bad",
            "where": "dfs.toml:3",
            "kept": ConfigError.kept_default,
            "next": ConfigError.next_default,
        },
    }


def test_json_lines_end_with_the_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.json_lines = True
    out.record("entries", {"path": "a"}, "a")
    out.finish(0)
    item, envelope = map(json.loads, capsys.readouterr().out.splitlines())
    assert item == {"schema": 1, "item": {"path": "a"}}
    assert (envelope["code"], envelope["name"], envelope["data"]) == (0, "ok", None)


class Terminal(io.StringIO):
    """What takes a terminal's place."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("mode", "active"), [("auto", False), ("off", False), ("on", True)])
def test_off_a_terminal_progress_must_be_asked_for(mode: str, active: bool) -> None:
    assert Output().meter(mode, "a", 1, plain=False).active is active


def test_programs_and_quiet_people_see_no_progress() -> None:
    quiet, structured = Output(), Output()
    quiet.quiet = structured.json = True
    for out in (quiet, structured):
        meter = out.meter("on", "a", 1, plain=False)
        assert not meter.active
        meter(10**9)


def test_a_new_screen_clears_nothing_but_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Output()
    out.clear(plain=False)
    assert capsys.readouterr().out == "\n"
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    out.clear(plain=True)
    out.clear(plain=False)
    assert stream.getvalue() == f"\n{output.CLEAR_SCREEN}"
    out.json = True
    out.clear(plain=False)
    assert stream.getvalue() == f"\n{output.CLEAR_SCREEN}"
