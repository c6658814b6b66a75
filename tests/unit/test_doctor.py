"""What may be wrong: each fault is found, and has its fix."""

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import dfs
from dfs import doctor
from dfs.core.classic import ClassicUser, NodeAddress
from dfs.core.errors import ConfigError, DfsError, LoginError, NoConfError
from dfs.core.identity import ensure_certificate
from dfs.core.interface import NodeCertificate
from dfs.core.registry import Registry
from dfs.core.settings import ClientConf, NodeConf
from dfs.core.standing import NodeStanding
from dfs.core.types import NodeId, VaultState
from dfs.doctor import Doors, Finding
from dfs.plugins import BUILTIN

NODE = NodeAddress("A", "127.0.0.1:1")
SHOWN = NodeCertificate("A", "127.0.0.1:1", known=b"", pinned=b"", shown=b"\1" * 32)
STANDING = NodeStanding(NodeId(bytes(16)), "A", "127.0.0.1:1", "", state=VaultState.ACTIVE, free_size=1 << 40)


class Vault:
    """A cluster as the doctor sees it."""

    geometry = (1, 1)
    user = "odile"

    def __init__(self, *standings: NodeStanding) -> None:
        self.standings = standings

    def status(self) -> Any:
        return self.standings


def failing(error: DfsError) -> Callable[[], Any]:
    def door() -> Any:
        raise error

    return door


def doors(conf: Any = None, shown: NodeCertificate = SHOWN, *standings: NodeStanding, **more: Any) -> Doors:
    made = conf or ClientConf(file="c.toml", user="odile", nodes=(NODE,))
    values = {
        "client": lambda: made,
        "node": lambda: made,
        "registry": lambda: Registry(BUILTIN),
        "cluster": lambda: Vault(*(standings or (STANDING,))),
        "certificates": lambda: [shown],
    }
    return Doors(**{**values, **more})


def faults(findings: Any) -> list[Finding]:
    found = list(findings)
    assert all(bool(each.fix) == (each.state != "ok") for each in found)
    return [each for each in found if each.state != "ok"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_nothing_wrong() -> None:
    assert faults(doctor.of_client(doors())) == []


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (NoConfError("no conf found"), "dfs init"),
        (ConfigError("c.toml:1: no", file="c.toml"), "dfs config check c.toml"),
    ],
)
def test_no_conf_ends_the_visit(error: DfsError, fix: str) -> None:
    (fault,) = faults(doctor.of_client(doors(client=failing(error))))
    assert (fault.name, fault.fix) == ("conf", fix)


def test_open_secrets(tmp_path: Path) -> None:
    for name in ("c.conf", "key"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o644)
    conf = ClientConf(file="c.conf", user="a", users=(ClassicUser("a", "pw"),), key_file="key", nodes=(NODE,))
    fixes = {each.name: each.fix for each in faults(doctor.of_client(doors(conf)))}
    assert fixes == {"password": "chmod 600 c.conf", "key_file": "chmod 600 key"}


def test_a_clock_before_dfs_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    (fault,) = faults(doctor.of_client(doors()))
    assert (fault.name, fault.fix) == ("clock", "set the clock (NTP)")


def test_a_single_executable_has_no_files_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dfs, "__file__", "/nowhere/dfs/__init__.py")
    assert faults(doctor.of_client(doors())) == []


def test_an_unknown_plugin() -> None:
    conf = ClientConf(file="c.toml", cipher="foxglove", nodes=(NODE,))
    (fault,) = faults(doctor.of_client(doors(conf)))
    assert fault.name == "plugins"
    assert "foxglove" in fault.detail


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"shown": b"", "reason": "A 127.0.0.1:1 refused the connection"}, "dfs serve --dir DIR --port 1"),
        ({"shown": b"", "reason": "does not answer"}, "firewall let TCP port 1 in"),
        ({"shown": b"", "reason": "the peer does not speak the dfs protocol"}, "same transport"),
        ({"shown": b"", "reason": "no such name", "address": "nowhere.invalid:1"}, "correct the name"),
        ({"known": b"\2" * 32}, "dfs cert trust A"),
        ({"pinned": b"\2" * 32}, "write the new one into c.toml"),
    ],
)
def test_nodes_that_cannot_be_met(change: dict[str, Any], fix: str) -> None:
    (fault,) = faults(doctor.of_client(doors(None, evolve(SHOWN, **change))))
    assert (fault.name, fault.state) == ("node A", "problem")
    assert fix in fault.fix


