"""The contract of a store, third part: what is there after a restart, a kill, a power cut, a failed call.

A run of deeds, each one transaction. While it goes on every call to the file system is a point at which it
might have ended: the folder as it is then, with or without what was not synced, must open to a state between
two deeds, and to no older one than was acknowledged.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dfs.core.api import (
    NO_BALLOT,
    BusyError,
    DfsError,
    DiskFullError,
    Files,
    RegisterRow,
    StoreError,
    Transaction,
    VaultStore,
)
from dfs.core.env import RealFiles
from dfs.testing.contracts.base import check_bytes
from dfs.testing.contracts.store_setup import StoreSetup
from dfs.testing.stores import (
    Event,
    FaultyFiles,
    ballot,
    body_of,
    claim,
    read,
    register_key,
    share_key,
    stage,
)

DEED_COUNT: Final = 9
KEPT_COUNT: Final = 3  # deeds whose shares are still claimed
SIZES: Final = (5, 20_000)  # of the two shares of each deed
POINT_COUNT_MAX: Final = 30


def deed(vault: VaultStore, number: int) -> None:
    """Keep two shares, claim them, write a register and a meta value, let go of an older deed's shares."""
    staged = [stage(vault, share_key(number, index), size) for index, size in enumerate(SIZES)]

    def work(transaction: Transaction) -> None:
        transaction.keep(staged)
        transaction.claim(register_key(number), ballot(1), [claim(number)])
        transaction.set_register(register_key(number), RegisterRow(accepted=ballot(1), value=b"%d" % number))
        transaction.unclaim(register_key(max(0, number - KEPT_COUNT)), ballot(2))
        transaction.collect(100)
        transaction.set_meta("last", b"%d" % number)

    vault.transact(work)


def state_of(vault: VaultStore) -> int:
    """Return after which deed a vault is, once all it holds was found to fit that."""
    last = int(vault.view(lambda view: view.meta("last")) or b"0")
    kept = range(max(1, last - KEPT_COUNT + 1), last + 1)
    keys = [share_key(number, index) for number in kept for index in range(len(SIZES))]
    assert vault.shares(None, 1000) == keys
    for key in keys:
        vault.verify(key)
        check_bytes(read(vault, key), body_of(key, SIZES[key.index]))
    for number in range(1, DEED_COUNT + 1):
        row = vault.view(lambda view, number=number: view.register(register_key(number)))  # type: ignore[misc]
        value = None if row is None else row.value
        assert value == (b"%d" % number if number <= last else None), f"register {number} after deed {last}"
        claims = vault.view(lambda view, number=number: view.claims(register_key(number), ballot(1)))  # type: ignore[misc]
        assert list(claims) == ([claim(number)] if number in kept else [])
    return last


class Watching(FaultyFiles):
    """A door that keeps an image of the folder before each call, as a kill or a power cut would leave it."""

    def __init__(self, files: Files, folder: Path, images: Path) -> None:
        super().__init__(files)
        self.acknowledged = 0
        self.points: list[tuple[Path, int, Event]] = []
        self._folder = folder
        self._images = images

    def happen(self, event: Event) -> None:
        """Keep two images, then go on."""
        super().happen(event)
        for ending in ("kill", "power"):
            image = self._images / f"{len(self.points)}-{ending}"
            shutil.copytree(self._folder, image)
            if ending == "power":
                self._take_back(image)
            self.points.append((image, self.acknowledged, event))

    def _take_back(self, image: Path) -> None:
        for path, writes in self.unsynced.items():
            inside = image / Path(path).relative_to(self._folder)
            if inside.exists():
                with inside.open("r+b") as file:
                    for write in reversed(writes):
                        file.seek(write.offset)
                        file.write(write.before)
                        file.truncate(write.size)


class Failing(FaultyFiles):
    """A door whose call number ``position`` fails; the others do not."""

    def __init__(self, files: Files, position: int, code: int) -> None:
        super().__init__(files)
        self._position = position
        self._code = code

    def happen(self, event: Event) -> None:
        """Fail once."""
        super().happen(event)
        if len(self.events) == self._position and event.what != "read":
            raise OSError(self._code, os.strerror(self._code))


