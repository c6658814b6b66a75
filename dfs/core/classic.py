"""The classic grammar: confs and users files of the original and its relatives, prompt lines, start-up forms.

Pure: bytes or words in, values out. The grammar is tolerant in form (three ways to write a node, four to
write a user) and strict in content: a line that fits nothing is a fault, all faults of a file are reported at
once, and no reason repeats what may be a password. An unknown line is named by its first word, no more.
"""

import binascii
import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from dfs.core import limits
from dfs.core.errors import ConfigError, UnknownKeyError
from dfs.core.records import field, frozen
from dfs.core.units import PORT_MAX, exact_size, join_address, no_address, parse_size, split_address

BLANKS: Final = " \t"
FAULT_COUNT_MAX: Final = 100  # reported of one file; the rest is counted
PUBLIC_KEY_SIZE: Final = 32
PUBLIC_KEY_PREFIX: Final = "ed25519:"
WORDS: Final = ("Username", "User", "Password", "Passwd", "Pass", "Server")

# Possessive: once a separator took its ":" or "=", no shorter reading may turn that sign into a user name.
SEPARATOR: Final = r"(?>[ \t]*[:=][ \t]*|[ \t]+)"
USER: Final = rf"(?i:username|user){SEPARATOR}"
PASS: Final = rf"(?i:password|passwd|pass){SEPARATOR}"
SERVER: Final = r"(?i:server)(?:[ \t]*:[ \t]*|[ \t]+)"
NODE_NAME: Final = r"[^\W\d_][\w.-]*"
ADDRESS: Final = r"(?P<address>(?:\[[^\[\]]*\]|[^ \t:\[\]]+)(?::|[ \t]+)[0-9]+)"
NAMED: Final = rf"(?P<name>{NODE_NAME})(?:[ \t]*=[ \t]*|[ \t]+){ADDRESS}"

LINE_END: Final = rb"\r\n|\n|\r"
COMMENT: Final = r"/\*.*\*/"
SECTION: Final = r"\[[\w\t -]+\]"
LOGIN_LINE: Final = rf"{USER}(?P<user>[^ \t]+)[ \t]+{PASS}(?P<password>.+)"
USER_LINE: Final = rf"{USER}(?P<user>.+)"
PASSWORD_LINE: Final = rf"{PASS}(?P<password>.+)"
EMPTY_LINE: Final = r"(?P<word>(?i:username|user|password|passwd|pass))[ \t]*[:=]?"
SERVER_LINE: Final = rf"{SERVER}(?P<rest>.+)|(?i:server)[ \t]*:?"
SERVER_NODES: Final = (SERVER + NAMED, SERVER + ADDRESS)
BARE_NODES: Final = (NAMED, ADDRESS)
FIRST_WORD: Final = r"[\w.-]+[:=]?"
IPV6_START: Final = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?![^ \t])"
ENTRY_LINES: Final = (
    r"(?P<user>[^ \t:=]+)[ \t]+=[ \t]+(?P<password>.+)",
    r"(?P<user>[^ \t:=]+):?[ \t]+(?P<password>.+)",
    r"(?P<user>[^ \t:=]*)[:=](?P<password>[^ \t]+)",
)
# Separators, both blocks of control characters, and what the environment makes of bytes that are not UTF-8.
BAD_NAME_SIGN: Final = r"[/\\:=\x00-\x1f\x7f-\x9f\ud800-\udfff]"


@frozen
class ClassicUser:
    """A user with a clear-text password, as a classic client conf gives it."""

    name: str
    password: str = field(repr=False)


@frozen
class NodeAddress:
    """Where a conf says a node is.

    ``address``: ``machine:port``, an IPv6 number in brackets. ``certificate``: SHA-256 of the pinned one.
    ``transport``: None = that of the conf.
    """

    name: str
    address: str
    certificate: bytes | None = None
    zone: str = ""
    weight: float = 1.0
    transport: str | None = None


@frozen
class UserRecord:
    """One user of a node, with ``password`` (clear text) or ``public_key`` (32 bytes). ``quota``: bytes."""

    name: str
    password: str | None = field(default=None, repr=False)
    public_key: bytes | None = None
    quota: int | None = None
    role: Literal["user", "healer"] = "user"


