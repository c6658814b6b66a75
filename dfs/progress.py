"""How far something is: bars on a terminal, a plain line now and then elsewhere; always on stderr.

Nothing is shown of what is over within half a second. `dfs --help` imports it, so rich is imported when the
first bar is drawn.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO

from dfs.core.paths import printable
from dfs.core.units import duration_text, rate_text, size_text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

METER_START_S: Final = 0.5  # what is over sooner shows no progress
METER_PLAIN_S: Final = 10.0  # between two lines where there is no terminal
REDRAW_S: Final = 0.1
NARROW: Final = 70  # columns; with fewer, only the name, the part done and the rate fit
WIDE: Final = 100
FILE_BARS_MAX: Final = 4  # files with a bar of their own
LABEL_SIZE_MAX: Final = 40  # characters of a name beside a bar


def _no_remark() -> str:
    return ""


class Meter:
    """Shows how far a transfer is. Files may be told of from any thread, the rest from one.

    Args:
        total_size: bytes in all, None: unknown.
        redrawn: bars on a terminal; else plain lines.
        remark: what to say of the nodes, asked for at each drawing: ``4 nodes``.
    """

    def __init__(
        self,
        stream: TextIO | None,
        label: str,
        total_size: int | None,
        *,
        redrawn: bool,
        remark: Callable[[], str] = _no_remark,
    ) -> None:
        self._stream = stream
        self._label = label
        self.total_size = total_size
        self._redrawn = redrawn
        self.remark = remark
        self._done_size = 0
        self._started_s = time.monotonic()
        self._line_s = self._started_s
        self._drawn_s = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._lock = threading.Lock()
        self._files: dict[str, list[int]] = {}  # path -> [bytes done, bytes in all], those under way
        self._file_tasks: dict[str, TaskID] = {}

    @property
    def active(self) -> bool:
        """Whether anything would be shown."""
        return self._stream is not None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started_s

    def __call__(self, size: int, /) -> None:
        """So many more bytes are done."""
        self._done_size += size
        if self._stream is None or self.seconds < METER_START_S:
            return
        if self._redrawn:
            self._redraw(self._stream)
        elif time.monotonic() - self._line_s >= METER_PLAIN_S:
            self._line_s = time.monotonic()
            self._stream.write(f"{self._label}  {self._figures()}\n")
            self._stream.flush()

    def file(self, path: str, size: int, total_size: int) -> None:
        """So many more bytes of one of several files are under way; it has so many in all."""
        with self._lock:
            done = self._files.setdefault(path, [0, total_size])
            done[0] += size
            if done[0] >= total_size:
                del self._files[path]

    def close(self) -> None:
        """Take the bars away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _figures(self) -> str:
        figures = f"{size_text(self._done_size)}  {rate_text(self._done_size, self.seconds)}"
        parts = [figures, self._time_left(), self.remark()]
        if self.total_size:
            parts.insert(0, f"{100 * self._done_size // self.total_size} percent")
        return "  ".join(filter(None, parts))

    def _time_left(self) -> str:
        if not self.total_size or not 0 < self._done_size < self.total_size:
            return ""
        seconds = self.seconds * (self.total_size - self._done_size) / self._done_size
        return f"{duration_text(seconds)} left"

    def _redraw(self, stream: TextIO) -> None:
        now_s = time.monotonic()
        if self._bar is None or self._task is None:
            self._bar = self._started(stream)
            self._task = self._bar.add_task(
                shortened(self._label), total=self.total_size, rate="", left="", remark=""
            )
        elif now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now_s
        self._bar.update(
            self._task,
            completed=self._done_size,
            total=self.total_size,
            rate=rate_text(self._done_size, self.seconds),
            left=self._time_left(),
            remark=self.remark(),
        )
        self._draw_files(self._bar)

    def _draw_files(self, bar: "Progress") -> None:
        with self._lock:
            under_way = dict(list(self._files.items())[:FILE_BARS_MAX])
        for path in self._file_tasks.keys() - under_way.keys():
            bar.remove_task(self._file_tasks.pop(path))
        for path, (done_size, total_size) in under_way.items():
            task = self._file_tasks.get(path)
            if task is None:
                shown = f"  {shortened(printable(path))}"
                task = self._file_tasks[path] = bar.add_task(
                    shown, total=total_size, rate="", left="", remark=""
                )
            bar.update(task, completed=done_size)

    def _started(self, stream: TextIO) -> "Progress":
        from rich.console import Console
        from rich.progress import Progress

        console = Console(file=stream)
        bar = Progress(
            *_columns(console.width, known=bool(self.total_size)),
            console=console,
            transient=True,
            refresh_per_second=round(1 / REDRAW_S),
        )
        bar.start()
        return bar


def _columns(width: int, *, known: bool) -> "list[ProgressColumn]":
    """Return what fits beside a bar on a terminal of so many columns; ``known``: the size in all."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.table import Column

    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
    percent = [TextColumn("{task.percentage:>3.0f}%", markup=False)] if known else []
    rate = TextColumn("{task.fields[rate]}", markup=False)
    if width < NARROW:
        return [name, *percent, rate]
    left = [TextColumn("{task.fields[left]}", markup=False)] if known else []
    remark = [TextColumn("{task.fields[remark]}", markup=False)] if width >= WIDE else []
    return [
        name,
        BarColumn(bar_width=min(40, width // 4)),
        *percent,
        DownloadColumn(binary_units=True),
        rate,
        *left,
        *remark,
    ]


def shortened(name: str) -> str:
    """Return a name that fits beside a bar, its end whole."""
    return name if len(name) <= LABEL_SIZE_MAX else f"...{name[3 - LABEL_SIZE_MAX :]}"
