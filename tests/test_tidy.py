"""What no linter knows about the code: sizes, words, doors, and that every module has its tests.

Files are parsed, never imported. Which rooms are pure is read from the import contracts in pyproject.toml.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FUNCTION_LINE_COUNT_MAX = 60  # without docstring
FILE_LINE_COUNT_MAX = 600

CODE = sorted((ROOT / "dfs").rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "packages" not in path.parts)
TOOLS = [*sorted((ROOT / "bench").rglob("*.py")), ROOT / "noxfile.py"]
EVERYTHING = [*CODE, *TESTS, *TOOLS]

# The seams are read as one text by people who write plugins: docstrings, hardly a line of code.
LONG_FILES = {"dfs/core/interface.py"}

# Rooms that hold no behaviour of their own, and are tested through everything else.
UNTESTED = {"dfs/core/hookspec.py", "dfs/core/limits.py"}

BANNED_CALLS = {"open", "print", "input", "eval", "exec", "compile", "breakpoint", "__import__"}
BANNED_WORDS = {
    *("len", "num", "data", "info", "util", "utils", "manager"),  # say nothing
    *("shard", "shards", "block", "blocks", "fragment", "fragments"),  # share, chunk or stripe
    *("heal", "heals", "host", "hosts"),  # repair; node or address
}
EXEMPT_NAMES = {
    "heal",  # the right of the account `healer`
    "HOST",  # of HOST:PORT, as people write addresses
    *("block", "plugins_block", "heal_conf", "heal_interval"),  # conf keys
}

# Where any failure must be caught because it is told or raised again elsewhere.
BROAD_EXCEPTS = {
    "dfs/cli.py",  # told in one line as the bug it is; --debug shows where it came from
    "dfs/core/commit.py",  # raised again by everybody who waits for the transaction
    "dfs/core/connection.py",  # logged; a fault in one connection must not end the others
    "dfs/core/effects.py",  # handed from the worker to the operation that waits
    "dfs/core/registry.py",  # a stranger's plugin may raise anything; its failure is kept and told by name
    "dfs/core/runner.py",  # handed from the worker to the operation that waits
    "dfs/testing/simulation/run.py",  # a failed run of a seed, told with all others
}
BROAD = {"Exception", "BaseException"}

# What only who knows a key can say or make: comparing it must not tell by its time how much of it was right.
SECRET_MAKERS = {"confirm_tag", "chunk_id", "key_file_secret", "password_secret", "sign_login"}
SECRETS = {"kek", "master", "secret", "seed", "signature"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


def body_line_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, decorators and docstring left out."""
    count = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        count -= (first.end_lineno or 0) - first.lineno + 1
    return count


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name the file itself gives to something; names that only stand in calls are others'."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def words_of(name: str) -> list[str]:
    """Split snake_case and CamelCase into lower-case words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


def is_banned(name: str) -> bool:
    if name.strip("_") in EXEMPT_NAMES or (name.startswith("__") and name.endswith("__")):
        return False
    return name.startswith("n_") or any(word in BANNED_WORDS for word in words_of(name))


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether it catches more than it can know about, and keeps it."""
    caught = handler.type
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    broad = any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)
    last = handler.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


def is_secret(value: ast.expr) -> bool:
    """Whether it is a secret, or made of one on the spot."""
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in SECRET_MAKERS
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in SECRETS
    return False


def compared_in_pieces(tree: ast.Module) -> Iterator[int]:
    """Lines where a secret is compared by a way that stops at the first difference."""
    quick = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare) or not any(isinstance(each, quick) for each in node.ops):
            continue
        if any(map(is_secret, (node.left, *node.comparators))):
            yield node.lineno


def contracts() -> dict[str, dict[str, object]]:
    conf = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["name"]: contract for contract in conf["tool"]["importlinter"]["contracts"]}


def pure_rooms() -> list[Path]:
    """Files of core that the contract `pure rooms` does not name as having a door to the world."""
    ignored = contracts()["pure rooms"]["ignore_imports"]
    assert isinstance(ignored, list)
    doors = {line.removesuffix(" -> *").rpartition(".")[2] for line in ignored if line.endswith(" -> *")}
    assert {"env", "server", "client"} <= doors
    return [path for path in (ROOT / "dfs/core").glob("*.py") if path.stem not in doors]


def modules_with_tests() -> list[tuple[Path, Path]]:
    """Module -> its test file; a plugin that is a folder counts as one module."""
    pairs = {}
    for path in CODE:
        parts = path.relative_to(ROOT / "dfs").parts
        if parts[0] in {"core", "plugins"} and parts[1] != "__init__.py" and name_of(path) not in UNTESTED:
            pairs[ROOT / "dfs" / parts[0] / parts[1]] = ROOT / "tests/unit" / f"test_{Path(parts[1]).stem}.py"
    return sorted(pairs.items())


