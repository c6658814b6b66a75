"""The prompt and `dfc`: the words of the original to the letter, over nodes in this process."""

import base64
import io
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from dfs import texts
from dfs.cluster import Cluster, make_registry
from dfs.console import Console, run_classic, run_client
from dfs.context import Context
from dfs.core.errors import ConfigError, DfsError, UnknownOutcomeError
from dfs.core.getting import Got
from dfs.core.keys import login_keys
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf
from dfs.core.types import NodeId

SECRET = bytes(range(32))
OTHER_SECRET = bytes(range(1, 33))
FILES_ARE = "Files in the Servers are:"
INVALID = "Invalid Username/Password. Please try again."
UP = "4 of 4 nodes, survives any 2"
CONTENT = random.Random(7).randbytes(3280)  # too much for its entry, so it has shares


@define
class Farm:
    """Four nodes in this process, a conf that names them, and the folder a user works in."""

    folder: Path
    nodes: dict[int, OpenedNode] = field(factory=dict)
    addresses: dict[int, str] = field(factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def start(self, *places: int) -> None:
        for place in places:
            conf = NodeConf(
                dir=str(self.folder / f"DFS{place}"),
                port=int(self.addresses.get(place, ":0").rpartition(":")[2]),
                listen="127.0.0.1",
                users=str(self.folder / "users"),
                transport="memory",
            )
            node = open_node(conf, registry=make_registry(conf), version="1")
            node.server.start()
            node.accounts.start()
            self.nodes[place] = node
            self.addresses[place] = node.server.address

    def stop(self, *places: int) -> None:
        for place in places:
            self.nodes.pop(place).server.stop(1.0)

    def admit(self, **secrets: bytes) -> None:
        """Write the users file of the nodes."""
        lines = []
        for user, secret in secrets.items():
            public_key = base64.b64encode(login_keys(secret).public_key).decode()
            lines.append(f"{user} ed25519:{public_key}\n")
        (self.folder / "users").write_text("".join(lines))

    def write_conf(self, secret: bytes = SECRET, user: str = "alice") -> None:
        key = self.folder / f"key-{secret[0]}"
        key.write_text(f"dfs-key-1 {secret.hex()}\n")
        key.chmod(0o600)
        lines = ["format = 1", f'user = "{user}"', f'key_file = "{key}"', 'transport = "memory"']
        for place, address in sorted(self.addresses.items()):
            lines += ["[[node]]", f'name = "DFS{place}"', f'address = "{address}"']
        (self.home / "dfc.conf").write_text("\n".join(lines))

    @property
    def key_file(self) -> str:
        """What the conf opens the vault with."""
        return str(self.folder / f"key-{SECRET[0]}")

    def down(self, place: int, reason: str = "refused") -> str:
        return f"Server {place} is down. (DFS{place} {self.addresses[place]}: {reason})"

    def all_down(self) -> str:
        reasons = ", ".join(f"DFS{place} {self.addresses[place]}: refused" for place in range(1, 5))
        return f"All servers are down. ({reasons})"


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    made = Farm(tmp_path)
    made.home.mkdir()
    monkeypatch.chdir(made.home)
    made.admit(alice=SECRET, bob=OTHER_SECRET)
    made.start(1, 2, 3, 4)
    made.write_conf()
    (made.home / "f.txt").write_bytes(CONTENT)
    yield made
    made.stop(*list(made.nodes))


@pytest.fixture
def console(farm: Farm) -> Iterator[Console]:
    made = Console({})
    yield made
    made.close()


Say = Callable[[str], list[str]]


@pytest.fixture
def say(console: Console, capsys: pytest.CaptureFixture[str]) -> Say:
    """What the prompt prints for a line; its status is in front unless it is 0."""

    def printed(line: str) -> list[str]:
        code = console.execute(line)
        lines = capsys.readouterr().out.splitlines()
        return [f"[{code}]", *lines] if code else lines

    return printed


@pytest.fixture
def dfc(farm: Farm, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Status, stdout and stderr of `dfc`."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_classic(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def in_figures(lines: list[str]) -> list[str]:
    """Seconds vary."""
    return [re.sub(r"in \d+\.\d s", "in 0.0 s", line) for line in lines]


# --- A day without faults -----------------------------------------------------------------------------------


def test_a_day_at_the_prompt(farm: Farm, say: Say) -> None:
    assert say("LIST") == [FILES_ARE, "No file Found"]
    assert say("PUT f.txt") == [f"File send.  3.2 KiB, {UP}"]
    assert say("MKDIR sub") == ["sub/ created."]
    assert say("put f.txt sub") == [f"File send.  3.2 KiB, {UP}"], "so little is sent unasked"
    assert say("put f.txt sub") == [f"File send.  3.2 KiB, {UP}  (0 B of shares sent, already stored)"]
    assert say("List") == [FILES_ARE, "f.txt", "sub/"]
    assert say("LIST sub/") == say("ls sub") == [FILES_ARE, "f.txt"]
    (farm.home / "f.txt").unlink()
    (got,) = in_figures(say("GET f.txt sub"))
    head, _, tail = got.partition("in 0.0 s  ")
    assert head == "File saved.  sub/f.txt -> f.txt  3.2 KiB "
    assert re.fullmatch(r"DFS\d 1\.6 KiB, DFS\d 1\.6 KiB  \(0 B extra\)", tail)
    assert (farm.home / "f.txt").read_bytes() == CONTENT
    assert say("GET sub/f.txt")[0].startswith("File saved.  sub/f.txt -> f.txt")
    assert say("RM f.txt") == ["1 name removed."]
    assert say("RM -r sub") == ["2 names removed."]
    assert say("LIST") == [FILES_ARE, "No file Found"]


def test_a_small_file_lies_in_its_entry(farm: Farm, say: Say) -> None:
    (farm.home / "small").write_bytes(b"abc")
    assert say("PUT small") == [f"File send.  3 B, {UP}"]
    assert in_figures(say("GET small")) == ["File saved.  small -> small  3 B in 0.0 s"]


def test_names_keep_case_and_blanks(farm: Farm, say: Say) -> None:
    (farm.home / "My File").write_bytes(CONTENT)
    assert say('PUT "My File" "a b/"') == [f"File send.  3.2 KiB, {UP}"]
    assert say("LIST") == [FILES_ARE, "a b/"]
    assert say("LIST 'a b'") == [FILES_ARE, "My File"]
    (farm.home / "My File").unlink()
    assert say("GET 'My File' 'a b'")[0].startswith("File saved.")
    assert (farm.home / "My File").read_bytes() == CONTENT


def test_the_base_name_is_the_remote_name(farm: Farm, say: Say) -> None:
    (farm.home / "dir").mkdir()
    (farm.home / "dir" / "g").write_bytes(CONTENT)
    assert say("PUT dir/g") == [f"File send.  3.2 KiB, {UP}"]
    assert say("LIST") == [FILES_ARE, "g"]
    assert say("PUT dir/g .") == [f"File send.  3.2 KiB, {UP}  (0 B of shares sent, already stored)"]


def test_the_long_listing(say: Say) -> None:
    say("PUT f.txt")
    header, row, summary = say("LIST -l")[1:]
    assert header.split() == ["STATE", "SIZE", "STORED", "NODES", "MODIFIED", "NAME"]
    assert re.fullmatch(r"complete 4/4  3\.2 KiB  6\.4 KiB  ####   \S+ \S+  f\.txt", row)
    assert summary == "1 file, 3.2 KiB."


def test_the_folder_form_reads_there_and_saves_to_download(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (farm.home / "dfc").mkdir()
    (farm.home / "f.txt").rename(farm.home / "dfc" / "f.txt")
    monkeypatch.setattr(sys, "stdin", io.StringIO("PUT f.txt\nGET f.txt\n"))
    assert run_client(Context(), ["dfc", "dfc.conf"], None) == 0
    sent, saved = capsys.readouterr().out.splitlines()
    assert sent.startswith("File send.")
    assert saved.startswith("File saved.  f.txt -> Download/alice_f.txt  ")
    assert (farm.home / "Download/alice_f.txt").read_bytes() == CONTENT


# --- What people do wrong -----------------------------------------------------------------------------------


def test_what_is_not_there(say: Say) -> None:
    say("PUT f.txt")
    assert say("GET nothing") == ["[4]", "File does not exist."]
    assert say("PUT nothing") == ["[4]", "File does not exist."]
    assert say("RM nothing") == ["[4]", "File does not exist."]
    assert say("LIST nothing") == ["[4]", "Folder does not exist."]
    code, line = say("LIST f.txt")
    assert (code, line.split(".  ")[0][:34]) == ("[9]", "f.txt is a file, not a folder. Not")


def test_what_is_no_file(farm: Farm, say: Say) -> None:
    os.mkfifo(farm.home / "pipe")
    assert say("PUT pipe") == ["[2]", "pipe: not a regular file"]
    assert say("PUT .") == ["[2]", ".: not a regular file"]
    assert say("GET .") == ["[4]", "File does not exist."]


def test_what_is_there_already(farm: Farm, say: Say) -> None:
    say("MKDIR sub")
    assert say("MKDIR sub/") == ["[9]", "sub/ already exists"]
    say("PUT f.txt")
    (farm.home / "f.txt").write_bytes(b"mine")
    code, line = say("GET --no-clobber f.txt")
    assert (code, line.partition(".  ")[0][:20]) == ("[9]", "f.txt exists already")
    assert (farm.home / "f.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("line", ["frobnicate", "frob f.txt", "'' x"])
def test_an_unknown_verb_shows_all(say: Say, line: str) -> None:
    code, first, *verbs = say(line)
    assert (code, first) == ("[2]", "Please provide one of the following commands.")
    assert "  PUT [--allow-degraded] file [folder]" in verbs


@pytest.mark.parametrize("line", ["GET", "GET a b c", "GET 'a", "GET ''"])
def test_wrong_arguments_show_how_the_verb_is_written(say: Say, line: str) -> None:
    assert say(line) == [
        "[2]",
        "Please provide arguments for that command.",
        "  GET [--no-clobber] name [folder]",
        "  Quote names with blanks.",
    ]


@pytest.mark.parametrize("line", ["GET ../f.txt", "PUT f.txt ..", "LIST a/../..", "MKDIR 'a\x07'"])
def test_ways_out_of_the_vault_are_refused(say: Say, line: str) -> None:
    code, *said = say(line)
    assert code == "[2]"
    assert "allowed in remote" in "".join(said)


def test_control_characters_in_a_local_name(farm: Farm, say: Say) -> None:
    (farm.home / "a\x1bb").write_bytes(b"abc")
    assert say("PUT 'a\x1bb'") == ["[2]", "a\\x1bb: control characters are not allowed in remote names"]


def test_empty_lines_say_nothing(say: Say) -> None:
    assert say("") == say("   \t ") == []


def test_help_names_every_verb(say: Say) -> None:
    verbs = ["LIST", "GET", "PUT", "MKDIR", "RM", "CD", "PWD", "LCD", "HELP", "QUIT"]
    assert [line.split()[0] for line in say("help")] == verbs


# --- Nodes that are down ------------------------------------------------------------------------------------


def test_a_dead_node_is_named_once(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    farm.stop(3)
    assert [line for line in say("LIST") if "down" not in line] == [FILES_ARE, "f.txt"]
    assert say("LIST") == [FILES_ARE, "f.txt"]
    (farm.home / "g").write_bytes(CONTENT[1:])
    assert say("PUT g") == ["[3]", "File send.  3.2 KiB, 3 of 4 nodes, survives any 1"]
    farm.start(3)
    assert say("PUT g") == [f"File send.  3.2 KiB, {UP}"]
    farm.stop(3)
    assert say("LIST")[0].startswith("Server 3 is down. (DFS3 ")


def test_two_dead_nodes(farm: Farm, say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    say("PUT f.txt")
    farm.stop(1, 2)
    say("LIST")  # names both
    assert say("LIST") == [FILES_ARE, "f.txt"]
    assert say("GET f.txt")[0].startswith("File saved.")
    code, failed, why = say("PUT f.txt")
    assert (code, failed) == ("[7]", "f.txt put failed")
    assert why.startswith("2 of 4 nodes reachable, 3 needed (no answer: DFS1 ")


def test_a_read_that_may_be_old_says_so_on_stderr(
    farm: Farm, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    console.execute("PUT f.txt")
    farm.stop(1, 2)
    capsys.readouterr()
    for line in ("LIST", "GET f.txt"):
        assert console.execute(line) == 0
        assert capsys.readouterr().err == "degraded: may be stale\n"


def test_three_dead_nodes_leave_the_names(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    (farm.home / "small").write_bytes(b"abc")
    say("PUT small")
    (farm.home / "f.txt").write_bytes(b"mine")
    farm.stop(2, 3, 4)
    say("LIST")
    assert say("LIST") == [FILES_ARE, "f.txt [incomplete]", "small"]
    assert say("GET f.txt") == ["[5]", "File is incomplete."]
    assert (farm.home / "f.txt").read_bytes() == b"mine"
    assert say("GET small")[0].startswith("File saved.")


def test_all_dead_is_one_line_and_not_the_end(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    farm.stop(1, 2, 3, 4)
    say("LIST")
    assert say("LIST") == say("GET f.txt") == say("MKDIR x") == ["[7]", farm.all_down()]
    code, down, failed, _why = say("PUT f.txt")
    assert (code, down, failed) == ("[7]", farm.all_down(), "f.txt put failed")
    farm.start(1, 2, 3, 4)
    assert say("LIST") == [FILES_ARE, "f.txt"]


def test_a_session_begins_without_any_node(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.stop(1, 2, 3, 4)
    monkeypatch.setattr(sys, "stdin", io.StringIO("LIST\nQUIT\nLIST\n"))
    assert Console({}).run() == 0
    assert capsys.readouterr().out.splitlines() == [farm.all_down(), farm.all_down()]


def test_a_node_down_at_the_login_counts_once_it_is_back(farm: Farm, say: Say, console: Console) -> None:
    say("PUT f.txt")
    console.close()
    farm.stop(4)
    assert say("LIST") == [farm.down(4), FILES_ARE, "f.txt"]
    farm.start(4)
    assert say("LIST") == [FILES_ARE, "f.txt"]
    farm.stop(1)  # three of four are up, one of them only since a moment
    assert [line for line in say("PUT f.txt") if "down" not in line] == [
        "[3]",
        "File send.  3.2 KiB, 3 of 4 nodes, survives any 1  (0 B of shares sent, already stored)",
    ]


def test_a_node_missing_before_there_is_a_vault(farm: Farm, say: Say) -> None:
    farm.stop(2)
    code, line = say("LIST")
    assert code == "[10]"
    assert f"now missing: DFS2 {farm.addresses[2]}" in line
    farm.start(2)
    assert say("LIST") == [FILES_ARE, "No file Found"]


def test_an_unknown_outcome(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_cluster: Cluster, uploads: list[Any], **_how: Any) -> list[DfsError]:
        return [UnknownOutcomeError("2 of 4 nodes answered")] * len(uploads)

    monkeypatch.setattr(Cluster, "put_files", lost)
    assert say("PUT f.txt") == ["[14]", "f.txt put not confirmed: old or new, never a mix"]


def test_nodes_that_sent_damaged_shares_are_named(
    console: Console, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.execute("PUT f.txt")
    fetched = Cluster.get_files

    def suspicious(cluster: Cluster, *what: Any, **how: Any) -> list[Any]:
        (got,) = fetched(cluster, *what, **how)
        assert isinstance(got, Got)
        guilty: NodeId = cluster.nodes[1][0]
        return [evolve(got, suspects=frozenset({guilty}))]

    monkeypatch.setattr(Cluster, "get_files", suspicious)
    capsys.readouterr()
    assert console.execute("GET f.txt") == 0
    assert capsys.readouterr().err == "warning: DFS2 sent damaged shares of f.txt; the file is whole\n"


# --- Logins -------------------------------------------------------------------------------------------------


def test_the_vault_is_announced_once_on_stderr(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for expected in (f"{texts.vault_made(4, farm.key_file)}\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        assert Console({}).run() == 0
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", expected)


@pytest.mark.parametrize(("secret", "user"), [(OTHER_SECRET, "alice"), (SECRET, "mallory")])
def test_a_wrong_login_ends_the_session(
    farm: Farm,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    secret: bytes,
    user: str,
) -> None:
    farm.write_conf(secret, user)
    monkeypatch.setattr(sys, "stdin", io.StringIO("LIST\n"))
    assert Console({}).run() == 12
    assert capsys.readouterr().out == f"{INVALID}\n"


def test_a_conf_that_changed_is_read_again(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    farm.write_conf(OTHER_SECRET, "bob")
    assert say("LIST") == [FILES_ARE, "No file Found"]
    farm.write_conf(OTHER_SECRET, "alice")
    assert say("LIST") == ["[12]", INVALID]
    farm.write_conf()
    assert say("LIST") == [FILES_ARE, "f.txt"]


def test_a_conf_that_became_faulty_is_told_and_not_the_end(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    (farm.home / "dfc.conf").write_text('format = 1\ncypher = "xor"\n')
    code, *lines = say("LIST")
    assert code == "[2]"
    assert any("did you mean 'cipher'?" in line for line in lines)
    farm.write_conf()
    assert say("LIST") == [FILES_ARE, "f.txt"]


def test_another_password_for_an_old_vault(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    farm.admit(alice=OTHER_SECRET)
    farm.write_conf(OTHER_SECRET)
    assert say("GET f.txt") == ["[12]", "This vault was sealed with another password."]


def test_a_login_the_nodes_no_longer_know(farm: Farm, say: Say) -> None:
    say("PUT f.txt")
    farm.admit(bob=OTHER_SECRET)
    for node in farm.nodes.values():
        node.accounts.refresh()  # as the next login of anybody does
    assert say("LIST") == ["[12]", INVALID]


# --- The session --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "QUIT\nLIST\n", "exit\nLIST\n"])
def test_a_session_ends_with_0_whatever_its_commands_gave(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"GET nothing\n{end}"))
    assert Console({}).run() == 0
    assert capsys.readouterr().out == "File does not exist.\n"


def test_ctrl_c_ends_a_session_with_130(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_cluster: Cluster, _path: str) -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Cluster, "ls", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("LIST\n"))
    assert Console({}).run() == 130


def test_one_command_gives_its_own_status(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_client(Context(), [], "PUT f.txt") == 0
    assert run_client(Context(), ["dfc.conf"], "GET nothing") == 4
    assert capsys.readouterr().out.splitlines() == [f"File send.  3.2 KiB, {UP}", "File does not exist."]


def test_the_client_takes_a_command_only_by_its_option(farm: Farm) -> None:
    with pytest.raises(ConfigError, match=r"not understood: dfc\.conf list"):
        run_client(Context(), ["dfc.conf", "list"], None)


# --- dfc ----------------------------------------------------------------------------------------------------


def test_one_shot_stdout_carries_names_and_nothing_else(
    farm: Farm, dfc: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = dfc("put", "f.txt")
    assert (code, out) == (0, "")
    assert err == f"{texts.vault_made(4, farm.key_file)}\nf.txt  3.2 KiB, {UP}\n"
    assert dfc("mkdir", "sub") == (0, "", "sub/ created.\n")
    assert dfc("LIST") == (0, "f.txt\nsub/\n", "")
    assert dfc("list", "sub/") == (0, "", "")
    code, out, err = dfc("get", "f.txt")
    assert (code, out) == (0, "")
    assert err.startswith("f.txt -> f.txt  3.2 KiB in ")


def test_several_names_and_a_folder_for_all(farm: Farm, dfc: Callable[..., tuple[int, str, str]]) -> None:
    for name in ("a", "b"):
        (farm.home / name).write_bytes(CONTENT + name.encode())
    assert dfc("put", "a", "b", "sub/")[0] == 0
    assert dfc("list", "sub")[1] == "a\nb\n"
    (farm.home / "b").unlink()
    code, out, err = dfc("get", "nothing", "b", "sub/")
    assert (code, out) == (4, "")
    assert err.splitlines()[0] == "nothing: File does not exist."
    assert (farm.home / "b").read_bytes() == CONTENT + b"b"
    code, _, err = dfc("put", "a", "none")  # a folder only with "/" at its end
    assert (code, err.splitlines()[1]) == (4, "none: File does not exist.")
    assert dfc("list")[1] == "a\nsub/\n"
    assert dfc("rm", "-r", "a", "sub")[:2] == (0, "")


def test_two_arguments_with_one_base_name(farm: Farm, dfc: Callable[..., tuple[int, str, str]]) -> None:
    (farm.home / "dir").mkdir()
    (farm.home / "dir" / "f.txt").write_bytes(b"other")
    code, out, err = dfc("put", "f.txt", "dir/f.txt")
    assert (code, out) == (2, "")
    assert err.startswith("two files are named f.txt")


def test_failures_one_shot(farm: Farm, dfc: Callable[..., tuple[int, str, str]]) -> None:
    dfc("put", "f.txt")
    assert dfc("get", "nothing") == (4, "", "File does not exist.\n")
    farm.stop(4)
    (farm.home / "g").write_bytes(CONTENT[1:])
    code, out, err = dfc("put", "g")
    assert (code, out) == (3, "")
    assert err.splitlines() == [
        "g  3.2 KiB, 3 of 4 nodes, survives any 1",
        (
            f"degraded: g is not on DFS4 {farm.addresses[4]} (refused). The file is stored and readable."
            " When DFS4 is back: dfs repair g  (DFS-E301)"
        ),
    ]
    farm.stop(1, 2)
    assert dfc("get", "f.txt") == (5, "", "f.txt is incomplete\n")
    assert dfc("list") == (0, "f.txt [incomplete]\ng [incomplete]\n", "degraded: may be stale\n")
    farm.stop(3)
    assert dfc("list") == (7, "", f"{farm.all_down()}\n")
    farm.write_conf(OTHER_SECRET)
    farm.start(1, 2, 3, 4)
    assert dfc("list") == (12, "", f"{INVALID}\n")


def test_forms_of_dfc(farm: Farm, dfc: Callable[..., tuple[int, str, str]]) -> None:
    (farm.home / "dfc.conf").rename(farm.home / "elsewhere.conf")
    assert dfc("elsewhere.conf", "put f.txt sub/")[0] == 0
    assert dfc("elsewhere.conf", "list", "sub")[1] == "f.txt\n"
    assert dfc("--conf", "elsewhere.conf", "list")[1] == "sub/\n"
    assert dfc("--help")[1].startswith("Usage: dfc ")
    code, _, err = dfc("list")
    assert (code, err.partition(" (")[0]) == (2, "no conf found")
    assert "dfc.conf" in err
