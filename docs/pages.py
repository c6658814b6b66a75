"""Makes the reference pages from the code: commands, keys of confs, exit and error codes, the Python API."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from dfs import cluster
from dfs.cli import ALIASES, OPTIONS_NOTE, Commands, cli
from dfs.core.conf_text import key_texts
from dfs.core.explanations import EXPLANATIONS
from dfs.core.settings import ClientConf, Conf, NodeConf
from dfs.output import NAMES

RETRIES = {7: "yes", 11: "later", 14: "yes: the same command finds its own write", 5: "when nodes return"}


def write(folder: Path) -> None:
    """Write all pages; those that are as they were stay untouched."""
    folder.mkdir(exist_ok=True)
    pages = {
        "commands": commands_page(),
        "confs": confs_page(),
        "errors": errors_page(),
        "python": python_page(),
    }
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


# --- Commands -----------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the page of all commands."""
    assert isinstance(cli, Commands)
    context = click.Context(cli, info_name="dfs")
    others = ", ".join(f"`{alias}` is `{name}`" for alias, name in sorted(ALIASES.items()))
    lines = [
        "# Commands",
        "",
        "Made from the code. Words are understood in any case of letters; an unknown one names the nearest.",
        f"{others}. The options of `dfs` itself can stand before and after the word.",
        "",
        "```text",
        cli.get_help(context),
        "```",
        "",
        *_options(cli),
    ]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None, name
        lines += _command(command, name, context, level=2)
    return "\n".join([*lines, ""])


