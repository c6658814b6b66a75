"""The schema of confs: ClientConf and NodeConf, every key with its type, range, default and variable.

The classes are the one table: each field carries how its key is written, how its value is read and which
variable overrides it, so a new setting is one line. No reason repeats a text value: it might be a secret in
the wrong place.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from dfs.core import limits
from dfs.core.classic import NODE_NAME, ClassicUser, NodeAddress, check_user_name
from dfs.core.errors import ConfigError
from dfs.core.records import described, field, frozen
from dfs.core.units import (
    DURATION_S_MAX,
    PORT_MAX,
    SIZE_MAX,
    exact_duration,
    exact_rate,
    join_address,
    parse_duration,
    parse_rate,
    parse_size,
    spaced_size,
    split_address,
)

T = TypeVar("T")

FORMAT: Final = 1
TEXT_SIZE_MAX: Final = 4096  # characters of one value
WEIGHT_MAX: Final = 1e6
VARIABLE_PREFIX: Final = "DFS_"
PASSWORD_SOURCES: Final = ("password_file", "password_command", "key_file", "keyring")
PLUGIN_KEYS: Final = ("transport", "cipher", "compressor", "code", "placement", "chunker", "store")
CERTIFICATE: Final = r"SHA256:([0-9A-Fa-f]{64})"
YES: Final = frozenset({"1", "true", "yes", "on"})
NO: Final = frozenset({"0", "false", "no", "off"})


# --- How values are read ----------------------------------------------------------------------------------


def _as_it_is(value: object) -> object:
    return value


@frozen
class Kind(Generic[T]):
    """How values of a key are read, and written back.

    ``read``: a TOML value to the field's value, or ConfigError with the reason. ``raw``: the text of a
    variable or flag to what TOML would have given. ``name``: what people call such a value. ``plain``: the
    field's value to what TOML would have given.
    """

    read: Callable[[object], T]
    raw: Callable[[str], object] = str
    name: str = "text"
    plain: Callable[[T], object] = _as_it_is


def _format(value: object) -> int:
    if isinstance(value, bool) or value != FORMAT:
        raise ConfigError(f"expected {FORMAT}; a file of another format needs another version of dfs")
    return FORMAT


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError("expected text in quotes")
    if len(value) > TEXT_SIZE_MAX or not value.isprintable():
        raise ConfigError(f"expected at most {TEXT_SIZE_MAX} characters without control characters")
    return value


def _filled(value: object) -> str:
    if not (text := _text(value)):
        raise ConfigError("expected a text that is not empty")
    return text


def _user(value: object) -> str:
    check_user_name(text := _text(value))
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError("expected true or false")
    return value


def _flag_raw(text: str) -> object:
    return True if text.lower() in YES else False if text.lower() in NO else text


def _number_raw(text: str) -> object:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError('expected a list of names such as ["xor"]')
    return tuple(map(_text, value))


def _names_raw(text: str) -> object:
    return text.replace(",", " ").split()


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(word, str) for word in value):
        raise ConfigError('expected a command as a list of words such as ["pass", "show", "dfs"]')
    return tuple(value)


def _command_raw(text: str) -> object:
    import shlex  # one variable needs it

    try:
        return shlex.split(text)
    except ValueError:
        raise ConfigError("a quote stays open") from None


def _address(value: object) -> str:
    return join_address(*split_address(_text(value)))


def _certificate(value: object) -> bytes:
    match = re.fullmatch(CERTIFICATE, _text(value))
    if match is None:
        raise ConfigError("expected SHA256: and 64 hexadecimal digits")
    return bytes.fromhex(match[1])


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < WEIGHT_MAX:
        raise ConfigError("expected a number above 0, below 1,000,000")
    return float(value)


def _node_name(value: object) -> str:
    if not re.fullmatch(NODE_NAME, text := _text(value)) or len(text) > limits.NAME_SIZE_MAX:
        raise ConfigError("expected a letter, then letters, digits, '_', '.' or '-'")
    return text


def _integer(low: int, high: int) -> Kind[int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError("expected a whole number")
        if not low <= value <= high:
            raise ConfigError(f"out of range, {low} to {high}")
        return value

    return Kind(read, _number_raw, f"{low} to {high}")


def _size(low: int, high: int = SIZE_MAX) -> Kind[int]:
    def read(value: object) -> int:
        size = parse_size(value if isinstance(value, str) else "")
        if not low <= size <= high:
            raise ConfigError(f"out of range, {low} to {high} bytes")
        return size

    return Kind(read, name="size", plain=spaced_size)


def _rate(value: object) -> int:
    rate = parse_rate(value if isinstance(value, str) else "")
    if rate < limits.CLIENT_RATE_MIN:
        raise ConfigError("a rate of at least '32 KiB/s' is needed; nodes give up on what is slower")
    return rate


def _choice(*choices: str) -> Kind[str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(f"expected one of {', '.join(map(repr, choices))}")
        return value

    return Kind(read, name=", ".join(choices))


TEXT: Final = Kind(_text)
FILLED: Final = Kind(_filled)
USER_NAME: Final = Kind(_user)
FLAG: Final = Kind(_flag, _flag_raw, "true, false")
NAMES: Final = Kind(_names, _names_raw, "list of names", list)
COMMAND: Final = Kind(_command, _command_raw, "list of words", list)
SOCKET: Final = Kind(_address, name="host:port")
DURATION: Final = Kind(
    lambda value: parse_duration(value if isinstance(value, str) else ""),
    name="duration",
    plain=exact_duration,
)
RATE: Final = Kind(_rate, name="rate", plain=exact_rate)
COUNT: Final = _integer(1, limits.GROUP_SIZE_MAX)
CONNECTIONS: Final = _integer(1, limits.CONNECTION_COUNT_MAX)
KDF_MEMORY: Final = _size(limits.KDF_MEMORY_MIN, limits.KDF_MEMORY_MAX)
KDF_PASSES: Final = _integer(limits.KDF_PASSES_MIN, limits.KDF_PASSES_MAX)
KDF_LANES: Final = _integer(limits.KDF_LANES_MIN, limits.KDF_LANES_MAX)
NODE_KEYS: Final[Mapping[str, Kind[Any]]] = {
    "name": Kind(_node_name, name="name"),
    "address": SOCKET,
    "certificate": Kind(
        _certificate, name="SHA256:…", plain=lambda digest: f"SHA256:{digest.hex()}" if digest else None
    ),
    "zone": TEXT,
    "weight": Kind(_weight, name="number above 0"),
    "transport": FILLED,
}


# --- The confs --------------------------------------------------------------------------------------------


def _setting(kind: Kind[T], default: T, *, key: str = "", variable: str | None = None) -> T:
    """Declare a setting; ``key`` and ``variable`` follow from the field's name, ``variable`` "" = none."""
    return field(default=default, metadata={"kind": kind, "key": key, "variable": variable})


