"""`dfs repair`: bring nodes up to date and make missing and bad shares again."""

from collections.abc import Iterable
from typing import Any

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    Options,
    count_text,
    hookimpl,
    listing,
    size_text,
)

DFS_API_VERSION = 1


@click.command("repair", epilog="Example: dfs repair -n")
@click.argument("path", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole vault; a healer's login: all vaults.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be read and written.")
@click.pass_obj
def repair(context: CommandContext, *, path: str | None, everything: bool, dry_run: bool) -> None:
    """Make again what is missing or bad of a file, a folder, or everything; and nothing else.

    Nodes that lost their disk, or were put back to an old copy, are brought up to date and count again.
    """
    if path is not None and everything:
        raise ConfigError("--all and a path exclude each other")
    wanted = None if path is None or everything else context.remote(path)
    values: dict[str, object] = {}
    for user, cluster in context.clusters():
        if user and wanted is not None:
            raise ConfigError("a healer has no paths", next_step="Run dfs repair --all.")
        repaired = _repair_one(context, cluster, user, wanted or None, dry_run=dry_run)
        context.emit("vaults" if user else "", {**repaired, **({"user": user} if user else {})})
        values = repaired
    if not values:
        context.emit("", {}, "nothing to repair: there is no vault")


def _repair_one(
    context: CommandContext,
    cluster: Any,  # noqa: ANN401 - dfs.cluster.Cluster
    user: str,
    path: str | None,
    *,
    dry_run: bool,
) -> dict[str, object]:
    """Repair one vault; returns what is told to programs."""
    label = f"{user}: " if user else ""
    planned = cluster.repair(path, plan_only=True)
    plan = planned.planned
    result = planned
    away = [f"{each.name} is away: {each.reason}" for each in cluster.status() if each.reason]
    idle = not (plan.registers or plan.shares or planned.left or cluster.is_incomplete)
    if idle:
        context.note(f"{label}nothing to repair{' on the nodes that answer' if away else ''}")
    else:
        sizes = f"(reads {size_text(plan.read_size)}, writes {size_text(plan.written_size)})"
        shares = count_text(plan.shares, "share")
        context.note(f"{label}plan: {_entries(plan.registers)} to bring up to date, {shares} to make {sizes}")
    if not idle and not dry_run:
        with context.meter("repair", plan.written_size) as meter:
            result = cluster.repair(path, progress=meter)
        _tell(context, cluster, label, result)
    left = [*result.left, *away]
    for reason in left:
        context.degrade(f"{label}left: {reason}")
    if away:
        context.note(f"{label}What they lack can be made when they are back: dfs repair")
    names = dict(cluster.nodes)
    return {
        "planned": {
            "entries": plan.registers,
            "shares": plan.shares,
            "read": plan.read_size,
            "written": plan.written_size,
        },
        "made": 0 if dry_run else result.shares,
        "entries": 0 if dry_run else result.registers,
        "read": result.read_size,
        "written": result.written_size,
        "joined": [names[node] for node in result.joined],
        "left": left,
    }


def _tell(context: CommandContext, cluster: Any, label: str, result: Any) -> None:  # noqa: ANN401 - see above
    names = dict(cluster.nodes)
    sizes = f"(read {size_text(result.read_size)}, wrote {size_text(result.written_size)})"
    context.emit("", {}, f"{label}repair made {count_text(result.shares, 'share')} {sizes}")
    if result.registers:
        context.note(f"{label}{_entries(result.registers)} brought up to date")
    if result.joined:
        context.note(f"{label}{listing([names[node] for node in result.joined])} back, and counted again")


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def make(_options: Options) -> click.Command:
    """Return the command."""
    return repair


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="repair", summary="make missing and bad shares again", make=make),)
