"""`ls`: what is printed of the names in a folder, and what they mean for the exit code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dfs.context import Context
from dfs.core.errors import ConflictError, IncompleteError, NotFoundError
from dfs.core.folders import Health, Listed
from dfs.core.paths import parent_of, printable, relative_to
from dfs.entries import entry_record
from dfs.names import is_pattern
from dfs.output import DEGRADED
from dfs.texts import FOLDER_UNKNOWN, STALE_LINE, holder_names, listed_name, long_rows, node_rows

if TYPE_CHECKING:
    from dfs.cluster import Cluster

SORTS: Final = {
    "size": lambda item: -item.entry.size,
    "time": lambda item: -item.entry.mtime_ns,
}


def ls(
    context: Context,
    word: str,
    *,
    long: bool = False,
    recursive: bool = False,
    sort: str = "name",
    nodes: bool = False,
) -> None:
    """Print the names in a folder, or everything below it, or one file, or what is like a pattern.

    ``nodes``: with the names of the nodes that hold their part of it.
    """
    path = context.remote(word)
    cluster = context.cluster()
    try:
        listed, path = _listed(cluster, path, recursive=recursive)
    except NotFoundError as error:
        text = f"{printable(path)}: {FOLDER_UNKNOWN} {error.kept} {error.next_step}  ({error.code})"
        context.fail(error, text)
        return
    if sort in SORTS:
        listed = sorted(listed, key=SORTS[sort])
    names = [listed_name(item, relative_to(item.entry.path, path)) for item in listed]
    for row in _table(context, listed, names, long=long, nodes=nodes):
        context.output.result(row)
    for item, name in zip(listed, names, strict=True):
        record = entry_record(item)
        if nodes:
            record = {**record, "holders": holder_names(item, cluster.nodes)}
        context.emit("entries", record, "" if long or nodes else name)
    _judge(context, listed)


def _table(
    context: Context, listed: Sequence[Listed], names: Sequence[str], *, long: bool, nodes: bool
) -> list[str]:
    """Return the rows of a table, none of a plain list."""
    order = context.cluster().nodes
    if long:
        return long_rows(listed, order, names=names, drawn=context.pictorial, named=nodes)
    return node_rows(listed, order, names) if nodes else []


def _listed(cluster: "Cluster", path: str, *, recursive: bool) -> tuple[list[Listed], str]:
    """Return what to list, and the folder that the names are told without."""
    if is_pattern(path):
        paths = cluster.match(path)
        if paths != [path]:
            return [item for each in paths for item in cluster.entries(each, recursive=recursive)], ""
    try:
        return (cluster.walk(path) if recursive else cluster.ls(path)), path
    except ConflictError:
        return [cluster.stat(path)], parent_of(path)


def _judge(context: Context, listed: Sequence[Listed]) -> None:
    """Say what the listing means for the exit code: nothing, unless --strict asks."""
    if any(item.stale for item in listed):
        context.degrade(STALE_LINE, strict=False)
    if context.strict:
        states = {item.health for item in listed}
        if Health.INCOMPLETE in states:
            context.end(IncompleteError.exit_code)
        elif Health.DEGRADED in states:
            context.end(DEGRADED)
