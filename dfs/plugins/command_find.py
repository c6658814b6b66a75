"""`dfs find`: paths that fit."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    EntryKind,
    Options,
    hookimpl,
    parse_duration,
    parse_size,
)

DFS_API_VERSION = 1
KINDS = {"file": EntryKind.FILE, "folder": EntryKind.FOLDER}


@click.command("find", epilog="Example: dfs find photos --name '*.jpg' --larger '1 MiB' --newer '7 d'")
@click.argument("path", default="")
@click.option("--name", metavar="GLOB", help="Only names like this.")
@click.option("--kind", type=click.Choice(sorted(KINDS)), help="Only files, or only folders.")
@click.option("--larger", metavar="SIZE", help="Only files larger than this: '10 MiB'.")
@click.option("--newer", metavar="TIME", help="Only files changed within '7 d', or after 2026-11-01.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out names or paths like this.")
@click.pass_obj
def find(
    context: CommandContext,
    *,
    path: str,
    name: str | None,
    kind: str | None,
    larger: str | None,
    newer: str | None,
    exclude: Sequence[str],
) -> None:
    """Print the paths below a folder that fit, one a line."""
    size = _size(larger)
    after_s = _time(context, newer)
    found = context.cluster().find(
        context.remote(path),
        name=name,
        kind=KINDS[kind] if kind is not None else None,
        larger=size,
        newer_s=after_s,
        exclude=exclude,
    )
    for item in found:
        folder = "/" if item.entry.kind is EntryKind.FOLDER else ""
        context.emit("entries", context.entry_summary(item), f"{item.entry.path}{folder}")
    if not found:
        context.emit("", {"entries": []})


def _size(text: str | None) -> int | None:
    try:
        return parse_size(text) if text is not None else None
    except ConfigError as error:
        raise ConfigError(f"--larger: {error.what}") from None


def _time(context: CommandContext, text: str | None) -> float | None:
    """Return a time as seconds since 1970; a date without a time zone is in that of the machine."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return context.env.wall_s() - parse_duration(text)
    except ConfigError:
        raise ConfigError(
            f"--newer: expected a duration such as '7 d' or a date such as 2026-11-01, not {text!r}"
        ) from None


def make(_options: Options) -> click.Command:
    """Return the command."""
    return find


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="find", summary="find files by name, size or time", make=make),)
