"""`dfs passwd`: another password, on all nodes or told to the others later."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl, listing

DFS_API_VERSION = 1


@click.command(
    "passwd",
    epilog="Example: dfs passwd. For a program: dfs passwd --new-password-file FILE (mode 0600).",
)
@click.option("--new-password-file", metavar="FILE", help="The new password: the first line of a file.")
@click.option("--new-key-file", metavar="FILE", help="A key file in place of a password, see dfs key new.")
@click.pass_obj
def passwd(context: CommandContext, *, new_password_file: str | None, new_key_file: str | None) -> None:
    """Change the password of the vault and of the login; no file is encrypted or sent again.

    The old password comes from where it always does, the new one is asked for twice. Nodes that are away
    learn it from the first command that meets them. It ends with 3 while a node owes it. If it is
    interrupted, the old password or the new one works; then run it again.
    """
    changed = context.passwords().change(password_file=new_password_file, key_file=new_key_file)
    values = {"acknowledged": list(changed.acknowledged), "owed": list(changed.owed)}
    what = "password is changed" if new_key_file is None else f"key file {new_key_file} is the login now"
    context.emit("", values, f"The {what}; the old one opens nothing any more.")
    for note in changed.notes:
        context.note(note)
    context.note(
        "Let the administrator of each node put the new login key into its users file (dfs key show):"
        " a node that loses its disk knows only that."
    )
    if changed.owed:
        context.degrade(
            f"{listing(changed.owed)} still {'owes' if len(changed.owed) == 1 else 'owe'} the new password;"
            " the first command that reaches all of them completes it"
        )


def make(_options: Options) -> click.Command:
    """Return the command."""
    return passwd


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (
        CommandPlugin(name="passwd", summary="change the password; nothing is encrypted again", make=make),
    )
