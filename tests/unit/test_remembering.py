"""What a client remembers on its disk: several at once lose nothing, and no damage stops a command."""

import threading
from pathlib import Path

from attrs import evolve

from dfs.core.floors import Floors
from dfs.core.register import make_ballot
from dfs.core.remembering import FloorFiles, Memories
from dfs.core.types import NO_BALLOT, Ballot, DirectoryId, NameId, NodeId, RegisterKey
from dfs.core.wire import Mark
from tests.unit.world import World

KEY, HERE = b"k" * 32, DirectoryId(b"h" * 16)


def key_of(number: int) -> RegisterKey:
    return RegisterKey(HERE, NameId(bytes((number,)) * 16))


def ballot(counter: int) -> Ballot:
    return make_ballot(counter, b"a" * 16)


def files(folder: Path, key: bytes = KEY) -> FloorFiles:
    return FloorFiles(folder, "orchard", "ines", key)


def test_floors_outlive_the_command(tmp_path: Path) -> None:
    floors = files(tmp_path).floors()
    floors.saw(key_of(1), ballot(7))
    files(tmp_path).keep(floors)
    again = files(tmp_path).floors()
    assert again.at(key_of(1)) == ballot(7)
    again.drop(key_of(1))
    files(tmp_path).keep(again)
    assert files(tmp_path).load(HERE) == {}


def test_files_are_closed_to_others(tmp_path: Path) -> None:
    floors = Floors()
    floors.saw(key_of(1), ballot(7))
    files(tmp_path).keep(floors)
    path = files(tmp_path).path_of(HERE)
    assert path.parent.stat().st_mode & 0o077 == 0
    assert sorted(each.name for each in path.parent.iterdir()) == [HERE.hex(), "lock"]


def test_another_key_or_a_damaged_file_remembers_nothing(tmp_path: Path) -> None:
    floors = Floors()
    floors.saw(key_of(1), ballot(7))
    files(tmp_path).keep(floors)
    assert files(tmp_path, b"o" * 32).load(HERE) == {}
    path = files(tmp_path).path_of(HERE)
    path.write_bytes(path.read_bytes()[:-1])
    assert files(tmp_path).load(HERE) == {}
    files(tmp_path).keep(floors)
    assert files(tmp_path).load(HERE) == {key_of(1).name: ballot(7)}


def test_several_at_once_lose_nothing(tmp_path: Path) -> None:
    def keep(number: int) -> None:
        floors = files(tmp_path).floors()
        floors.saw(key_of(number), ballot(number))
        files(tmp_path).keep(floors)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(tmp_path).load(HERE) == {key_of(number).name: ballot(number) for number in range(1, 9)}


def test_a_state_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    floors = Floors()
    floors.saw(key_of(1), ballot(7))
    files(tmp_path / "file").keep(floors)


def test_marks_and_floors_are_kept_together(tmp_path: Path) -> None:
    node, vault = NodeId(b"n" * 16), World().vault()
    blind = evolve(vault, keyless=True)
    memories = Memories(tmp_path, "orchard", "ines")
    memories.keep({node: Mark(1, 3)}, memories.recall(blind))  # a healer has marks only
    assert not (tmp_path / "floors").exists()
    vault.suspect([node], "an old lie")
    recalled = memories.recall(vault)
    assert recalled.suspicions == {}
    recalled.floors.saw(key_of(1), ballot(7))
    memories.keep({node: Mark(1, 4)}, recalled)
    again = Memories(tmp_path, "orchard", "ines")
    assert again.marks.load() == {node: Mark(1, 4)}
    assert again.recall(vault).floors.at(key_of(1)) == ballot(7)
    assert Memories(tmp_path, "orchard", "otto").recall(vault).floors.at(key_of(1)) == NO_BALLOT
