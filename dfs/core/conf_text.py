"""Confs as text: what every key is for, the values in force with where each came from, and TOML files.

Pure. `dfs config` and the reference in the documentation are made from it, so neither can rot.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from dfs.core.classic import NodeAddress
from dfs.core.records import frozen
from dfs.core.settings import FORMAT, NODE_KEYS, ClientConf, Conf, NodeConf, settings

HIDDEN: Final = "***"
HIDDEN_KEYS: Final = r"(?i)password|secret|token|key$"
DEFAULT: Final = "default"
BARE_KEY: Final = r"[A-Za-z0-9_-]+"

# What every key is for, as the reference and `dfs config keys` say it.
ABOUT: Final[Mapping[str, str]] = {
    "format": "The format of the file; required.",
    "realm": "Clusters that do not mix; the same on all nodes and clients.",
    "transport": "How bytes travel.",
    "kdf.memory": "Memory that one guess of a password costs; node and clients must agree.",
    "kdf.passes": "How often that memory is gone through.",
    "kdf.lanes": "How many processors work on it.",
    "plugins.allow": "Installed plugins to load, by entry or package; empty: what the conf names.",
    "plugins.block": "Installed plugins never to load.",
    # Clients
    "cluster": "The name before the colon in CLUSTER:path.",
    "user": "Who logs in; not set: your login name.",
    "password_file": "A file whose first line is the password; 0600.",
    "password_command": "A command whose first line of output is the password; no shell.",
    "key_file": "A key file in place of a password; 0600. Make one: dfs key new FILE",
    "keyring": "Take the login that dfs login kept in the system's key store.",
    "trust": "Whether a node's certificate is remembered at first sight, or must stand under [[node]].",
    "ca": "An authority that must have signed the nodes' certificates, in place of pins.",
    "client_certificate": "The certificate you show to nodes that ask for one.",
    "client_key": "Its private key.",
    "geometry.needed": "Shares that bring a file back; not set: half of them. Counts when the vault is made.",
    "geometry.total": "Shares in all; not set: one on each node, 16 at most. Counts when the vault is made.",
    "cipher": "The cipher of new files.",
    "compressor": "The compressor of new files.",
    "code": "The erasure code of new files.",
    "placement": "Which node gets which share.",
    "chunker": "Where files are cut.",
    "allow_insecure": "Ciphers that protect nothing and may be used all the same.",
    "connect_timeout": "How long a connection may take.",
    "request_timeout": "How long one request may take.",
    "jobs": "Chunks worked on at once; 0: by processors and memory.",
    "limit_up": "Bytes a second to the nodes, at most.",
    "limit_down": "Bytes a second from the nodes, at most.",
    "strict": "Whether less redundancy than asked for ends with 3; not set: by command.",
    "progress": "Whether transfers show how far they are; auto: on a terminal.",
    "color": "Whether output is coloured and redrawn; auto: on a terminal. NO_COLOR=1 means off.",
    # Nodes
    "dir": "Where the node keeps everything; required.",
    "name": "What the node is called; not set: the last part of dir.",
    "listen": "The address to listen on; empty: all.",
    "port": "The port to listen on; 0: a free one.",
    "zone": "Nodes of one zone are likely to fail together.",
    "certificate": "The certificate the node shows; not set: one it makes for itself.",
    "private_key": "Its private key.",
    "client_ca": "An authority that signs certificates of clients; not set: none are asked for.",
    "users": "Who may log in: one NAME ed25519:KEY a line.",
    "allow_anonymous": "Let in clients with a key that the users file does not name.",
    "heal.conf": "The conf of a healer, with which dfs serve --heal repairs in the background.",
    "heal.interval": "How long it waits between two looks at what is lacking.",
    "quota": "What a user may keep here whose line says nothing; not set: no bound.",
    "reserve": "Kept free for deletes; not set: 2 % of the disk, at least 64 MiB.",
    "inline_max": "Larger shares go to volume files.",
    "scrub_days": "Everything kept is read again within so many days.",
    "pin_lease": "How long an upload may take before its shares are collected.",
    "max_connections": "Connections in all; more are told that the node is busy.",
    "max_connections_per_address": "Connections of one address.",
    "max_connections_per_user": "Connections of one user.",
    "store": "How shares are kept on disk.",
    "log_level": "What is told in the log: debug, info, warning or error, and worse.",
    "log_format": "Lines for people, or one JSON object a line.",
    "log_file": "Where the log goes; not set: stderr. SIGHUP opens it anew, for log rotation.",
    "metrics": "Where counters for a monitoring system are served; not set: nowhere.",
}
ABOUT_NODE: Final[Mapping[str, str]] = {
    "name": "What the node is called here; required.",
    "address": "Where it is; required.",
    "certificate": "The certificate it must show; see: dfs cert show",
    "zone": "Nodes of one zone are likely to fail together.",
    "weight": "Its part of the stored bytes, relative to the others.",
    "transport": "How bytes travel to it, if not as to the others.",
}
NODE_DEFAULTS: Final[Mapping[str, str]] = {"zone": '""', "weight": "1.0"}
SPECIAL_VARIABLES: Final[Mapping[str, str]] = {
    "geometry.needed": 'DFS_GEOMETRY="2 of 4"',
    "geometry.total": 'DFS_GEOMETRY="2 of 4"',
}


@frozen
class KeyText:
    """One key as the reference shows it. ``default``: as TOML, "" = not set."""

    key: str
    type: str
    default: str
    variable: str
    about: str


@frozen
class ValueText:
    """One value in force. ``value``: as TOML would give it, None = not set. ``origin``: who set it."""

    key: str
    value: object
    origin: str

    @property
    def text(self) -> str:
        """The value as a conf says it."""
        return "not set" if self.value is None else HIDDEN if self.value == HIDDEN else toml_value(self.value)


# --- What there is ------------------------------------------------------------------------------------------


def key_texts(conf_class: type[Conf]) -> list[KeyText]:
    """Return every key of a conf, those of ``[[node]]`` last."""
    conf = conf_class()
    rows = []
    for setting in settings(conf_class).values():
        value = getattr(conf, setting.attribute)
        default = "" if value is None or setting.key == "format" else toml_value(setting.kind.plain(value))
        variable = setting.variable or SPECIAL_VARIABLES.get(setting.key, "")
        rows.append(KeyText(setting.key, setting.kind.name, default, variable, ABOUT[setting.key]))
    if conf_class is ClientConf:
        rows += [
            KeyText(f"node.{key}", kind.name, NODE_DEFAULTS.get(key, ""), "", ABOUT_NODE[key])
            for key, kind in NODE_KEYS.items()
        ]
    return rows


def value_texts(conf: Conf) -> list[ValueText]:
    """Return every value in force, secrets struck out."""
    rows = []
    for setting in settings(type(conf)).values():
        value = getattr(conf, setting.attribute)
        plain = None if value is None else setting.kind.plain(value)
        origin = conf.origins.get(setting.key, DEFAULT)
        rows.append(ValueText(setting.key, plain, origin))
    if isinstance(conf, ClientConf):
        if conf.password is not None:
            rows.append(ValueText("password", HIDDEN, conf.origins.get("user", conf.file)))
        for node in conf.nodes:
            origin = conf.origins.get(f"node.{node.name}", conf.file)
            rows += [ValueText(f"node.{node.name}.{key}", value, origin) for key, value in _node_values(node)]
    for name, section in conf.plugins.items():
        for key, text in section.items():
            hidden = HIDDEN if re.search(HIDDEN_KEYS, key) else text
            dotted = f"plugin.{name}.{key}"
            rows.append(ValueText(dotted, hidden, conf.origins.get(dotted, conf.file)))
    return rows


def _node_values(node: NodeAddress) -> list[tuple[str, object]]:
    """Return what a ``[[node]]`` section says beside the name, without what follows from defaults."""
    values = [(key, kind.plain(getattr(node, key))) for key, kind in NODE_KEYS.items() if key != "name"]
    return [
        (key, value) for key, value in values if value not in {None, ""} and (key, value) != ("weight", 1.0)
    ]


# --- TOML ---------------------------------------------------------------------------------------------------


def toml_value(value: object) -> str:
    """Return a plain value as TOML writes it; a text has no character that JSON would write otherwise."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def toml_key(key: str) -> str:
    """Return a part of a key, quoted if need be."""
    return key if re.fullmatch(BARE_KEY, key) else json.dumps(key, ensure_ascii=False)


