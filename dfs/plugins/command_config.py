"""`dfs config`: the values in force and who set them, faults of conf files, classic confs as TOML."""

from collections.abc import Iterable

import click

from dfs.core.api import CommandContext, CommandPlugin, ConfigError, Options, count_text, hookimpl

DFS_API_VERSION = 1


@click.group("config")
def config() -> None:
    """Show, check and convert confs."""


@config.command("show", epilog="Example: dfs config show --origin")
@click.option("--origin", is_flag=True, help="Say which file, variable or option set each value.")
@click.option("--node", is_flag=True, help="The conf of a node, not of a client.")
@click.pass_obj
def show(context: CommandContext, *, origin: bool, node: bool) -> None:
    """Show the values in force, secrets as ***."""
    file, rows = context.confs().values(node=node)
    context.emit("", {"file": file}, f"# {file}" if file else "")
    widths = [
        max(len(text) for text in column) for column in zip(*((r.key, r.text) for r in rows), strict=True)
    ]
    for row in rows:
        line = f"{row.key:{widths[0]}}  {row.text:{widths[1] if origin else 0}}"
        text = f"{line}  {row.origin}" if origin else line
        context.emit("values", {"key": row.key, "value": row.value, "origin": row.origin}, text.rstrip())


@config.command("check", epilog="Example: dfs config check conf/node.toml")
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option(
    "--kind", type=click.Choice(["client", "node", "users"]), help="What it is, if that is not plain to see."
)
@click.pass_obj
def check(context: CommandContext, *, files: tuple[str, ...], kind: str | None) -> None:
    """Name all faults of conf files at once, or of the one that would be used."""
    confs = context.confs()
    nouns = {"client": "node", "node": "node", "users": "user"}
    for file in files or (confs.found(),):
        try:
            found = confs.check(file, kind)
        except ConfigError as error:
            context.fail(error)
            continue
        counted = "" if found.kind == "node" else f", {count_text(found.count, nouns[found.kind])}"
        context.emit(
            "files",
            {"file": file, "kind": found.kind, "count": found.count, "warnings": list(found.warnings)},
            f"{file}: no faults ({found.kind}{counted})",
        )
        for warning in found.warnings:
            context.note(f"warning: {warning}")


@config.command("convert", epilog="Example: dfs config convert dfc.conf --output client.toml")
@click.argument("file")
@click.option(
    "--output", metavar="FILE", help="Write it there, and the password into a file beside it; 0600."
)
@click.option("--for", "user", metavar="NAME", help="Of several users of the conf, this one.")
@click.option("-n", "--dry-run", is_flag=True, help="Write nothing, only show it.")
@click.pass_obj
def convert(
    context: CommandContext, *, file: str, output: str | None, user: str | None, dry_run: bool
) -> None:
    """Turn a client conf of the original's form into TOML, where everything can be set."""
    text, made = context.confs().convert(file, user, output, dry_run=dry_run)
    context.emit("", {"toml": text, "made": made}, "" if made else text.rstrip("\n"))
    if made:
        context.note(f"Wrote {' and '.join(made)} (0600). Try it: dfs --conf {made[0]} ls")


@config.command("keys", epilog="Example: dfs config keys --node")
@click.option("--node", is_flag=True, help="Those of a node's conf, not of a client's.")
@click.pass_obj
def keys(context: CommandContext, *, node: bool) -> None:
    """List every key there is: its type, default, variable and meaning."""
    for each in context.confs().keys("node" if node else "client"):
        values = {name: getattr(each, name) for name in ("key", "type", "default", "variable", "about")}
        default = f", default {each.default}" if each.default else ""
        variable = f"; {each.variable}" if each.variable else ""
        context.emit("keys", values, f"{each.key} ({each.type}{default}{variable})\n    {each.about}")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return config


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="config", summary="show, check and convert confs", make=make),)
