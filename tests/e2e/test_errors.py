"""Every error a user can cause: one clear line with what to do next, a stable status, no traceback."""

import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

CODE = re.compile(r"\(DFS-E\d{3}\)$")


def _run(cluster: Any, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = cluster.command()[:3]
    return subprocess.run(
        [*command, *words],
        input=stdin,
        capture_output=True,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=60,
        check=False,
    )


def _one_line(ended: "subprocess.CompletedProcess[bytes]", status: int, *parts: str) -> str:
    told = ended.stderr.decode().strip()
    assert ended.returncode == status, (ended.returncode, told)
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if not line.startswith(("warning:", "Usage:", "Try "))]
    assert len(lines) == 1, told
    for part in parts:
        assert part in lines[0], told
    return lines[0]


def _conf(cluster: Any, text: str, name: str = "faulty.toml") -> str:
    path: Path = cluster.folder / name
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_confs(cluster: Any) -> None:
    good = str(cluster.conf())
    cluster.dfs("ls")  # makes the vault, which is said once
    node = '[[node]]\nname = "a"\naddress = "127.0.0.1:1"\n'
    unknown = _conf(cluster, f'format = 1\ncypher = "aes-gcm"\n{node}')
    _one_line(
        _run(cluster, "--conf", unknown, "ls"),
        2,
        "faulty.toml:2",
        "cypher",
        "did you mean 'cipher'",
        "DFS-E201",
    )
    bad = _conf(cluster, f'format = 1\njobs = "many"\n{node}')
    _one_line(_run(cluster, "--conf", bad, "ls"), 2, "faulty.toml:2", "jobs")
    classic = _conf(
        cluster, "Server A 127.0.0.1:7771\nUsername: Ann\nPassword: pw\nPasword hunter2\n", "faulty.conf"
    )
    line = _one_line(_run(cluster, "--conf", classic, "ls"), 2, "faulty.conf:4", "Pasword")
    assert "hunter2" not in line
    _one_line(_run(cluster, "--conf", str(cluster.folder / "none.conf"), "ls"), 2, "none.conf")
    _one_line(_run(cluster, "ls"), 2, "DFS-E203")
    _one_line(_run(cluster, "--conf", good, "--cipher", "foxglove", "put", good), 2, "foxglove", "DFS-E501")
    _one_line(_run(cluster, "--conf", good, "--geometry", "9 of 4", "put", good), 2, "--geometry", "9 shares")
    _one_line(_run(cluster, "--conf", good, "lst"), 2, "ls")


def test_secrets_and_users(cluster: Any) -> None:
    rows = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    secret = cluster.folder / "secret"
    secret.write_text("white rabbit\n")
    secret.chmod(0o644)
    conf = _conf(cluster, f'format = 1\nuser = "Alice"\npassword_file = "{secret}"\n{rows}')
    _one_line(_run(cluster, "--conf", conf, "ls"), 12, "chmod 600", "DFS-E121")
    silent = _conf(cluster, f'format = 1\nuser = "Alice"\n{rows}', "silent.toml")
    _one_line(_run(cluster, "--conf", silent, "ls"), 12, "DFS-E102")
    cluster.environment["DFS_PASSWORD"] = "white rabbit"
    _one_line(_run(cluster, "--conf", conf, "ls"), 2, "DFS_PASSWORD", "DFS-E205")
    del cluster.environment["DFS_PASSWORD"]
    wrong = str(cluster.conf("Alice", "wrong", "wrong.conf"))
    _one_line(
        _run(cluster, "--conf", wrong, "ls"), 12, "Invalid Username/Password. Please try again.", "DFS-E101"
    )
    realm = _conf(
        cluster, f'format = 1\nrealm = "elsewhere"\nuser = "Alice"\npassword_file = "{secret}"\n{rows}'
    )
    secret.chmod(0o600)
    _one_line(_run(cluster, "--conf", realm, "ls"), 13, "elsewhere", "DFS-E133")


