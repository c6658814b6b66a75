"""How lines come from the user: with history and completion on a terminal, plainly from anything else."""

import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dfs import texts
from dfs.core.classic import BLANKS, split_words
from dfs.core.errors import ConfigError
from dfs.core.records import frozen
from dfs.verbs import MODERN, VERBS, verb_of

if TYPE_CHECKING:
    from prompt_toolkit.history import History

PROMPT: Final = "dfs> "
WITH_FOLDERS: Final = frozenset({"LIST", "MKDIR", "CD"})  # their names are folders
LOCAL: Final = {"PUT": 1, "LCD": 1}  # verbs whose first so many names are local

RemoteNames = Callable[[str], Sequence[str]]  # a folder to the names in it, folders with "/"


@frozen
class Taken:
    """What a Tab may offer. ``folder``: where PUT finds local files; ``commands``: beside the verbs, with
    ``options`` of each.
    """

    folder: str
    remote_names: RemoteNames
    commands: Collection[str] = ()
    options: Callable[[str], Sequence[str]] = lambda _name: ()


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


def terminal_reader(state: Path, taken: Taken, status: Callable[[], str]) -> Callable[[], str]:
    """Return what reads a line at the prompt; history is kept in ``state``. It raises EOFError at Ctrl-D.

    ``status``: what stands in the last line, asked for at each key; none where nothing may be redrawn.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Names(Completer):
        """Verbs, then what the verb takes."""

        def get_completions(self, document: Document, _event: CompleteEvent) -> list[Completion]:
            typed, words = completions(document.text_before_cursor, taken)
            return [Completion(word, start_position=-len(typed)) for word in words]

    session: PromptSession[str] = PromptSession(
        history=_history(state),
        completer=Names(),
        complete_while_typing=False,
        bottom_toolbar=None if _is_plain() else status,
    )
    return lambda: session.prompt(PROMPT)


def _is_plain() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _history(state: Path) -> "History":
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = state / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def completions(line: str, taken: Taken) -> tuple[str, list[str]]:
    """Return the word being typed, as it stands there, and what it may become."""
    before, typed = _last_word(line)
    if not before.strip():
        verbs = [verb for verb in VERBS if verb.startswith(typed.upper())]
        words = verbs if typed.isupper() or not typed else [verb.lower() for verb in verbs]
        more = [name for name in sorted(taken.commands) if name.startswith(typed.lower() or "-")]
        return typed, list(dict.fromkeys([*words, *more]))
    name = before.split()[0]
    verb = verb_of(name)
    command = MODERN.get(verb, name.lower())
    if typed.startswith("-"):
        options = taken.options(command) if command in taken.commands else ()
        return typed, sorted(option for option in options if option.startswith(typed))
    if (verb and not VERBS[verb].count_max) or not (verb or command in taken.commands):
        return typed, []
    meant = _unquoted(typed)
    place = len([word for word in split_words(before)[1:] if not word.startswith("-")])
    found = _names(taken, verb, place, meant)
    return typed, [_as_typed(word, typed) for word in found if word.startswith(meant)]


def _names(taken: Taken, verb: str, place: int, meant: str) -> list[str]:
    """Return local or remote names for the word at a place, those in the folder it names so far."""
    if place < LOCAL.get(verb, 0):
        names = _local_names(taken.folder if verb == "PUT" else "", meant)
        return [name for name in names if verb != "LCD" or name.endswith("/")]
    head = meant[: meant.rfind("/") + 1]
    names = [head + name for name in taken.remote_names(head)]
    folders_only = verb in WITH_FOLDERS or (verb in {"GET", "PUT"} and place > 0)
    return [name for name in names if not folders_only or name.endswith("/")]


def _last_word(line: str) -> tuple[str, str]:
    """Return a line as what stands before its last word, and that word, which may have an open quote."""
    start, quote = 0, ""
    for place, sign in enumerate(line):
        if sign == quote:
            quote = ""
        elif not quote and sign in "'\"":
            quote = sign
        elif not quote and sign in BLANKS:
            start = place + 1
    return line[:start], line[start:]


def _unquoted(typed: str) -> str:
    for closing in ("", '"', "'"):
        try:
            return "".join(split_words(typed + closing))
        except ConfigError:
            continue
    return typed


def _local_names(folder: str, typed: str) -> list[str]:
    head = typed[: typed.rfind("/") + 1]
    try:
        with os.scandir(os.path.join(folder, head) or os.curdir) as found:
            return sorted(head + item.name + ("/" if item.is_dir() else "") for item in found)
    except OSError:
        return []


def _as_typed(name: str, typed: str) -> str:
    """Return a name as it can stand in a line, quoted if need be or if a quote was begun."""
    return texts.quoted(name, always=" " in name or "\t" in name or typed[:1] in {"'", '"'})
