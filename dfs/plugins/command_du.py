"""`dfs du`: what files take."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl, size_text

DFS_API_VERSION = 1
HEAD = ("FILES", "PACKED", "STORED", "NAME")


@click.command("du", epilog="Example: dfs du -d 1 photos")
@click.argument("path", default="")
@click.option("-d", "--depth", type=click.IntRange(min=0), metavar="N", help="No more levels than N.")
@click.pass_obj
def usage(context: CommandContext, *, path: str, depth: int | None) -> None:
    """Show what folders take: bytes of files, of them packed, and of shares stored on the nodes."""
    top = context.remote(path)
    above = top.count("/") + 1 if top else 0
    rows = [
        row
        for row in context.cluster().usage(top)
        if depth is None or row.path == top or row.path.count("/") + 1 - above <= depth
    ]
    table = [
        HEAD,
        *((size_text(row.logical), size_text(row.packed), size_text(row.stored), "") for row in rows),
    ]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    lines = ["  ".join(map(str.rjust, line[:3], widths)) for line in table]
    context.emit("", {"rows": []}, f"{lines[0]}  {HEAD[3]}")
    for row, line in zip(rows, lines[1:], strict=True):
        record = {
            "path": row.path,
            "kind": row.kind.name.lower(),
            "files": row.file_count,
            "logical": row.logical,
            "packed": row.packed,
            "stored": row.stored,
        }
        context.emit("rows", record, f"{line}  {row.path or '/'}")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return usage


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="du", summary="show what folders take", make=make),)
