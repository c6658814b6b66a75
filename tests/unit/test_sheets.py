"""A recovery sheet is read back as it was printed, and every small mistake in typing is found in its line."""

import pytest

from dfs.core.errors import ConfigError
from dfs.core.sheets import ALPHABET, read_line, read_sheet, sheet, sheet_lines

SECRET = bytes(range(7, 39))
LINES = sheet_lines(SECRET)
GOLDEN = ["1  0W40J 2GB1G 6GWQY", "2  1W812 4GK2G AHCTC", "3  2WC1J 6GV3G EHWS6", "4  3WG22 8H34G JJC81"]
TEXT = sheet(SECRET, {"Vault of": ["odile"], "Nodes": ["A 10.0.0.1:7771", "B 10.0.0.2:7771"]}, "2026-11-28")


def signs_of(line: str) -> str:
    return line[1:].replace(" ", "")


def test_a_sheet_says_what_it_is_and_is_read_whole() -> None:
    assert read_sheet(TEXT, "sheet") == SECRET
    for wanted in ("odile", "A 10.0.0.1:7771", "2026-11-28", "dfs key recover", "users file"):
        assert wanted in TEXT
    assert all(len(line) <= 100 for line in TEXT.splitlines())


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, SECRET])
def test_lines_are_four_of_three_groups(secret: bytes) -> None:
    lines = sheet_lines(secret)
    assert [len(group) for line in lines for group in line.split()] == [1, 5, 5, 5] * 4
    assert b"".join(read_line(index + 1, line) for index, line in enumerate(lines)) == secret


def test_golden_lines() -> None:
    assert LINES == GOLDEN


def test_a_line_may_be_typed_in_many_ways() -> None:
    signs = signs_of(LINES[2])
    ways = (LINES[2], signs, signs.lower(), f"3. {signs}", f"  3) {signs[:7]}-{signs[7:]}  ",
            signs.replace("0", "o").replace("1", "l"))  # fmt: skip
    assert {read_line(3, way) for way in ways} == {SECRET[16:24]}


@pytest.mark.parametrize("index", range(4))
def test_every_wrong_sign_and_every_swap_is_found(index: int) -> None:
    signs = signs_of(LINES[index])
    for place, right in enumerate(signs):
        for wrong in ALPHABET.replace(right, ""):
            with pytest.raises(ConfigError, match=f"line {index + 1} of the recovery key has a typing"):
                read_line(index + 1, signs[:place] + wrong + signs[place + 1 :])
    for left in range(len(signs)):
        for right_place in range(left + 1, len(signs)):
            swapped = list(signs)
            swapped[left], swapped[right_place] = swapped[right_place], swapped[left]
            if "".join(swapped) != signs:
                with pytest.raises(ConfigError, match="typing mistake"):
                    read_line(index + 1, "".join(swapped))


def test_two_wrong_signs_are_found() -> None:
    signs = signs_of(LINES[0])
    for left in range(15):
        for right in range(left + 1, 15):
            for turn in range(1, 32, 5):
                wrong = list(signs)
                wrong[left] = ALPHABET[ALPHABET.index(signs[left]) ^ turn]
                wrong[right] = ALPHABET[ALPHABET.index(signs[right]) ^ (32 - turn)]
                with pytest.raises(ConfigError):
                    read_line(1, "".join(wrong))


def test_lines_in_each_others_place_are_found() -> None:
    with pytest.raises(ConfigError, match="this is line 2 of the recovery key, line 1 comes now"):
        read_line(1, LINES[1])
    with pytest.raises(ConfigError, match="line 1 of the recovery key has a typing mistake"):
        read_line(1, signs_of(LINES[1]))


@pytest.mark.parametrize("text", ["", "1 ABC", "é" * 15, "U" * 15, "9 " + "0" * 15, "0" * 4000])
def test_what_is_no_line_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_line(1, text)
    assert "ABC" not in caught.value.line
    assert caught.value.what.startswith("line 1 of the recovery key has")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1 of the recovery key is missing"),
        ("\n".join(LINES[:3]), "line 4 of the recovery key is missing"),
        ("\n".join([*LINES, LINES[0]]), "line 1 of the recovery key is there twice"),
        ("\n".join([*LINES[:3], LINES[3][:-1]]), "line 4 of the recovery key has 14 signs in place of 15"),
        (LINES[0].replace("0", "1") + "\n" + "\n".join(LINES[1:]), "line 1 of the recovery key has a typing"),
    ],
)
def test_a_sheet_with_a_fault_names_it(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"sheet.txt: {fault}"):
        read_sheet(text, "sheet.txt")
