"""`dfs mkdir`."""

from typing import Any


def test_a_folder_and_those_above_it_are_made(home: Any) -> None:
    assert home.dfs("mkdir", "a/b/c", "d") == ["a/b/c/ created.", "d/ created."]
    assert home.dfs("ls", "-R") == ["a/", "a/b/", "a/b/c/", "d/"]


def test_one_that_is_there_is_9_unless_p(home: Any) -> None:
    home.dfs("mkdir", "a")
    home.dfs("mkdir", "a", "b", status=9)
    assert home.err.startswith("error: a/ already exists.")
    assert home.out == "b/ created.\n"
    assert home.dfs("mkdir", "-p", "a") == ["a/ is there."]


def test_a_file_is_in_the_way(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    for words in (("mkdir", "f"), ("mkdir", "-p", "f"), ("mkdir", "f/below")):
        home.dfs(*words, status=9)
        assert "f is a file" in home.err
    home.dfs("mkdir", "/", status=2)


def test_a_dry_run_makes_nothing(home: Any) -> None:
    assert home.dfs("mkdir", "-n", "a") == ["would make a/"]
    assert home.dfs("ls") == []
    assert home.json("mkdir", "a")["data"] == {"folders": [{"path": "a"}]}
