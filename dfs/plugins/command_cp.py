"""`dfs cp`: copy files and folders."""

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


@click.command("cp", epilog="Example: dfs cp -r photos photos-2026")
@click.argument("paths", nargs=-1, required=True, metavar="PATH... TARGET")
@click.option("-r", "--recursive", is_flag=True, help="Folders too, with all below them.")
@click.option("--force", is_flag=True, help="A file that is there already gives way.")
@click.option("--if-version", metavar="VERSION", help="Only if this version is there (ls --json shows it).")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def copy(
    context: CommandContext,
    *,
    paths: Sequence[str],
    recursive: bool,
    force: bool,
    if_version: str | None,
    dry_run: bool,
) -> None:
    """Copy files, or with -r folders, to a new name or into a folder that is there or ends in /.

    Nothing is encrypted or sent again: both names hold the same shares.
    """
    if len(paths) < 2:
        raise ConfigError("cp needs a path and a target")
    version = None if if_version is None else parse_version(if_version)
    cluster = context.cluster()
    sources = context.matched(paths[:-1])
    last = context.remote(paths[-1]) + "/" * paths[-1].endswith("/")
    for source, target in (cluster.target(last, sources) if sources else {}).items():
        try:
            if cluster.stat(source).entry.kind is EntryKind.FOLDER and not recursive:
                raise ConfigError(f"{source} is a folder", next_step="Use cp -r.")
            if not dry_run:
                cluster.copy(source, target, replace=force, if_version=version)
        except DfsError as error:
            context.fail(error)
        else:
            text = f"{source} -> {target}"
            context.emit("copied", {"from": source, "to": target}, f"would copy {text}" if dry_run else text)


def make(_options: Options) -> click.Command:
    """Return the command."""
    return copy


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="cp", summary="copy files and folders", make=make),)
