"""What a client remembers of each path: the highest ballot it knows to have been chosen; no file, no clock.

Nodes that tell less were rolled back, more of them than quorums bear (RollbackError). Between commands an
authenticated file for each directory keeps it, see docs/formats.md.
"""

from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Final

from blake3 import blake3

from dfs.core import encoding, limits
from dfs.core.errors import IntegrityError
from dfs.core.types import NO_BALLOT, Ballot, DirectoryId, NameId, RegisterKey

MAGIC: Final = b"dfs floors 1\n"
_RECORD_SIZE: Final = limits.NAME_ID_SIZE + limits.BALLOT_SIZE


def _nothing(_directory: DirectoryId) -> Mapping[NameId, Ballot]:
    """Remember nothing of earlier commands."""
    return {}


class Floors:
    """Floors of registers, read a directory at a time when first needed. ``load``: what was kept of one."""

    def __init__(self, load: Callable[[DirectoryId], Mapping[NameId, Ballot]] = _nothing) -> None:
        self._load = load
        self._known: dict[DirectoryId, dict[NameId, Ballot]] = {}
        self._risen: dict[DirectoryId, dict[NameId, Ballot]] = {}
        self._dropped: dict[DirectoryId, dict[NameId, Ballot]] = {}

    def of(self, directory: DirectoryId) -> Mapping[NameId, Ballot]:
        """Return the floors of a directory's names."""
        known = self._known.get(directory)
        if known is None:
            known = self._known[directory] = dict(self._load(directory))
        return known

    def at(self, key: RegisterKey) -> Ballot:
        """Return the floor of a register, NO_BALLOT when nothing is known of it."""
        return self.of(key.directory).get(key.name, NO_BALLOT)

    def saw(self, key: RegisterKey, ballot: Ballot) -> None:
        """Take note of a ballot that was chosen."""
        if ballot > self.at(key):
            self._known[key.directory][key.name] = ballot
            self._risen.setdefault(key.directory, {})[key.name] = ballot

    def drop(self, key: RegisterKey) -> None:
        """Take note that the name was removed and forgotten by the nodes: there is nothing to go back to."""
        ballot = self.at(key)
        if ballot:
            del self._known[key.directory][key.name]
            self._dropped.setdefault(key.directory, {})[key.name] = ballot

    def changed(self) -> list[DirectoryId]:
        """Return the directories of which something new is known."""
        return sorted(self._risen.keys() | self._dropped.keys())

    def merged(self, directory: DirectoryId, kept: Mapping[NameId, Ballot]) -> dict[NameId, Ballot]:
        """Return what to keep of a directory, given what is kept there meanwhile; the higher floor wins."""
        dropped = self._dropped.get(directory, {})
        merged = {name: ballot for name, ballot in kept.items() if ballot > dropped.get(name, NO_BALLOT)}
        for name, ballot in self._risen.get(directory, {}).items():
            if ballot > max(merged.get(name, NO_BALLOT), dropped.get(name, NO_BALLOT)):
                merged[name] = ballot
        return merged


def encode_floors(key: bytes, directory: DirectoryId, floors: Mapping[NameId, Ballot]) -> bytes:
    """Return the file of a directory's floors, authenticated under the vault's floor key."""
    records = b"".join(name + ballot for name, ballot in sorted(floors.items()))
    return MAGIC + records + _tag(key, directory, records)


def decode_floors(key: bytes, directory: DirectoryId, raw: bytes) -> dict[NameId, Ballot]:
    """Return the floors of a file.

    Raises:
        IntegrityError: it is none of this vault and directory, or was altered.
    """
    records, tag = raw[len(MAGIC) : -limits.DIGEST_SIZE], raw[-limits.DIGEST_SIZE :]
    sound = raw.startswith(MAGIC) and len(records) % _RECORD_SIZE == 0
    if not sound or not compare_digest(tag, _tag(key, directory, records)):
        raise IntegrityError("what this client remembers of a folder is not authentic")
    return {
        NameId(records[at : at + limits.NAME_ID_SIZE]): Ballot(
            records[at + limits.NAME_ID_SIZE : at + _RECORD_SIZE]
        )
        for at in range(0, len(records), _RECORD_SIZE)
    }


def _tag(key: bytes, directory: DirectoryId, records: bytes) -> bytes:
    context = encoding.encode(("dfs 1 floors", directory))
    return blake3(context, key=key).update(records).digest()
