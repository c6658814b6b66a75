"""Which words are which command."""

import pytest

from dfs.core.errors import ConfigError
from dfs.verbs import (
    ClassicForm,
    Command,
    UsageError,
    classic_form,
    is_modern,
    parse_command,
    verb_of,
)


@pytest.mark.parametrize(
    ("word", "verb"), [("list", "LIST"), ("Ls", "LIST"), ("pUT", "PUT"), ("puts", ""), ("", "")]
)
def test_verbs_in_any_case(word: str, verb: str) -> None:
    assert verb_of(word) == verb


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("LIST", Command("LIST")),
        ("LIST sub/", Command("LIST", (), "sub")),
        ("LIST -l a/b", Command("LIST", (), "a/b", frozenset({"-l"}))),
        ("GET a b", Command("GET", ("a",), "b")),
        ("PUT a .", Command("PUT", ("a",), "")),
        ("PUT --allow-degraded a", Command("PUT", ("a",), "", frozenset({"--allow-degraded"}))),
        ("GET -- --no-clobber", Command("GET", ("--no-clobber",))),
        ("GET -l", Command("GET", ("-l",))),  # no option of this verb, so a name
        ("MKDIR a/b", Command("MKDIR", ("a/b",))),
    ],
)
def test_at_the_prompt_the_second_name_is_a_folder(line: str, command: Command) -> None:
    assert parse_command(line.split(), interactive=True) == command


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("get a b", Command("GET", ("a", "b"))),
        ("get a b sub/", Command("GET", ("a", "b"), "sub")),
        ("put a b .", Command("PUT", ("a", "b"), "")),
        ("put sub/", Command("PUT", ("sub/",))),
        ("rm a b", Command("RM", ("a", "b"))),
        ("list sub", Command("LIST", (), "sub")),
    ],
)
def test_one_shot_a_folder_ends_in_a_slash(line: str, command: Command) -> None:
    assert parse_command(line.split(), interactive=False) == command


@pytest.mark.parametrize("line", ["MKDIR", "MKDIR a b", "RM a b", "LIST a b", "PUT a b c", "HELP me"])
def test_wrong_arguments(line: str) -> None:
    with pytest.raises(UsageError, match=r"^Please provide arguments for that command\.\n  ") as error:
        parse_command(line.split(), interactive=True)
    assert line.split(maxsplit=1)[0] in error.value.what


def test_a_folder_outside_is_refused() -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        parse_command(["GET", "a", "../b"], interactive=True)


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ([], ClassicForm()),
        (["dfc.conf"], ClassicForm("dfc.conf")),
        (["dfc", "dfc.conf"], ClassicForm("dfc.conf", "dfc")),
        (["list"], ClassicForm(command=("list",))),
        (["./list"], ClassicForm("./list")),
        (["get", "a", "b"], ClassicForm(command=("get", "a", "b"))),
        (["dfc.conf", "list"], ClassicForm("dfc.conf", command=("list",))),
        (["dfc.conf", "put 'a b' sub/"], ClassicForm("dfc.conf", command=("put", "a b", "sub/"))),
        (["my conf"], ClassicForm("my conf")),
        (["dfc", "dfc.conf", "list", "x"], ClassicForm("dfc.conf", "dfc", ("list", "x"))),
        (["--conf", "x", "list"], ClassicForm("x", command=("list",))),
        (["--conf=x", "dfc"], ClassicForm("x", "dfc")),
        (["-h", "list"], ClassicForm(wants_help=True)),
    ],
)
def test_forms_of_dfc(words: list[str], form: ClassicForm) -> None:
    assert classic_form(words) == form


@pytest.mark.parametrize("words", [["--frob"], ["--conf"], ["a", "b", "c"], ["--conf", "x", "a", "b"]])
def test_words_without_a_form(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        classic_form(words)


def test_a_conf_named_before_leaves_one_word_for_the_folder() -> None:
    assert classic_form(["dfc"], conf="x") == ClassicForm("x", "dfc")


@pytest.mark.parametrize(
    ("line", "modern"),
    [
        ("PUT f sub", False),
        ("PUT --allow-degraded f", False),
        ("PUT -r f", True),
        ("put --to=x f", True),
        ("GET -l", False),  # no option of `dfs get` either, so a name
        ("GET -- -r", False),
        ("GET *.txt", True),
        ("GET x[1].txt", False),
        ("LIST -", False),
        ("PUT -rn f", True),
        ("PUT -rx f", False),
        ("MKDIR a*", False),
    ],
)
def test_what_only_the_command_of_dfs_can(line: str, modern: bool) -> None:
    options = {"-r", "-n", "--to", "--allow-degraded"}
    assert is_modern(line.split(), options) is modern


def test_folders_begin_where_one_is() -> None:
    assert parse_command(["LIST"], interactive=True, base="a/b").folder == "a/b"
    assert parse_command(["LIST", "c"], interactive=True, base="a/b").folder == "a/b/c"
    assert parse_command(["LIST", "/c"], interactive=True, base="a/b").folder == "c"
    assert parse_command(["PUT", "f", "c"], interactive=True, base="a").folder == "a/c"


@pytest.mark.parametrize("verb", ["cd", "pwd", "lcd"])
def test_dfc_has_no_folder_to_be_in(verb: str) -> None:
    assert classic_form([verb]) == ClassicForm(verb)
