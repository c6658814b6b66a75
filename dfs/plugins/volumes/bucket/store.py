"""The directory of a node and its folder in a bucket, and what is done in both beside requests."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define

from dfs.core.api import (
    DfsError,
    Env,
    File,
    NotFoundError,
    NotInitialisedError,
    StoreError,
    StoreOptions,
    VaultStore,
)
from dfs.plugins.volumes.directory import NODE_NAME, RowsStore, folder_name
from dfs.plugins.volumes.vault import DATABASE_NAME, RowsVault, open_vault

from .door import Bucket
from .objects import FOLDER, Objects
from .options import NAME, BucketOptions
from .returning import RETURNING, compare, mark_returning, restore_rows
from .snapshots import Snapshots

FORMAT_VERSION: Final = 1
HOLDER_NAME: Final = f"{NODE_NAME}/holder"  # in the bucket and in the directory: the same in both
IDENTITY_NAME: Final = f"{NODE_NAME}/node-id"  # in the bucket a copy of the directory's
LOST_NAME: Final = f"{NODE_NAME}/node-id-lost"  # where the core looks for the id of a node that was lost
HOLDER_SIZE: Final = 16
SMALL_SIZE_MAX: Final = 4096
TICK_S: Final = 5.0
AGAIN_S: Final = 300.0  # after which a copy that failed is tried again
PATIENCE_S: Final = 5.0  # for a request under way when the node stops

log: Final = logging.getLogger("dfs")


@define
class Keeper:
    """A vault, what it has in the bucket, and when a copy of its rows is due."""

    user: str
    vault: RowsVault
    objects: Objects
    snapshots: Snapshots
    interval_s: float
    due_s: float
    copied_count: int = -1  # changes that the last copy has

    def is_due(self, now_s: float) -> bool:
        """Whether it is time to copy the rows, and they changed."""
        return now_s >= self.due_s and self.copied_count != self.vault.change_count

    def work(self, now_s: float) -> None:
        """Remove what nothing means any more, and copy the rows when it is time. Raises: as `Snapshots`."""
        self.objects.tidy()
        if not self.objects.swept:
            self.objects.sweep(self.vault.read)
        if self.is_due(now_s):
            count = self.vault.change_count
            self.due_s = now_s + min(AGAIN_S, self.interval_s)  # should it fail: it may cost each time
            self.snapshots.write(self.vault, self.user)
            self.copied_count, self.due_s = count, now_s + self.interval_s


class BucketStore(RowsStore):
    """A store whose larger shares and copies of rows are in a bucket. Thread-safe."""

    name = NAME
    format_version = FORMAT_VERSION

    def __init__(self, options: StoreOptions, values: BucketOptions, bucket: Bucket) -> None:
        self._bucket: Final = bucket
        self._values: Final = values
        self._env: Final[Env] = options.env
        self._keepers: dict[str, Keeper] = {}
        self._identity = b""  # as the bucket has it
        self._holder = b""
        self._told: dict[str, str] = {}  # what failed, and how: an outage is told once
        self._tidying: Final = threading.Lock()
        self._stopping: Final = threading.Event()
        super().__init__(options)
        try:
            self._take_bucket()
        except OSError as problem:
            self._release()
            raise StoreError(f"the directory {self._directory} cannot be used: {problem}") from problem
        except BaseException:
            self._release()
            raise
        self._thread: Final = threading.Thread(target=self._upkeep, name="dfs-bucket", daemon=True)
        self._thread.start()

    # --- Whose bucket it is ---------------------------------------------------------------------------------

    def _take_bucket(self) -> None:
        """Make sure that this directory and that folder of a bucket belong together, and to nobody else."""
        mine, theirs = self._small(HOLDER_NAME), self._object(HOLDER_NAME)
        if mine and theirs and mine != theirs:
            raise StoreError(
                f"another machine has taken over {self._bucket.url} since",
                next_step=f"{self._directory} is out of date: stop for good, or start with an empty one.",
            )
        if mine and not theirs and self.users():
            raise StoreError(
                f"{self._bucket.url} holds nothing of this node, whose rows are in {self._directory}",
                next_step="Look whether url in [plugin.bucket] names the bucket and folder it had.",
            )
        if theirs and not mine:
            self._come_back()
            mine = self._new_holder()
            self._bucket.put(HOLDER_NAME, mine)
            self._write_small(HOLDER_NAME, mine)
        elif not theirs:
            mine = mine or self._new_holder()
            self._write_small(HOLDER_NAME, mine)
            self._bucket.put(HOLDER_NAME, mine)
        self._holder = mine

    def _new_holder(self) -> bytes:
        return b"dfs bucket 1\nholder %s\n" % self._env.random_bytes(HOLDER_SIZE).hex().encode()

    def _come_back(self) -> None:
        """Take over what a lost machine left in the bucket."""
        if not self._values.restore:
            raise NotInitialisedError(
                f"{self._bucket.url} holds a node, and {self._directory} is empty",
                next_step="If its machine is lost for good, say restore = true in [plugin.bucket]; "
                "else name another folder of the bucket.",
            )
        log.warning("taking over the node in %s", self._bucket.url)
        identity = self._object(IDENTITY_NAME)
        if identity and not self._small(IDENTITY_NAME):
            self._write_small(LOST_NAME, identity)
        for folder in self._bucket.folders():
            newest = next(self._snapshots(folder).newest(), None) if folder != NODE_NAME else None
            if newest is not None and folder_name(newest.user) == folder:
                super().vault(newest.user, create=True)

    def _object(self, name: str) -> bytes:
        try:
            return bytes(self._bucket.get(name))
        except NotFoundError:
            return b""

    def _small(self, name: str) -> bytes:
        """Return a small file of the directory, empty when it is not there."""
        folder, _, file_name = name.rpartition("/")
        files = self._options.files
        if file_name not in files.names(f"{self._directory}/{folder}"):
            return b""
        file = files.open(f"{self._directory}/{name}", create=False)
        try:
            found = bytearray(SMALL_SIZE_MAX)
            return bytes(found[: file.read_into(memoryview(found), 0)])
        finally:
            file.close()

    def _write_small(self, name: str, content: bytes) -> None:
        file: File = self._options.files.open(f"{self._directory}/{name}", create=True)
        try:
            file.truncate(0)
            file.write((content,), 0)
            file.sync()
        finally:
            file.close()
        self._options.files.sync_folder(f"{self._directory}/{NODE_NAME}")

    # --- Vaults ---------------------------------------------------------------------------------------------

    def vault(self, user: str, *, create: bool) -> VaultStore:
        """Return the vault of a user, the same object each time."""
        found = super().vault(user, create=create)
        self._keep_identity()
        return found

    def _keep_identity(self) -> None:
        """Bring the node's id into the bucket before a vault tells anything under it."""
        try:
            identity = self._small(IDENTITY_NAME)
        except OSError as problem:
            raise StoreError(f"the directory {self._directory} cannot be read: {problem}") from problem
        if identity and identity != self._identity:
            self._bucket.put(IDENTITY_NAME, identity)
            self._identity = identity

    def _snapshots(self, folder: str) -> Snapshots:
        local = f"{self._directory}/{folder}"
        return Snapshots(self._bucket, folder, local, self._options.files)

    def _open(self, user: str, *, create: bool) -> RowsVault:
        folder = folder_name(user)
        local = f"{self._directory}/{folder}"
        snapshots = self._snapshots(folder)
        fresh = create and DATABASE_NAME not in self._options.files.names(local)
        left = fresh and self._restore(snapshots, user, local)
        objects = Objects(self._bucket, folder, self._env, self._room_left)
        vault = open_vault(local, user, self._options, lambda _id, _fail: objects, create=create)
        try:
            if left:
                vault.change(mark_returning)
            if vault.own(RETURNING):
                done = compare(vault, objects)
                log.warning(
                    "the vault of %s is back from the bucket: %d shares found again, %d lost",
                    *(user, done.adopted_count, done.lost_count),
                )
        except BaseException:
            vault.close()
            raise
        now_s, interval_s = self._env.monotonic_s(), self._values.snapshot_s
        due_s = now_s + (interval_s if objects.swept and not fresh else 0.0)
        self._keepers[user] = Keeper(user, vault, objects, snapshots, interval_s, due_s)
        return vault

    def _restore(self, snapshots: Snapshots, user: str, local: str) -> bool:
        """Bring rows back from the bucket; returns whether there are objects but no rows."""
        try:
            if restore_rows(snapshots, local, self._options.files) is not None:
                return False
        except (OSError, sqlite3.Error) as problem:
            raise StoreError(f"the rows of {user} cannot be brought back: {problem}") from problem
        return next(self._bucket.names(f"{folder_name(user)}/{FOLDER}"), None) is not None

    def _room_left(self) -> int:
        used_size = sum(keeper.vault.used_size for keeper in list(self._keepers.values()))
        return max(0, self._values.capacity - used_size)

    # --- Upkeep ---------------------------------------------------------------------------------------------

    def _upkeep(self) -> None:
        while not self._stopping.wait(TICK_S):
            self.tidy()

    def tidy(self) -> None:
        """Do what is due: remove objects, copy rows, look whether the bucket answers again."""
        with self._tidying:
            now_s, keepers = self._env.monotonic_s(), list(self._keepers.values())
            if not self._try("", lambda: self._look(now_s, keepers)):
                return
            for keeper in keepers:
                self._try(keeper.user, lambda keeper=keeper: keeper.work(now_s))  # type: ignore[misc]

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        """Do it, telling a failure once; returns whether it was done."""
        try:
            work()
        except (DfsError, OSError, sqlite3.Error) as problem:
            if self._told.get(what) != str(problem):
                self._told[what] = str(problem)
                log.warning("%s", problem)
            return False
        self._told.pop(what, None)
        return True

    def _look(self, now_s: float, keepers: Sequence[Keeper]) -> None:
        """Look whether the bucket answers, and before copies whether it is still ours."""
        if self._bucket.outage is not None:
            self._bucket.probe()
        if any(keeper.is_due(now_s) for keeper in keepers) and self._object(HOLDER_NAME) != self._holder:
            reason = f"another machine has taken over {self._bucket.url}"
            for keeper in keepers:
                keeper.vault.fail(reason)
            self._stopping.set()
            raise StoreError(reason, next_step=f"Stop this node: {self._directory} is out of date.")

    def close(self) -> None:
        """Copy what changed, close all vaults and unlock the directory; twice is fine."""
        given_up = self._stopping.is_set()
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        if not (given_up or self._thread.is_alive()) and self._bucket.outage is None:
            for keeper in self._keepers.values():
                keeper.due_s = 0.0
            self.tidy()
        super().close()
