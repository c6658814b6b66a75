"""`ls`: what is printed of the names in a folder, and what they mean for the exit code."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from dfs.context import Context
from dfs.core.errors import ConflictError, IncompleteError, NotFoundError
from dfs.core.folders import Health, Listed
from dfs.core.paths import parent_of, printable, relative_to
from dfs.core.types import EntryKind
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
        context.emit("entries", _listed_record(item), "" if long else shown)
    _judge(context, listed)


def _listed_record(item: Listed) -> Mapping[str, object]:
    entry = item.entry
    modified = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
    recipe = entry.manifest.recipe if entry.manifest is not None else None
    is_file = entry.kind is EntryKind.FILE
    return {
        "path": entry.path,
        "kind": "file" if is_file else "folder",
        "size": entry.size,
        "stored_bytes": item.stored_size,
        "modified": modified.replace("+00:00", "Z") if is_file else None,
        "shares": item.node_count,
        "total": item.node_total,
        "needed": recipe.geometry.needed if recipe is not None else None,
        "state": item.health.value,
        "stale": item.stale,
        "version": entry.version.hex(),
        "insecure": item.insecure,
    }


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
