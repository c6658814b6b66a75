"""`dfs stat`."""

import os
from typing import Any


def test_everything_about_a_file_one_fact_a_line(home: Any) -> None:
    home.write("f.bin", os.urandom(40_000))
    home.dfs("put", "f.bin", "--to", "sub/f.bin")
    lines = home.dfs("stat", "sub/f.bin")
    assert lines[0] == "sub/f.bin"
    facts = dict(line.split(maxsplit=1) for line in lines[1:])
    assert facts["size"] == "39.1 KiB (40000 bytes)"
    assert facts["state"] == "complete 4/4, survives any 2"
    assert facts["geometry"] == "2 of 4"
    assert facts["chunks"] == "1"
    assert "dfs:aes-gcm@1" in facts["plugins"]
    assert lines[-4:] == [f"  on {name}  1/1 shares  ok" for name in "ABCD"]


def test_a_folder_and_a_tiny_file(home: Any) -> None:
    home.write("tiny")
    home.dfs("put", "tiny", "sub/")
    assert home.dfs("stat", "sub")[1] == "  kind      folder"
    lines = home.dfs("stat", "sub/tiny")
    assert "  kept      in its entry, on every node" in lines
    assert lines[-1] == "  on D  its entry  ok"
    assert home.dfs("stat", "/")[0] == "/"


def test_programs_get_all_fields_and_nodes_that_are_away(home: Any) -> None:
    home.write("f", os.urandom(40_000))
    home.dfs("put", "f")
    home.kill(1)
    (entry,) = home.json("stat", "f")["data"]["entries"]
    assert (entry["size"], entry["chunks"], entry["inline"], entry["survives"]) == (40_000, 1, False, 1)
    assert entry["plugins"]["code"] == "dfs:reed-solomon@1"
    states = {cell["node"]: (cell["held"], cell["state"]) for cell in entry["nodes"]}
    assert states == {"A": (1, "ok"), "B": (1, "ok"), "C": (1, "ok"), "D": (0, "away")}


def test_one_that_is_missing_does_not_hide_the_others(home: Any) -> None:
    home.write("f")
    home.dfs("put", "f")
    lines = home.dfs("stat", "missing", "f", status=4)
    assert lines[0] == "f"
    assert "missing does not exist" in home.err
