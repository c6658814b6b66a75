"""`dfs logout`: forget a kept login."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl

DFS_API_VERSION = 1


@click.command("logout", epilog="Example: dfs logout")
@click.pass_obj
def logout(context: CommandContext) -> None:
    """Forget the login that dfs login kept, in a file or in the keyring."""
    forgotten = context.passwords().log_out()
    text = "the kept login is forgotten" if forgotten else "no login was kept"
    context.emit("", {"forgotten": forgotten}, text)


def make(_options: Options) -> click.Command:
    """Return the command."""
    return logout


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="logout", summary="forget a kept login", make=make),)
