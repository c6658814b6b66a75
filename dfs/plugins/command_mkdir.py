"""`dfs mkdir`: make a folder."""

from collections.abc import Iterable, Sequence

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConflictError,
    DfsError,
    EntryKind,
    NotFoundError,
    Options,
    hookimpl,
)

DFS_API_VERSION = 1


@click.command("mkdir", epilog="Example: dfs mkdir photos/2026")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "-p", "--parents", is_flag=True, help="No error if it is there already; parents are always made."
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be made.")
@click.pass_obj
def make_folders(context: CommandContext, *, paths: Sequence[str], parents: bool, dry_run: bool) -> None:
    """Make folders and those above them."""
    cluster = context.cluster()
    for path in paths:
        wanted = context.remote(path)
        shown = f"{wanted}/"
        if dry_run:
            context.emit("folders", {"path": wanted}, f"would make {shown}")
            continue
        try:
            cluster.mkdir(wanted)
        except ConflictError as error:
            if not _is_folder(context, wanted):
                context.fail(error)
            elif parents:
                context.emit("folders", {"path": wanted}, f"{shown} is there.")
            else:
                context.fail(ConflictError(f"{shown} already exists"))
        except DfsError as error:
            context.fail(error)
        else:
            context.emit("folders", {"path": wanted}, f"{shown} created.")


def _is_folder(context: CommandContext, path: str) -> bool:
    try:
        return bool(context.cluster().stat(path).entry.kind is EntryKind.FOLDER)
    except NotFoundError:  # a file stands where one of its parents should be
        return False


def make(_options: Options) -> click.Command:
    """Return the command."""
    return make_folders


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="mkdir", summary="make a folder", make=make),)
