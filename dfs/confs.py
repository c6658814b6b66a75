"""Conf files shown, checked and turned into TOML: what `dfs config` does."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from dfs.core.classic import ClassicUser
from dfs.core.conf import parse_client, parse_node, parse_users
from dfs.core.conf_text import KeyText, ValueText, key_texts, kind_of, toml_of, value_texts
from dfs.core.credentials import private_file
from dfs.core.errors import ConfigError, NoConfError
from dfs.core.places import conf_candidates, read_conf
from dfs.core.records import evolve, frozen
from dfs.core.settings import ClientConf, Conf, NodeConf

KINDS: Final[Mapping[str, type[Conf]]] = {"client": ClientConf, "node": NodeConf}


@frozen
class ConfCheck:
    """A conf file without faults. ``kind``: client, node or users. ``count``: nodes or users it names."""

    file: str
    kind: str
    count: int
    warnings: Sequence[str]


class Confs:
    """Confs of this machine; ``client`` and ``node`` return the ones in force."""

    def __init__(self, client: Callable[[], ClientConf], node: Callable[[], NodeConf | None]) -> None:
        self._client = client
        self._node = node

    def values(self, *, node: bool) -> tuple[str, list[ValueText]]:
        """Return the file and all values in force. Raises: ConfigError: it is faulty, or there is none."""
        conf: Conf | None = self._node() if node else self._client()
        if conf is None:
            raise NoConfError("no conf of a node is found", next_step="Name one: --conf FILE.")
        return conf.file, value_texts(conf)

    @staticmethod
    def keys(kind: str) -> list[KeyText]:
        """Return all keys there are."""
        return key_texts(KINDS[kind])

    @staticmethod
    def found() -> str:
        """Return the client conf that would be used. Raises: NoConfError."""
        named = os.environ.get("DFS_CONF")
        places = [Path(named)] if named else conf_candidates()
        for path in places:
            if path.is_file():
                return str(path)
        raise NoConfError(f"no conf found ({', '.join(map(str, places))})")

    @staticmethod
    def check(path: str, kind: str | None = None) -> ConfCheck:
        """Read a file as what it is, or as ``kind``. Raises: ConfigError: all its faults."""
        raw = read_conf(path)
        guessed = kind_of(raw)
        kind = kind or next((name for name, each in KINDS.items() if each is guessed), "users")
        if kind == "client":
            client = parse_client(raw, path)
            return ConfCheck(path, kind, len(client.nodes), client.warnings)
        if kind == "node":
            node = parse_node(raw, path)
            return ConfCheck(path, kind, 1, node.warnings)
        users = parse_users(raw, path)
        return ConfCheck(path, kind, len(users.entries), users.warnings)

    @staticmethod
    def convert(path: str, user: str | None, output: str | None, *, dry_run: bool) -> tuple[str, list[str]]:
        """Return the TOML form of a classic client conf, and the files made: ``output``, and beside it the
        password in a file of its own; none without ``output`` or with ``dry_run``.

        Raises:
            ConfigError: it is faulty, or no such conf. ConflictError: a file is there already.
        """
        raw = read_conf(path)
        if kind_of(raw) is not ClientConf:
            raise ConfigError(
                f"{path} names no server, so it is no client's conf",
                file=path,
                next_step="Passwords of a users file become keys by: dfs user convert --users FILE.",
            )
        conf = parse_client(raw, path)
        chosen = _user_of(conf, user)
        remarks = [f"Made from {Path(path).name} by dfs config convert."]
        others = [each.name for each in conf.users if chosen is not None and each.name != chosen.name]
        if others:
            remarks.append(f"It has other users too, each of whom needs a conf: {', '.join(others)}.")
        if chosen is None:
            return _written(conf, remarks, output, "", dry_run=dry_run)
        conf = evolve(conf, user=chosen.name, users=())
        if output is None:
            remarks.append("The password stays out of it: put it into a file (chmod 600), and name that:")
            remarks.append('password_file = "…"')
            return toml_of(conf, remarks), []
        beside = Path(output).resolve().with_suffix(".password")
        return _written(
            evolve(conf, password_file=str(beside)), remarks, output, chosen.password, dry_run=dry_run
        )


def _user_of(conf: ClientConf, name: str | None) -> ClassicUser | None:
    if name is None:
        return conf.users[0] if conf.users else None
    for each in conf.users:
        if each.name == name:
            return each
    raise ConfigError(f"{conf.file} has no user {name!r}", file=conf.file)


def _written(
    conf: ClientConf, remarks: Sequence[str], output: str | None, password: str, *, dry_run: bool
) -> tuple[str, list[str]]:
    text = toml_of(conf, remarks)
    if output is None or dry_run:
        return text, []
    made = [output]
    private_file(output, text)
    if password:
        try:
            private_file(str(conf.password_file), f"{password}\n")
        except BaseException:
            os.unlink(output)  # a conf without its password would only be in the way of the next try
            raise
        made.append(str(conf.password_file))
    return text, made
