"""Sizes, durations, rates and addresses as people write and read them."""

import pytest

from dfs.core.errors import ConfigError
from dfs.core.units import (
    duration_text,
    exact_size,
    join_address,
    listing,
    parse_duration,
    parse_mode,
    parse_rate,
    parse_size,
    rate_text,
    short_size,
    size_text,
    split_address,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0 B", 0),
        ("4 MiB", 4 << 20),
        ("50GiB", 50 << 30),
        (" 1.5\tKiB ", 1536),
        ("0.000000001 GiB", 1),
        ("8191 PiB", 8191 << 50),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "4 MB",
        "4 mib",
        "-4 MiB",
        "MiB",
        "4 MiB/s",
        "\u0664 MiB",
        "1e3 B",
        "8192 PiB",
        "9" * 5000 + " B",
    ],
)
def test_no_size(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 s", 1.0),
        ("250 ms", 0.25),
        ("2 min", 120.0),
        ("24 h", 86400.0),
        ("366d", 366 * 86400.0),
        ("0.5s", 0.5),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "0 s", "1 m", "1 S", "367 d", "-1 s", "inf s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_duration(text)


@pytest.mark.parametrize(("text", "rate"), [("10 MiB/s", 10 << 20), ("1 B / s", 1), ("1.5KiB/s", 1536)])
def test_rate(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "10 MiB", "10/s", "0 B/s", "10 MiB/h", "/s", "8192 PiB/s"])
def test_no_rate(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[::1]:7771", ("::1", 7771)),
        ("[2001:db8::5] 7771", ("2001:db8::5", 7771)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("nas.example.org \t 65535", ("nas.example.org", 65535)),
        ("nas:007771", ("nas", 7771)),
    ],
)
def test_address(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert split_address(join_address(*parts)) == parts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nas", "expected host:port, got 'nas'"),
        (":7771", "expected host:port, got ':7771'"),
        ("2001:db8::5:7004", "expected host:port, got '2001:db8::5:7004', IPv6 needs brackets"),
        ("[nas]:7771", "'[nas]' is no IPv6 address"),
        ("[]:7771", "'[]' is no IPv6 address"),
        ("nas:0", "port 0 out of range"),
        ("nas:65536", "port 65536 out of range"),
        ("nas:" + "9" * 5000, "port " + "9" * 5000 + " out of range"),
        ("n\x1bs:7771", r"expected host:port, got 'n\x1bs:7771'"),
        ("nas:\u0667", "expected host:port, got 'nas:\u0667'"),
    ],
)
def test_no_address(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_address(text)
    assert caught.value.what == reason


def test_port_0_only_where_it_is_meant() -> None:
    assert split_address("127.0.0.1:0", port_min=0) == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("size", "text", "short"),
    [
        (0, "0 B", "0 B"),
        (1023, "1023 B", "1023 B"),
        (1024, "1.0 KiB", "1.0 KiB"),
        (17920, "17.5 KiB", "17.5 KiB"),
        (8 << 20, "8.0 MiB", "8.0 MiB"),
        (234 << 20, "234.0 MiB", "234 MiB"),
        ((1 << 20) - 1, "1.0 MiB", "1.0 MiB"),  # never "1024.0 KiB"
        (3 << 40, "3.0 TiB", "3.0 TiB"),
        (1 << 70, "1024.0 EiB", "1024 EiB"),
    ],
)
def test_sizes_have_one_decimal(size: int, text: str, short: str) -> None:
    assert (size_text(size), short_size(size)) == (text, short)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (6.14, "6.1 s"),
        (59.97, "1 min 00 s"),
        (125.4, "2 min 05 s"),
        (11_222.0, "3 h 07 min"),
        (3.6e5, "4 d 04 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_rates_never_divide_by_nothing() -> None:
    assert rate_text(88 << 20, 1.0) == "88.0 MiB/s"
    assert rate_text(1 << 20, 0.0) == "1000 MiB/s"


def test_lists_read_like_lists() -> None:
    assert [listing(list(words)) for words in ("", "a", "ab", "abc")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (1, "1B"), (1500, "1500B"), (1 << 30, "1GiB"), (3 << 29, "1536MiB"), (50 << 30, "50GiB")],
)
def test_exact_sizes_are_read_back_to_the_byte(size: int, shown: str) -> None:
    assert exact_size(size) == shown
    assert parse_size(shown) == size


def test_permission_bits_are_octal() -> None:
    assert (parse_mode("644"), parse_mode("0700"), parse_mode("000")) == (0o644, 0o700, 0)
    for text in ("", "7", "888", "1777", "0o644", "rw-r--r--", "\u0666\u0664\u0664"):
        with pytest.raises(ConfigError):
            parse_mode(text)
