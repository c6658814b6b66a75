"""The master key is rotated over real nodes: killed at any time, with a node away, with others at work."""

import json
import os
import random
import re
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import USERS, Cluster
from tests.e2e.test_passwords import bare_conf, put_line, secret_in

FILES = {
    "note": b"short",
    "far/letter": random.Random(1).randbytes(90_000),
    "far/off/book": random.Random(2).randbytes(9_000_000),
    "far/off/empty": b"",
}


def filled(cluster: Cluster) -> dict[str, bytes]:
    for path, body in FILES.items():
        cluster.dfs("put", str(cluster.file(path.replace("/", "-"), body)), path)
    return dict(FILES)


def there(cluster: Cluster, conf: Path | None = None) -> dict[str, bytes]:
    """Every file of the vault as a client gets it now."""
    target = cluster.folder / f"all-{os.urandom(4).hex()}"
    cluster.dfs("get", "-r", "/", "-o", str(target), conf=conf)
    found = [path for path in target.rglob("*") if path.is_file()]
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in found}


def stage(cluster: Cluster) -> str:
    """What a rotation that was cut off has come to, as its plan says it."""
    told = cluster.dfs("key", "rotate", "-n").stderr.decode()
    if "begun before" not in told:
        return "none"
    return "removing" if "to remove what is left" in told else "copying"


def test_everything_is_sealed_anew_and_says_so(cluster: Cluster) -> None:
    files = filled(cluster)
    planned = cluster.dfs("key", "rotate", "-n")
    assert b"plan: 4 files of 4 to seal anew (8.7 MiB), under key generation 2" in planned.stderr
    told = json.loads(cluster.dfs("--json", "key", "rotate", "--dry-run").stdout)
    size = sum(map(len, files.values()))
    assert told["data"]["planned"] == {"generation": 2, "files": 4, "bytes": size, "total": 4}
    ended = cluster.dfs("key", "rotate")
    assert b"The vault has key generation 2: all in it is sealed under that." in ended.stdout
    assert b"The new key is in force, everybody can write." in ended.stderr
    assert b"dfs passwd" in ended.stderr
    assert there(cluster) == files
    assert b"nothing to repair" in cluster.dfs("repair").stderr
    checked = json.loads(cluster.dfs("--json", "check").stdout)
    assert checked["code"] == 0
    again = json.loads(cluster.dfs("--json", "key", "rotate").stdout)
    assert (again["data"]["generation"], again["data"]["left"]) == (3, [])
    assert again["data"]["bytes"] == size
    assert there(cluster) == files


def rows(cluster: Cluster) -> list[list[int]]:
    """How many entries and claims each node has in its tables."""
    counts = []
    for node in cluster.nodes:
        (database,) = node.directory.glob("*/vault.db")
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as tables:
            queries = (f"SELECT count(*) FROM {name}" for name in ("registers", "claims", "owed"))  # noqa: S608
            counts.append([tables.execute(query).fetchone()[0] for query in queries])
    return counts


def test_no_entry_and_no_claim_of_before_stays(cluster: Cluster) -> None:
    filled(cluster)
    before = rows(cluster)
    cluster.dfs("key", "rotate")
    assert rows(cluster) == before


@pytest.mark.long
@pytest.mark.parametrize("part", range(2))
def test_killed_at_any_time_all_files_stay_and_it_goes_on(cluster: Cluster, part: int) -> None:
    files = filled(cluster)
    begun_s = time.monotonic()
    cluster.dfs("key", "rotate")
    whole_s = time.monotonic() - begun_s
    seen = set()
    for number in range(7):
        running = cluster.start("key", "rotate")
        with suppress(subprocess.TimeoutExpired):
            running.wait(whole_s * (0.25 + 0.75 * (2 * number + part) / 14))
        running.kill()
        running.wait()
        assert there(cluster) == files
        seen.add(stage(cluster))
        if number % 3 == 1:
            for node in cluster.nodes:
                node.kill()
                node.start()
            assert there(cluster) == files
        if number % 2:
            name, body = f"new{number}", os.urandom(5000)
            put = cluster.dfs("put", str(cluster.file(name, body)), name, status=None)
            assert put.returncode in {0, 11}, put.stderr
            files |= {name: body} if put.returncode == 0 else {}
        else:
            cluster.dfs("key", "rotate")
            assert there(cluster) == files
    cluster.dfs("key", "rotate")
    assert there(cluster) == files
    assert len(seen) > 1, seen


