"""What the parts of the contract of a store share: a store in a folder of its own, and a vault in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from dfs.core.api import Files, Settings, Store, StoreOptions, StorePlugin, VaultStore
from dfs.core.env import RealEnv, RealFiles
from dfs.testing.contracts.base import OptionedContract

INLINE_SIZE_MAX: Final = 64


class StoreSetup(OptionedContract[StorePlugin]):
    """A plugin that declares itself not ``durable`` is for tests only, and skips crashes visibly."""

    kind = StorePlugin

    def options(self, folder: Path, files: Files, values: Settings) -> StoreOptions:
        """Return the options a node would give."""
        return StoreOptions(
            directory=str(folder / "node"),
            files=files,
            env=RealEnv(),
            inline_size_max=INLINE_SIZE_MAX,
            reserve_size=0,
            values=values,
        )

    def open(self, folder: Path, files: Files | None = None) -> Store:
        """Open the store of a folder, through this door to the file system."""
        store: Store = self.plugin.make(self.options(folder, files or RealFiles(), self.values))
        return store

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(self.options(Path("/nowhere"), RealFiles(), values))

    @pytest.fixture(name="store")
    def open_store(self, tmp_path: Path) -> Iterator[Store]:
        """Open a store in an empty folder."""
        opened = self.open(tmp_path)
        yield opened
        opened.close()

    @pytest.fixture(name="vault")
    def make_vault(self, store: Store) -> VaultStore:
        """Make a vault in it."""
        return store.vault("alice", create=True)

    def skip_unless_durable(self) -> Any:  # noqa: ANN401 - pytest.skip does not return
        """Skip the test for a store that keeps nothing."""
        if not self.plugin.durable:
            pytest.skip("declared as not durable: for tests only")
