"""`dfs stat`: everything about one entry."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

from dfs.core.api import CommandContext, CommandPlugin, DfsError, EntryKind, Options, hookimpl, size_text

DFS_API_VERSION = 1


@click.command("stat", epilog="Example: dfs stat photos/cat.jpg")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.pass_obj
def show(context: CommandContext, *, paths: Sequence[str]) -> None:
    """Show everything about files or folders: size, version, geometry, plugins, shares by node."""
    cluster = context.cluster()
    for path in context.matched(paths):
        try:
            item = cluster.stat(path)
            rows = cluster.chart(path) if item.entry.kind is EntryKind.FILE else []
        except DfsError as error:
            context.fail(error)
            continue
        names = dict(cluster.nodes)
        cells = [(names[cell.node], cell) for row in rows for cell in row.cells]
        nodes = [
            {"node": name, "held": cell.held, "total": cell.total, "state": cell.state.value}
            for name, cell in cells
        ]
        text = "\n".join([*_lines(item), *(_node_line(name, cell) for name, cell in cells)])
        context.emit("entries", {**context.entry_summary(item, full=True), "nodes": nodes}, text)


def _lines(item: Any) -> list[str]:  # noqa: ANN401 - a Listed of dfs.cluster
    """Return one fact a line."""
    entry = item.entry
    if entry.kind is EntryKind.FOLDER:
        return [f"{entry.path or '/'}", "  kind      folder", f"  version   {entry.version.hex()}"]
    changed = datetime.fromtimestamp(entry.mtime_ns // 10**9).astimezone()
    manifest = entry.manifest
    lines = [
        entry.path,
        "  kind      file",
        f"  size      {size_text(entry.size)} ({entry.size} bytes)",
        f"  stored    {size_text(item.stored_size)} of shares",
        f"  modified  {changed:%Y-%m-%d %H:%M:%S}",
        f"  mode      {entry.mode:04o}",
        f"  version   {entry.version.hex()}",
        f"  state     {item.health.value} {item.node_count}/{item.node_total}, {_survival(item.survives)}",
    ]
    if manifest is None:
        return [*lines, "  kept      in its entry, on every node"]
    recipe = manifest.recipe
    plugins = (recipe.cipher, recipe.compressor, recipe.code, recipe.placement)
    count = "many" if manifest.listed else len(manifest.chunks)
    return [
        *lines,
        f"  geometry  {recipe.geometry.needed} of {recipe.geometry.total}",
        f"  chunks    {count}",
        f"  plugins   {', '.join(plugins)}",
    ]


def _survival(count: int) -> str:
    return f"survives any {count}" if count > 0 else "survives no loss"


def _node_line(name: str, cell: Any) -> str:  # noqa: ANN401 - a Cell of dfs.cluster
    held = f"{cell.held}/{cell.total} shares" if cell.total else "its entry"
    return f"  on {name}  {held}  {cell.state.value}"


def make(_options: Options) -> click.Command:
    """Return the command."""
    return show


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="stat", summary="show everything about one entry", make=make),)
