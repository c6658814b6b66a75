"""Broken plugins: each has one defect that somebody could really write, and names the test that sees it."""

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve, field, frozen

from dfs.core.api import Plugin


@frozen
class Defect:
    """A broken plugin and the test that must fail. ``settings``: what its test class has beside it."""

    kind: str
    what: str
    caught_by: str
    plugin: Plugin
    settings: dict[str, Any] = field(factory=dict)

    @property
    def class_name(self) -> str:
        """The name of its test class."""
        return f"Test_{self.kind}_{self.what.replace(' ', '_').replace(',', '')}"


DEFECTS: Final[list[Defect]] = []


def seed(kind: str, what: str, caught_by: str, plugin: Plugin, **settings: Any) -> None:
    """Add a defect."""
    DEFECTS.append(Defect(kind, what, caught_by, plugin, settings))


class Around:
    """A behaviour round a sound one; a defect overrides what it breaks."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def broken(plugin: Any, around: Callable[[Any], Any]) -> Any:
    """Return a plugin whose `make` puts ``around`` round what it makes."""
    return evolve(plugin, make=lambda options: around(plugin.make(options)))
