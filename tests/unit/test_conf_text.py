"""Confs as text: every key told, every value with its origin, and TOML that reads back as it was."""

from pathlib import Path

import pytest
from attrs import evolve, fields_dict
from hypothesis import given, strategies as st

from dfs.core.conf import apply_environment, parse_client, parse_node
from dfs.core.conf_text import ABOUT, ABOUT_NODE, key_texts, kind_of, toml_of, value_texts
from dfs.core.settings import NODE_KEYS, ClientConf, Conf, NodeConf, settings
from dfs.core.units import exact_duration, exact_rate, parse_duration, parse_rate, parse_size, spaced_size

ROOT = Path(__file__).parents[2]
CLASSIC = b"Server A nas:1\nServer B [::1]:2\nUsername: odile\nPassword: white rabbit\n"


def test_every_key_is_told_and_no_other() -> None:
    assert set(ABOUT) == {*settings(ClientConf), *settings(NodeConf)}
    assert set(ABOUT_NODE) == set(NODE_KEYS)
    for text in (*ABOUT.values(), *ABOUT_NODE.values()):
        assert text[0].isupper()
        assert len(text) <= 100


@pytest.mark.parametrize("conf_class", [ClientConf, NodeConf])
def test_every_key_has_a_variable(conf_class: type[Conf]) -> None:
    without = [
        row.key for row in key_texts(conf_class) if not row.variable and not row.key.startswith("node.")
    ]
    assert without == ["format"]


@pytest.mark.parametrize(
    ("name", "parse"), [("client.toml", parse_client), ("node.toml", parse_node)], ids=["client", "node"]
)
def test_the_examples_name_every_key(name: str, parse: object) -> None:
    text = (ROOT / "conf" / name).read_text()
    conf_class = ClientConf if name == "client.toml" else NodeConf
    for row in key_texts(conf_class):
        assert f"{row.key.rpartition('.')[2]} = " in text, row.key


@pytest.mark.parametrize("conf_class", [ClientConf, NodeConf])
def test_defaults_as_shown_are_read_back_as_defaults(conf_class: type[Conf]) -> None:
    import tomllib

    for row in key_texts(conf_class):
        setting = settings(conf_class).get(row.key)
        if setting is not None and row.default:
            plain = tomllib.loads(f"x = {row.default}")["x"]
            assert setting.kind.read(plain) == fields_dict(conf_class)[setting.attribute].default


def test_values_say_who_set_them_and_hide_secrets() -> None:
    conf = apply_environment(
        parse_client(CLASSIC, "c.conf"), {"DFS_JOBS": "7", "DFS_PLUGIN_FOX_TOKEN": "hunter2"}
    )
    rows = {row.key: row for row in value_texts(conf)}
    assert (rows["jobs"].value, rows["jobs"].origin) == (7, "DFS_JOBS")
    assert (rows["user"].text, rows["user"].origin) == ('"odile"', "c.conf:3")
    assert (rows["node.B.address"].text, rows["node.B.address"].origin) == ('"[::1]:2"', "c.conf:2")
    assert rows["connect_timeout"].text == '"1 s"'
    assert (rows["quota"].text if "quota" in rows else rows["limit_up"].text) == "not set"
    shown = " ".join(f"{row.text} {row.value}" for row in rows.values())
    assert "white rabbit" not in shown
    assert "hunter2" not in shown
    assert rows["password"].text == rows["plugin.fox.token"].text == "***"


def test_a_classic_conf_reads_back_from_toml() -> None:
    conf = parse_client(CLASSIC, "c.conf")
    again = parse_client(toml_of(conf, ["A remark."]).encode(), "c.toml")
    assert (again.nodes, again.user) == (conf.nodes, conf.user)
    assert "rabbit" not in toml_of(conf)


def test_every_key_is_written_so_that_it_reads_back() -> None:
    raw = (ROOT / "conf/client.toml").read_bytes()
    full = raw.replace(b'trust = "first-use"', b'trust = "pin"').replace(b'"aes-gcm"', b'"xor"')
    full = (
        full.replace(b"# limit_up", b"limit_up")
        .replace(b"# strict", b"strict")
        .replace(b"weight = 1.0", b"weight = 2.5")
    )
    full = full.replace(b"allow_insecure = []", b'allow_insecure = ["xor"]').replace(
        b"needed = 2", b"needed = 1"
    )
    full += b'certificate = "SHA256:%s"\n[plugin.zstd]\nlevel = 3\n' % (b"ab" * 32)
    conf = parse_client(full, "c.toml")
    again = parse_client(toml_of(conf).encode(), "c.toml")
    assert again == evolve(conf, origins=again.origins)
    node = parse_node((ROOT / "conf/node.toml").read_bytes().replace(b"# quota", b"quota"), "n.toml")
    again_node = parse_node(toml_of(node).encode(), "n.toml")
    assert again_node == evolve(node, origins=again_node.origins)
    assert again_node.quota == 50 << 30


@given(st.integers(0, 10**18 - 1))
def test_sizes_read_back(size: int) -> None:
    assert parse_size(spaced_size(size)) == size


@given(st.integers(1, 10**18 - 1))
def test_rates_read_back(rate: int) -> None:
    assert parse_rate(exact_rate(rate)) == rate


@given(st.integers(1, 366 * 86_400_000))
def test_durations_read_back(milliseconds: int) -> None:
    assert parse_duration(exact_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'format = 1\ndir = "N"\n', NodeConf),
        (b'# x\n\nformat=1\n[[node]]\nname = "dir"\ndir = 1\n', ClientConf),
        (CLASSIC, ClientConf),
        (b"odile ed25519:x\n", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_what_a_file_means_to_be(raw: bytes, kind: object) -> None:
    assert kind_of(raw) is kind