def _command(command: click.Command, name: str, parent: click.Context, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield from ("", f"{'#' * level} dfs {context.command_path.removeprefix('dfs ')}", "")
    for paragraph in (command.help or "").split("\n\n"):
        yield from (" ".join(paragraph.split()), "")
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("```text", f"{context.command_path} {usage}", "```", "")
    if command.epilog and command.epilog.startswith("Example"):
        example = command.epilog.partition(": ")[2].partition(f"\n\n{OPTIONS_NOTE}")[0]
        yield from (f"`{example}`", "")
    yield from _options(command)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _command(found, child, context, level + 1)


def _options(command: click.Command) -> Iterator[str]:
    shown = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if not shown:
        return
    yield from ("| option | what it does |", "|---|---|")
    for option in shown:
        names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        value = f" `{option.metavar}`" if option.metavar else ""
        yield f"| {names}{value} | {_cell(option.help or '')} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# --- Confs --------------------------------------------------------------------------------------------------


def confs_page() -> str:
    """Return the page of all keys."""
    return "\n".join(
        [
            "# Confs",
            "",
            "Made from the schema. What counts, key by key: an option, then a variable, then the file.",
            "The file is that of `--conf` or `DFS_CONF`, else the first of `./dfc.conf`, `~/dfc.conf`,",
            "`./dfs.toml`, `~/.config/dfs/config.toml`, `/etc/dfs/config.toml`; that of a node is",
            "`/etc/dfs/node.toml`. A first line `format = 1`, or a name that ends in `.toml`, means TOML;",
            "anything else is read as the original's form, which names servers and users and has no",
            "settings. An unknown key is an error, never ignored.",
            "",
            'Sizes are such as `"4 MiB"`, durations `"1 s"` (ms, s, min, h, d), rates `"10 MiB/s"`.',
            "",
            "## Client",
            "",
            *_keys(ClientConf),
            "",
            "## Node",
            "",
            *_keys(NodeConf),
            "",
            "Options of a plugin stand under `[plugin.NAME]`, as `DFS_PLUGIN_NAME_KEY` in the environment.",
            "",
        ]
    )


def _keys(conf_class: type[Conf]) -> Iterator[str]:
    yield from ("| key | type | default | variable | what it is |", "|---|---|---|---|---|")
    for row in key_texts(conf_class):
        section, _, key = row.key.rpartition(".")
        brackets = ("[[node]]" if section == "node" else f"[{section}]") if section else ""
        shown = f"`{brackets}` `{key}`" if brackets else f"`{key}`"
        default = f"`{row.default}`" if row.default else "none"
        variable = f"`{row.variable}`" if row.variable else "none"
        yield f"| {shown} | {_cell(row.type)} | {default} | {variable} | {_cell(row.about)} |"


# --- Errors -------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """Return the page of exit codes and error codes."""
    lines = [
        "# Exit codes and error codes",
        "",
        "Made from the code; both are stable. `dfs explain CODE` says the same on a terminal.",
        "",
        "## Exit codes",
        "",
        "| code | name | error codes | does trying again help |",
        "|---|---|---|---|",
    ]
    for code, name in sorted(NAMES.items()):
        codes = ", ".join(
            f"[{each}](#{each.lower()})"
            for each, text in EXPLANATIONS.items()
            if text.exit_code == code and code
        )
        lines.append(
            f"| {code} | {name} | {codes or 'none'} | {RETRIES.get(code, 'no' if code > 3 else 'none')} |"
        )
    lines += ["", "Of several in one command the gravest counts: 14, 5, 6, 8, 7, 9, 4, others, 3.", ""]
    for name, each in EXPLANATIONS.items():
        lines += [
            f"({name.lower()})=",
            f"## {name}: {_cell(each.title)}",
            "",
            _cell(each.meaning),
            "",
            _cell(each.kept),
            "",
        ]
        lines += [f"- {_cell(step)}" for step in each.steps]
        lines += [
            "",
            f"Exit code {each.exit_code}." if each.exit_code else "The command goes on and ends well.",
            "",
        ]
    return "\n".join(lines)


# --- The Python API -----------------------------------------------------------------------------------------


def python_page() -> str:
    """Return the page of `open_cluster` and all that its `Cluster` can do."""
    lines = [
        "# The Python API",
        "",
        "Made from the code; [from Python](../howto/python.md) has examples. Paths are remote paths with",
        '`/`, the root is `""`. Errors are of the class `dfs.core.errors.DfsError`.',
        "",
        *_python("dfs.open_cluster", cluster.open_cluster),
    ]
    members: dict[str, object] = {}
    for kind in reversed(cluster.Cluster.__mro__[:-1]):
        members |= {name: each for name, each in vars(kind).items() if not name.startswith("_")}
    for name, each in members.items():
        if inspect.isfunction(each) and each.__name__ == name:  # aliases stand with what they are
            aliases = [other for other, one in members.items() if one is each and other != name]
            lines += _python(f"Cluster.{name}", each, aliases)
        elif isinstance(each, property):
            lines += [f"## `Cluster.{name}`", "", *_paragraphs(each.__doc__), ""]
    for kind in (cluster.Upload, cluster.Download, cluster.NodeTraffic):
        lines += [f"## `dfs.cluster.{kind.__name__}`", "", *_paragraphs(kind.__doc__), ""]
    return "\n".join(lines)


def _python(name: str, function: object, aliases: list[str] = []) -> Iterator[str]:  # noqa: B006 - only read
    assert callable(function)
    yield from (f"## `{name}`", "", "```text")
    yield f"{name}{_signature(function)}"
    yield from ("```", "", *_paragraphs(function.__doc__))
    if aliases:
        yield from (f"Also called {', '.join(f'`{alias}`' for alias in aliases)}.", "")


def _signature(function: object) -> str:
    assert callable(function)
    shown = inspect.signature(function)
    parameters = [each for each in shown.parameters.values() if each.name != "self"]
    text = str(shown.replace(parameters=parameters))
    text = re.sub(r"'([A-Za-z][^']*)'", r"\1", text)  # names that only type checkers import
    text = re.sub(r"<function \w+ at 0x[0-9a-f]+>", "…", text)
    return re.sub(r"\b(?:_?[a-z]\w*\.)+(?=[A-Z])", "", text)


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        yield from (" ".join(paragraph.replace("``", "`").split()), "")
