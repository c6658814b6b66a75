"""What a shell completes of a `dfs` line: words and options, remote names, local files.

The scripts of `dfs completion` ask for it with the variable VARIABLE set; nothing else imports this.
"""

from collections.abc import Callable
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from dfs.context import Context
from dfs.core.errors import DfsError
from dfs.core.types import EntryKind

VARIABLE: Final = "_DFS_COMPLETE"
PATHS: Final = frozenset({"FILE", "DIR", "LOCAL"})  # metavars of options that name something local
REMOTE: Final = frozenset(
    {"cat", "check", "cp", "du", "find", "get", "ls", "map", "mkdir", "mv", "repair", "rm", "stat", "tree"}
)

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(cli: click.Group, context: Context, instruction: str) -> int:
    """Print what the shell asks for and return the status; whatever fails completes nothing."""
    shell, _, task = instruction.partition("_")
    kind = get_completion_class(shell)
    if kind is None or task not in {"source", "complete"}:
        return 1
    context.output.quiet = True  # nothing may be written into the line that is typed
    asker = kind(_prepared(cli), {"obj": context}, "dfs", VARIABLE)
    try:
        if text := asker.source() if task == "source" else asker.complete():
            click.echo(text)
    except DfsError:
        return 0  # a line that means nothing, or a faulty conf
    finally:
        context.close()
    return 0


def _prepared(cli: click.Group) -> click.Group:
    """Have every command that is looked up know what its arguments are."""
    look_up = cli.get_command

    def get_command(ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = look_up(ctx, cmd_name)
        if command is not None:
            _teach(command, command.name or cmd_name)
        return command

    cli.get_command = get_command  # type: ignore[method-assign]
    _teach_options(cli)
    return cli


def _teach(command: click.Command, name: str) -> None:
    _teach_options(command)
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and not isinstance(parameter.type, click.Choice):
            parameter._custom_shell_complete = _remote if name in REMOTE else _local  # noqa: SLF001 - the constructor's argument
    if isinstance(command, click.Group):
        for child, each in command.commands.items():
            _teach(each, child)


def _teach_options(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.metavar in PATHS:
            parameter._custom_shell_complete = _local  # noqa: SLF001


def _local(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]  # the shell does that best


def _remote(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    context = ctx.find_object(Context)
    if context is None or not _logs_in_silently(context):
        return []
    folder, slash, start = incomplete.rpartition("/")
    listed = context.cluster().ls(context.remote(folder))
    names = [(item.entry.path.rpartition("/")[2], item.entry.kind is EntryKind.FOLDER) for item in listed]
    return [
        CompletionItem(f"{folder}{slash}{name}{'/' if is_folder else ''}")
        for name, is_folder in sorted(names)
        if name.startswith(start) and name.isprintable()
    ]


def _logs_in_silently(context: Context) -> bool:
    """Whether no password would be asked for."""
    from dfs.core.credentials import source_of
    from dfs.core.kept import KeptLogin
    from dfs.core.places import state_folder, system_user

    conf = context.conf()
    if source_of(conf):
        return True
    return KeptLogin(state_folder(), conf, conf.user or system_user()).load() is not None