def test_files_and_paths(cluster: Any) -> None:
    folder = cluster.folder / "a folder"
    folder.mkdir()
    cluster.dfs("put", str(cluster.file("f", b"x" * 5000)))
    cluster.dfs("mkdir", "box")
    conf = ("--conf", str(cluster.conf()))
    _one_line(_run(cluster, *conf, "put", "missing"), 4, "File does not exist.")
    _one_line(_run(cluster, *conf, "put", str(folder)), 2, "not a regular file")
    _one_line(_run(cluster, *conf, "get", "unheard"), 4, "File does not exist.")
    _one_line(_run(cluster, *conf, "ls", "unheard"), 4, "Folder does not exist.")
    _one_line(_run(cluster, *conf, "rm", "unheard"), 4, "unheard")
    _one_line(_run(cluster, *conf, "rm", "box"), 9, "box")
    _one_line(_run(cluster, *conf, "mkdir", "box"), 9, "box/ already exists")
    _one_line(_run(cluster, *conf, "mkdir", "f/g"), 9, "f")
    _one_line(_run(cluster, *conf, "put", str(cluster.file("f", b"y")), "--if-absent"), 9, "exists")
    linked = cluster.folder / "linked"
    linked.symlink_to(cluster.folder / "elsewhere")
    _one_line(_run(cluster, *conf, "get", "f", "-o", str(linked)), 9, "linked", "not a regular file")
    assert not (cluster.folder / "elsewhere").exists()
    (cluster.folder / "f").write_bytes(b"mine")
    _one_line(_run(cluster, *conf, "get", "f", "--no-clobber"), 9, "f")
    assert (cluster.folder / "f").read_bytes() == b"mine"
    _one_line(_run(cluster, *conf, "put", str(cluster.file("f", b"y")), "--to", "../f"), 2, "..")
    _one_line(_run(cluster, *conf, "put", "-", stdin=b"x"), 2, "--to")


def test_nodes_that_do_not_start(cluster: Any, tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    serve = ("serve", "--listen", "127.0.0.1")
    try:
        _one_line(_run(cluster, *serve, "--dir", str(tmp_path / "n"), "--port", port), 11, port)
    finally:
        taken.close()
    locked = str(cluster.nodes[0].directory)
    _one_line(_run(cluster, *serve, "--dir", locked, "--port", "0"), 11, "DFS-E604")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    _one_line(_run(cluster, *serve, "--dir", str(foreign), "--port", "0"), 10, "DFS-E603")
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    users = tmp_path / "users"
    users.write_text("solo\n")
    faulty = _run(cluster, *serve, "--dir", str(tmp_path / "m"), "--port", "0", "--users", str(users))
    _one_line(faulty, 2, "users:1")
    _one_line(_run(cluster, "serve", "10001"), 2)
    _one_line(_run(cluster, "serve", "DFS1", "99999"), 2)


def test_a_node_with_another_certificate_is_left_out_and_named(cluster: Any) -> None:
    cluster.dfs("put", str(cluster.file("f", b"x" * 5000)))
    node = cluster.nodes[1]
    node.kill()
    for path in (node.directory / ".node").glob("*.pem"):
        path.unlink()
    node.start()
    listed = cluster.dfs("ls")
    assert listed.stdout == b"f\n"
    told = listed.stderr.decode()
    assert "DFS-E131" in told
    assert "dfs cert trust DFS2" in told
    assert told.count("SHA256:") == 2
    cluster.dfs("cert", "trust", "DFS2", "-y")
    assert cluster.dfs("ls").stderr == b""


@pytest.mark.parametrize("count", [1, 3])
def test_no_vault_is_made_while_a_node_is_missing(make_cluster: Any, count: int) -> None:
    cluster = make_cluster(4)
    for node in cluster.nodes[:count]:
        node.kill()
    ended = cluster.dfs("ls", status=10)
    for node in cluster.nodes[:count]:
        assert node.name.encode() in ended.stderr
    for node in cluster.nodes[:count]:
        node.start()
    assert cluster.dfs("ls").stdout == b""
