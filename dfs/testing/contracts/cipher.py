"""The contract of a cipher: exact sizes, no change passes, the same bytes for ever."""

import random
from typing import Any, ClassVar

import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from dfs.core.api import Buffer, Cipher, CipherPlugin, IntegrityError, Options, Settings
from dfs.testing.contracts.base import (
    KIB,
    MIB,
    NOISE,
    Guarded,
    OptionedContract,
    Source,
    check_bytes,
    in_threads,
    memory_bound,
    property_test,
)

CONTEXT = b"dfs context"
TAG_SIZE_MIN = 12  # bytes that an authenticated cipher adds: less can be guessed
SEAMS = (0, 1, 15, 16, 17, 31, 32, 33, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB + 7)


@frozen
class CipherVector:
    """Bytes of a format version, in hex: what ``plain`` becomes under key and context."""

    key: str
    context: str
    plain: str
    sealed: str


class CipherContract(OptionedContract[CipherPlugin]):
    """Derive it and name the ``plugin``; ``vectors``: frozen bytes of its format version."""

    kind = CipherPlugin
    vectors: ClassVar[Any] = ()  # CipherVector objects

    def new(self) -> Cipher:
        """Return a cipher."""
        cipher: Cipher = self.plugin.make(Options(values=self.values))
        return cipher

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(Options(values=values))

    def key(self, seed: int = 1) -> bytes:
        """Return a key of the right size; another for each seed."""
        return random.Random(seed).randbytes(self.new().key_size)  # noqa: S311 - a test repeats itself

    def seal(self, plain: Buffer, key: bytes, context: bytes = CONTEXT) -> bytes:
        """Seal with a new cipher."""
        cipher = self.new()
        room = Guarded(len(plain) + cipher.overhead_size)
        cipher.seal_into(key, context, plain, room.target)
        return room.content

    def authenticated(self) -> Cipher:
        """Return a cipher that notices changes; skips the test for one that says it does not."""
        cipher = self.new()
        if not cipher.authenticated:
            pytest.skip("declared as not authenticated: it may be used only where the conf allows it by name")
        return cipher

    def test_sizes_are_constants(self) -> None:
        """Key and overhead are the same for every instance, and an authenticated one has room for a tag."""
        first, second = self.new(), self.new()
        assert (first.key_size, first.overhead_size) == (second.key_size, second.overhead_size)
        assert 16 <= first.key_size <= 64
        assert 0 <= first.overhead_size <= KIB
        assert first.overhead_size >= TAG_SIZE_MIN or not first.authenticated

    @property_test
    @given(st.binary(max_size=300), st.binary(max_size=40), st.integers(0, 7))
    def test_what_is_sealed_opens(self, plain: bytes, context: bytes, offset: int) -> None:
        """Round trip between read-only sources at any offset and targets with guards round them."""
        cipher, key = self.new(), self.key()
        source, sealed = Source(plain, offset), Guarded(len(plain) + cipher.overhead_size, offset)
        cipher.seal_into(key, context, source.view, sealed.target)
        source.free()
        again, opened = Source(sealed.content, offset), Guarded(len(plain), offset)
        self.new().open_into(key, context, again.view, opened.target)
        again.free()
        check_bytes(opened.content, plain)

    @pytest.mark.parametrize("size", SEAMS)
    def test_no_size_leaves_a_seam(self, size: int) -> None:
        """Round trip at the sizes round which ciphers that work in pieces go wrong."""
        cipher, key, plain = self.new(), self.key(), (NOISE * 2)[:size]
        opened = Guarded(size)
        cipher.open_into(key, CONTEXT, self.seal(plain, key), opened.target)
        check_bytes(opened.content, plain)

    def test_known_answers(self) -> None:
        """The bytes of a format version are frozen: what was stored must open for ever."""
        if not self.vectors:
            pytest.skip(
                "no known answers: set `vectors`, so that the bytes of this format version stay what they are"
            )
        for vector in self.vectors:
            key, context, plain, sealed = (
                bytes.fromhex(text) for text in (vector.key, vector.context, vector.plain, vector.sealed)
            )
            assert self.seal(plain, key, context).hex() == sealed.hex()
            opened = Guarded(len(plain))
            self.new().open_into(key, context, sealed, opened.target)
            check_bytes(opened.content, plain)

    def test_sealing_is_deterministic(self) -> None:
        """One key seals one byte string, always to the same bytes: equal chunks must be equal shares."""
        cipher, key = self.new(), self.key()
        rooms = [Guarded(1000 + cipher.overhead_size) for _ in range(2)]
        for room in rooms:
            cipher.seal_into(key, CONTEXT, NOISE[:1000], room.target)
        assert rooms[0].content == rooms[1].content == self.seal(NOISE[:1000], key)

    def test_the_key_decides(self) -> None:
        """The plain bytes do not show, every part of a key counts, and two keys give unlike bytes."""
        plain, key = bytes(256), self.key()
        sealed = self.seal(plain, key)
        assert plain[:16] not in sealed
        for index in range(len(key)):
            other = key[:index] + bytes((key[index] ^ 1,)) + key[index + 1 :]
            assert self.seal(plain, other) != sealed, f"byte {index} of the key plays no part"

    @pytest.mark.parametrize("size", [0, 1, 17])
    def test_every_changed_bit_is_refused(self, size: int) -> None:
        """IntegrityError for each single flipped bit, the tag's bits among them."""
        cipher, key = self.authenticated(), self.key()
        sealed = self.seal(NOISE[:size], key)
        for bit in range(8 * len(sealed)):
            changed = bytearray(sealed)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(IntegrityError):
                cipher.open_into(key, CONTEXT, changed, memoryview(bytearray(size)))

    def test_a_changed_bit_of_a_chunk_is_refused_wherever_it_is(self) -> None:
        """IntegrityError for a flipped bit anywhere in a large chunk: first, middle, every seam, last."""
        cipher, key = self.authenticated(), self.key()
        size = MIB + 7
        sealed = self.seal((NOISE * 2)[:size], key)
        room = memoryview(bytearray(size))
        for position in {0, 1, 16 * KIB, *(seam for seam in SEAMS if seam < len(sealed)), len(sealed) - 1}:
            changed = bytearray(sealed)
            changed[position] ^= 0x10
            with pytest.raises(IntegrityError):
                cipher.open_into(key, CONTEXT, changed, room)

    def test_another_key_is_refused(self) -> None:
        """IntegrityError for a key that differs in one bit."""
        cipher, key = self.authenticated(), self.key()
        sealed = self.seal(b"text", key)
        for index in range(len(key)):
            other = key[:index] + bytes((key[index] ^ 0x80,)) + key[index + 1 :]
            with pytest.raises(IntegrityError):
                cipher.open_into(other, CONTEXT, sealed, memoryview(bytearray(4)))

    @pytest.mark.parametrize("context", [b"", b"dfs contexT", CONTEXT + b"\0", CONTEXT[:-1]])
    def test_another_context_is_refused(self, context: bytes) -> None:
        """IntegrityError: what was sealed for one purpose is not taken for another."""
        cipher, key = self.authenticated(), self.key()
        with pytest.raises(IntegrityError):
            cipher.open_into(key, context, self.seal(b"text", key), memoryview(bytearray(4)))

    def test_a_shorter_or_longer_text_is_refused(self) -> None:
        """IntegrityError when bytes were cut off or added, at either end."""
        cipher, key = self.authenticated(), self.key()
        sealed = self.seal(b"seventeen bytes..", key)
        for changed in (sealed[:-1], sealed[1:], sealed + b"\0", b"\0" + sealed, sealed * 2):
            with pytest.raises(IntegrityError):
                cipher.open_into(
                    key, CONTEXT, changed, memoryview(bytearray(len(changed) - cipher.overhead_size))
                )

    @property_test
    @given(st.binary(max_size=200))
    def test_any_bytes_open_or_are_refused(self, junk: bytes) -> None:
        """Hostile input gives an IntegrityError or, without authentication, bytes; never anything else."""
        cipher = self.new()
        room = Guarded(max(len(junk) - cipher.overhead_size, 0))
        source = Source(junk.ljust(cipher.overhead_size, b"\0"))
        try:
            cipher.open_into(self.key(), CONTEXT, source.view, room.target)
        except IntegrityError:
            pass
        else:
            assert not cipher.authenticated, "bytes that nobody sealed were opened"
        assert room.intact()
        source.free()

    @pytest.mark.parametrize("wrong", [-4, -1, 1, 16])
    def test_a_target_of_another_size_is_refused(self, wrong: int) -> None:
        """ValueError, before a byte is written."""
        cipher, key = self.new(), self.key()
        sealed = self.seal(b"text", key)
        for room, seals in ((Guarded(4 + cipher.overhead_size + wrong), True), (Guarded(4 + wrong), False)):
            with pytest.raises(ValueError):
                (cipher.seal_into if seals else cipher.open_into)(
                    key, CONTEXT, b"text" if seals else sealed, room.target
                )
            assert room.intact()

    @pytest.mark.parametrize("wrong", [-16, -1, 1, 16])
    def test_a_key_of_another_size_is_refused(self, wrong: int) -> None:
        """ValueError for sealing and for opening."""
        cipher = self.new()
        sealed, key = self.seal(b"text", self.key()), bytes(cipher.key_size + wrong)
        with pytest.raises(ValueError):
            cipher.seal_into(key, CONTEXT, b"text", memoryview(bytearray(len(sealed))))
        with pytest.raises(ValueError):
            cipher.open_into(key, CONTEXT, sealed, memoryview(bytearray(4)))

    def test_targets_are_let_go_of(self) -> None:
        """A target's buffer is its owner's again once the call returned, after a refusal too."""
        cipher, key = self.new(), self.key()
        for size in (4 + cipher.overhead_size, 9 + cipher.overhead_size):
            room = bytearray(size)
            view = memoryview(room)
            try:
                cipher.seal_into(key, CONTEXT, b"text", view)
            except ValueError:
                assert size != 4 + cipher.overhead_size
            view.release()
            room.append(0)  # BufferError when it is still held

    def test_threads_share_one_cipher(self) -> None:
        """Eight threads seal and open with one object, each under a key of its own."""
        cipher = self.new()
        plains = [NOISE[index : index + 20_000] for index in range(8)]
        right = [self.seal(plain, self.key(index)) for index, plain in enumerate(plains)]

        def work(index: int) -> bool:
            for _ in range(25):
                sealed, opened = bytearray(len(right[index])), bytearray(20_000)
                cipher.seal_into(self.key(index), CONTEXT, plains[index], memoryview(sealed))
                cipher.open_into(self.key(index), CONTEXT, right[index], memoryview(opened))
                if sealed != right[index] or opened != plains[index]:
                    return False
            return True

        assert all(in_threads(work))

    def test_no_chunk_is_copied(self) -> None:
        """Sealing and opening 4 MiB makes no object of that size: memory stays bounded with many workers."""
        cipher, key, size = self.new(), self.key(), 4 * MIB
        plain, sealed = bytearray(NOISE * 4), bytearray(size + cipher.overhead_size)
        with memory_bound(size // 2):
            cipher.seal_into(key, CONTEXT, plain, memoryview(sealed))
            cipher.open_into(key, CONTEXT, sealed, memoryview(plain))
