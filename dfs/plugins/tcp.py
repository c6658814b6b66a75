"""The transport `tcp`: plain TCP, nothing hidden or proven on the wire; for trusted networks."""

from collections.abc import Iterable
from typing import Final

from dfs.core.api import (
    Listener,
    SocketListener,
    SocketStream,
    Stream,
    Transport,
    TransportOptions,
    TransportPlugin,
    UnknownKeyError,
    bind,
    dial,
    hookimpl,
)

DFS_API_VERSION: Final = 1
NAME: Final = "tcp"


class TcpTransport:
    """Connects and listens; it has no state."""

    @property
    def confidential(self) -> bool:
        """No: everything can be read on the way."""
        return False

    def connect(self, address: str, deadline_s: float) -> Stream:
        """Connect."""
        return SocketStream(dial(address, deadline_s), address)

    def listen(self, address: str) -> Listener:
        """Bind."""
        return SocketListener(bind(address), SocketStream)


def make(options: TransportOptions) -> Transport:
    """Make the transport; it has no settings."""
    for key in options.values:
        raise UnknownKeyError(f"the transport tcp has no setting {key!r}")
    return TcpTransport()


@hookimpl
def dfs_transports() -> Iterable[TransportPlugin]:
    """Declare it."""
    return (TransportPlugin(name=NAME, summary="plain TCP, for trusted networks", make=make),)
