"""A town where somebody is busy until the power is cut.

`python -m tests.chaos.writer FOLDER LEDGER SEED [careless]`
``careless``: nothing is ever synced. A test that then finds nothing lost would be worth nothing.
"""

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from dfs.core import env
from dfs.plugins.volumes import vault as vault_module
from tests.chaos.deeds import STEP_COUNT, Ledger, busy, perform
from tests.chaos.town import Town


class CarelessConnection(sqlite3.Connection):
    """A database that syncs nothing."""

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Execute, but for the choice of syncs."""
        wanted = "PRAGMA synchronous = OFF" if sql == "PRAGMA synchronous = FULL" else sql
        return super().execute(wanted, parameters)


def open_carelessly(_files: env.RealFiles, path: str, *, read_only: bool) -> sqlite3.Connection:
    """Stand in for `RealFiles.database`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    return sqlite3.connect(path, isolation_level=None, factory=CarelessConnection)


def sync_nothing(_files: env.RealFiles, _path: str) -> None:
    """Stand in for `RealFiles.sync_folder`."""


def main(folder: str, ledger: str, seed: str, *how: str) -> None:
    """Be busy until the end."""
    vault_module.LOG_SIZE_MAX = 512 << 10  # type: ignore[misc] # so that the log is folded now and then
    if how:
        env._sync_descriptor = lambda _descriptor: None
        env.RealFiles.database = open_carelessly  # type: ignore[method-assign, assignment]
        env.RealFiles.sync_folder = sync_nothing  # type: ignore[method-assign, assignment]
    town = Town(Path(folder), seed)
    town.found()
    perform(town, busy(int(seed), STEP_COUNT), Ledger(Path(ledger)))


if __name__ == "__main__":
    main(*sys.argv[1:])
