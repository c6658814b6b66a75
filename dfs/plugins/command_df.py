"""`dfs df`: what is used and what more can be stored."""

from collections.abc import Iterable
from typing import Any

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl, size_text

DFS_API_VERSION = 1


@click.command("df", epilog="Example: dfs df")
@click.pass_obj
def free(context: CommandContext) -> None:
    """Show what each node holds and has left, and what more can be stored at this redundancy."""
    cluster = context.cluster()
    standings = cluster.status()
    capacity = cluster.capacity(standings)
    table = [("NODE", "USED", "FREE", "QUOTA"), *(_cells(each) for each in standings)]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    context.emit("", {"nodes": []}, lines[0])
    for each, line in zip(standings, lines[1:], strict=True):
        context.emit("nodes", _record(each), line)
    geometry = f"{capacity.needed} of {capacity.total}"
    context.emit(
        "",
        {"joint_free": capacity.joint, "needed": capacity.needed, "total": capacity.total},
        f"Together they can take {size_text(capacity.joint)} more at {geometry}.",
    )
    if any(each.reason for each in standings) and context.option("", "strict") == "True":
        context.degrade("")


def _cells(each: Any) -> tuple[str, ...]:  # noqa: ANN401 - a NodeStanding of dfs.cluster
    if each.reason:
        return each.name, "down", "", each.reason.removeprefix(f"{each.name} ")
    quota = "none" if each.quota is None else f"{size_text(each.charged_size)} of {size_text(each.quota)}"
    return each.name, size_text(each.used_size), size_text(each.free_size), quota


def _record(each: Any) -> dict[str, object]:  # noqa: ANN401 - see above
    return {
        "name": each.name,
        "up": not each.reason,
        "used": each.used_size,
        "free": each.free_size,
        "quota": each.quota,
        "quota_used": each.charged_size,
    }


def make(_options: Options) -> click.Command:
    """Return the command."""
    return free


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="df", summary="show what more can be stored", make=make),)
