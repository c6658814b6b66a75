"""The classic grammar, row by row, and that no input ends in anything but a conf or its faults."""

from base64 import b64encode
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, strategies as st

from dfs.core import limits
from dfs.core.classic import (
    FAULT_COUNT_MAX,
    ClassicUser,
    NodeAddress,
    ServeForm,
    UserRecord,
    read_client,
    read_users,
    serve_form,
    split_words,
)
from dfs.core.errors import ConfigError

KEY = bytes(range(32))
KEY_TEXT = "ed25519:" + b64encode(KEY).decode()
MISSPELT = b"Pasword"  # codespell:ignore pasword
NODE = b"Server DFS1 127.0.0.1:7771\n"

# The table of the specification: one file with all its node lines, in its order, and every kind of line end.
NODES = (
    b"\xef\xbb\xbfSERVER Attic 192.0.2.11:7001\n"
    b"server cellar=192.0.2.12:7002\r\n"
    b"Server: porch 192.0.2.13 7003\r"
    b"shed [2001:db8::5]:7004 \t\n"
    b"[2001:db8::6]:7005\n"
    b"nas.example.org 7006\n"
    b"Attic 192.0.2.14:7007"
)


def faults_of(raw: bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_client(raw, "dfc.conf")
    return caught.value.what.split("\n")


def user_faults_of(raw: bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_users(raw, "dfs.conf")
    return caught.value.what.split("\n")


def test_table_of_nodes() -> None:
    conf = read_client(NODES, "dfc.conf")
    assert conf.nodes == (
        NodeAddress("Attic", "192.0.2.11:7001"),
        NodeAddress("cellar", "192.0.2.12:7002"),
        NodeAddress("porch", "192.0.2.13:7003"),
        NodeAddress("shed", "[2001:db8::5]:7004"),
        NodeAddress("DFS5", "[2001:db8::6]:7005"),
        NodeAddress("DFS6", "nas.example.org:7006"),
        NodeAddress("DFS7", "192.0.2.14:7007"),
    )
    assert conf.warnings == ("dfc.conf: line 7: server name Attic used twice, called DFS7",)
    assert conf.node_lines[6] == "dfc.conf:7"


@pytest.mark.parametrize(
    ("lines", "user", "password"),
    [
        (b"User:Ines Pass = rain # not a comment; =yes", "Ines", "rain # not a comment; =yes"),
        (b"Username: Jo Ann\npasswd two  blanks \t", "Jo Ann", "two  blanks"),
        (b"username Alice\npassword=pw", "Alice", "pw"),
        (b"USER = Alice\nPASS : 'quoted'", "Alice", "'quoted'"),
        (b"Username=Alice Password=a b", "Alice", "a b"),
        (b"User = Pass pw\nPass = = x", "Pass pw", "= x"),
        ("Username: Zoë\rPassword: Fluß\u2028Ufer\f".encode(), "Zoë", "Fluß\u2028Ufer\f"),
        (b"Username: Server\nPassword: [section]", "Server", "[section]"),
    ],
)
def test_users_of_a_client(lines: bytes, user: str, password: str) -> None:
    for raw in (lines + b"\n" + NODE, NODE + lines, NODE + lines.replace(b"\n", b"\n9.9.9.9:9\n")):
        assert read_client(raw, "dfc.conf").users == (ClassicUser(user, password),)


def test_several_users_in_their_order_and_none_at_all() -> None:
    conf = read_client(NODE + b"User a\nPass 1\nuser A\npass 2", "dfc.conf")
    assert conf.users == (ClassicUser("a", "1"), ClassicUser("A", "2"))
    assert conf.user_lines == ("dfc.conf:2", "dfc.conf:4")
    assert read_client(NODE, "dfc.conf").users == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Server Attic 192.0.2.11:70000", "port 70000 out of range"),
        (b"192.0.2.11:0", "port 0 out of range"),
        (b"Server Attic 192.0.2.11", "expected host:port, got '192.0.2.11'"),
        (b"Server Attic 2001:db8::5:7", "expected host:port, got '2001:db8::5:7', IPv6 needs brackets"),
        (b"Server 1st 192.0.2.11:7001", "expected host:port, got '1st 192.0.2.11:7001'"),
        (b"Server Attic", "server line without host:port"),
        (b"Server", "server line without host:port"),
        (b"2001:db8::5:7004", "not understood, IPv6 needs brackets"),
        (b"[nas]:7004", "'[nas]' is no IPv6 address"),
        (MISSPELT + b" hunter2", f"not understood: '{MISSPELT.decode()}', did you mean 'Password'?"),
        (MISSPELT + b": hunter2", f"not understood: '{MISSPELT.decode()}:', did you mean 'Password'?"),
        (MISSPELT + b"=hunter2", f"not understood: '{MISSPELT.decode()}=', did you mean 'Password'?"),
        (b"colour: green", "not understood: 'colour:'"),
        (b"hunter2", "not understood"),
        (b"!hunter2 x", "not understood"),
        (b"Password:", "'Password' without a value"),
        (b"Password: hunter2", "password without user"),
        (b"User a Pass hunter2\nPass hunter3", "password without user: a has one already"),
        (b"User a/b\nPass hunter2", "bad user name"),
        (b"User a Pass 1\nUser a Pass hunter2", "user a is given twice"),
        (b"User a\nServer: b 192.0.2.1:1", "user a has no password"),
        (b"DFS9 127.0.0.1:7771", "address 127.0.0.1:7771 is given twice, first in line 1"),
        (b"\xff", "the line is not UTF-8"),
        (b"Password: a\0b", "the line has a NUL byte"),
        (b"Password: " + b"a" * limits.CONF_LINE_SIZE_MAX, "the line is longer than 4096 bytes"),
    ],
)
def test_faulty_line(line: bytes, reason: str) -> None:
    faults = faults_of(NODE + line)
    number = 3 if reason in {"user a is given twice", "password without user: a has one already"} else 2
    assert faults == [f"dfc.conf:{number}: {reason}"]
    assert "hunter" not in reason


