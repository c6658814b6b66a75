"""How lines come from the user: with history and completion on a terminal, plainly from anything else."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dfs import texts
from dfs.core.classic import split_words
from dfs.core.errors import ConfigError
from dfs.verbs import VERBS, verb_of

if TYPE_CHECKING:
    from prompt_toolkit.history import History

PROMPT: Final = "dfs> "
WITH_FOLDERS: Final = frozenset({"LIST", "MKDIR"})  # their names are folders

RemoteNames = Callable[[str], Sequence[str]]  # a folder to the names in it, folders with "/"


def on_terminal() -> bool:
    """Return whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def plain_reader() -> Callable[[], str]:
    """Return what reads a line without a prompt. It raises EOFError at the end."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a name that is not UTF-8 is refused by name, later

    def read() -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    return read


def terminal_reader(state: Path, folder: str, remote_names: RemoteNames) -> Callable[[], str]:
    """Return what reads a line at the prompt; history is kept in ``state``. It raises EOFError at Ctrl-D."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Names(Completer):
        """Verbs, then what the verb takes."""

        def get_completions(self, document: Document, _event: CompleteEvent) -> list[Completion]:
            typed, words = completions(document.text_before_cursor, folder, remote_names)
            return [Completion(word, start_position=-len(typed)) for word in words]

    session: PromptSession[str] = PromptSession(
        history=_history(state), completer=Names(), complete_while_typing=False
    )
    return lambda: session.prompt(PROMPT)


def _history(state: Path) -> "History":
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = state / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def completions(line: str, folder: str, remote_names: RemoteNames) -> tuple[str, list[str]]:
    """Return the word being typed and what it may become; ``folder``: where PUT finds local files."""
    before, _, typed = line.rpartition(" ")
    if not before.strip():
        words = [verb for verb in VERBS if verb.startswith(typed.upper())]
        return typed, words if typed.isupper() or not typed else [word.lower() for word in words]
    try:
        place = len(split_words(before))
    except ConfigError:
        return typed, []  # inside quotes
    verb = verb_of(before.split()[0])
    if not verb or not VERBS[verb].count_max:
        return typed, []
    if verb == "PUT" and place == 1:
        names = _local_names(folder, typed)
    else:
        head = typed[: typed.rfind("/") + 1]
        names = [head + name for name in remote_names(head)]
        if verb in WITH_FOLDERS or place > 1:
            names = [name for name in names if name.endswith("/")]
    return typed, [_as_typed(name) for name in names if name.startswith(typed)]


def _local_names(folder: str, typed: str) -> list[str]:
    head = typed[: typed.rfind("/") + 1]
    try:
        with os.scandir(os.path.join(folder, head) or os.curdir) as found:
            return sorted(head + item.name + ("/" if item.is_dir() else "") for item in found)
    except OSError:
        return []


def _as_typed(name: str) -> str:
    return texts.quoted(name, always=" " in name or "\t" in name)
