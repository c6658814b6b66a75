"""`dfs rm`: remove files and folders."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    DfsError,
    NotFoundError,
    Options,
    hookimpl,
    parse_version,
)

DFS_API_VERSION = 1


@click.command("rm", epilog="Example: dfs rm -r photos/2019")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Remove folders and all below them.")
@click.option("--force", is_flag=True, help="What is not there is no error.")
@click.option("--if-version", metavar="VERSION", help="Only if this version is there (ls --json shows it).")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def remove(
    context: CommandContext,
    *,
    paths: Sequence[str],
    recursive: bool,
    force: bool,
    if_version: str | None,
    dry_run: bool,
) -> None:
    """Remove files, or with -r folders and all below them."""
    version = None if if_version is None else parse_version(if_version)
    cluster = context.cluster()
    removed: list[str] = []
    for wanted in _matched(context, paths) if force else context.matched(paths):
        try:
            if dry_run:
                removed.extend(_below(context, wanted, recursive=recursive))
            else:
                removed.extend(cluster.rm(wanted, recursive=recursive, if_version=version))
        except NotFoundError as error:
            if not force:
                context.fail(error)
        except DfsError as error:
            context.fail(error)
    count = "1 entry" if len(removed) == 1 else f"{len(removed)} entries"
    text = "\n".join(f"would remove {name}" for name in removed) if dry_run else f"{count} removed"
    context.emit("", {"removed": removed}, text if removed else "")


def _matched(context: CommandContext, paths: Sequence[str]) -> list[str]:
    """Return the paths that arguments mean; a pattern may fit nothing."""
    found: list[str] = []
    for path in paths:
        with suppress(NotFoundError):
            found.extend(context.cluster().match(context.remote(path)))
    return list(dict.fromkeys(found))


def _below(context: CommandContext, path: str, *, recursive: bool) -> list[str]:
    """Return what would be removed, and that it is there."""
    below = [item.entry.path for item in context.cluster().walk(path)] if recursive else []
    if path:
        context.cluster().stat(path)
    return [*below, *([path] if path else [])]


def make(_options: Options) -> click.Command:
    """Return the command."""
    return remove


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="rm", summary="remove files and folders", make=make),)
