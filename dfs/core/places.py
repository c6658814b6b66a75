"""Where confs, the client's memory and the user's name are found; light, so that a password can be derived
early.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dfs.core.conf import apply_environment, parse_client
from dfs.core.errors import ConfigError, NoConfError
from dfs.core.settings import ClientConf

NODE_CONF: Final = "/etc/dfs/node.toml"


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for what the client remembers (known nodes, history)."""
    if os.name == "posix":
        base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return Path(base) / "dfs"
    import platformdirs

    return Path(platformdirs.user_state_dir("dfs", appauthor=False))


def _config_folder(environ: Mapping[str, str]) -> Path:
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "dfs"
    if os.name == "posix":  # also on a Mac: people of the command line look there
        return Path.home() / ".config" / "dfs"
    import platformdirs

    return Path(platformdirs.user_config_dir("dfs", appauthor=False))


def conf_candidates(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return where a client conf is looked for, in order."""
    return [
        Path("dfc.conf"),
        Path.home() / "dfc.conf",
        Path("dfs.toml"),
        _config_folder(environ) / "config.toml",
        Path("/etc/dfs/config.toml"),
    ]


def read_conf(path: str) -> bytes:
    """Return the bytes of a conf file. Raises: ConfigError: it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", file=path) from None


def load_conf(path: str | None = None, environ: Mapping[str, str] = os.environ) -> ClientConf:
    """Return the client conf of a file, of DFS_CONF, or the first found, with the environment applied.

    Raises:
        NoConfError: none is found. ConfigError: it is faulty.
    """
    path = path or environ.get("DFS_CONF") or None
    if path is None:
        path = next((str(place) for place in conf_candidates(environ) if place.is_file()), None)
    if path is None:
        raise NoConfError(f"no conf found ({', '.join(map(str, conf_candidates(environ)))})")
    return apply_environment(parse_client(read_conf(path), path), environ)


def system_user() -> str:
    """Return the login name of whoever runs this. Raises: ConfigError: the system knows none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigError("the system has no name for you", next_step="Name a user in the conf.") from None
