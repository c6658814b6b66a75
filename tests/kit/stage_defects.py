"""Defects of ciphers and compressors."""

import hashlib
import hmac
import os
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dfs.core.api import Buffer, CipherPlugin, CompressorPlugin, IntegrityError, Options, UnknownKeyError
from dfs.plugins import aes_gcm, zstd
from dfs.testing.contracts.cipher import CipherVector
from tests.kit.defects import Around, broken, seed

(AES,) = aes_gcm.dfs_ciphers()
(ZSTD,) = zstd.dfs_compressors()


class HandMade:
    """A sound cipher by hand: a key stream and a keyed hash over context and sealed bytes."""

    key_size = 32
    overhead_size = 16
    authenticated = True
    compared_size = 16
    hashed_size: Any = None  # bytes of the sealed text that are hashed; None: all

    def stream(self, key: bytes, size: int) -> int:
        return int.from_bytes(hashlib.shake_256(key).digest(size), "big")

    def tag(self, key: bytes, context: bytes, sealed: Buffer) -> bytes:
        text = bytes(sealed[: self.hashed_size]) + len(sealed).to_bytes(8, "big")
        return hmac.digest(key, len(context).to_bytes(8, "big") + context + text, "sha256")[:16]

    def check(self, key: bytes, small: int, large: int) -> None:
        if len(key) != 32 or small + 16 != large:
            raise ValueError("a size is wrong")

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.check(key, len(source), len(target))
        size = len(source)
        target[:size] = (int.from_bytes(source, "big") ^ self.stream(key, size)).to_bytes(size, "big")
        target[size:] = self.tag(key, context, target[:size])

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.check(key, len(target), len(source))
        size, compared = len(target), self.compared_size
        found = memoryview(source)[size : size + compared]
        if not hmac.compare_digest(bytes(found), self.tag(key, context, source[:size])[:compared]):
            raise IntegrityError("not what was sealed")
        target[:] = (int.from_bytes(source[:size], "big") ^ self.stream(key, size)).to_bytes(size, "big")


def by_hand(cipher: Callable[[], Any]) -> CipherPlugin:
    def make(options: Options) -> Any:
        for key in options.values:
            raise UnknownKeyError(f"there is no option {key!r}")
        return cipher()

    return CipherPlugin(name="by-hand", summary="a cipher by hand", make=make)


class Unchecked(HandMade):
    compared_size = 0


class HalfChecked(HandMade):
    compared_size = 8


class FrontChecked(HandMade):
    hashed_size = 64 * 1024


class Contextless(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key, b"", source, target)

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.open_into(key, b"", source, target)


class RandomNonce(Around):
    overhead_size = 28

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        if len(target) != len(source) + 28:
            raise ValueError("a size is wrong")
        target[:12] = nonce = os.urandom(12)
        AESGCM(key).encrypt_into(nonce, source, context, target[12:])

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.open_into(key, context, source[12:], target)


class Overrunning(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key, context, source, target)
        target.obj[-1] ^= 1  # type: ignore[index]


class Scribbling(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key, context, source, target)
        if isinstance(source, memoryview) and isinstance(source.obj, bytearray) and len(source):
            source.obj[-1] ^= 1


class Hoarding(Around):
    kept: list[object] = []

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key, context, source, target)
        self.kept.append(memoryview(source))


class Grasping(Around):
    kept: list[object] = []

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.kept.append(target[:0])
        self.inner.seal_into(key, context, source, target)


class Foreign(Around):
    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        try:
            self.inner.open_into(key, context, source, target)
        except IntegrityError as error:
            raise RuntimeError("the library's own error") from error


