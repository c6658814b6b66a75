"""Conf files of both grammars, and environment and flags over them."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dfs.core import limits
from dfs.core.conf import (
    ClassicUser,
    ClientConf,
    NodeAddress,
    NodeConf,
    UserRecord,
    apply_flags,
    parse_client,
    parse_node,
    parse_users,
)
from dfs.core.errors import ConfigError, UnknownKeyError

EXAMPLES = Path(__file__).parents[2] / "conf"

CLIENT = """\
# a comment
format = 1
cluster = "home"
realm = "our dfs"
user = "odile"
password_command = ["pass", "show", "dfs"]
trust = "pin"
ca = "ca.pem"
client_certificate = "client.pem"
client_key = "client-key.pem"
transport = "tcp"
cipher = "chacha20-poly1305"
compressor = "none"
code = "split"
placement = "ring"
chunker = "fastcdc"
allow_insecure = [
  "xor",
]
connect_timeout = "250 ms"
request_timeout = "1 min"
jobs = 3
limit_up = "10 MiB/s"
limit_down = "1 GiB/s"
strict = false
progress = "off"
color = "on"
kdf = { memory = "128 MiB", passes = 4, lanes = 2 }
[geometry]
needed = 2
total = 3
[plugins]
allow = ["dfs-foxglove"]
block = ["dfs-thistle"]
[plugin.zstd]
level = 7
long = true
[plugin."ring"]
hash = "content"
ratio = 0.5
[[node]]
name = "dfs1"
address = "127.0.0.1:7771"
certificate = "SHA256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
zone = "attic"
weight = 2
transport = "tls"
[[ node ]]
name = "dfs2"
address = "[::1]:7772"
"""
NODE = """\
format = 1
dir = "DFS1"
name = "attic"
listen = "127.0.0.1"
port = 0
zone = "home"
realm = "r"
transport = "tcp"
certificate = "node.pem"
private_key = "key.pem"
client_ca = "ca.pem"
users = "users"
allow_anonymous = true
quota = "50 GiB"
reserve = "1 GiB"
inline_max = "4 KiB"
scrub_days = 7
pin_lease = "1 h"
max_connections = 16
store = "memory"
log_level = "debug"
log_format = "json"
metrics = "127.0.0.1:9177"
heal.conf = "healer.toml"
kdf.passes = 5
plugins.allow = ["a"]
plugins.block = ["b"]
plugin.volumes.size = "1 GiB"
"""
SMALL = 'format = 1\n[[node]]\nname = "a"\naddress = "a:1"\n'


def client(text: str, file: str = "c.toml") -> ClientConf:
    return parse_client(text.encode(), file)


def faults_of(text: str | bytes, *, node: bool = False) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        (parse_node if node else parse_client)(raw, "c.toml")
    return caught.value.what.split("\n")


def test_every_client_key() -> None:
    conf = client(CLIENT)
    origins = conf.origins
    assert conf == ClientConf(
        file="c.toml",
        origins=origins,
        cluster="home",
        realm="our dfs",
        user="odile",
        password_command=("pass", "show", "dfs"),
        trust="pin",
        ca="ca.pem",
        client_certificate="client.pem",
        client_key="client-key.pem",
        transport="tcp",
        cipher="chacha20-poly1305",
        compressor="none",
        code="split",
        placement="ring",
        chunker="fastcdc",
        allow_insecure=("xor",),
        connect_timeout=0.25,
        request_timeout=60.0,
        jobs=3,
        limit_up=10 << 20,
        limit_down=1 << 30,
        strict=False,
        progress="off",
        color="on",
        kdf_memory=128 << 20,
        kdf_passes=4,
        kdf_lanes=2,
        geometry_needed=2,
        geometry_total=3,
        plugins_allow=("dfs-foxglove",),
        plugins_block=("dfs-thistle",),
        plugins={"zstd": {"level": "7", "long": "true"}, "ring": {"hash": "content", "ratio": "0.5"}},
        nodes=(
            NodeAddress("dfs1", "127.0.0.1:7771", bytes(range(32)), "attic", 2.0, "tls"),
            NodeAddress("dfs2", "[::1]:7772"),
        ),
    )


def test_origins_are_the_lines_of_the_keys() -> None:
    origins = client(CLIENT).origins
    lines = CLIENT.split("\n")
    assert origins["format"] == "c.toml:2"
    for key, origin in origins.items():
        written = lines[int(origin.rpartition(":")[2]) - 1]
        if key.startswith("node."):
            assert "node" in written
        else:
            assert written.startswith((key.rpartition(".")[2] + " =", "kdf = {"))


def test_every_node_key() -> None:
    conf = parse_node(NODE.encode(), "n.toml")
    assert conf == NodeConf(
        file="n.toml",
        origins=conf.origins,
        dir="DFS1",
        name="attic",
        listen="127.0.0.1",
        port=0,
        zone="home",
        realm="r",
        transport="tcp",
        certificate="node.pem",
        private_key="key.pem",
        client_ca="ca.pem",
        users="users",
        allow_anonymous=True,
        quota=50 << 30,
        reserve=1 << 30,
        inline_max=4096,
        scrub_days=7,
        pin_lease=3600.0,
        max_connections=16,
        store="memory",
        log_level="debug",
        log_format="json",
        metrics="127.0.0.1:9177",
        heal_conf="healer.toml",
        kdf_passes=5,
        plugins_allow=("a",),
        plugins_block=("b",),
        plugins={"volumes": {"size": "1 GiB"}},
    )
    assert conf.origins["heal.conf"] == "n.toml:24"


def test_defaults_of_the_specification() -> None:
    conf = client(SMALL)
    assert (conf.cluster, conf.realm, conf.user, conf.trust) == ("default", "dfs", None, "first-use")
    assert (conf.kdf_memory, conf.kdf_passes, conf.kdf_lanes) == (64 << 20, 3, 4)
    assert (conf.transport, conf.cipher, conf.compressor) == ("tls", "aes-gcm", "zstd")
    assert (conf.code, conf.placement, conf.chunker) == ("reed-solomon", "rendezvous", "fixed")
    assert (conf.connect_timeout, conf.request_timeout, conf.jobs, conf.limit_up) == (1.0, 30.0, 0, None)
    node = parse_node(b'format = 1\ndir = "x"', "n.toml")
    assert (node.name, node.listen, node.port, node.zone, node.store) == (None, "", 7771, "", "volumes")
    assert (node.inline_max, node.scrub_days, node.pin_lease, node.max_connections) == (
        65536,
        30,
        86400.0,
        4096,
    )
    assert (node.quota, node.reserve, node.metrics, node.heal_conf, node.log_level) == (
        *[None] * 4,
        "warning",
    )


def test_all_faults_of_a_file_at_once() -> None:
    text = """\