@pytest.mark.parametrize("said", ["plan:", "Copied. Nobody can write", "The new key is in force"])
def test_killed_as_a_stage_begins(cluster: Cluster, said: str) -> None:
    files = filled(cluster)
    running = cluster.start("key", "rotate")
    assert running.stderr is not None
    while said not in running.stderr.readline():
        pass
    running.kill()
    running.wait()
    assert there(cluster) == files
    put = cluster.dfs("put", str(cluster.file("new", b"new")), "new", status=None)
    assert put.returncode in {0, 11}, put.stderr
    files |= {} if put.returncode else {"new": b"new"}
    cluster.dfs("key", "rotate")
    assert there(cluster) == files


def test_a_node_that_is_away_is_cleaned_when_it_is_back(cluster: Cluster) -> None:
    files = filled(cluster)
    cluster.nodes[2].kill()
    ended = cluster.dfs("key", "rotate", status=3)
    assert b"DFS3 still keeps what was under the former key" in ended.stderr
    assert there(cluster) == files
    cluster.dfs("put", str(cluster.file("late", b"late" * 9000)), "late", status=None)
    files["late"] = b"late" * 9000
    cluster.nodes[2].start()
    cluster.dfs("repair")
    ended = cluster.dfs("key", "rotate")
    assert b"key generation 2" in ended.stdout
    cluster.nodes[0].kill()
    assert there(cluster) == files
    cluster.nodes[0].start()
    assert stage(cluster) == "none"


def test_with_two_nodes_away_nothing_is_begun(cluster: Cluster) -> None:
    files = filled(cluster)
    cluster.nodes[0].kill()
    cluster.nodes[1].kill()
    cluster.dfs("key", "rotate", status=7)
    cluster.nodes[0].start()
    cluster.nodes[1].start()
    assert stage(cluster) == "none"
    assert there(cluster) == files


def test_a_prompt_that_was_open_finds_the_new_key_by_itself(cluster: Cluster) -> None:
    """One opened the vault before, works on, and sees what others write afterwards."""
    filled(cluster)
    prompt = cluster.start("client")
    assert prompt.stdin is not None
    assert prompt.stdout is not None

    def say(line: str) -> None:
        assert prompt.stdin is not None
        prompt.stdin.write(f"{line}\n")
        prompt.stdin.flush()

    say("LIST")
    while "note" not in prompt.stdout.readline():
        pass
    cluster.dfs("key", "rotate")
    cluster.dfs("put", str(cluster.file("after", b"after")), "after")
    say("LIST")
    while "after" not in prompt.stdout.readline():
        pass
    say(f"PUT {cluster.file('mine', b'of the prompt')}")
    say("LIST")
    while "mine" not in prompt.stdout.readline():
        pass
    assert cluster.got("mine") == b"of the prompt"


def test_sheets_and_kept_logins_of_before(cluster: Cluster) -> None:
    files = filled(cluster)
    sheet = str(cluster.folder / "sheet")
    cluster.dfs("key", "export", "--output", sheet)
    bare = bare_conf(cluster)
    password = secret_in(cluster, "password", USERS["Alice"])
    keeping = bare_conf(cluster, "keeping.toml", f'password_file = "{password}"\n')
    cluster.dfs("login", "--keep", "file", conf=keeping)
    assert there(cluster, bare) == files
    ended = cluster.dfs("key", "rotate", conf=bare)  # by the kept login
    assert b"Recovery sheets made before will open nothing any more." in ended.stderr
    assert b"Make another one: dfs key export" in ended.stderr
    assert there(cluster, bare) == files
    key = str(cluster.folder / "third.key")
    (made,) = cluster.dfs("key", "new", key).stdout.decode().splitlines()
    put_line(cluster, f"Alice {made.partition(': ')[2]}")
    third = bare_conf(cluster, "third.toml", f'key_file = "{key}"\n')
    refused = cluster.dfs("key", "recover", "--sheet", sheet, conf=third, status=12)
    assert b"opens no vault of Alice" in refused.stderr
    cluster.dfs("key", "recover", "--old-password-file", password, conf=third)
    assert there(cluster, third) == files
    sheet = str(cluster.folder / "sheet2")
    cluster.dfs("key", "export", "--output", sheet, conf=third)
    assert re.search(r"^\s+1 ", Path(sheet).read_text(), re.MULTILINE)


def test_the_password_can_change_before_and_after(cluster: Cluster) -> None:
    files = filled(cluster)
    for number in range(2):
        old = cluster.conf(password=f"password {number}" if number else None, name=f"old{number}.conf")
        new = secret_in(cluster, f"new{number}", f"password {number + 1}")
        cluster.dfs("passwd", "--new-password-file", new, conf=old)
        conf = cluster.conf(password=f"password {number + 1}", name=f"new{number}.conf")
        cluster.dfs("key", "rotate", conf=conf)
        assert there(cluster, conf) == files
        cluster.dfs("ls", conf=old, status=12)
