"""Where a client's secrets come from, and what it has come to know of nodes: certificates and marks.

A password never comes from argv or the environment. Files with secrets must be the user's own and closed to
others.
"""

import contextlib
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from dfs.core import limits
from dfs.core.env import lock_alone
from dfs.core.errors import ConfigError, ConflictError, DfsError, NoPasswordError, SecretFileError
from dfs.core.keys import KEY_FILE, SECRET_SIZE, KdfParameters, LoginKeys, login_keys, password_secret
from dfs.core.redaction import conceal
from dfs.core.settings import ClientConf
from dfs.core.types import NodeId
from dfs.core.wire import Mark

KEY_PREFIX: Final = "dfs-key-1 "
COMMAND_TIMEOUT_S: Final = 30.0
KNOWN_NODE: Final = re.compile(r"(\S+) SHA256:([0-9a-f]{64})")
KNOWN_MARK: Final = re.compile(r"([0-9a-f]{32}) ([0-9]{1,10}) ([0-9]{1,20})")


def secret_file(path: str) -> bytes:
    """Return the bytes of a file with a secret.

    Raises:
        SecretFileError: others can read it, or it belongs to somebody else. ConfigError: it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as opened:
            _check_private(path, os.fstat(opened.fileno()))
            return opened.read(limits.CONF_SIZE_MAX) or b""
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _check_private(path: str, status: os.stat_result) -> None:
    if os.name != "posix":
        return
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecretFileError(f"{path} can be read by others", next_step=f"Run: chmod 600 {path}")
    if status.st_uid not in {os.geteuid(), 0}:
        raise SecretFileError(
            f"{path} belongs to another user", next_step="Make a copy that is yours, mode 0600."
        )


def _first_line(output: bytes) -> bytes:
    return output.split(b"\n", 1)[0].removesuffix(b"\r")


def _from_command(command: tuple[str, ...]) -> bytes:
    import subprocess  # only for a password_command

    try:
        ended = subprocess.run(  # noqa: S603 - the user's own command, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"took more than {COMMAND_TIMEOUT_S:.0f} s"
        raise NoPasswordError(f"password_command {command[0]}: {reason}") from None
    if ended.returncode:
        raise NoPasswordError(f"password_command {command[0]} ended with status {ended.returncode}")
    return _first_line(ended.stdout)


def _require_terminal(what: str) -> None:
    try:
        with open("/dev/tty", "r+b", buffering=0):
            pass
    except OSError:
        raise NoPasswordError(f"{what} and no terminal to ask on") from None


def ask_password(user: str, what: str = "Password") -> bytes:
    """Ask for a password on the terminal. Raises: NoPasswordError: there is no terminal."""
    import getpass

    _require_terminal(f"no password for {user}")
    return getpass.getpass(f"{what} of {user}: ").encode()


def ask_new_password(user: str, what: str = "Password") -> bytes:
    """Ask twice for a password that is new. Raises: NoPasswordError: no terminal, empty, or they differ."""
    import getpass

    password = ask_password(user, what)
    if not password:
        raise NoPasswordError("an empty password protects nothing", next_step="Choose another one.")
    if getpass.getpass("Once more: ").encode() != password:
        raise NoPasswordError("the two passwords differ", next_step="Run it again.")
    return password


def ask_line(prompt: str) -> str:
    """Ask for a line that is shown while it is typed. Raises: NoPasswordError: there is no terminal."""
    _require_terminal("no recovery sheet (--sheet FILE)")
    with open("/dev/tty", encoding="utf-8", errors="replace") as source:
        with open("/dev/tty", "w", encoding="utf-8") as target:
            target.write(prompt)
        return source.readline(limits.CONF_LINE_SIZE_MAX)


def private_file(path: str, content: str) -> None:
    """Make a file that is its owner's alone, durable. Raises: ConflictError: it is there. ConfigError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    except FileExistsError:
        raise ConflictError(f"{path} is there already", next_step="Take another name.") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        os.unlink(path)
        raise ConfigError(f"{path}: {error.strerror}") from None


