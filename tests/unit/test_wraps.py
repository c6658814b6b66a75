"""A wrap opens with its own key, realm, user and derivation, and with nothing that anybody else says."""

from typing import Any

import pytest
from attrs import fields

from dfs.core import limits, messages
from dfs.core.errors import ConfigError, IntegrityError
from dfs.core.keys import KEY_FILE, WRAP_REGISTER, KdfParameters, login_keys, wrap_master
from dfs.core.wraps import (
    FURTHER_COUNT_MAX,
    KIN_COUNT_MAX,
    Kin,
    Ring,
    keys_of,
    open_wrapped,
    seal_wrap,
    wrap_register,
)

MASTER, KEK, NONCE = bytes(range(32)), b"k" * 32, b"n" * 12
CONTEXT = "orchard", "ines", KdfParameters()
FULL = Ring(
    (1 << 64) - 1,
    tuple(Kin((1 << 64) - 1 - number, bytes((number,)) * 32, b"s" * 32) for number in range(KIN_COUNT_MAX)),
    (b"r" * 32,) * FURTHER_COUNT_MAX,
)


@pytest.mark.parametrize("ring", [Ring(), Ring(3, (Kin(2, b"o" * 32, b"s" * 32),)), FULL])
def test_a_wrap_opens_with_its_ring(ring: Ring) -> None:
    wrap = seal_wrap(MASTER, ring, KEK, NONCE, CONTEXT)
    assert open_wrapped(wrap, KEK, CONTEXT) == (MASTER, ring)
    assert len(wrap) <= limits.CONTENT_INLINE_SIZE_MAX  # it lies in its entry


def test_a_wrap_of_the_first_format_opens() -> None:
    wrap = wrap_master(MASTER, KEK, NONCE, *CONTEXT)
    assert open_wrapped(wrap, KEK, CONTEXT) == (MASTER, Ring())


@pytest.mark.parametrize("ringed", [True, False])
@pytest.mark.parametrize(
    ("kek", "context"),
    [
        (b"x" * 32, CONTEXT),
        (KEK, ("meadow", *CONTEXT[1:])),
        (KEK, ("orchard", "olga", CONTEXT[2])),
        (KEK, ("orchard", "ines", KdfParameters(passes=4))),
        (KEK, ("orchard", "ines", KdfParameters(memory_size=128 * limits.MIB))),
        (KEK, ("orchard", "ines", KdfParameters(lanes=1))),
        (KEK, ("orchard", "ines", KEY_FILE)),
    ],
    ids=["key", "realm", "user", "passes", "memory", "lanes", "key file"],
)
def test_nothing_else_opens_it(ringed: bool, kek: bytes, context: Any) -> None:
    wrap = (
        seal_wrap(MASTER, FULL, KEK, NONCE, CONTEXT) if ringed else wrap_master(MASTER, KEK, NONCE, *CONTEXT)
    )
    with pytest.raises(IntegrityError):
        open_wrapped(wrap, kek, context)


def test_every_changed_byte_is_found() -> None:
    wrap = seal_wrap(MASTER, Ring(1, (Kin(0, b"o" * 32, b"s" * 32),)), KEK, NONCE, CONTEXT)
    for place in range(len(wrap)):
        for bit in (1, 128):
            changed = wrap[:place] + bytes((wrap[place] ^ bit,)) + wrap[place + 1 :]
            with pytest.raises(IntegrityError):
                open_wrapped(changed, KEK, CONTEXT)
    for size in range(len(wrap)):
        with pytest.raises(IntegrityError):
            open_wrapped(wrap[:size], KEK, CONTEXT)


def test_no_message_of_a_node_carries_derivation_parameters() -> None:
    """They come from the conf or the default, so that no node can have a password derived cheaply."""
    words = {"kdf", "memory", "passes", "lanes", "salt", "iterations"}
    for _, reply in messages.MESSAGES.values():
        named = {word for attribute in fields(reply) for word in attribute.name.split("_")}
        assert not named & words, reply


def test_derivations_have_a_floor_and_a_ceiling() -> None:
    low: list[dict[str, int]] = [{"memory_size": limits.KDF_MEMORY_MIN - 1}, {"passes": 2}, {"lanes": 0}]
    high: list[dict[str, int]] = [{"memory_size": limits.KDF_MEMORY_MAX + 1}, {"passes": 65}, {"lanes": 65}]
    for parameters in (*low, *high):
        with pytest.raises(ConfigError, match="kdf"):
            KdfParameters(**parameters)


def test_each_kek_has_a_register_of_its_own() -> None:
    places = {wrap_register(bytes((number,)) * 32) for number in range(50)}
    assert len(places | {WRAP_REGISTER}) == 51
    assert {place.directory for place in places} == {WRAP_REGISTER.directory}


def test_a_ring_has_bounds() -> None:
    with pytest.raises(ConfigError, match="too often while nodes were away"):
        Ring(0, (*FULL.kin, Kin(0, KEK)))
    with pytest.raises(ConfigError, match="recovery sheets already"):
        Ring(0, (), (*FULL.further, KEK))


def test_former_passwords_come_newest_first() -> None:
    ring = Ring(5, (Kin(0, b"a" * 32, b"1" * 32), Kin(6, b"b" * 32), Kin(4, b"c" * 32, b"2" * 32)))
    assert [kin.epoch for kin in ring.former] == [4, 0]
    assert ring.newest_epoch == 6
    login = login_keys(b"l" * 32)
    assert keys_of(Kin(0, login.kek, login.seed)) == login


def test_no_secret_is_shown() -> None:
    shown = repr(FULL)
    assert b"s" * 32 not in shown.encode()
    assert "rrrr" not in shown