def test_all_faults_at_once_in_the_order_of_lines() -> None:
    faults = faults_of(b"User a\n" + NODE + b"Server\n\xff\n")
    assert faults == [
        "dfc.conf:1: user a has no password",
        "dfc.conf:3: server line without host:port",
        "dfc.conf:4: the line is not UTF-8",
    ]


def test_faults_beyond_what_anybody_reads_are_counted() -> None:
    faults = faults_of(b"\xff\n" * (FAULT_COUNT_MAX + 7))
    assert len(faults) == FAULT_COUNT_MAX + 1
    assert faults[-1] == "dfc.conf: and 7 more faults"


def test_comments_headings_and_empty_lines_say_nothing() -> None:
    text = b"# a\n ; b\n// c\n/* d */\n/**/\n[ node list_1-2 ]\n\t\n" + NODE + b"\n"
    assert len(read_client(text, "dfc.conf").nodes) == 1
    assert faults_of(NODE + b"/* open\n/*/") == ["dfc.conf:2: not understood", "dfc.conf:3: not understood"]


def test_file_as_a_whole() -> None:
    assert faults_of(b"") == ["dfc.conf:1: no node: add a line such as 'Server DFS1 127.0.0.1:7771'"]
    assert faults_of("Server DFS1 127.0.0.1:7771".encode("utf-16")) == [
        "dfc.conf:1: the file is UTF-16, save it as UTF-8"
    ]
    large = b"# comment\n" * (limits.CONF_SIZE_MAX // 10 + 1)
    assert faults_of(large) == ["dfc.conf:1: the file is larger than 1 MiB"]


def test_digits_behind_a_name_are_a_port() -> None:
    conf = read_client(b"server attic 7001\ncellar 7002\n", "dfc.conf")
    assert conf.nodes == (NodeAddress("DFS1", "attic:7001"), NodeAddress("DFS2", "cellar:7002"))


def test_a_place_name_that_is_taken() -> None:
    conf = read_client(b"dfs2 a:1\nb:2\nDFS2 c:3\n", "dfc.conf")
    assert [node.name for node in conf.nodes] == ["dfs2", "DFS2-2", "DFS3"]
    assert len(conf.warnings) == 2


def test_too_many_nodes() -> None:
    lines = [f"10.0.{index // 256}.{index % 256}:7771" for index in range(limits.NODE_COUNT_MAX + 1)]
    assert faults_of("\n".join(lines).encode()) == ["dfc.conf:1025: more than 1024 nodes"]
    assert len(read_client("\n".join(lines[:-1]).encode(), "dfc.conf").nodes) == limits.NODE_COUNT_MAX


# --- The users file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "name", "password"),
    [
        ("ines\tgrey = sea", "ines", "grey = sea"),
        ("olga:s3;a#b", "olga", "s3;a#b"),
        ("tom: x y", "tom", "x y"),
        ("olga = lamp", "olga", "lamp"),
        ("tom =pw", "tom", "=pw"),
        ("User tom\n# x\nPass a b", "tom", "a b"),
        ("User:Ines Pass = rain", "Ines", "rain"),
        ("olga=lamp:x", "olga", "lamp:x"),
        ("Username: user\nPassword: pass", "user", "pass"),
        ("日本 pw", "日本", "pw"),
    ],
)
def test_users_file_line(lines: str, name: str, password: str) -> None:
    users = read_users(lines.encode(), "dfs.conf")
    assert users.entries == (UserRecord(name, password=password),)
    assert users.warnings == (
        "dfs.conf: 1 password in clear text; to convert: dfs user convert --users dfs.conf",
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("olga=la hunter", "ambiguous, use Username:/Password: lines"),
        ("olga:la hunter", "ambiguous, use Username:/Password: lines"),
        ("user moon", "user moon has no password"),
        ("a/b hunter", "bad user name"),
        (".. hunter", "bad user name"),
        (":hunter", "bad user name"),
        ("a\x7fb hunter", "bad user name"),
        ("é" * 128 + " hunter", "bad user name"),
        ("solo", 'expected "user password"'),
        ("olga:", 'expected "user password"'),
        ("Server hunter", "'Server' is a word of this file, use Username:/Password: lines"),
        ("pass hunter", "password without user"),
        ("a ed25519:AAAA", "bad ed25519 key: expected 32 bytes in base64"),
        ("a ed25519:!", "bad ed25519 key: expected 32 bytes in base64"),
        ("a ed25519:", "bad ed25519 key: expected 32 bytes in base64"),
        (f"a {KEY_TEXT} quota=5", "quota: expected a size such as '4 MiB' (B, KiB, MiB, GiB, TiB, PiB)"),
        (f"a {KEY_TEXT} quota=5GiB quota=6GiB", "quota is given twice"),
        (f"a {KEY_TEXT} role=king", "after a key come quota=SIZE and role=user or role=healer, no more"),
        (f"a {KEY_TEXT} hunter", "after a key come quota=SIZE and role=user or role=healer, no more"),
    ],
)
def test_faulty_users_file_line(lines: str, reason: str) -> None:
    faults = user_faults_of(lines.encode())
    assert set(faults) == {f"dfs.conf:1: {reason}"}
    assert "hunter" not in faults[0]


