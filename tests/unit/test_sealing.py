"""One key and nonce seal one thing: chunks under constant nonces, entries and wraps under random ones."""

import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import aead

from dfs.testing.sealing import CIPHERS, Sealings, watched

KEY, NONCE = bytes(32), bytes(12)
BIG = random.Random(1).randbytes(80_000)


@pytest.mark.parametrize("name", CIPHERS)
def test_two_things_under_one_key_and_nonce_are_noticed(name: str) -> None:
    with watched() as sealings:
        cipher = getattr(aead, name)(KEY)
        sealed = cipher.encrypt(NONCE, b"one", b"")
        assert cipher.decrypt(NONCE, sealed, b"") == b"one"
        getattr(aead, name)(KEY).encrypt(NONCE, b"one", b"")
        cipher.encrypt(bytes(11) + b"\1", b"two", b"")
        assert not sealings.repeated
        target = bytearray(len(b"two") + 16)
        cipher.encrypt_into(NONCE, b"two", b"", target)
        assert sealings.repeated == [name]
        getattr(aead, name)(KEY).encrypt(NONCE, b"one", b"another context")
        assert sealings.repeated == [name, name]
        assert sealings.count(name) == 2
    assert type(getattr(aead, name)(KEY)).__name__ == name, "nobody watches any more"


@pytest.mark.parametrize("cipher", ["aes-gcm", "chacha20-poly1305"])
def test_whatever_is_done_to_files_seals_nothing_twice(home: Any, sealed_once: Sealings, cipher: str) -> None:
    """The same content under many names, other content under one name, and all of it again after losses."""
    flags = ("--cipher", cipher)
    for round_index in range(2):
        home.write("f", BIG + bytes((round_index,)))
        home.write("same", BIG)
        home.write("small", b"small" * (round_index + 1))
        home.dfs(*flags, "put", "f", "same", "small")
        home.dfs(*flags, "put", "same", "album/")
        home.dfs("mkdir", f"folder{round_index}")
    home.dfs("--compressor", "none", *flags, "put", "f")
    home.dfs("--code", "replicate", *flags, "put", "f")
    home.dfs("get", "f", "-o", "back")
    home.dfs("rm", "small")
    home.dfs("repair")
    home.settle()
    assert sealed_once.count("AESGCMSIV") >= 10, "entries and the wrap"
    used = {"aes-gcm": "AESGCM"}.get(cipher, "ChaCha20Poly1305")
    assert sealed_once.count(used) == 3, "three different chunks, however often they were stored"
