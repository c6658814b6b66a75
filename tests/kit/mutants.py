"""`python -m tests.kit.mutants`: run the contracts over broken plugins and tell which test saw which defect.

Exit code 1 when a defect was not seen by the test it names, when less than 95 % were seen at all, or when a
sound plugin failed. ``--all``: run every test over every defect, which takes half an hour; ``--kind KIND``:
only of one kind.
"""

import argparse
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("suite.py")
PART_MIN = 0.95


class Reporter:
    """Picks the tests and keeps the names of those that failed, by class."""

    def __init__(self, *, named: bool, kind: str) -> None:
        self.named = named
        self.kind = kind
        self.failed: dict[str, list[str]] = {}
        self.count = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        from tests.kit.defects import DEFECTS

        wanted = {defect.class_name: defect for defect in DEFECTS}

        def picked(item: pytest.Item) -> bool:
            assert isinstance(item, pytest.Function)
            assert item.cls is not None
            defect = wanted.get(item.cls.__name__)
            kind = defect.kind if defect else item.cls.__name__.rpartition("_")[2]
            if self.kind not in {"", kind}:
                return False
            return defect is None or not self.named or item.originalname == defect.caught_by

        items[:] = [item for item in items if picked(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.when == "call"
        if report.failed:
            class_name, _, test = report.nodeid.partition("::")[2].partition("::")
            test = test.partition("[")[0]
            tests = self.failed.setdefault(class_name, [])
            if test not in tests:
                tests.append(test)


def table(reporter: Reporter) -> int:
    """Print a row for each defect and return the exit code."""
    from tests.kit.defects import DEFECTS

    picked = [defect for defect in DEFECTS if reporter.kind in {"", defect.kind}]
    caught = named = 0
    for defect in picked:
        failed = reporter.failed.get(defect.class_name, [])
        caught += bool(failed)
        named += defect.caught_by in failed
        seen = "caught" if defect.caught_by in failed else "by others" if failed else "MISSED"
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        sys.stdout.write(f"{seen:10} {defect.kind:11} {defect.what:44} {defect.caught_by}{more}\n")
    unsound = {name: tests for name, tests in reporter.failed.items() if name.startswith("TestSound")}
    for name, tests in unsound.items():
        sys.stdout.write(f"UNSOUND    {name}: {', '.join(tests)}\n")
    sys.stdout.write(
        f"{caught} of {len(picked)} defects caught ({100 * caught / len(picked):.0f} %), "
        f"{named} by the test they name; {reporter.count} tests run\n"
    )
    return int(bool(unsound) or named < len(picked) or caught < PART_MIN * len(picked))


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.mutants", description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--kind", default="")
    chosen = parser.parse_args()
    reporter = Reporter(named=not chosen.all, kind=chosen.kind)
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "--no-summary",
        "--tb=no",
        "--timeout=60",
        "-r",
        "",
    ]
    quiet = ["-W", "ignore::pytest.PytestUnraisableExceptionWarning", "-W", "ignore::ResourceWarning"]
    quiet += [
        "-W",
        "ignore::pytest.PytestConfigWarning",
    ]  # under -O: those of the contracts count all the same
    ended = pytest.main([str(SUITE), *options, *quiet], plugins=[reporter])
    if ended not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        return int(ended)
    return table(reporter)


if __name__ == "__main__":
    sys.exit(main())
