"""`dfs plugins`: what is there, from where, and what is wrong with it."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, PluginError, hookimpl

DFS_API_VERSION = 1


@click.command("plugins")
@click.pass_obj
def plugins(context: CommandContext) -> None:
    """List the plugins, built-in and installed, and say what is wrong with them."""
    statuses = context.plugins()
    widths = [max((len(getattr(each, name)) for each in statuses), default=0) for name in ("hook", "name")]
    for status in statuses:
        kind = status.hook.removeprefix("dfs_").removesuffix("s")
        source = f"{status.package} {status.package_version}".strip()
        state = "ok" if not status.reason else "broken"
        columns = f"{kind:{widths[0] - 4}}{status.name:{widths[1] + 2}}"
        values = {
            "kind": kind,
            "name": status.name,
            "package": status.package,
            "version": status.package_version,
            "format": status.format_version or None,
            "state": state,
            "reason": status.reason,
        }
        context.emit("plugins", values, "" if status.reason else f"{columns}{status.summary}  ({source})")
        if status.reason:
            name = f"{kind} {status.name}" if kind else status.package
            context.fail(PluginError(f"{name}: {status.reason}"))


def make(_options: Options) -> click.Command:
    """Return the command."""
    return plugins


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    summary = "list the plugins and say what is wrong with them"
    return (CommandPlugin(name="plugins", summary=summary, make=make),)
