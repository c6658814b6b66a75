"""The test module behind `dfs plugins check`: a contract for each plugin of one package.

Which package stands in the variable ``DFS_CHECK`` (dfs.testing.checker).
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import dfs.testing
from dfs.core.registry import KINDS, PACKAGE, PluginStatus, Registry, normal
from dfs.plugins import BUILTIN
from dfs.testing.checker import VARIABLE


def chosen(registry: Registry, package: str) -> Iterator[PluginStatus]:
    """Yield the plugins of a package, or those that have this name."""
    for status in registry.status():
        if not status.reason and normal(package) in {normal(status.package), status.name}:
            yield status


def contract(registry: Registry, status: PluginStatus) -> type:
    """Return a test class for a plugin."""
    kind = KINDS[status.hook]
    base = getattr(dfs.testing, f"{kind.capitalize()}Contract")
    body: dict[str, Any] = {"plugin": registry.get(status.hook, status.name).plugin}
    if status.package == PACKAGE:
        body["codecs"] = range(128)  # those of a compressor that comes with dfs
    return type(f"Test_{kind}_{status.name}", (base,), body)


def classes() -> dict[str, type]:
    """Return the test classes by name."""
    wanted = json.loads(os.environ[VARIABLE])
    registry = Registry(BUILTIN)
    for path in wanted["files"]:
        registry.load_file(path)
    made = (contract(registry, status) for status in chosen(registry, wanted["package"]))
    return {each.__name__: each for each in made}


globals().update(classes())
