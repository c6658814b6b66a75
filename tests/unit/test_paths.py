"""Remote paths: one canonical form, what is refused, and text that cannot fool a terminal."""

import sys
import unicodedata

import pytest
from hypothesis import given, strategies as st

from dfs.core import limits
from dfs.core.errors import ConfigError
from dfs.core.paths import ancestors, canonical, join, name_of, parent_of, printable


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ""),
        ("/", ""),
        (".", ""),
        ("./", ""),
        ("a", "a"),
        ("/a/b/", "a/b"),
        ("a//b/./c", "a/b/c"),
        ("e\u0301", "\u00e9"),  # composed
        ("\u212b", "\u00c5"),  # the Ångström sign is the letter
        ("\ufb01", "\ufb01"),  # no compatibility folding: a ligature stays one
        (".hidden/..b", ".hidden/..b"),
        (" a ", " a "),
        ("a\\b", "a\\b"),
    ],
)
def test_canonical(path: str, expected: str) -> None:
    assert canonical(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "a/../b",
        "a\0b",
        "a\nb",
        "\x7f",
        "\x85",
        "\ud800",
        "n" * 256,
        "é" * 128,
        "/".join(["d"] * 65),
        "/".join(["n" * 255] * 17),
    ],
)
def test_refused(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        canonical(path)
    assert caught.value.what.isprintable()


@pytest.mark.parametrize(
    "path",
    ["n" * 255, "é" * 127, "/".join(["d"] * 64), "/".join(["n" * 255] * 15), "/".join(["n" * 255] * 16)],
)
def test_just_allowed(path: str) -> None:
    assert canonical(path) == path
    assert len(path.encode()) <= limits.PATH_SIZE_MAX


def test_composing_comes_before_the_size_is_checked() -> None:
    assert canonical("e\u0301" * 127) == "\u00e9" * 127  # 381 bytes as given, 254 as kept


@given(st.text(max_size=50))
def test_canonical_is_a_fixed_point(path: str) -> None:
    try:
        once = canonical(path)
    except ConfigError:
        return
    assert canonical(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip("/")
    assert not {"", ".", ".."} & set(once.split("/")) or once == ""


@given(st.text(max_size=50))
def test_any_canonical_path_comes_apart_and_together(path: str) -> None:
    try:
        once = canonical(path)
    except ConfigError:
        return
    assert join(parent_of(once), name_of(once)) == once
    above = ancestors(once)
    assert len(above) == once.count("/")
    assert [parent_of(folder) for folder in above[1:]] == above[:-1]
    assert not above or above[-1] == parent_of(once)


def test_parts_of_paths() -> None:
    assert (parent_of("a/b/c"), name_of("a/b/c")) == ("a/b", "c")
    assert (parent_of("a"), name_of("a")) == ("", "a")
    assert ancestors("a/b/c") == ["a", "a/b"]
    assert ancestors("a") == []
    assert join("", "a") == "a"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße", "Grüße"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\u200b", "\\u200b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(max_size=30))
def test_printable_text_cannot_fool_a_terminal(text: str) -> None:
    unsafe = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not unsafe & {unicodedata.category(character) for character in printable(text)}


def test_whatever_is_printable_is_no_control_character() -> None:
    """So names are looked at letter by letter only where something in them is not."""
    controls = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cc"]
    assert len(controls) == 65
    assert not any(character.isprintable() for character in controls)
    for character in controls:
        with pytest.raises(ConfigError, match="control characters"):
            canonical(f"a{character}b")
