"""`dfs plugins`: what is there and from where, what is wrong with it, a new package, and a check of one."""

import importlib.resources
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import click

from dfs.core.api import (
    NAME_PATTERN,
    NAME_SIZE_MAX,
    CommandContext,
    CommandPlugin,
    ConfigError,
    ConflictError,
    Options,
    PluginError,
    UnknownPluginError,
    hookimpl,
)

DFS_API_VERSION = 1
KINDS = ("transport", "cipher", "compressor", "code", "placement", "chunker", "store", "command")
TEMPLATES = "dfs.testing"  # package data lies beside the contracts: templates/KIND.py.txt
PACKAGE_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,100}")
SOON = 'Install what the contracts need: pip install "dfs[testing]".'


@click.group("plugins", invoke_without_command=True)
@click.pass_context
def plugins(click_context: click.Context) -> None:
    """List the plugins; say what is wrong with them; begin one of your own; check one."""
    if click_context.invoked_subcommand is None:
        listed(click_context.obj)


@plugins.command("list", epilog="Example: dfs --plugin mine.py plugins list")
@click.pass_obj
def list_plugins(context: CommandContext) -> None:
    """List the plugins, built-in and installed, and say what is wrong with them."""
    listed(context)


def _kind(status: Any) -> str:  # noqa: ANN401 - registry.PluginStatus, which plugins do not see
    return str(status.hook).removeprefix("dfs_").removesuffix("s")


def _values(status: Any) -> dict[str, object]:  # noqa: ANN401
    return {
        "kind": _kind(status),
        "name": status.name,
        "package": status.package,
        "version": status.package_version,
        "format": status.format_version or None,
        "state": "broken" if status.reason else "ok",
        "reason": status.reason,
        "load_ms": None if status.load_s is None else round(1000 * status.load_s, 1),
        "notes": list(status.notes),
    }


def listed(context: CommandContext) -> None:
    """Print a line for each plugin and tell of each failure."""
    statuses = context.plugins()
    widths = [max((len(getattr(each, name)) for each in statuses), default=0) for name in ("hook", "name")]
    for status in statuses:
        kind, values = _kind(status), _values(status)
        source = f"{status.package} {status.package_version}".strip()
        columns = f"{kind:{widths[0] - 4}}{status.name:{widths[1] + 2}}"
        load = "" if values["load_ms"] is None else f", {values['load_ms']} ms"
        line = f"{columns}{status.summary}  ({source}{load})"
        context.emit("plugins", values, "" if status.reason else line)
        for note in status.notes:
            context.note(f"{kind} {status.name} ({source}): {note}")
        if status.reason:
            context.fail(PluginError(f"{kind} {status.name}: {status.reason}" if kind else status.reason))


@plugins.command("info", epilog="Example: dfs plugins info zstd")
@click.argument("name")
@click.pass_obj
def show(context: CommandContext, *, name: str) -> None:
    """Show all that is known of the plugins called NAME, or of those of the package NAME."""
    found = [each for each in context.plugins() if name in {each.name, each.package}]
    if not found:
        raise UnknownPluginError(
            f"there is no plugin and no package of plugins {name!r}", next_step="See dfs plugins."
        )
    for status in found:
        values = {**_values(status), "summary": status.summary, "entry": status.entry}
        qualified = f"{status.package}:{status.name}" + (
            f"@{status.format_version}" if values["format"] else ""
        )
        rows = {
            "kind": values["kind"],
            "name": status.name,
            "summary": status.summary,
            "package": f"{status.package} {status.package_version}".strip(),
            "in manifests": qualified if values["format"] else "",
            "from": status.entry,
            "loaded in": "" if values["load_ms"] is None else f"{values['load_ms']} ms",
            "state": f"broken: {status.reason}" if status.reason else "ok",
            "note": "; ".join(status.notes),
        }
        text = "\n".join(f"{label:14}{value}" for label, value in rows.items() if value)
        context.emit("plugins", values, text)


@plugins.command("new", epilog="Example: dfs plugins new rot13 --kind cipher")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it is to be.")
@click.option(
    "--to", "parent", metavar="FOLDER", default=".", help="Where its folder is made; here by default."
)
@click.pass_obj
def new(context: CommandContext, *, name: str, kind: str, parent: str) -> None:
    """Write a package with a plugin NAME that works and is tested, to be changed into your own."""
    if not NAME_PATTERN.fullmatch(name) or len(name) > NAME_SIZE_MAX:
        raise ConfigError(
            f"a plugin name is a-z, 0-9 and single dashes, at most {NAME_SIZE_MAX}, not {name!r}"
        )
    if any(status.name == name and _kind(status) == kind for status in context.plugins()):
        raise ConfigError(
            f"there is a {kind} {name!r} already", next_step="Take another name; see dfs plugins."
        )
    folder = Path(parent) / f"dfs-{name}"
    if folder.exists():
        raise ConflictError(f"{folder} is there already", next_step="Name another folder: --to FOLDER.")
    files = package_files(name, kind)
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error
    values = {"folder": str(folder), "kind": kind, "name": name, "files": sorted(files)}
    context.emit("", values, "\n".join(str(folder / path) for path in files))
    # pip takes a bare name for one to download.
    place = str(folder) if folder.is_absolute() else f"./{folder}"
    context.note(f"Try it: pip install -e '{place}[test]' && pytest {place} && dfs plugins check dfs-{name}")


