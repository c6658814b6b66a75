"""`dfs login`: whether the vault was made, and the public key for users files."""

from typing import Any

from dfs.core.keys import login_keys
from dfs.passwords import public_text


def test_it_tells_whether_the_vault_was_made(home: Any) -> None:
    first = home.json("login")
    assert first["data"] == {"user": "odile", "vault_created": True, "kept": None}
    assert home.json("login")["data"]["vault_created"] is False
    assert home.dfs("login") == ["logged in as odile"]


def test_the_first_login_names_the_recovery_sheet(home: Any) -> None:
    assert home.dfs("login") == ["logged in as odile; vault made on 4 nodes"]
    assert "dfs key export" in home.err


def test_the_public_key_is_printed_without_any_node(home: Any) -> None:
    home.kill(4)
    assert home.dfs("login", "--public-key") == [public_text(login_keys(bytes(range(32))).public_key)]


def test_only_two_places_keep_a_login(home: Any) -> None:
    home.dfs("login", "--keep", "cupboard", status=2)
    home.dfs("login", "--keep", "file", status=2)  # a key file is kept already


def test_help_has_an_example(bare_home: Any) -> None:
    assert any("Example: dfs login" in line for line in bare_home.dfs("login", "--help"))
