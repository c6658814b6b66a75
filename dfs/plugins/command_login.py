"""`dfs login`: log in, and keep the login if so wished."""

import base64
from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, count_text, hookimpl

DFS_API_VERSION = 1


@click.command("login", epilog="Example: dfs login --keep file. To forget it again: dfs logout.")
@click.option(
    "--keep",
    metavar="PLACE",
    type=click.Choice(["file", "keyring"]),
    help="Keep the login: in a file of yours (mode 0600) or in the system's keyring.",
)
@click.option("--public-key", is_flag=True, help="Only print the public key for the users file of a node.")
@click.pass_obj
def login(context: CommandContext, *, keep: str | None, public_key: bool) -> None:
    """Log in to all nodes; the first login that reaches all of them makes the vault.

    What is kept is not the password, but the secret that follows from it: whoever has it is you. Later
    commands use it before they ask for a password.
    """
    if public_key:
        facts = context.passwords().facts()
        text = f"ed25519:{base64.b64encode(facts.public_key).decode()}"
        context.emit("", {"user": facts.user, "public_key": text}, text)
        return
    done = context.passwords().log_in(keep or "")
    for note in done.notes:
        context.note(note)
    made = f"; vault made on {count_text(done.node_count, 'node')}" if done.made else ""
    kept = {"file": ", kept in a file", "keyring": ", kept in the keyring"}.get(done.kept, "")
    values = {"user": done.user, "vault_created": done.made, "kept": done.kept or None}
    context.emit("", values, f"logged in as {done.user}{kept}{made}")
    if done.made:
        context.note("Make a recovery sheet: dfs key export. Without it a lost password loses everything.")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return login


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="login", summary="log in, and keep the login for later commands", make=make),)
