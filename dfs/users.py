"""Users and certificate of a node, as the commands of its administrator change them."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dfs.core.errors import ConfigError, NoConfError

if TYPE_CHECKING:
    from dfs.core.classic import UserRecord
    from dfs.core.interface import NodeCertificate
    from dfs.core.settings import ClientConf, NodeConf
    from dfs.core.users_file import UsersFile


class UsersOfNodes(ABC):
    """What a `Context` knows of users files; its flags and its client conf say where they are."""

    flags: dict[str, object]

    @abstractmethod
    def conf(self) -> "ClientConf":
        """Return the client conf. Raises: ConfigError."""

    @property
    @abstractmethod
    def conf_named(self) -> str | None:
        """The file of --conf, or of DFS_CONF."""

    def _node_conf(self) -> "NodeConf | None":
        """Return the node's conf, if --conf names one or this machine has one. Raises: ConfigError."""
        from dfs.core.conf import apply_environment, parse_client, parse_node
        from dfs.core.places import NODE_CONF, read_conf

        named = self.conf_named
        if named is None:
            found = os.path.isfile(NODE_CONF)
            return (
                apply_environment(parse_node(read_conf(NODE_CONF), NODE_CONF), os.environ) if found else None
            )
        path = str(named)
        raw = read_conf(path)
        try:
            parse_client(raw, path)
        except ConfigError:
            return apply_environment(parse_node(raw, path), os.environ)
        return None

    def _login_conf(self) -> "ClientConf":
        """Return where passwords come from, with the realm and key derivation of the node."""
        from dfs.core.conf import apply_environment
        from dfs.core.records import evolve
        from dfs.core.settings import ClientConf

        node = self._node_conf()
        if node is None:
            return self._conf_if_any()
        conf = apply_environment(ClientConf(), os.environ) if self.conf_named else self._conf_if_any()
        terms = {name: getattr(node, name) for name in ("realm", "kdf_memory", "kdf_passes", "kdf_lanes")}
        return evolve(conf, **terms)

    def _conf_if_any(self) -> "ClientConf":
        from dfs.core.settings import ClientConf

        try:
            return self.conf()
        except NoConfError:
            return ClientConf()

    def new_certificate(self, directory: str | None, *, plan_only: bool) -> "NodeCertificate":
        """Make a node of this machine another certificate, unless that is only planned."""
        from dfs.core.identity import own_certificate, renew_certificate
        from dfs.core.interface import NodeCertificate

        conf = self._node_conf()
        if conf is not None and conf.certificate:
            raise ConfigError(
                f"the conf of the node names its certificate: {conf.certificate}",
                next_step="Ask your authority for another one.",
            )
        home = directory or (conf.dir if conf is not None else None)
        if not home:
            raise ConfigError("of which node?", next_step="Name its directory, --dir DIR, or its conf.")
        name = (conf.name if conf is not None else None) or os.path.basename(os.path.abspath(home))
        own = os.path.join(home, ".node")
        known = own_certificate(own)
        shown = b"" if plan_only else renew_certificate(own, name)
        return NodeCertificate(name, home, known, b"", shown)

    def users_path(self, named: str | None) -> str:
        """Return where the users file of a node is."""
        if named is not None:
            return named
        node = self._node_conf()
        own = f"{node.dir}/.node/users" if node is not None and node.dir else ""
        places = [node.users] if node is not None and node.users else ["dfs.conf", *filter(None, [own])]
        found = next((place for place in places if os.path.isfile(place)), own or None)
        if found is None:
            raise ConfigError(f"there is no ./{places[0]}", next_step="Name the users file: --users FILE.")
        return found

    def users_file(self, path: str) -> "UsersFile":
        """Return the users file of a node, empty if it is not there."""
        from dfs.core.users_file import UsersFile

        try:
            with open(path, "rb") as file:
                return UsersFile.parse(file.read(), path)
        except FileNotFoundError:
            return UsersFile.parse(b"", path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", file=path) from None

    def user_record(self, name: str, key: str | None, quota: int | None, role: str) -> "UserRecord":
        """Return a user with a key: given, or of a password of the conf, or of one asked for twice."""
        from dfs.core.credentials import LoginSecret, ask_new_password
        from dfs.core.env import leave_no_core
        from dfs.core.records import evolve
        from dfs.core.users_file import parse_key, record_of

        if key is not None:
            return record_of(name, parse_key(key), quota, role)
        leave_no_core()
        conf = evolve(self._login_conf(), user=name, keyring=False)
        return record_of(name, LoginSecret(conf, name, ask_new_password)().public_key, quota, role)

    def user_summary(self, record: "UserRecord") -> Mapping[str, object]:
        """Return what programs are told of a user."""
        from dfs.core.users_file import fingerprint, key_line

        key = record.public_key
        return {
            "name": record.name,
            "public_key": key_line(record) or None,
            "fingerprint": fingerprint(key) if key is not None else None,
            "quota": record.quota,
            "roles": [record.role],
        }

    def derived_keys(self, file: "UsersFile") -> dict[str, bytes]:
        """Return the login keys of all passwords in a users file."""
        from dfs.core.keys import KdfParameters, login_keys, password_secret

        conf = self._login_conf()
        kdf = KdfParameters(conf.kdf_memory, conf.kdf_passes, conf.kdf_lanes)
        return {
            record.name: login_keys(
                password_secret(record.password.encode(), conf.realm, record.name, kdf)
            ).public_key
            for record in file.records
            if record.password is not None
        }

    def login_terms(self) -> str:
        """Return what clients must agree on with the node."""
        from dfs.core.units import size_text

        conf = self._login_conf()
        memory = size_text(conf.kdf_memory).replace(".0", "")
        return (
            f'realm = "{conf.realm}", and under [kdf] memory = "{memory}", passes = {conf.kdf_passes},'
            f" lanes = {conf.kdf_lanes}"
        )
