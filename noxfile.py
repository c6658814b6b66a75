"""The one door to every check.

`nox` runs the default sessions, `nox -l` lists all, `nox -s NAME -- ARGS` runs one.
"""

import re
import shutil
import tarfile
import time
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "layers", "types", "simulation", "tests", "long"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # absent ones are skipped, on CI too

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PROJECT = nox.project.load_toml("pyproject.toml")
QUICK = "not long and not chaos"
BESIDE = ["--numprocesses", "auto", "--maxprocesses", "4"]  # tests on all processors; with arguments, on one
QUICK_RESULTS = "bench/results/quick.local.jsonl"  # not kept in git
REMOTE_ASSET = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=.https?://")
BENCHMARKS = ["floors", "large", "small", "latency", "startup", "memory"]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def install_tests(session: nox.Session) -> None:
    """Install dfs, editable, and what its tests need.

    Modules are compiled once, outside the source tree: an installed dfs is compiled too, and tests start
    thousands of commands.
    """
    session.install("-e", ".", *group("test"))
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.env["PYTHONPYCACHEPREFIX"] = str(Path(session.virtualenv.location).resolve() / "compiled")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, layout and spelling (ruff, codespell)."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports go one way only and plugins see nothing but the api (import-linter)."""
    session.install(*group("layers"))
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "."})


@nox.session
def types(session: nox.Session) -> None:
    """Check types of package, tests and this file (mypy --strict)."""
    session.install("-e", ".", *group("types"))
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests but the long ones, on every Python found."""
    install_tests(session)
    session.run("pytest", "-m", QUICK, *(session.posargs or [*BESIDE, "--dist", "worksteal"]))


@nox.session
def long(session: nox.Session) -> None:
    """Run the long tests: a whole library, 2 GiB, fresh environments."""
    install_tests(session)
    session.run("pytest", "-m", "long", *(session.posargs or [*BESIDE, "--dist", "loadfile"]))


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the tests with real processes, the long ones too."""
    install_tests(session)
    session.run("pytest", "tests/e2e", *session.posargs)


@nox.session
def simulation(session: nox.Session) -> None:
    """Simulate clusters under faults, 2,000 fresh seeds; `--seed X --trace` replays one."""
    session.install("-e", ".")
    arguments = session.posargs or ["--fresh", "2000", "--jobs", "2"]
    session.run("python", "-m", "dfs.testing.simulator", *arguments)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the rules of the protocol one by one; the simulator must notice each within ten minutes."""
    install_tests(session)
    session.run("python", "-m", "tests.simulation.mutants", *session.posargs)


@nox.session
def kit_mutants(session: nox.Session) -> None:
    """Run the contracts of dfs.testing over broken plugins; at least 95 % of the defects must be seen."""
    install_tests(session)
    session.run("python", "-m", "tests.kit.mutants", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill, cut, fill and damage real nodes at every point (minutes to hours; -- -k WORD picks some)."""
    install_tests(session)
    session.run("pytest", "tests/chaos", "-m", "chaos", *session.posargs)


@nox.session(python=PYTHONS[0])
def fuzz(session: nox.Session) -> None:
    """Fuzz parsers, guided by coverage: TARGET (or all) --runs N --seconds S; see tests/fuzz/drive.py."""
    install_tests(session)
    session.install("--only-binary", "atheris", *group("fuzz"))
    session.run("python", "-m", "tests.fuzz.drive", *(session.posargs or ["all", "--runs", "20000"]))


@nox.session
def third_party(session: nox.Session) -> None:
    """Install packages of strangers and of examples/ into fresh environments and store files with them."""
    install_tests(session)
    session.run("pytest", "tests/e2e/test_third_party.py", "tests/e2e/test_plugin_kit.py", *session.posargs)


@nox.session
def scan(session: nox.Session) -> None:
    """Have sslyze look for weaknesses in the TLS of a real node."""
    install_tests(session)
    alone = Path(session.create_tmp()) / "sslyze"  # it wants another cryptography than dfs
    session.run("python", "-m", "venv", str(alone))
    session.run(str(alone / "bin" / "pip"), "install", "-q", "sslyze", external=True)
    session.env["SSLYZE"] = str(alone / "bin" / "sslyze")
    session.run("pytest", "tests/e2e/test_scan.py", *session.posargs)


@nox.session
def flood(session: nox.Session) -> None:
    """Measure what 2,000 idle and 500 half-open connections cost honest clients of one node."""
    install_tests(session)
    session.run("python", "bench/flood.py", *session.posargs)


