"""What is told of files: counts by state, and those that are not complete."""

from dfs.core.standing import Checked, FileStanding, FileState


def file(path: str, state: FileState) -> FileStanding:
    return FileStanding(path, 1, state, held=3, total=4, needed=2, survives=1)


def test_counts_and_items() -> None:
    states = [FileState.COMPLETE, FileState.CORRUPT, FileState.COMPLETE, FileState.INCOMPLETE]
    checked = Checked(tuple(file(str(index), state) for index, state in enumerate(states)))
    assert [checked.count(state) for state in FileState] == [2, 0, 1, 1]
    assert [item.path for item in checked.items] == ["1", "3"]