def test_a_node_that_must_be_pinned() -> None:
    conf = ClientConf(file="c.toml", trust="pin", nodes=(NODE,))
    (fault,) = faults(doctor.of_client(doors(conf)))
    assert f'certificate = "SHA256:{"01" * 32}"' in fault.fix


def test_a_login_that_fails() -> None:
    (fault,) = faults(doctor.of_client(doors(cluster=failing(LoginError("wrong", next_step="Mend it.")))))
    assert (fault.name, fault.fix) == ("vault", "Mend it.")


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"version": "0.0.1"}, "the same version"),
        ({"read_only": "its disk failed"}, "restart the node"),
        ({"owed_count": 3}, "dfs repair"),
        ({"corrupt_count": 3}, "dfs repair"),
        ({"state": VaultState.QUARANTINED}, "dfs repair"),
        ({"free_size": 5}, "more room"),
    ],
)
def test_vaults_that_are_not_well(change: dict[str, Any], fix: str) -> None:
    (fault,) = faults(doctor.of_client(doors(None, SHOWN, evolve(STANDING, **change))))
    assert fault.name == "vault on A"
    assert fix in fault.fix


# --- A node -------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> NodeConf:
    folder = tmp_path / "N"
    folder.mkdir(mode=0o700)
    ensure_certificate(str(folder / ".node"), "N")
    (tmp_path / "users").write_text("odile ed25519:" + "A" * 43 + "=\n")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return NodeConf(
        file="n.toml", dir=str(folder), listen="127.0.0.1", port=port, users="users", max_connections=64
    )


def test_a_node_that_is_well(node: NodeConf) -> None:
    found = list(doctor.of_node(doors(node)))
    assert faults(found) == []
    assert {each.name for each in found} >= {
        "clock",
        "conf",
        "plugins",
        "dir",
        "users",
        "port",
        "certificate",
    }
    with socket.create_server(("127.0.0.1", node.port)):
        assert faults(doctor.of_node(doors(node))) == []


@pytest.mark.parametrize(
    ("change", "name", "fix"),
    [
        ({"users": "gone"}, "users", "dfs user add NAME --users gone"),
        ({"users": "clear"}, "users", "dfs user convert --users clear"),
        ({"users": "faulty"}, "users", "dfs config check faulty --kind users"),
        ({"users": "nobody"}, "users", "dfs user add NAME --users nobody"),
        ({"dir": "foreign"}, "dir", "name an empty folder"),
        ({"dir": "open"}, "dir", "chmod 700 open"),
        ({"reserve": 1 << 60}, "disk", "make room, or take a larger disk"),
        ({"listen": "192.0.2.1"}, "port", "take another listen or port in its conf"),
        ({"max_connections": 1 << 30}, "open files", "ulimit -n"),
        ({"certificate": "old.pem"}, "certificate", "have a new one signed"),
        ({"certificate": "clear"}, "certificate", "correct the path in the conf"),
        ({"certificate": "gone.pem"}, "certificate", "correct the path in the conf"),
        ({"store": "shelf"}, "plugins", "dfs plugins"),
    ],
)
def test_each_fault_of_a_node(
    node: NodeConf, tmp_path: Path, change: dict[str, Any], name: str, fix: str
) -> None:
    (tmp_path / "clear").write_text("odile pw\n")
    (tmp_path / "faulty").write_text("odile\n")
    (tmp_path / "nobody").write_text("# none\n")
    (tmp_path / "foreign").mkdir(mode=0o700)
    (tmp_path / "foreign" / "thesis").write_text("mine")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "old.pem").write_bytes(certificate(-40, -10))
    found = faults(doctor.of_node(doors(evolve(node, **change))))
    assert [each.name for each in found] == [name]
    assert fix in found[0].fix


def test_no_conf_of_a_node() -> None:
    (fault,) = faults(doctor.of_node(doors(node=lambda: None)))
    assert fault.fix == "dfs doctor --node --conf FILE"


@pytest.mark.parametrize(
    ("begins", "ends", "state"),
    [(-1, 400, "ok"), (-1, 10, "warning"), (-40, -10, "problem"), (10, 20, "problem")],
)
def test_certificates_end(tmp_path: Path, begins: int, ends: int, state: str) -> None:
    (tmp_path / "c.pem").write_bytes(certificate(begins, ends))
    assert doctor.certificate_dates("c.pem").state == state


def certificate(begins: int, ends: int) -> bytes:
    """A certificate that holds between two days, counted from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "N")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def test_a_state_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (fault,) = faults(doctor.of_client(doors()))
    assert (fault.name, fault.fix) == ("state", f"chmod u+rwx {tmp_path}")
