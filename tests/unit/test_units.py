"""Sizes, durations, rates and addresses as people write them."""

import pytest

from dfs.core.errors import ConfigError
from dfs.core.units import join_address, parse_duration, parse_rate, parse_size, split_address


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
