"""When a transfer shows how far it is, and that it fits terminals of any width."""

import io
import re

import pytest

from dfs import progress
from dfs.progress import LABEL_SIZE_MAX, Meter, shortened

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_plain_progress_is_a_line_every_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    meter = Meter(stream, "a.iso", 1000, redrawn=False)
    for clock.now_s in (0.1, 5.0, 9.9):
        meter(100)
    assert stream.getvalue() == ""
    for clock.now_s in (10.0, 15.0, 20.5):
        meter(100)
    meter.close()
    first, second = stream.getvalue().splitlines()
    assert first.startswith("a.iso  40 percent  400 B  ")
    assert second.startswith("a.iso  60 percent  600 B  ")


class Terminal(io.StringIO):
    """What takes a terminal's place."""

    def isatty(self) -> bool:
        return True


def test_a_bar_appears_only_when_it_takes_long(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    meter = Meter(stream, "a.iso", None, redrawn=True)
    clock.now_s = 0.4
    meter(100)
    assert stream.getvalue() == ""
    clock.now_s = 0.6
    meter(100)
    meter.close()
    assert "a.iso" in stream.getvalue()


def drawn(meter: Meter, clock: Clock, stream: Terminal) -> str:
    """What stands on the terminal after half of 1000 bytes."""
    clock.now_s = 2.0
    meter(0)
    clock.now_s = 3.0
    meter.file("photos/first.jpg", 100, 400)
    meter.file("photos/second.jpg", 400, 400)
    meter(500)
    assert meter._bar is not None
    meter._bar.refresh()
    meter.close()
    return ESCAPES.sub("", stream.getvalue())


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_bars_fit_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    meter = Meter(stream, "2 files", 1000, redrawn=True, remark=lambda: "4 nodes")
    shown = drawn(meter, clock, stream)
    assert "2 files" in shown
    assert "50%" in shown
    assert "first.jpg" in shown
    assert "second.jpg" not in shown, "it is there as a whole"
    assert ("3.0 s left" in shown) is (width >= 80)
    assert ("4 nodes" in shown) is (width >= 100)
    assert max(map(len, re.split(r"[\r\n]", shown))) <= width


def test_without_colour_nothing_is_coloured(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    drawn(Meter(stream, "a", 1000, redrawn=True), clock, stream)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", stream.getvalue()) is None


def test_a_long_name_keeps_its_end() -> None:
    assert shortened("short") == "short"
    name = shortened("/".join(["folder"] * 20) + "/end.txt")
    assert len(name) == LABEL_SIZE_MAX
    assert name.endswith("/end.txt")


def test_plain_lines_say_what_is_left_and_who_helps(clock: Clock) -> None:
    stream = io.StringIO()
    meter = Meter(stream, "a.iso", 1000, redrawn=False, remark=lambda: "4 nodes")
    clock.now_s = 20.0
    meter(500)
    assert stream.getvalue() == "a.iso  50 percent  500 B  25 B/s  20.0 s left  4 nodes\n"
