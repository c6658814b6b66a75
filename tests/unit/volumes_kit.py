"""For the tests of the store `volumes`: a vault with small volumes behind a faulty door, and the usual steps.

A test module imports each fixture it needs by its function, so: `make_files as make_files`.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from dfs.core.api import Claim, Geometry, Store, StoreOptions, VaultStore
from dfs.core.env import RealEnv, RealFiles
from dfs.plugins import volumes
from dfs.plugins.volumes import files as volume_files
from dfs.testing.stores import FaultyFiles, ballot, body_of, collect, keep, read, register_key, share_key

SIZE = 20_000  # three such shares fill a volume
VOLUME_SIZE = 65_536
HEADER_SIZE = volume_files.HEADER_SIZE


@pytest.fixture(name="files")
def make_files() -> FaultyFiles:
    return FaultyFiles(RealFiles())


@pytest.fixture(name="options")
def make_options(tmp_path: Path, files: FaultyFiles) -> StoreOptions:
    return StoreOptions(
        directory=str(tmp_path / "node"),
        files=files,
        env=RealEnv(),
        inline_size_max=64,
        reserve_size=0,
        values={"volume_size": str(VOLUME_SIZE)},
    )


@pytest.fixture(name="store")
def open_store(options: StoreOptions) -> Iterator[Store]:
    opened = volumes.make(options)
    yield opened
    opened.close()


@pytest.fixture(name="vault")
def make_vault(store: Store) -> VaultStore:
    return store.vault("alice", create=True)


@pytest.fixture(name="folder")
def name_folder(options: StoreOptions) -> Path:
    """The volume files of alice."""
    return Path(options.directory) / "alice" / "volumes"


def put(vault: VaultStore, *numbers: int, size: int = SIZE) -> None:
    keep(vault, *map(share_key, numbers), size=size)


def drop(vault: VaultStore, *numbers: int) -> None:
    """Collect these and nothing else: one register claims the rest."""
    gone = set(map(share_key, numbers))
    rest = [
        Claim(key.stripe, 0, "", Geometry(1, 1), ()) for key in vault.shares(None, 1000) if key not in gone
    ]
    vault.transact(lambda transaction: transaction.claim(register_key(0), ballot(1), rest))
    assert collect(vault) == len(numbers)


def check(vault: VaultStore, *numbers: int, size: int = SIZE) -> None:
    """These shares and no others are here, with the bytes they came with."""
    keys = [share_key(number) for number in numbers]
    assert vault.shares(None, 1000) == keys
    assert vault.used_size == size * len(keys)
    for key in keys:
        vault.verify(key)
        assert read(vault, key) == body_of(key, size)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def generation(path: Path) -> int:
    return int(volume_files.HEADER.unpack(path.read_bytes()[: volume_files.HEADER.size])[3])


@pytest.fixture(name="reopen")
def make_reopen(store: Store, options: StoreOptions) -> Iterator[Callable[..., VaultStore]]:
    """Close the store and open it again; ``crash``: open a copy of what a crash would leave instead."""
    opened = []

    def again(*, crash: bool = False, prepare: Callable[[Path], object] = lambda _: None) -> VaultStore:
        now = options
        if crash:
            now = evolve(options, directory=options.directory + "-crashed")
            shutil.copytree(options.directory, now.directory)
        store.close()
        prepare(Path(now.directory) / "alice")
        opened.append(volumes.make(now))
        return opened[-1].vault("alice", create=False)

    yield again
    for each in opened:
        each.close()
