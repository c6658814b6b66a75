"""`dfs mv` and `dfs cp`: the same words, and other names for files and folders."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypedDict, Unpack

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    DfsError,
    EntryKind,
    Options,
    hookimpl,
    parse_version,
)

DFS_API_VERSION = 1

WORDS: Final = (
    click.argument("paths", nargs=-1, required=True, metavar="PATH... TARGET"),
    click.option("-r", "--recursive", is_flag=True, help="Folders too, with all below them."),
    click.option("--force", is_flag=True, help="A file that is there already gives way."),
    click.option(
        "--if-version", metavar="VERSION", help="Only if this version is there (ls --json shows it)."
    ),
    click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done."),
)


class Words(TypedDict):
    """What both commands are given."""

    paths: Sequence[str]
    recursive: bool
    force: bool
    if_version: str | None
    dry_run: bool


def with_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the arguments and options of both commands."""
    for declare in reversed(WORDS):
        function = declare(function)
    return function


@click.command("mv", epilog="Example: dfs mv draft.txt archive/")
@with_words
@click.pass_obj
def move(context: CommandContext, **words: Unpack[Words]) -> None:
    """Rename files, or with -r folders, or move them into a folder that is there or ends in /.

    A folder is moved file by file; where that was cut off, run it again.
    """
    give_names(context, "mv", ("move", "moved"), words)


@click.command("cp", epilog="Example: dfs cp -r photos photos-2026")
@with_words
@click.pass_obj
def copy(context: CommandContext, **words: Unpack[Words]) -> None:
    """Copy files, or with -r folders, to a new name or into a folder that is there or ends in /.

    Nothing is encrypted or sent again: both names hold the same shares.
    """
    give_names(context, "cp", ("copy", "copied"), words)


def give_names(context: CommandContext, command: str, deed: tuple[str, str], words: Words) -> None:
    """Move or copy each source, telling the failure of one and going on with the next.

    ``deed``: what is done to a file, before and after.
    """
    *paths, last = words["paths"]
    if not paths:
        raise ConfigError(f"{command} needs a path and a target")
    version = None if words["if_version"] is None else parse_version(words["if_version"])
    cluster = context.cluster()
    give_name = cluster.rename if command == "mv" else cluster.copy
    sources = context.matched(paths)
    into = context.remote(last) + "/" * last.endswith("/")
    for source, target in (cluster.target(into, sources) if sources else {}).items():
        try:
            if cluster.stat(source).entry.kind is EntryKind.FOLDER and not words["recursive"]:
                raise ConfigError(f"{source} is a folder", next_step=f"Use {command} -r.")
            if not words["dry_run"]:
                give_name(source, target, replace=words["force"], if_version=version)
        except DfsError as error:
            context.fail(error)
        else:
            text = f"{source} -> {target}"
            told = f"would {deed[0]} {text}" if words["dry_run"] else text
            context.emit(deed[1], {"from": source, "to": target}, told)


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare both."""
    return (
        CommandPlugin(name="mv", summary="rename files and folders", make=_made(move)),
        CommandPlugin(name="cp", summary="copy files and folders", make=_made(copy)),
    )


def _made(command: click.Command) -> Callable[[Options], click.Command]:
    return lambda _options: command
