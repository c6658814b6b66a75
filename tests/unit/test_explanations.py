"""The long texts of error codes: one for each code that can be met, and none without use."""

import re
from pathlib import Path

import pytest

from dfs.cli import ALIASES, cli
from dfs.core import errors
from dfs.core.errors import DfsError
from dfs.core.explanations import EXPLANATIONS, Explanation
from dfs.plugins import BUILTIN

ROOT = Path(errors.__file__).parents[1]
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DfsError)]
COMMANDS = {*cli.commands, *ALIASES, *BUILTIN["dfs_commands"], "COMMAND"}


def codes_of_the_tree() -> set[str]:
    """Every code that stands in the package, but for the table itself."""
    texts = [path.read_text() for path in ROOT.rglob("*.py") if path.name != "explanations.py"]
    return {code for text in texts for code in re.findall(r"DFS-E[0-9]{3}", text)}


def test_every_code_has_its_text_and_every_text_its_code() -> None:
    assert codes_of_the_tree() == set(EXPLANATIONS)
    assert {kind.code for kind in CLASSES} <= set(EXPLANATIONS)


@pytest.mark.parametrize("kind", CLASSES)
def test_exit_codes_are_those_of_the_errors(kind: type[DfsError]) -> None:
    assert EXPLANATIONS[kind.code].exit_code == kind.exit_code


@pytest.mark.parametrize(("code", "each"), EXPLANATIONS.items(), ids=list(EXPLANATIONS))
def test_a_text_is_whole(code: str, each: Explanation) -> None:
    assert re.fullmatch(r"DFS-E[1-69][0-9]{2}", code)
    assert each.title[0].islower() or each.title.startswith("DFS_")
    assert not each.title.endswith(".")
    assert each.meaning.endswith(".")
    assert each.kept.endswith(".")
    assert each.steps
    assert not any(step.endswith(".") for step in each.steps)


@pytest.mark.parametrize(("code", "each"), EXPLANATIONS.items(), ids=list(EXPLANATIONS))
def test_commands_it_names_are_there(code: str, each: Explanation) -> None:
    named = re.findall(r"\bdfs ((?:--[\w-]+ (?:[A-Z]+ )?)?[a-zA-Z]+)", " ".join(each.steps))
    words = {word.split()[-1] for word in named} - {"names"}
    assert words <= COMMANDS
