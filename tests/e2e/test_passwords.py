"""Passwords, key files and recovery sheets over real nodes: what was stored stays readable."""

import base64
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from dfs.core.keys import KdfParameters, login_keys, password_secret
from tests.e2e.conftest import COMMAND, USERS, Cluster, MakeCluster

NEW = "green teapot"
BODY = os.urandom(300_000)


def secret_in(cluster: Cluster, name: str, content: str) -> str:
    path = cluster.folder / name
    path.write_text(f"{content}\n")
    path.chmod(0o600)
    return str(path)


def bare_conf(cluster: Cluster, name: str = "bare.toml", more: str = "") -> Path:
    """A conf of Alice without any password."""
    nodes = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    path = cluster.folder / name
    path.write_text(f'format = 1\nuser = "Alice"\n{more}{nodes}')
    return path


def key_line(password: str) -> str:
    keys = login_keys(password_secret(password.encode(), "dfs", "Alice", KdfParameters()))
    return f"Alice ed25519:{base64.b64encode(keys.public_key).decode()}"


def put_line(cluster: Cluster, line: str) -> None:
    """What the administrator does: another line for Alice in the users file of all nodes."""
    users = cluster.folder / "users"
    others = [each for each in users.read_text().splitlines() if not each.startswith("Alice ")]
    users.write_text("\n".join([*others, line]) + "\n")


def stored(cluster: Cluster) -> Path:
    """Alice's conf, with a file in her vault."""
    conf = cluster.conf()
    cluster.dfs("put", str(cluster.file("f", BODY)), conf=conf)
    return conf


def read_back(cluster: Cluster, conf: Path) -> bytes:
    target = cluster.folder / f"got-{os.urandom(4).hex()}"
    cluster.dfs("get", "f", "-o", str(target), conf=conf)
    return target.read_bytes()


def all_answered(cluster: Cluster, conf: Path) -> "subprocess.CompletedProcess[bytes]":
    """The first command that met all nodes: one that derives keys at its start may be late for the first."""
    ended = cluster.dfs("status", conf=conf, status=None)
    for _ in range(20):
        if ended.returncode == 0:
            break
        ended = cluster.dfs("status", conf=conf, status=None)
    assert ended.returncode == 0, ended.stderr
    return ended


def test_a_password_is_changed_on_all_nodes(cluster: Cluster) -> None:
    old = stored(cluster)
    new_file = secret_in(cluster, "new", NEW)
    ended = cluster.dfs("passwd", "--new-password-file", new_file, conf=old)
    assert b"The password is changed" in ended.stdout
    new = cluster.conf(password=NEW, name="new.conf")
    assert read_back(cluster, new) == BODY
    refused = cluster.dfs("ls", conf=old, status=12)
    assert b"Invalid Username/Password" in refused.stderr
    for node in cluster.nodes:
        node.kill()
        node.start()
    assert read_back(cluster, new) == BODY
    put_line(cluster, key_line(NEW))  # what the administrator is asked for changes nothing now
    assert read_back(cluster, new) == BODY
    cluster.dfs("repair", conf=new)
    for said in (ended.stdout, ended.stderr):
        assert NEW.encode() not in said
        assert USERS["Alice"].encode() not in said


def test_a_node_that_was_away_is_told_unasked(cluster: Cluster) -> None:
    old = stored(cluster)
    cluster.nodes[2].kill()
    new_file = secret_in(cluster, "new", NEW)
    ended = cluster.dfs("--json", "passwd", "--new-password-file", new_file, conf=old, status=3)
    assert b'"acknowledged": ["DFS1", "DFS2", "DFS4"], "owed": ["DFS3"]' in ended.stdout
    new = cluster.conf(password=NEW, name="new.conf")
    assert read_back(cluster, new) == BODY
    cluster.nodes[2].start()
    assert b"Invalid" not in all_answered(cluster, new).stderr
    cluster.nodes[0].kill()  # one that knew it from the start: the one told later counts in its place
    assert read_back(cluster, new) == BODY
    cluster.nodes[0].start()
    cluster.dfs("ls", conf=old, status=12)
    cluster.nodes[0].kill()
    cluster.nodes[1].kill()
    cluster.nodes[3].kill()
    cluster.dfs("ls", conf=old, status=12)


