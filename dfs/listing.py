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
from dfs.texts import FOLDER_UNKNOWN, STALE_LINE, listed_name, long_rows

if TYPE_CHECKING:
    from dfs.cluster import Cluster

SORTS: Final = {
    "size": lambda item: -item.entry.size,
    "time": lambda item: -item.entry.mtime_ns,
}


def ls(context: Context, word: str, *, long: bool, recursive: bool, sort: str = "name") -> None:
    """Print the names in a folder, or everything below it, or one file, or what is like a pattern."""
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
    rows = long_rows(listed, cluster.nodes, drawn=context.pictorial) if long else []
    for row in rows:
        context.output.result(row)
    for item in listed:
        shown = listed_name(item, relative_to(item.entry.path, path))
        context.emit("entries", entry_record(item), "" if long else shown)
    _judge(context, listed)


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
