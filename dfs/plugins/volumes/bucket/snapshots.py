"""Copies of a vault's rows in the bucket, cut into pieces that are named by what they hold.

A copy is a list of pieces, and a piece that is there already is not sent again: what has not changed in the
database costs nothing. The list goes last, so a copy that was not finished is none. The newest two are kept.
"""

import struct
from collections.abc import Iterator
from typing import Final

import xxhash
from attrs import frozen
from blake3 import blake3

from dfs.core.api import File, Files, NotFoundError
from dfs.plugins.volumes.vault import RowsVault

from .door import Bucket

MAGIC: Final = b"DFSROWS\0"
FORMAT: Final = 1
HEAD: Final = struct.Struct(">8sHQQIH")  # magic, format, sequence, sizes of database, piece and user's name
DIGEST_SIZE: Final = 32
CHECKSUM_SIZE: Final = 16
PIECE_SIZE: Final = 4 << 20
KEPT_COUNT: Final = 2
LISTS: Final = "snapshots"
PIECES: Final = "pieces"
COPY_NAME: Final = "copy.db"
COPY_ENDS: Final = ("", "-wal", "-shm", "-journal")


@frozen
class Snapshot:
    """A list: whose rows, how many bytes, and the BLAKE3 of each piece of ``piece_size`` bytes in order."""

    sequence: int
    user: str
    size: int
    piece_size: int
    pieces: tuple[bytes, ...]


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the bytes of a list."""
    user = snapshot.user.encode()
    head = HEAD.pack(MAGIC, FORMAT, snapshot.sequence, snapshot.size, snapshot.piece_size, len(user))
    body = b"".join((head, user, *snapshot.pieces))
    return body + xxhash.xxh3_128_digest(body)


def decode_snapshot(body: bytes) -> Snapshot | None:
    """Return a list; None when it is damaged, or of a later format."""
    whole, checksum = body[:-CHECKSUM_SIZE], body[-CHECKSUM_SIZE:]
    if len(whole) < HEAD.size or xxhash.xxh3_128_digest(whole) != checksum:
        return None
    magic, version, sequence, size, piece_size, user_size = HEAD.unpack_from(whole)
    digests = whole[HEAD.size + user_size :]
    if (magic, version) != (MAGIC, FORMAT) or not piece_size or len(digests) % DIGEST_SIZE:
        return None
    pieces = tuple(digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE))
    if len(pieces) != -(-size // piece_size):
        return None
    user = whole[HEAD.size : HEAD.size + user_size].decode("utf-8", "replace")
    return Snapshot(sequence, user, size, piece_size, pieces)


class Snapshots:
    """The copies of one vault's rows. Not thread-safe. ``local``: its folder on the node."""

    def __init__(self, bucket: Bucket, folder: str, local: str, files: Files) -> None:
        self._bucket: Final = bucket
        self._folder: Final = folder
        self._files: Final = files
        self._copy: Final = f"{local}/{COPY_NAME}"
        self._kept: list[Snapshot] | None = None  # oldest first; None: not looked yet
        self._known: set[bytes] = set()  # pieces that are in the bucket
        self._dead: list[str] = []  # objects that no kept list means

    def _list_name(self, sequence: int) -> str:
        return f"{self._folder}/{LISTS}/{sequence:016x}"

    def _piece_name(self, digest: bytes) -> str:
        return f"{self._folder}/{PIECES}/{digest.hex()}"

    def newest(self) -> Iterator[Snapshot]:
        """Yield the sound lists, newest first. Raises: StoreError: the bucket cannot be read."""
        names = sorted((name for name, _ in self._bucket.names(f"{self._folder}/{LISTS}")), reverse=True)
        for name in names:
            found = decode_snapshot(bytes(self._bucket.get(name)))
            if found is not None and self._list_name(found.sequence) == name:
                yield found
            else:
                self._dead.append(name)

    # --- Writing --------------------------------------------------------------------------------------------

    def write(self, vault: RowsVault, user: str) -> int:
        """Bring the rows as they are now into the bucket; returns how many objects were written.

        Raises: StoreError: the bucket does not take it. OSError, sqlite3.Error: nor does the disk.
        """
        kept = self._learn()
        self.forget()
        try:
            vault.copy_rows(self._copy)
            file = self._files.open(self._copy, create=False)
            try:
                size, digests, count = file.size(), [], 0
                for piece in self._pieces(file, size):
                    digests.append(blake3(piece).digest())
                    count += self._keep_piece(digests[-1], piece)
            finally:
                file.close()
        finally:
            self.forget()
        sequence = kept[-1].sequence + 1 if kept else 1
        made = Snapshot(sequence, user, size, PIECE_SIZE, tuple(digests))
        self._bucket.put(self._list_name(sequence), encode_snapshot(made))
        kept.append(made)
        self._drop_old(kept)
        return count + 1

    def _learn(self) -> list[Snapshot]:
        """Find out once what is in the bucket."""
        if self._kept is None:
            kept = list(self.newest())[::-1]
            self._known = {digest for snapshot in kept for digest in snapshot.pieces}
            for name, _ in self._bucket.names(f"{self._folder}/{PIECES}"):
                if name not in set(map(self._piece_name, self._known)):
                    self._dead.append(name)
            self._kept = kept
        return self._kept

    @staticmethod
    def _pieces(file: File, size: int) -> Iterator[bytes]:
        for offset in range(0, size, PIECE_SIZE):
            piece = bytearray(min(PIECE_SIZE, size - offset))
            file.read_into(memoryview(piece), offset)
            yield bytes(piece)

    def _keep_piece(self, digest: bytes, piece: bytes) -> int:
        if digest in self._known:
            return 0
        name = self._piece_name(digest)
        if name in self._dead:
            self._dead.remove(name)
        self._bucket.put(name, piece)
        self._known.add(digest)
        return 1

    def _drop_old(self, kept: list[Snapshot]) -> None:
        """Remove the lists before the newest ones, and the pieces that only they mean."""
        while len(kept) > KEPT_COUNT:
            self._dead.append(self._list_name(kept.pop(0).sequence))
        meant = {digest for snapshot in kept for digest in snapshot.pieces}
        self._dead += map(self._piece_name, self._known - meant)
        self._known &= meant
        if self._dead:
            self._bucket.delete(self._dead)
            self._dead = []

    def forget(self) -> None:
        """Remove the copy on the disk."""
        for end in COPY_ENDS:
            self._files.remove(self._copy + end)

    # --- Reading --------------------------------------------------------------------------------------------

    def fetch(self, snapshot: Snapshot) -> str | None:
        """Bring the rows of a list onto the disk; returns the path, None when pieces are missing or damaged.

        Raises: StoreError: the bucket cannot be read. OSError.
        """
        self.forget()
        file = self._files.open(self._copy, create=True)
        try:
            for index, digest in enumerate(snapshot.pieces):
                offset = index * snapshot.piece_size
                piece = self._piece(digest, min(snapshot.piece_size, snapshot.size - offset))
                if piece is None:
                    return None
                file.write((piece,), offset)
            file.sync()
        finally:
            file.close()
        return self._copy

    def _piece(self, digest: bytes, size: int) -> bytes | None:
        try:
            piece = bytes(self._bucket.get(self._piece_name(digest)))
        except NotFoundError:
            return None
        return piece if len(piece) == size and blake3(piece).digest() == digest else None
