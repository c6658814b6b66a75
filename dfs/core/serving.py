"""Makes a node from its conf: directory, identity, certificate, store, accounts, transport, server."""

import os
from pathlib import Path

from dfs.core.accounts import Accounts
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import ConfigError
from dfs.core.identity import certificate_digest, ensure_certificate, ensure_node_id
from dfs.core.interface import StoreOptions, Transport, TransportOptions
from dfs.core.keys import KdfParameters
from dfs.core.records import frozen
from dfs.core.registry import Registry
from dfs.core.server import Server, ServerOptions
from dfs.core.settings import NodeConf
from dfs.core.units import join_address


@frozen
class OpenedNode:
    """A node ready to start. ``fresh``: its directory was made now. ``fingerprint``: of its certificate, b""
    without.

    ``confidential``: nobody on the way can read what it sends.
    """

    server: Server
    accounts: Accounts
    name: str
    fresh: bool
    fingerprint: bytes
    users_path: str
    confidential: bool


def open_node(
    conf: NodeConf, *, registry: Registry, version: str, users_required: bool = False
) -> OpenedNode:
    """Return the node of a conf, not started yet; its directory is made when missing.

    Raises:
        ConfigError: no directory, or a faulty users file. BusyError: another process has the directory.
        NotInitialisedError: the directory holds something else. StoreError.
    """
    if not conf.dir:
        raise ConfigError("a node needs a directory", next_step="Name one: dfs serve --dir DIR --port PORT.")
    directory = os.path.abspath(conf.dir)
    own = str(Path(directory) / ".node")
    fresh = not Path(own).exists()
    name = conf.name or Path(directory).name
    users_path = conf.users or _users_file(own)
    accounts = Accounts(
        users_path,
        conf.realm,
        KdfParameters(conf.kdf_memory, conf.kdf_passes, conf.kdf_lanes),
        required=users_required,
        allow_anonymous=conf.allow_anonymous,
        quota=conf.quota,
    )
    env = RealEnv()
    store_plugin = registry.get("dfs_stores", conf.store).plugin
    store = store_plugin.make(
        StoreOptions(
            values=conf.plugins.get(conf.store, {}),
            directory=directory,
            files=RealFiles(),
            env=env,
            inline_size_max=conf.inline_max,
            reserve_size=conf.reserve,
        )
    )
    try:
        node_id, incarnation = ensure_node_id(own, env)
        transport, fingerprint = _node_transport(conf, registry, own, name)
    except BaseException:
        store.close()
        raise
    options = ServerOptions(
        directory=directory,
        name=name,
        realm=conf.realm,
        address=join_address(conf.listen, conf.port),
        transport=transport,
        store=store,
        env=env,
        accounts=accounts,
        node_id=node_id,
        incarnation=incarnation,
        version=version,
        max_connections=conf.max_connections,
        max_connections_per_address=conf.max_connections_per_address,
        max_connections_per_user=conf.max_connections_per_user,
        pin_lease_s=conf.pin_lease,
        scrub_days=conf.scrub_days,
    )
    return OpenedNode(Server(options), accounts, name, fresh, fingerprint, users_path, transport.confidential)


def _users_file(own: str) -> str:
    beside = Path("dfs.conf")
    return str(beside) if beside.is_file() else str(Path(own) / "users")


def _node_transport(conf: NodeConf, registry: Registry, own: str, name: str) -> tuple[Transport, bytes]:
    plugin = registry.get("dfs_transports", conf.transport).plugin
    certificate, key, fingerprint = conf.certificate, conf.private_key, b""
    if plugin.needs_certificate:
        if certificate:
            fingerprint = certificate_digest(certificate)
        else:
            certificate, key, fingerprint = ensure_certificate(own, name)
    options = TransportOptions(
        values=conf.plugins.get(conf.transport, {}),
        certificate_path=certificate,
        key_path=key,
        ca_path=conf.client_ca,
    )
    return plugin.make(options), fingerprint
