"""docs/howto/python.md is true: all its examples are run, against four real nodes."""

import doctest
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "python.md"


def test_every_example_gives_what_the_page_says(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cluster.folder / "here"
    folder.mkdir()
    cluster.conf().rename(folder / "dfc.conf")
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, cluster.environment[name])
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.FAIL_FAST)
    assert result.attempted > 30
    assert result.failed == 0
