"""`dfs tree`: folders and files, drawn."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    EntryKind,
    Options,
    count_text,
    hookimpl,
    size_text,
)

DFS_API_VERSION = 1
# What stands before a name: of one that others follow, of the last; and before what is below these.
ASCII = ("|-- ", "`-- ", "|   ", "    ")
DRAWN = ("├── ", "└── ", "│   ", "    ")


@click.command("tree", epilog="Example: dfs tree -L 2 photos")
@click.argument("path", default="")
@click.option("-L", "--level", type=click.IntRange(min=1), metavar="N", help="No more levels than N.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out names or paths like this.")
@click.pass_obj
def tree(context: CommandContext, *, path: str, level: int | None, exclude: Sequence[str]) -> None:
    """Draw what is below a folder."""
    top = context.remote(path)
    cluster = context.cluster()
    cluster.ls(top)  # a file is no folder
    items = cluster.find(top, exclude=exclude)
    depth = top.count("/") + 1 if top else 0
    shown = [item for item in items if level is None or item.entry.path.count("/") - depth < level]
    below: dict[str, list[Any]] = {}
    for item in shown:
        below.setdefault(item.entry.path.rpartition("/")[0], []).append(item)
    marks = DRAWN if context.pictorial else ASCII
    files = [item for item in items if item.entry.kind is EntryKind.FILE]
    size = sum(item.entry.size for item in files)
    counts = f"{count_text(len(items) - len(files), 'folder')}, {count_text(len(files), 'file')}"
    text = "\n".join([f"{top}/" if top else "/", *_drawn(below, top, marks), f"{counts}, {size_text(size)}"])
    context.emit("", {"path": top, "entries": _nested(context, below, top)}, text)


def _drawn(below: dict[str, list[Any]], folder: str, marks: Sequence[str], before: str = "") -> Iterator[str]:
    items = below.get(folder, [])
    for item in items:
        last = item is items[-1]
        name = item.entry.path.rpartition("/")[2]
        mark = " [incomplete]" if item.health.value == "incomplete" else ""
        is_folder = item.entry.kind is EntryKind.FOLDER
        yield f"{before}{marks[last]}{name}{'/' if is_folder else ''}{mark}"
        if is_folder:
            yield from _drawn(below, item.entry.path, marks, before + marks[2 + last])


def _nested(context: CommandContext, below: dict[str, list[Any]], folder: str) -> list[dict[str, object]]:
    """Return the entries of a folder, each folder with its own."""
    return [
        {**context.entry_summary(item), "entries": _nested(context, below, item.entry.path)}
        if item.entry.kind is EntryKind.FOLDER
        else dict(context.entry_summary(item))
        for item in below.get(folder, [])
    ]


def make(_options: Options) -> click.Command:
    """Return the command."""
    return tree


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="tree", summary="draw what is below a folder", make=make),)
