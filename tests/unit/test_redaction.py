"""Secrets are struck out of texts in every form they may take there."""

import base64

import pytest

from dfs.core import redaction
from dfs.core.redaction import conceal, redacted


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_forms", set())


@pytest.mark.parametrize("secret", ["white rabbit", 'quo"te\\d', "grün ☂", "tab\tbed"])
def test_a_password_is_struck_out_as_it_is_and_as_python_shows_it(secret: str) -> None:
    conceal(secret)
    for shown in (secret, repr(secret), repr(secret.encode()), secret.encode().hex()):
        told = redacted(f"before {shown} after")
        assert told.startswith("before ")
        assert "***" in told
        assert told.endswith(" after")
        assert secret not in told


def test_bytes_are_struck_out_in_the_forms_keys_are_written_in() -> None:
    key = bytes(range(200, 232))
    conceal(key)
    for shown in (key.hex(), base64.b64encode(key).decode(), repr(key)):
        assert redacted(f"dfs-key-1 {shown}\n").startswith("dfs-key-1 ")
        assert key.hex() not in redacted(shown)
        assert "***" in redacted(shown)


def test_the_longer_of_two_secrets_goes_first() -> None:
    conceal("rabbit")
    conceal("white rabbit hole")
    assert redacted("white rabbit hole, rabbit") == "***, ***"


def test_a_secret_too_short_to_hide_destroys_no_text() -> None:
    for secret in ("", "a", "abc"):
        conceal(secret)
    assert redacted("an abacus, a1b2c3") == "an abacus, a1b2c3"
