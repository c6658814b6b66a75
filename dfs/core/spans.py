"""Parts of files, and versions of files, as people write them."""

import re

from dfs.core.errors import ConfigError
from dfs.core.limits import OPERATION_ID_SIZE
from dfs.core.records import frozen
from dfs.core.types import Version


@frozen
class Span:
    """A part of a file, by offsets of bytes, both inclusive. ``first`` None: the ``last`` so many bytes.

    ``last`` None: to the end.
    """

    first: int | None = 0
    last: int | None = None


def parse_span(text: str) -> Span:
    """Return a part of a file such as ``0-99`` (100 bytes), ``100-`` (the rest) or ``-100`` (the end).

    Raises: ConfigError: it is none.
    """
    match = re.fullmatch(r"([0-9]{0,18})-([0-9]{0,18})", text.strip())
    if match is None or not (match[1] or match[2]):
        raise ConfigError("expected a range of bytes such as '0-99', '100-' or '-100'")
    first, last = (int(digits) if digits else None for digits in match.groups())
    if first is not None and last is not None and last < first:
        raise ConfigError("a range ends before it begins")
    return Span(first, last)


def parse_version(text: str) -> Version:
    """Return what --if-version names, as `ls --json` shows it. Raises: ConfigError: it is none."""
    try:
        version = bytes.fromhex(text)
    except ValueError:
        version = b""
    if len(version) != OPERATION_ID_SIZE:
        raise ConfigError(f"--if-version: expected {2 * OPERATION_ID_SIZE} hexadecimal digits")
    return Version(version)


def span_bounds(span: Span, size: int) -> tuple[int, int]:
    """Return where a part of a file begins and ends (exclusive); past the end there is nothing."""
    if span.first is None:
        return max(0, size - (span.last or 0)), size
    end = size if span.last is None else min(size, span.last + 1)
    return min(span.first, end), end
