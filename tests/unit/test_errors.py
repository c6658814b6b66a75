"""The error tree: every class has its words, its number and its exit code."""

import re

import pytest

from dfs.core import errors
from dfs.core.errors import ConfigError, DfsError, InvariantError, invariant

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DfsError)]
EXIT_CODES = {1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}  # 0 and 3 are no errors


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_tells_its_story(kind: type[DfsError]) -> None:
    assert re.fullmatch(r"DFS-E\d{3}", kind.code)
    assert kind.exit_code in EXIT_CODES
    assert kind.__doc__
    for sentence in (kind.kept_default, kind.next_default):
        assert sentence.endswith(".")


@pytest.mark.parametrize("kind", CLASSES)
def test_one_exit_code_has_one_name(kind: type[DfsError]) -> None:
    assert {other.name for other in CLASSES if other.exit_code == kind.exit_code} == {kind.name}


def test_every_exit_code_is_used() -> None:
    assert {kind.exit_code for kind in CLASSES} == EXIT_CODES


def test_the_line_says_what_was_kept_and_what_to_do() -> None:
    error = DfsError("the plan is gone", kept="The copy is safe.", next_step="Fetch it.")
    assert error.line == "the plan is gone. The copy is safe. Fetch it.  (DFS-E900)"
    assert str(error) == "the plan is gone"


def test_empty_words_fall_back_to_those_of_the_class() -> None:
    error = ConfigError("cypher is not known", file="client.toml", line=3)
    assert (error.kept, error.next_step) == (ConfigError.kept_default, ConfigError.next_default)
    assert (error.file, error.line_number) == ("client.toml", 3)


def test_an_invariant_raises_only_when_broken() -> None:
    invariant(True, "holds")
    with pytest.raises(InvariantError, match="a share was lost"):
        invariant(False, "a share was lost")


def test_a_sentence_that_ends_gets_no_second_stop() -> None:
    error = DfsError("Please try again.", kept="Kept.", next_step="Next.")
    assert error.line.startswith("Please try again. Kept.")
