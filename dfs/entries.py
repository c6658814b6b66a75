"""What programs are told of an entry."""

from collections.abc import Mapping
from datetime import UTC, datetime

from dfs.core.folders import Listed
from dfs.core.types import Entry, EntryKind


def entry_record(item: Listed, *, full: bool = False) -> Mapping[str, object]:
    """Return what `ls --json` tells of an entry; ``full``: with how it was made, as `stat --json` does."""
    entry = item.entry
    modified = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
    recipe = entry.manifest.recipe if entry.manifest is not None else None
    is_file = entry.kind is EntryKind.FILE
    record: dict[str, object] = {
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
    return record | _making(entry, item.survives) if full else record


def _making(entry: Entry, survives: int) -> dict[str, object]:
    """Return how a file was made; the chunks of a list that is stored itself are not counted."""
    manifest = entry.manifest
    names = ("cipher", "compressor", "code", "placement")
    whole = manifest is not None and not manifest.listed
    return {
        "mode": f"{entry.mode:04o}",
        "survives": survives,
        "inline": manifest is None and entry.kind is EntryKind.FILE,
        "chunks": len(manifest.chunks) if manifest is not None and whole else None,
        "plugins": {name: getattr(manifest.recipe, name) for name in names} if manifest is not None else {},
    }
