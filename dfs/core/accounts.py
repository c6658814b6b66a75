"""Who may log in: the users file of a node, kept in force and re-read when it changes.

Clear-text lines need their login keys derived, which is slow on purpose: one thread does it, one after the
other, and every login waits until it is done, so that no timing tells which names exist. Derived keys stay in
memory.
"""

import logging
import os
import threading
from collections.abc import Sequence
from hmac import compare_digest
from typing import Final

from dfs.core import keys, limits
from dfs.core.classic import UserRecord, Users
from dfs.core.conf import parse_users
from dfs.core.errors import BusyError, ConfigError
from dfs.core.keys import KdfParameters
from dfs.core.redaction import conceal

ANONYMOUS: Final = "anonymous"

log: Final = logging.getLogger("dfs")


class Accounts:
    """The users of a node. Thread-safe. ``path`` None, or a file that is not there: nobody.

    ``required``: the file must be there at the start. ``quota``: of users whose line has none. A faulty new
    version of the file is logged once and changes nothing.
    """

    def __init__(
        self,
        path: str | None,
        realm: str,
        kdf: KdfParameters,
        *,
        required: bool = False,
        allow_anonymous: bool = False,
        quota: int | None = None,
    ) -> None:
        self._path = path
        self._realm = realm
        self._kdf = kdf
        self._allow_anonymous = allow_anonymous
        self._quota = quota
        self._condition = threading.Condition()
        self._records: dict[str, UserRecord] = {}
        self._keys: dict[UserRecord, bytes | None] = {}  # None: it could not be derived
        self._warnings: tuple[str, ...] = ()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._signature = self._sign()
        if required and self._signature is None:
            raise ConfigError(f"the users file {path} is not there", file=path or "")
        if self._signature is not None:
            self._take(self._read(path or ""))

    @property
    def count(self) -> int:
        """Users in the file."""
        return len(self._records)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the file in force should be warned about."""
        return self._warnings

    def start(self) -> None:
        """Begin to derive the login keys of clear-text lines; until then logins of all users wait."""
        self._thread = threading.Thread(target=self._derive, name="dfs-accounts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse whoever waits and end the thread, after the derivation under way; twice is fine."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()

    def public_key(self, user: str) -> bytes | None:
        """Return the login key of a user, None if there is none, once no derivation is due.

        Raises:
            BusyError: the node is stopping.
        """
        self.refresh()
        with self._condition:
            self._condition.wait_for(lambda: self._stopped or self._next() is None)
            if self._stopped:
                raise BusyError("the node is stopping")
            return self._key(user)

    def admits(self, user: str, public_key: bytes) -> bool:
        """Return whether this key is the user's by the file in force; never waits for a derivation."""
        with self._condition:
            key = self._key(user)
            return key is not None and compare_digest(key, public_key)

    def is_healer(self, user: str) -> bool:
        """Return whether this is a healer's account."""
        with self._condition:
            record = self._records.get(user)
            return record is not None and record.role == "healer"

    def quota(self, user: str) -> int | None:
        """Return how many bytes a user may take here, None = no bound."""
        with self._condition:
            record = self._records.get(user)
            return self._quota if record is None or record.quota is None else record.quota

    def is_clear(self, user: str) -> bool:
        """Return whether the file has a password of this user, no key."""
        with self._condition:
            record = self._records.get(user)
            return record is not None and record.password is not None

    def users(self) -> Sequence[str]:
        """Return who may have a vault, in byte order of their names: all but healers."""
        with self._condition:
            names = [record.name for record in self._records.values() if record.role != "healer"]
        return sorted((name for name in names if name != ANONYMOUS or self._allow_anonymous), key=str.encode)

    def refresh(self) -> None:
        """Read the file again if it changed."""
        with self._condition:
            if self._sign() != self._signature:
                self.reload()

    def reload(self) -> None:
        """Read the file again. A fault is logged, and the version before stays in force."""
        with self._condition:
            if self._path is None:
                return
            self._signature = self._sign()
            try:
                self._take(self._read(self._path))
            except ConfigError as error:
                for line in (*error.what.splitlines(), "the users known before stay in force"):
                    log.error("%s", line)  # noqa: TRY400 - a fault of the file, not of the program

    def _sign(self) -> tuple[int, ...] | None:
        """Return what changes with the file; None while it is not there."""
        if self._path is None:
            return None
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev

    @staticmethod
    def _read(path: str) -> Users:
        try:
            with open(path, "rb") as file:
                return parse_users(file.read(limits.CONF_SIZE_MAX + 1), path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}", file=path) from error

    def _take(self, users: Users) -> None:
        for record in users.entries:
            if record.password is not None:
                conceal(record.password)
        with self._condition:
            self._records = {record.name: record for record in users.entries}
            self._keys = {record: key for record, key in self._keys.items() if record in users.entries}
            self._warnings = self._warned(users.warnings)
            self._condition.notify_all()

    def _warned(self, warnings: Sequence[str]) -> tuple[str, ...]:
        """Return what to warn of; the last one is of passwords, if there are any: who else can read them?"""
        is_clear = any(record.password is not None for record in self._records.values())
        if self._path is None or not is_clear or os.name != "posix":
            return tuple(warnings)
        try:
            mode = os.stat(self._path).st_mode
        except OSError:
            return tuple(warnings)  # it was replaced just now, and is looked at again
        if not mode & 0o077:
            return tuple(warnings)
        *others, clear = warnings
        return (*others, f"{clear}; others can read the file: chmod 600 {self._path}")

    def _next(self) -> UserRecord | None:
        """Return a line whose key is still to be derived."""
        waiting = (record for record in self._records.values() if record.password is not None)
        return next((record for record in waiting if record not in self._keys), None)

    def _key(self, user: str) -> bytes | None:
        record = self._records.get(user)
        if record is None or (user == ANONYMOUS and not self._allow_anonymous):
            return None
        return record.public_key or self._keys.get(record)

    def _derive(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopped or self._next() is not None)
                record = self._next()
            if self._stopped or record is None:
                return
            key = self._derived(record)
            with self._condition:
                self._keys[record] = key
                self._condition.notify_all()

    def _derived(self, record: UserRecord) -> bytes | None:
        password = (record.password or "").encode()
        try:
            secret = keys.password_secret(password, self._realm, record.name, self._kdf)
        except MemoryError:
            log.exception("no login of %s can succeed: its key cannot be derived", record.name)
            return None
        return keys.login_keys(secret).public_key