def key_file_text(secret: bytes) -> str:
    """Return what a key file says."""
    return f"{KEY_PREFIX}{secret.hex()}\n"


def key_file_secret(path: str) -> bytes:
    """Return the 32 random bytes of a key file. Raises: SecretFileError, ConfigError."""
    text = secret_file(path).decode("ascii", "replace").strip()
    try:
        secret = bytes.fromhex(text.removeprefix(KEY_PREFIX)) if text.startswith(KEY_PREFIX) else b""
    except ValueError:
        secret = b""
    if len(secret) != SECRET_SIZE:
        raise ConfigError(f"{path} is not a dfs key file", next_step="Make one: dfs key new.")
    return secret


def kdf_of(conf: ClientConf) -> KdfParameters:
    """Return the derivation a conf asks for; none with a key file."""
    return KEY_FILE if conf.key_file else KdfParameters(conf.kdf_memory, conf.kdf_passes, conf.kdf_lanes)


def password_of(conf: ClientConf, user: str, ask: Callable[[str], bytes] = ask_password) -> bytes:
    """Return the password of a conf's user, from the conf's source or the terminal.

    Raises:
        NoPasswordError: there is none to be had. SecretFileError, ConfigError.
    """
    if conf.password is not None:
        return conf.password.encode()
    if conf.password_file:
        return _first_line(secret_file(conf.password_file))
    if conf.password_command:
        return _from_command(conf.password_command)
    return ask(user)


def source_of(conf: ClientConf) -> str:
    """Return in words where a conf's secret comes from, "" when it is asked for."""
    named = [
        f"{name} {value if isinstance(value, str) else value[0]}"
        for name in ("key_file", "password_file", "password_command")
        if (value := getattr(conf, name))
    ]
    if named:
        return named[0]
    return f"the password in {conf.file}" if conf.password is not None else ""


def _nothing_kept() -> bytes | None:
    """Find no kept login."""
    return None


class LoginSecret:
    """The login keys of a conf, derived on a thread while the client connects; call it to wait for them.

    ``ask``: what gets a password that the conf has no source for, after ``kept``: what finds the secret that
    `dfs login` kept.
    """

    def __init__(
        self,
        conf: ClientConf,
        user: str,
        ask: Callable[[str], bytes] = ask_password,
        kept: Callable[[], bytes | None] = _nothing_kept,
    ) -> None:
        self._derived = threading.Event()
        self._secret = b""
        self._keys: LoginKeys | None = None
        self._error: DfsError | None = None
        realm, kdf = conf.realm, kdf_of(conf)
        secret = kept() if not source_of(conf) else None
        self.was_kept: Final = secret is not None
        if secret is None and conf.keyring:
            raise NoPasswordError(
                f"no login of {user} is kept in the keyring", next_step="Keep one: dfs login --keep keyring."
            )
        material = secret or (
            key_file_secret(conf.key_file) if conf.key_file else password_of(conf, user, ask)
        )
        conceal(material)
        ready = self.was_kept or kdf == KEY_FILE

        def derive() -> None:
            try:
                self._secret = material if ready else password_secret(material, realm, user, kdf)
                self._keys = login_keys(self._secret)
            except (MemoryError, ValueError) as error:
                self._error = ConfigError(f"the password cannot be derived: {error}")
            finally:
                self._derived.set()

        threading.Thread(target=derive, name="derive", daemon=True).start()

    def __call__(self) -> LoginKeys:
        """Return the keys, waiting for them if need be."""
        self._derived.wait()
        if self._keys is None:
            raise self._error or DfsError("the login keys could not be derived")
        return self._keys

    def secret(self) -> bytes:
        """Return the 32 bytes that all keys follow from, to be kept."""
        self()
        return self._secret


