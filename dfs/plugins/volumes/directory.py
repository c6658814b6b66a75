"""The directory of a node with rows in SQLite: one folder a vault, and `.node/`, which is the node's own."""

import re
import threading
from collections.abc import Callable, Sequence
from typing import Final

from dfs.core.api import ConfigError, NotInitialisedError, StoreError, StoreOptions, VaultStore

from .bodies import MakeBodies
from .vault import DATABASE_ERRORS, RowsVault, open_vault, vault_user

NODE_NAME: Final = ".node"
FORMAT_NAME: Final = "format"
FORMAT_SIZE_MAX: Final = 256
FORMAT_LINE: Final = re.compile(rb"[a-z0-9-]+@[0-9]+\n")
LOCK_NAME: Final = "lock"
HASHED_PREFIX: Final = "="
HASHED_SIZE: Final = 16
PLAIN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FOREIGN_ALLOWED: Final = frozenset({"lost+found"})  # an ext4 file system mounted for us has one


def folder_name(user: str) -> str:
    """Return the folder of a user: the name where it is harmless on every file system, else its hash."""
    if PLAIN_NAME.fullmatch(user):
        return user
    from blake3 import blake3

    return HASHED_PREFIX + blake3(user.encode()).hexdigest(HASHED_SIZE)


class RowsStore:
    """Everything a node keeps. Thread-safe; locks its directory.

    Who derives it says by ``name`` and ``format_version`` what made the directory, and where bytes go.
    """

    name: str
    format_version: int

    def __init__(self, options: StoreOptions) -> None:
        self._options: Final = options
        self._directory: Final = options.directory
        self._lock: Final = threading.Lock()
        self._vaults: dict[str, RowsVault] = {}
        self._closed = False
        try:
            self._release: Final = self._take_directory()
        except OSError as problem:
            raise StoreError(f"the directory {self._directory} cannot be used: {problem}") from problem

    def _take_directory(self) -> Callable[[], None]:
        """Lock the directory, marking an empty one as ours; a foreign one is left as it is."""
        files, node = self._options.files, f"{self._directory}/{NODE_NAME}"
        names = set(files.names(self._directory)) - FOREIGN_ALLOWED
        if names and NODE_NAME not in names:
            raise NotInitialisedError(
                f"{self._directory} holds something that is not a dfs node's",
                next_step="Name an empty directory, or the one this node had.",
            )
        files.make_folder(node)
        release = files.lock(f"{node}/{LOCK_NAME}")
        try:
            self._check_format(node)
        except BaseException:
            release()
            raise
        return release

    def _check_format(self, node: str) -> None:
        """Compare the format file with this store, or write it."""
        path, expected = f"{node}/{FORMAT_NAME}", f"{self.name}@{self.format_version}\n".encode()
        with_format = self._options.files.open(path, create=True)
        try:
            found = bytearray(FORMAT_SIZE_MAX)
            found = found[: with_format.read_into(memoryview(found), 0)]
            # What names no store was torn by a crash at the very first start, before its sync.
            if not FORMAT_LINE.fullmatch(found):
                with_format.truncate(0)
                with_format.write((expected,), 0)
                with_format.sync()
                self._options.files.sync_folder(node)
            elif found != expected:
                raise ConfigError(
                    f"{self._directory} was made by store {found.decode(errors='replace').strip()}, "
                    f"this is {self.name}@{self.format_version}"
                )
        finally:
            with_format.close()

    def users(self) -> Sequence[str]:
        """Return the users that have a vault here, sorted."""
        files = self._options.files
        found = set()
        for name in files.names(self._directory):
            if name != NODE_NAME and name not in FOREIGN_ALLOWED:
                user = self._user_of(name)
                if user is not None:
                    found.add(user)
        return sorted(found)

    def _user_of(self, name: str) -> str | None:
        try:
            return vault_user(f"{self._directory}/{name}", self._options.files)
        except NotADirectoryError:
            return None
        except (OSError, *DATABASE_ERRORS, StoreError):
            # A broken vault must not hide the others; whoever opens it is told. A hashed name is lost.
            return None if name.startswith(HASHED_PREFIX) else name

    def vault(self, user: str, *, create: bool) -> VaultStore:
        """Return the vault of a user, the same object each time."""
        with self._lock:
            if self._closed:
                raise StoreError(f"the store in {self._directory} is closed")
            found = self._vaults.get(user)
            if found is None:
                found = self._open(user, create=create)
                self._vaults[user] = found
            return found

    def _open(self, user: str, *, create: bool) -> RowsVault:
        folder = f"{self._directory}/{folder_name(user)}"
        return open_vault(folder, user, self._options, self.bodies(folder), create=create)

    def bodies(self, folder: str) -> MakeBodies:
        """Return what makes the keeper of bytes for the vault in a folder."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all vaults and unlock the directory; twice is fine."""
        with self._lock:
            self._closed = True
            for vault in self._vaults.values():
                vault.close()
            self._vaults.clear()
            self._release()