@frozen
class Users:
    """A users file, in the order of its lines. ``lines``: which of them make each entry, 1-based."""

    entries: tuple[UserRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    lines: tuple[tuple[int, ...], ...] = ()


@frozen
class ClassicConf:
    """A classic client conf; ``lines`` tells where each user and node stands, as ``FILE:LINE``."""

    users: tuple[ClassicUser, ...]
    nodes: tuple[NodeAddress, ...]
    user_lines: tuple[str, ...]
    node_lines: tuple[str, ...]
    warnings: tuple[str, ...]


class Faults:
    """The faults of one file; gathered, so that all are told at once."""

    def __init__(self, file: str) -> None:
        self.file: Final = file
        self.rows: Final[list[tuple[int, str, bool]]] = []

    @property
    def full(self) -> bool:
        """Whether further reasons will only be counted, so that none need be worked out."""
        return len(self.rows) >= FAULT_COUNT_MAX

    def add(self, line: int, reason: str, *, unknown_key: bool = False) -> None:
        """Note a fault; ``unknown_key`` marks a key that dfs does not know."""
        self.rows.append((line, reason, unknown_key))

    def finish(self) -> None:
        """Raise what was gathered, in the order of the lines.

        Raises:
            UnknownKeyError: every fault is an unknown key.
            ConfigError: there is any other fault.
        """
        if not self.rows:
            return
        self.rows.sort(key=lambda row: row[0])
        reasons = [f"{self.file}:{line}: {reason}" for line, reason, _ in self.rows[:FAULT_COUNT_MAX]]
        if len(self.rows) > FAULT_COUNT_MAX:
            reasons.append(f"{self.file}: and {len(self.rows) - FAULT_COUNT_MAX} more faults")
        error = UnknownKeyError if all(row[2] for row in self.rows) else ConfigError
        raise error("\n".join(reasons), file=self.file, line=self.rows[0][0])


# --- Lines ------------------------------------------------------------------------------------------------


def significant_lines(raw: bytes, faults: Faults) -> Iterator[tuple[int, str]]:
    """Yield (line number, stripped text) of all lines but empty ones, comments and section headings."""
    if len(raw) > limits.CONF_SIZE_MAX:
        faults.add(1, f"the file is larger than {limits.CONF_SIZE_MAX // limits.MIB} MiB")
        return
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        faults.add(1, "the file is UTF-16, save it as UTF-8")
        return
    for number, piece in enumerate(re.split(LINE_END, raw.removeprefix(b"\xef\xbb\xbf")), start=1):
        if len(piece) > limits.CONF_LINE_SIZE_MAX:
            faults.add(number, f"the line is longer than {limits.CONF_LINE_SIZE_MAX} bytes")
            continue
        try:
            text = piece.decode().strip(BLANKS)
        except UnicodeDecodeError:
            faults.add(number, "the line is not UTF-8")
            continue
        if "\0" in text:
            faults.add(number, "the line has a NUL byte")
        elif text and not _is_comment(text) and not re.fullmatch(SECTION, text):
            yield number, text


def _is_comment(text: str) -> bool:
    return text.startswith(("#", ";", "//")) or re.fullmatch(COMMENT, text) is not None


def check_user_name(name: str) -> None:
    """Refuse what cannot be a user: it must be a file name on any system, and no word may hide a separator.

    Raises:
        ConfigError: the name is bad; the reason does not repeat it.
    """
    if name in {"", ".", ".."} or re.search(BAD_NAME_SIGN, name) or len(name.encode()) > limits.USER_SIZE_MAX:
        raise ConfigError("bad user name")


class _Logins:
    """Users in the order of their lines. A password belongs to the last user, if that one has none yet."""

    def __init__(self, faults: Faults) -> None:
        self.faults: Final = faults
        self.rows: Final[list[tuple[str, str | None, int]]] = []
        self.names: Final[set[str]] = set()
        self.password_lines: Final[dict[str, int]] = {}  # of passwords on lines of their own

    def read(self, line: int, text: str) -> bool:
        """Take a line of the forms both grammars share; False if it is none of them."""
        if match := re.fullmatch(LOGIN_LINE, text):
            self.add(line, match["user"], match["password"])
        elif match := re.fullmatch(USER_LINE, text):
            self.add(line, match["user"], None)
        elif match := re.fullmatch(PASSWORD_LINE, text):
            self.set_password(line, match["password"])
        else:
            return False
        return True

    def add(self, line: int, name: str, password: str | None) -> None:
        try:
            check_user_name(name)
        except ConfigError as error:
            self.faults.add(line, error.what)
        if name in self.names:
            self.faults.add(line, f"user {shown(name)} is given twice")
        self.names.add(name)
        self.rows.append((name, password, line))

    def set_password(self, line: int, password: str) -> None:
        if not self.rows:
            self.faults.add(line, "password without user")
            return
        name, known, user_line = self.rows[-1]
        if known is None:
            self.rows[-1] = (name, password, user_line)
            self.password_lines[name] = line
        else:
            self.faults.add(line, f"password without user: {shown(name)} has one already")

    def finish(self) -> list[tuple[str, str, int]]:
        complete = []
        for name, password, line in self.rows:
            if password is None:
                self.faults.add(line, f"user {shown(name)} has no password")
            else:
                complete.append((name, password, line))
        return complete


def shown(name: str) -> str:
    """Return a name fit for a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]


# --- The client conf --------------------------------------------------------------------------------------


class _Nodes:
    """Nodes in the order of their lines; a place is 1-based and names a node that has no name of its own."""

    def __init__(self, faults: Faults) -> None:
        self.faults: Final = faults
        self.rows: Final[list[NodeAddress]] = []
        self.lines: Final[list[str]] = []
        self.warnings: Final[list[str]] = []
        self.names: Final[set[str]] = set()
        self.addresses: Final[dict[str, int]] = {}

    def add(self, line: int, name: str | None, address: str) -> None:
        try:
            address = join_address(*split_address(address))
        except ConfigError as error:
            self.faults.add(line, error.what)
            return
        first_line = self.addresses.setdefault(address.lower(), line)
        if first_line != line:
            self.faults.add(line, f"address {address} is given twice, first in line {first_line}")
        if len(self.rows) >= limits.NODE_COUNT_MAX:
            self.faults.add(line, f"more than {limits.NODE_COUNT_MAX} nodes")
            return
        self.rows.append(NodeAddress(self.free_name(line, name), address))
        self.lines.append(f"{self.faults.file}:{line}")

    def free_name(self, line: int, name: str | None) -> str:
        wanted = by_place = f"DFS{len(self.rows) + 1}"
        if name is not None:
            wanted = name
        chosen = wanted if wanted.lower() not in self.names else by_place
        attempt = 2
        while chosen.lower() in self.names:  # a file may name its first node DFS2
            chosen = f"{by_place}-{attempt}"
            attempt += 1
        if chosen != wanted:
            note = f"server name {wanted} used twice, called {chosen}"
            self.warnings.append(f"{self.faults.file}: line {line}: {note}")
        self.names.add(chosen.lower())
        return chosen


def read_client(raw: bytes, file: str) -> ClassicConf:
    """Read a classic client conf.

    Raises:
        ConfigError: all faults of the file.
    """
    faults = Faults(file)
    logins = _Logins(faults)
    nodes = _Nodes(faults)
    for line, text in significant_lines(raw, faults):
        if logins.read(line, text):
            continue
        match = next(filter(None, (re.fullmatch(form, text) for form in (*SERVER_NODES, *BARE_NODES))), None)
        if match is None:
            faults.add(line, "not understood" if faults.full else _reason(text))
        else:
            nodes.add(line, match.groupdict().get("name"), match["address"])
    rows = logins.finish()
    if not nodes.rows and not faults.rows:
        faults.add(1, "no node: add a line such as 'Server DFS1 127.0.0.1:7771'")
    faults.finish()
    return ClassicConf(
        users=tuple(ClassicUser(name, password) for name, password, _ in rows),
        nodes=tuple(nodes.rows),
        user_lines=tuple(f"{file}:{line}" for *_, line in rows),
        node_lines=tuple(nodes.lines),
        warnings=tuple(nodes.warnings),
    )


def _reason(text: str) -> str:
    """Say why a line is none, without repeating what may be a secret."""
    if match := re.fullmatch(EMPTY_LINE, text):
        return f"'{match['word']}' without a value"
    if match := re.fullmatch(SERVER_LINE, text):
        return _server_reason(match["rest"] or "")
    if re.match(IPV6_START, text):
        return "not understood, IPv6 needs brackets"
    match = re.match(FIRST_WORD, text)
    if match is None or match[0] == text:  # one bare word might be a password on a line of its own
        return "not understood"
    word = match[0]
    from difflib import get_close_matches  # a faulty line is the exception

    known = {known_word.lower(): known_word for known_word in WORDS}
    close = get_close_matches(word.rstrip(":=").lower(), known, n=1)
    return f"not understood: '{word}'" + (f", did you mean '{known[close[0]]}'?" if close else "")


def _server_reason(rest: str) -> str:
    name, *tail = re.split(r"[ \t]+", rest, maxsplit=1)
    if not tail:
        return "server line without host:port"
    return no_address(tail[0] if re.fullmatch(NODE_NAME, name) else rest)


# --- The users file ---------------------------------------------------------------------------------------


def read_users(raw: bytes, file: str) -> Users:
    """Read a node's users file.

    Raises:
        ConfigError: all faults of the file.
    """
    faults = Faults(file)
    logins = _Logins(faults)
    warnings = []
    for line, text in significant_lines(raw, faults):
        if text.isascii() and text.isdigit():
            warnings.append(f"{file}: line {line}: a number alone is ignored")
        elif any(re.fullmatch(form, text) for form in SERVER_NODES) or logins.read(line, text):
            continue
        else:
            _read_entry(line, text, logins)
    rows = logins.finish()
    entries = [_record(faults, *row) for row in rows]
    faults.finish()
    further = logins.password_lines
    lines = tuple((line, *([further[name]] if name in further else [])) for name, _, line in rows)
    clear_count = sum(entry.password is not None for entry in entries)
    if clear_count:
        passwords = "password" if clear_count == 1 else "passwords"
        remedy = f"dfs user convert --users {file}"
        warnings.append(f"{file}: {clear_count} {passwords} in clear text; to convert: {remedy}")
    return Users(tuple(entries), tuple(warnings), lines)


def key_text(public_key: bytes) -> str:
    """Return a login key as a users file says it."""
    return PUBLIC_KEY_PREFIX + binascii.b2a_base64(public_key, newline=False).decode()


def read_key(text: str) -> bytes | None:
    """Return the login key that `key_text` wrote, None if it is none."""
    try:
        public_key = binascii.a2b_base64(text.removeprefix(PUBLIC_KEY_PREFIX), strict_mode=True)
    except ValueError:
        return None
    return public_key if text.startswith(PUBLIC_KEY_PREFIX) and len(public_key) == PUBLIC_KEY_SIZE else None


def user_lines(user: UserRecord) -> str:
    """Return a user with a key as a users file says it; `read_users` gives the same user back."""
    value = key_text(user.public_key or b"")
    if user.quota is not None:
        value += f" quota={exact_size(user.quota)}"
    if user.role != "user":
        value += f" role={user.role}"
    if " " in user.name or "\t" in user.name or user.name.lower() in {word.lower() for word in WORDS}:
        return f"Username: {user.name}\nPassword: {value}\n"
    return f"{user.name} {value}\n"


def _read_entry(line: int, text: str, logins: _Logins) -> None:
    match = next(filter(None, (re.fullmatch(form, text) for form in ENTRY_LINES)), None)
    if match is not None and match["user"].lower() in {word.lower() for word in WORDS}:
        logins.faults.add(line, f"'{match['user']}' is a word of this file, use Username:/Password: lines")
    elif match is not None:
        logins.add(line, match["user"], match["password"])
    elif re.match(r"[^ \t]*[:=][^ \t]*[ \t]", text):
        logins.faults.add(line, "ambiguous, use Username:/Password: lines")
    else:
        logins.faults.add(line, 'expected "user password"')


def _record(faults: Faults, name: str, value: str, line: int) -> UserRecord:
    if not value.startswith(PUBLIC_KEY_PREFIX):
        return UserRecord(name, password=value)
    encoded, *settings = re.split(r"[ \t]+", value)
    public_key = read_key(encoded)
    if public_key is None:
        faults.add(line, "bad ed25519 key: expected 32 bytes in base64")
    quota: int | None = None
    role: Literal["user", "healer"] = "user"
    names = [setting.partition("=")[0] for setting in settings]
    for key, _, text in (setting.partition("=") for setting in settings):
        if names.count(key) > 1:
            faults.add(line, f"{key} is given twice")
        elif key == "role" and text in {"user", "healer"}:
            role = "healer" if text == "healer" else "user"
        elif key == "quota":
            try:
                quota = parse_size(text)
            except ConfigError as error:
                faults.add(line, f"quota: {error.what}")
        else:
            faults.add(line, "after a key come quota=SIZE and role=user or role=healer, no more")
    return UserRecord(name, public_key=public_key, quota=quota, role=role)


# --- The prompt and the start-up forms --------------------------------------------------------------------


def split_words(line: str) -> list[str]:
    """Split a prompt line at blanks. Both quotes quote; inside double ones a backslash escapes both signs.

    Raises:
        ConfigError: a quote stays open.
    """
    words: list[str] = []
    word: list[str] | None = None  # None between words, so that '' is a word
    quote = ""
    signs = iter(line.rstrip("\r\n"))
    for sign in signs:
        if not quote and sign in BLANKS:
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        if sign == quote:
            quote = ""
        elif not quote and sign in "'\"":
            quote = sign
        elif quote == '"' and sign == "\\":
            following = next(signs, "")
            word.append(following if following in {'"', "\\"} else sign + following)
        else:
            word.append(sign)
    if quote:
        raise ConfigError("a quote stays open; quote names with blanks")
    return words if word is None else [*words, "".join(word)]


SERVE_USAGE: Final = "usage: dfs serve [PARENT] FOLDER PORT [USERS], or dfs serve --dir FOLDER --port PORT"
NUMBER: Final = r"[+-]?[0-9]+"
NODE_NUMBER: Final = r"[0-9]{1,3}"
FORM_WORD_COUNTS: Final = (2, 3)


@frozen
class ServeForm:
    """A positional start-up form. ``directory``: made when missing. ``users``: a file, None = search."""

    directory: str
    port: int
    users: str | None = None
    listen: str = "127.0.0.1"


def serve_form(words: Sequence[str]) -> ServeForm | None:
    """Read the words after ``serve``; None if they have no form of a start-up at all.

    Raises:
        ConfigError: a start-up was meant, but a folder is missing or the port is none.
    """
    if len(words) == 1 and re.fullmatch(NUMBER, words[0]):
        raise ConfigError(f"a folder is missing before the port; {SERVE_USAGE}")
    if len(words) not in FORM_WORD_COUNTS or not all(words):
        return None
    if re.fullmatch(NUMBER, words[-1]):
        users, folders, port = None, words[:-1], words[-1]
    elif len(words) == FORM_WORD_COUNTS[-1] and re.fullmatch(NUMBER, words[1]):
        users, folders, port = words[2], words[:1], words[1]
    else:
        return None
    if not port.isdigit() or len(port) > len(str(PORT_MAX)) or not 1 <= int(port) <= PORT_MAX:
        raise ConfigError(f"port {port} out of range; {SERVE_USAGE}")
    if len(folders) > 1:
        parent, folder = _folder(folders[0]), folders[1].strip("/").removeprefix("./")
        if not folder:
            raise ConfigError(f"a folder is missing before the port; {SERVE_USAGE}")
        return ServeForm(f"{parent}/{folder}", int(port), users)
    return ServeForm(_first_folder(folders[0]), int(port), users)


def _first_folder(word: str) -> str:
    if re.fullmatch(NODE_NUMBER, word):
        return f"DFS{word}"
    if re.fullmatch(NUMBER, word) or _is_machine(word):
        raise ConfigError(f"'{shown(word)}' is no folder; {SERVE_USAGE}")
    return _folder(word)


def _folder(word: str) -> str:
    """Return the folder meant: one component after ``/`` lies in the current folder, never in the root."""
    parts = [part for part in word.split("/") if part]
    if word.startswith("/") and len(parts) == 1 and parts[0] not in {".", ".."}:
        return parts[0]
    if word.startswith("/") and len(parts) < 2:  # the root itself
        raise ConfigError(f"'{shown(word)}' is no folder of its own; {SERVE_USAGE}")
    return word.rstrip("/").removeprefix("./") or "."


def _is_machine(word: str) -> bool:
    import ipaddress  # serve alone needs it

    try:
        ipaddress.ip_address(word.strip("[]"))
    except ValueError:
        return word.lower() == "localhost"
    return True
