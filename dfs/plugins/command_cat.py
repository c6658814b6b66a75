"""`dfs cat`: the bytes of files on stdout, each verified before it is written."""

from collections.abc import Iterable, Sequence

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    DfsError,
    Options,
    Span,
    hookimpl,
    parse_span,
)

DFS_API_VERSION = 1


@click.command("cat", epilog="Example: dfs cat --range 0-99 notes.txt")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--range", "part", metavar="A-B", help="Only these bytes: 0-99, 100- or -100 (the last 100).")
@click.pass_obj
def concatenate(context: CommandContext, *, paths: Sequence[str], part: str | None) -> None:
    """Write files to stdout, verified before they are written."""
    span = _span(part)
    target = context.binary_output()
    cluster = context.cluster()
    stale = False
    for path in context.matched(paths):
        try:
            stale = cluster.get(path, target, span=span).stale or stale
        except DfsError as error:
            context.fail(error)
    if stale and context.option("", "strict") == "True":
        context.degrade("degraded: may be stale, too few nodes answer to be sure  (DFS-E304)")
    elif stale:
        context.note("degraded: may be stale, too few nodes answer to be sure  (DFS-E304)")


def _span(part: str | None) -> Span:
    if part is None:
        return Span()
    try:
        return parse_span(part)
    except ConfigError as error:
        raise ConfigError(f"--range: {error.what}") from None


def make(_options: Options) -> click.Command:
    """Return the command."""
    return concatenate


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="cat", summary="write files to stdout", make=make),)
