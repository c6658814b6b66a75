"""For tests of commands: a context that writes down what a command does with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from attrs import define, field

from dfs.core.api import CommandContext, ConfigError, DfsError, Env, NoConfError
from dfs.core.env import RealEnv

DOORS: Final = frozenset(name for name in vars(CommandContext) if not name.startswith("_"))


@define
class Recorder:
    """Everything a command printed, by kind; ``clusters_there``: what `cluster` returns, by default none.

    Doors that need a cluster or a conf raise ``refusal``, as `dfs` itself does when there is none.
    """

    options: Mapping[tuple[str, str], str] = field(factory=dict)
    clusters_there: Sequence[Any] = ()
    refusal: DfsError = field(factory=lambda: NoConfError("no configuration was found"))
    answer: bool = True
    emitted: list[tuple[str, Mapping[str, object], str]] = field(factory=list)
    notes: list[str] = field(factory=list)
    failures: list[DfsError] = field(factory=list)
    degradations: list[str] = field(factory=list)
    codes: list[int] = field(factory=list)
    used: list[str] = field(factory=list)  # doors that were refused

    @property
    def env(self) -> Env:
        """Real clocks and entropy."""
        return RealEnv()

    def option(self, section: str, key: str) -> str | None:
        """What ``options`` says."""
        return self.options.get((section, key))

    def plugins(self) -> Sequence[Any]:
        """None."""
        return ()

    def formats(self) -> Mapping[str, int]:
        """Some numbers."""
        return {"wire": 1, "entry": 1, "conf": 1}

    def cluster(self) -> Any:  # noqa: ANN401 - what the test put there
        """The first of ``clusters_there``."""
        if self.clusters_there:
            return self.clusters_there[0]
        return self._refused("cluster")

    def clusters(self) -> Iterator[tuple[str, Any]]:
        """The first one, with ""."""
        yield "", self.cluster()

    def remote(self, path: str) -> str:
        """The path without slashes at its ends; a relative component is refused."""
        parts = [part for part in path.split("/") if part]
        if any(part in {".", ".."} or not part.isprintable() for part in parts):
            raise ConfigError(f"not a remote path: {path!r}")
        return "/".join(parts)

    def confirm(self, question: str) -> bool:
        """``answer``."""
        self.notes.append(question)
        return self.answer

    def emit(self, kind: str, values: Mapping[str, object], text: str = "") -> None:
        """Write a result down."""
        self.emitted.append((kind, values, text))

    def note(self, text: str) -> None:
        """Write down what was said."""
        self.notes.append(text)

    def fail(self, error: Exception) -> None:
        """Write an error down; one that is no DfsError is raised, as `dfs` does."""
        if not isinstance(error, DfsError):
            raise error
        self.failures.append(error)
        self.codes.append(error.exit_code)

    def end(self, code: int) -> None:
        """Write an exit code down."""
        self.codes.append(code)

    def degrade(self, text: str) -> None:
        """Write down that redundancy is low."""
        self.degradations.append(text)

    @contextmanager
    def meter(self, label: str, total_size: int | None) -> Iterator[Any]:
        """Show nothing."""
        yield lambda _size: None

    def redraw(self) -> None:
        """Nothing was drawn."""

    def _refused(self, name: str) -> Any:  # noqa: ANN401 - never returns
        self.used.append(name)
        raise self.refusal

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the doors that need a conf or a users file
        if name in DOORS:
            return lambda *_arguments, **_options: self._refused(name)
        raise AttributeError(name)