cypher = "aes-gcm"
password = "hunter2"
trust = "hunter2"
jobs = -1
[geometry]
needed = 3
total = 2
cipher = "xor"
[kdf]
memory = 64
[[node]]
name = "a"
addrezz = "a:1"
[[node]]
name = "A"
address = "b:70000"
[[node]]
name = "a"
address = "c:1"
"""
    assert faults_of(text) == [
        "c.toml:1: key 'cypher' is not known; did you mean 'cipher'?",
        "c.toml:1: key 'format' is required: format = 1",
        "c.toml:2: key 'password': is refused here, use password_file, password_command or key_file",
        "c.toml:3: key 'trust': expected one of 'pin', 'first-use'",
        "c.toml:4: key 'jobs': out of range, 0 to 1024",
        "c.toml:6: key 'geometry.needed': is larger than geometry.total",
        "c.toml:8: key 'geometry.cipher' is not known; 'cipher' belongs above the first section",
        "c.toml:10: key 'kdf.memory': expected a size such as '4 MiB' (B, KiB, MiB, GiB, TiB, PiB)",
        "c.toml:11: key 'node.address' is required",
        "c.toml:13: key 'node.addrezz' is not known; did you mean 'node.address'?",
        "c.toml:16: key 'node.address': port 70000 out of range",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("geometri = 1\n" + SMALL, "c.toml:1: key 'geometri' is not known; did you mean 'geometry'?"),
        (SMALL + "[foo]\nx = 1", "c.toml:5: key 'foo' is not known"),
        (SMALL + '["a\\u001bb"]', "c.toml:1: key 'a\\x1bb' is not known"),
        ("geometry = 2\n" + SMALL, "c.toml:1: key 'geometry': expected a section [geometry]"),
        ("plugin = 2\n" + SMALL, "c.toml:1: key 'plugin': expected sections such as [plugin.zstd]"),
        (SMALL + "[plugin]\nzstd = 2", "c.toml:6: key 'plugin.zstd': expected a section [plugin.zstd]"),
        (SMALL + "[cipher]", "c.toml:5: key 'cipher': expected text in quotes"),
        (SMALL + "[[node]]\nname='A'\naddress='b:1'", "c.toml:6: key 'node.name': is given twice"),
        (SMALL + "[[node]]\nname='b'\naddress='A:1'", "c.toml:7: key 'node.address': is given twice"),
        ("node = 3\nformat = 1", "c.toml:1: at least one [[node]] with name and address is required"),
        ("format = 1\nnode = []", "c.toml:2: at least one [[node]] with name and address is required"),
        ("format = 1", "c.toml:1: at least one [[node]] with name and address is required"),
    ],
)
def test_fault_of_a_client_conf(text: str, fault: str) -> None:
    assert faults_of(text) == [fault]


def test_at_most_one_password_source() -> None:
    sources = "password_file, password_command, key_file, keyring"
    text = "key_file = 'a'\nkeyring = true\n" + SMALL
    assert faults_of(text) == [f"c.toml:2: key 'keyring': only one of {sources} may be given"]
    assert client("key_file = 'a'\nkeyring = false\n" + SMALL).key_file == "a"


def test_too_many_nodes() -> None:
    nodes = "\n".join(f"[[node]]\nname = 'a{i}'\naddress = 'a:{i + 1}'" for i in range(1025))
    assert faults_of("format = 1\n" + nodes) == ["c.toml:3074: key 'node': more than 1024 nodes"]


def test_faulty_plugin_values() -> None:
    expected = "expected a text, a number of at most 63 bits, true or false"
    huge = "0x" + "f" * 4000  # tomllib reads it, but Python refuses to write it as decimal
    assert faults_of(SMALL + f"[plugin.zstd]\na = []\nb = {huge}\nc = 1979-05-27") == [
        f"c.toml:{line}: key 'plugin.zstd.{key}': {expected}" for line, key in [(6, "a"), (7, "b"), (8, "c")]
    ]


def test_unknown_keys_alone_are_an_error_of_their_own() -> None:
    with pytest.raises(UnknownKeyError) as caught:
        client("cypher = 1\n" + SMALL)
    assert (caught.value.file, caught.value.line_number, caught.value.code) == ("c.toml", 1, "DFS-E201")
    with pytest.raises(ConfigError) as mixed:
        client("cypher = 1\njobs = -1\n" + SMALL)
    assert mixed.value.code == "DFS-E202"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"format = 1\ncipher = hunter2", "c.toml:2: not valid TOML: Invalid value"),
        (b"format = 1\nformat = 1\n", "c.toml:2: not valid TOML: Cannot overwrite a value"),
        (b'format = 1\nuser = "hunter2', "c.toml:2: not valid TOML: Unterminated string"),
        (b"format = 1\n\nuser = '\xff'", "c.toml:3: the line is not UTF-8"),
        (b"a" + b".a" * 2048, "c.toml:1: the line is longer than 4096 bytes"),
        (b"x = " + b"[" * 4000, "c.toml:1: not valid TOML: nested too deeply"),
        (b"#" * (limits.CONF_SIZE_MAX + 1), "c.toml:1: the file is larger than 1 MiB"),
    ],
)
def test_no_toml(raw: bytes, fault: str) -> None:
    assert faults_of(raw) == [fault]


def test_node_conf_wants_a_directory_and_knows_no_nodes() -> None:
    assert faults_of('[[node]]\nname = "a"', node=True) == [
        "c.toml:1: key 'node' is not known",
        "c.toml:1: key 'format' is required: format = 1",
        "c.toml:1: key 'dir' is required",
    ]


# --- Which grammar ----------------------------------------------------------------------------------------


def test_the_first_significant_line_decides() -> None:
    assert client("\ufeff# x\n\n  format=1 # yes\n" + SMALL[11:], "dfc.conf").nodes[0].address == "a:1"
    with pytest.raises(ConfigError, match="not valid TOML"):
        client("format = 1\nServer DFS1 127.0.0.1:7771", "dfc.conf")
    with pytest.raises(ConfigError, match="not valid TOML"):
        client("Server DFS1 127.0.0.1:7771", "dfc.TOML")
    with pytest.raises(ConfigError, match=r"dfc\.conf:1: not understood: 'cipher'"):
        client('cipher = "xor"\nformat = 1\na:1', "dfc.conf")
    with pytest.raises(ConfigError, match="expected 1; a file of another format"):
        client("format = 2\n" + SMALL[11:], "dfc.conf")


def test_classic_conf() -> None:
    conf = client("Server DFS1 127.0.0.1:7771\nUser Alice\nPass pw\nUser Bob\nPass wp", "dfc.conf")
    assert conf == ClientConf(
        file="dfc.conf",
        nodes=(NodeAddress("DFS1", "127.0.0.1:7771"),),
        users=(ClassicUser("Alice", "pw"), ClassicUser("Bob", "wp")),
        user="Alice",
        origins={"node.DFS1": "dfc.conf:1", "user": "dfc.conf:2"},
    )
    assert conf.password == "pw"
    assert apply_flags(conf, {"user": "Bob"}).password == "wp"
    assert client("a:1", "dfc.conf").user is None


def test_a_classic_node_conf_is_a_users_file() -> None:
    conf = parse_node(b"Alice pw", "dfs.conf")
    assert (conf.users, conf.origins, len(conf.warnings)) == ("dfs.conf", {"users": "dfs.conf:1"}, 1)
    assert parse_users(b"Alice pw", "dfs.conf").entries == (UserRecord("Alice", password="pw"),)
    with pytest.raises(ConfigError, match=r"^n.toml:1: a TOML conf, expected a users file$"):
        parse_users(NODE.encode(), "n.toml")


def test_examples() -> None:
    confs = {path.name: path.read_bytes() for path in EXAMPLES.iterdir()}
    alice, bob = (parse_client(confs.pop(name), name) for name in ("dfc.conf", "dfc1.conf"))
    assert alice.nodes == bob.nodes
    assert [node.address for node in alice.nodes] == [f"127.0.0.1:777{place}" for place in (1, 2, 3, 4)]
    users = parse_users(confs.pop("dfs.conf"), "dfs.conf")
    assert [(entry.name, entry.password) for entry in users.entries] == [
        (conf.user, conf.password) for conf in (alice, bob)
    ]
    modern = parse_client(confs.pop("client.toml"), "client.toml")
    assert (modern.nodes, modern.geometry_needed, modern.geometry_total) == (alice.nodes, 2, 4)
    assert parse_node(confs.pop("node.toml"), "node.toml").dir == "DFS1"
    assert not confs


# --- Any input --------------------------------------------------------------------------------------------

PIECES = (
    *(
        "format = 1\n",
        "[[node]]\n",
        'name = "a"\n',
        'address = "a:1"\n',
        "[plugin.zstd]\n",
        "[geometry]\n",
        "user",
    ),
    *(
        "needed = 2\n",
        "total = 1\n",
        "node",
        "plugin",
        "=",
        ".",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "\n",
        "\0",
        "é",
        " 7 ",
    ),
    *(
        '"x[y"',
        '"a.b" = 1\n',
        "[x]\n",
        "1979-05-27",
        "true",
        "0x" + "f" * 99,
        "#",
        ",",
        "\r\n",
        "\\u0000",
        "dir",
    ),
)
CONFS = st.one_of(
    st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=25).map("".join).map(str.encode)
)


@given(raw=CONFS, file=st.sampled_from(["c.toml", "c.conf"]))
def test_any_bytes_give_a_conf_or_faults(raw: bytes, file: str) -> None:
    for parse in (parse_client, parse_node, parse_users):
        try:
            parse(raw, file)
        except ConfigError as error:
            fault = error
        else:
            continue
        assert fault.file == file
        assert all(line.startswith(file + ":") for line in fault.what.split("\n"))


def test_a_classic_conf_needs_no_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomllib", None)
    assert client("a:1", "dfc.conf").nodes
    with pytest.raises(ImportError):
        client(SMALL)
