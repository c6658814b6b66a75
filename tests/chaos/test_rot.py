"""Bits that rot: every file of one node is flipped, cut, emptied and swapped. No wrong byte is ever returned,
and where anything that counts has changed, the node does not start or its scrub says so.
"""

import itertools
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field, frozen

from dfs.core.errors import CorruptShareError, DfsError
from dfs.core.types import ShareKey
from dfs.testing.stores import read
from tests.chaos.deeds import DEEDS, Ledger, Possible, perform, possible, told
from tests.chaos.kit import tally
from tests.chaos.town import Resident, Town

ROTTEN = 2  # the node whose files rot
# What a start and the scrub itself write; everything else of a node's tables counts.
VOLATILE = {"own": {"clean"}, "meta": {"scrub_cursor", "scrubbed"}}


@frozen
class Damage:
    """What happens to a file of the node."""

    file: str
    what: str
    inflict: Callable[[Path], object] = field(repr=False)

    @property
    def kind(self) -> str:
        """Which file it is, without its number."""
        name = Path(self.file).name
        return "volume" if name.endswith(".vol") else name


def flip(offset: int, bit: int) -> Callable[[Path], object]:
    def inflict(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes((byte ^ 1 << bit,)))

    return inflict


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, size)


def move(start: int, target: int, size: int) -> Callable[[Path], object]:
    def inflict(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[target : target + size] = raw[start : start + size]
        path.write_bytes(raw)

    return inflict


def replace(other: Path) -> Callable[[Path], object]:
    return lambda path: shutil.copy(other, path)


def swap(name: str) -> Callable[[Path], object]:
    def inflict(path: Path) -> None:
        raw, other = path.read_bytes(), path.with_name(name)
        path.write_bytes(other.read_bytes())
        other.write_bytes(raw)

    return inflict


@define
class Ruin:
    """A town at rest, and what became of copies of it that were damaged."""

    folder: Path
    contents: Possible
    dump: dict[str, object] = field(factory=dict, repr=False)
    shares: dict[ShareKey, bytes] = field(factory=dict, repr=False)
    mark: int = 0  # the last a client saw of the node
    counts: Counter[str] = field(factory=Counter)
    bad: list[str] = field(factory=list)

    def files(self) -> list[str]:
        """The files of the node that rots."""
        node = self.folder / f"DFS{ROTTEN}"
        names = sorted(path.relative_to(self.folder).as_posix() for path in node.rglob("*") if path.is_file())
        return [name for name in names if not name.endswith(("lock", "-shm"))]

    def damages(self, dice: random.Random, flip_count: int) -> Iterator[Damage]:
        """Flips all over each file, cuts, and bytes of elsewhere in its place."""
        names = self.files()
        for name in names:
            path = self.folder / name
            size = path.stat().st_size
            for _ in range(flip_count if size else 0):
                offset, bit = dice.randrange(size), dice.randrange(8)
                yield Damage(name, f"bit {bit} of byte {offset} of {size} flipped", flip(offset, bit))
            for length in {0, size // 3, size - 1} if size else set():
                yield Damage(name, f"cut to {length} of {size}", cut(length))
            yield Damage(name, "removed", Path.unlink)
            other = self.folder / name.replace(f"DFS{ROTTEN}", f"DFS{ROTTEN + 1}")
            if other.exists() and other.read_bytes() != path.read_bytes():
                yield Damage(name, "another node's in its place", replace(other))
            if size > 16_384:
                for _ in range(2):
                    start, target = (4096 * dice.randrange(size // 4096) for _ in range(2))
                    yield Damage(name, f"page at {start} written at {target}", move(start, target, 4096))
        volumes = [name for name in names if name.endswith(".vol")]
        for name, other_name in itertools.pairwise(volumes):
            yield Damage(name, f"swapped with {other_name}", swap(Path(other_name).name))

    def judge(self, damage: Damage, copy: Path) -> None:
        """Damage a copy of the town, start it, and see what it makes of it."""
        shutil.copytree(self.folder, copy)
        damage.inflict(copy / damage.file)
        town = Town(copy, f"ruin {sum(self.counts.values())}")
        told_of = bool(town.lost)
        try:
            rotten = town.residents.get(ROTTEN)
            changed = rotten is None or dump(rotten) != self.dump
            self._read(town, damage)
            if rotten is not None:
                # A node whose last changes are gone tells a lower mark than clients remember (A15).
                told_of = rotten.vault.mark < self.mark or is_told(rotten)
                self._read(town, damage)
                self._mend(town, rotten, damage)
            away = next(number for number in town.residents if number != ROTTEN)
            if rotten is not None:
                town.residents[away].up = False
                self._read(town, damage, alone=True)
        finally:
            town.close()
            shutil.rmtree(copy)
        self.counts[f"{damage.kind}: {'harmless' if not changed else 'told' if told_of else 'UNTOLD'}"] += 1
        if changed and not told_of:
            self.bad.append(f"{damage}: not told")

    def _mend(self, town: Town, rotten: Resident, damage: Damage) -> None:
        """Repair; then nothing is bad any more, unless the node lost more than shares and entries."""
        if rotten.store.read_only_reason is not None or rotten.vault.mark < self.mark:
            return
        repaired = town.repair()
        left = [*town.scrub(), *repaired.left]
        if left or not self.shares.items() <= dump_shares(rotten).items():
            self.bad.append(f"{damage}: not repaired: {left}")

    def _read(self, town: Town, damage: Damage, *, alone: bool = False) -> None:
        """``alone``: a second node is away. What is there must still be read; of what was removed the others
        may not be able to tell that it was, and say so.
        """
        for path, contents in self.contents.items():
            try:
                found = town.get(path)
            except DfsError as error:
                if not alone or None not in contents:
                    self.bad.append(f"{damage}: {path} cannot be read: {error}")
                continue
            if found not in contents and not (alone and None in contents and town.stale):
                self.bad.append(f"{damage}: {path} has WRONG BYTES")


def is_told(resident: Resident) -> bool:
    """Whether the node knows of damage: found at its start, or now that it reads everything again."""
    found = resident.scrub()
    return bool(found or corrupt_count(resident) or resident.store.read_only_reason)


def corrupt_count(resident: Resident) -> int:
    connection = resident.store._writer  # type: ignore[attr-defined] # what no interface shows
    return int(connection.execute("SELECT COUNT(*) FROM corrupt").fetchone()[0])


def dump_shares(resident: Resident) -> dict[ShareKey, bytes]:
    """The shares that can be read and pass their checksum."""
    good = {}
    for key in resident.store.shares(None, 100_000):
        with suppress(CorruptShareError):
            resident.store.verify(key)
            good[key] = read(resident.store, key)
    return good


def dump(resident: Resident) -> dict[str, object]:
    """Everything a node knows: its tables and the bytes of its shares. None: it cannot be read."""
    connection = resident.store._writer  # type: ignore[attr-defined] # what no interface shows
    known: dict[str, object] = {}
    try:
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - its own name
            known[table] = sorted(repr(row) for row in rows if row[0] not in VOLATILE.get(table, ()))
        known["bodies"] = dump_shares(resident)
    except (sqlite3.Error, UnicodeDecodeError, DfsError) as error:  # what a rotten table makes of it
        known["error"] = str(error)
    return known


def ruin(folder: Path, *, closed: bool) -> Ruin:
    """A town that was used; not ``closed``: it ended abruptly, its last changes are in the logs."""
    folder.mkdir()
    town = Town(folder, "found")
    town.found()
    perform(town, DEEDS["found"], Ledger(folder / "ledger"))
    contents = possible({}, DEEDS["found"], told(folder / "ledger"))
    (folder / "ledger").unlink()
    perform(town, DEEDS["delete"], Ledger(folder / "ledger"))
    town.tidy()  # what nobody claims is nobody's loss
    contents = possible(contents, DEEDS["delete"], told(folder / "ledger"))
    (folder / "ledger").unlink()
    if closed:
        town.close()
    else:
        crashed = folder.with_name(folder.name + "-crashed")
        shutil.copytree(folder, crashed)
        town.close()
        folder = crashed
    made = Ruin(folder, contents)
    pristine = folder.with_name(folder.name + "-pristine")
    shutil.copytree(folder, pristine)
    town = Town(pristine, "pristine")
    made.dump = dump(town.residents[ROTTEN])
    made.shares = dump_shares(town.residents[ROTTEN])
    made.mark = town.residents[ROTTEN].vault.mark
    assert town.scrub() == []
    town.close()
    return made


def rot(folder: Path, *, closed: bool, flip_count: int, stride: int = 1) -> Ruin:
    made = ruin(folder / "ruin", closed=closed)
    damages: Sequence[Damage] = list(made.damages(random.Random(flip_count), flip_count))[::stride]
    for damage in damages:
        made.judge(damage, folder / "copy")
    for what, count in sorted(made.counts.items()):
        tally(f"rot, {'closed' if closed else 'crashed'}, {what}", damages=count)
    return made


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "crashed"])
def test_what_rots_is_found_and_never_returned(tmp_path: Path, closed: bool) -> None:
    made = rot(tmp_path, closed=closed, flip_count=6, stride=7)
    assert made.bad == []


@pytest.mark.chaos
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "crashed"])
def test_whatever_rots_is_found_and_never_returned(tmp_path: Path, closed: bool) -> None:
    made = rot(tmp_path, closed=closed, flip_count=300)
    assert made.bad == []
