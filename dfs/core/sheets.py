"""Recovery sheets: a recovery key as people print, read and type it; pure.

Four numbered lines of three groups of five signs (base 32, without I, L, O and U). Each line holds 8 bytes of
the key and two check signs of a Reed-Solomon code over GF(32) that covers the number too: up to two wrong
signs of a line, and two that changed places, are found for certain, and in which line they are.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from dfs.core.errors import ConfigError
from dfs.core.keys import SECRET_SIZE

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS: Final = str.maketrans("ILO", "110")
LINE_COUNT: Final = 4
_LINE_SIZE: Final = SECRET_SIZE // LINE_COUNT  # bytes
_SIGN_COUNT: Final = 13  # signs for them: 65 bits, the last one zero
_GROUP: Final = 5
_LINE: Final = re.compile(r"\s*([1-4])[.:)]?\s+([0-9A-Za-z][0-9A-Za-z \t-]*)")


def _powers() -> tuple[int, ...]:
    """Return the powers of a primitive element of GF(32), with the polynomial x^5 + x^2 + 1."""
    power, found = 1, []
    for _ in range(31):
        found.append(power)
        power = (power << 1) ^ (0x25 if power & 16 else 0)
    return tuple(found)


_POWER: Final = _powers()


def _times(left: int, right: int) -> int:
    if not left or not right:
        return 0
    return _POWER[(_POWER.index(left) + _POWER.index(right)) % 31]


def _checks(number: int, signs: Sequence[int]) -> tuple[int, int]:
    """Return the signs that make the sums of all, plain and weighted by place, zero."""
    plain = weighted = 0
    for place, sign in enumerate((number, *signs), start=2):
        plain ^= sign
        weighted ^= _times(_POWER[place], sign)
    # a ⊕ b = plain, a ⊕ power(1)·b = weighted, for the check signs at the places 0 and 1
    second = _times(plain ^ weighted, _POWER[(31 - _POWER.index(1 ^ _POWER[1])) % 31])
    return plain ^ second, second


def sheet_lines(secret: bytes) -> list[str]:
    """Return a 32-byte recovery key as four lines to print."""
    lines = []
    for index in range(LINE_COUNT):
        number = int.from_bytes(secret[index * _LINE_SIZE : (index + 1) * _LINE_SIZE], "big") << 1
        signs = [(number >> (5 * place)) & 31 for place in reversed(range(_SIGN_COUNT))]
        text = "".join(ALPHABET[sign] for sign in (*signs, *_checks(index + 1, signs)))
        groups = [text[first : first + _GROUP] for first in range(0, len(text), _GROUP)]
        lines.append(f"{index + 1}  {' '.join(groups)}")
    return lines


def read_line(number: int, text: str) -> bytes:
    """Return the 8 bytes of a line, with or without its number. Spaces, dashes and case do not matter.

    Raises:
        ConfigError: a typing mistake; it names the line, never what was typed.
    """
    match = _LINE.fullmatch(text.rstrip())
    named = match is not None and len(re.sub(r"[\s-]", "", match[2])) == _SIGN_COUNT + 2
    if match is not None and named and int(match[1]) != number:
        raise ConfigError(f"this is line {match[1]} of the recovery key, line {number} comes now")
    body = match[2] if match is not None and named else text
    typed = re.sub(r"[\s-]", "", body).upper().translate(_READ_AS)
    if len(typed) != _SIGN_COUNT + 2:
        raise ConfigError(
            f"line {number} of the recovery key has {len(typed)} signs in place of {_SIGN_COUNT + 2}"
        )
    signs = [ALPHABET.find(sign) for sign in typed]
    if -1 in signs or signs[_SIGN_COUNT - 1] & 1 or tuple(signs[-2:]) != _checks(number, signs[:-2]):
        raise ConfigError(f"line {number} of the recovery key has a typing mistake")
    value = 0
    for sign in signs[:_SIGN_COUNT]:
        value = value << 5 | sign
    return (value >> 1).to_bytes(_LINE_SIZE, "big")


def read_sheet(text: str, file: str) -> bytes:
    """Return the recovery key of a sheet, whatever else stands on it.

    Raises:
        ConfigError: a line of the key is missing, twice there, or has a mistake.
    """
    found: dict[int, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match is not None and len(re.sub(r"[\s-]", "", match[2])) >= _SIGN_COUNT - 1:
            if int(match[1]) in found:
                raise ConfigError(f"{file}: line {match[1]} of the recovery key is there twice", file=file)
            found[int(match[1])] = match[2]
    parts = []
    for number in range(1, LINE_COUNT + 1):
        if number not in found:
            raise ConfigError(f"{file}: line {number} of the recovery key is missing", file=file)
        try:
            parts.append(read_line(number, found[number]))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error.what}", file=file) from None
    return b"".join(parts)


def sheet(secret: bytes, facts: Mapping[str, Sequence[str]], made: str) -> str:
    """Return the text of a recovery sheet. ``facts``: what the vault is, by name; ``made``: the day."""
    table = [
        f"{name if not index else '':10}{value}"
        for name, values in facts.items()
        for index, value in enumerate(values)
    ]
    return "\n".join((
        f"dfs recovery sheet, made {made}",
        "",
        "Print this page or write it down, keep it where the password is not, and delete the file.",
        "It gives a vault back whose password is lost. Whoever has it and can log in at the nodes,",
        "or has what the nodes keep, can read everything in the vault.",
        "",
        *table,
        "",
        "Recovery key (capitals or not; I and L are 1, O is 0):",
        "",
        *(f"    {line}" for line in sheet_lines(secret)),
        "",
        "To use it: dfs key recover, on a machine with the conf of this cluster. It asks for these four",
        "lines and for a new password. The administrator of each node must first put the new login key,",
        "which the command prints, into the users file in the place of the old one.",
        "To make it worthless: dfs key export --only, which makes a new one in its place.",
        "",
    ))  # fmt: skip
