"""Remote paths: their canonical form, and text that is safe to print.

Canonical: NFC, components joined by "/", no leading or trailing slash, the root is "". See docs/formats.md.
"""

import unicodedata

from dfs.core import limits
from dfs.core.errors import ConfigError, IntegrityError


def canonical(path: str) -> str:
    """Return the canonical form of a remote path; the root (also "." and "/") is "".

    Raises:
        ConfigError: ``..``, a control character, or too long or deep.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{printable(path)}: a name must be UTF-8") from None
    parts = [part for part in unicodedata.normalize("NFC", path).split("/") if part not in {"", "."}]
    for part in parts:
        if part == "..":
            raise ConfigError(f"{printable(path)}: '..' is not allowed in remote paths")
        if not part.isprintable() and any(unicodedata.category(character) == "Cc" for character in part):
            raise ConfigError(f"{printable(path)}: control characters are not allowed in remote names")
        if len(part.encode()) > limits.NAME_SIZE_MAX:
            raise ConfigError(f"{printable(part)}: a name has at most {limits.NAME_SIZE_MAX} bytes")
    joined = "/".join(parts)
    if len(joined.encode()) > limits.PATH_SIZE_MAX or len(parts) > limits.PATH_DEPTH_MAX:
        raise ConfigError(
            f"{printable(path)}: a path has at most {limits.PATH_SIZE_MAX} bytes"
            f" and {limits.PATH_DEPTH_MAX} levels"
        )
    return joined


def parent_of(path: str) -> str:
    """Return the folder of a canonical path."""
    return path.rpartition("/")[0]


def name_of(path: str) -> str:
    """Return the last component of a canonical path."""
    return path.rpartition("/")[2]


def ancestors(path: str) -> list[str]:
    """Return the folders above a canonical path, outermost first, without the root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def join(folder: str, name: str) -> str:
    """Return the canonical path of a name in a folder."""
    return f"{folder}/{name}" if folder else name


_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return text from elsewhere with control, format and bidirectional characters escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSAFE
        else character
        for character in text
    )


def relative_to(path: str, folder: str) -> str:
    """Return a path below a folder. Raises: IntegrityError: it is not, or would climb out of it."""
    prefix = f"{folder}/" if folder else ""
    try:
        below = canonical(path) == path and path.startswith(prefix)
    except ConfigError:
        below = False
    if not below:
        raise IntegrityError(f"{printable(path)} is listed in {printable(folder)}/ but does not belong there")
    return path.removeprefix(prefix)
