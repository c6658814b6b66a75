"""`dfs mv`: rename files and folders."""

from collections.abc import Iterable, Sequence

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


@click.command("mv", epilog="Example: dfs mv draft.txt archive/")
@click.argument("paths", nargs=-1, required=True, metavar="PATH... TARGET")
@click.option("-r", "--recursive", is_flag=True, help="Folders too, with all below them.")
@click.option("--force", is_flag=True, help="A file that is there already gives way.")
@click.option("--if-version", metavar="VERSION", help="Only if this version is there (ls --json shows it).")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def move(
    context: CommandContext,
    *,
    paths: Sequence[str],
    recursive: bool,
    force: bool,
    if_version: str | None,
    dry_run: bool,
) -> None:
    """Rename files, or with -r folders, or move them into a folder that is there or ends in /.

    A folder is moved file by file; where that was cut off, run it again.
    """
    if len(paths) < 2:
        raise ConfigError("mv needs a path and a target")
    version = None if if_version is None else parse_version(if_version)
    cluster = context.cluster()
    sources = context.matched(paths[:-1])
    last = context.remote(paths[-1]) + "/" * paths[-1].endswith("/")
    for source, target in (cluster.target(last, sources) if sources else {}).items():
        try:
            if cluster.stat(source).entry.kind is EntryKind.FOLDER and not recursive:
                raise ConfigError(f"{source} is a folder", next_step="Use mv -r.")
            if not dry_run:
                cluster.rename(source, target, replace=force, if_version=version)
        except DfsError as error:
            context.fail(error)
        else:
            text = f"{source} -> {target}"
            context.emit("moved", {"from": source, "to": target}, f"would move {text}" if dry_run else text)


def make(_options: Options) -> click.Command:
    """Return the command."""
    return move


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="mv", summary="rename files and folders", make=make),)