def test_user_given_twice_however_written() -> None:
    assert user_faults_of(b"olga a\nUser olga Pass b") == ["dfs.conf:2: user olga is given twice"]
    assert len(read_users(b"olga a\nOlga b", "dfs.conf").entries) == 2


def test_count_and_server_lines_are_ignored() -> None:
    users = read_users(b"2\nserver DFS1 127.0.0.1:7771\nServer: 127.0.0.1 7772\nolga:a\n", "dfs.conf")
    assert [entry.name for entry in users.entries] == ["olga"]
    assert users.warnings[0] == "dfs.conf: line 1: a number alone is ignored"
    assert read_users(b"", "dfs.conf").entries == ()


def test_public_keys() -> None:
    text = f"a {KEY_TEXT}\nb:{KEY_TEXT}\nUsername: c d\nPassword: {KEY_TEXT} role=healer  quota=50GiB"
    users = read_users(text.encode(), "dfs.conf")
    assert users.entries == (
        UserRecord("a", public_key=KEY),
        UserRecord("b", public_key=KEY),
        UserRecord("c d", public_key=KEY, quota=50 << 30, role="healer"),
    )
    assert users.warnings == ()


def test_no_password_in_a_representation() -> None:
    client = read_client(NODE + b"User a Pass hunter2", "dfc.conf")
    assert "hunter2" not in repr(client)
    assert "hunter2" not in repr(read_users(b"a hunter2", "dfs.conf"))


