"""Plugins by name: built in, installed as real distributions, broken in every way, and from a file."""

import importlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import dfs
from dfs.cluster import make_registry
from dfs.core import hookspec
from dfs.core.errors import (
    IntegrityError,
    MisspeltHookError,
    PluginConflictError,
    PluginError,
    PluginVersionError,
    UnknownPluginError,
)
from dfs.core.interface import CipherPlugin, Options, Plugin
from dfs.core.registry import HOOKS, Registry
from dfs.core.settings import NodeConf
from dfs.plugins import BUILTIN

PACKAGES = Path(__file__).parent.parent / "packages"
SMALL = {"dfs_ciphers": {"aes-gcm": BUILTIN["dfs_ciphers"]["aes-gcm"]}}
PLUGIN_HEAD = """
from dfs.core.api import CipherPlugin, Options, hookimpl
DFS_API_VERSION = 1
def make(options):
    raise NotImplementedError
def cipher(name):
    return CipherPlugin(name=name, summary="a cipher", make=make)
"""

Install = Callable[..., None]


def write_distribution(site: Path, project: dict[str, object], version: str) -> None:
    """Write what an installer writes: metadata and entry points beside the module."""
    name = str(project["name"])
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    entry_points = project["entry-points"]
    assert isinstance(entry_points, dict)
    lines = [f"{entry} = {module}" for entry, module in entry_points["dfs"].items()]
    (folder / "entry_points.txt").write_text("\n".join(["[dfs]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python takes installed packages from."""
    modules = set(sys.modules)
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in set(sys.modules) - modules:
        if name.startswith("dfs_"):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Install packages of tests/packages by name."""

    def install(*names: str, version: str = "1.0") -> None:
        for name in names:
            project = tomllib.loads((PACKAGES / name / "pyproject.toml").read_text())["project"]
            write_distribution(site, project, version)
            for module in (PACKAGES / name).glob("*.py"):
                shutil.copy(module, site)
        importlib.invalidate_caches()

    return install


@pytest.fixture
def install_text(site: Path) -> Callable[[str], None]:
    """Install a package dfs-text with the given module."""

    def install(text: str) -> None:
        write_distribution(site, {"name": "dfs-text", "entry-points": {"dfs": {"text": "dfs_text"}}}, "2.0")
        (site / "dfs_text.py").write_text(text)
        importlib.invalidate_caches()

    return install


def no_entry_points() -> Iterable[EntryPoint]:
    pytest.fail("installed packages were looked for without need")


# --- What is built in ---------------------------------------------------------------------------------------


def declared(hook: str, module_name: str) -> dict[str, Plugin]:
    module = importlib.import_module(module_name)
    assert module.DFS_API_VERSION == hookspec.DFS_API_VERSION
    return {plugin.name: plugin for plugin in getattr(module, hook)()}


@pytest.mark.parametrize(
    ("hook", "name"), [(hook, name) for hook, table in BUILTIN.items() for name in table]
)
def test_the_table_says_what_the_modules_declare(hook: str, name: str) -> None:
    module_name, summary = BUILTIN[hook][name]
    plugins = declared(hook, module_name)
    assert plugins.keys() == {known for known, (module, _) in BUILTIN[hook].items() if module == module_name}
    assert plugins[name].summary == summary
    found = Registry(BUILTIN, entry_points=no_entry_points).get(hook, name)
    assert (found.plugin.name, found.package, found.package_version) == (name, "dfs", dfs.__version__)


def test_hooks_are_those_of_the_seam() -> None:
    assert set(HOOKS) == set(BUILTIN) == {name for name in vars(hookspec) if name.startswith("dfs_")}


def test_a_built_in_name_imports_one_plugin_and_scans_nothing() -> None:
    program = """
import sys
from dfs.core.registry import Registry
from dfs.plugins import BUILTIN
assert not any(name in sys.modules for name in ("pluggy", "importlib.metadata", "dfs.plugins.tcp"))
assert Registry(BUILTIN).get("dfs_transports", "tcp").plugin.name == "tcp"
print(*(name for name in sys.modules if name.startswith("dfs.plugins.") or name == "importlib.metadata"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dfs.plugins.tcp"]


def test_the_type_follows_the_hook() -> None:
    plugin: CipherPlugin = Registry(SMALL, entry_points=no_entry_points).get("dfs_ciphers", "aes-gcm").plugin
    assert plugin.make(Options()).key_size == 32


def test_a_built_in_plugin_is_loaded_once() -> None:
    registry = Registry(SMALL, entry_points=no_entry_points)
    assert registry.get("dfs_ciphers", "aes-gcm") is registry.get("dfs_ciphers", "aes-gcm")


def test_a_built_in_module_that_breaks_is_named() -> None:
    registry = Registry({"dfs_ciphers": {"absent": ("dfs_absent_module", "gone")}}, entry_points=lambda: ())
    with pytest.raises(PluginError, match="dfs_absent_module cannot be imported: ModuleNotFoundError"):
        registry.get("dfs_ciphers", "absent")
    (line,) = registry.status()
    assert (line.name, line.summary) == ("absent", "gone")
    assert "ModuleNotFoundError" in line.reason


def test_a_table_that_lies_is_named() -> None:
    registry = Registry({"dfs_ciphers": {"other": BUILTIN["dfs_ciphers"]["aes-gcm"]}})
    with pytest.raises(PluginError, match="built-in cipher 'other' is not declared"):
        registry.get("dfs_ciphers", "other")


# --- What is installed --------------------------------------------------------------------------------------


def test_an_installed_plugin_is_found(install: Install) -> None:
    install("dfs-foxglove")
    registry = Registry(SMALL)
    found = registry.get("dfs_ciphers", "foxglove")
    assert (found.package, found.package_version) == ("dfs-foxglove", "1.0")
    assert found.qualified == "dfs-foxglove:foxglove@1"
    assert registry.get("dfs_placements", "meadow").qualified == "dfs-foxglove:meadow@1"
    assert registry.failures() == ()


def test_the_installed_cipher_seals(install: Install) -> None:
    install("dfs-foxglove")
    cipher = Registry(SMALL).get("dfs_ciphers", "foxglove").plugin.make(Options())
    key, plain = bytes(32), b"a file"
    sealed, opened = bytearray(len(plain) + cipher.overhead_size), bytearray(len(plain))
    cipher.seal_into(key, b"context", plain, memoryview(sealed))
    cipher.open_into(key, b"context", sealed, memoryview(opened))
    assert opened == plain
    sealed[0] ^= 1
    with pytest.raises(IntegrityError):
        cipher.open_into(key, b"context", sealed, memoryview(opened))


def test_installed_packages_wait_until_a_name_is_missed(install: Install) -> None:
    install("dfs-foxglove", "dfs-broken")
    registry = Registry(SMALL)
    registry.get("dfs_ciphers", "aes-gcm")
    assert "dfs_foxglove" not in sys.modules
    registry.get("dfs_ciphers", "foxglove")
    assert "dfs_foxglove" in sys.modules


def test_names_and_status_show_everything(install: Install) -> None:
    install("dfs-foxglove", "dfs-broken")
    registry = Registry(SMALL)
    assert registry.names("dfs_ciphers") == ["aes-gcm", "foxglove"]
    assert registry.names("dfs_codes") == []
    lines = [
        (line.hook, line.name, line.package, line.format_version, line.reason) for line in registry.status()
    ]
    assert lines == [
        ("dfs_ciphers", "aes-gcm", "dfs", 1, ""),
        ("dfs_ciphers", "foxglove", "dfs-foxglove", 1, ""),
        ("dfs_placements", "meadow", "dfs-foxglove", 1, ""),
    ]
    assert [failure.source for failure in registry.failures()] == ["dfs-broken 1.0:broken"]


def test_an_unknown_name_tells_what_there_is(install: Install) -> None:
    install("dfs-foxglove")
    with pytest.raises(UnknownPluginError) as caught:
        Registry(SMALL).get("dfs_ciphers", "foxglov")
    assert caught.value.what == "there is no cipher 'foxglov'; known: aes-gcm, foxglove"


# --- What goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "error", "text"),
    [
        ("dfs-broken", PluginError, "dfs-broken 1.0:broken cannot be imported: ModuleNotFoundError"),
        ("dfs-misspelt", MisspeltHookError, "'dfs_cipher' (did you mean 'dfs_ciphers'?)"),
        (
            "dfs-oldapi",
            PluginVersionError,
            "dfs-oldapi 1.0:oldapi is made for version 0 of the plugin interface",
        ),
        ("dfs-usurper", PluginConflictError, "dfs-usurper 1.0:usurper claims the cipher 'aes-gcm'"),
    ],
)
def test_a_broken_package_harms_no_other_name(
    install: Install, package: str, error: type[PluginError], text: str
) -> None:
    install(package, "dfs-foxglove")
    registry = Registry(SMALL)
    assert registry.get("dfs_ciphers", "foxglove").package == "dfs-foxglove"
    assert registry.get("dfs_ciphers", "aes-gcm").package == "dfs"
    (failure,) = registry.failures()
    assert (failure.package, failure.error) == (package, error)
    assert text in failure.reason
    with pytest.raises(PluginError) as caught:
        registry.get("dfs_ciphers", "thistle")
    assert type(caught.value) is error
    assert text in caught.value.what
    assert "known: aes-gcm, foxglove" in caught.value.what


def test_several_failures_are_all_told(install: Install) -> None:
    install("dfs-broken", "dfs-misspelt", "dfs-oldapi")
    with pytest.raises(UnknownPluginError) as caught:
        Registry(SMALL).get("dfs_ciphers", "thistle")
    for text in ("dfs-broken 1.0", "dfs-misspelt 1.0", "dfs-oldapi 1.0"):
        assert text in caught.value.what


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("dfs-foxglove")
    install("dfs-conflict", version="0.9")
    registry = Registry(SMALL)
    with pytest.raises(PluginConflictError) as caught:
        registry.get("dfs_ciphers", "foxglove")
    assert "dfs-foxglove 1.0:foxglove" in caught.value.what
    assert "dfs-conflict 0.9:conflict" in caught.value.what
    assert registry.get("dfs_placements", "meadow").package == "dfs-foxglove"


@pytest.mark.parametrize(
    ("allow", "block"),
    [
        ((), ("dfs-conflict",)),
        ((), ("conflict",)),
        ((), ("DFS_Conflict",)),
        (("dfs-foxglove",), ()),
        (("foxglove",), ()),
        (("foxglove", "conflict"), ("conflict",)),
    ],
)
def test_the_conf_decides_before_anything_is_imported(
    install: Install, allow: Collection[str], block: Collection[str]
) -> None:
    install("dfs-foxglove", "dfs-conflict")
    registry = Registry(SMALL, allow=allow, block=block)
    assert registry.get("dfs_ciphers", "foxglove").package == "dfs-foxglove"
    assert "dfs_conflict" not in sys.modules


def test_what_the_conf_keeps_out_is_told(install: Install) -> None:
    install("dfs-foxglove")
    with pytest.raises(UnknownPluginError, match=r"dfs-foxglove 1\.0:foxglove is kept out by the conf"):
        Registry(SMALL, block=["foxglove"]).get("dfs_ciphers", "foxglove")


@pytest.mark.parametrize(
    ("tail", "error", "text"),
    [
        ("raise SystemExit(3)", PluginError, "cannot be imported: SystemExit: 3"),
        ("del DFS_API_VERSION", PluginVersionError, "made for version None"),
        ("def dfs_ciphers(): return ()", PluginError, "implements no hook; is @hookimpl missing?"),
        (
            "@hookimpl\ndef dfs_ciphers(): return 1 / 0",
            PluginError,
            "fails in dfs_ciphers: ZeroDivisionError",
        ),
        (
            "@hookimpl\ndef dfs_ciphers(): return (cipher('BAD NAME'),)",
            PluginError,
            "fails in dfs_ciphers: ValueError: a plugin name is",
        ),
        (
            "@hookimpl\ndef dfs_ciphers(): return cipher('thistle')",
            PluginError,
            "fails in dfs_ciphers: TypeError",
        ),
        (
            "@hookimpl\ndef dfs_codes(): return (cipher('thistle'),)",
            PluginError,
            "returns CipherPlugin from dfs_codes, not CodePlugin",
        ),
        (
            "@hookimpl\ndef dfs_ciphers(): return (cipher('thistle'), cipher('thistle'))",
            PluginConflictError,
            "declares one name twice",
        ),
        ("@hookimpl\ndef dfs_ciphers(conf): return ()", PluginError, "implements a hook in a wrong way"),
        (
            "@hookimpl(wrapper=True)\ndef dfs_ciphers():\n    return (yield)",
            PluginError,
            "wraps the hook dfs_ciphers",
        ),
        ("@hookimpl\ndef dfs_weather(): return ()", MisspeltHookError, "does not exist: 'dfs_weather'"),
    ],
)
def test_every_fault_of_a_stranger_is_told(
    install_text: Callable[[str], None], tail: str, error: type[PluginError], text: str
) -> None:
    install_text(PLUGIN_HEAD + tail)
    with pytest.raises(PluginError) as caught:
        Registry(SMALL).get("dfs_ciphers", "thistle")
    assert type(caught.value) is error
    assert "dfs-text 2.0:text" in caught.value.what
    assert text in caught.value.what


# --- What manifests name ------------------------------------------------------------------------------------


def test_a_manifest_names_the_package(install: Install) -> None:
    install("dfs-foxglove", "dfs-conflict")
    registry = Registry(SMALL)
    assert registry.resolve("dfs_ciphers", "dfs-foxglove:foxglove@1").package == "dfs-foxglove"
    assert registry.resolve("dfs_ciphers", "DFS_Conflict:foxglove@1").package == "dfs-conflict"
    assert registry.get("dfs_ciphers", "dfs-conflict:foxglove@1").package == "dfs-conflict"
    assert registry.resolve("dfs_ciphers", "dfs:aes-gcm@1").package == "dfs"


def test_what_a_manifest_needs_and_is_not_there_is_advised(install: Install) -> None:
    install("dfs-broken")
    registry = Registry(SMALL)
    with pytest.raises(UnknownPluginError, match="of the package dfs-foxglove") as caught:
        registry.resolve("dfs_ciphers", "dfs-foxglove:foxglove@1")
    assert "dfs-broken" not in caught.value.what
    assert "pip install dfs-foxglove" in caught.value.next_step
    with pytest.raises(UnknownPluginError) as caught:
        registry.resolve("dfs_ciphers", "dfs:later@1")
    assert "pip install --upgrade dfs." in caught.value.next_step
    with pytest.raises(PluginError, match="cannot be imported") as broken:
        registry.resolve("dfs_ciphers", "dfs-broken:bramble@1")
    assert type(broken.value) is PluginError


def test_a_built_in_name_of_another_package_is_another_plugin() -> None:
    with pytest.raises(UnknownPluginError, match="'aes-gcm' of the package dfs-usurper"):
        Registry(SMALL, entry_points=lambda: ()).resolve("dfs_ciphers", "dfs-usurper:aes-gcm@1")


def test_another_format_is_refused() -> None:
    with pytest.raises(PluginVersionError, match="dfs:aes-gcm@2 is needed") as caught:
        Registry(SMALL).resolve("dfs_ciphers", "dfs:aes-gcm@2")
    assert "has format 1" in caught.value.what


@pytest.mark.parametrize(
    "qualified", ["", "aes-gcm@1", ":aes-gcm@1", "dfs:@1", "dfs:a@x", "dfs:a:b@1", "d fs:a@1"]
)
def test_a_name_that_is_none(qualified: str) -> None:
    with pytest.raises(UnknownPluginError, match="names no cipher"):
        Registry(SMALL).resolve("dfs_ciphers", qualified)


def test_the_qualified_name_of_a_plugin_without_format() -> None:
    registry = Registry(BUILTIN, entry_points=no_entry_points)
    assert registry.get("dfs_transports", "memory").qualified == "dfs:memory"
    assert registry.resolve("dfs_transports", "dfs:memory").plugin.name == "memory"


# --- A file -------------------------------------------------------------------------------------------------


def test_a_file_provides_plugins(tmp_path: Path) -> None:
    path = tmp_path / "my cipher.py"
    path.write_text(PLUGIN_HEAD + "@hookimpl\ndef dfs_ciphers(): return (cipher('thistle'),)")
    registry = Registry(SMALL, allow=["nothing"], entry_points=lambda: ())
    registry.load_file(str(path))
    found = registry.get("dfs_ciphers", "thistle")
    assert (found.qualified, found.package_version) == ("my_cipher.py:thistle@1", "")
    assert registry.resolve("dfs_ciphers", found.qualified) == found
    with pytest.raises(UnknownPluginError) as caught:
        registry.resolve("dfs_ciphers", "their.py:teasel@1")
    assert "--plugin their.py" in caught.value.next_step


@pytest.mark.parametrize(
    ("name", "text", "error", "reason"),
    [
        ("p.py", "1 / 0", PluginError, "ZeroDivisionError"),
        ("p.py", "(", PluginError, "SyntaxError"),
        ("p.txt", "", PluginError, r"does not end in \.py"),
        ("p.py", "", PluginVersionError, "version None"),
        (
            "p.py",
            PLUGIN_HEAD + "@hookimpl\ndef dfs_ciphers(): return (cipher('aes-gcm'),)",
            PluginConflictError,
            "comes with dfs",
        ),
    ],
)
def test_a_broken_file_is_told_at_once(
    tmp_path: Path, name: str, text: str, error: type[PluginError], reason: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=reason) as caught:
        Registry(SMALL, entry_points=lambda: ()).load_file(str(path))
    assert str(path) in caught.value.what


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="FileNotFoundError"):
        Registry(SMALL).load_file(str(tmp_path / "absent.py"))


def test_an_entry_point_without_distribution_still_works(install: Install) -> None:
    install("dfs-foxglove")
    entry = EntryPoint(name="foxglove", value="dfs_foxglove", group="dfs")
    found = Registry(SMALL, entry_points=lambda: [entry]).get("dfs_ciphers", "foxglove")
    assert (found.package, found.package_version) == ("dfs_foxglove", "")


def test_loading_is_timed_when_there_is_a_clock(install: Install) -> None:
    ticks = iter(range(100))
    registry = Registry(BUILTIN, clock=lambda: float(next(ticks)))
    assert registry.get("dfs_ciphers", "xor").load_s == 1.0
    assert Registry(BUILTIN).get("dfs_ciphers", "xor").load_s is None


def test_what_will_go_is_noted_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hookspec, "DFS_API_VERSION", 2)
    monkeypatch.setattr(hookspec, "DEPRECATED", {"CipherPlugin": "use CodePlugin"})
    registry = Registry(BUILTIN)
    with (
        pytest.warns(DeprecationWarning, match="made for version 1"),
        pytest.warns(DeprecationWarning, match="CipherPlugin will go: use CodePlugin"),
    ):
        registry.load_file(str(PACKAGES / "dfs-foxglove" / "dfs_foxglove.py"))
    assert registry.get("dfs_ciphers", "foxglove").notes == (
        "made for version 1 of the plugin interface; 2 is current",
        "CipherPlugin will go: use CodePlugin",
    )


def test_a_version_yet_to_come_asks_for_a_newer_dfs(tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("DFS_API_VERSION = 2\n")
    with pytest.raises(PluginVersionError, match="version 2 of the plugin interface, not 1") as caught:
        Registry(BUILTIN).load_file(str(tmp_path / "later.py"))
    assert caught.value.next_step == "Install it: pip install --upgrade dfs."


def test_a_node_imports_only_what_its_conf_names(install: Install) -> None:
    install("dfs-foxglove", "dfs-broken")
    registry = make_registry(NodeConf(dir="x", store="snapdragon"))
    with pytest.raises(UnknownPluginError, match="kept out by the conf"):
        registry.get("dfs_stores", "snapdragon")
    assert not {"dfs_foxglove", "dfs_broken"} & set(sys.modules)
    registry = make_registry(NodeConf(dir="x", plugins={"foxglove": {}}))
    assert registry.get("dfs_ciphers", "foxglove").package == "dfs-foxglove"
