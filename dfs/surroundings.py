"""What a command may find around it: a session that has a cluster open already."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dfs.cluster import Cluster


class Surroundings(Protocol):
    """What a command finds that is run within a session: a cluster that is open already, and a folder."""

    @property
    def flags(self) -> Mapping[str, object]:
        """Of the command line that began the session."""

    def opened(self) -> "Cluster":
        """The cluster. Raises: DfsError."""

    def place(self, word: str) -> str:
        """The canonical path of a remote name as typed."""
