"""`dfs find`."""

import os
from typing import Any

import pytest


@pytest.fixture
def full_home(home: Any) -> Any:
    home.write("small")
    home.write("large", b"x" * 5000)
    os.utime(home.folder / "small", (1e9, 1e9))
    for source, path in (("small", "pics/a.jpg"), ("large", "pics/old/b.jpg"), ("large", ".hidden.txt")):
        home.dfs("put", source, "--to", path)
    return home


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), [".hidden.txt", "pics/", "pics/a.jpg", "pics/old/", "pics/old/b.jpg"]),
        (("--name", "*.jpg"), ["pics/a.jpg", "pics/old/b.jpg"]),
        (("--name", "*"), [".hidden.txt", "pics/", "pics/a.jpg", "pics/old/", "pics/old/b.jpg"]),
        (("--kind", "folder"), ["pics/", "pics/old/"]),
        (("--larger", "1 KiB"), [".hidden.txt", "pics/old/b.jpg"]),
        (("--newer", "1 d"), [".hidden.txt", "pics/old/b.jpg"]),
        (("--newer", "2000-01-01", "--kind", "file"), [".hidden.txt", "pics/a.jpg", "pics/old/b.jpg"]),
        (("--exclude", "old"), [".hidden.txt", "pics/", "pics/a.jpg"]),
        (("--exclude", "pics/o*"), [".hidden.txt", "pics/", "pics/a.jpg"]),
        (("pics", "--name", "a*"), ["pics/a.jpg"]),
        (("pics/a.jpg",), ["pics/a.jpg"]),
        (("--name", "none"), []),
    ],
)
def test_what_fits_is_printed(full_home: Any, words: tuple[str, ...], found: list[str]) -> None:
    assert full_home.dfs("find", *words) == found


def test_programs_get_entries_also_if_there_are_none(full_home: Any) -> None:
    (row,) = full_home.json("find", "--name", "a*")["data"]["entries"]
    assert (row["path"], row["size"]) == ("pics/a.jpg", 7)
    assert full_home.json("find", "--name", "none")["data"] == {"entries": []}


@pytest.mark.parametrize("words", [("--larger", "big"), ("--newer", "soon"), ("--kind", "link")])
def test_what_cannot_be_read_is_refused(full_home: Any, words: tuple[str, ...]) -> None:
    full_home.dfs("find", *words, status=2)
    assert words[0] in full_home.err
    full_home.dfs("find", "missing", status=4)
