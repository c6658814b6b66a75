"""The modern start of the README: users by public key, a TOML conf, a password asked for on the terminal."""

import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

PASSWORD = "salt and pepper"


def _ask(cluster: Any, *words: str, answers: tuple[str, ...]) -> tuple[int | None, str]:
    """Run a command on a terminal, answering its questions for a password."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "dfs", *words],
        env=cluster.environment,
        cwd=str(cluster.folder),
        encoding="utf-8",
        timeout=30,
    )
    told = ""
    for answer in answers:
        child.expect(["Password of .*: ", "Once more: "])
        told += str(child.before) + str(child.after)
        child.sendline(answer)
    child.expect(pexpect.EOF)
    told += str(child.before)
    child.close()
    assert PASSWORD not in told
    return child.exitstatus, told


def test_a_user_by_public_key_stores_and_gets_back(make_cluster: Any) -> None:
    cluster = make_cluster(4)
    users = cluster.folder / "users"
    status, told = _ask(cluster, "user", "add", "odile", "--users", str(users), answers=(PASSWORD, PASSWORD))
    assert status == 0, told
    assert "odile ed25519:" in users.read_text()
    assert PASSWORD not in users.read_text()
    conf = _conf(cluster)
    path = cluster.file("report.pdf", b"figures" * 90_000)
    status, told = _ask(cluster, "--conf", str(conf), "put", str(path), answers=(PASSWORD,))
    assert status == 0, told
    assert "4 of 4 nodes, survives any 2" in told
    target = cluster.folder / "back"
    status, told = _ask(
        cluster, "--conf", str(conf), "get", "report.pdf", "-o", str(target), answers=(PASSWORD,)
    )
    assert status == 0, told
    assert target.read_bytes() == path.read_bytes()
    status, told = _ask(cluster, "--conf", str(conf), "ls", answers=("salt and sugar",))
    assert status == 12
    assert "Invalid Username/Password. Please try again." in told


@pytest.mark.parametrize("answers", [(PASSWORD, "salt and sugar"), ("",)])
def test_a_new_password_is_asked_for_twice(make_cluster: Any, answers: tuple[str, ...]) -> None:
    cluster = make_cluster(1)
    users: Path = cluster.folder / "users"
    before = users.read_text()
    status, told = _ask(cluster, "user", "add", "odile", "--users", str(users), answers=answers)
    assert status == 12, told
    assert users.read_text() == before


def _conf(cluster: Any) -> Path:
    path: Path = cluster.folder / "client.toml"
    rows = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    path.write_text(f'format = 1\nuser = "odile"\n{rows}')
    return path
