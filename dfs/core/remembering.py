"""What a client remembers between commands: the marks of nodes, and the floors of paths.

Floors are one authenticated file a directory, replaced atomically. A file that is gone or altered costs what
it told and nothing else: no command fails for it.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dfs.core.credentials import KnownMarks
from dfs.core.env import lock_alone
from dfs.core.errors import IntegrityError
from dfs.core.floors import Floors, decode_floors, encode_floors
from dfs.core.records import evolve
from dfs.core.transfer import Vault
from dfs.core.types import Ballot, DirectoryId, NameId, NodeId
from dfs.core.wire import Mark


class FloorFiles:
    """The floors of one vault, in ``folder``/floors; ``key``: the vault's floor key."""

    def __init__(self, folder: Path, realm: str, user: str, key: bytes) -> None:
        name = hashlib.blake2s(f"{realm}\0{user}".encode(), digest_size=16).hexdigest()
        self._folder = folder / "floors" / name
        self._key = key

    def path_of(self, directory: DirectoryId) -> Path:
        """Return where the floors of a directory are."""
        return self._folder / directory.hex()

    def load(self, directory: DirectoryId) -> dict[NameId, Ballot]:
        """Return what is remembered of a directory; nothing where the file is gone or not authentic."""
        try:
            return decode_floors(self._key, directory, self.path_of(directory).read_bytes())
        except (OSError, IntegrityError):
            return {}

    def floors(self) -> Floors:
        """Return the floors, read when first needed."""
        return Floors(self.load)

    def keep(self, floors: Floors) -> None:
        """Write down what is new; of two clients that do so at once one waits, and the higher floor wins."""
        with contextlib.suppress(OSError):
            for directory in floors.changed():
                self._keep(floors, directory)

    def _keep(self, floors: Floors, directory: DirectoryId) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path_of(directory)
        with (self._folder / "lock").open("w") as guard:
            lock_alone(guard.fileno())
            merged = floors.merged(directory, self.load(directory))
            temporary = path.with_suffix(".new")
            temporary.write_bytes(encode_floors(self._key, directory, merged))
            temporary.replace(path)


class Memories:
    """What one client remembers of one vault; ``state``: its state folder, ``user``: whose vault it is."""

    def __init__(self, state: Path, realm: str, user: str) -> None:
        self.marks: Final = KnownMarks(state, realm, user)
        self._place = state, realm, user
        self._files: FloorFiles | None = None

    def recall(self, vault: Vault) -> Vault:
        """Return an opened vault with what is remembered of it, and nobody suspected yet."""
        if vault.keyless:
            return evolve(vault, suspicions={})
        self._files = FloorFiles(*self._place, vault.keys.floor)
        return evolve(vault, floors=self._files.floors(), suspicions={})

    def keep(self, marks: Mapping[NodeId, Mark], vault: Vault) -> None:
        """Write down what is new of the vault that was recalled."""
        self.marks.keep(marks)
        if self._files is not None:
            self._files.keep(vault.floors)
