"""What people read, to the letter."""

import re
from datetime import datetime

import pytest
from attrs import evolve, frozen

from dfs import texts
from dfs.core.classic import split_words
from dfs.core.folders import Health, Listed
from dfs.core.getting import Got
from dfs.core.types import (
    Chunk,
    ChunkId,
    Entry,
    EntryKind,
    Geometry,
    Manifest,
    NodeId,
    Outcome,
    OutcomeKind,
    Recipe,
    Version,
)

IDS = [NodeId(bytes([number]) * 16) for number in range(1, 5)]
LABELS = {node: f"dfs{number} 127.0.0.1:777{number}" for number, node in enumerate(IDS, start=1)}
NODES = [(node, f"dfs{number}") for number, node in enumerate(IDS, start=1)]
VERSION = Version(b"v" * 16)
OUTCOME = Outcome("a.iso", OutcomeKind.OK, VERSION, 17920, 4, 4, 2, sent_size=35_904, stored_size=35_904)


@frozen
class State:
    name: str
    address: str
    down: str = ""


def file(path: str, size: int = 17920, mtime_ns: int = 0) -> Entry:
    recipe = Recipe("dfs:aes-gcm@1", "dfs:zstd@1", "dfs:reed-solomon@1", "dfs:rendezvous@1", Geometry(2, 4))
    chunk = Chunk(ChunkId(b"c" * 32), 0, size, size)
    manifest = Manifest(recipe, b"", (chunk,), listed=False, chunks_digest=b"")
    return Entry(path, EntryKind.FILE, VERSION, size=size, mtime_ns=mtime_ns, manifest=manifest)


def listed(entry: Entry, holder_count: int = 4) -> Listed:
    health = (
        Health.COMPLETE if holder_count == 4 else Health.DEGRADED if holder_count > 1 else Health.INCOMPLETE
    )
    return Listed(
        entry,
        health,
        holder_count,
        4,
        stale=False,
        holders=frozenset(IDS[:holder_count]),
        members=frozenset(IDS),
        survives=max(0, holder_count - 2),
        stored_size=entry.size * holder_count // 2,
    )


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (OUTCOME, "17.5 KiB, 4 of 4 nodes, survives any 2"),
        (evolve(OUTCOME, node_count=3, survives=1), "17.5 KiB, 3 of 4 nodes, survives any 1"),
        (evolve(OUTCOME, node_count=2, survives=0), "17.5 KiB, 2 of 4 nodes, survives no loss"),
        (
            evolve(OUTCOME, sent_size=0),
            "17.5 KiB, 4 of 4 nodes, survives any 2  (0 B of shares sent, already stored)",
        ),
        # a file inside its entry has no shares that could be sent
        (evolve(OUTCOME, size=3, sent_size=0, stored_size=0), "3 B, 4 of 4 nodes, survives any 2"),
    ],
)
def test_what_became_of_a_stored_file(outcome: Outcome, text: str) -> None:
    assert texts.detail(outcome) == text


def test_how_a_file_came() -> None:
    got = Got(file("f"), False, {IDS[1]: 9000, IDS[0]: 9000}, frozenset(), needed_size=18_000)
    words = "17.5 KiB in 0.0 s  dfs1 8.8 KiB, dfs2 8.8 KiB  (0 B extra)"
    assert texts.got_detail(got, LABELS, 0.01) == words
    hedged = evolve(got, received={**got.received, NodeId(b"\xab" * 16): 1024})
    assert texts.got_detail(hedged, LABELS, 6.1).endswith(
        "abababab 1.0 KiB, dfs1 8.8 KiB, dfs2 8.8 KiB  (1.0 KiB extra)"
    )
    assert texts.got_detail(evolve(got, received={}, needed_size=0), LABELS, 6.1) == "17.5 KiB in 6.1 s"


@pytest.mark.parametrize(
    ("down", "words"),
    [
        ("127.0.0.1:7773 refused the connection", "refused"),
        ("does not answer", "no answer"),
        ("127.0.0.1:7773 did not answer in time", "no answer"),
        ("127.0.0.1:7773 cannot be reached: no \x1b[31m route", "cannot be reached: no \\x1b[31m route"),
    ],
)
def test_why_a_node_is_left_out(down: str, words: str) -> None:
    state = State("DFS3", "127.0.0.1:7773", down)
    assert texts.node_down(3, state) == f"Server 3 is down. (DFS3 127.0.0.1:7773: {words})"


