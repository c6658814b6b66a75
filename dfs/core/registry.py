"""Plugins by name: built-in ones from a table, installed ones from entry points, files that the user names.

A module is imported only when a name of it is asked for, and installed packages only when the name is not
built in: a quick start, and no foreign code without need. What cannot be loaded never breaks another name: it
is kept as a `Failure` and told when the name that is missed could have come from it.
"""

import importlib
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar, overload

from dfs.core.errors import (
    MisspeltHookError,
    PluginConflictError,
    PluginError,
    PluginVersionError,
    UnknownPluginError,
)
from dfs.core.interface import (
    ChunkerPlugin,
    CipherPlugin,
    CodePlugin,
    CommandPlugin,
    CompressorPlugin,
    FormatPlugin,
    PlacementPlugin,
    Plugin,
    StorePlugin,
    TransportPlugin,
)
from dfs.core.records import frozen

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

P_co = TypeVar("P_co", bound=Plugin, covariant=True)
Builtin = Mapping[str, Mapping[str, tuple[str, str]]]  # hook -> name -> (module, summary)

PACKAGE: Final = "dfs"
FILE_SUFFIX: Final = ".py"
QUALIFIED_PATTERN: Final = re.compile(r"(?P<package>[^:@\s]+):(?P<name>[^:@\s]+)(?:@(?P<format>[0-9]{1,3}))?")
HOOKS: Final[Mapping[str, type[Plugin]]] = {
    "dfs_transports": TransportPlugin,
    "dfs_ciphers": CipherPlugin,
    "dfs_compressors": CompressorPlugin,
    "dfs_codes": CodePlugin,
    "dfs_placements": PlacementPlugin,
    "dfs_chunkers": ChunkerPlugin,
    "dfs_stores": StorePlugin,
    "dfs_commands": CommandPlugin,
}
KINDS: Final = {hook: hook.removeprefix("dfs_").removesuffix("s") for hook in HOOKS}


@frozen
class Source:
    """Where plugins come from. ``entry``: the entry point, module or file."""

    package: str
    version: str
    entry: str

    def __str__(self) -> str:
        """What a message says: the package with its version, and what of it was loaded."""
        return f"{self.package} {self.version}:{self.entry}" if self.version else self.entry


@frozen
class Found(Generic[P_co]):
    """A plugin with the package it came from."""

    plugin: P_co
    source: Source
    load_s: float | None = None  # what importing its module took; None when nobody looked at a clock
    notes: tuple[str, ...] = ()  # what will not work any more one day

    @property
    def package(self) -> str:
        """``dfs``, the distribution or the name of the file."""
        return self.source.package

    @property
    def package_version(self) -> str:
        """Version of the package, "" for a file."""
        return self.source.version

    @property
    def qualified(self) -> str:
        """``package:name@format`` as manifests say it; without the format where there is none."""
        version = f"@{self.plugin.format_version}" if isinstance(self.plugin, FormatPlugin) else ""
        return f"{self.package}:{self.plugin.name}{version}"


@frozen
class Failure:
    """A source that could not be loaded, why, and the error that is raised when its name is asked for."""

    package: str
    source: str
    reason: str
    error: type[PluginError]


@frozen
class PluginStatus:
    """A line of `dfs plugins`. ``format_version``: 0 for none. ``reason``: why it is unusable, or "".

    ``entry``: the module, entry point or file it came from. ``load_s``, ``notes``: as in `Found`.
    """

    hook: str
    name: str
    summary: str
    package: str
    package_version: str
    format_version: int = 0
    reason: str = ""
    entry: str = ""
    load_s: float | None = None
    notes: tuple[str, ...] = ()


