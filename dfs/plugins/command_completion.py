"""`dfs completion`: the script that lets a shell complete commands, options and names."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl

DFS_API_VERSION = 1
VARIABLE = "_DFS_COMPLETE"
WHERE = {
    "bash": "~/.bashrc: source <(dfs completion bash)",
    "zsh": "~/.zshrc: source <(dfs completion zsh)",
    "fish": "dfs completion fish > ~/.config/fish/completions/dfs.fish",
}


@click.command("completion", epilog="Example: source <(dfs completion bash)")
@click.argument("shell", type=click.Choice(list(WHERE)))
@click.pass_obj
def completion(context: CommandContext, *, shell: str) -> None:
    """Print what lets a shell complete commands, options, local and remote names.

    Remote names are completed where no password is asked for: with a key file, a password file or command, or
    a login that was kept.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    asker = kind(click.Command("dfs"), {}, "dfs", VARIABLE)
    # Not `source()`: that of bash starts a bash to ask for its version.
    script = asker.source_template % asker.source_vars()
    context.emit("", {"shell": shell, "script": script}, f"# {WHERE[shell]}\n{script.rstrip()}")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return completion


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    summary = "print the script with which a shell completes dfs lines"
    return (CommandPlugin(name="completion", summary=summary, make=make),)
