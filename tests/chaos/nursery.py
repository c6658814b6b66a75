"""A process that has loaded everything and forks a child for each deed; `python -m tests.chaos.nursery`.

A child makes only the system calls of its deed, so that strace, attached to this process, can count them.
strace counts the calls of each kind and of each process from one; a child that is to meet its fault at call n
of ``count`` first *burns* ``count`` - n harmless calls of that kind, so one strace serves all points.

Reads one JSON object a line: folder, deed, kind, burn, abrupt; answers each with
the child's pid and wait status.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dfs.plugins.volumes import vault as vault_module
from tests.chaos.deeds import DEEDS, Ledger, perform
from tests.chaos.town import Town

NULL: Final = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
NOWHERE: Final = "/nowhere/at/all"

# Calls that change nothing, whether they succeed or not.
HARMLESS: Final[Mapping[str, Callable[[], object]]] = {
    "fallocate": lambda: os.posix_fallocate(NULL, 0, 1),
    "fdatasync": lambda: os.fdatasync(NULL),
    "fsync": lambda: os.fsync(NULL),
    "ftruncate": lambda: os.ftruncate(NULL, 0),
    "mkdir": lambda: os.mkdir(NOWHERE),
    "openat": lambda: os.open(NOWHERE, os.O_RDONLY),
    "pread64": lambda: os.pread(NULL, 1, 0),
    "preadv2": lambda: os.preadv(NULL, [bytearray(1)], 0),
    "pwrite64": lambda: os.pwrite(NULL, b"x", 0),
    "pwritev2": lambda: os.pwritev(NULL, [b"x"], 0),
    "statfs": lambda: os.statvfs("/"),
    "unlink": lambda: os.unlink(NOWHERE),
}


def live(folder: Path, deed: str, kind: str, burn: int, *, abrupt: bool = False) -> None:
    """Do a deed in the town below ``folder``, after so many calls that do nothing.

    ``abrupt``: the nodes are not closed.
    """
    ledger = Ledger(folder / "ledger")  # before any fault: it is no part of the town
    for _ in range(burn):
        with suppress(OSError):
            HARMLESS[kind]()
    town = Town(folder, deed)
    if deed == "found":
        town.found()
    perform(town, DEEDS[deed], ledger)
    if not abrupt:
        town.close()


def bear(order: dict[str, Any]) -> int:
    """Fork a child that does what is asked for; returns its pid."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            live(Path(order.pop("folder")), **order)
            status = 0
        except BaseException:  # the child's only way to tell why it ends
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    return child


def main() -> None:
    """Serve orders until there are no more."""
    vault_module.LOG_SIZE_MAX = 128 << 10  # type: ignore[misc] # so that a short deed folds the log, too
    with tempfile.TemporaryDirectory() as folder:  # whatever is imported late is imported now
        for deed in DEEDS:
            live(Path(folder), deed, "", 0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        child = bear(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps([child, os.waitstatus_to_exitcode(status)]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
