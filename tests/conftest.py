"""What every test gets: a longer time limit where a test is marked `long` or starts real processes.

Modules that tests share are imported from the root, as `tests.unit.world`; what is installed comes before it.
"""

import sys
from pathlib import Path

import pytest

LONG_TIMEOUT_S = 120
E2E = Path(__file__).parent / "e2e"
sys.path.append(str(Path(__file__).parent.parent))
SHARED = ("unit.volumes_kit", "chaos.kit", "chaos.deeds", "chaos.sweeps", "chaos.net")
pytest.register_assert_rewrite(*(f"tests.{name}" for name in SHARED))  # as in the tests themselves


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the limit of 20 s (pyproject.toml) for tests that may take longer; a test's own limit wins."""
    for item in items:
        patient = item.get_closest_marker("long") is not None or item.path.is_relative_to(E2E)
        if patient and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_S))
