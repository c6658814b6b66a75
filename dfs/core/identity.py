"""What makes a node the same node tomorrow: its id with the incarnation, and its self-made certificate.

Both are written to a temporary file, synced and renamed, so a crash leaves the old file or the new one. A
file that is there and cannot be used is an error and never replaced: a new identity would be another node to
every client.
"""

import base64
import hashlib
import os
import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dfs.core import limits
from dfs.core.errors import ConfigError
from dfs.core.interface import Env
from dfs.core.types import NodeId

CERTIFICATE_NAME: Final = "certificate.pem"
KEY_NAME: Final = "key.pem"
NODE_ID_NAME: Final = "node-id"
LOST_NAME: Final = "node-id-lost"  # put there by a store that keeps a copy elsewhere: the machine was lost
CERTIFICATE_LIFE: Final = timedelta(days=3653)  # ten years
CLOCK_SKEW: Final = timedelta(days=1)  # by which a client's clock may lag when an authority is asked
COMMON_NAME_SIZE_MAX: Final = 64  # characters, X.520
INCARNATION_MAX: Final = (1 << 32) - 1
PEM_PATTERN: Final = re.compile("-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
NODE_ID_PATTERN: Final = re.compile(r"dfs node 1\nid ([0-9a-f]{32})\nincarnation ([1-9][0-9]{0,9})\n")


def ensure_certificate(folder: str, common_name: str) -> tuple[str, str, bytes]:
    """Return paths of certificate and private key and the certificate's SHA-256; made when there is none yet.

    The key is written first: without a certificate it is worth nothing, so a crash in between is mended by
    making both again.
    Raises: ConfigError: one of them cannot be used or written, or the key is missing.
    """
    certificate_path = Path(folder) / CERTIFICATE_NAME
    key_path = Path(folder) / KEY_NAME
    try:
        if not certificate_path.exists():
            certificate, key = _make_certificate(common_name)
            _write(key_path, key)
            _write(certificate_path, certificate)
        text = certificate_path.read_text("ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"the node's certificate cannot be read or made: {error}", file=folder) from error
    if not key_path.exists():
        raise ConfigError(
            f"{certificate_path} is there, but its private key {key_path} is not",
            file=str(key_path),
            next_step=f"Bring the key back, or remove {certificate_path}: the node then gets a new one.",
        )
    return str(certificate_path), str(key_path), _digest(text, str(certificate_path))


def own_certificate(folder: str) -> bytes:
    """Return SHA-256 of the certificate that a node made itself. Raises: ConfigError: there is none."""
    path = Path(folder) / CERTIFICATE_NAME
    if not path.exists():
        raise ConfigError(
            f"{folder} has no certificate of its own", next_step="Start the node once: it makes one."
        )
    return certificate_digest(str(path))


def renew_certificate(folder: str, common_name: str) -> bytes:
    """Replace certificate and private key by new ones; SHA-256 of the certificate.

    The old certificate goes first: after a crash the node finds none, and makes both.
    Raises: ConfigError: they cannot be written.
    """
    path = Path(folder) / CERTIFICATE_NAME
    try:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"the node's certificate cannot be replaced: {error}", file=folder) from error
    return ensure_certificate(folder, common_name)[2]


def ensure_node_id(folder: str, env: Env) -> tuple[NodeId, int]:
    """Return the node's id and incarnation; a new random id, incarnation 1, when there is none yet.

    A node that comes back on a new machine has the id it had, and the next incarnation: what the lost one
    promised is not known any more. Raises: ConfigError: the file cannot be used or written.
    """
    kept = _read_node_id(Path(folder) / NODE_ID_NAME)
    if kept is not None:
        return kept
    lost_path = Path(folder) / LOST_NAME
    lost = _read_node_id(lost_path)
    node_id, incarnation = lost or (NodeId(env.random_bytes(limits.NODE_ID_SIZE)), 0)
    set_node_id(folder, node_id, incarnation + 1)
    lost_path.unlink(missing_ok=True)
    return node_id, incarnation + 1


def _read_node_id(path: Path) -> tuple[NodeId, int] | None:
    """Return what a file says, None when it is not there. Raises: ConfigError."""
    try:
        text = path.read_text("ascii", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"the node's id cannot be read: {error}", file=str(path)) from error
    match = NODE_ID_PATTERN.fullmatch(text)
    if match is None or int(match[2]) > INCARNATION_MAX:
        raise ConfigError(
            f"{path} does not hold a node id",
            file=str(path),
            next_step="Bring it back from a backup; with another id the node is a new one to every vault.",
        )
    return NodeId(bytes.fromhex(match[1])), int(match[2])


def set_node_id(folder: str, node_id: NodeId, incarnation: int) -> None:
    """Make the node in ``folder`` the given one, as when its disk was replaced.

    Raises: ConfigError: it cannot be written.
    """
    path = Path(folder) / NODE_ID_NAME
    text = f"dfs node 1\nid {node_id.hex()}\nincarnation {incarnation}\n"
    try:
        _write(path, text.encode())
    except OSError as error:
        raise ConfigError(f"the node's id cannot be written: {error}", file=str(path)) from error


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole, mode 0600, and have it on stable storage."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, path_temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(path_temporary, path)
    except OSError:
        Path(path_temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def certificate_digest(path: str) -> bytes:
    """Return SHA-256 of the first certificate of a PEM file. Raises: ConfigError: there is none."""
    try:
        return _digest(Path(path).read_text("ascii", errors="replace"), path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", file=path) from error


def _digest(text: str, path: str) -> bytes:
    """Return SHA-256 of the first certificate of a PEM text; without ssl, which plain tcp need not load."""
    match = PEM_PATTERN.search(text)
    try:
        certificate = base64.b64decode("".join(match[1].split()) if match else "", validate=True)
    except ValueError:
        certificate = b""
    if not certificate:
        raise ConfigError(f"{path} holds no certificate", file=path)
    return hashlib.sha256(certificate).digest()


def _make_certificate(common_name: str) -> tuple[bytes, bytes]:
    """Return a new self-signed certificate and its private key (EC P-256), both as PEM."""
    from cryptography import x509  # heavy, needed once in a node's life
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:COMMON_NAME_SIZE_MAX] or "dfs")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
