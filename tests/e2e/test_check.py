"""Check, repair, status, replace and the healer in the background, as people and programs meet them."""

import base64
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from dfs.cluster import known_nodes
from dfs.core.keys import login_keys
from tests.e2e.conftest import Cluster, MakeCluster, Node

BODY = os.urandom(1_500_000)
SECRET = os.urandom(32)


def spoil(node: Node) -> None:
    """Let the disk of a node that is down change a share."""
    (volume,) = node.directory.glob("*/volumes/*.vol")
    with volume.open("r+b") as file:
        file.seek(200_000)
        file.write(b"rotten")


def shown(cluster: Cluster, *arguments: str, status: int = 0) -> tuple[list[str], list[str]]:
    """Run a command and return the lines of stdout and stderr."""
    ended = cluster.dfs(*arguments, status=status)
    return ended.stdout.decode().splitlines(), ended.stderr.decode().splitlines()


def test_rot_is_found_told_and_repaired(cluster: Cluster) -> None:
    cluster.dfs("put", str(cluster.file("film", BODY)), str(cluster.file("song", BODY[:200_000])))
    cluster.nodes[1].end(signal.SIGTERM)
    spoil(cluster.nodes[1])
    cluster.nodes[1].start()
    assert shown(cluster, "check")[0] == ["2 files, 2 complete."], "nobody has read it yet"
    (line, total), _ = shown(cluster, "check", "--read-data", status=6)
    assert line == "CORRUPT 3/4  film  survives any 1, corrupt on DFS2"
    assert re.fullmatch(
        r"2 files, 1 complete, 1 corrupt\. Read 3\.2 MiB of shares\. To repair: dfs repair", total
    )
    assert "1 CORRUPT" in shown(cluster, "status")[0][3]
    told = json.loads(shown(cluster, "--json", "check", status=6)[0][0])
    assert (told["code"], told["name"], told["error"]) == (6, "corrupt", None)
    assert told["data"]["items"][0]["flaws"] == [{"node": "DFS2", "what": "corrupt"}]
    out, talk = shown(cluster, "repair", "-n")
    assert (out, talk) == (
        [],
        ["plan: 0 entries to bring up to date, 1 share to make (reads 1.4 MiB, writes 732.4 KiB)"],
    )
    out, _ = shown(cluster, "repair", "film")
    assert out == ["repair made 1 share (read 1.4 MiB, wrote 732.4 KiB)"]
    assert shown(cluster, "repair") == ([], ["nothing to repair"])
    assert shown(cluster, "check", "--read-data")[0][0].startswith("2 files, 2 complete. Read ")


def test_a_repair_while_a_node_is_away_says_that_it_is_not_all(cluster: Cluster) -> None:
    cluster.dfs("ls")
    cluster.nodes[2].kill()
    cluster.dfs("put", str(cluster.file("film", BODY)), status=3)
    out, talk = shown(cluster, "check", status=3)
    assert out == [
        "degraded 3/4  film  survives any 1",
        "1 file, 0 complete, 1 degraded. When DFS3 is back: dfs repair",
    ]
    assert talk == [f"DFS3 does not answer: {cluster.nodes[2].address} refused the connection"]
    out, _ = shown(cluster, "check", "--what-if", "kill=dfs1,dfs2", status=5)
    assert out[-1].endswith(
        "0 readable, 1 lost: film (1 of 2 needed shares left). To survive this: dfs repair"
    )
    _, talk = shown(cluster, "repair", status=3)
    assert talk[0] == "nothing to repair on the nodes that answer"
    assert talk[1].startswith("left: DFS3 is away: ")
    cluster.nodes[2].start()
    out, talk = shown(cluster, "repair")
    assert out == ["repair made 1 share (read 1.4 MiB, wrote 732.4 KiB)"]
    assert "1 entry brought up to date" in talk
    assert shown(cluster, "check")[0] == ["1 file, 1 complete."]


@pytest.fixture
def watched(cluster: Cluster) -> "Iterator[pexpect.spawn[str]]":
    cluster.dfs("put", str(cluster.file("film", BODY)))
    command, *arguments = cluster.command("status", "--watch")
    environment = {**cluster.environment, "TERM": "xterm"}
    spawned = pexpect.spawn(
        command, arguments, env=environment, encoding="utf-8", timeout=20, preexec_fn=interruptible
    )
    yield spawned
    spawned.close(force=True)