def _optional(kind: Kind[T], *, key: str = "", variable: str | None = None) -> T | None:
    """Declare a setting without a default of its own."""
    default: T | None = None
    return field(default=default, metadata={"kind": kind, "key": key, "variable": variable})


@frozen(kw_only=True)
class Conf:
    """What clients and nodes share. A field has the name of its key; sizes are bytes, durations seconds.

    ``plugins``: the ``[plugin.NAME]`` sections, values as text. ``origins``: key -> ``FILE:LINE``, variable
    or flag that set it.
    """

    file: str = ""
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(factory=dict)
    plugins: Mapping[str, Mapping[str, str]] = field(factory=dict)
    format: int = _setting(Kind(_format), FORMAT, variable="")
    realm: str = _setting(FILLED, "dfs")
    transport: str = _setting(FILLED, "tls")
    kdf_memory: int = _setting(KDF_MEMORY, limits.KDF_MEMORY_MIN, key="kdf.memory")
    kdf_passes: int = _setting(KDF_PASSES, limits.KDF_PASSES_MIN, key="kdf.passes")
    kdf_lanes: int = _setting(KDF_LANES, 4, key="kdf.lanes")
    plugins_allow: tuple[str, ...] = _setting(NAMES, (), key="plugins.allow")
    plugins_block: tuple[str, ...] = _setting(NAMES, (), key="plugins.block")


