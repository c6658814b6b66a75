"""The eight hooks of dfs. Each is called once, without arguments, when its module is needed.

None is called on the data path. An implementation returns plugin objects, ``()`` when it has none. There
is no first-result, wrapper or historic hook.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import pluggy

from dfs.core.interface import (
    ChunkerPlugin,
    CipherPlugin,
    CodePlugin,
    CommandPlugin,
    CompressorPlugin,
    PlacementPlugin,
    StorePlugin,
    TransportPlugin,
)

PROJECT_NAME: Final = "dfs"  # pluggy project and entry-point group
# What a plugin module states that it was written for. A change that would break a plugin raises the first;
# the second follows only after a release that warned of it (docs/plugins.md, "What is promised").
DFS_API_VERSION: Final = 1
DFS_API_VERSION_MIN: Final = 1
DEPRECATED: Final[Mapping[str, str]] = {}  # names of dfs.core.api that will go -> what to use instead

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def dfs_transports() -> Iterable[TransportPlugin]:  # type: ignore[empty-body]
    """Return transports: how bytes travel between client and node."""


@hookspec
def dfs_ciphers() -> Iterable[CipherPlugin]:  # type: ignore[empty-body]
    """Return ciphers: how a packed chunk is sealed."""


@hookspec
def dfs_compressors() -> Iterable[CompressorPlugin]:  # type: ignore[empty-body]
    """Return compressors: how a chunk is packed."""


@hookspec
def dfs_codes() -> Iterable[CodePlugin]:  # type: ignore[empty-body]
    """Return erasure codes: how a sealed chunk becomes shares."""


@hookspec
def dfs_placements() -> Iterable[PlacementPlugin]:  # type: ignore[empty-body]
    """Return placements: which node holds which share."""


@hookspec
def dfs_chunkers() -> Iterable[ChunkerPlugin]:  # type: ignore[empty-body]
    """Return chunkers: where chunks of a file end."""


@hookspec
def dfs_stores() -> Iterable[StorePlugin]:  # type: ignore[empty-body]
    """Return stores: how a node keeps what it is given."""


@hookspec
def dfs_commands() -> Iterable[CommandPlugin]:  # type: ignore[empty-body]
    """Return sub-commands of `dfs`."""