class SharedKey(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.key = key
        os.sched_yield()
        self.inner.seal_into(self.key, context, source, target)


class Copying(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key, context, bytes(source), target)


class Trimming(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        size = len(source) + self.inner.overhead_size
        room = bytearray(size)
        self.inner.seal_into(key, context, source, memoryview(room))
        target[:size] = room[: len(target)]


class ShortKey(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key[:31] + b"\0" * (len(key) - 31), context, source, target)

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.open_into(key[:31] + b"\0" * (len(key) - 31), context, source, target)


class Padded(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key.ljust(32, b"\0")[:32], context, source, target)


class Drifted(Around):
    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.seal_into(key, context + b"2", source, target)

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        self.inner.open_into(key, context + b"2", source, target)


class Careless(Around):
    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        if len(target) == 0:
            return  # there is nothing to protect
        self.inner.open_into(key, context, source, target)


def any_option(plugin: Any) -> Any:
    return evolve(plugin, make=lambda _options: plugin.make(Options()))


FROZEN = CipherVector(
    "00" * 32, "", "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
)
BITS = "test_every_changed_bit_is_refused"
seed("cipher", "the tag is not looked at", BITS, by_hand(Unchecked))
seed("cipher", "half of the tag is compared", BITS, by_hand(HalfChecked))
seed("cipher", "an empty text is not checked", BITS, broken(AES, Careless))
seed("cipher", "an exception of the library escapes", BITS, broken(AES, Foreign))
seed(
    "cipher",
    "only the front is hashed",
    "test_a_changed_bit_of_a_chunk_is_refused_wherever_it_is",
    by_hand(FrontChecked),
)
seed("cipher", "the context plays no part", "test_another_context_is_refused", broken(AES, Contextless))
seed("cipher", "a random nonce", "test_sealing_is_deterministic", broken(AES, RandomNonce))
seed("cipher", "a byte beside the target is written", "test_what_is_sealed_opens", broken(AES, Overrunning))
seed("cipher", "the source is changed", "test_what_is_sealed_opens", broken(AES, Scribbling))
seed("cipher", "the source is kept", "test_what_is_sealed_opens", broken(AES, Hoarding))
seed("cipher", "the target is kept", "test_targets_are_let_go_of", broken(AES, Grasping))
seed("cipher", "threads share a key", "test_threads_share_one_cipher", broken(AES, SharedKey))
seed("cipher", "the chunk is copied", "test_no_chunk_is_copied", broken(AES, Copying))
seed(
    "cipher", "any size of target will do", "test_a_target_of_another_size_is_refused", broken(AES, Trimming)
)
seed("cipher", "any size of key will do", "test_a_key_of_another_size_is_refused", broken(AES, Padded))
seed("cipher", "the last byte of the key is ignored", "test_the_key_decides", broken(AES, ShortKey))
seed("cipher", "other bytes under one format", "test_known_answers", broken(AES, Drifted), vectors=(FROZEN,))
seed("cipher", "any option is taken", "test_an_unknown_option_is_refused_by_name", any_option(AES))


# --- Compressors ---


class Deflate:
    """A sound compressor over zlib, to break."""

    def compress(self, plain: Buffer) -> Buffer | None:
        packed = zlib.compress(plain, 1)
        return packed if len(packed) < len(plain) else None

    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        stream = zlib.decompressobj()
        try:
            plain = stream.decompress(packed, len(target) + 1)
        except zlib.error as error:
            raise IntegrityError("not packed here") from error
        if len(plain) > len(target) or not self.ended(stream):
            raise IntegrityError("not packed here")
        target[: len(plain)] = plain
        return len(plain)

    def ended(self, stream: Any) -> bool:
        return bool(stream.eof) and not stream.unused_data


class Truncating(Deflate):
    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        try:
            return super().decompress_into(packed, target)
        except IntegrityError:
            plain = zlib.decompressobj().decompress(packed, len(target)) if len(target) else b""
            target[: len(plain)] = plain
            return len(plain)


class Bursting(Deflate):
    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        try:
            plain = zlib.decompress(packed)
        except zlib.error as error:
            raise IntegrityError("not packed here") from error
        if len(plain) > len(target):
            raise IntegrityError("too large")
        target[: len(plain)] = plain
        return len(plain)


class Tolerant(Deflate):
    def ended(self, stream: Any) -> bool:
        return bool(stream.eof)


class Hasty(Deflate):
    def ended(self, stream: Any) -> bool:
        return not stream.unused_data


class Remembering(Deflate):
    def __init__(self) -> None:
        self.count = 0

    def compress(self, plain: Buffer) -> Buffer | None:
        self.count += 1
        packed = zlib.compress(plain, 1 + self.count % 9)
        return packed if len(packed) < len(plain) else None


class Growing(Deflate):
    def compress(self, plain: Buffer) -> Buffer | None:
        return zlib.compress(plain, 1)


class Viewing(Deflate):
    def compress(self, plain: Buffer) -> Buffer | None:
        return memoryview(plain)[:-1] if len(plain) else None


class Leaking(Deflate):
    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        plain = zlib.decompress(packed)
        target[: len(plain)] = plain
        return len(plain)


class Sulking(Deflate):
    failed = False

    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        if self.failed:
            raise IntegrityError("not packed here")
        self.failed = True
        size = super().decompress_into(packed, target)
        self.failed = False
        return size


class OneForAll(Deflate):
    room = bytearray()

    def compress(self, plain: Buffer) -> Buffer | None:
        OneForAll.room = bytearray(plain)
        os.sched_yield()
        packed = zlib.compress(OneForAll.room, 1)
        return packed if len(packed) < len(plain) else None


class Seamed(Deflate):
    def compress(self, plain: Buffer) -> Buffer | None:
        return super().compress(plain if len(plain) != 64 * 1024 + 1 else bytes(plain)[:-1])


class Padding(Deflate):
    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        size = super().decompress_into(packed, target)
        target[size:] = bytes(len(target) - size)
        return size


class Wasting(Deflate):
    def compress(self, plain: Buffer) -> Buffer | None:
        copies = [bytes(plain) for _ in range(3)]
        return super().compress(copies[0])


def deflating(make: Callable[[], Any], codec: int = 200) -> CompressorPlugin:
    def checked(options: Options) -> Any:
        for key in options.values:
            raise UnknownKeyError(f"there is no option {key!r}")
        return make()

    return CompressorPlugin(name="deflate", summary="zlib, broken", make=checked, codec=codec)


def each(rows: Iterable[tuple[str, str, Callable[[], Any]]]) -> None:
    for what, caught_by, make in rows:
        seed("compressor", what, caught_by, deflating(make))


each(
    (
        ("what does not fit is cut off", "test_more_than_the_target_is_refused", Truncating),
        ("all is unpacked before it is measured", "test_a_bomb_costs_no_more_than_its_target", Bursting),
        ("bytes behind the end are passed over", "test_bytes_behind_a_result_are_refused", Tolerant),
        ("an early end is passed over", "test_a_result_cut_anywhere_is_refused", Hasty),
        ("results depend on what came before", "test_packing_is_deterministic", Remembering),
        ("results may be longer than the source", "test_a_result_gains_something", Growing),
        ("a result is a view of the source", "test_a_result_is_no_view_of_the_source", Viewing),
        ("an exception of the library escapes", "test_any_bytes_give_a_size_or_a_refusal", Leaking),
        ("one refusal spoils the next call", "test_it_works_on_after_a_refusal", Sulking),
        ("instances share a buffer", "test_each_thread_has_its_own", OneForAll),
        ("the last byte of one size is lost", "test_no_size_leaves_a_seam", Seamed),
        ("the rest of the target is wiped", "test_what_is_packed_comes_back", Padding),
        ("the chunk is copied three times", "test_memory_is_bounded", Wasting),
    )
)
seed("compressor", "a codec byte of dfs", "test_the_codec_byte_is_free", deflating(Deflate, codec=7))
SOUND = {"cipher": by_hand(HandMade), "compressor": deflating(Deflate)}
COPIES = {
    "cipher": ["test_no_chunk_is_copied"],
    "compressor": ["test_memory_is_bounded"],
}  # as short code does
