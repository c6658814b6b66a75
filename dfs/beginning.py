"""The beginning of a cluster for its user: what a geometry means in words, nodes met, a conf made.

What `dfs init` does; the dialogue is in the command.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dfs.cluster import make_registry, node_certificates
from dfs.core.classic import NODE_NAME, NodeAddress
from dfs.core.conf import apply_flags, parse_client
from dfs.core.conf_text import toml_of
from dfs.core.credentials import LoginSecret, ask_new_password, private_file, source_of
from dfs.core.env import leave_no_core
from dfs.core.errors import ConfigError, ConflictError, NoPasswordError, QuorumError
from dfs.core.interface import NodeCertificate
from dfs.core.limits import GIB
from dfs.core.places import read_conf, system_user
from dfs.core.quorum import default_geometry, default_tolerance, quorum_of, share_threshold
from dfs.core.records import evolve, frozen
from dfs.core.settings import ClientConf
from dfs.core.types import Geometry
from dfs.core.units import join_address, size_text, split_address
from dfs.core.users_file import key_line, record_of

SECRET_FILES: Final = ("key_file", "password_file")  # absolute: a conf is used from any folder
NODE: Final = rf"(?:(?P<name>{NODE_NAME})=)?(?P<address>[^=]+)"


@frozen
class GeometryChoice:
    """What k of n means on so many nodes. ``may_die``: nodes lost for good, and every file is still there.

    ``may_miss``: nodes down, and files can still be stored. ``space_ratio``: stored bytes for one of a file.
    """

    needed: int
    total: int
    node_count: int

    @property
    def may_die(self) -> int:
        """How many nodes, any of them."""
        return self.total - self.needed

    @property
    def may_miss(self) -> int:
        """How many nodes, any of them."""
        quorum = quorum_of(self.total, default_tolerance(self.total))
        rows = [{index} for index in range(self.total)]
        shares = share_threshold(Geometry(self.needed, self.total), rows, quorum)
        return self.total - max(quorum.read, quorum.write, shares)

    @property
    def space_ratio(self) -> float:
        """How much a byte takes."""
        return self.total / self.needed

    @property
    def words(self) -> str:
        """The price and what it buys: ``any 2 of 4 nodes may die; 1 GiB of files takes 2.0 GiB``."""
        count = self.may_die
        if not count:
            dead = "no node may die"
        elif count == 1:
            dead = f"any 1 of {self.node_count} nodes may die"
        else:
            dead = f"any {count} of {self.node_count} nodes may die"
        return f"{dead}; 1 GiB of files takes {size_text(round(GIB * self.space_ratio))}"


def choice_of(conf: ClientConf) -> GeometryChoice:
    """Return the geometry of a conf, with defaults as when a vault is made. Raises: ConfigError."""
    count = len(conf.nodes)
    default = default_geometry(count)
    total = conf.geometry_total or default.total
    needed = conf.geometry_needed or max(1, total // 2)
    if total > count:
        raise ConfigError(f"{total} shares need {total} nodes, there are {count}")
    return GeometryChoice(needed, total, count)


def read_node(text: str, index: int) -> NodeAddress:
    """Return a node of ``NAME=HOST:PORT`` or ``HOST:PORT``; without a name it is ``dfsN``.

    Raises: ConfigError.
    """
    match = re.fullmatch(NODE, text.strip())
    if match is None:
        raise ConfigError(f"expected NAME=HOST:PORT, got {text!r}")
    machine, port = split_address(match["address"])
    joined = join_address(machine, port)
    return NodeAddress(match["name"] or f"dfs{index + 1}", joined)


class Beginning:
    """A conf on its way. ``flags``: settings given on the command line."""

    def __init__(self, flags: Mapping[str, object]) -> None:
        paths = {name: os.path.abspath(str(flags[name])) for name in SECRET_FILES if flags.get(name)}
        self._flags: Final = {**flags, **paths}

    @property
    def names_user(self) -> bool:
        """Whether the command line says who logs in."""
        return self._flags.get("user") is not None

    @staticmethod
    def of_user(conf: ClientConf, name: str) -> ClientConf:
        """Return the conf for another user. Raises: ConfigError: no name can be like that."""
        return apply_flags(conf, {"user": name})

    def conf(self, base: str | None, nodes: Sequence[str]) -> ClientConf:
        """Return the conf so far: of a file, if one is named, with other nodes, if any, and flags.

        Raises: ConfigError: it is faulty.
        """
        conf = parse_client(read_conf(base), base) if base is not None else ClientConf()
        if nodes:
            conf = evolve(conf, nodes=tuple(read_node(text, index) for index, text in enumerate(nodes)))
        conf = apply_flags(conf, self._flags)
        if conf.user is None:
            conf = evolve(conf, user=system_user())
        for label in ("name", "address"):
            values = [str(getattr(node, label)).lower() for node in conf.nodes]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ConfigError(f"two nodes have the {label} {twice}")
        return conf

    @staticmethod
    def with_geometry(conf: ClientConf) -> tuple[ClientConf, GeometryChoice]:
        """Return the conf with its geometry said outright: it was promised in words. Raises: ConfigError."""
        choice = choice_of(conf)
        return evolve(conf, geometry_needed=choice.needed, geometry_total=choice.total), choice

    @staticmethod
    def choices(node_count: int) -> list[GeometryChoice]:
        """Return what a vault on so many nodes can be, with shares on all of them: the frugal first."""
        total = default_geometry(node_count).total
        return [GeometryChoice(needed, total, node_count) for needed in range(total, 0, -1)]

    @staticmethod
    def chosen(conf: ClientConf, geometry: str) -> ClientConf:
        """Return the conf with a geometry such as ``2 of 4``. Raises: ConfigError."""
        return apply_flags(conf, {"geometry": geometry})

    @staticmethod
    def require_free(path: str) -> None:
        """Raise ConflictError if there is something at ``path``."""
        if os.path.lexists(path):
            raise ConflictError(f"{path} is there already", next_step="Take another name, or --force.")

    @staticmethod
    def is_there(path: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(path)

    @staticmethod
    def meet(conf: ClientConf) -> tuple[ClientConf, list[NodeCertificate]]:
        """Ask all nodes for their certificates; returns the conf that pins them, and who showed what.

        Raises: QuorumError: none answers. PluginError.
        """
        met = node_certificates(conf, make_registry(conf))
        if all(node.reason for node in met):
            reasons = ", ".join(f"{node.name}: {node.reason}" for node in met)
            raise QuorumError(
                f"no node answers ({reasons})",
                next_step="Start them and run this again, or make the conf without them: --offline.",
            )
        if conf.ca:
            return conf, met
        pins = {node.address: node.shown for node in met if node.shown}
        nodes = [evolve(node, certificate=pins.get(node.address, node.certificate)) for node in conf.nodes]
        return evolve(conf, nodes=tuple(nodes)), met

    @staticmethod
    def login(conf: ClientConf) -> str:
        """Return the line of the conf's user for the users file of each node; a password is asked for twice.

        Raises: NoPasswordError, SecretFileError, ConfigError.
        """
        leave_no_core()
        user = conf.user or system_user()
        try:
            key = LoginSecret(conf, user, ask_new_password)().public_key
        except NoPasswordError as error:
            step = (
                ""
                if source_of(conf)
                else "Name a source: --key-file FILE (made when missing), --password-file FILE."
            )
            raise NoPasswordError(error.what, next_step=step) from None
        return f"{user} {key_line(record_of(user, key, None, 'user'))}"

    @staticmethod
    def write(conf: ClientConf, path: str, *, force: bool, dry_run: bool) -> str:
        """Write the conf, 0600, and return its text. Raises: ConflictError: it is there. ConfigError."""
        registry = make_registry(conf)
        for kind in ("cipher", "compressor", "code", "placement", "chunker"):
            registry.get(f"dfs_{kind}s", getattr(conf, kind))
        text = toml_of(conf, ["Made by dfs init."])
        if dry_run:
            return text
        folder = Path(path).absolute().parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from None
        if not force:
            private_file(path, text)
            return text
        temporary = f"{path}.new-{os.getpid()}"
        private_file(temporary, text)
        os.replace(temporary, path)
        return text