def test_a_node_that_lost_its_disk_gets_all_wraps_back(cluster: Cluster) -> None:
    old = stored(cluster)
    cluster.dfs("key", "export", "--output", str(cluster.folder / "sheet"), conf=old)
    cluster.dfs("passwd", "--new-password-file", secret_in(cluster, "new", NEW), conf=old)
    put_line(cluster, key_line(NEW))
    cluster.nodes[2].kill()
    new = cluster.conf(password=NEW, name="new.conf")
    (vault,) = (path for path in cluster.nodes[2].directory.iterdir() if path.name != ".node")
    shutil.rmtree(vault)
    cluster.nodes[2].start()
    cluster.dfs("repair", conf=new)
    cluster.nodes[0].kill()  # the wraps are needed from the node that was empty
    assert read_back(cluster, new) == BODY
    put_line(cluster, key_line("third"))
    third = cluster.conf(password="third", name="third.conf")
    cluster.dfs("key", "recover", "--sheet", str(cluster.folder / "sheet"), conf=third)
    assert read_back(cluster, third) == BODY


def test_a_password_may_become_a_key_file(cluster: Cluster) -> None:
    old = stored(cluster)
    key = cluster.folder / "alice.key"
    (made,) = cluster.dfs("key", "new", str(key), conf=old).stdout.decode().splitlines()
    assert key.stat().st_mode & 0o777 == 0o600
    cluster.dfs("key", "new", str(key), conf=old, status=9)
    cluster.dfs("passwd", "--new-key-file", str(key), conf=old)
    new = bare_conf(cluster, more=f'key_file = "{key}"\n')
    assert read_back(cluster, new) == BODY
    shown = cluster.dfs("key", "show", conf=new).stdout.decode()
    assert made.partition(": ")[2] in shown
    assert f"key_file {key}" in shown


def test_a_password_in_clear_text_is_the_administrators(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(clear=True)
    old = stored(cluster)
    new_file = secret_in(cluster, "new", NEW)
    refused = cluster.dfs("passwd", "--new-password-file", new_file, conf=old, status=12)
    assert b"stands in clear text" in refused.stderr
    assert read_back(cluster, old) == BODY
    put_line(cluster, f"Alice {NEW}")
    new = cluster.conf(password=NEW, name="new.conf")
    sealed = cluster.dfs("ls", conf=new, status=12)
    assert b"sealed with another password" in sealed.stderr
    old_file = secret_in(cluster, "old", USERS["Alice"])
    cluster.dfs("key", "recover", "--old-password-file", old_file, conf=new)
    assert read_back(cluster, new) == BODY


def test_a_lost_password_is_recovered_by_the_sheet(cluster: Cluster) -> None:
    old = stored(cluster)
    sheet = cluster.folder / "sheet.txt"
    cluster.dfs("key", "export", conf=old, status=2)  # no terminal
    cluster.dfs("key", "export", "--output", str(sheet), conf=old)
    assert sheet.stat().st_mode & 0o777 == 0o600
    assert all(word in sheet.read_text() for word in ("Alice", cluster.nodes[3].address, "Recovery key"))
    cluster.dfs("key", "export", "--output", str(sheet), conf=old, status=9)
    new = cluster.conf(password=NEW, name="new.conf")
    first = cluster.dfs("key", "recover", "--sheet", str(sheet), conf=new, status=12)
    assert key_line(NEW) in first.stderr.decode()
    put_line(cluster, key_line(NEW))
    cluster.dfs("ls", conf=new, status=12)
    cluster.dfs("key", "recover", "--sheet", str(sheet), conf=new)
    assert read_back(cluster, new) == BODY
    cluster.dfs("key", "recover", "--sheet", str(sheet), conf=new, status=9)  # nothing to do
    put_line(cluster, key_line(USERS["Alice"]))  # the lost password opens nothing, were it found
    cluster.dfs("ls", conf=old, status=12)
    os.chmod(sheet, 0o644)
    cluster.dfs("key", "recover", "--sheet", str(sheet), conf=old, status=12)


def test_a_sheet_that_was_replaced_is_worthless(cluster: Cluster) -> None:
    old = stored(cluster)
    first, second = cluster.folder / "first", cluster.folder / "second"
    cluster.dfs("key", "export", "--output", str(first), conf=old)
    cluster.dfs("key", "export", "--only", "--output", str(second), conf=old)
    new = cluster.conf(password=NEW, name="new.conf")
    put_line(cluster, key_line(NEW))
    refused = cluster.dfs("key", "recover", "--sheet", str(first), conf=new, status=12)
    assert b"opens no vault of Alice" in refused.stderr
    cluster.dfs("key", "recover", "--sheet", str(second), conf=new)
    assert read_back(cluster, new) == BODY


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, cluster: Cluster, *arguments: str, conf: Path) -> None:
        self.child: Any = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], "--conf", str(conf), *arguments],
            env=cluster.environment,
            cwd=str(cluster.folder),
            encoding="utf-8",
            timeout=15,
            dimensions=(60, 200),
        )

    def answer(self, prompt: str, text: str) -> None:
        self.child.expect(prompt)
        self.child.sendline(text)

    def end(self, status: int = 0) -> str:
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == status, self.child.before
        return str(self.child.before)


