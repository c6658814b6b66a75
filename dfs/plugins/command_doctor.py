"""`dfs doctor`: what may be wrong, and what ends it."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, count_text, hookimpl

DFS_API_VERSION = 1
PROBLEM = "problem"
OK = "ok"


@click.command("doctor", epilog="Example: dfs doctor, and on the machine of a node: dfs doctor --node")
@click.option("--node", is_flag=True, help="Look at a node of this machine and its conf, not at a client's.")
@click.pass_obj
def doctor(context: CommandContext, *, node: bool) -> None:
    """Look at conf, rights, clock, ports, certificates, versions, plugins, disks; each fault has its fix.

    It logs in like any other command, so where there is no vault yet and all nodes are up, it makes it.
    """
    counts = {"ok": 0, "warning": 0, PROBLEM: 0}
    for each in context.findings(node=node):
        counts[each.state] += 1
        fix = f"\n         fix: {each.fix}" if each.fix else ""
        values = {"name": each.name, "state": each.state, "detail": each.detail, "fix": each.fix}
        context.emit("checks", values, f"{each.state:7}  {each.name}: {each.detail}{fix}")
    warned = f", {count_text(counts['warning'], 'warning')}" if counts["warning"] else ""
    context.note(f"{count_text(counts[PROBLEM], 'problem')}{warned}, {counts[OK]} fine")
    if counts[PROBLEM]:
        context.degrade("")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return doctor


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="doctor", summary="say what may be wrong, and what ends it", make=make),)
