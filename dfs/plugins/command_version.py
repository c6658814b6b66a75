"""`dfs version`: what runs here."""

import platform
from collections.abc import Iterable

import click

import dfs
from dfs.core.api import DFS_API_VERSION as API_VERSION, CommandContext, CommandPlugin, Options, hookimpl

DFS_API_VERSION = 1


@click.command("version", epilog="Example: dfs version --json")
@click.pass_obj
def version(context: CommandContext) -> None:
    """Show the versions of dfs and what it runs on."""
    values = {
        "version": dfs.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "plugin_api": API_VERSION,
        "formats": dict(context.formats()),
    }
    text = "dfs {version}, Python {python}, {system}, plugin interface {plugin_api}".format_map(values)
    formats = ", ".join(f"{name} {number}" for name, number in context.formats().items())
    context.emit("", values, f"{text}\nformats: {formats}")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return version


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="version", summary="show the versions of dfs and what it runs on", make=make),)
