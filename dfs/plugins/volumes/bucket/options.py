"""What a conf says of a bucket, in its section `[plugin.bucket]`."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from dfs.core.api import ConfigError, UnknownKeyError

NAME: Final = "bucket"
OPTIONS: Final = ("url", "endpoint", "region", "capacity", "snapshot_minutes", "restore")
SCHEMES: Final = ("s3", "gs", "az", "file")
SECRETS: Final = re.compile(r"key|secret|token|password|credential")
SIZE: Final = re.compile(r"([0-9]{1,6}) ?([MGTP]iB)", re.ASCII)
UNITS: Final = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50}
CAPACITY: Final = "1 TiB"  # a bucket has no end, but a purse has
MINUTES_MAX: Final = 7 * 24 * 60
ANSWERS: Final = {"true": True, "yes": True, "false": False, "no": False}


@frozen
class BucketOptions:
    """``url``: bucket and folder in it. ``capacity``: bytes that all shares may take. ``restore``: whether an
    empty directory may take over what a lost machine left in the bucket.
    """

    url: str
    endpoint: str | None
    region: str | None
    capacity: int
    snapshot_s: float
    restore: bool


def bucket_options(values: Mapping[str, str]) -> BucketOptions:
    """Return the options of a section. Raises: ConfigError: one is unknown, missing or no such value."""
    for key in values:
        if key not in OPTIONS:
            raise UnknownKeyError(
                f"plugin {NAME} has no option {key!r}: it has {', '.join(OPTIONS)}",
                next_step="Credentials stand in no conf: give them to the node in its environment."
                if SECRETS.search(key.lower())
                else "",
            )
    match = SIZE.fullmatch(values.get("capacity", CAPACITY))
    if match is None or not int(match[1]):
        raise ConfigError(f"plugin {NAME}: capacity is a size such as '500 GiB', not {values['capacity']!r}")
    text = values.get("snapshot_minutes", "60")
    minutes = int(text) if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) else 0
    if not 1 <= minutes <= MINUTES_MAX:
        raise ConfigError(f"plugin {NAME}: snapshot_minutes is 1 to {MINUTES_MAX}, not {text!r}")
    restore = ANSWERS.get(values.get("restore", "no").lower())
    if restore is None:
        raise ConfigError(f"plugin {NAME}: restore is true or false, not {values['restore']!r}")
    return BucketOptions(
        _url(values.get("url", "")),
        _endpoint(values.get("endpoint")),
        values.get("region"),
        int(match[1]) * UNITS[match[2]],
        minutes * 60.0,
        restore,
    )


def _url(text: str) -> str:
    """Return the address of a bucket without a slash at its end."""
    url = text.rstrip("/")
    parts = urlsplit(url)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"plugin {NAME}: url names a bucket and a folder in it, nothing else",
            next_step="Credentials stand in no conf: give them to the node in its environment.",
        )
    if parts.scheme not in SCHEMES or not (parts.path if parts.scheme == "file" else parts.netloc):
        raise ConfigError(
            f"plugin {NAME}: url is such as s3://BUCKET/FOLDER, gs://, az:// or file://, not {text!r}"
        )
    return url


def _endpoint(text: str | None) -> str | None:
    if text is not None and (urlsplit(text).scheme not in {"http", "https"} or urlsplit(text).username):
        raise ConfigError(
            f"plugin {NAME}: endpoint is such as https://s3.example.org, not another kind of URL"
        )
    return text