@nox.session
def optimized(session: nox.Session) -> None:
    """Run the tests under python -O: no promise may hang on an assert in the package."""
    install_tests(session)
    # pytest rewrites the asserts of tests, so those count; it warns about all others: just the point.
    quiet = ["-W", "ignore::pytest.PytestConfigWarning"]
    optimize = {"PYTHONOPTIMIZE": "1"}  # reaches the processes that tests start
    session.run("python", "-m", "pytest", *quiet, "-m", QUICK, *session.posargs, env=optimize)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests reach, processes they start included."""
    install_tests(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks of bench/ that a change of the hot path needs, quickly; -- NAME ... picks others."""
    install_tests(session)
    for name in session.posargs or BENCHMARKS:
        session.run("python", f"bench/{name}.py", "--quick", "--out", QUICK_RESULTS)


@nox.session(python=PYTHONS[0])
def docs(session: nox.Session) -> None:
    """Build the pages with Sphinx, offline, without a warning; -- DIR puts them elsewhere."""
    session.install(".", *group("docs"))
    target = Path(session.posargs[0] if session.posargs else "docs/_build/html")
    shutil.rmtree(target, ignore_errors=True)
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-q", "-b", "html", "docs", str(target))
    remote = [page.name for page in target.rglob("*.html") if REMOTE_ASSET.search(page.read_text("utf-8"))]
    if remote:
        session.error(f"these pages load something from elsewhere: {remote}")


@nox.session(python=PYTHONS[0])
def binary(session: nox.Session) -> None:
    """Build one executable `dfs`, try it where no Python is, print its size and its time to start."""
    session.install(".", *group("binary"))
    work = Path(session.create_tmp()).resolve()
    shutil.rmtree(work / "build", ignore_errors=True)
    isal = [str(path) for path in Path(session.virtualenv.location).rglob("pyeclib.libs/libisal*")]
    session.run(
        *("pyinstaller", "--onefile", "--name", "dfs", "--noconfirm", "--log-level", "ERROR"),
        *("--collect-submodules", "dfs.plugins", "--copy-metadata", "dfs"),  # plugins are imported by name
        *(f"--add-binary={path}:pyeclib.libs" for path in isal),
        *("--hidden-import", "dfs.testing", "--collect-data", "dfs.testing"),  # what `plugins new` fills in
        f"--add-data={Path('dfs/plugins/memory_store.py').resolve()}:dfs/plugins",
        *("--exclude-module", "tkinter"),
        *("--workpath", str(work / "build"), "--specpath", str(work), "--distpath", "dist"),
        "packaging/binary.py",
    )
    executable = Path("dist/dfs").resolve()
    session.install(*group("test"))
    session.run("pytest", "-q", "tests/e2e/test_binary.py", env={"DFS_BINARY": str(executable)})
    times = []
    for _ in range(5):
        start_s = time.perf_counter()
        session.run(str(executable), "--help", external=True, silent=True, log=False)
        times.append(time.perf_counter() - start_s)
    size = executable.stat().st_size / 2**20
    session.log(f"{executable}: {size:.1f} MiB, `dfs --help` in {min(times) * 1000:.0f} ms")


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, check what is in them, and run the unit tests against the installed wheel."""
    shutil.rmtree("dist", ignore_errors=True)
    session.install("hatchling")
    session.run("hatchling", "build", env={"SOURCE_DATE_EPOCH": "1700000000"})  # same source, same bytes
    (sdist,) = Path("dist").glob("*.tar.gz")
    (wheel,) = Path("dist").glob("*.whl")
    check_archives(session, sdist, wheel)
    session.install(str(wheel), *group("test"))
    # Tests run where the source tree is not, so that only the installed package can be found.
    alone = Path(session.create_tmp()) / "alone"
    shutil.rmtree(alone, ignore_errors=True)
    for folder in ("conf", "tests"):
        shutil.copytree(folder, alone / folder)
    shutil.copy("pyproject.toml", alone)
    with session.chdir(alone):
        session.run("pytest", "tests/unit", "-m", "not long")
        session.run("dfs", "--help", silent=True)


def check_archives(session: nox.Session, sdist: Path, wheel: Path) -> None:
    """Fail the session unless the wheel holds the package alone, and the sdist all that its tests need."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    strays = [name for name in in_wheel if not name.startswith(("dfs/", "dfs-"))]
    if strays:
        session.error(f"the wheel holds more than the package: {strays}")
    if "dfs/py.typed" not in in_wheel or not any(name.endswith("licenses/LICENSE") for name in in_wheel):
        session.error("the wheel lacks dfs/py.typed or the licence")
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    missing = {"LICENSE", "README.md", "noxfile.py", "pyproject.toml", "tests/test_tidy.py"} - in_sdist
    if missing:
        session.error(f"the sdist lacks {sorted(missing)}")
