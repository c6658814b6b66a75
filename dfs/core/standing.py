"""What check, repair and status tell: how files and nodes stand, what is to be done and what was done.

Values only; checking.py, charting.py and repairing.py make them.
"""

import enum
from collections.abc import Mapping, Sequence

from dfs.core.records import field, frozen
from dfs.core.types import NodeId, VaultState


class FileState(enum.Enum):
    """Complete: all shares are there. Corrupt: bad shares or rows were found, and enough good ones remain."""

    COMPLETE = "complete"
    DEGRADED = "degraded"
    CORRUPT = "corrupt"
    INCOMPLETE = "incomplete"


@frozen
class Flaw:
    """What a node lacks of a file: ``what`` is "missing" or "corrupt"."""

    node: NodeId
    what: str


@frozen
class FileStanding:
    """One file. ``held`` of ``total`` nodes hold all they should; ``survives``: further losses of any node it
    bears. ``stale``: too few nodes answered to say whether this is its newest version.
    """

    path: str
    size: int
    state: FileState
    held: int
    total: int
    needed: int
    survives: int
    stale: bool = False
    flaws: tuple[Flaw, ...] = ()
    holders: frozenset[NodeId] = frozenset()


@frozen
class Checked:
    """What a check found. ``away``: nodes that did not answer, and why. ``read_size``: share bytes that nodes
    read and hashed for it.
    """

    files: tuple[FileStanding, ...]
    away: Mapping[NodeId, str] = field(factory=dict)
    read_size: int = 0

    @property
    def items(self) -> list[FileStanding]:
        """Return the files that are not complete."""
        return [file for file in self.files if file.state is not FileState.COMPLETE]

    def count(self, state: FileState) -> int:
        """Return how many files are in a state."""
        return sum(1 for file in self.files if file.state is state)


class CellState(enum.Enum):
    """Away: the node does not answer."""

    OK = "ok"
    MISSING = "missing"
    CORRUPT = "corrupt"
    AWAY = "away"


@frozen
class Cell:
    """What one node has of a file or chunk: ``held`` of ``total`` shares; of none, it has the entry alone.

    ``shares``: the indexes of the shares of one chunk that belong there.
    """

    node: NodeId
    state: CellState
    held: int = 0
    total: int = 0
    shares: tuple[int, ...] = ()


@frozen
class ChartRow:
    """A file, or one ``chunk`` of it (from 0), over the nodes of its group in ring order."""

    path: str
    chunk: int | None
    cells: tuple[Cell, ...]


@frozen
class NodeStanding:
    """One node. ``reason``: why it is down, "" while it is up. ``state`` None: nobody knows.

    ``used_size``: share bytes. ``charged_size``: bytes that count against the ``quota`` (None: no bound).
    ``scrubbed_s``: when its last scrub ended, seconds since 1970, 0 = never.
    """

    node: NodeId
    name: str
    address: str
    reason: str
    version: str = ""
    incarnation: int = 0
    state: VaultState | None = None
    used_size: int = 0
    free_size: int = 0
    read_only: str = ""
    share_count: int = 0
    owed_count: int = 0
    corrupt_count: int = 0
    scrubbed_s: int = 0
    charged_size: int = 0
    quota: int | None = None


@frozen
class Planned:
    """What a repair will do: registers to replay, shares to make again, and the share bytes for that."""

    registers: int = 0
    shares: int = 0
    read_size: int = 0
    written_size: int = 0


@frozen
class Repaired:
    """What a repair did. ``joined``: nodes that count again. ``left``: what could not be done, and why."""

    planned: Planned
    registers: int = 0
    shares: int = 0
    read_size: int = 0
    written_size: int = 0
    joined: tuple[NodeId, ...] = ()
    left: Sequence[str] = ()
