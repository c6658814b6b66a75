"""put, get and ls: what their arguments mean, what they print, how they end."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dfs import files
from dfs.core.errors import CorruptEntryError, IntegrityError
from dfs.core.paths import relative_to

BIG = os.urandom(40_000)


def stored(home: Any) -> list[str]:
    lines: list[str] = home.dfs("ls", "-R")
    return [line for line in lines if not line.endswith("/")]


# --- put ----------------------------------------------------------------------------------------------------


def test_put_says_what_survives_and_prints_nothing_else(home: Any) -> None:
    home.write("f.txt", BIG)
    assert home.dfs("put", "f.txt") == []
    assert home.err.splitlines()[-1] == "f.txt  39.1 KiB, 4 of 4 nodes, survives any 2"
    home.dfs("put", "f.txt")
    assert home.err.endswith("(0 B of shares sent, already stored)\n")


def test_the_last_argument_may_be_a_remote_folder_or_the_new_name(home: Any) -> None:
    home.write("a")
    home.write("b", b"other")
    home.dfs("mkdir", "sub")
    home.dfs("put", "a", "sub")  # a folder that is there
    home.dfs("put", "a", "new/")  # ends in /
    home.dfs("put", "a", "b")  # a local file: one more upload
    home.dfs("put", "a", "deep/name")  # neither: the new name
    home.dfs("put", "a", "b", "both/")
    assert stored(home) == ["a", "b", "both/a", "both/b", "deep/name", "new/a", "sub/a"]


def test_to_always_wins(home: Any) -> None:
    home.write("a")
    home.write("b")
    home.dfs("put", "a", "--to", "b")
    home.dfs("put", "a", "b", "--to", "sub")
    home.dfs("put", "a", "--to", "sub")
    home.dfs("put", "a", "--to", "one/")
    assert stored(home) == ["b", "one/a", "sub/a", "sub/b"]


def test_a_tree_is_stored_with_its_empty_folders(home: Any) -> None:
    home.write("tree/a/x")
    home.write("tree/a/skip.o")
    (home.folder / "tree/empty").mkdir()
    (home.folder / "tree/link").symlink_to("/etc")
    home.dfs("put", "-r", "tree", "--exclude", "*.o")
    assert home.dfs("ls", "-R") == ["tree/", "tree/a/", "tree/a/x", "tree/empty/"]
    home.dfs("put", "-r", "tree/a", "--to", "copy")
    assert home.dfs("ls", "copy") == ["skip.o", "x"]


def test_stdin_is_stored_under_the_name_given(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BIG)))
    home.dfs("put", "-", "--to", "sub/piped")
    home.dfs("get", "sub/piped")
    assert (home.folder / "piped").read_bytes() == BIG
    home.dfs("put", "-", status=2)
    home.dfs("put", "-", "x", "--to", "y", status=2)


def test_the_mode_of_a_local_file_is_kept_unless_another_is_asked_for(home: Any) -> None:
    home.write("f", BIG)
    (home.folder / "f").chmod(0o751)
    wanted = {"kept": ("--mode", "keep"), "plain": (), "given": ("--mode", "640")}
    for name, words in wanted.items():
        home.dfs("put", "f", "--to", name, *words)
        home.dfs("get", name)
    modes = {name: (home.folder / name).stat().st_mode & 0o777 for name in wanted}
    assert modes == {"kept": 0o751, "plain": 0o751, "given": 0o640}
    home.dfs("put", "f", "--mode", "999", status=2)
    assert home.err.startswith("error: --mode: expected keep, or three octal digits such as 644")


def test_local_faults_are_found_before_anything_is_sent(home: Any, tmp_path: Path) -> None:
    home.write("folder/x")
    os.mkfifo(home.folder / "fifo")
    home.kill(4)  # whoever connected now would end with 7
    home.dfs("put", "folder", status=2)
    assert home.err.startswith("error: folder: not a regular file")
    home.dfs("put", "fifo", status=2)
    home.dfs("put", "missing", status=4)
    assert "missing: File does not exist." in home.err
    home.dfs("put", "missing", "folder", "--to", "x/", status=4)
    assert len(home.err.splitlines()) == 2
    home.dfs("put", "folder/x", "--to", "../climb", status=2)


def test_one_bad_name_does_not_stop_the_others(home: Any) -> None:
    home.write("a")
    home.write("c")
    home.dfs("put", "a", "missing", "c", "sub/", status=4)
    assert stored(home) == ["sub/a", "sub/c"]
    home.dfs("put", "missing", "a", status=4)
    assert "a" in stored(home)


def test_one_bad_name_in_a_tree_does_not_stop_the_others(home: Any) -> None:
    home.write("tree/a")
    home.write("tree/new\nline")
    home.dfs("put", "-r", "tree", status=2)
    assert "control characters" in home.err
    assert stored(home) == ["tree/a"]


def test_two_files_of_one_name_are_refused(home: Any) -> None:
    home.write("one/f")
    home.write("two/f")
    home.dfs("put", "one/f", "two/f", status=2)
    home.dfs("put", "one/f", "one/f", "x/", status=2)
    assert stored(home) == []


def test_conditions_end_with_9_and_change_nothing(home: Any) -> None:
    home.write("f", b"one")
    version = home.json("put", "f")["data"]["files"][0]["version"]
    home.write("f", b"two")
    home.dfs("put", "f", "--if-absent", status=9)
    home.dfs("put", "f", "--if-version", "00" * 16, status=9)
    assert home.json("ls")["data"]["entries"][0]["version"] == version
    home.dfs("put", "f", "--if-version", version)
    home.dfs("get", "f", "-o", "back")
    assert (home.folder / "back").read_bytes() == b"two"


def test_a_dry_run_of_put_and_get_changes_nothing(home: Any) -> None:
    home.write("tree/f")
    assert home.dfs("put", "-rn", "tree") == ["would copy tree/f -> tree/f"]
    assert home.dfs("ls") == []
    home.dfs("put", "-r", "tree")
    assert home.dfs("get", "-rn", "tree", "-o", "out/") == ["would copy tree/f -> out/tree/f"]
    assert not (home.folder / "out").exists()


def test_put_with_a_node_down_is_3_and_names_it(full_home: Any) -> None:
    full_home.write("f", os.urandom(40_000))
    full_home.kill(1)
    full_home.dfs("put", "f", status=3)
    said, degraded = full_home.err.splitlines()
    assert said == "f  39.1 KiB, 3 of 4 nodes, survives any 1"
    assert degraded.startswith("degraded: f is not on D ")
    assert degraded.endswith("(DFS-E301)")


@pytest.fixture
def full_home(home: Any) -> Any:
    """A home whose vault holds `f`."""
    home.write("f", BIG)
    home.dfs("put", "f")
    return home


def test_less_redundancy_is_fine_where_one_says_so(full_home: Any) -> None:
    full_home.kill(1)
    full_home.dfs("put", "f", status=3)
    full_home.dfs("put", "f", "--no-strict")
    envelope = full_home.json("put", "f", status=3)
    (row,) = envelope["data"]["files"]
    assert (row["shares"], row["total"], row["survives"], row["outcome"]) == (3, 4, 1, "degraded")
    assert envelope["warnings"][0]["code"] == "DFS-E301"


def test_put_with_two_nodes_down_failed_and_says_why(full_home: Any) -> None:
    full_home.write("g")
    full_home.kill(2)
    full_home.dfs("put", "g", status=7)
    head, reason = full_home.err.splitlines()
    assert head == "error: g put failed"
    assert reason.startswith("2 of 4 nodes reachable, 3 needed (no answer: C ")
    full_home.dfs("put", "f", "g", status=7)
    assert [line for line in full_home.err.splitlines() if "put failed" in line] == [
        "error: f put failed",
        "error: g put failed",
    ]
    assert full_home.dfs("ls") == ["f"]
    (row,) = full_home.json("put", "g", status=7)["data"]["files"]
    assert (row["outcome"], row["error"]["code"]) == ("failed", "DFS-E302")


def test_a_toy_cipher_warns_on_each_use(home: Any) -> None:
    home.write("f", BIG)
    home.dfs("--cipher", "xor", "put", "f", status=2)
    home.dfs("--cipher", "xor", "--allow-insecure", "xor", "put", "f")
    assert "warning: cipher xor hides nothing" in home.err
    home.dfs("get", "f", "-o", "back", status=2)
    assert "xor does not protect" in home.err
    home.dfs("--allow-insecure", "xor", "get", "f", "-o", "back")
    assert home.err.count("warning: cipher xor hides nothing") == 1
    assert Path("back").read_bytes() == BIG
    home.write("g", BIG + b"g")
    home.dfs("--allow-insecure", "xor", "put", "g")
    assert "warning" not in home.err, "it is allowed, and not used"


def test_a_file_under_a_toy_cipher_is_marked(home: Any) -> None:
    home.write("f", BIG)
    home.write("g", BIG + b"g")
    home.write("tiny", b"sealed in its entry, by no toy")
    home.dfs("put", "g")
    home.dfs("--cipher", "xor", "--allow-insecure", "xor", "put", "f", "tiny")
    for flags in ((), ("--allow-insecure", "xor")):  # whether it may be read or not
        assert home.dfs(*flags, "ls") == ["f !", "g", "tiny"]
        marked = [line.split("  ")[-1] for line in home.dfs(*flags, "ls", "-l")[1:4]]
        assert marked == ["f !", "g", "tiny"]
        entries = home.json(*flags, "ls")["data"]["entries"]
        assert [entry["insecure"] for entry in entries] == [True, False, False]


# --- get ----------------------------------------------------------------------------------------------------


def test_get_brings_back_what_was_put_and_says_from_where(full_home: Any) -> None:
    full_home.dfs("get", "f", "-o", "back")
    assert (full_home.folder / "back").read_bytes() == BIG
    assert full_home.err.startswith("f  39.1 KiB in ")
    assert full_home.err.endswith("(0 B extra)\n")


def test_the_last_argument_of_get_may_be_the_remote_folder(home: Any) -> None:
    home.write("a", b"above")
    home.dfs("put", "a")
    home.write("a", b"below")
    home.dfs("put", "a", "sub/")
    home.dfs("get", "a", "sub")
    assert (home.folder / "a").read_bytes() == b"below"
    home.dfs("get", "a", "sub/")
    home.dfs("get", "a")
    assert (home.folder / "a").read_bytes() == b"above"
    home.dfs("get", "a", "sub/a", "-o", "x", status=2)  # both are called a


def test_get_takes_files_folders_and_stdout(full_home: Any) -> None:
    full_home.write("g")
    full_home.dfs("put", "g")
    full_home.dfs("get", "f", "g", "-o", "out")
    assert sorted(path.name for path in (full_home.folder / "out").iterdir()) == ["f", "g"]
    full_home.dfs("get", "g", "-o", "out")
    assert full_home.dfs("get", "g", "-o", "-") == ["content"]
    full_home.dfs("get", "f", "g", "-o", "-", status=2)
    full_home.dfs("--json", "get", "f", "-o", "-", status=2)
    full_home.dfs("get", "missing", "-o", "-", status=4)


def test_patterns_of_local_and_remote_names(home: Any) -> None:
    for name in ("a.txt", "b.txt", "c.bin", "x[1]"):
        home.write(f"in/{name}")
    home.dfs("put", "in/*.txt", "in/x[1]", "--to", "box/")  # no shell has seen these words
    assert home.dfs("ls", "box") == ["a.txt", "b.txt", "x[1]"]
    home.dfs("get", "box/*.txt", "-o", "out/")
    assert sorted(path.name for path in (home.folder / "out").iterdir()) == ["a.txt", "b.txt"]
    home.dfs("get", "box/x[1]", "-o", "x")
    home.dfs("get", "*.none", "box/a.txt", status=4)
    assert (home.folder / "a.txt").exists()
    home.dfs("put", "in/*.none", status=4)


def test_a_limit_of_rate_changes_nothing_else(home: Any) -> None:
    home.write("f", BIG)
    home.dfs("--limit-up", "1 MiB/s", "put", "f")
    home.dfs("get", "f", "-o", "back", "--limit-down", "1 MiB/s")
    assert (home.folder / "back").read_bytes() == BIG
    home.dfs("--limit-up", "1 KiB/s", "put", "f", status=2)
    assert "at least '32 KiB/s'" in home.err


def test_a_tree_comes_back_as_it_was(home: Any) -> None:
    home.write("tree/a/x", BIG)
    home.write("tree/y")
    (home.folder / "tree/empty").mkdir()
    home.dfs("put", "-r", "tree")
    home.dfs("get", "-r", "tree", "-o", "copy")  # not there: becomes the tree
    home.dfs("get", "-r", "tree", "-o", "into/")
    home.dfs("get", "-r", "/", "-o", "all", "--exclude", "y")
    names = sorted(str(path.relative_to(home.folder)) for path in home.folder.rglob("*"))
    for top in ("copy", "into/tree", "all/tree"):
        assert {f"{top}/a/x", f"{top}/empty"} <= set(names)
        assert (f"{top}/y" in names) is (top != "all/tree")
    assert (home.folder / "copy/a/x").read_bytes() == BIG


def test_a_tree_never_leaves_its_target(home: Any, tmp_path: Path) -> None:
    home.write("tree/a/x")
    home.dfs("put", "-r", "tree")
    outside = tmp_path / "outside"
    outside.mkdir()
    (home.folder / "one").mkdir()
    (home.folder / "one/tree").symlink_to(outside)
    home.dfs("get", "-r", "tree", "-o", "one", status=9)
    (home.folder / "two/tree").mkdir(parents=True)
    (home.folder / "two/tree/a").symlink_to(outside)
    home.dfs("get", "-r", "tree", "-o", "two", status=9)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("path", ["tree/../../x", "elsewhere/x", "/tree/x", "treex", "tree//x", "tree/.."])
def test_a_listed_path_that_climbs_is_no_path(path: str) -> None:
    with pytest.raises(IntegrityError, match="does not belong there"):
        relative_to(path, "tree")
    assert relative_to("tree/x", "tree") == "x"


def test_what_is_in_the_way_stays(full_home: Any) -> None:
    full_home.write("f", b"older")
    full_home.dfs("get", "f", "--no-clobber", status=9)
    assert (full_home.folder / "f").read_bytes() == b"older"
    (full_home.folder / "out/f").mkdir(parents=True)
    full_home.dfs("get", "f", "-o", "out/", status=9)
    full_home.dfs("get", "f", "-o", "no/such/folder", status=2)


def test_get_of_what_is_not_there_is_4(full_home: Any) -> None:
    full_home.dfs("get", "missing", status=4)
    assert full_home.err.startswith("error: missing: File does not exist.")
    full_home.dfs("get", "-r", "missing", status=4)
    full_home.dfs("mkdir", "folder")
    full_home.dfs("get", "folder", status=4)
    assert "Get it with -r" in full_home.err
    full_home.dfs("get", "", status=2)
    full_home.dfs("get", "missing", "f", status=4)
    (full_home.folder / "f").unlink()
    full_home.dfs("get", "missing", "f", status=4)
    assert (full_home.folder / "f").read_bytes() == BIG


def test_a_read_below_the_quorum_may_be_stale(full_home: Any) -> None:
    full_home.write("g")
    full_home.dfs("put", "g")
    full_home.kill(2)
    for words in (("get", "f", "-o", "x"), ("get", "g", "-o", "-"), ("ls",)):
        full_home.dfs(*words)
        assert full_home.err.count("degraded: may be stale") == 1
        full_home.dfs("--strict", *words, status=3)
    assert full_home.json("get", "f", "-o", "x")["data"]["files"][0]["stale"] is True


def test_with_three_nodes_down_the_name_is_left(full_home: Any) -> None:
    full_home.write("f", b"older")
    full_home.kill(3)
    assert full_home.dfs("ls") == ["f [incomplete]"]
    full_home.dfs("ls", "--strict", status=5)
    full_home.dfs("get", "f", status=5)
    assert full_home.err.startswith("error: f is incomplete: needs 2 of 4 shares, 1 reachable (")
    assert all(f"{name} " in full_home.err for name in "BCD")
    assert (full_home.folder / "f").read_bytes() == b"older"


def test_with_all_nodes_down_one_line_says_so(full_home: Any) -> None:
    full_home.kill(4)
    for words in (("ls",), ("get", "f"), ("get", "-r", "f")):
        full_home.dfs(*words, status=7)
        assert full_home.err.startswith("error: no node answers (A ")
        assert len(full_home.err.splitlines()) == 1
    full_home.dfs("put", "f", status=7)
    assert full_home.err.startswith("error: f put failed\nno node answers")


def test_stats_are_plain_numbers(full_home: Any) -> None:
    full_home.dfs("--stats", "get", "f", "-o", "x")
    lines = [line for line in full_home.err.splitlines() if line.startswith("stats: ")]
    assert lines[0].startswith("stats: shares: 40")
    assert [line.split(":")[1] for line in lines[1:]] == [" all nodes", " A", " B", " C", " D"]
    sums = [int(word.strip(",")) for word in lines[1].split() if word.strip(",").isdecimal()]
    rows = [
        [int(word.strip(",")) for word in line.split() if word.strip(",").isdecimal()] for line in lines[2:]
    ]
    assert sums == [sum(column) for column in zip(*rows, strict=True)]
    assert len(sums) == 3
    assert all(", seconds 0." in line for line in lines[1:])


# --- ls -----------------------------------------------------------------------------------------------------


def test_ls_lists_folders_files_and_everything_below(full_home: Any) -> None:
    full_home.dfs("put", "f", "sub/")
    assert full_home.dfs("ls") == ["f", "sub/"]
    assert full_home.dfs("ls", "sub") == ["f"]
    assert full_home.dfs("ls", "sub/f") == ["f"]
    assert full_home.dfs("ls", "-R") == ["f", "sub/", "sub/f"]
    full_home.dfs("ls", "missing", status=4)
    assert "missing: Folder does not exist." in full_home.err


def test_ls_long_is_a_table(full_home: Any) -> None:
    head, row, summary = full_home.dfs("ls", "-l")
    assert head.split() == ["STATE", "SIZE", "STORED", "NODES", "MODIFIED", "NAME"]
    assert row.startswith("complete 4/4  39.1 KiB  78.2 KiB  ####   ")
    assert row.endswith("  f")
    assert summary == "1 file, 39.1 KiB."


def test_ls_gives_programs_everything(full_home: Any) -> None:
    full_home.dfs("mkdir", "sub")
    row, folder = full_home.json("ls")["data"]["entries"]
    assert (row["path"], row["kind"], row["size"], row["shares"], row["total"], row["needed"]) == (
        *("f", "file", 40_000, 4, 4, 2),
    )
    assert (row["state"], row["stale"]) == ("complete", False)
    assert row["modified"].endswith("Z")
    assert (folder["kind"], folder["modified"]) == ("folder", None)
    lines = full_home.dfs("ls", "--json-lines")
    assert len(lines) == 3


def test_corruption_is_told_with_the_name(full_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files._get_failure("f", CorruptEntryError("not authentic")).startswith("f: not authentic")
    assert files._get_failure("f", CorruptEntryError("f is not authentic")).startswith("f is not")
    assert files._get_failure("f", CorruptEntryError("the cipher of it")).startswith("f: the cipher")
