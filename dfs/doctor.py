"""What may be wrong with conf, machine and nodes, each with what ends it: what `dfs doctor` does."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dfs
from dfs.core.classic import NodeAddress
from dfs.core.credentials import secret_file, source_of
from dfs.core.env import allow_descriptors
from dfs.core.errors import ConfigError, DfsError, NoConfError
from dfs.core.interface import NodeCertificate
from dfs.core.limits import MIB
from dfs.core.places import state_folder
from dfs.core.records import frozen
from dfs.core.settings import PLUGIN_KEYS, ClientConf, Conf, NodeConf
from dfs.core.units import size_text, split_address

if TYPE_CHECKING:
    from dfs.cluster import Cluster
    from dfs.core.registry import Registry
    from dfs.core.standing import NodeStanding

OK: Final = "ok"
WARNING: Final = "warning"
PROBLEM: Final = "problem"
DAY_S: Final = 86400.0
CERTIFICATE_DAYS: Final = 30  # a certificate that ends sooner is warned about
CLOCK_SKEW_S: Final = 300.0
ROOM_MIN: Final = 64 * MIB


@frozen
class Finding:
    """One look at one thing. ``fix``: what to do, "" when it is fine."""

    name: str
    state: str
    detail: str
    fix: str = ""


@frozen(kw_only=True)
class Doors:
    """How the doctor gets at things; each may raise a DfsError, which then is a finding."""

    client: Callable[[], ClientConf]
    node: Callable[[], NodeConf | None]
    registry: Callable[[], "Registry"]
    cluster: Callable[[], "Cluster"]
    certificates: Callable[[], "list[NodeCertificate]"]


def of_client(doors: Doors) -> Iterator[Finding]:
    """Yield findings about the client's side, then about every node."""
    yield _clock()
    try:
        conf = doors.client()
    except NoConfError as error:
        yield Finding("conf", PROBLEM, error.what, "dfs init")
        return
    except ConfigError as error:
        yield Finding("conf", PROBLEM, error.what, f"dfs config check {error.file}".rstrip())
        return
    yield Finding("conf", OK, f"{conf.file}: no faults")
    yield from _secrets(conf)
    yield _state()
    yield from _plugins(conf, doors.registry)
    yield from _nodes(conf, doors.certificates)
    yield from _vault(doors.cluster)


def of_node(doors: Doors) -> Iterator[Finding]:
    """Yield findings about a node of this machine."""
    yield _clock()
    try:
        conf = doors.node()
    except ConfigError as error:
        yield Finding("conf", PROBLEM, error.what, f"dfs config check {error.file}".rstrip())
        return
    if conf is None:
        yield Finding("conf", PROBLEM, "no conf of a node is found", "dfs doctor --node --conf FILE")
        return
    yield Finding("conf", OK, f"{conf.file}: no faults")
    yield from _plugins(conf, doors.registry)
    yield from _directory(conf)
    yield _users(conf)
    yield _port(conf)
    yield from _certificates(conf)
    yield _descriptors(conf)


# --- This machine -------------------------------------------------------------------------------------------


def _clock() -> Finding:
    """Compare the clock with the files of this program: time never was before they were made."""
    places = (Path(dfs.__file__), Path(sys.executable))  # of a single executable, only the latter is there
    now_s, made_s = time.time(), next(each.stat().st_mtime for each in places if each.exists())
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    if now_s + CLOCK_SKEW_S < made_s:
        return Finding(
            "clock", PROBLEM, f"it says {shown}, which is before dfs was installed", "set the clock (NTP)"
        )
    return Finding("clock", OK, shown)


def _secrets(conf: ClientConf) -> Iterator[Finding]:
    if conf.users and os.name == "posix" and os.stat(conf.file).st_mode & 0o077:
        yield Finding(
            "password",
            WARNING,
            f"{conf.file} holds a password that others can read",
            f"chmod 600 {conf.file}",
        )
    for key in ("key_file", "password_file", "client_key"):
        path = getattr(conf, key)
        if path is None:
            continue
        try:
            secret_file(path)
        except DfsError as error:
            yield Finding(key, PROBLEM, error.what, error.next_step.removeprefix("Run: "))
        else:
            yield Finding(key, OK, f"{path} is yours alone")
    source = source_of(conf)
    yield Finding("login", OK, f"{conf.user or 'you'}, with {source or 'a password that is asked for'}")


def _state() -> Finding:
    folder = state_folder()
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("state", PROBLEM, f"{folder} cannot be written", f"chmod u+rwx {nearest}")
    free = os.statvfs(nearest)
    room = free.f_bavail * free.f_frsize
    if room < ROOM_MIN:
        return Finding("state", WARNING, f"{folder}: {size_text(room)} free", "make room on that disk")
    return Finding("state", OK, f"{folder} (certificates of first use, marks, floors)")


