"""A users file changed: each change gives the whole new content; what it does not mean stays as it is.

Pure. Comments, order, ends of lines and the form of other lines are kept; what is shown of a change hides
passwords.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping

from dfs.core.classic import LINE_END, UserRecord, Users, key_text, read_key, user_lines
from dfs.core.conf import parse_users
from dfs.core.errors import ConfigError, ConflictError, InvariantError, NotFoundError
from dfs.core.records import evolve, frozen

HIDDEN = "********"
CONVERT = "Convert it first: dfs user convert --users {file}"


def parse_key(text: str) -> bytes:
    """Return a login key as people copy it, with or without its users line around it.

    Raises:
        ConfigError: there is none.
    """
    words = text.split()
    found = [key for key in map(read_key, words) if key is not None]
    if len(found) != 1:
        raise ConfigError("this is no login key: expected ed25519: and 32 bytes in base64")
    return found[0]


def fingerprint(public_key: bytes) -> str:
    """Return what people compare of a key: the first 64 bits of its SHA-256."""
    return f"SHA256:{hashlib.sha256(public_key).hexdigest()[:16]}"


@frozen
class UsersFile:
    """The content of a users file; ``file``: its path, for messages."""

    raw: bytes
    file: str
    users: Users

    @classmethod
    def parse(cls, raw: bytes, file: str) -> "UsersFile":
        """Read it. Raises: ConfigError: all its faults."""
        return cls(raw, file, parse_users(raw, file))

    @property
    def records(self) -> tuple[UserRecord, ...]:
        """Its users, in order."""
        return self.users.entries

    def record(self, name: str) -> UserRecord:
        """Return a user. Raises: NotFoundError: with the names it might be."""
        found = next((record for record in self.records if record.name == name), None)
        if found is None:
            from difflib import get_close_matches

            names = {record.name.casefold(): record.name for record in self.records}
            close = [names[each] for each in get_close_matches(name.casefold(), names, n=3)]
            hint = (
                f"Did you mean {' or '.join(close)}?" if close else f"See: dfs user list --users {self.file}"
            )
            raise NotFoundError(f"there is no user {name} in {self.file}", next_step=hint)
        return found

    def added(self, record: UserRecord) -> "UsersFile":
        """Return the file with one more user, at its end.

        Raises: ConflictError: the name is there. ConfigError: it cannot be a name.
        """
        if any(each.name == record.name for each in self.records):
            raise ConflictError(
                f"{record.name} is in {self.file} already",
                next_step="Remove the line first (dfs user remove), or take another name.",
            )
        lines = user_lines(record)
        try:
            alone = parse_users(lines.encode(), self.file).entries
        except (ConfigError, UnicodeEncodeError):
            alone = ()
        if alone != (record,):
            raise ConfigError(f"{record.name!r} cannot be a user name")
        end = self._end.decode()
        ended = self.raw if not self.raw or re.search(rb"[\r\n]\Z", self.raw) else self.raw + self._end
        return self._checked(ended + lines.replace("\n", end).encode(), (*self.records, record))

    def removed(self, name: str) -> "UsersFile":
        """Return the file without a user. Raises: NotFoundError."""
        gone = self.record(name)
        return self._changed({name: None}, tuple(each for each in self.records if each != gone))

    def with_quota(self, name: str, quota: int | None) -> "UsersFile":
        """Return the file with a user's quota in bytes; None: that of the node's conf.

        Raises: NotFoundError, ConflictError: the user's password is in clear text.
        """
        return self._replaced(evolve(self._keyed(name), quota=quota))

    def with_role(self, name: str, role: str) -> "UsersFile":
        """Return the file with a user's role, "user" or "healer". Raises: NotFoundError, ConflictError."""
        return self._replaced(evolve(self._keyed(name), role=role))  # type: ignore[arg-type]

    def with_keys(self, keys: Mapping[str, bytes]) -> "UsersFile":
        """Return the file with keys in the place of the passwords of these users."""
        changed = tuple(
            evolve(record, password=None, public_key=keys[record.name]) if record.name in keys else record
            for record in self.records
        )
        return self._changed({record.name: record for record in changed if record.name in keys}, changed)

    def comments_with(self, secrets: Collection[str]) -> list[int]:
        """Return the numbers of lines outside all entries that repeat one of these passwords."""
        entries = {line for lines in self.users.lines for line in lines}
        return [
            number
            for number, (text, _) in enumerate(self._pieces(), start=1)
            if number not in entries and any(secret.encode() in text for secret in secrets)
        ]

    def shown(self) -> str:
        """Return the text without its passwords."""
        hidden: dict[int, str] = {}
        for record, lines in zip(self.records, self.users.lines, strict=True):
            if record.password is not None:
                hidden[lines[-1]] = record.password
        rows = [text.decode(errors="replace") for text, _ in self._pieces()]
        for number, password in hidden.items():
            head, _, tail = rows[number - 1].rpartition(password)
            rows[number - 1] = head + HIDDEN + tail
        return "\n".join(rows)

    def diff(self, after: "UsersFile") -> str:
        """Return what another version of the file changes, as a unified diff without passwords."""
        from difflib import unified_diff

        lines, lines_after = (version.shown().splitlines() for version in (self, after))
        return "\n".join(unified_diff(lines, lines_after, self.file, self.file, n=1, lineterm=""))

    # Lines

    @property
    def _end(self) -> bytes:
        found = re.search(LINE_END, self.raw)
        return found[0] if found else b"\n"

    def _pieces(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each line and its end; both as they are."""
        parts = re.split(b"(" + LINE_END + b")", self.raw)
        yield from zip(parts[::2], [*parts[1::2], b""], strict=True)

    def _keyed(self, name: str) -> UserRecord:
        record = self.record(name)
        if record.public_key is None:
            raise ConflictError(
                f"the password of {name} is in clear text: such a line has no settings",
                next_step=CONVERT.format(file=self.file),
            )
        return record

    def _replaced(self, record: UserRecord) -> "UsersFile":
        expected = tuple(record if each.name == record.name else each for each in self.records)
        return self._changed({record.name: record}, expected)

    def _changed(
        self, changes: Mapping[str, UserRecord | None], expected: tuple[UserRecord, ...]
    ) -> "UsersFile":
        """Return the file with the lines of some users replaced, or left out."""
        first: dict[int, UserRecord | None] = {}
        dropped: set[int] = set()
        for record, lines in zip(self.records, self.users.lines, strict=True):
            if record.name in changes and changes[record.name] != record:
                first[lines[0]] = changes[record.name]
                dropped.update(lines)
        content = bytearray()
        for number, (text, end) in enumerate(self._pieces(), start=1):
            record_after = first.get(number)
            if record_after is not None:
                content += (
                    user_lines(record_after).rstrip("\n").replace("\n", self._end.decode()).encode() + end
                )
            elif number not in dropped:
                content += text + end
        return self._checked(bytes(content), expected)

    def _checked(self, content: bytes, expected: tuple[UserRecord, ...]) -> "UsersFile":
        made = UsersFile.parse(content, self.file)
        if made.records != expected:
            raise InvariantError(f"{self.file}: the change would change more than it means")
        return made


def record_of(name: str, public_key: bytes, quota: int | None, role: str) -> UserRecord:
    """Return a user with a key."""
    return UserRecord(name, public_key=public_key, quota=quota, role=role)  # type: ignore[arg-type]


def key_line(record: UserRecord) -> str:
    """Return a user's key as the file says it, "" while there is a password."""
    return key_text(record.public_key) if record.public_key is not None else ""
