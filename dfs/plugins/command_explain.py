"""`dfs explain`: what an error code means, what was lost, and what to do."""

import re
from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, ConfigError, Options, hookimpl

DFS_API_VERSION = 1
WIDTH = 100  # columns


@click.command("explain", epilog="Example: dfs explain DFS-E131, or just: dfs explain 131")
@click.argument("number", required=False, metavar="[CODE]")
@click.pass_obj
def explain(context: CommandContext, *, number: str | None) -> None:
    """Say what an error code means, what was lost, and what to do. Without CODE: list all."""
    known = context.explanations()
    if number is None:
        for name, each in known.items():
            context.emit("codes", _record(name, each), f"{name}  {each.title}")
        return
    name = _canonical(number)
    if name not in known:
        raise ConfigError(f"no such error code: {number!r}", next_step="All of them: dfs explain.")
    each = known[name]
    lines = [f"{name}: {each.title}", "", *_wrapped(each.meaning), *_wrapped(each.kept), ""]
    for step in each.steps:
        lines += _wrapped(f"- {step}", "  ")
    end = f"A command that ends by it has the exit code {each.exit_code}."
    context.emit("", _record(name, each), "\n".join([*lines, "", end]))


def _canonical(code: str) -> str:
    """Return a code as the table has it: ``131``, ``e131`` and ``DFS-E131`` are the same."""
    match = re.fullmatch(r"(?:DFS-)?E?([0-9]{3})", code.strip().strip("()").upper())
    return f"DFS-E{match[1]}" if match else code


def _record(name: str, each: object) -> dict[str, object]:
    values = {field: getattr(each, field) for field in ("title", "exit_code", "meaning", "kept")}
    return {"code": name, **values, "steps": list(getattr(each, "steps", ()))}


def _wrapped(text: str, indent: str = "") -> list[str]:
    from textwrap import wrap  # only people need it

    return wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def make(_options: Options) -> click.Command:
    """Return the command."""
    return explain


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="explain", summary="say what an error code means and what to do", make=make),)