def interruptible() -> None:
    """Undo what a shell does to all that it runs in the background, and what a node does to its process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def test_watching_shows_a_node_die_and_come_back(watched: "pexpect.spawn[str]", cluster: Cluster) -> None:
    watched.expect_exact("\x1b[2J\x1b[HAlice at default: 4 of 4 nodes up, geometry 2 of 4")
    watched.expect_exact("2 more nodes may fail and all can be read, 1 and all can be written")
    cluster.nodes[3].kill()
    watched.expect_exact("3 of 4 nodes up")
    watched.expect(r"DFS4 [0-9.:]+  down: [^\r]*")
    cluster.nodes[3].start()
    watched.expect_exact("4 of 4 nodes up")
    watched.sendintr()
    watched.expect(pexpect.EOF)
    assert "interrupted" not in str(watched.before)
    watched.close()
    assert watched.exitstatus == 130


def empty(cluster: Cluster, *nodes: Node) -> None:
    """Start nodes with empty disks, and believe their new certificates."""
    state = Path(cluster.environment["XDG_STATE_HOME"]) / "dfs"
    for node in nodes:
        node.kill()
        shutil.rmtree(node.directory)
        node.start()
        known_nodes(state).forget(node.address)


def test_a_lost_disk_is_replaced_after_a_question(cluster: Cluster) -> None:
    cluster.dfs("put", str(cluster.file("film", BODY)))
    empty(cluster, cluster.nodes[3])
    plan = "plan: DFS4 gets the id of the lost node, and all it should hold"
    assert shown(cluster, "replace", "dfs4", "-n")[1][-1].startswith(plan)
    assert "3 of 4 nodes up" in shown(cluster, "status")[0][0], "nothing was done yet"
    assert "Answer with --yes" in shown(cluster, "replace", "DFS4", status=2)[1][-1]
    command, *arguments = cluster.command("replace", "DFS4")
    asked = pexpect.spawn(command, arguments, env=cluster.environment, encoding="utf-8", timeout=20)
    asked.expect_exact("Does DFS4 replace a node that will never come back? [y/N]")
    asked.sendline("no")
    asked.expect_exact("Nothing was changed.")
    asked.expect(pexpect.EOF)
    asked.close()
    assert asked.exitstatus == 0
    (line,), _ = shown(cluster, "-y", "replace", "DFS4")
    assert (
        line == "DFS4 replaced, incarnation 2: 1 share made (read 1.4 MiB, wrote 732.4 KiB). It counts again."
    )
    assert "is a node of this vault already" in shown(cluster, "-y", "replace", "DFS4", status=9)[1][-1]
    assert shown(cluster, "check", "--read-data")[0][0].startswith("1 file, 1 complete.")


@pytest.mark.long
def test_which_of_two_lost_nodes_is_replaced_is_never_guessed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(6)
    cluster.dfs("put", str(cluster.file("film", BODY)))
    ids = [node["id"] for node in json.loads(shown(cluster, "--json", "status")[0][0])["data"]["nodes"]]
    empty(cluster, cluster.nodes[1], cluster.nodes[4])
    in_order = cluster.conf().read_text()
    *servers, name, password = in_order.splitlines()
    reversed_conf = cluster.folder / "reversed.conf"
    reversed_conf.write_text("\n".join([*reversed(servers), name, password, ""]))
    reversed_conf.chmod(0o600)
    ended = cluster.dfs("-y", "replace", "DFS2", conf=reversed_conf, status=9)
    assert b"it does not show whose place" in ended.stderr
    cluster.dfs("-y", "replace", "DFS5", status=None)
    cluster.dfs("-y", "replace", "DFS2")
    cluster.dfs("repair")
    nodes = json.loads(shown(cluster, "--json", "status")[0][0])["data"]["nodes"]
    assert [(node["name"], node["id"]) for node in nodes] == [
        (f"DFS{number}", node) for number, node in enumerate(ids, start=1)
    ]
    assert {node["state"] for node in nodes} == {"active"}
    assert cluster.got("film") == BODY


def test_a_node_repairs_in_the_background_and_ends_promptly(cluster: Cluster) -> None:
    cluster.dfs("put", str(cluster.file("film", BODY)))
    key = base64.b64encode(login_keys(SECRET).public_key).decode()
    users = cluster.folder / "users"
    users.write_text(f"{users.read_text()}tom ed25519:{key} role=healer\n")
    (cluster.folder / "tom.key").write_text(f"dfs-key-1 {SECRET.hex()}\n")
    (cluster.folder / "tom.key").chmod(0o600)
    tables = "".join(
        f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes
    )
    healer = cluster.folder / "tom.toml"
    healer.write_text(f'format = 1\nuser = "tom"\nkey_file = "{cluster.folder}/tom.key"\n{tables}')
    conf = cluster.folder / "node.toml"
    conf.write_text(
        f'format = 1\ndir = "{cluster.nodes[0].directory}"\n[heal]\nconf = "{healer}"\ninterval = "500 ms"\n'
    )
    cluster.nodes[1].end(signal.SIGTERM)
    spoil(cluster.nodes[1])
    cluster.nodes[1].start()
    cluster.dfs("check", "--read-data", status=6)
    first = cluster.nodes[0]
    assert first.end(signal.SIGTERM) == 0
    first.arguments = [*first.arguments, "--heal", "--conf", str(conf)]
    first.start()
    log = first.directory.parent / f"{first.name}.log"
    line = line_of(log, "repair of the vault of Alice: 0 entries, 1 share ")
    assert "(read 2.1 MiB, wrote 732.4 KiB)" in line, "one share more than needed, to compare with"
    cluster.dfs("check", "--read-data")
    cluster.nodes[3].kill()
    cluster.nodes[3].start()
    assert first.end(signal.SIGTERM) == 0, "in the middle of whatever it did"
    told = [
        text for text in log.read_text().splitlines() if "repair of the vault" in text and "wrote" in text
    ]
    assert len(told) == 1, "what is whole is left alone"


def line_of(log: Path, text: str) -> str:
    """Wait until a line is in a log."""
    with pexpect.spawn("tail", ["-n", "+1", "-F", str(log)], encoding="utf-8", timeout=30) as tail:
        tail.expect(f"{re.escape(text)}[^\r]*")
        found: Any = tail.match
        return str(found.group(0))


def test_a_healer_without_a_conf_is_one_clear_error(tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = ["-m", "dfs", "serve", "--heal", "--dir", str(tmp_path / "N"), "--port", "0"]
    ended = pexpect.run(
        f"{sys.executable} {' '.join(arguments)}", env=environment, withexitstatus=True, encoding="utf-8"
    )
    assert ended[1] == 2
    assert "error: --heal needs the conf of a healer's account." in ended[0]
    assert '[heal] conf = "FILE"' in ended[0]
    assert not (tmp_path / "N").exists()