def test_a_terminal_shows_the_sheet_and_takes_it_typed_in(cluster: Cluster) -> None:
    stored(cluster)
    bare = bare_conf(cluster)
    export = Terminal(cluster, "key", "export", conf=bare)
    export.answer("Password of Alice", USERS["Alice"])
    lines = [line.strip() for line in export.end().splitlines()]
    key = [line for line in lines if line[:1] in "1234" and len(line) == 20 and line[1:3] == "  "]
    assert len(key) == 4
    put_line(cluster, key_line(NEW))
    recover = Terminal(cluster, "key", "recover", conf=bare)
    recover.answer("Line 1 of the recovery key", key[0][:-1] + ("0" if key[0][-1] != "0" else "1"))
    recover.child.expect("typing mistake; once more")
    recover.answer("Line 1 of the recovery key", key[0].lower())
    for number in (2, 3, 4):
        recover.answer(f"Line {number} of the recovery key", key[number - 1])
    recover.answer("New password of Alice", NEW)
    recover.answer("Once more", NEW)
    assert "opens with the new password" in recover.end()
    assert read_back(cluster, cluster.conf(password=NEW, name="new.conf")) == BODY


def test_a_login_is_kept_used_changed_and_forgotten(cluster: Cluster) -> None:
    bare = bare_conf(cluster)
    login = Terminal(cluster, "login", "--keep", "file", conf=bare)
    login.answer("Password of Alice", USERS["Alice"])
    assert "logged in as Alice, kept in a file; vault made on 4 nodes" in login.end()
    (kept,) = (Path(cluster.environment["XDG_STATE_HOME"]) / "dfs" / "logins").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    cluster.dfs("put", str(cluster.file("f", BODY)), conf=bare)  # no terminal, no question
    assert b"kept by dfs login (file)" in cluster.dfs("key", "show", conf=bare).stdout
    cluster.dfs("passwd", "--new-password-file", secret_in(cluster, "new", NEW), conf=bare)
    assert read_back(cluster, bare) == BODY
    kept.chmod(0o640)
    refused = cluster.dfs("ls", conf=bare, status=12)
    assert b"can be read by others" in refused.stderr
    kept.chmod(0o600)
    assert b"forgotten" in cluster.dfs("logout", conf=bare).stdout
    assert not kept.exists()
    cluster.dfs("ls", conf=bare, status=12)
    assert b"no login was kept" in cluster.dfs("logout", conf=bare).stdout


def test_login_tells_whether_the_vault_was_made(cluster: Cluster) -> None:
    conf = cluster.conf()
    first = cluster.dfs("--json", "login", conf=conf)
    again = cluster.dfs("--json", "login", conf=conf)
    assert b'"vault_created": true' in first.stdout
    assert b'"vault_created": false' in again.stdout
    assert cluster.dfs("login", "--public-key", conf=conf).stdout.decode().strip() == key_line(
        USERS["Alice"]
    ).removeprefix("Alice ")


@pytest.mark.parametrize("wait_s", [0.15, 0.4, 0.55, 0.7])
def test_a_change_that_is_killed_leaves_one_of_both(cluster: Cluster, wait_s: float) -> None:
    old = stored(cluster)
    new_file = secret_in(cluster, "new", NEW)
    process = cluster.start("passwd", "--new-password-file", new_file, conf=old)
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.wait()
    new = cluster.conf(password=NEW, name="new.conf")
    works = new if cluster.dfs("ls", conf=new, status=None).returncode == 0 else old
    assert read_back(cluster, works) == BODY
    third = secret_in(cluster, "third", "third time lucky")
    cluster.dfs("passwd", "--new-password-file", third, conf=works)
    assert read_back(cluster, cluster.conf(password="third time lucky", name="third.conf")) == BODY
