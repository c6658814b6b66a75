"""The store `volumes`: larger shares go to append-only files beside the rows."""

import re
from typing import Final

from dfs.core.api import ConfigError, StoreOptions, UnknownKeyError

from .bodies import Bodies, Fail, MakeBodies
from .directory import RowsStore
from .files import Volumes

NAME: Final = "volumes"
FORMAT_VERSION: Final = 1
VOLUMES_NAME: Final = "volumes"
VOLUME_SIZE: Final = 256 << 20
VOLUME_SIZE_MIN: Final = 64 << 10
VOLUME_SIZE_MAX: Final = 1 << 40


def volume_size_of(options: StoreOptions) -> int:
    """Return the option ``volume_size``. Raises: ConfigError: another option, or not such a size."""
    for key in options.values:
        if key != "volume_size":
            raise UnknownKeyError(f"plugin {NAME} has no option {key!r}: it has volume_size")
    text = options.values.get("volume_size", str(VOLUME_SIZE))
    size = int(text) if re.fullmatch(r"[0-9]{1,13}", text, re.ASCII) else 0
    if not VOLUME_SIZE_MIN <= size <= VOLUME_SIZE_MAX:
        raise ConfigError(
            f"plugin {NAME}: volume_size is bytes, {VOLUME_SIZE_MIN} to {VOLUME_SIZE_MAX}, not {text!r}"
        )
    return size


class VolumesStore(RowsStore):
    """A store that keeps everything in its directory."""

    name = NAME
    format_version = FORMAT_VERSION

    def __init__(self, options: StoreOptions) -> None:
        self._volume_size: Final = volume_size_of(options)
        super().__init__(options)

    def bodies(self, folder: str) -> MakeBodies:
        """Return what opens the volume files of a vault."""
        files, volumes = self._options.files, f"{folder}/{VOLUMES_NAME}"

        def make(vault_id: bytes, fail: Fail) -> Bodies:
            files.make_folder(volumes)
            return Volumes(volumes, files, vault_id, self._volume_size, fail)

        return make