def toml_of(conf: Conf, remarks: Sequence[str] = ()) -> str:
    """Return a TOML file that says what a conf says; what a default would say anyway is left out.

    ``remarks``: lines put first, as comments. A password in clear text is left out.
    """
    above, sections = [f"format = {FORMAT}"], dict[str, list[str]]()
    default = type(conf)()
    for setting in settings(type(conf)).values():
        value = getattr(conf, setting.attribute)
        if setting.key == "format" or value is None or value == getattr(default, setting.attribute):
            continue
        section, _, key = setting.key.rpartition(".")
        rows = sections.setdefault(section, []) if section else above
        rows.append(f"{key} = {toml_value(setting.kind.plain(value))}")
    for name, values in conf.plugins.items():
        rows = sections.setdefault(f"plugin.{toml_key(name)}", [])
        rows += [f"{toml_key(key)} = {toml_value(text)}" for key, text in values.items()]
    lines = [*(f"# {remark}" for remark in remarks), *above]
    for section, rows in sections.items():
        lines += ["", f"[{section}]", *rows]
    for node in conf.nodes if isinstance(conf, ClientConf) else ():
        lines += ["", "[[node]]", f"name = {toml_value(node.name)}"]
        lines += [f"{key} = {toml_value(value)}" for key, value in _node_values(node)]
    return "\n".join([*lines, ""])


def kind_of(raw: bytes) -> type[Conf] | None:
    """Return what kind of conf a file means to be: a client's, a node's, or None: users of a node.

    It is a guess for messages: the file may be faulty. A TOML file with ``dir`` above its first section is a
    node's; a classic one with a line ``Server`` or ``Username`` is a client's.
    """
    text = raw.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and any(re.match(r"format\s*=", line) for line in lines):
        above = lines[: next((at for at, line in enumerate(lines) if line.startswith("[")), len(lines))]
        return NodeConf if any(re.match(r"dir\s*=", line) for line in above) else ClientConf
    classic = any(re.match(r"(?i)(server|username)\b", line) for line in lines)
    return ClientConf if classic else None