# --- The prompt and the start-up forms --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        (" \t \r\n", []),
        ("PUT f.txt\tsub\n", ["PUT", "f.txt", "sub"]),
        ("put 'a b' \"c d\"", ["put", "a b", "c d"]),
        (r'put "a \"b\" \\ \n"', ["put", r'a "b" \ \n']),
        (r"put 'a \' b", ["put", "a \\", "b"]),
        (r"put a\ b", ["put", "a\\", "b"]),
        ("put a'b 'c\" d\"", ["put", "ab c d"]),
        ("put ''", ["put", ""]),
        ("put a\u00a0b", ["put", "a\u00a0b"]),
    ],
)
def test_words_of_a_line(line: str, words: list[str]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize("line", ["put 'a", 'put "a', "put don't", '"\\', '"\\"'])
def test_open_quote(line: str) -> None:
    with pytest.raises(ConfigError, match="quote names with blanks"):
        split_words(line)


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("DFS DFS1 7771", ServeForm("DFS/DFS1", 7771)),
        ("DFS/ DFS1/ 7771", ServeForm("DFS/DFS1", 7771)),
        ("/DFS DFS1 7771", ServeForm("DFS/DFS1", 7771)),
        ("DFS1 7771", ServeForm("DFS1", 7771)),
        ("DFS1/ 7771", ServeForm("DFS1", 7771)),
        ("./dfs1 7771", ServeForm("dfs1", 7771)),
        ("/DFS1 10001", ServeForm("DFS1", 10001)),
        ("//DFS1/ 10001", ServeForm("DFS1", 10001)),
        ("/srv/x/dfs1 10001", ServeForm("/srv/x/dfs1", 10001)),
        ("DFS1 10001 dfs.conf", ServeForm("DFS1", 10001, "dfs.conf")),
        ("/DFS1 10001 ./x/dfs.conf", ServeForm("DFS1", 10001, "./x/dfs.conf")),
        ("1 8011", ServeForm("DFS1", 8011)),
        ("123 8011 dfs.conf", ServeForm("DFS123", 8011, "dfs.conf")),
        (". 7771", ServeForm(".", 7771)),
        ("DFS1 65535", ServeForm("DFS1", 65535)),
    ],
)
def test_start_up_form(words: str, form: ServeForm) -> None:
    assert serve_form(words.split()) == form


@pytest.mark.parametrize(
    "words",
    [
        "10001",
        "127.0.0.1 10001",
        "::1 10001",
        "[::1] 10001",
        "localhost 10001",
        "8011 8012",
        "DFS1 0",
        "DFS1 65536",
        "DFS1 -1",
        "DFS1 +1",
        "DFS1 99999 dfs.conf",
        "DFS1 " + "9" * 5000,
        "DFS DFS1 70000",
        "DFS / 7771",
        "/ 7771",
        "/.. 7771",
    ],
)
def test_refused_start_up_form(words: str) -> None:
    with pytest.raises(ConfigError, match="usage: dfs serve"):
        serve_form(words.split())


@pytest.mark.parametrize(
    "words", ["", "DFS1", "DFS1 abc", "put f.txt sub", "a b c d", "DFS DFS1 7771 dfs.conf"]
)
def test_no_start_up_form(words: str) -> None:
    assert serve_form(words.split()) is None


# --- Any input --------------------------------------------------------------------------------------------

PIECES = (
    *(
        "user",
        "Username",
        "pass",
        "Password",
        "server",
        "Attic",
        "192.0.2.1",
        "[::1]",
        "7001",
        "ed25519:",
        "quota=1B",
    ),
    *(
        ":",
        "=",
        " ",
        "\t",
        "\n",
        "\r",
        "#",
        "/*",
        "*/",
        "[",
        "]",
        "\0",
        "\x0c",
        "\u2028",
        "é",
        "hunter2",
        "/",
        "..",
    ),
)
CONFS = st.one_of(
    st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map("".join).map(str.encode)
)


T = TypeVar("T")


def outcome_of(read: Callable[[], T]) -> T | ConfigError:
    try:
        return read()
    except ConfigError as error:
        return error


@given(CONFS)
def test_any_bytes_give_a_client_conf_or_faults(raw: bytes) -> None:
    conf = outcome_of(lambda: read_client(raw, "dfc.conf"))
    if isinstance(conf, ConfigError):
        assert all(line.startswith("dfc.conf:") for line in conf.what.split("\n"))
    else:
        assert conf.nodes
        assert len({node.name.lower() for node in conf.nodes}) == len(conf.nodes)
        assert len({node.address.lower() for node in conf.nodes}) == len(conf.nodes)


@given(CONFS)
def test_any_bytes_give_users_or_faults(raw: bytes) -> None:
    users = outcome_of(lambda: read_users(raw, "dfs.conf"))
    if isinstance(users, ConfigError):
        assert all(line.startswith("dfs.conf:") for line in users.what.split("\n"))
    else:
        assert all((entry.password is None) != (entry.public_key is None) for entry in users.entries)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=8), max_size=4))
def test_quoted_words_come_back(words: list[str]) -> None:
    quoted = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    assert split_words("  ".join(quoted)) == words


@given(st.lists(st.text(max_size=8), max_size=4))
def test_any_words_have_a_form_or_none(words: list[str]) -> None:
    form = outcome_of(lambda: serve_form(words))
    if isinstance(form, ConfigError):
        assert "usage: " in form.what
    else:
        assert form is None or (form.directory and 1 <= form.port <= 65535)
