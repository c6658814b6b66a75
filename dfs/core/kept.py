"""Logins that are kept: the derived secret, in a file of the client's memory or in the system's keyring.

Who has it is the user, so a file that others can read is refused. The library of keyrings is imported only
for somebody who uses one.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dfs.core.credentials import LoginSecret, ask_password, kdf_of, private_file, secret_file
from dfs.core.errors import ConfigError
from dfs.core.keys import KdfParameters
from dfs.core.places import state_folder, system_user
from dfs.core.settings import ClientConf

SERVICE: Final = "dfs"
PLACES: Final = ("file", "keyring")
_LINE: Final = re.compile(r"dfs-login-1 (file|keyring) (\d{1,20}) (\d{1,4}) (\d{1,4})(?: ([0-9a-f]{64}))?\n?")


class KeptLogin:
    """The kept login of one user of one cluster.

    A file says where the secret is and by which derivation it was made; one of another derivation is none.
    """

    def __init__(self, folder: Path, conf: ClientConf, user: str) -> None:
        self._account: Final = f"{conf.cluster}/{conf.realm}/{user}"
        self._kdf: Final = kdf_of(conf)
        self._keyring_only: Final = conf.keyring
        named = f"{conf.cluster}\0{conf.realm}\0{user}".encode()
        self.path: Final = folder / "logins" / hashlib.blake2s(named, digest_size=16).hexdigest()

    def place(self) -> str:
        """Return where it is kept: file, keyring or "". Raises: SecretFileError, ConfigError."""
        match = self._read()
        return match[1] if match is not None else ""

    def load(self) -> bytes | None:
        """Return the kept secret, None if there is none.

        Raises:
            SecretFileError: others can read it. ConfigError: the keyring cannot be used.
        """
        match = self._read()
        if match is None:
            return None
        secret = match[5] if match[1] == "file" else _keyring_call("get_password", SERVICE, self._account)
        if not isinstance(secret, str) or not re.fullmatch(r"[0-9a-f]{64}", secret):
            return None
        return bytes.fromhex(secret)

    def keep(self, secret: bytes, place: str) -> None:
        """Keep a secret, in the place of what was kept before. Raises: ConfigError."""
        self.forget()
        in_file = place == "file"
        if not in_file:
            _keyring_call("set_password", SERVICE, self._account, secret.hex())
        kdf: KdfParameters = self._kdf
        words = ["dfs-login-1", place, str(kdf.memory_size), str(kdf.passes), str(kdf.lanes)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"{self.path.parent}: {error.strerror}") from None
        private_file(str(self.path), " ".join([*words, *([secret.hex()] if in_file else [])]) + "\n")

    def forget(self) -> bool:
        """Forget it, whoever can read it; returns whether anything was kept. Raises: ConfigError."""
        if not self.path.exists():
            return False
        try:
            match = _LINE.fullmatch(self.path.read_text("ascii", errors="replace"))
            if match is not None and match[1] == "keyring":
                _keyring_call("delete_password", SERVICE, self._account)
            os.unlink(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from None
        return True

    def _read(self) -> "re.Match[str] | None":
        if not self.path.exists():
            return None
        match = _LINE.fullmatch(secret_file(str(self.path)).decode("ascii", "replace"))
        if match is None:
            return None
        made_by = KdfParameters(int(match[2]), int(match[3]), int(match[4]))
        wanted = match[1] == "keyring" or not self._keyring_only
        return match if made_by == self._kdf and wanted else None


def _keyring_call(name: str, *arguments: str) -> Any:  # noqa: ANN401 - what the library returns
    keyring = _keyring()
    try:
        return getattr(keyring, name)(*arguments)
    except keyring.errors.PasswordDeleteError:
        return None  # it is gone
    except keyring.errors.KeyringError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"the keyring of this system cannot be used: {reason}", next_step="Use --keep file."
        ) from None


def _keyring() -> Any:  # noqa: ANN401 - a module, which may not be there
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise ConfigError(
            "keyrings need the package keyring", next_step="Install it: pip install 'dfs[keyring]'."
        ) from None
    return keyring


def login_secret(
    conf: ClientConf, ask: Callable[[str], bytes] = ask_password, folder: Path | None = None
) -> LoginSecret:
    """Return the login keys of a conf's user: of its source, else kept by `dfs login`, else asked for.

    Raises:
        NoPasswordError, SecretFileError, ConfigError.
    """
    user = conf.user or system_user()
    return LoginSecret(conf, user, ask, KeptLogin(folder or state_folder(), conf, user).load)
