"""`ls`: what is printed of the names in a folder, and what they mean for the exit code."""

from collections.abc import Sequence

from dfs.context import Context
from dfs.core.errors import ConflictError, IncompleteError, NotFoundError
from dfs.core.folders import Health, Listed
from dfs.core.paths import parent_of, printable, relative_to
from dfs.entries import entry_record
from dfs.output import DEGRADED
from dfs.texts import FOLDER_UNKNOWN, STALE_LINE, listed_name, long_rows


def ls(context: Context, word: str, *, long: bool, recursive: bool) -> None:
    """Print the names in a folder, or everything below it, or one file."""
    path = context.remote(word)
    cluster = context.cluster()
    try:
        listed = cluster.walk(path) if recursive else cluster.ls(path)
    except ConflictError:
        listed, path = [cluster.stat(path)], parent_of(path)
    except NotFoundError as error:
        text = f"{printable(path)}: {FOLDER_UNKNOWN} {error.kept} {error.next_step}  ({error.code})"
        context.fail(error, text)
        return
    rows = long_rows(listed, cluster.nodes) if long else []
    for row in rows:
        context.output.result(row)
    for item in listed:
        shown = listed_name(item, relative_to(item.entry.path, path))
        context.emit("entries", entry_record(item), "" if long else shown)
    _judge(context, listed)


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
