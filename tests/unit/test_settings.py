"""The schema of confs: what each kind of value takes, and that the table is complete."""

import math

import pytest
from attrs import fields

from dfs.core import limits
from dfs.core.classic import ClassicUser
from dfs.core.errors import ConfigError
from dfs.core.settings import NODE_KEYS, PASSWORD_SOURCES, PLUGIN_KEYS, ClientConf, Conf, NodeConf, settings

COMMON_KEYS = "format realm transport kdf.memory kdf.passes kdf.lanes plugins.allow plugins.block"
CLIENT_KEYS = """
cluster user password_file password_command key_file keyring trust ca client_certificate client_key
geometry.needed geometry.total cipher compressor code placement chunker allow_insecure connect_timeout
request_timeout jobs limit_up limit_down strict progress color
"""
NODE_CONF_KEYS = """
dir name listen port zone certificate private_key client_ca users allow_anonymous heal.conf heal.interval
quota reserve inline_max scrub_days pin_lease max_connections max_connections_per_address
max_connections_per_user store log_level log_format log_file metrics
"""


@pytest.mark.parametrize(("conf_class", "keys"), [(ClientConf, CLIENT_KEYS), (NodeConf, NODE_CONF_KEYS)])
def test_every_key_is_there_under_its_name(conf_class: type[Conf], keys: str) -> None:
    known = settings(conf_class)
    assert list(known) == (COMMON_KEYS + keys).split()
    for key, setting in known.items():
        assert setting.attribute == key.replace(".", "_")
        assert setting.variable in {"", "DFS_" + setting.attribute.upper()}


@pytest.mark.parametrize("conf_class", [ClientConf, NodeConf])
def test_every_default_is_a_value_its_kind_takes(conf_class: type[Conf]) -> None:
    in_files = {"kdf_memory": "64 MiB", "inline_max": "64 KiB", "pin_lease": "24 h"}
    in_files |= {"connect_timeout": "1 s", "request_timeout": "30 s", "heal_interval": "10 min"}
    conf = conf_class()
    for setting in settings(conf_class).values():
        default = getattr(conf, setting.attribute)
        if default is not None:
            assert setting.kind.read(in_files.get(setting.attribute, default)) == default


def test_tables_of_names_fit_the_classes() -> None:
    client, node = ({row.name for row in fields(cls)} for cls in (ClientConf, NodeConf))
    assert set(PASSWORD_SOURCES) <= client
    assert set(PLUGIN_KEYS) <= client | node
    assert set(NODE_KEYS) == {"name", "address", "certificate", "zone", "weight", "transport"}


@pytest.mark.parametrize(
    ("conf_class", "key", "value"),
    [
        (ClientConf, "format", 2),
        (ClientConf, "format", True),
        (ClientConf, "realm", ""),
        (ClientConf, "realm", "a\nb"),
        (ClientConf, "realm", "a" * 4097),
        (ClientConf, "user", "a/b"),
        (ClientConf, "user", 7),
        (ClientConf, "keyring", 1),
        (ClientConf, "trust", "always"),
        (ClientConf, "trust", ["pin"]),
        (ClientConf, "kdf.memory", "63 MiB"),
        (ClientConf, "kdf.memory", "5 GiB"),
        (ClientConf, "kdf.memory", 64),
        (ClientConf, "kdf.passes", 2),
        (ClientConf, "kdf.passes", 3.0),
        (ClientConf, "kdf.lanes", 0),
        (ClientConf, "geometry.needed", 0),
        (ClientConf, "geometry.total", 17),
        (ClientConf, "jobs", -1),
        (ClientConf, "jobs", True),
        (ClientConf, "connect_timeout", 1),
        (ClientConf, "limit_up", 1000),
        (ClientConf, "allow_insecure", "xor"),
        (ClientConf, "allow_insecure", ["xor", 1]),
        (ClientConf, "allow_insecure", [""]),
        (ClientConf, "password_command", "pass show dfs"),
        (ClientConf, "password_command", []),
        (NodeConf, "port", 65536),
        (NodeConf, "port", -1),
        (NodeConf, "port", "7771"),
        (NodeConf, "name", "1st"),
        (NodeConf, "name", "a b"),
        (NodeConf, "scrub_days", 0),
        (NodeConf, "max_connections", limits.CONNECTION_COUNT_MAX + 1),
        (NodeConf, "inline_max", "2 MiB"),
        (NodeConf, "log_level", "loud"),
        (NodeConf, "metrics", "9177"),
        (NodeConf, "users", ""),
    ],
)
def test_refused_value(conf_class: type[Conf], key: str, value: object) -> None:
    with pytest.raises(ConfigError):
        settings(conf_class)[key].kind.read(value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, 1e6, True, "1"])
def test_refused_weight(value: object) -> None:
    with pytest.raises(ConfigError):
        NODE_KEYS["weight"].read(value)


def test_values_of_a_node_section() -> None:
    assert NODE_KEYS["weight"].read(2) == 2.0
    assert NODE_KEYS["certificate"].read("SHA256:" + "aB" * 32) == b"\xab" * 32
    assert NODE_KEYS["address"].read("nas 7771") == "nas:7771"
    for bad in ("aB" * 32, "SHA256:ab", "sha256:" + "ab" * 32, "SHA256:" + "ab" * 33):
        with pytest.raises(ConfigError):
            NODE_KEYS["certificate"].read(bad)


@pytest.mark.parametrize(
    ("key", "text", "raw"),
    [
        ("keyring", "Yes", True),
        ("keyring", "off", False),
        ("keyring", "perhaps", "perhaps"),
        ("jobs", "7", 7),
        ("jobs", "-7", -7),
        ("jobs", "9" * 30, "9" * 30),
        ("allow_insecure", "xor, rot13", ["xor", "rot13"]),
        ("password_command", "pass 'my dfs'", ["pass", "my dfs"]),
        ("realm", "7", "7"),
    ],
)
def test_text_of_a_variable(key: str, text: str, raw: object) -> None:
    assert settings(ClientConf)[key].kind.raw(text) == raw


def test_classic_password_is_that_of_the_user_unless_another_source_is_named() -> None:
    users = (ClassicUser("a", "1"), ClassicUser("b", "2"))
    assert ClientConf(users=users, user="b").password == "2"
    assert ClientConf(users=users, user="c").password is None
    assert ClientConf(users=users, user="a", key_file="key").password is None
