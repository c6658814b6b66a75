"""The node's own files: made once, kept for ever, never replaced when they cannot be read."""

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dfs.core import identity
from dfs.core.errors import ConfigError
from dfs.core.types import NodeId


class FixedEnv:
    """Entropy that is the same each time, so that a second use would show."""

    def __init__(self, byte: int) -> None:
        self.byte = byte

    def monotonic_s(self) -> float:
        return 0.0

    def wall_s(self) -> float:
        return 0.0

    def random_bytes(self, size: int) -> bytes:
        return bytes([self.byte]) * size


def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "node" / "own"
    made = identity.ensure_certificate(str(folder), "dfs1")
    contents = [Path(path).read_bytes() for path in made[:2]]
    assert identity.ensure_certificate(str(folder), "another name") == made
    assert [Path(path).read_bytes() for path in made[:2]] == contents


def test_what_the_certificate_says(tmp_path: Path) -> None:
    certificate_path, key_path, digest = identity.ensure_certificate(str(tmp_path), "dfs1")
    certificate = x509.load_pem_x509_certificate(Path(certificate_path).read_bytes())
    key = serialization.load_pem_private_key(Path(key_path).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "dfs1"
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_before_utc < datetime.now(UTC)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3650)
    assert digest == hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


@pytest.mark.parametrize("common_name", ["", "a" * 65, "Käse"])
def test_any_label_will_do(tmp_path: Path, common_name: str) -> None:
    assert len(identity.ensure_certificate(str(tmp_path), common_name)[2]) == 32


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        folder = tmp_path / "own"
        certificate_path, key_path, _ = identity.ensure_certificate(str(folder), "dfs1")
        identity.ensure_node_id(str(folder), FixedEnv(1))
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (certificate_path, key_path, folder / identity.NODE_ID_NAME):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert len(list(folder.iterdir())) == 3  # no temporary file is left


def test_a_crash_between_key_and_certificate_is_mended(tmp_path: Path) -> None:
    (tmp_path / identity.KEY_NAME).write_text("of an attempt that did not finish")
    certificate_path, key_path, _ = identity.ensure_certificate(str(tmp_path), "dfs1")
    certificate = x509.load_pem_x509_certificate(Path(certificate_path).read_bytes())
    key = serialization.load_pem_private_key(Path(key_path).read_bytes(), None)
    assert certificate.public_key() == key.public_key()


def test_a_lost_key_is_not_replaced(tmp_path: Path) -> None:
    certificate_path, key_path, _ = identity.ensure_certificate(str(tmp_path), "dfs1")
    Path(key_path).unlink()
    with pytest.raises(ConfigError, match="private key") as caught:
        identity.ensure_certificate(str(tmp_path), "dfs1")
    assert certificate_path in caught.value.next_step
    assert not Path(key_path).exists()


@pytest.mark.parametrize(
    "text",
    ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "\udcff"],
    ids=["empty", "bad", "raw"],
)
def test_a_broken_certificate_is_not_replaced(tmp_path: Path, text: str) -> None:
    path = Path(identity.ensure_certificate(str(tmp_path), "dfs1")[0])
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match="holds no certificate"):
        identity.ensure_certificate(str(tmp_path), "dfs1")


def test_a_node_id_is_made_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "own")
    assert identity.ensure_node_id(folder, FixedEnv(1)) == (bytes([1]) * 16, 1)
    assert identity.ensure_node_id(folder, FixedEnv(2)) == (bytes([1]) * 16, 1)


def test_a_replaced_disk_gets_the_old_id(tmp_path: Path) -> None:
    folder = str(tmp_path)
    identity.ensure_node_id(folder, FixedEnv(1))
    identity.set_node_id(folder, NodeId(bytes([7]) * 16), 2)
    assert identity.ensure_node_id(folder, FixedEnv(1)) == (bytes([7]) * 16, 2)


def test_a_node_whose_machine_was_lost_has_its_id_and_the_next_incarnation(tmp_path: Path) -> None:
    folder, lost = str(tmp_path), tmp_path / identity.LOST_NAME
    lost.write_text(f"dfs node 1\nid {'07' * 16}\nincarnation 3\n")
    for _ in range(2):
        assert identity.ensure_node_id(folder, FixedEnv(1)) == (bytes([7]) * 16, 4)
        assert not lost.exists()


def test_a_node_that_has_an_id_does_not_take_a_lost_ones(tmp_path: Path) -> None:
    """As after a crash between writing the one and removing the other."""
    identity.set_node_id(str(tmp_path), NodeId(bytes([7]) * 16), 4)
    (tmp_path / identity.LOST_NAME).write_text(f"dfs node 1\nid {'07' * 16}\nincarnation 3\n")
    assert identity.ensure_node_id(str(tmp_path), FixedEnv(1)) == (bytes([7]) * 16, 4)


def test_a_broken_id_of_a_lost_node_is_told(tmp_path: Path) -> None:
    (tmp_path / identity.LOST_NAME).write_text("nothing")
    with pytest.raises(ConfigError, match="does not hold a node id"):
        identity.ensure_node_id(str(tmp_path), FixedEnv(1))


def test_the_format_of_the_node_id(tmp_path: Path) -> None:
    identity.set_node_id(str(tmp_path), NodeId(bytes(range(16))), 3)
    text = "dfs node 1\nid 000102030405060708090a0b0c0d0e0f\nincarnation 3\n"
    assert (tmp_path / "node-id").read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dfs node 1\nid 00\nincarnation 1\n",
        f"dfs node 2\nid {'0' * 32}\nincarnation 1\n",
        f"dfs node 1\nid {'0' * 32}\nincarnation 0\n",
        f"dfs node 1\nid {'0' * 32}\nincarnation 4294967296\n",
        f"dfs node 1\nid {'0' * 32}\nincarnation 1\nmore\n",
    ],
)
def test_a_broken_node_id_is_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / identity.NODE_ID_NAME
    path.write_text(text)
    with pytest.raises(ConfigError, match="does not hold a node id"):
        identity.ensure_node_id(str(tmp_path), FixedEnv(1))
    assert path.read_text() == text


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "own")
    with pytest.raises(ConfigError, match="certificate cannot be read or made"):
        identity.ensure_certificate(folder, "dfs1")
    with pytest.raises(ConfigError, match="id cannot be read"):
        identity.ensure_node_id(folder, FixedEnv(1))
    with pytest.raises(ConfigError, match="id cannot be written"):
        identity.set_node_id(folder, NodeId(bytes(16)), 1)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity.ensure_node_id(str(tmp_path), FixedEnv(1))

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="Input/output error"):
        identity.set_node_id(str(tmp_path), NodeId(bytes([2]) * 16), 2)
    assert [path.name for path in tmp_path.iterdir()] == [identity.NODE_ID_NAME]
    assert identity.ensure_node_id(str(tmp_path), FixedEnv(3)) == (bytes([1]) * 16, 1)


def test_another_certificate_is_made_when_asked_for(tmp_path: Path) -> None:
    folder = str(tmp_path / "own")
    with pytest.raises(ConfigError, match="has no certificate of its own"):
        identity.own_certificate(folder)
    path, key_path, digest = identity.ensure_certificate(folder, "dfs1")
    key = Path(key_path).read_bytes()
    assert identity.own_certificate(folder) == digest
    renewed = identity.renew_certificate(folder, "dfs1")
    assert renewed != digest
    assert identity.ensure_certificate(folder, "dfs1") == (path, key_path, renewed)
    assert Path(key_path).read_bytes() != key