def _plugins(conf: Conf, registry: Callable[[], "Registry"]) -> Iterator[Finding]:
    try:
        found = registry()
        names = [(kind, str(getattr(conf, kind))) for kind in PLUGIN_KEYS if hasattr(conf, kind)]
        for kind, name in names:
            found.get(f"dfs_{kind}s", name)
    except DfsError as error:
        yield Finding("plugins", PROBLEM, error.what, error.next_step)
        return
    yield Finding("plugins", OK, ", ".join(name for _, name in names))
    for failure in found.failures():
        yield Finding(
            "plugins", WARNING, f"{failure.source}: {failure.reason}", "update or remove that package"
        )


# --- The nodes, as a client sees them -----------------------------------------------------------------------


def _nodes(conf: ClientConf, certificates: Callable[[], "list[NodeCertificate]"]) -> Iterator[Finding]:
    try:
        shown = certificates()
    except DfsError as error:
        yield Finding("nodes", PROBLEM, error.what, error.next_step)
        return
    for node, address in zip(shown, conf.nodes, strict=True):
        yield _met(conf, node, address)


def _met(conf: ClientConf, node: NodeCertificate, address: NodeAddress) -> Finding:
    where = f"{node.name} {node.address}"
    name = f"node {node.name}"
    if node.reason:
        return Finding(name, PROBLEM, f"{where}: {node.reason}", _fix_of(node))
    if not node.shown:
        text = f"{where} answers; {address.transport or conf.transport} does not say who it is"
        return Finding(name, OK, text)
    expected = node.pinned or node.known
    digest = f"SHA256:{node.shown.hex()[:4]}..{node.shown.hex()[-2:]}"
    if conf.ca:
        return Finding(name, OK, f"{where} answers, {digest}, an authority vouches for it")
    if not expected and conf.trust == "pin":
        full = f"SHA256:{node.shown.hex()}"
        return Finding(
            name, PROBLEM, f"{where} is not pinned", f'certificate = "{full}" in its [[node]] of {conf.file}'
        )
    if expected and expected != node.shown:
        fix = f"write the new one into {conf.file}" if node.pinned else f"dfs cert trust {node.name}"
        detail = f"{where} shows another certificate, {digest}"
        return Finding(name, PROBLEM, detail, f"if you set it up anew: {fix}")
    state = "pinned" if node.pinned else "known" if node.known else "not known yet"
    return Finding(name, OK, f"{where} answers, {digest} {state}")


def _fix_of(node: NodeCertificate) -> str:
    machine, port = split_address(node.address)
    try:
        socket.getaddrinfo(machine, port, type=socket.SOCK_STREAM)
    except OSError:
        return f"correct the name {machine} in the conf, or in your DNS"
    if "refused" in node.reason:
        return f"start it there: dfs serve --dir DIR --port {port}"
    if "answer" in node.reason:
        return f"is the machine on, and does its firewall let TCP port {port} in?"
    return "give node and client the same transport and version of dfs"


def _vault(cluster: Callable[[], "Cluster"]) -> Iterator[Finding]:
    try:
        opened = cluster()
        standings = opened.status()
    except DfsError as error:
        yield Finding("vault", PROBLEM, error.what, error.next_step)
        return
    needed, total = opened.geometry
    yield Finding("vault", OK, f"{opened.user} is logged in, {needed} of {total}")
    for each in standings:
        yield from _stands(each)


def _stands(each: "NodeStanding") -> Iterator[Finding]:
    name = f"vault on {each.name}"
    if each.reason:
        return  # it was told above
    if each.version and each.version != dfs.__version__:
        text = f"{each.name} runs dfs {each.version}, this is {dfs.__version__}"
        yield Finding(name, WARNING, text, "run the same version everywhere")
    if each.read_only:
        yield Finding(name, PROBLEM, f"read-only: {each.read_only}", "mend its disk, then restart the node")
    if each.owed_count or each.corrupt_count:
        text = f"{each.owed_count} shares missing, {each.corrupt_count} corrupt"
        yield Finding(name, PROBLEM, text, "dfs repair")
    state = each.state.name.lower() if each.state is not None else ""
    if state in {"joining", "quarantined"}:
        yield Finding(name, PROBLEM, f"{state}: it does not count yet", "dfs repair")
    if each.free_size < ROOM_MIN:
        yield Finding(
            name, WARNING, f"{size_text(each.free_size)} free", f"give {each.name} more room, or dfs rm"
        )


# --- A node of this machine ---------------------------------------------------------------------------------


