"""An open vault and the operations on it: opened anew where others changed its key meanwhile."""

from typing import TYPE_CHECKING, TypeVar

from dfs.core.errors import DfsError, UnknownOutcomeError
from dfs.core.records import evolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.core.client import Client, ClientOptions, Opened
    from dfs.core.effects import Operation
    from dfs.core.remembering import Memories

T = TypeVar("T")


class OpenVault:
    """The part of `Cluster` that has the vault open, with a client that runs operations on it."""

    def __init__(
        self, client: "Client", opened: "Opened", memories: "Memories", options: "ClientOptions"
    ) -> None:
        self._client = client
        self._memories = memories
        self._options = options
        self._vault = memories.recall(opened.vault)
        self._is_stale = opened.stale
        self.node_names = dict(opened.vault.names)

    def close(self) -> None:
        """End all connections."""
        self._memories.keep(self._client.marks(), self._vault)
        self._client.close()

    def refresh(self) -> None:
        """Look whether nodes that were down at the login are back. Commands try all others themselves."""
        if self._is_stale:  # too few nodes said which keys are the present ones
            self._reopen()
        else:
            self._vault = self._client.refresh(self._vault)

    def _run(self, begin: "Callable[[], Operation[T]]") -> T:
        """Run an operation; ``begin`` is called once more when another client rotated the key meanwhile."""
        if self._vault.closed:
            self._reopen()
        try:
            return self._client.run(begin())
        except UnknownOutcomeError:
            raise
        except DfsError:
            if not self._client.is_superseded(self._vault):
                raise
            self._reopen()
            return self._client.run(begin())

    def _reopen(self) -> None:
        """Log in anew and open the vault as it is by now; what was remembered of it stays."""
        from dfs.core.client import Client

        self._memories.keep(self._client.marks(), self._vault)
        self._client.close()
        self._client = Client(evolve(self._options, known_marks=self._memories.marks.load()))
        opened = self._client.open_entered() if self._options.entering else self._client.open()
        self._vault = evolve(self._memories.recall(opened.vault), suspicions=self._vault.suspicions)
        self._is_stale = opened.stale
        self.node_names = dict(self._vault.names)
