"""What `--log-json` writes: what a command says and how it ends, one JSON object a line, for programs.

Lines are appended, so that many commands can share a file; each is written in one piece.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from dfs.core.errors import ConfigError
from dfs.core.paths import printable
from dfs.core.redaction import redacted

if TYPE_CHECKING:
    from dfs.cluster import NodeTraffic

OPENING: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
PERMISSIONS: Final = 0o600  # it names files


class Journal:
    """The log of one command. Secrets that this process has met are struck out of it.

    Once it cannot be written any more, that is said, and the command goes on without it.
    Raises: ConfigError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path: Final = path
        self._started_s: Final = time.monotonic()
        self._nodes: Sequence[NodeTraffic] = ()
        try:
            self._descriptor = os.open(path, OPENING, PERMISSIONS)
        except OSError as error:
            raise ConfigError(f"--log-json {path}: {error.strerror}") from None

    def line(self, level: str, command: str, text: str, more: Mapping[str, object] | None = None) -> None:
        """Write a line; ``level``: info, warning or error."""
        if self._descriptor < 0:
            return
        told = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "process": os.getpid(),
            "command": command,
            "text": text,
            **(more or {}),
        }
        try:
            os.write(self._descriptor, f"{redacted(json.dumps(told))}\n".encode())
        except OSError as error:
            os.close(self._descriptor)
            self._descriptor = -1
            sys.stderr.write(f"warning: --log-json {printable(self._path)}: {error.strerror}; it ends here\n")

    def traffic(self, nodes: "Sequence[NodeTraffic]") -> None:
        """Keep what went to and from nodes for the last line."""
        self._nodes = nodes

    def end(self, command: str, code: int, name: str) -> None:
        """Write how the command ended."""
        nodes = [
            {
                "node": node.name,
                "address": node.address,
                "down": node.down or None,
                "sent_bytes": node.sent_size,
                "received_bytes": node.received_size,
                "round_trips": node.request_count,
                "seconds": round(node.busy_s, 3),
            }
            for node in self._nodes
        ]
        seconds = round(time.monotonic() - self._started_s, 3)
        self.line("info", command, "ended", {"code": code, "name": name, "seconds": seconds, "nodes": nodes})
