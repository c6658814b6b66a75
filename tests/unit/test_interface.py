"""Plugin objects refuse names, texts and numbers that could not be written into a conf or a manifest."""

import pytest

from dfs.core.interface import Cipher, CipherPlugin, Compressor, CompressorPlugin, Options, Plugin


def no_cipher(_options: Options) -> Cipher:
    raise AssertionError("declaring makes nothing")


def no_compressor(_options: Options) -> Compressor:
    raise AssertionError("declaring makes nothing")


@pytest.mark.parametrize("name", ["tls", "aes-gcm", "chacha20-poly1305", "a" * 32])
def test_a_good_name_is_taken(name: str) -> None:
    assert Plugin(name=name, summary="Does it.").name == name


@pytest.mark.parametrize(
    "name", ["", "AES", "1st", "aes_gcm", "aes--gcm", "-aes", "aes-", "aes\n", "a" * 33, "ä"]
)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plugin name"):
        Plugin(name=name, summary="Does it.")


@pytest.mark.parametrize("summary", ["", "two\nlines", "x" * 73])
def test_a_summary_is_one_line(summary: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Plugin(name="tls", summary=summary)


@pytest.mark.parametrize("format_version", [0, 256])
def test_a_format_version_is_one_byte_and_not_zero(format_version: int) -> None:
    with pytest.raises(ValueError, match="format_version"):
        CipherPlugin(name="rot", summary="Does it.", make=no_cipher, format_version=format_version)


@pytest.mark.parametrize("codec", [-1, 256])
def test_a_codec_is_one_byte(codec: int) -> None:
    with pytest.raises(ValueError, match="codec"):
        CompressorPlugin(name="lz", summary="Does it.", make=no_compressor, codec=codec)


def test_make_must_be_callable() -> None:
    with pytest.raises(TypeError):
        CipherPlugin(name="rot", summary="Does it.", make="rot")  # type: ignore[arg-type]