class StoreCrashes(StoreSetup):
    """Restarts, kills, power cuts and failing disks."""

    def some(self, count: int) -> Iterator[int]:
        """Return points 1 to ``count``, or enough of them evenly spread."""
        step = max(1, count // POINT_COUNT_MAX)
        yield from range(1, count + 1, step)

    def test_a_restart_finds_everything(self, tmp_path: Path) -> None:
        self.skip_unless_durable()
        store = self.open(tmp_path)
        for number in range(1, DEED_COUNT + 1):
            deed(store.vault("alice", create=True), number)
        store.close()
        store = self.open(tmp_path)
        assert store.users() == ["alice"]
        vault = store.vault("alice", create=False)
        assert state_of(vault) == DEED_COUNT
        deed(vault, DEED_COUNT + 1)
        store.close()

    def test_a_directory_has_one_process(self, tmp_path: Path) -> None:
        self.skip_unless_durable()
        store = self.open(tmp_path)
        store.vault("alice", create=True)
        with pytest.raises(BusyError):
            self.open(tmp_path)
        store.close()
        self.open(tmp_path).close()

    def test_a_crash_at_any_point_loses_nothing_acknowledged(self, tmp_path: Path) -> None:
        self.skip_unless_durable()
        files = Watching(RealFiles(), tmp_path / "run", tmp_path / "images")
        (tmp_path / "run").mkdir()
        store = self.open(tmp_path / "run", files)
        vault = store.vault("alice", create=True)
        for number in range(1, DEED_COUNT + 1):
            deed(vault, number)
            files.acknowledged = number
        store.close()
        assert files.points, "the store does not use the door to the file system (StoreOptions.files)"
        for point in self.some(len(files.points)):
            image, acknowledged, event = files.points[point - 1]
            again = self.open(image)
            vault = again.vault("alice", create=True)
            assert state_of(vault) in {acknowledged, acknowledged + 1}, (image.name, event)
            deed(vault, DEED_COUNT + 7)
            again.close()

    @pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["error", "full"])
    def test_an_error_at_any_point_is_told_and_loses_nothing(self, tmp_path: Path, code: int) -> None:
        self.skip_unless_durable()
        counting = FaultyFiles(RealFiles())
        self.deeds(tmp_path / "whole", counting)
        for point in self.some(len(counting.events)):
            folder = tmp_path / str(point)
            acknowledged = self.deeds(folder, Failing(RealFiles(), point, code))
            store = self.open(folder)
            state = state_of(store.vault("alice", create=True))
            assert state in {acknowledged, acknowledged + 1}, (point, state, acknowledged)
            store.close()

    def deeds(self, folder: Path, files: FaultyFiles) -> int:
        """Do the deeds until one fails; return how many were acknowledged. Only DfsErrors may come."""
        folder.mkdir()
        acknowledged = 0
        try:
            store = self.open(folder, files)
        except DfsError:
            return 0
        try:
            vault = store.vault("alice", create=True)
            for number in range(1, DEED_COUNT + 1):
                deed(vault, number)
                acknowledged = number
        except (StoreError, DiskFullError):
            pass
        finally:
            store.close()
        return acknowledged

    def test_a_read_only_vault_says_why_and_still_reads(self, tmp_path: Path) -> None:
        self.skip_unless_durable()
        files = FaultyFiles(RealFiles())
        store = self.open(tmp_path, files)
        vault = store.vault("alice", create=True)
        deed(vault, 1)
        files.fail("sync", errno.EIO, count=1000)
        with pytest.raises(StoreError):
            deed(vault, 2)
        assert vault.read_only_reason
        check_bytes(read(vault, share_key(1, 1)), body_of(share_key(1, 1), SIZES[1]))
        assert vault.view(lambda view: view.floor(register_key(1).directory)) == NO_BALLOT
        with pytest.raises(StoreError):
            stage(vault, share_key(9), SIZES[1])
        store.close()
