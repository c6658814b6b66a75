"""The kit sees what it says it sees: each broken plugin of tests/kit fails the test that names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfs.core.registry import KINDS

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.parametrize("kind", sorted(KINDS.values()))
def test_each_defect_is_seen_by_the_test_that_names_it(kind: str) -> None:
    """As in continuous integration: pytest explains more there, which once took minutes for large buffers."""
    command = [sys.executable, "-m", "tests.kit.mutants", "--kind", kind]
    environ = os.environ | {"CI": "true"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=110
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " of 0 defects" not in ended.stdout
