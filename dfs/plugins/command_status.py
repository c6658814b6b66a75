"""`dfs status`: how the nodes of the cluster are, and what may still fail."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    Options,
    VaultState,
    count_text,
    duration_text,
    hookimpl,
    size_text,
)

DFS_API_VERSION = 1
WATCH_S = 2.0  # between two screens
INTERRUPTED = 130


@click.command("status", epilog="Example: dfs status --watch")
@click.option("--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
@click.pass_obj
def status(context: CommandContext, *, watch: bool) -> None:
    """Show every node: its state, space, last scrub and what it lacks."""
    ended = threading.Event()
    try:
        while True:
            if watch:
                context.redraw()
            for user, cluster in context.clusters():
                _show(context, cluster, user)
            if not watch:
                return
            ended.wait(WATCH_S)
    except KeyboardInterrupt:
        if not watch:
            raise
        context.end(INTERRUPTED)  # the way it ends: nothing to tell


def _show(context: CommandContext, cluster: Any, user: str) -> None:  # noqa: ANN401 - dfs.cluster.Cluster
    standings = cluster.status()
    needed, total = cluster.geometry
    up = [each for each in standings if not each.reason]
    counted = [each for each in up if each.state in {VaultState.ACTIVE, VaultState.READ_ONLY}]
    spare = total - (len(standings) - len(counted))  # of the group that is worst off
    may_fail, may_fail_writing = max(0, spare - needed), max(0, spare - cluster.write_threshold)
    whose = user or cluster.user
    nodes = f"{len(up)} of {len(standings)} nodes up, geometry {needed} of {total}"
    head = f"{whose} at {cluster.conf.cluster}: {nodes}"
    context.emit(
        "",
        {
            "user": whose,
            "cluster": cluster.conf.cluster,
            "needed": needed,
            "total": total,
            "up": len(up),
            "may_fail": may_fail,
            "may_fail_writing": may_fail_writing,
            "readable": spare >= needed,
            "writable": spare >= cluster.write_threshold,
            "repairs_due": sum(each.owed_count + each.corrupt_count for each in standings),
        },
        f"{head}\n{_what_may_fail(spare, needed, cluster.write_threshold)}",
    )
    for each in standings:
        context.emit("nodes", _record(each), _line(context, each))
    due = [each for each in standings if each.owed_count or each.corrupt_count]
    lost = [each for each in up if each.state in {VaultState.JOINING, VaultState.QUARANTINED}]
    if due or lost:
        context.note("Repairs are due: dfs repair")
    if (due or lost or len(up) < len(standings)) and context.option("", "strict") == "True":
        context.degrade("")


def _what_may_fail(spare: int, needed: int, write_threshold: int) -> str:
    """Return how many further losses are borne; ``spare``: nodes that count, where the fewest do."""
    if spare < needed:
        return f"not all can be read without {count_text(needed - spare, 'more node')}"
    reading = f"{count_text(spare - needed, 'more node')} may fail and all can be read"
    if spare < write_threshold:
        return f"{reading}; not all can be written without {count_text(write_threshold - spare, 'more node')}"
    return f"{reading}, {spare - write_threshold or 'none'} and all can be written"


def _record(each: Any) -> Mapping[str, object]:  # noqa: ANN401 - a NodeStanding of dfs.cluster
    return {
        "name": each.name,
        "id": each.node.hex(),
        "address": each.address,
        "up": not each.reason,
        "reason": each.reason,
        "state": each.state.name.lower() if each.state is not None else None,
        "version": each.version,
        "incarnation": each.incarnation,
        "used": each.used_size,
        "quota_used": each.charged_size,
        "quota": each.quota,
        "free": each.free_size,
        "read_only": each.read_only,
        "shares": each.share_count,
        "owed": each.owed_count,
        "corrupt": each.corrupt_count,
        "scrubbed": each.scrubbed_s,
    }


def _line(context: CommandContext, each: Any) -> str:  # noqa: ANN401 - see above
    where = f"{each.name} {each.address}".rstrip()
    if each.reason:
        bare = each.reason.removeprefix(f"{each.name} ").removeprefix(f"{each.address} ")
        return f"{where}  down: {bare}"
    state = each.state.name.lower().replace("_", "-") if each.state is not None else "unknown"
    parts = [
        f"{where}  {state}",
        f"{count_text(each.share_count, 'share')}, {size_text(each.used_size)}",
        f"{size_text(each.free_size)} free",
        _scrub_text(context, each.scrubbed_s),
    ]
    if each.quota is not None:
        parts.insert(3, f"quota {size_text(each.charged_size)} of {size_text(each.quota)}")
    if each.owed_count:
        parts.append(f"{each.owed_count} missing")
    if each.corrupt_count:
        parts.append(f"{each.corrupt_count} CORRUPT")
    if each.read_only:
        parts.append(f"READ-ONLY: {each.read_only}")
    return "  ".join(parts)


def _scrub_text(context: CommandContext, scrubbed_s: int) -> str:
    if not scrubbed_s:
        return "not scrubbed yet"
    age_s = max(0.0, context.env.wall_s() - scrubbed_s)
    return f"scrubbed {duration_text(age_s)} ago"


def make(_options: Options) -> click.Command:
    """Return the command."""
    return status


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="status", summary="show how the nodes are", make=make),)
