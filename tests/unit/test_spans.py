"""Parts of files and versions, as people write them."""

import pytest

from dfs.core.errors import ConfigError
from dfs.core.spans import Span, parse_span, parse_version, span_bounds


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("0-99", (0, 100)),
        ("100-", (100, 1000)),
        ("-100", (900, 1000)),
        ("-5000", (0, 1000)),
        ("-0", (1000, 1000)),
        (" 7-7 ", (7, 8)),
        ("990-2000", (990, 1000)),
        ("5000-", (1000, 1000)),
        ("5000-6000", (1000, 1000)),
    ],
)
def test_where_a_part_of_a_thousand_bytes_lies(text: str, bounds: tuple[int, int]) -> None:
    assert span_bounds(parse_span(text), 1000) == bounds


def test_no_span_is_everything() -> None:
    assert span_bounds(Span(), 7) == (0, 7)
    assert span_bounds(Span(), 0) == (0, 0)


@pytest.mark.parametrize("text", ["", "-", "5", "9-5", "a-b", "1-2-3", "1-" + "9" * 19, "\u0661-2"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_span(text)


@pytest.mark.parametrize("text", ["", "00", "0" * 33, "g" * 32])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ConfigError, match="32 hexadecimal digits"):
        parse_version(text)
    assert parse_version("0f" * 16) == b"\x0f" * 16
