"""`dfs explain`."""

from typing import Any

import pytest

from dfs.core.explanations import EXPLANATIONS


@pytest.mark.parametrize("word", ["DFS-E131", "dfs-e131", "E131", "131", "(DFS-E131)"])
def test_a_code_is_explained_however_it_is_written(bare_home: Any, word: str) -> None:
    lines = bare_home.dfs("explain", word)
    assert lines[0] == "DFS-E131: a node shows another certificate"
    assert "- See both certificates: dfs cert show" in lines
    assert lines[-1] == "A command that ends by it has the exit code 13."
    assert all(len(line) <= 100 for line in lines)


def test_all_are_listed(bare_home: Any) -> None:
    lines = bare_home.dfs("explain")
    assert [line.split()[0] for line in lines] == list(EXPLANATIONS)
    records = bare_home.json("explain")["data"]["codes"]
    assert [record["code"] for record in records] == list(EXPLANATIONS)


def test_programs_get_all_of_it(bare_home: Any) -> None:
    values = bare_home.json("explain", "404")["data"]
    assert set(values) == {"code", "title", "exit_code", "meaning", "kept", "steps"}
    assert values["exit_code"] == 4


def test_an_unknown_code_is_a_fault_of_the_line(bare_home: Any) -> None:
    bare_home.dfs("explain", "DFS-E999", status=2)
    assert "no such error code: 'DFS-E999'" in bare_home.err


def test_a_faulty_conf_does_not_matter(bare_home: Any) -> None:
    bare_home.write("dfc.conf", b"nonsense\n")
    bare_home.dfs("explain", "201")