def _directory(conf: NodeConf) -> Iterator[Finding]:
    folder = Path(conf.dir or "")
    nearest = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding(
            "dir", PROBLEM, f"{folder} cannot be written by you", f"chown it, or run it as who owns {nearest}"
        )
        return
    if folder.exists() and not (folder / ".node").exists() and any(folder.iterdir()):
        yield Finding("dir", PROBLEM, f"{folder} holds something that is no node's", "name an empty folder")
        return
    if folder.exists() and folder.stat().st_mode & 0o077:
        yield Finding("dir", WARNING, f"others can look into {folder}", f"chmod 700 {folder}")
    free = os.statvfs(nearest)
    size, room = free.f_blocks * free.f_frsize, free.f_bavail * free.f_frsize
    reserve = conf.reserve if conf.reserve is not None else max(size // 50, ROOM_MIN)
    state = "there" if folder.exists() else "will be made"
    if room <= reserve:
        text = f"{size_text(room)} free, of which {size_text(reserve)} are reserved for deletes"
        yield Finding("disk", PROBLEM, text, "make room, or take a larger disk")
    else:
        yield Finding("dir", OK, f"{folder} ({state}), {size_text(room)} free")


def _users(conf: NodeConf) -> Finding:
    from dfs.core.conf import parse_users

    path = conf.users or next(
        (each for each in ("dfs.conf",) if Path(each).is_file()), f"{conf.dir}/.node/users"
    )
    try:
        users = parse_users(Path(path).read_bytes(), path)
    except OSError as error:
        return Finding("users", WARNING, f"{path}: {error.strerror}", f"dfs user add NAME --users {path}")
    except ConfigError as error:
        return Finding("users", PROBLEM, error.what, f"dfs config check {path} --kind users")
    if users.warnings:
        return Finding("users", WARNING, users.warnings[0], f"dfs user convert --users {path}")
    if not users.entries:
        return Finding("users", WARNING, f"{path} names nobody", f"dfs user add NAME --users {path}")
    return Finding("users", OK, f"{path}: {len(users.entries)}")


def _port(conf: NodeConf) -> Finding:
    address = (conf.listen or "127.0.0.1", conf.port)
    try:
        with socket.create_connection(address, 1.0):
            return Finding(
                "port", OK, f"something listens on port {conf.port}, as it does while the node runs"
            )
    except OSError:
        pass
    try:
        with socket.create_server((conf.listen, conf.port), family=_family(conf.listen)):
            return Finding("port", OK, f"port {conf.port} is free; the node does not run")
    except OSError as error:
        text = f"port {conf.port} of {conf.listen or 'all addresses'}: {error.strerror}"
        return Finding("port", PROBLEM, text, "take another listen or port in its conf")


def _family(machine: str) -> int:
    return socket.AF_INET6 if ":" in machine else socket.AF_INET


def _certificates(conf: NodeConf) -> Iterator[Finding]:
    own = sorted(Path(conf.dir or "", ".node").glob("*certificate*.pem")) if conf.certificate is None else []
    named = [path for path in (conf.certificate, conf.client_ca) if path is not None]
    for path in (*named, *map(str, own)):
        yield certificate_dates(path)
    if conf.private_key is not None:
        try:
            secret_file(conf.private_key)
        except DfsError as error:
            yield Finding("private_key", PROBLEM, error.what, error.next_step.removeprefix("Run: "))


def certificate_dates(path: str) -> Finding:
    """Return whether the first certificate of a PEM file holds today, and for how long."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except OSError as error:
        return Finding("certificate", PROBLEM, f"{path}: {error.strerror}", "correct the path in the conf")
    except ValueError:
        return Finding("certificate", PROBLEM, f"{path} holds no certificate", "correct the path in the conf")
    now_s = time.time()
    begins_s, ends_s = (
        each.timestamp() for each in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    )
    until = certificate.not_valid_after_utc.date().isoformat()
    if now_s < begins_s:
        begins = certificate.not_valid_before_utc.date().isoformat()
        return Finding("certificate", PROBLEM, f"{path} holds from {begins} on", "set the clock, or wait")
    if ends_s < now_s:
        return Finding("certificate", PROBLEM, f"{path} ended on {until}", "have a new one signed")
    if ends_s < now_s + CERTIFICATE_DAYS * DAY_S:
        return Finding("certificate", WARNING, f"{path} ends on {until}", "have a new one signed")
    return Finding("certificate", OK, f"{path} holds until {until}")


def _descriptors(conf: NodeConf) -> Finding:
    wanted = conf.max_connections + 512
    allowed = allow_descriptors(wanted)
    if allowed < wanted:
        text = (
            f"the system allows {allowed} open files, max_connections = {conf.max_connections} needs {wanted}"
        )
        return Finding(
            "open files", WARNING, text, f"ulimit -n {wanted}, or LimitNOFILE={wanted} in its unit"
        )
    return Finding("open files", OK, f"{allowed} allowed")
