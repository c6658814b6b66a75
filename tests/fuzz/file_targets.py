"""Fuzz targets of files and of what people type: confs, users, keys, sheets, what a client remembers."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from dfs.core import conf, limits
from dfs.core.classic import key_text, read_key, split_words, user_lines
from dfs.core.credentials import KnownMarks, KnownNodes, key_file_secret
from dfs.core.env import RealEnv
from dfs.core.errors import ConfigError
from dfs.core.identity import NODE_ID_NAME, ensure_node_id
from dfs.core.paths import canonical
from dfs.core.sheets import LINE_COUNT, read_line, read_sheet, sheet, sheet_lines
from dfs.core.spans import parse_span, parse_version, span_bounds
from dfs.core.units import parse_mode, split_address
from dfs.core.users_file import parse_key
from dfs.verbs import parse_command
from tests.fuzz.target import Target

MEMORY_DISK: Final = Path("/dev/shm")  # noqa: S108 - for speed; mkdtemp makes a folder of our own there
EXAMPLES: Final = Path(__file__).parents[2] / "conf"
CLASSIC: Final = (
    b"Server DFS1 127.0.0.1:10001\nServer DFS2 ./DFS2 localhost:10002\nUsername: Alice\nPassword: x\n"
)
CLIENT: Final = b"""format = 1
user = "ines"
password_file = "secret"
allow_insecure = ["xor"]
[[node]]
name = "A"
address = "127.0.0.1:9001"
weight = 2.5
[plugins.zstd]
level = "3"
"""
NODE: Final = b'format = 1\ndir = "attic"\nlisten = ["127.0.0.1:9001"]\nrealm = "orchard"\nscrub_days = 30\n'
USERS: Final = (
    b"# who may\nAlice SimplePassword\nines ed25519:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE= quota=2GiB\n"
    b"medic ed25519:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE= role=healer\n10001\n"
)


@cache
def _folder() -> Path:
    """Return a folder for files that parsers open themselves, in memory if possible; it ends with us."""
    folder = Path(tempfile.mkdtemp(prefix="dfs-fuzz-", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _file(name: str, raw: bytes) -> Path:
    path = _folder() / name
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
    return path


def _examples(*names: str) -> Iterator[bytes]:
    for name in names:
        yield (EXAMPLES / name).read_bytes()[:2000]


def _client(name: str) -> Callable[[bytes], object]:
    def parse(raw: bytes) -> object:
        parsed = conf.parse_client(raw, name)
        return conf.apply_environment(parsed, {"DFS_JOBS": "3"}), conf.apply_flags(parsed, {"realm": "x"})

    return parse


def _clients() -> Iterator[bytes]:
    yield from _examples("client.toml")
    yield CLIENT


def _classics() -> Iterator[bytes]:
    yield from _examples("dfc.conf", "dfc1.conf")
    yield CLASSIC


def _node(raw: bytes) -> object:
    return conf.parse_node(raw, "node.toml")


def _nodes() -> Iterator[bytes]:
    yield from _examples("node.toml")
    yield NODE


def _users(raw: bytes) -> object:
    users = conf.parse_users(raw, "users")
    for user in users.entries:
        if user.public_key is None:
            continue
        again = conf.parse_users(user_lines(user).encode(), "users").entries
        assert again == (user,), "a line that is written is read as the same user"
    return users


def _users_files() -> Iterator[bytes]:
    yield from _examples("dfs.conf")
    yield USERS


def _key_file(raw: bytes) -> object:
    secret = key_file_secret(str(_file("key", raw)))
    assert len(secret) == 32
    return secret


def _key_files() -> Iterator[bytes]:
    yield b"dfs-key-1 " + b"0f" * 32 + b"\n"
    yield b"dfs-key-1 " + b"0f" * 31 + b"\n"
    yield b"dfs-key-1 \xff" + b"0f" * 32 + b"\n"


def _login_key(raw: bytes) -> object:
    text = _text(raw)
    public_key = parse_key(text)
    assert read_key(key_text(public_key)) == public_key
    assert read_key(text) in {public_key, None}
    return public_key


def _login_keys() -> Iterator[bytes]:
    yield from USERS.splitlines()
    yield b"ed25519:" + b"QUFB" * 10 + b"QUE="
    yield b"ed25519:" + b"QUFB" * 10 + b"QQ==\n"


SECRET: Final = bytes(range(7, 39))


def _sheet(raw: bytes) -> object:
    secret = read_sheet(raw.decode("utf-8", "replace"), "sheet")
    assert read_sheet(sheet(secret, {}, "today"), "sheet") == secret
    return secret


def _sheets() -> Iterator[bytes]:
    yield sheet(
        SECRET, {"Vault of": ["ines"], "Nodes": ["A 127.0.0.1:9001", "B 127.0.0.1:9002"]}, "today"
    ).encode()
    yield "\n".join(sheet_lines(SECRET)).lower().encode()
    yield "\n".join(sheet_lines(SECRET)[:3] * 2).encode()


def _sheet_line(raw: bytes) -> object:
    """Byte 0 says which line is asked for, the rest is what is typed."""
    index = (raw[0] if raw else 0) % LINE_COUNT
    part = read_line(index + 1, _text(raw[1:]))
    assert read_line(index + 1, sheet_lines(part * LINE_COUNT)[index]) == part
    return part


def _sheet_lines() -> Iterator[bytes]:
    for index, line in enumerate(sheet_lines(SECRET)):
        yield bytes((index,)) + line.encode()
        yield bytes((index,)) + line[1:].replace(" ", "").lower().encode()
    yield b"\0" + sheet_lines(SECRET)[1].encode()


def _known_nodes(raw: bytes) -> object:
    known = KnownNodes(_file("known_nodes", raw))
    certificates = known.load()
    assert all(len(digest) == 32 for digest in certificates.values())
    return certificates


def _known_nodes_files() -> Iterator[bytes]:
    yield b"127.0.0.1:9001 SHA256:" + b"ab" * 32 + b"\nnonsense\n"


@cache
def _marks_file() -> str:
    return os.path.relpath(KnownMarks(_folder(), "orchard", "ines")._path, _folder())


def _known_marks(raw: bytes) -> object:
    _file(_marks_file(), raw)
    return KnownMarks(_folder(), "orchard", "ines").load()


def _marks_files() -> Iterator[bytes]:
    yield b"ab" * 16 + b" 1 42\n" + b"cd" * 16 + b" 2 99999999999999999999\nnonsense\n"


def _node_id(raw: bytes) -> object:
    path = _file(f"node/{Path(NODE_ID_NAME).name}", raw)
    return ensure_node_id(str(path.parent), RealEnv())


def _node_ids() -> Iterator[bytes]:
    yield b"dfs node 1\nid " + b"ab" * 16 + b"\nincarnation 3\n"
    yield b"dfs node 1\nid " + b"ab" * 16 + b"\nincarnation 99999999999\n"


def _text(raw: bytes) -> str:
    return raw[: limits.CONF_LINE_SIZE_MAX].decode("utf-8", "surrogateescape")


def _line(raw: bytes) -> object:
    words = split_words(_text(raw))
    return parse_command(words, interactive=raw[:1] < b"\x80") if words else None


def _lines() -> Iterator[bytes]:
    yield from (b"get 'a b' c", b'put "x\\"y" /z', b"ls", b"mkdir a/b", b"exit", b"GET f", b"'")


def _path(raw: bytes) -> object:
    path = canonical(_text(raw))
    assert canonical(path) == path
    assert ".." not in path.split("/")
    return path


def _paths() -> Iterator[bytes]:
    yield from (b"/a//b/./c", "e\u0301/\u00e9".encode(), b"a/../b", b"a\x00", b"\xed\xa0\x80", b"x" * 300)


def _address(raw: bytes) -> object:
    return split_address(_text(raw))


def _option(raw: bytes) -> object:
    """Read a word as mode or version, if it is one, else as a span, and take that part of files."""
    text = _text(raw)
    with suppress(ConfigError):
        mode = parse_mode(text)
        assert 0 <= mode <= 0o777
        return mode
    with suppress(ConfigError):
        return parse_version(text)
    span = parse_span(text)
    for size in (0, 1, 100, 1 << 50):
        start, end = span_bounds(span, size)
        assert 0 <= start <= end <= size
    return span


def _options() -> Iterator[bytes]:
    yield from (b"0-99", b"100-", b"-100", b"9-1", b"-", b"999999999999999999-", b"644")
    yield b"0f" * 16


def _addresses() -> Iterator[bytes]:
    yield from (b"localhost:10001", b"[::1]:9", b":1", b"a:99999")


TARGETS: Final = (
    Target("client-conf", _client("client.toml"), _clients),
    Target("classic-conf", _client("dfc.conf"), _classics),
    Target("node-conf", _node, _nodes),
    Target("users", _users, _users_files),
    Target("key-file", _key_file, _key_files),
    Target("login-key", _login_key, _login_keys),
    Target("sheet", _sheet, _sheets),
    Target("sheet-line", _sheet_line, _sheet_lines),
    Target("known-nodes", _known_nodes, _known_nodes_files),
    Target("marks", _known_marks, _marks_files),
    Target("node-id", _node_id, _node_ids),
    Target("prompt", _line, _lines),
    Target("path", _path, _paths),
    Target("option", _option, _options),
    Target("address", _address, _addresses),
)