@frozen(kw_only=True)
class ClientConf(Conf):
    """The conf of a client. ``users``: of a classic conf, the first is the default (then also in ``user``).

    None: ``user`` = login name of the system, ``geometry_*`` = from the node count, ``strict`` = per command.
    """

    users: tuple[ClassicUser, ...] = ()
    nodes: tuple[NodeAddress, ...] = ()
    cluster: str = _setting(FILLED, "default")
    user: str | None = _optional(USER_NAME)
    password_file: str | None = _optional(FILLED)
    password_command: tuple[str, ...] | None = _optional(COMMAND)
    key_file: str | None = _optional(FILLED)
    keyring: bool = _setting(FLAG, default=False)
    trust: str = _setting(_choice("pin", "first-use"), "first-use")
    ca: str | None = _optional(FILLED)
    client_certificate: str | None = _optional(FILLED)
    client_key: str | None = _optional(FILLED)
    geometry_needed: int | None = _optional(COUNT, key="geometry.needed", variable="")
    geometry_total: int | None = _optional(COUNT, key="geometry.total", variable="")
    cipher: str = _setting(FILLED, "aes-gcm")
    compressor: str = _setting(FILLED, "zstd")
    code: str = _setting(FILLED, "reed-solomon")
    placement: str = _setting(FILLED, "rendezvous")
    chunker: str = _setting(FILLED, "fixed")
    allow_insecure: tuple[str, ...] = _setting(NAMES, ())
    connect_timeout: float = _setting(DURATION, limits.CONNECT_TIMEOUT_S)
    request_timeout: float = _setting(DURATION, limits.REQUEST_TIMEOUT_S)
    jobs: int = _setting(_integer(0, limits.NODE_COUNT_MAX), 0)
    limit_up: int | None = _optional(RATE)
    limit_down: int | None = _optional(RATE)
    strict: bool | None = _optional(FLAG)
    progress: str = _setting(_choice("auto", "on", "off"), "auto")
    color: str = _setting(_choice("auto", "on", "off"), "auto")

    @property
    def password(self) -> str | None:
        """The clear-text password of ``user`` in a classic conf, unless another source of it was named."""
        if any(getattr(self, source) for source in PASSWORD_SOURCES):
            return None
        return next((entry.password for entry in self.users if entry.name == self.user), None)


@frozen(kw_only=True)
class NodeConf(Conf):
    """The conf of a node. ``dir`` may come by flag. None: ``name`` = its base name, ``quota`` = no bound."""

    dir: str | None = _optional(FILLED)
    name: str | None = _optional(NODE_KEYS["name"])
    listen: str = _setting(TEXT, "")
    port: int = _setting(_integer(0, PORT_MAX), 7771)
    zone: str = _setting(TEXT, "")
    certificate: str | None = _optional(FILLED)
    private_key: str | None = _optional(FILLED)
    client_ca: str | None = _optional(FILLED)
    users: str | None = _optional(FILLED)
    allow_anonymous: bool = _setting(FLAG, default=False)
    heal_conf: str | None = _optional(FILLED, key="heal.conf")
    heal_interval: float = _setting(DURATION, 600.0, key="heal.interval")
    quota: int | None = _optional(_size(0))
    reserve: int | None = _optional(_size(0))
    inline_max: int = _setting(_size(0, limits.MIB), limits.SHARE_INLINE_SIZE_MAX)
    scrub_days: int = _setting(_integer(1, int(DURATION_S_MAX) // 86400), 30)
    pin_lease: float = _setting(DURATION, limits.PIN_LEASE_S)
    max_connections: int = _setting(CONNECTIONS, limits.CONNECTION_COUNT_MAX)
    max_connections_per_address: int = _setting(CONNECTIONS, limits.ADDRESS_CONNECTION_COUNT)
    max_connections_per_user: int = _setting(CONNECTIONS, limits.USER_CONNECTION_COUNT)
    store: str = _setting(FILLED, "volumes")
    log_level: str = _setting(_choice("debug", "info", "warning", "error"), "warning")
    log_format: str = _setting(_choice("text", "json"), "text")
    log_file: str | None = _optional(FILLED)
    metrics: str | None = _optional(SOCKET)


@frozen
class Setting:
    """One key of a conf: the field it fills, how it is read, the variable that overrides it ("" = none)."""

    key: str
    attribute: str
    kind: Kind[Any]
    variable: str


def settings(conf_class: type[Conf]) -> Mapping[str, Setting]:
    """Return all settings of a conf class by key, in the order of their fields."""
    table = {}
    for name, metadata in described(conf_class):
        if "kind" in metadata:
            key = metadata["key"] or name
            variable = metadata["variable"]
            variable = VARIABLE_PREFIX + name.upper() if variable is None else variable
            table[key] = Setting(key, name, metadata["kind"], variable)
    return table