class KnownNodes:
    """The certificates of first use: one line ``address SHA256:hex`` a node, replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """Where they are kept."""
        return self._path

    def load(self) -> dict[str, bytes]:
        """Return address -> digest; lines that are none are passed over. Raises: ConfigError: unreadable."""
        try:
            text = self._path.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None
        matches = [KNOWN_NODE.fullmatch(line) for line in text.splitlines()]
        return {match[1]: bytes.fromhex(match[2]) for match in matches if match is not None}

    def learn(self, address: str, digest: bytes) -> None:
        """Keep a certificate. Two clients may do so at once: each reads again and replaces the whole file.

        Raises: ConfigError: it cannot be kept, so the node must not be believed.
        """
        self._keep(address, digest)

    def forget(self, address: str) -> None:
        """Drop what is known of an address. Raises: ConfigError."""
        self._keep(address, None)

    def _keep(self, address: str, digest: bytes | None) -> None:
        try:
            self._change(address, digest)
        except OSError as error:
            raise ConfigError(f"certificates cannot be kept in {self._path}: {error.strerror}") from None

    def _change(self, address: str, digest: bytes | None) -> None:
        with self._lock:
            replace_file(self._path, partial(self._changed, address, digest))

    def _changed(self, address: str, digest: bytes | None) -> str:
        known = self.load()
        if digest is None:
            known.pop(address, None)
        else:
            known[address] = digest
        return "".join(f"{place} SHA256:{value.hex()}\n" for place, value in sorted(known.items()))


class KnownMarks:
    """The highest mark that each node of a vault told: one line ``node-id incarnation mark`` a node.

    A node that tells less, under the same incarnation, was put back to an older copy. Losing this file only
    loses that knowledge, so a failure to write it is none of a command.
    """

    def __init__(self, folder: Path, realm: str, user: str) -> None:
        name = hashlib.blake2s(f"{realm}\0{user}".encode(), digest_size=16).hexdigest()
        self._path = folder / "marks" / name

    def load(self) -> dict[NodeId, Mark]:
        """Return what is remembered; lines that are none are passed over."""
        try:
            text = self._path.read_text("ascii", errors="replace")
        except OSError:
            return {}
        matches = [KNOWN_MARK.fullmatch(line) for line in text.splitlines()]
        return {
            NodeId(bytes.fromhex(match[1])): Mark(int(match[2]), int(match[3]))
            for match in matches
            if match is not None
        }

    def keep(self, marks: Mapping[NodeId, Mark]) -> None:
        """Remember higher marks, and those of a later incarnation."""
        with contextlib.suppress(OSError):
            if self._higher(marks) != self.load():
                replace_file(self._path, partial(self._text, marks))

    def begin_anew(self, marks: Mapping[NodeId, Mark]) -> None:
        """Remember these marks even if they are lower: the nodes lost state and were brought up to date."""
        with contextlib.suppress(OSError):
            replace_file(self._path, lambda: _mark_lines({**self.load(), **marks}))

    def _higher(self, marks: Mapping[NodeId, Mark]) -> dict[NodeId, Mark]:
        known = self.load()
        for node, mark in marks.items():
            before = known.get(node, Mark())
            known[node] = max(before, mark, key=lambda each: (each.incarnation, each.mark))
        return known

    def _text(self, marks: Mapping[NodeId, Mark]) -> str:
        return _mark_lines(self._higher(marks))


def _mark_lines(marks: Mapping[NodeId, Mark]) -> str:
    rows = sorted(marks.items())
    return "".join(f"{node.hex()} {mark.incarnation} {mark.mark}\n" for node, mark in rows)


def replace_file(path: Path, content: Callable[[], str]) -> None:
    """Replace a file by what ``content`` makes; of two that do so at once, one waits. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_suffix(".lock").open("w") as guard:
        lock_alone(guard.fileno())
        temporary = path.with_suffix(".new")
        temporary.write_text(content(), "utf-8")
        temporary.replace(path)