def test_one_line_names_all_when_nobody_answers() -> None:
    states = [State("a", "h:1", "h:1 refused the connection"), State("b", "h:2", "does not answer")]
    assert texts.all_down(states) == "All servers are down. (a h:1: refused, b h:2: no answer)"


def test_a_degraded_file_names_the_nodes_and_the_remedy() -> None:
    outcome = evolve(OUTCOME, kind=OutcomeKind.DEGRADED, node_count=3, survives=1, missing=(IDS[2],))
    states = [State(f"dfs{place}", f"127.0.0.1:777{place}") for place in range(1, 5)]
    states[2] = evolve(states[2], down="127.0.0.1:7773 refused the connection")
    line = texts.degraded_line(outcome, LABELS, states)
    assert line == (
        "degraded: a.iso is not on dfs3 127.0.0.1:7773 (refused). The file is stored and readable."
        " When dfs3 is back: dfs repair a.iso  (DFS-E301)"
    )
    # a node that is down and was never met, so nobody knows which id it has
    never_met = {node: label for node, label in LABELS.items() if node != IDS[2]}
    assert texts.degraded_line(outcome, never_met, states) == line
    # a node that answers and still lacks it
    states[2] = evolve(states[2], down="")
    assert "dfs3 127.0.0.1:7773 (has not got all of it)" in texts.degraded_line(outcome, LABELS, states)


@pytest.mark.parametrize(
    "name", ["f.txt", "a b", " a", "a ", "a [incomplete]", 'say "no"', "it's", "a\\b", 'a\\"b ']
)
def test_a_listed_name_goes_back_into_the_prompt(name: str) -> None:
    shown = texts.listed_name(listed(file(f"sub/{name}")))
    (again,) = split_words(f"GET {shown}")[1:] if shown.startswith('"') else [shown]
    assert again == name


@pytest.mark.parametrize("name", [" a", "a ", "a [incomplete]", 'say "no"', "it's"])
def test_doubtful_names_are_quoted(name: str) -> None:
    assert texts.quoted(name).startswith('"')


def test_marks_of_listed_names() -> None:
    folder = Entry("a/sub", EntryKind.FOLDER, VERSION)
    assert texts.listed_name(listed(folder)) == "sub/"
    assert texts.listed_name(listed(folder), "a/sub") == "a/sub/"
    assert texts.listed_name(listed(file("old.tar"), 1)) == "old.tar [incomplete]"
    assert texts.listed_name(listed(file("old [incomplete]"), 1)) == '"old [incomplete]" [incomplete]'
    assert "\x1b" not in texts.listed_name(listed(file("red\x1b[31m")))


def test_the_long_table() -> None:
    moment = int(datetime(2026, 11, 22, 14, 3).astimezone().timestamp() * 1e9)
    rows = texts.long_rows(
        [
            listed(file("report.pdf", 12 << 20, moment)),
            listed(file("video.mkv", 1 << 30, moment), 3),
            listed(file("old.tar", 812 << 20, moment), 1),
        ],
        NODES,
    )
    assert rows == [
        "STATE           SIZE       STORED     NODES  MODIFIED          NAME",
        "complete 4/4    12.0 MiB   24.0 MiB   ####   2026-11-22 14:03  report.pdf",
        "degraded 3/4    1.0 GiB    1.5 GiB    ###.   2026-11-22 14:03  video.mkv   survives any 1",
        (
            "INCOMPLETE 1/4  812.0 MiB  406.0 MiB  #...   2026-11-22 14:03  old.tar"
            "   needs 2; gone from dfs2, dfs3, dfs4"
        ),
        (
            "3 files, 1.8 GiB. 1 degraded: dfs repair."
            " 1 incomplete: put it again, or bring back dfs2, dfs3, dfs4."
        ),
    ]


def test_the_long_table_of_folders_and_of_nothing() -> None:
    header, row, summary = texts.long_rows([listed(Entry("sub", EntryKind.FOLDER, VERSION))], NODES)
    assert header.startswith("STATE   SIZE")
    assert re.fullmatch(r"folder +#### +sub/", row)
    assert summary == "0 files, 0 B."
    assert texts.long_rows([], NODES) == []


def test_a_new_vault_says_what_must_be_kept() -> None:
    line = texts.vault_made(4, None)
    assert line.startswith("Vault made on 4 of 4 nodes. Without the password nobody can read")
    line = texts.vault_made(4, "~/odile.key")
    assert line.startswith("Vault made on 4 of 4 nodes. Without the key file ~/odile.key nobody can read")
    assert "password" not in line
