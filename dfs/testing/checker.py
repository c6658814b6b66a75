"""Runs the contracts over an installed package or a plugin file: ``python -m dfs.testing.checker PACKAGE``.

For each test it prints one JSON object on a line, ``{"plugin": "cipher xor", "test": …, "outcome": "passed",
"reason": ""}``, and is what `dfs plugins check` reads. Exit code 0 unless pytest itself could not run.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "DFS_CHECK"
SUITE: Final = Path(__file__).with_name("suite.py")


class Reporter:
    """Keeps what became of each test; the worst of its phases counts."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401 - pytest is imported in `main`
        """Take note of a phase of a test."""
        if report.passed and report.when != "call":
            return
        _, class_name, test = report.nodeid.split("::")[-3:]
        reason = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = (crash.message if crash else str(report.longrepr)).splitlines()[0]
        plugin = class_name.removeprefix("Test_").replace("_", " ", 1)
        line = {"plugin": plugin, "test": test, "outcome": report.outcome, "reason": reason}
        if self.lines.get(report.nodeid, {}).get("outcome") != "failed":
            self.lines[report.nodeid] = line

    def pytest_collectreport(self, report: Any) -> None:  # noqa: ANN401
        """Tell of a suite that cannot be made."""
        if report.failed:
            reason = str(report.longrepr).strip().splitlines()[-1].removeprefix("E ").strip()
            self.lines["collection"] = {"plugin": "", "test": "", "outcome": "failed", "reason": reason}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m dfs.testing.checker", description=__doc__)
    parser.add_argument("package")
    parser.add_argument("--file", action="append", default=[], help="a file with plugins")
    wanted = parser.parse_args()
    import pytest  # an extra: dfs[testing]

    os.environ[VARIABLE] = json.dumps(
        {"package": wanted.package, "files": [os.path.abspath(path) for path in wanted.file]}
    )
    reporter = Reporter()
    told = sys.stdout
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")  # no other conf has a say
        os.chdir(folder)  # what Hypothesis remembers goes with it
        sys.stdout = nowhere
        try:
            options = [
                "-q",
                "-p",
                "no:cacheprovider",
                "--rootdir",
                folder,
                "-c",
                str(Path(folder) / "pytest.ini"),
            ]
            ended = pytest.main([str(SUITE), "--import-mode=importlib", *options], plugins=[reporter])
        finally:
            sys.stdout = told
            os.chdir("/")
    for line in reporter.lines.values():
        sys.stdout.write(json.dumps(line) + "\n")
    fine = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED}
    return 0 if ended in fine or reporter.lines else int(ended)


if __name__ == "__main__":
    sys.exit(main())