@each(EVERYTHING)
def test_functions_fit_a_screen(path: Path) -> None:
    functions = [
        node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name: body_line_count(node) for node in functions}
    assert {name: count for name, count in long.items() if count > FUNCTION_LINE_COUNT_MAX} == {}


@each(EVERYTHING)
def test_files_can_be_read_in_one_go(path: Path) -> None:
    if name_of(path) not in LONG_FILES:
        assert len(path.read_text().splitlines()) <= FILE_LINE_COUNT_MAX


@each(EVERYTHING)
def test_files_say_what_lives_in_them(path: Path) -> None:
    tree = tree_of(path)
    if name_of(path) == "dfs/core/__init__.py":
        assert tree.body == [], "importing dfs.core must cost nothing"
    else:
        assert ast.get_docstring(tree)


@each(EVERYTHING)
def test_names_use_the_words_of_the_design(path: Path) -> None:
    found = {name: line for line, name in defined_names(tree_of(path)) if is_banned(name)}
    assert found == {}
    assert not is_banned(path.stem)


@each(EVERYTHING)
def test_no_exception_is_swallowed_unseen(path: Path) -> None:
    broad = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert broad == [] or name_of(path) in BROAD_EXCEPTS


@pytest.mark.parametrize("path", pure_rooms(), ids=name_of)
def test_pure_rooms_have_no_doors(path: Path) -> None:
    calls = [
        (node.lineno, node.func.id)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS
    ]
    assert calls == []


@each(TESTS)
def test_tests_never_sleep(path: Path) -> None:
    sleeps = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr == "sleep" and is_clock(node.value))
        or (isinstance(node, ast.ImportFrom) and is_clock_import(node))
    ]
    assert sleeps == []


def is_clock(module: ast.expr) -> bool:
    return isinstance(module, ast.Name) and module.id in {"time", "asyncio"}


def is_clock_import(node: ast.ImportFrom) -> bool:
    return node.module in {"time", "asyncio"} and any(alias.name == "sleep" for alias in node.names)


@pytest.mark.parametrize(
    ("module", "test_file"), modules_with_tests(), ids=[name_of(module) for module, _ in modules_with_tests()]
)
def test_every_module_has_its_tests(module: Path, test_file: Path) -> None:
    assert test_file.is_file(), f"{name_of(module)} has no {name_of(test_file)}"


def test_continuous_integration_runs_what_the_readme_says() -> None:
    last_line = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert last_line.endswith("nox")
    assert last_line in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "banned"),
    [
        ("node_count", False),
        ("healer", False),
        ("heal", False),
        ("HOST", False),
        ("block", False),
        ("metadata", False),
        ("__len__", False),
        ("host", True),
        ("n_nodes", True),
        ("frame_len", True),
        ("DataHolder", True),
        ("PluginManager", True),
        ("block_size", True),
        ("_shards", True),
    ],
)
def test_banned_words_are_whole_words(name: str, banned: bool) -> None:
    assert is_banned(name) is banned


@pytest.mark.parametrize(
    ("text", "broad"),
    [
        ("except OSError: pass", False),
        ("except (OSError, ValueError): pass", False),
        ("except BaseException:\n  undo()\n  raise", False),
        ("except: pass", True),
        ("except Exception: pass", True),
        ("except (OSError, Exception) as error: keep(error)", True),
    ],
)
def test_broad_means_kept(text: str, broad: bool) -> None:
    (attempt,) = ast.parse(f"try:\n  work()\n{text}").body
    assert isinstance(attempt, ast.Try)
    assert is_broad(attempt.handlers[0]) is broad


def test_docstrings_do_not_count_as_lines() -> None:
    (function,) = ast.parse('def f():\n  """One.\n\n  Two.\n  """\n  return 1\n').body
    assert isinstance(function, ast.FunctionDef)
    assert body_line_count(function) == 2


@each(CODE)
def test_secrets_are_compared_in_constant_time(path: Path) -> None:
    assert list(compared_in_pieces(tree_of(path))) == []


@pytest.mark.parametrize(
    "text",
    ["tag == confirm_tag(keys, tag)", "keys.secret != given", "seed in seeds", "keyring.chunk_id(a) == b"],
)
def test_a_quick_comparison_of_secrets_would_be_found(text: str) -> None:
    assert list(compared_in_pieces(ast.parse(text))) == [1]
