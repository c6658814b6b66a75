"""What a node has done since it started, in plain numbers; whoever watches it makes something of them."""

from collections.abc import Sequence
from typing import Final

from dfs.core.messages import StatusReply
from dfs.core.records import frozen


class Tally:
    """Requests, errors and bytes of one connection, or of many added up.

    Only the thread whose turn it is counts; others may add a tally to theirs at any time. ``requests``: by
    the code of the message, ``errors``: by the name of the answer. Sizes: bytes of frames, without what the
    transport adds.
    """

    def __init__(self) -> None:
        self.requests: Final[dict[int, int]] = {}
        self.errors: Final[dict[str, int]] = {}
        self.received_size = 0
        self.sent_size = 0

    def asked(self, code: int, size: int) -> None:
        """Count a request."""
        self.requests[code] = self.requests.get(code, 0) + 1
        self.received_size += size

    def failed(self, error: str) -> None:
        """Count an error that was the answer."""
        self.errors[error] = self.errors.get(error, 0) + 1

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for code, count in other.requests.copy().items():  # a copy is made in one step: its owner goes on
            self.requests[code] = self.requests.get(code, 0) + count
        for error, count in other.errors.copy().items():
            self.errors[error] = self.errors.get(error, 0) + count
        self.received_size += other.received_size
        self.sent_size += other.sent_size


@frozen
class ServerStanding:
    """How a node is. ``vaults``: users and what their vaults say; only those that are open."""

    name: str
    version: str
    connection_count: int
    tally: Tally
    vaults: Sequence[tuple[str, StatusReply]]