def package_files(name: str, kind: str) -> Mapping[str, str]:
    """Return the files of a new package, by path."""
    module = f"dfs_{name.replace('-', '_')}"
    words = {"name": name, "kind": kind, "module": module, "Kind": kind.capitalize()}
    words["article"] = "an" if kind[0] in "aeiou" else "a"
    source = _template(f"{kind}.py.txt") if kind != "store" else _store_template()
    return {
        "pyproject.toml": _filled("pyproject.toml.txt", words),
        "README.md": _filled("README.md.txt", words),
        f"{module}.py": Template(source).substitute(words),
        f"tests/test_{module}.py": _filled(f"test_{kind}.py.txt", words),
    }


def _template(file: str) -> str:
    return importlib.resources.files(TEMPLATES).joinpath("templates", file).read_text("utf-8")


def _filled(file: str, words: Mapping[str, str]) -> str:
    return Template(_template(file)).substitute(words)


def _store_template() -> str:
    """Return the store `memory` under another name: a store in dictionaries that keeps the whole contract."""
    source = importlib.resources.files("dfs.plugins").joinpath("memory_store.py").read_text("utf-8")
    for old, now in (
        ("$", "$$"),
        (
            '"""The store `memory`: what `volumes` does, as far as anyone can see, in dictionaries.',
            '"""The store `$name`, in dictionaries: begin with where share bytes go.',
        ),
        ('NAME: Final = "memory"', 'NAME: Final = "$name"'),
        ('"""Declare memory."""', '"""Declare $name."""'),
    ):
        source = source.replace(old, now)
    return source


@plugins.command("check", epilog="Example: dfs plugins check dfs-rot13")
@click.argument("package")
@click.pass_obj
def check(context: CommandContext, *, package: str) -> None:
    """Run the contracts over the plugins of PACKAGE: a distribution, a file of --plugin, or a plugin."""
    if not PACKAGE_PATTERN.fullmatch(package):
        raise ConfigError(f"not the name of a package: {package!r}")
    found = [each for each in context.plugins() if package in {each.name, each.package}]
    broken = [each for each in context.plugins() if each.reason and package in each.package]
    for status in broken:
        context.fail(PluginError(status.reason))
    if not found and not broken:
        raise UnknownPluginError(f"no plugin comes from {package!r}", next_step="See dfs plugins.")
    if any(importlib.util.find_spec(name) is None for name in ("pytest", "hypothesis")):
        raise PluginError("pytest and Hypothesis are not there", next_step=SOON)
    paths = sorted({each.entry for each in found if each.entry.endswith(".py")})
    lines = _checked(package, [os.path.abspath(path) for path in paths])
    for plugin in dict.fromkeys(line["plugin"] for line in lines):
        _report(context, plugin, [line for line in lines if line["plugin"] == plugin])


def _checked(package: str, paths: Sequence[str]) -> list[dict[str, str]]:
    """Run the contracts in a process of their own: a plugin that ends it must not end this one."""
    files = [word for path in paths for word in ("--file", path)]
    command = [sys.executable, "-m", "dfs.testing.checker", package, *files]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode or not lines:
        told = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        raise PluginError(f"the contracts could not be run over {package}: {told[0]}")
    return lines


def _report(context: CommandContext, plugin: str, lines: Sequence[Mapping[str, str]]) -> None:
    """Tell what became of one plugin: a line for all that passed, one for each test that did not."""
    counts = Counter(line["outcome"] for line in lines)
    skipped = dict.fromkeys(line["reason"] for line in lines if line["outcome"] == "skipped")
    failed = [line for line in lines if line["outcome"] == "failed"]
    summary = f"{plugin}: {counts['passed']} passed, {counts['skipped']} skipped, {counts['failed']} failed"
    context.emit(
        "checks",
        {
            "plugin": plugin,
            "passed": counts["passed"],
            "skipped": counts["skipped"],
            "failed": [{"test": line["test"], "reason": line["reason"]} for line in failed],
        },
        "\n".join([summary, *(f"  skipped: {reason}" for reason in skipped)]),
    )
    for line in failed:
        context.fail(
            PluginError(
                f"{plugin}: {line['test']}: {line['reason']}".strip(": "),
                next_step="What the test demands is in docs/plugins.md.",
            )
        )


def make(_options: Options) -> click.Command:
    """Return the command."""
    return plugins


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    summary = "list the plugins, begin one, check one"
    return (CommandPlugin(name="plugins", summary=summary, make=make),)
