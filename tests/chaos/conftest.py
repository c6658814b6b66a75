"""What the tests of this folder share: a nursery, a town that was founded once, the table at the end.

Tests marked `chaos` take minutes; they run when asked for (`nox -s chaos`, `pytest -m chaos`), the others
always.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.deeds import DEEDS, possible, told
from tests.chaos.kit import MEMORY, TALLIES, Nursery
from tests.chaos.sweeps import Scene
from tests.e2e.conftest import (  # fixtures
    cluster as cluster,
    environment as environment,
    key_lines as key_lines,
    make_cluster as make_cluster,
)

HERE = Path(__file__).parent
TIMEOUT_S = 120
LONG_TIMEOUT_S = 7200
LONG_SECONDS = 600.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the length of the chaos on the network be chosen."""
    parser.addoption("--chaos-seconds", type=float, default=LONG_SECONDS, help="of each round on the network")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `chaos` unless it is asked for; give all of this folder time."""
    asked = "chaos" in str(config.option.markexpr)
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        here = item.path.is_relative_to(HERE)
        long = item.get_closest_marker("chaos") is not None
        if here and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_S if long else TIMEOUT_S))
        (left_out if here and long and not asked else chosen).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what the tests counted to the process that prints it, where others run the tests."""
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["tallies"] = TALLIES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process counted that ran tests."""
    TALLIES.extend(getattr(node, "workeroutput", {}).get("tallies", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests counted."""
    if TALLIES:
        terminalreporter.section("chaos")
    for test, figures in sorted(TALLIES, key=lambda tally: tally[0]):
        text = "  ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in figures.items())
        terminalreporter.write_line(f"{test:<38}{text}")


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, where there is such a place."""
    if not MEMORY.is_dir():
        yield tmp_path_factory.mktemp("chaos")
        return
    folder = Path(tempfile.mkdtemp(prefix="dfs-chaos-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def nursery(memory: Path) -> Iterator[Nursery]:
    """A process that bears children for deeds."""
    made = Nursery(memory)
    yield made
    made.close()


@pytest.fixture(scope="session")
def founded(nursery: Nursery, memory: Path) -> Scene:
    """A town with its first files."""
    folder = memory / "founded"
    folder.mkdir()
    assert nursery.live(folder, "found")[1] == 0
    scene = Scene(folder, possible({}, DEEDS["found"], told(folder / "ledger")))
    (folder / "ledger").unlink()
    return scene
