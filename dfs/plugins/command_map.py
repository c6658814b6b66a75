"""`dfs map`: a grid of files and nodes."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl

DFS_API_VERSION = 1


@click.command("map", epilog="Example: dfs map --chunks video.mkv")
@click.argument("path", default="")
@click.option("--chunks", is_flag=True, help="A row for each chunk: which share lies where.")
@click.pass_obj
def chart(context: CommandContext, *, path: str, chunks: bool) -> None:
    """Show which node holds how many shares of each file."""
    cluster = context.cluster()
    rows = cluster.chart(context.remote(path), chunks=chunks)
    names = dict(cluster.nodes)
    head = ("FILE", "CHUNK", *names.values()) if chunks else ("FILE", *names.values())
    table = [head, *(_line(row, list(names), chunks=chunks) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    context.emit("", {"nodes": list(names.values()), "rows": []}, lines[0])
    for row, line in zip(rows, lines[1:], strict=True):
        cells = [
            {
                "node": names[cell.node],
                "shares": list(cell.shares) if chunks else None,
                "held": cell.held,
                "total": cell.total,
                "state": cell.state.value,
            }
            for cell in row.cells
        ]
        context.emit("rows", {"path": row.path, "chunk": row.chunk, "cells": cells}, line)


def _line(row: Any, nodes: Sequence[bytes], *, chunks: bool) -> tuple[str, ...]:  # noqa: ANN401 - a ChartRow
    cells = {cell.node: cell for cell in row.cells}
    texts = [_cell(cells[node]) if node in cells else "-" for node in nodes]
    chunk = ("-" if row.chunk is None else str(row.chunk),) if chunks else ()
    return (row.path, *chunk, *texts)


def _cell(cell: Any) -> str:  # noqa: ANN401 - a Cell of dfs.cluster
    """Return ``256/256 ok``, ``share 2 ok`` of a chunk, ``entry ok`` of what lies in its entry."""
    if cell.shares:
        return f"share {'+'.join(map(str, cell.shares))} {cell.state.value}"
    return f"{f'{cell.held}/{cell.total}' if cell.total else 'entry'} {cell.state.value}"


def make(_options: Options) -> click.Command:
    """Return the command."""
    return chart


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="map", summary="show which node holds what of each file", make=make),)
