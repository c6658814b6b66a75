"""The door of real nodes: who is kept waiting, who is told what."""

import hashlib
import re
import ssl
import time
from pathlib import Path
from typing import Any

from tests.unit.tls_kit import Authority

PEM = "-----BEGIN CERTIFICATE-----"


def test_mistyped_passwords_wait_and_lock_nobody_out(make_cluster: Any) -> None:
    cluster = make_cluster(1)
    good, wrong = cluster.conf(), cluster.conf("Alice", "wrong", "wrong.conf")
    cluster.dfs("ls", conf=good)
    for _ in range(5):
        told = cluster.dfs("ls", conf=wrong, status=12).stderr
        assert b"Invalid Username/Password" in told
    told = b""
    for _ in range(7):  # the delay doubles until it is longer than a command takes
        told = cluster.dfs("ls", conf=wrong, status=None).stderr
        if b"Invalid" not in told:
            break
    assert b"too many failed logins" in told
    assert b"run it again.  (DFS-E604)" in told
    end_s = time.monotonic() + 15
    while cluster.dfs("ls", conf=good, status=None).returncode:
        assert time.monotonic() < end_s, "it is locked out"


def answers(cluster: Any, name: str, text: str, status: int = 0) -> str:
    """Run `dfs ls` with a conf of this text; returns what was said on stderr."""
    conf = cluster.folder / f"{name}.toml"
    conf.write_text(text)
    told: str = cluster.dfs("ls", conf=conf, status=status).stderr.decode()
    return told


def table(cluster: Any, *, pins: str = "") -> str:
    """Return the head of a modern conf for Alice, and its nodes."""
    password = cluster.folder / "password"
    password.write_text("white rabbit\n")
    password.chmod(0o600)
    nodes = "".join(
        f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n{pins}' for node in cluster.nodes
    )
    return f'format = 1\nuser = "Alice"\npassword_file = "{password}"\nconnect_timeout = "5 s"\n{{}}\n{nodes}'


def test_an_authority_vouches_for_both_sides(make_cluster: Any, tmp_path: Path) -> None:
    for name in ("guild", "strangers"):
        (tmp_path / name).mkdir()
    guild, strangers = Authority(tmp_path / "guild"), Authority(tmp_path / "strangers")
    certificate, key = guild.issue("node", "127.0.0.1")
    conf = tmp_path / "node.toml"
    conf.write_text(
        f'format = 1\ndir = "elsewhere"\ncertificate = "{certificate}"\nprivate_key = "{key}"\n'
        f'client_ca = "{guild.path}"\n'
    )
    cluster = make_cluster(2, "--conf", str(conf))
    shown = 'client_certificate = "{}"\nclient_key = "{}"'
    member, stranger = guild.issue("alice", "127.0.0.9"), strangers.issue("alice", "127.0.0.9")
    ours, theirs = f'ca = "{guild.path}"\n', f'ca = "{strangers.path}"\n'
    text = table(cluster)
    assert "Vault made on 2 of 2" in answers(cluster, "member", text.format(ours + shown.format(*member)))
    for _ in range(2):  # nothing is learned, nothing need be
        assert answers(cluster, "member", text.format(ours + shown.format(*member))) == ""
    assert not (tmp_path / "state" / "dfs" / "known_nodes").exists()
    told = answers(cluster, "bare", text.format(ours), 13)
    assert re.search(  # of one node or the other: neither is there, and the error tells of one
        r"DFS[12] 127\.0\.0\.1:\d+ wants a certificate of ours, and the conf names none", told
    )
    assert "client_certificate and client_key in the conf.  (DFS-E134)" in told
    told = answers(cluster, "stranger", text.format(ours + shown.format(*stranger)), 13)
    assert "does not take our certificate (unknown ca)" in told
    assert "(DFS-E134)" in told
    told = answers(cluster, "doubter", text.format(theirs + shown.format(*member)), 13)
    assert "not valid" in told
    wrong_pin = table(cluster, pins=f'certificate = "SHA256:{"ab" * 32}"\n')
    told = answers(cluster, "pinned", wrong_pin.format(ours + shown.format(*member)), 13)
    assert "SHA256:abab..ab is pinned" in told, "a pin of the conf counts beside an authority"


def test_a_quorum_lost_by_certificates_is_a_mismatch(cluster: Any) -> None:
    cluster.dfs("put", str(cluster.file("f", b"x" * 5000)))
    old: list[str] = []
    for node in cluster.nodes[:2]:
        old.append(fingerprint(node))
        node.kill()
        for path in (node.directory / ".node").glob("*.pem"):
            path.unlink()
        node.start()
        assert fingerprint(node) != old[-1]
    told = cluster.dfs("put", str(cluster.file("g", b"y" * 5000)), status=13).stderr.decode()
    assert "DFS-E131" in told
    assert told.count("dfs cert trust DFS1") >= 1
    for node, before in zip(cluster.nodes[:2], old, strict=True):
        assert before[:11] in told  # SHA256: and the first digits
        assert fingerprint(node)[:11] in told
    cluster.dfs("cert", "trust", "DFS1", "-y")
    told = cluster.dfs("put", str(cluster.file("g", b"y" * 5000)), status=3).stderr.decode()
    assert "dfs cert trust DFS2" in told, "one less is borne, and named"


def fingerprint(node: Any) -> str:
    """Return the fingerprint of a node's certificate, from its own file."""
    (path,) = (
        path for path in (node.directory / ".node").glob("*.pem") if b"BEGIN CERT" in path.read_bytes()
    )
    der = ssl.PEM_cert_to_DER_cert(path.read_text()[path.read_text().index("-----BEGIN CERT") :])
    return f"SHA256:{hashlib.sha256(der).hexdigest()}"


def test_plain_tcp_is_asked_for_and_warned_about_on_both_sides(make_cluster: Any) -> None:
    cluster = make_cluster(1, "--transport", "tcp")
    text = table(cluster)
    assert "DFS-E" in answers(cluster, "default", text.format(""), 7), "nobody falls back to plain text"
    told = answers(cluster, "plain", text.format('transport = "tcp"'))
    assert "warning: the connection with DFS1 is not encrypted" in told
    log = (cluster.folder / "DFS1.log").read_text()
    assert "transport tcp is not encrypted" in log
    secured = make_cluster(1)
    told = answers(secured, "plain", table(secured).format('transport = "tcp"'), 7)
    assert "not encrypted" not in told, "it came to no connection"
