"""What a command prints: results on stdout, talk on stderr, or one JSON object instead of both.

`dfs --help` imports it, so heavy libraries are imported where they are used.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from dfs.core.errors import ConfigError, DfsError
from dfs.core.paths import printable
from dfs.progress import Meter

if TYPE_CHECKING:
    from dfs.journal import Journal

SCHEMA: Final = 1
OK: Final = 0
DEGRADED: Final = 3
INTERRUPTED: Final = 130
WORST_FIRST: Final = (14, 5, 6, 8, 7, 9, 4)  # of several exit codes; then any other failure, then DEGRADED
NAMES: Final = {
    OK: "ok",
    DEGRADED: "degraded",
    INTERRUPTED: "interrupted",
    **{kind.exit_code: kind.name for kind in DfsError.__subclasses__()},
}
CODE_PATTERN: Final = re.compile(r"\((DFS-E[0-9]{3})\)$")
CLEAR_SCREEN: Final = "\x1b[2J\x1b[H"


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of a command whose parts ended with these."""
    failed = [code for code in codes if code != OK]
    for code in WORST_FIRST:
        if code in failed:
            return code
    return next((code for code in failed if code != DEGRADED), max(failed, default=OK))


def error_record(error: DfsError) -> dict[str, str]:
    """Return an error as JSON shows it."""
    where = ""
    if isinstance(error, ConfigError) and error.file:
        where = f"{error.file}:{error.line_number}" if error.line_number else error.file
    return {
        "code": error.code,
        "what": error.what,
        "where": where,
        "kept": error.kept,
        "next": error.next_step,
    }


def _safe(text: str) -> str:
    """Return lines with everything escaped that could steer a terminal: names come from elsewhere."""
    return "\n".join(map(printable, text.split("\n")))


def _print_json(value: Mapping[str, object]) -> None:
    import json  # seldom wanted, and every command would wait for it

    sys.stdout.write(f"{json.dumps(value)}\n")


class Output:
    """Where a command's words go. Nothing here decides what they are, but no line steers a terminal."""

    def __init__(self) -> None:
        self.command = ""
        self.json = False
        self.json_lines = False
        self.quiet = False
        self._values: dict[str, object] = {}
        self._warnings: list[dict[str, str]] = []
        self._errors: list[DfsError] = []
        self._finished = False
        self.journal: Journal | None = None

    def log_to(self, path: str) -> None:
        """Write what is said into a file, too. Raises: ConfigError: it cannot be written."""
        from dfs.journal import Journal

        self.journal = Journal(path)

    def _log(self, level: str, text: str, more: Mapping[str, object] | None = None) -> None:
        if self.journal is not None:
            self.journal.line(level, self.command, text, more)

    @property
    def structured(self) -> bool:
        """Whether programs read it."""
        return self.json or self.json_lines

    def result(self, text: str) -> None:
        """Print a line of what was asked for."""
        if not self.structured:
            sys.stdout.write(f"{_safe(text)}\n")

    def record(self, kind: str, values: Mapping[str, object], text: str = "") -> None:
        """Print one of several results."""
        if self.json_lines:
            _print_json({"schema": SCHEMA, "item": values})
        elif self.json:
            records = self._values.setdefault(kind, [])
            assert isinstance(records, list)
            records.append(values)
        elif text:
            self.result(text)

    def values(self, values: Mapping[str, object], text: str = "") -> None:
        """Print the one result."""
        self._values.update(values)
        if text:
            self.result(text)

    def note(self, text: str) -> None:
        """Say what was done."""
        self._log("info", text)
        if not self.quiet and not self.structured:
            self._tell(text)

    def warn(self, text: str, prefix: str = "warning: ") -> None:
        """Say what deserves attention but stops nothing."""
        found = CODE_PATTERN.search(text)
        code = found[1] if found else ""
        self._log("warning", text, {"code": code})
        self._warnings.append({"code": code, "text": text})
        if not self.quiet and not self.structured:
            self._tell(prefix + text)

    def error(self, error: DfsError, text: str = "") -> None:
        """Say why something could not be done; ``text``: in other words than the error's own."""
        self._log("error", text or error.line, error_record(error))
        self._errors.append(error)
        if not self.structured:
            self._tell(f"error: {text or error.line}")

    def finish(self, code: int) -> None:
        """End the output, once: the JSON object, if one is wanted, and everything on its way."""
        if self.structured and not self._finished:
            decisive = next((error for error in self._errors if error.exit_code == code), None)
            others = [error for error in self._errors if error is not decisive]
            warnings = [*self._warnings, *({"code": error.code, "text": error.line} for error in others)]
            envelope = {
                "schema": SCHEMA,
                "command": self.command,
                "code": code,
                "name": NAMES.get(code, "unexpected"),
                "data": self._values or None,
                "warnings": warnings,
                "error": error_record(decisive) if decisive is not None else None,
            }
            _print_json(envelope)
        if self.journal is not None and not self._finished:
            self.journal.end(self.command, code, NAMES.get(code, "unexpected"))
        self._finished = True
        sys.stdout.flush()

    def clear(self, *, plain: bool) -> None:
        """Begin a new screen; where there is no terminal to clear, or ``plain``, an empty line."""
        if self.structured:
            return
        terminal = sys.stdout.isatty() and not plain
        sys.stdout.write(CLEAR_SCREEN if terminal else "\n")
        sys.stdout.flush()

    def meter(self, mode: str, label: str, total_size: int | None, *, plain: bool) -> Meter:
        """Return a progress display: ``mode`` is auto, on or off; ``plain``: no colours, no redrawing."""
        terminal = sys.stderr.isatty()
        shown = mode == "on" or (mode == "auto" and terminal)
        stream = sys.stderr if shown and not self.quiet and not self.structured else None
        return Meter(stream, label, total_size, redrawn=terminal and not plain)

    def _tell(self, text: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(f"{_safe(text)}\n")
        sys.stderr.flush()
