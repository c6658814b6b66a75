"""A disk that is really full: what does not fit is refused and leaves nothing behind, what is stored can be
read and removed, and what was removed makes room.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dfs.core.errors import DfsError, SpaceError, UnknownOutcomeError
from dfs.plugins.volumes import vault as vault_module
from tests.chaos.kit import disk, needs, tally
from tests.chaos.town import Town

RESERVE_SIZE = 2 << 20
LOG_SIZE_MAX = 128 << 10  # four nodes share the little disk
MIXED = (300, 6_000, 50_000, 900_000)
TINY = (300, 900)  # kept in entries: no share says how much room they need
DISK_SIZES = {MIXED: 24 << 20, TINY: 12 << 20}


@pytest.fixture(params=["tmpfs", pytest.param("ext4", marks=pytest.mark.chaos)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(
    params=[pytest.param(MIXED, id="mixed"), pytest.param(TINY, id="tiny", marks=pytest.mark.chaos)]
)
def sizes(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return tuple(request.param)


@pytest.fixture
def folder(
    kind: str, sizes: tuple[int, ...], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.setattr(vault_module, "LOG_SIZE_MAX", LOG_SIZE_MAX)
    with disk(kind, DISK_SIZES[sizes], memory / kind) as mounted:
        yield mounted


def fill(
    town: Town, dice: random.Random, folder: str, sizes: Sequence[int]
) -> tuple[dict[str, bytes], DfsError]:
    """Put files until one is refused; returns those that were stored, and why it ended."""
    stored: dict[str, bytes] = {}
    for number in range(100_000):
        path = f"{folder}/{number}"
        body = dice.randbytes(dice.choice(sizes))
        try:
            town.put(path, body)
        except UnknownOutcomeError:  # some nodes had room and some had not
            continue
        except DfsError as error:
            assert town.get(path) is None, "what was refused is not there"
            return stored, error
        stored[path] = body
    raise AssertionError("the disk is never full")


def size_of(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def check(town: Town, stored: dict[str, bytes]) -> None:
    for path, body in stored.items():
        assert town.get(path) == body
    for resident in town.residents.values():
        assert resident.store.read_only_reason is None
        for key in resident.store.shares(None, 100_000):
            resident.store.verify(key)


@needs("loop")
def test_a_full_disk_can_be_read_and_emptied_and_used_again(folder: Path, sizes: tuple[int, ...]) -> None:
    dice = random.Random(7)
    town = Town(folder, "full", RESERVE_SIZE)
    town.found()
    stored: dict[str, bytes] = {}
    added_sizes, gone_sizes = [], []
    for number in range(2):
        added, error = fill(town, dice, f"round{number}", sizes)
        assert isinstance(error, SpaceError), error
        added_sizes.append(size_of(added))
        stored |= added
        check(town, stored)
        gone = {path: stored.pop(path) for path in dice.sample(sorted(stored), 2 * len(stored) // 3)}
        gone_sizes.append(size_of(gone))
        for path in gone:
            town.remove(path)
        town.tidy()
        assert all(town.get(path) is None for path in gone)
    town.close()
    town = Town(folder, "again", RESERVE_SIZE)
    assert town.lost == {}
    check(town, stored)
    town.close()
    tally(
        f"full {folder.name}", stored_bytes=sum(added_sizes), removed_bytes=sum(gone_sizes), left=len(stored)
    )
    assert added_sizes[1] > gone_sizes[0] // 2, (added_sizes, gone_sizes)


@needs("loop")
def test_a_disk_without_a_reserve_loses_nothing(folder: Path, sizes: tuple[int, ...]) -> None:
    dice = random.Random(8)
    town = Town(folder, "full", 0)
    town.found()
    stored, _ = fill(town, dice, "all", sizes)
    check(town, stored)
    for path in dice.sample(sorted(stored), len(stored) // 2):
        try:
            town.remove(path)
        except DfsError:
            break  # without room nobody can note that it is gone
        del stored[path]
    check(town, stored)
    town.close()
    town = Town(folder, "again", 0)
    assert town.lost == {}
    check(town, stored)
    town.close()
