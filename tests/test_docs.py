"""What the pages must name: every file its room, every message, error, error number and hook its place."""

import inspect
import re
from pathlib import Path

import pytest

from dfs.core import errors, hookspec, limits, messages, wire
from dfs.core.errors import DfsError
from tests import plugin_pages

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
FORMATS = (ROOT / "docs/formats.md").read_text("utf-8")
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "dfs").rglob("*.py"))
HOOKS = sorted(
    name for name, _ in inspect.getmembers(hookspec, inspect.isfunction) if name.startswith("dfs_")
)
MESSAGES = sorted({cls.__name__ for cls in messages.CLASSES})
PARTS = sorted(
    name
    for name, cls in inspect.getmembers(messages, inspect.isclass)
    if cls.__module__ == messages.__name__ and name not in MESSAGES
)
ERRORS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, DfsError)]


def names(page: str) -> set[str]:
    return set(re.findall(r"[\w./-]+", page))


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_its_line_in_the_map(file: str) -> None:
    assert re.search(rf"^\| `{re.escape(file)}` \| .+ \|$", ARCHITECTURE, re.MULTILINE)


def test_the_map_names_no_file_that_is_gone() -> None:
    named = re.findall(r"^\| `(dfs/[^`]+\.py)` \|", ARCHITECTURE, re.MULTILINE)
    assert sorted(named) == FILES


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_named(hook: str) -> None:
    assert f"`{hook}`" in ARCHITECTURE


@pytest.mark.parametrize("name", [*MESSAGES, *PARTS])
def test_every_message_and_row_is_described(name: str) -> None:
    assert name in names(FORMATS)


@pytest.mark.parametrize(("code", "pair"), messages.MESSAGES.items())
def test_codes_stand_beside_their_messages(code: int, pair: tuple[type, type]) -> None:
    request, reply = (cls.__name__ for cls in pair)
    assert re.search(rf"^\| {code} \| \*\*{request}\*\*.* \| \*\*{reply}\*\*.* \|$", FORMATS, re.MULTILINE)


@pytest.mark.parametrize(("number", "fault"), wire.FAULTS.items())
def test_numbers_stand_beside_their_errors(number: int, fault: type[DfsError]) -> None:
    assert re.search(rf"\| {number} \| {fault.__name__}\b", FORMATS)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_code_stands_beside_its_exit_code(error: type[DfsError]) -> None:
    assert re.search(rf"^\| {error.exit_code} {error.name} \|.*\b{error.code}\b.*\|$", FORMATS, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("BATCH_COUNT_MAX", "512 items"),
        ("LIST_COUNT_MAX", "1,024 records"),
        ("ARRAY_COUNT_MAX", "4,096 items"),
        ("NODE_COUNT_MAX", "1 to 1,024"),
        ("PATH_SIZE_MAX", "4,096 bytes"),
        ("PATH_DEPTH_MAX", "64 components"),
        ("NAME_SIZE_MAX", "255 bytes"),
        ("ENTRY_SIZE_MAX", "96 KiB"),
        ("CONTENT_INLINE_SIZE_MAX", "1,024 bytes"),
        ("FACTS_SIZE_MAX", "64 bytes"),
    ],
)
def test_bounds_are_those_of_the_code(name: str, shown: str) -> None:
    bound: int = getattr(limits, name)
    number = shown.replace(",", "").split()
    assert bound in {int(word) * (limits.KIB if "KiB" in shown else 1) for word in number if word.isdigit()}
    assert shown in FORMATS


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_pages_name_files_that_are_there(page: Path) -> None:
    named = re.findall(r"`((?:dfs|tests|docs|conf)/[\w./-]+\.\w+)`", page.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_pages_name_tests_that_are_there(page: Path) -> None:
    """A claim is worth its test: a renamed or removed one must not stay in a page."""
    named = re.findall(r"`(tests/[\w./-]+\.py)::(\w+)`", page.read_text("utf-8"))
    gone = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or f"\ndef {test}(" not in (ROOT / file).read_text("utf-8")
    ]
    assert gone == []


def test_every_attacker_has_a_row_and_a_chapter_that_names_tests() -> None:
    page = (ROOT / "docs/threats.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-K]) \| ", page, re.MULTILINE)
    assert rows == list("ABCDEFGHIJK")
    chapters = page.split("\n## ")[1:]
    titles = " ".join(chapter.partition(":")[0] for chapter in chapters[:7])
    titled = re.findall(r"\b[A-K]\b", titles)
    assert sorted(titled) == rows
    assert all("`tests/" in chapter for chapter in chapters)


PLUGINS = (ROOT / "docs/plugins.md").read_text("utf-8")


def section(kind: str) -> str:
    """The section of a hook, on one line where it is wrapped."""
    title = f": `{plugin_pages.KIND_HOOK[kind]}`\n"
    assert title in PLUGINS
    return PLUGINS.partition(title)[2].partition("\n## ")[0]


@pytest.mark.parametrize("kind", plugin_pages.KIND_HOOK)
def test_every_hook_stands_with_its_exact_signature(kind: str) -> None:
    """When it fails: ``python -m tests.plugin_pages KIND`` prints what the section must have."""
    assert plugin_pages.signature_text(kind) in section(kind)


@pytest.mark.parametrize("kind", plugin_pages.KIND_HOOK)
def test_every_hook_has_the_example_that_is_written(kind: str) -> None:
    if kind != "store":
        assert plugin_pages.example(kind) in section(kind)


@pytest.mark.parametrize("kind", plugin_pages.KIND_HOOK)
def test_every_test_of_a_contract_is_explained(kind: str) -> None:
    page = " ".join(section(kind).split())
    for name, says in plugin_pages.contract_tests(kind):
        assert f"- `{name}`{': ' + says if says else ''}" in page
    named = set(re.findall(r"`(test_\w+)`", section(kind)))
    assert named == {name for name, _ in plugin_pages.contract_tests(kind)}


def test_the_version_of_the_interface_is_promised() -> None:
    assert f"`DFS_API_VERSION`, {hookspec.DFS_API_VERSION} today" in PLUGINS
