"""`dfs replace`: an empty node takes the place of one whose disk is lost."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, count_text, hookimpl, size_text

DFS_API_VERSION = 1


@click.command("replace", epilog="Example: dfs replace -n DFS3")
@click.argument("node")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def replace(context: CommandContext, *, node: str, dry_run: bool) -> None:
    """Give the empty node at the place of a lost one its id, and bring it up to date.

    Start it with an empty directory at the address that the conf has for NODE, and trust its certificate
    (dfs cert trust NODE) first.
    """
    cluster = context.cluster()
    node = next((each.name for each in cluster.traffic() if each.name.lower() == node.lower()), node)
    plan = cluster.replace(node, plan_only=True).planned
    sizes = f"reads about {size_text(plan.read_size)}, writes about {size_text(plan.written_size)}"
    context.note(f"plan: {node} gets the id of the lost node, and all it should hold ({sizes})")
    planned = {"read": plan.read_size, "written": plan.written_size}
    if dry_run:
        context.emit("", {"node": node, "planned": planned})
        return
    if not context.confirm(f"Does {node} replace a node that will never come back?"):
        context.note("Nothing was changed.")
        return
    with context.meter("replace", plan.written_size) as meter:
        done = cluster.replace(node, progress=meter)
    by_name = {standing.name: standing for standing in cluster.status()}
    incarnation = by_name[node].incarnation if node in by_name else 0
    made = f"{count_text(done.shares, 'share')} made (read {size_text(done.read_size)}, "
    state = "It counts again." if done.joined else "It does not count yet: run dfs repair."
    context.emit(
        "",
        {
            "node": node,
            "incarnation": incarnation,
            "planned": planned,
            "made": done.shares,
            "entries": done.registers,
            "left": list(done.left),
        },
        f"{node} replaced, incarnation {incarnation}: {made}wrote {size_text(done.written_size)}). {state}",
    )
    for reason in done.left:
        context.degrade(f"left: {reason}")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return replace


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="replace", summary="put an empty node in the place of a lost one", make=make),)
