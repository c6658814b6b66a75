"""Conf files to values, and environment and flags laid over them, key by key.

Pure: the shell finds and reads the files. TOML is strict (unknown key, wrong type, out of range), with its
schema in settings.py; the grammar of the original is in classic.py. A file is read by one of the two, not by
the other when the first fails. All faults of a file are told at once, each as ``FILE:LINE: reason``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from attrs import fields_dict

from dfs.core import limits
from dfs.core.classic import (
    ClassicUser,
    Faults,
    NodeAddress,
    ServeForm,
    UserRecord,
    Users,
    read_client,
    read_users,
    serve_form,
    shown,
    significant_lines,
    split_words,
)
from dfs.core.errors import ConfigError, PasswordInEnvironmentError
from dfs.core.records import evolve
from dfs.core.settings import (
    FORMAT,
    NODE_KEYS,
    PASSWORD_SOURCES,
    PLUGIN_KEYS,
    ClientConf,
    Conf,
    NodeConf,
    Setting,
    settings,
)
from dfs.core.units import SIZE_MAX, join_address, parse_duration, parse_rate, parse_size, split_address

__all__ = [
    "ClassicUser",
    "ClientConf",
    "Conf",
    "NodeAddress",
    "NodeConf",
    "ServeForm",
    "Setting",
    "UserRecord",
    "Users",
    "apply_environment",
    "apply_flags",
    "join_address",
    "parse_client",
    "parse_duration",
    "parse_node",
    "parse_rate",
    "parse_size",
    "parse_users",
    "serve_form",
    "settings",
    "split_address",
    "split_words",
]

C = TypeVar("C", bound=Conf)

PLUGIN_VARIABLE_PREFIX: Final = "DFS_PLUGIN_"
FORMAT_LINE: Final = r"format[ \t]*=[ \t]*[0-9]+[ \t]*(?:#.*)?"
GEOMETRY: Final = r"([0-9]{1,2})[ \t]+of[ \t]+([0-9]{1,2})"


# --- TOML -------------------------------------------------------------------------------------------------

KEY_PART: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
KEY_PATH: Final = rf"{KEY_PART}(?:[ \t]*\.[ \t]*{KEY_PART})*"
HEADER_LINE: Final = rf"[ \t]*(?P<list>\[)?\[[ \t]*(?P<path>{KEY_PATH})[ \t]*\]"
KEY_LINE: Final = rf"[ \t]*(?P<path>{KEY_PATH})[ \t]*="


def _parts(path: str) -> str:
    return ".".join(re.sub(r"^[\"']|[\"']$", "", part) for part in re.findall(KEY_PART, path))


def _label(key: str) -> str:
    """Return a key as people write it: without the place in a list, fit for a terminal."""
    return shown(re.sub(r"\[[0-9]+\]", "", key))


class _Lines:
    """Where keys stand: tomllib keeps no lines, so the text is scanned once more."""

    def __init__(self, text: str) -> None:
        self.first: Final[dict[str, int]] = {}
        counts: dict[str, int] = {}
        section = ""
        for number, line in enumerate(text.split("\n"), start=1):
            if match := re.match(HEADER_LINE, line):
                section = _parts(match["path"])
                if match["list"]:
                    counts[section] = counts.get(section, -1) + 1
                    section = f"{section}[{counts[section]}]"
                self.first.setdefault(section, number)
            elif match := re.match(KEY_LINE, line):
                path = _parts(match["path"])
                self.first.setdefault(f"{section}.{path}" if section else path, number)

    def of(self, key: str) -> int:
        """Return the line of a key, or of the nearest thing around it."""
        while key not in self.first:
            end = max(key.rfind("."), key.rfind("["))
            if end < 0:
                return 1
            key = key[:end]
        return self.first[key]


class _Reader:
    """One TOML conf on its way to a value: what was read so far, and every fault."""

    def __init__(self, raw: bytes, file: str, conf_class: type[Conf]) -> None:
        self.file: Final = file
        self.faults: Final = Faults(file)
        self.known: Final = settings(conf_class)
        self.sections: Final = {key.partition(".")[0] for key in self.known if "." in key}
        self.lists: Final = {"node"} if conf_class is ClientConf else set[str]()
        self.values: Final[dict[str, Any]] = {}
        self.origins: Final[dict[str, str]] = {}
        self.plugins: Final[dict[str, dict[str, str]]] = {}
        text, self.document = _document(raw, self.faults)
        self.faults.finish()
        self.lines: Final = _Lines(text)

    def fault(self, key: str, reason: str) -> None:
        self.faults.add(self.lines.of(key), f"key '{_label(key)}': {reason}")

    def origin(self, key: str) -> str:
        return f"{self.file}:{self.lines.of(key)}"

    def read(self) -> None:
        """Read everything but the nodes."""
        for key, value in self.document.items():
            if key == "plugin":
                self.read_plugins(value)
            elif key in self.sections:
                self.read_section(key, value)
            elif key not in self.lists:
                self.read_key(key, value)
        if "format" not in self.document:
            self.faults.add(1, f"key 'format' is required: format = {FORMAT}")

    def read_section(self, section: str, value: object) -> None:
        if not isinstance(value, dict):
            self.fault(section, f"expected a section [{section}]")
            return
        for key, item in value.items():
            self.read_key(f"{section}.{key}", item)

    def read_key(self, key: str, value: object) -> None:
        setting = self.known.get(key)
        if setting is None:
            self.unknown(key, [*self.known, *self.sections, *self.lists, "plugin"])
            return
        try:
            self.values[setting.attribute] = setting.kind.read(value)
        except ConfigError as error:
            self.fault(key, error.what)
        self.origins[key] = self.origin(key)

    def unknown(self, key: str, known: Sequence[str]) -> None:
        """Note an unknown key with what was probably meant."""
        if key == "password":
            self.fault(key, "is refused here, use password_file, password_command or key_file")
            return
        reason = f"key '{_label(key)}' is not known"
        hint = "" if self.faults.full else self.hint(_label(key), known)
        self.faults.add(self.lines.of(key), reason + hint, unknown_key=True)

    def hint(self, label: str, known: Sequence[str]) -> str:
        from difflib import get_close_matches  # a faulty key is the exception

        last = label.rpartition(".")[2]
        if last != label and last in self.known:
            return f"; '{last}' belongs above the first section"
        close = get_close_matches(label, known, n=1, cutoff=0.6)
        return f"; did you mean '{close[0]}'?" if close else ""

    def read_plugins(self, value: object) -> None:
        if not isinstance(value, dict):
            self.fault("plugin", "expected sections such as [plugin.zstd]")
            return
        for name, section in value.items():
            if not isinstance(section, dict):
                self.fault(f"plugin.{name}", f"expected a section [plugin.{name}]")
                continue
            rows = self.plugins.setdefault(name, {})
            for key, item in section.items():
                dotted = f"plugin.{name}.{key}"
                self.origins[dotted] = self.origin(dotted)
                if isinstance(item, bool):
                    rows[key] = "true" if item else "false"
                elif isinstance(item, str | float) or (isinstance(item, int) and abs(item) <= SIZE_MAX):
                    rows[key] = str(item)
                else:
                    self.fault(dotted, "expected a text, a number of at most 63 bits, true or false")

    def read_nodes(self) -> tuple[NodeAddress, ...]:
        """Read the ``[[node]]`` sections."""
        rows = self.document.get("node")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
            self.faults.add(self.lines.of("node"), "at least one [[node]] with name and address is required")
            return ()
        if len(rows) > limits.NODE_COUNT_MAX:
            self.fault(f"node[{limits.NODE_COUNT_MAX}]", f"more than {limits.NODE_COUNT_MAX} nodes")
            return ()
        nodes = [self.read_node(f"node[{index}]", row) for index, row in enumerate(rows)]
        seen: set[str] = set()
        for index, node in enumerate(nodes):
            for label in ("name", "address"):
                # A name and an address never meet in one set: an address has a colon.
                text = str(getattr(node, label, "")).lower()
                if text and text in seen:
                    self.fault(f"node[{index}].{label}", "is given twice")
                seen.add(text)
        return tuple(filter(None, nodes))

    def read_node(self, place: str, row: Mapping[str, object]) -> NodeAddress | None:
        values: dict[str, Any] = {}
        for key, value in row.items():
            if key not in NODE_KEYS:
                self.unknown(f"{place}.{key}", [f"node.{known}" for known in NODE_KEYS])
                continue
            try:
                values[key] = NODE_KEYS[key].read(value)
            except ConfigError as error:
                self.fault(f"{place}.{key}", error.what)
        for key in ("name", "address"):
            if key not in row:
                self.faults.add(self.lines.of(place), f"key 'node.{key}' is required")
        if not {"name", "address"} <= values.keys():
            return None
        self.origins[f"node.{values['name']}"] = self.origin(place)
        return NodeAddress(**values)

    def finish(self) -> dict[str, Any]:
        """Check what several keys say together and return the fields of the conf.

        Raises:
            ConfigError: all faults of the file.
        """
        sources = [source for source in PASSWORD_SOURCES if self.values.get(source)]
        for source in sources[1:]:
            self.fault(source, f"only one of {', '.join(PASSWORD_SOURCES)} may be given")
        if not _geometry_holds(self.values.get("geometry_needed"), self.values.get("geometry_total")):
            self.fault("geometry.needed", "is larger than geometry.total")
        self.faults.finish()
        return {**self.values, "file": self.file, "origins": self.origins, "plugins": self.plugins}


def _geometry_holds(needed: int | None, total: int | None) -> bool:
    return needed is None or total is None or needed <= total


def _document(raw: bytes, faults: Faults) -> tuple[str, dict[str, object]]:
    """Return text and values of a TOML file; what is no TOML at all is the only fault told."""
    import tomllib  # a classic conf does without

    if len(raw) > limits.CONF_SIZE_MAX:
        faults.add(1, f"the file is larger than {limits.CONF_SIZE_MAX // limits.MIB} MiB")
        return "", {}
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    for number, piece in enumerate(raw.split(b"\n"), start=1):
        if len(piece) > limits.CONF_LINE_SIZE_MAX:  # a key of a million dots takes tomllib minutes
            faults.add(number, f"the line is longer than {limits.CONF_LINE_SIZE_MAX} bytes")
            return "", {}
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        faults.add(raw.count(b"\n", 0, error.start) + 1, "the line is not UTF-8")
        return "", {}
    try:
        return text, tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number with more digits than Python is set to read
        reason, _, place = str(error).partition(" (at ")
        match = re.match(r"line ([0-9]+)", place)
        line = int(match[1]) if match else text.count("\n") + 1
        faults.add(line, f"not valid TOML: {reason}")
    except RecursionError:
        faults.add(1, "not valid TOML: nested too deeply")
    return "", {}


# --- Files ------------------------------------------------------------------------------------------------


def _is_toml(raw: bytes, file: str) -> bool:
    if file.lower().endswith(".toml"):
        return True
    first = next(significant_lines(raw, Faults(file)), None)
    return first is not None and re.fullmatch(FORMAT_LINE, first[1]) is not None


def parse_client(raw: bytes, file: str) -> ClientConf:
    """Read a client conf of either grammar.

    Raises:
        ConfigError: all faults of the file.
    """
    if _is_toml(raw, file):
        reader = _Reader(raw, file, ClientConf)
        reader.read()
        nodes = reader.read_nodes()
        return ClientConf(nodes=nodes, **reader.finish())
    classic = read_client(raw, file)
    origins = {
        f"node.{node.name}": line for node, line in zip(classic.nodes, classic.node_lines, strict=True)
    }
    user = None
    if classic.users:
        user = classic.users[0].name
        origins["user"] = classic.user_lines[0]
    return ClientConf(
        file=file,
        users=classic.users,
        user=user,
        nodes=classic.nodes,
        warnings=classic.warnings,
        origins=origins,
    )


def parse_node(raw: bytes, file: str) -> NodeConf:
    """Read a node's conf. The classic one is a users file and says nothing else.

    Raises:
        ConfigError: all faults of the file.
    """
    if _is_toml(raw, file):
        reader = _Reader(raw, file, NodeConf)
        reader.read()
        if "dir" not in reader.document:
            reader.faults.add(1, "key 'dir' is required")
        return NodeConf(**reader.finish())
    users = read_users(raw, file)
    return NodeConf(file=file, users=file, warnings=users.warnings, origins={"users": f"{file}:1"})


def parse_users(raw: bytes, file: str) -> Users:
    """Read a node's users file.

    Raises:
        ConfigError: all faults of the file.
    """
    if _is_toml(raw, file):
        raise ConfigError(f"{file}:1: a TOML conf, expected a users file", file=file, line=1)
    return read_users(raw, file)


# --- Environment and flags --------------------------------------------------------------------------------


class _Overlay:
    """Values that win over those of a conf; ``source`` is the variable or flag each comes from."""

    def __init__(self, conf: Conf) -> None:
        self.conf: Final = conf
        self.changes: Final[dict[str, Any]] = {}
        self.origins: Final[dict[str, str]] = dict(conf.origins)
        self.reasons: Final[list[str]] = []

    def set(self, setting: Setting, value: object, source: str) -> None:
        try:
            raw = setting.kind.raw(value) if isinstance(value, str) else value
            self.changes[setting.attribute] = setting.kind.read(raw)
        except ConfigError as error:
            self.reasons.append(f"{source}: {error.what}")
        self.origins[setting.key] = source

    def set_geometry(self, text: str, source: str) -> None:
        match = re.fullmatch(GEOMETRY, text.strip(" \t"))
        if match is None:
            self.reasons.append(f"{source}: expected a geometry such as '2 of 4'")
            return
        known = settings(ClientConf)
        for key, digits in zip(("geometry.needed", "geometry.total"), match.groups(), strict=True):
            self.set(known[key], digits, source)

    def set_plugin(self, name: str, key: str, text: str, source: str) -> None:
        known = {name: dict(rows) for name, rows in self.conf.plugins.items()}
        sections = self.changes.setdefault("plugins", known)
        sections.setdefault(name, {})[key] = text
        self.origins[f"plugin.{name}.{key}"] = source

    def plugin_names(self) -> list[str]:
        """Names that may stand in a variable, longest first: there a dash looks like the end of the name."""
        chosen = (self.changes.get(key, getattr(self.conf, key, None)) for key in PLUGIN_KEYS)
        names = {*self.conf.plugins, *self.conf.plugins_allow, *filter(None, chosen)}
        return sorted(names, key=len, reverse=True)

    def finish(self) -> Conf:
        """Return the conf with the values laid over it.

        Raises:
            ConfigError: all faults, each naming its variable or flag.
        """
        sources = [source for source in PASSWORD_SOURCES if self.changes.get(source)]
        if len(sources) > 1:
            names = " and ".join(self.origins[source] for source in sources)
            self.reasons.append(f"{names}: only one of them may be given")
        if self.reasons:
            raise ConfigError("\n".join(self.reasons))
        if sources:  # one from above replaces whatever the conf names
            for source in set(PASSWORD_SOURCES) - set(sources):
                self.changes[source] = fields_dict(ClientConf)[source].default
                self.origins.pop(source, None)
        conf = evolve(self.conf, **self.changes, origins=self.origins)
        needed, total = getattr(conf, "geometry_needed", None), getattr(conf, "geometry_total", None)
        if not _geometry_holds(needed, total):
            source = self.origins["geometry.needed"]
            raise ConfigError(f"{source}: {needed} shares cannot be needed of {total}")
        return conf


def apply_environment(conf: C, environ: Mapping[str, str]) -> C:
    """Return the conf with the ``DFS_*`` variables laid over it; an empty one counts as not set.

    Raises:
        PasswordInEnvironmentError: DFS_PASSWORD is set.
        ConfigError: a value is bad; the reason names the variable.
    """
    if "DFS_PASSWORD" in environ:
        raise PasswordInEnvironmentError("DFS_PASSWORD is set, where other programs can read it")
    overlay = _Overlay(conf)
    for setting in settings(type(conf)).values():
        if setting.variable and (text := environ.get(setting.variable)):
            overlay.set(setting, text, setting.variable)
    if isinstance(conf, ClientConf):
        if environ.get("NO_COLOR"):
            overlay.set(settings(ClientConf)["color"], "off", "NO_COLOR")
        if text := environ.get("DFS_GEOMETRY"):
            overlay.set_geometry(text, "DFS_GEOMETRY")
    names = overlay.plugin_names()
    for variable in sorted(environ):
        if variable.startswith(PLUGIN_VARIABLE_PREFIX) and environ[variable]:
            name, key = _plugin_key(variable.removeprefix(PLUGIN_VARIABLE_PREFIX).lower(), names)
            if name and key:
                overlay.set_plugin(name, key, environ[variable], variable)
    return cast("C", overlay.finish())


def _plugin_key(text: str, names: Sequence[str]) -> tuple[str, str]:
    for name in names:
        if text.startswith(prefix := name.replace("-", "_") + "_"):
            return name, text.removeprefix(prefix)
    name, _, key = text.partition("_")
    return name, key


def apply_flags(conf: C, flags: Mapping[str, object]) -> C:
    """Return the conf with flags laid over it, named as its fields, or ``geometry``; None = not given.

    Raises:
        ConfigError: a value is bad; the reason names the flag.
    """
    known = {setting.attribute: setting for setting in settings(type(conf)).values()}
    overlay = _Overlay(conf)
    for name, value in flags.items():
        source = "--" + name.replace("_", "-")
        if value is None:
            continue
        if name == "geometry" and isinstance(conf, ClientConf):
            overlay.set_geometry(str(value), source)
        elif name in known:
            overlay.set(known[name], value, source)
        else:
            overlay.reasons.append(f"{source}: there is no such setting")
    return cast("C", overlay.finish())
