"""The judge of all sweeps is no fool: what it must find wrong, it finds wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.deeds import DEEDS, Ledger, Possible, Step, inspect, perform, possible, told
from tests.chaos.town import USER, Town


@pytest.fixture
def before(tmp_path: Path) -> Possible:
    """A town whose files were overwritten, and a copy of the one before; what its files may hold."""
    folder = tmp_path / "town"
    folder.mkdir()
    town = Town(folder, "found")
    town.found()
    perform(town, DEEDS["found"], Ledger(folder / "ledger"))
    town.close()
    founded = possible({}, DEEDS["found"], told(folder / "ledger"))
    (folder / "ledger").unlink()
    shutil.copytree(folder, tmp_path / "older")
    town = Town(folder, "overwrite")
    perform(town, DEEDS["overwrite"], Ledger(folder / "ledger"))
    town.close()
    return founded


def put_back(folder: Path) -> None:
    """One node forgets what it acknowledged."""
    shutil.rmtree(folder / "DFS2")
    shutil.copytree(folder.parent / "older" / "DFS2", folder / "DFS2")


def lose_volume(folder: Path) -> None:
    """One node loses a file."""
    max((folder / "DFS3" / USER / "volumes").iterdir()).unlink()


def lose_vault(folder: Path) -> None:
    """One node's rows are no database any more."""
    (folder / "DFS1" / USER / "vault.db").write_bytes(b"rotten" * 1000)


def lie(folder: Path) -> None:
    """It was said that a file was stored which never was."""
    ledger = Ledger(folder / "ledger")
    ledger.say("begin", 4)
    ledger.say("done", 4)


def put_all_back(folder: Path) -> None:
    """All nodes forget together: every file is whole, but of yesterday."""
    for number in range(1, 5):
        shutil.rmtree(folder / f"DFS{number}")
        shutil.copytree(folder.parent / "older" / f"DFS{number}", folder / f"DFS{number}")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (put_back, "DFS2 lost the value accepted"),
        (lose_volume, "DFS3: share"),
        (lose_vault, "DFS1 does not start"),
        (lie, "unheard holds None"),
        (put_all_back, "old/tiny holds 300 bytes"),
    ],
)
def test_damage_is_found(tmp_path: Path, before: Possible, damage: Callable[[Path], None], said: str) -> None:
    damage(tmp_path / "town")
    steps = [*DEEDS["overwrite"], Step("put", "unheard", 7, 10)]
    problems = inspect(tmp_path / "town", before, steps, "later")
    assert any(said in problem for problem in problems), problems


def test_a_town_at_rest_has_no_problem(tmp_path: Path, before: Possible) -> None:
    assert inspect(tmp_path / "town", before, DEEDS["overwrite"], "later") == []


def test_what_a_path_may_hold_follows_from_what_was_said() -> None:
    put, again, rm = Step("put", "a", 1, 3), Step("put", "a", 2, 3), Step("rm", "a")
    steps = [put, again, rm]
    one, two = put.content, again.content
    done = [["begin", 0], ["done", 0]]
    assert possible({}, steps, [["begin", 0]]) == {"a": {None, one}}
    assert possible({}, steps, done) == {"a": {one}}
    assert possible({}, steps, [*done, ["begin", 1]]) == {"a": {one, two}}
    assert possible({}, steps, [*done, ["begin", 1], ["failed", 1, ""]]) == {"a": {one}}
    assert possible({}, steps, [*done, ["begin", 1], ["unknown", 1, ""], ["begin", 2]]) == {
        "a": {one, two, None}
    }
    assert possible({}, steps, [*done, ["begin", 2], ["done", 2]]) == {"a": {None}}