class Registry:
    """Finds plugins by hook and name. Thread-safe.

    Args: ``builtin``: the table of the composition root. ``allow``, ``block``: names of entry points or
    distributions; where ``allow`` is not empty nothing else is imported. ``entry_points``: for tests.
    ``clock``: seconds, to tell how long imports take.
    """

    def __init__(
        self,
        builtin: Builtin,
        allow: Collection[str] = (),
        block: Collection[str] = (),
        entry_points: "Callable[[], Iterable[EntryPoint]] | None" = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._builtin: Final = builtin
        self._allow: Final = frozenset(map(normal, allow))
        self._block: Final = frozenset(map(normal, block))
        self._entry_points: Final = entry_points or _installed
        self._clock: Final = clock
        self._loaded: Final[dict[tuple[str, str], list[Found[Plugin]]]] = {}
        self._failures: Final[list[Failure]] = []
        self._refused: Final[list[str]] = []  # what the conf keeps out
        self._scanned = False
        self._lock: Final = threading.RLock()

    @overload
    def get(self, hook: Literal["dfs_transports"], name: str) -> Found[TransportPlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_ciphers"], name: str) -> Found[CipherPlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_compressors"], name: str) -> Found[CompressorPlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_codes"], name: str) -> Found[CodePlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_placements"], name: str) -> Found[PlacementPlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_chunkers"], name: str) -> Found[ChunkerPlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_stores"], name: str) -> Found[StorePlugin]: ...
    @overload
    def get(self, hook: Literal["dfs_commands"], name: str) -> Found[CommandPlugin]: ...
    @overload
    def get(self, hook: str, name: str) -> Found[Plugin]: ...

    def get(self, hook: str, name: str) -> Found[Plugin]:
        """Return the plugin of a name, or of ``package:name@format`` as in `resolve`.

        Raises: UnknownPluginError: nobody provides it. PluginConflictError: two do. PluginError and its other
        subclasses: what would provide it is broken.
        """
        if ":" in name:
            return self.resolve(hook, name)
        with self._lock:
            found = self._providers(hook, name)
            if len(found) > 1:
                sources = " and from ".join(str(each.source) for each in found)
                raise PluginConflictError(
                    f"the {KINDS[hook]} {name!r} comes from {sources}",
                    next_step="Block one of the packages in the conf: [plugins] block.",
                )
            if not found:
                raise self._missed(hook, name, "")
            return found[0]

    @overload
    def resolve(self, hook: Literal["dfs_ciphers"], qualified: str) -> Found[CipherPlugin]: ...
    @overload
    def resolve(self, hook: Literal["dfs_compressors"], qualified: str) -> Found[CompressorPlugin]: ...
    @overload
    def resolve(self, hook: Literal["dfs_codes"], qualified: str) -> Found[CodePlugin]: ...
    @overload
    def resolve(self, hook: Literal["dfs_placements"], qualified: str) -> Found[PlacementPlugin]: ...
    @overload
    def resolve(self, hook: str, qualified: str) -> Found[Plugin]: ...

    def resolve(self, hook: str, qualified: str) -> Found[Plugin]:
        """Return the plugin that a manifest names as ``package:name@format``.

        Of two that have the name the package decides.
        Raises: PluginVersionError: its format is another one. UnknownPluginError and others as in `get`.
        """
        match = QUALIFIED_PATTERN.fullmatch(qualified)
        if match is None:
            raise UnknownPluginError(f"{qualified!r} names no {KINDS[hook]}; it should look like dfs:name@1")
        package, name, version = match["package"], match["name"], match["format"]
        with self._lock:
            matching = [
                each for each in self._providers(hook, name) if normal(each.package) == normal(package)
            ]
            if not matching:
                raise self._missed(hook, name, package)
        found = matching[0]
        plugin = found.plugin
        if version is not None and isinstance(plugin, FormatPlugin) and plugin.format_version != int(version):
            raise PluginVersionError(
                f"{qualified} is needed, but {found.source} has format {plugin.format_version} of {name!r}",
                next_step=advice(package, upgrade=True),
            )
        return found

    def names(self, hook: str) -> Sequence[str]:
        """Return all names of a hook, sorted; it imports what is installed."""
        with self._lock:
            self._scan()
            return self._names(hook)

    def failures(self) -> Sequence[Failure]:
        """Return what could not be loaded so far."""
        with self._lock:
            return tuple(self._failures)

    def status(self) -> Sequence[PluginStatus]:
        """Import everything and return a line for each plugin, built-in ones first; then see `failures`."""
        with self._lock:
            lines = [
                self._builtin_status(hook, name, summary)
                for hook, table in self._builtin.items()
                for name, (_, summary) in table.items()
            ]
            self._scan()
            lines.extend(
                _status(hook, each)
                for (hook, name), providers in sorted(self._loaded.items(), key=lambda item: item[0])
                for each in providers
                if name not in self._builtin.get(hook, {})
            )
            return lines

    def load_file(self, path: str) -> None:
        """Load the plugins of a Python file that the user named; allow and block do not apply.

        Raises: PluginError and its subclasses: it cannot be loaded.
        """
        file = Path(path)
        source = Source(package=re.sub(r"[^\w.-]", "_", file.name), version="", entry=path)
        with self._lock:
            self._load(source, lambda: _import_file(file))

    def _providers(self, hook: str, name: str) -> Sequence[Found[Plugin]]:
        """Return who provides a name; for a built-in one no other package is imported."""
        if name in self._builtin.get(hook, {}):
            return (self._load_builtin(hook, name),)
        self._scan()
        return self._loaded.get((hook, name), ())

    def _load_builtin(self, hook: str, name: str) -> Found[Plugin]:
        import dfs  # only for the version: core depends on nothing of the top room

        if (hook, name) not in self._loaded:
            module_name = self._builtin[hook][name][0]
            source = Source(PACKAGE, dfs.__version__, module_name)
            self._load(source, lambda: importlib.import_module(module_name))
        found = self._loaded.get((hook, name))
        if found is None:
            raise PluginError(f"the built-in {KINDS[hook]} {name!r} is not declared by its module")
        return found[0]

    def _builtin_status(self, hook: str, name: str, summary: str) -> PluginStatus:
        try:
            return _status(hook, self._load_builtin(hook, name))
        except PluginError as error:
            return PluginStatus(hook, name, summary, PACKAGE, "", reason=error.what)

    def _scan(self) -> None:
        """Load every installed package that the conf lets in, once."""
        if self._scanned:
            return
        self._scanned = True
        entries = [(_source(entry), entry) for entry in self._entry_points()]
        for source, entry in sorted(entries, key=lambda pair: str(pair[0])):
            names = {normal(source.package), normal(source.entry)}
            if names & self._block or (self._allow and not names & self._allow):
                self._refused.append(str(source))
                continue
            try:
                self._load(source, entry.load)
            except PluginError as error:
                self._failures.append(Failure(source.package, str(source), error.what, type(error)))

    def _load(self, source: Source, load: Callable[[], object]) -> None:
        """Import a source and take in all its plugins, or none of them.

        Raises: PluginError and its subclasses: it cannot be used; the text names the source.
        """
        started_s = self._clock() if self._clock is not None else 0.0
        try:
            module = load()
        except (Exception, SystemExit) as error:  # foreign code may raise anything
            raise PluginError(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
        load_s = self._clock() - started_s if self._clock is not None else None
        declared = _declared(source, module)
        notes = () if source.package == PACKAGE else _notes(source, module)
        for hook, plugin in declared:
            if source.package != PACKAGE and plugin.name in self._builtin.get(hook, {}):
                raise PluginConflictError(
                    f"{source} claims the {KINDS[hook]} {plugin.name!r}, which comes with dfs",
                    next_step="Uninstall it or block it in the conf: [plugins] block.",
                )
        for hook, plugin in declared:
            self._loaded.setdefault((hook, plugin.name), []).append(Found(plugin, source, load_s, notes))

    def _names(self, hook: str) -> Sequence[str]:
        return sorted(
            {name for other, name in self._loaded if other == hook} | set(self._builtin.get(hook, {}))
        )

    def _missed(self, hook: str, name: str, package: str) -> PluginError:
        """Return the error for a name without provider; what failed and could have been it is told."""
        failures = [each for each in self._failures if normal(each.package) == normal(package) or not package]
        classes = {each.error for each in failures}
        whose = f" of the package {package}" if package else ""
        parts = [
            f"there is no {KINDS[hook]} {name!r}{whose}; known: {', '.join(self._names(hook)) or 'none'}",
            *(each.reason for each in failures),
            *(f"{source} is kept out by the conf" for source in self._refused),
        ]
        error = classes.pop() if len(classes) == 1 else UnknownPluginError
        return error("; ".join(parts), next_step=advice(package, upgrade=package == PACKAGE))


def normal(name: str) -> str:
    """Return the name of a distribution or entry point in the form in which two are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def advice(package: str, *, upgrade: bool) -> str:
    """Return what to do to get a package, or another version of it; "" stands for an unknown one."""
    if not package:
        return "Correct the name, or install the package that provides it; see dfs plugins."
    if package.endswith(FILE_SUFFIX):
        return f"Name the file it came from: --plugin {package}."
    return f"Install it: pip install {'--upgrade ' if upgrade else ''}{package}."


def _installed() -> "Iterable[EntryPoint]":
    from importlib.metadata import entry_points  # costs every start otherwise

    from dfs.core.hookspec import PROJECT_NAME  # it imports pluggy

    return entry_points(group=PROJECT_NAME)


def _source(entry: "EntryPoint") -> Source:
    if entry.dist is None:
        return Source(entry.module, "", entry.name)
    return Source(entry.dist.name, entry.dist.version, entry.name)


def _import_file(file: Path) -> object:
    import importlib.util  # rarely needed

    module_name = "dfs_plugin_file_" + re.sub(r"\W", "_", file.stem)
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"its name does not end in {FILE_SUFFIX}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # as an import does: a module may look itself up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _declared(source: Source, module: object) -> Sequence[tuple[str, Plugin]]:
    """Return hook and plugin of everything a module declares, with a plugin manager of its own."""
    import pluggy  # costs every start otherwise

    from dfs.core import hookspec

    version = getattr(module, "DFS_API_VERSION", None)
    current, oldest = hookspec.DFS_API_VERSION, hookspec.DFS_API_VERSION_MIN
    if not isinstance(version, int) or not oldest <= version <= current:
        known = str(current) if oldest == current else f"{oldest} to {current}"
        newer = isinstance(version, int) and version > current
        raise PluginVersionError(
            f"{source} is made for version {version} of the plugin interface, not {known}",
            next_step=advice(PACKAGE if newer else source.package, upgrade=True),
        )
    hooks = pluggy.PluginManager(hookspec.PROJECT_NAME)
    hooks.add_hookspecs(hookspec)
    try:
        hooks.register(module, str(source))
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{source} implements a hook in a wrong way: {error}") from error
    try:
        hooks.check_pending()
    except pluggy.PluginValidationError as error:
        raise MisspeltHookError(_misspelt(source, dir(module))) from error
    implementations = [
        (hook, implementation)
        for hook in HOOKS
        for implementation in getattr(hooks.hook, hook).get_hookimpls()
    ]
    if not implementations:
        raise PluginError(f"{source} implements no hook; is @hookimpl missing?")
    declared: list[tuple[str, Plugin]] = []
    for hook, implementation in implementations:
        if implementation.wrapper or implementation.hookwrapper:
            raise PluginError(f"{source} wraps the hook {hook}; hooks of dfs only declare")
        declared.extend((hook, plugin) for plugin in _called(source, hook, implementation.function))
    if len({(hook, plugin.name) for hook, plugin in declared}) < len(declared):
        raise PluginConflictError(f"{source} declares one name twice")
    return declared


def _notes(source: Source, module: object) -> tuple[str, ...]:
    """Return, and warn of, what a module uses that will go one day."""
    import warnings

    from dfs.core import api, hookspec

    notes = []
    version = getattr(module, "DFS_API_VERSION", None)
    if version != hookspec.DFS_API_VERSION:
        notes.append(
            f"made for version {version} of the plugin interface; {hookspec.DFS_API_VERSION} is current"
        )
    used = {id(value) for value in vars(module).values()}
    notes.extend(
        f"{name} will go: {instead}"
        for name, instead in hookspec.DEPRECATED.items()
        if id(getattr(api, name)) in used
    )
    for note in notes:
        warnings.warn(f"{source}: {note}", DeprecationWarning, stacklevel=2)
    return tuple(notes)


def _called(source: Source, hook: str, function: Callable[[], Iterable[Plugin]]) -> Sequence[Plugin]:
    """Return the plugins of one hook implementation."""
    expected = HOOKS[hook]
    try:
        plugins = tuple(function())
    except Exception as error:  # foreign code may raise anything
        raise PluginError(f"{source} fails in {hook}: {type(error).__name__}: {error}") from error
    for plugin in plugins:
        if not isinstance(plugin, expected):
            raise PluginError(
                f"{source} returns {type(plugin).__name__} from {hook}, not {expected.__name__}"
            )
    return plugins


def _misspelt(source: Source, attributes: Sequence[str]) -> str:
    """Return which hook of a module does not exist, and which one was probably meant."""
    import difflib  # rarely needed

    parts = []
    for name in attributes:
        if name.startswith("dfs_") and name not in HOOKS:
            nearest = difflib.get_close_matches(name, HOOKS, n=1)
            parts.append(f"{name!r}" + (f" (did you mean {nearest[0]!r}?)" if nearest else ""))
    return (
        f"{source} implements a hook that does not exist: {', '.join(parts) or 'its name begins with dfs_'}"
    )


def _status(hook: str, found: Found[Plugin]) -> PluginStatus:
    plugin = found.plugin
    return PluginStatus(
        hook,
        plugin.name,
        plugin.summary,
        found.package,
        found.package_version,
        plugin.format_version if isinstance(plugin, FormatPlugin) else 0,
        entry=found.source.entry,
        load_s=found.load_s,
        notes=found.notes,
    )
