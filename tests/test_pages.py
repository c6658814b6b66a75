"""The reference pages: made from the code, they name every command, option, key, exit code and error code."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from dfs.cli import Commands, cli
from dfs.cluster import Cluster
from dfs.core.explanations import EXPLANATIONS
from dfs.core.settings import ClientConf, NodeConf, settings
from dfs.output import NAMES

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> list[tuple[str, click.Command]]:
    """Every command and sub-command with its whole name."""
    assert isinstance(cli, Commands)
    context = click.Context(cli, info_name="dfs")
    found: list[tuple[str, click.Command]] = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found.append((f"dfs {name}", command))
        if isinstance(command, click.Group):
            found += [(f"dfs {name} {child}", each) for child, each in command.commands.items()]
    return found


def test_every_command_and_option_is_there(pages: Any) -> None:
    text = pages.commands_page()
    for name, command in commands():
        assert re.search(rf"^##+ {name}$", text, re.MULTILINE), name
        part = text.partition(f"# {name}\n")[2].partition("\n#")[0]
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(f"`{word}`" in part for word in option.opts), (name, option.opts)


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_has_an_example(name: str, command: click.Command) -> None:
    if not isinstance(command, click.Group):
        assert "xample" in f"{command.epilog} {command.help}", name


def test_every_key_and_variable_is_there(pages: Any) -> None:
    text = pages.confs_page()
    for conf_class in (ClientConf, NodeConf):
        for setting in settings(conf_class).values():
            assert f"`{setting.key.rpartition('.')[2]}`" in text
            assert not setting.variable or f"`{setting.variable}`" in text


def test_every_code_is_there(pages: Any) -> None:
    text = pages.errors_page()
    for code, name in NAMES.items():
        assert re.search(rf"^\| {code} \| {name} \|", text, re.MULTILINE)
    for number in EXPLANATIONS:
        assert f"\n## {number}: " in text


def test_every_public_name_of_a_cluster_is_there(pages: Any) -> None:
    text = pages.python_page()
    for name in dir(Cluster):
        assert name.startswith("_") or f"`Cluster.{name}`" in text or f"`{name}`" in text, name
    assert " at 0x" not in text


def test_pages_that_are_as_they_were_are_not_written_again(pages: Any, tmp_path: Path) -> None:
    pages.write(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(before) == ["commands.md", "confs.md", "errors.md", "python.md"]
    pages.write(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_links_between_pages_lead_somewhere() -> None:
    made = {f"reference/{name}.md" for name in ("commands", "confs", "errors", "python")}
    for page in DOCS.rglob("*.md"):
        if "_build" in page.parts:
            continue
        for link in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8")):
            target = (page.parent / link).resolve()
            assert target.is_file() or target.relative_to(DOCS.resolve()).as_posix() in made, (page, link)
