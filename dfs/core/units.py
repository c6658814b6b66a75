"""Sizes, durations, rates and addresses as people write and read them.

What reads them raises ConfigError with a bare reason; the caller knows which key, flag or line it was about.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from dfs.core.errors import ConfigError

SIZE_MAX: Final = (1 << 63) - 1  # bytes; what SQLite and the file system can count
DURATION_S_MAX: Final = 366 * 86400.0
PORT_MAX: Final = 65535
KIBI: Final = 1024
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86400

SIZES: Final[Mapping[str, int]] = {
    unit: 1 << (10 * power) for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
}
SHOWN_SIZES: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# In milliseconds, so that every unit is a whole number.
DURATIONS: Final[Mapping[str, int]] = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

# The digits are bounded before int() sees them.
QUANTITY: Final = r"([0-9]{1,18})(?:\.([0-9]{1,9}))?[ \t]*([A-Za-z]+)"
ADDRESS: Final = r"(?:\[([^\[\]]*)\]|([^ \t:\[\]]+))(?::|[ \t]+)([0-9]+)"


def _quantity(text: str, units: Mapping[str, int], expected: str) -> int:
    match = re.fullmatch(QUANTITY, text.strip(" \t"))
    if match is None or match[3] not in units:
        raise ConfigError(f"expected {expected}")
    unit = units[match[3]]
    billionths = int((match[2] or "").ljust(9, "0"))
    return int(match[1]) * unit + billionths * unit // 1_000_000_000


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``4 MiB``.

    Raises: ConfigError: it is none, or too large.
    """
    size = _quantity(text, SIZES, "a size such as '4 MiB' (B, KiB, MiB, GiB, TiB, PiB)")
    if size > SIZE_MAX:
        raise ConfigError("the size is too large")
    return size


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``1 s``: more than none, a year at most.

    Raises: ConfigError: it is none, or out of range.
    """
    seconds = _quantity(text, DURATIONS, "a duration such as '1 s' (ms, s, min, h, d)") / 1000
    if not 0.0 < seconds <= DURATION_S_MAX:
        raise ConfigError("the duration is out of range: more than 0, at most 366 d")
    return seconds


def parse_rate(text: str) -> int:
    """Return the bytes a second of a rate such as ``10 MiB/s``.

    Raises: ConfigError: it is none, or out of range.
    """
    expected = "a rate such as '10 MiB/s'"
    amount, slash, per = text.rpartition("/")
    if not slash or per.strip(" \t") != "s":
        raise ConfigError(f"expected {expected}")
    rate = _quantity(amount, SIZES, expected)
    if not 0 < rate <= SIZE_MAX:
        raise ConfigError("the rate is out of range")
    return rate


def split_address(text: str, *, port_min: int = 1) -> tuple[str, int]:
    """Return name and port of ``name:port`` or ``name port``; an IPv6 number loses its brackets here.

    Raises: ConfigError: it is no address, or the port is not in ``port_min``..65535.
    """
    match = re.fullmatch(ADDRESS, text)
    if match is None or not text.replace("\t", " ").isprintable():
        raise ConfigError(no_address(text))
    if match[1] is not None:
        _check_ipv6(match[1])
    port = match[3].lstrip("0") or "0"
    if len(port) > len(str(PORT_MAX)) or not port_min <= int(port) <= PORT_MAX:
        raise ConfigError(f"port {match[3]} out of range")
    return match[1] or match[2], int(port)


def no_address(text: str) -> str:
    """Return the reason why a text is no address, fit for a terminal."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    brackets = ", IPv6 needs brackets" if text.count(":") > 1 and "[" not in text else ""
    return f"expected host:port, got '{shown}'{brackets}"


def _check_ipv6(text: str) -> None:
    import ipaddress  # only a bracket needs it, and every command imports this file

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ConfigError(f"'[{text}]' is no IPv6 address") from None


def join_address(machine: str, port: int) -> str:
    """Return ``machine:port``, an IPv6 number in brackets: the one way dfs writes an address."""
    return f"[{machine}]:{port}" if ":" in machine else f"{machine}:{port}"


# --- Figures for people -------------------------------------------------------------------------------------


def size_text(size: int) -> str:
    """Return a size in bytes with one decimal: ``17.5 KiB``."""
    if size < KIBI:
        return f"{size} B"
    value = float(size)
    for unit in SHOWN_SIZES:
        value /= KIBI
        if round(value, 1) < KIBI:
            return f"{value:.1f} {unit}"
    return f"{value:.1f} {SHOWN_SIZES[-1]}"


def parse_mode(text: str) -> int:
    """Return permission bits such as ``644``. Raises: ConfigError: it is no octal number up to 777."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ConfigError("expected keep, or three octal digits such as 644")
    return int(text, 8)


def exact_size(size: int) -> str:
    """Return a size as confs say it, to the byte: ``50GiB``, ``1500B``."""
    whole = [unit for unit, factor in SIZES.items() if size % factor == 0] if size else ["B"]
    return f"{size // SIZES[whole[-1]]}{whole[-1]}"


def spaced_size(size: int) -> str:
    """Return a size as conf files say it, to the byte: ``50 GiB``, ``1500 B``."""
    text = exact_size(size)
    digits = text.rstrip("BKMGTPi")
    return f"{digits} {text.removeprefix(digits)}"


def exact_rate(rate: int) -> str:
    """Return bytes a second as conf files say it: ``10 MiB/s``."""
    return f"{spaced_size(rate)}/s"


def exact_duration(seconds: float) -> str:
    """Return seconds as conf files say them, to the millisecond: ``10 min``, ``1500 ms``."""
    milliseconds = round(seconds * 1000)
    whole = [unit for unit, factor in DURATIONS.items() if milliseconds % factor == 0]
    return f"{milliseconds // DURATIONS[whole[-1]]} {whole[-1]}"


def short_size(size: int) -> str:
    """Return a size with about three figures: ``8.8 KiB``, ``234 MiB``."""
    number, _, unit = size_text(size).partition(" ")
    return f"{float(number):.0f} {unit}" if float(number) >= 100 else f"{number} {unit}"


def duration_text(seconds: float) -> str:
    """Return a duration: ``6.1 s``, ``2 min 05 s``, ``3 h 07 min``, ``4 d 04 h``."""
    if round(seconds, 1) < MINUTE_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S:02d} h"


def rate_text(size: int, seconds: float) -> str:
    """Return bytes in a time as a rate: ``88 MiB/s``."""
    return f"{short_size(round(size / max(seconds, 1e-3)))}/s"


def count_text(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listing(words: Sequence[str]) -> str:
    """Return words as people list them: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
