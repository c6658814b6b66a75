"""Behaviours by recipe: what the plugins that a file was made with, or new files are made with, do."""

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from dfs.core.errors import InsecureError, PluginVersionError
from dfs.core.interface import Chunker, Code, CodeOptions, Compressor, Options, PlacementOptions
from dfs.core.pipeline import Packer, Stages
from dfs.core.registry import Registry
from dfs.core.roster import rank
from dfs.core.types import CODEC_PLAIN, Geometry, Recipe, Settings


class Choice(Protocol):
    """What of a client's options decides about plugins."""

    @property
    def registry(self) -> Registry:
        """All plugins."""

    @property
    def sections(self) -> Mapping[str, Settings]:
        """The conf's sections of plugins."""

    @property
    def allow_insecure(self) -> Sequence[str]:
        """Ciphers that protect nothing, and are allowed."""

    @property
    def recipe(self) -> Mapping[str, str]:
        """Names of cipher, compressor, code, placement and chunker of new files."""


class Plugins:
    """Behaviours by recipe, made once; compressors once a thread."""

    def __init__(self, options: Choice) -> None:
        self._options = options
        self._stages: dict[Recipe, Stages] = {}
        self._packers: dict[str, Packer] = {}
        self._codes: dict[tuple[str, Geometry], Code] = {}
        self._lock = threading.Lock()

    def _section(self, name: str) -> Settings:
        return self._options.sections.get(name, {})

    def recipe(self, geometry: Geometry) -> Recipe:
        """Return the recipe new files are made with."""
        names, registry = self._options.recipe, self._options.registry
        return Recipe(
            registry.get("dfs_ciphers", names["cipher"]).qualified,
            registry.get("dfs_compressors", names["compressor"]).qualified,
            registry.get("dfs_codes", names["code"]).qualified,
            registry.get("dfs_placements", names["placement"]).qualified,
            geometry,
        )

    def chunker(self) -> Chunker:
        """Return the chunker of new files."""
        name = self._options.recipe["chunker"]
        plugin = self._options.registry.get("dfs_chunkers", name).plugin
        return plugin.make(Options(values=self._section(name)))

    def stages(self, recipe: Recipe) -> Stages:
        """Return the behaviours behind a recipe.

        Raises:
            PluginError: one is not installed, or of another format. InsecureError: the cipher is not allowed.
        """
        with self._lock:
            known = self._stages.get(recipe)
        if known is not None:
            return known
        registry = self._options.registry
        cipher_plugin = registry.resolve("dfs_ciphers", recipe.cipher).plugin
        cipher = cipher_plugin.make(Options(values=self._section(cipher_plugin.name)))
        if not cipher.authenticated and cipher_plugin.name not in self._options.allow_insecure:
            raise InsecureError(
                f"cipher {cipher_plugin.name} does not protect what it seals",
                next_step=f'If you mean it, add allow_insecure = ["{cipher_plugin.name}"] to the conf.',
            )
        code_plugin = registry.resolve("dfs_codes", recipe.code).plugin
        code_values = self._section(code_plugin.name)
        placement_plugin = registry.resolve("dfs_placements", recipe.placement).plugin
        placement_values = self._section(placement_plugin.name)
        stages = Stages(
            recipe=recipe,
            cipher=cipher,
            code=code_plugin.make(CodeOptions(values=code_values, geometry=recipe.geometry)),
            placement=placement_plugin.make(PlacementOptions(values=placement_values, rank=rank)),
            packer=self.packer(recipe.compressor),
        )
        with self._lock:
            return self._stages.setdefault(recipe, stages)

    def code(self, name: str, geometry: Geometry) -> Code:
        """Return the code a claim names, as ``name@format``. Raises: PluginError."""
        with self._lock:
            known = self._codes.get((name, geometry))
        if known is not None:
            return known
        plugin = self._options.registry.get("dfs_codes", name.partition("@")[0]).plugin
        if name != f"{plugin.name}@{plugin.format_version}":
            raise PluginVersionError(
                f"the code {name} is needed, installed is format {plugin.format_version}"
            )
        made = plugin.make(CodeOptions(values=self._section(plugin.name), geometry=geometry))
        with self._lock:
            return self._codes.setdefault((name, geometry), made)

    def packer(self, qualified: str) -> Packer:
        """Return the compressor behind a qualified name. Raises: PluginError."""
        with self._lock:
            known = self._packers.get(qualified)
        if known is not None:
            return known
        plugin = self._options.registry.resolve("dfs_compressors", qualified).plugin
        values = self._section(plugin.name)
        own = threading.local()

        def compressor() -> Compressor:
            made: Compressor | None = getattr(own, "made", None)
            if made is None:
                made = own.made = plugin.make(Options(values=values))
            return made

        with self._lock:
            return self._packers.setdefault(qualified, Packer(compressor, plugin.codec or CODEC_PLAIN))
