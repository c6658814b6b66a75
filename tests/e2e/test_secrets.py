"""Secrets are nowhere but where they belong: not in what other processes, logs, tracebacks or disks show."""

import base64
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dfs.core.keys import KdfParameters, login_keys, password_secret

PASSWORD = "Xq7-walrus-tangerine"
KEY = bytes(range(100, 132))
LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here")


def forms(*secrets: bytes) -> list[bytes]:
    """Return how a secret might be written somewhere."""
    return [form for raw in secrets for form in (raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="))]


def secrets() -> list[bytes]:
    """Return the password, the key file, and what follows from them: seeds of logins, keys of wraps."""
    derived = password_secret(PASSWORD.encode(), "dfs", "Carol", KdfParameters())
    logins = [login_keys(derived), login_keys(KEY)]
    return forms(PASSWORD.encode(), derived, KEY, *(each.seed for each in logins), *(k.kek for k in logins))


def shown_by(pid: int) -> bytes:
    """Return what other processes may read about this one; less where the system guards it."""
    shown = b""
    for name in ("cmdline", "environ"):
        try:
            shown += Path(f"/proc/{pid}/{name}").read_bytes()
        except PermissionError:
            continue
    return shown


def hits(where: bytes, needles: list[bytes]) -> list[bytes]:
    return [needle for needle in needles if needle in where]


def confs_of(cluster: Any) -> dict[str, Path]:
    """Write a conf for each way to give a secret."""
    folder: Path = cluster.folder
    password_file, key_file = folder / "pw", folder / "key"
    password_file.write_text(f"{PASSWORD}\n")
    key_file.write_text(f"dfs-key-1 {KEY.hex()}\n")
    for path in (password_file, key_file):
        path.chmod(0o600)
    table = f'[[node]]\nname = "DFS1"\naddress = "{cluster.nodes[0].address}"\n'
    confs = {}
    for name, user, source in (
        ("password.toml", "Carol", f'password_file = "{password_file}"'),
        ("command.toml", "Carol", f'password_command = ["cat", "{password_file}"]'),
        ("key.toml", "Dora", f'key_file = "{key_file}"'),
    ):
        confs[name] = folder / name
        confs[name].write_text(f'format = 1\nuser = "{user}"\n{source}\n{table}')
    confs["classic.conf"] = folder / "classic.conf"
    confs["classic.conf"].write_text(
        f"Server DFS1 {cluster.nodes[0].address}\nUsername: Carol\nPassword: {PASSWORD}\n"
    )
    confs["classic.conf"].chmod(0o600)
    return confs


@LINUX
def test_secrets_are_nowhere_to_be_seen(make_cluster: Any, key_lines: str) -> None:
    cluster = make_cluster(1, "--log-level", "debug", clear=True)
    (node,) = cluster.nodes
    folder: Path = cluster.folder
    users = folder / "users"
    key_line = base64.b64encode(login_keys(KEY).public_key).decode()
    users.write_text(f"Carol {PASSWORD}\nDora ed25519:{key_line}\n{key_lines}")
    needles = secrets()
    seen: list[bytes] = []
    confs = confs_of(cluster)

    faults = (
        ["put", "f", "--cipher", "foxglove", "--debug"],
        ["ls", "--geometry", "7 of 9", "--debug"],
        ["put", "--to", "../up", "f", "--debug"],
    )
    sample = cluster.file("sample", os.urandom(200_000))
    for conf in confs.values():
        for words in (
            ["put", str(sample)],
            ["get", "nothing", "--debug"],  # a refusal, with where it came from
            *(faults if conf is confs["classic.conf"] else ()),
        ):
            ended = subprocess.run(
                cluster.command(*words, conf=conf),
                capture_output=True,
                env=cluster.environment,
                cwd=folder,
                check=False,
                timeout=60,
            )
            seen += [ended.stdout, ended.stderr]
            assert b"unexpected" not in ended.stderr, ended.stderr
    assert any(b"Traceback" in text for text in seen), "nothing was provoked"

    held = cluster.start("client", conf=confs["password.toml"])  # a client that waits for its user
    held.stdin.write("LIST\n")
    held.stdin.flush()
    while (line := held.stdout.readline()) and "sample" not in line:
        pass
    seen += [shown_by(held.pid), shown_by(node.pid)]
    assert b"dfs" in seen[-1], "nothing can be seen, so nothing is shown"
    with socket.create_connection(("127.0.0.1", node.port)) as stranger:  # breaks the protocol
        stranger.send(b"x" * 99)
        stranger.recv(1000)
    seen.append((folder / "DFS1.log").read_bytes())
    kept = [path for path in node.directory.rglob("*") if path.is_file()]
    kept += [path for path in (folder.parent / "state").rglob("*") if path.is_file()]
    assert len(kept) > 3
    seen += [path.read_bytes() for path in kept]
    assert [hits(text, needles) for text in seen if hits(text, needles)] == []
    for path in [*kept, node.directory, node.directory / ".node"]:
        assert path.stat().st_mode & 0o077 == 0 or "state" in path.parts, f"{path} is open to others"


@LINUX
def test_no_process_with_secrets_leaves_a_core_file(cluster: Any) -> None:
    held = cluster.start("client")
    held.stdin.write("LIST\n")
    held.stdin.flush()
    assert "Files in the Servers" in held.stdout.readline()
    for pid in (held.pid, cluster.nodes[0].pid):
        (line,) = (
            line
            for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
            if line.startswith("Max core file size")
        )
        assert line.split()[4] == "0"


def test_secrets_in_the_wrong_place_are_refused_with_what_to_do(cluster: Any) -> None:
    rows = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    for name, key, body in (
        ("open-pw", "password_file", "white rabbit\n"),
        ("open-key", "key_file", f"dfs-key-1 {KEY.hex()}\n"),
    ):
        secret = cluster.folder / name
        secret.write_text(body)
        secret.chmod(0o640)
        conf = cluster.folder / f"{name}.toml"
        conf.write_text(f'format = 1\nuser = "Alice"\n{key} = "{secret}"\n{rows}')
        told = cluster.dfs("ls", conf=conf, status=12).stderr.decode()
        assert f"{secret} can be read by others" in told
        assert f"chmod 600 {secret}" in told
        assert "DFS-E121" in told
    classic = cluster.conf()
    classic.chmod(0o644)
    told = cluster.dfs("ls", conf=classic).stderr.decode()
    assert f"chmod 600 {classic}" in told
    cluster.environment["DFS_PASSWORD"] = "white rabbit"
    told = cluster.dfs("ls", status=2).stderr.decode()
    assert "DFS-E205" in told
    assert "rabbit" not in told
