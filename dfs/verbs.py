"""The language of the prompt and of `dfc`: which words are which command; pure."""

from collections.abc import Collection, Sequence
from typing import Final

from dfs import texts
from dfs.core.classic import split_words
from dfs.core.errors import ConfigError
from dfs.core.paths import canonical, join, printable
from dfs.core.records import frozen


@frozen
class Verb:
    """A command of the prompt: how it is written and how many names it takes there."""

    usage: str
    count_min: int = 0
    count_max: int = 0
    options: frozenset[str] = frozenset()


VERBS: Final = {
    "LIST": Verb("LIST [-l] [folder]", 0, 1, frozenset({"-l"})),
    "GET": Verb("GET [--no-clobber] name [folder]", 1, 2, frozenset({"--no-clobber"})),
    "PUT": Verb("PUT [--allow-degraded] file [folder]", 1, 2, frozenset({"--allow-degraded"})),
    "MKDIR": Verb("MKDIR folder", 1, 1),
    "RM": Verb("RM [-r] name", 1, 1, frozenset({"-r"})),
    "CD": Verb("CD [folder]", 0, 1),
    "PWD": Verb("PWD"),
    "LCD": Verb("LCD [local folder]", 0, 1),
    "HELP": Verb("HELP"),
    "QUIT": Verb("QUIT or EXIT"),
    "EXIT": Verb("QUIT or EXIT"),
}
PROMPT_ONLY: Final = frozenset({"CD", "PWD", "LCD", "HELP", "QUIT", "EXIT"})
MODERN: Final = {"LIST": "ls", "GET": "get", "PUT": "put", "MKDIR": "mkdir", "RM": "rm"}  # what can more
ALIASES: Final = {"LS": "LIST"}
PATTERNS: Final = frozenset({"LIST", "GET", "PUT", "RM"})
WILD: Final = ("*", "?")  # not "[": names may well hold it
ENDING: Final = frozenset({"QUIT", "EXIT"})
MANY: Final = frozenset({"GET", "PUT", "RM"})  # one-shot, they take any number of names


@frozen
class Command:
    """A command as typed. ``folder``: remote, canonical; ``names``: what it is about."""

    verb: str
    names: tuple[str, ...] = ()
    folder: str = ""
    options: frozenset[str] = frozenset()


class UsageError(ConfigError):
    """A command line at the prompt is wrong; the text says it all."""


def verb_of(word: str) -> str:
    """Return the verb a word means, in any case; "" if it means none."""
    upper = word.upper()
    upper = ALIASES.get(upper, upper)
    return upper if upper in VERBS else ""


def is_modern(words: Sequence[str], options: Collection[str]) -> bool:
    """Return whether a line asks a verb for what only the command of `dfs` can: a pattern, or more options.

    ``options``: all of that command.
    """
    verb = verb_of(words[0])
    names, asked = _sorted_words(words[1:])
    more = {word for word in asked if word not in VERBS[verb].options}
    patterns = verb in PATTERNS and any(sign in name for name in names for sign in WILD)
    return patterns or any(_is_option(word.partition("=")[0], options) for word in more)


def _sorted_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which words are names and which look like options."""
    ended = words.index("--") if "--" in words else len(words)
    asked = [word for word in words[:ended] if word.startswith("-") and len(word) > 1]
    return [word for word in words[:ended] if word not in asked] + list(words[ended + 1 :]), asked


def _is_option(word: str, options: Collection[str]) -> bool:
    """Return whether a word is an option, or several short ones together."""
    return word in options or (word[1] != "-" and all(f"-{letter}" in options for letter in word[1:]))


def usages(verb: str = "") -> list[str]:
    """Return how one verb, or every verb, is written."""
    verbs = [VERBS[verb]] if verb else dict.fromkeys(VERBS.values())
    return [f"  {each.usage}" for each in verbs]


def wrong(verb: str = "") -> str:
    """Return the lines for a verb without the arguments it needs."""
    return "\n".join([texts.WRONG_ARGUMENTS, *usages(verb), "  Quote names with blanks."])


def parse_command(words: Sequence[str], *, interactive: bool, base: str = "") -> Command:
    """Return the command of some words. At the prompt the second name is always a folder.

    One-shot, a last name of several that ends in "/" is the folder for all. ``base``: where folders begin
    that do not begin with "/".

    Raises:
        UsageError: with the lines to print. ConfigError: the folder cannot be one.
    """
    verb = verb_of(words[0])
    if not verb:
        raise UsageError("\n".join([texts.UNKNOWN_VERB, *usages()]))
    known = VERBS[verb]
    names: list[str] = []
    options: set[str] = set()
    for place, word in enumerate(words[1:], start=1):
        if word == "--":
            names.extend(words[place + 1 :])
            break
        if word in known.options:
            options.add(word)
        else:
            names.append(word)
    many = verb in MANY and not interactive
    if not known.count_min <= len(names) or (len(names) > known.count_max and not many) or not all(names):
        raise UsageError(wrong(verb))
    takes_folder = verb in {"GET", "PUT"} and len(names) > 1
    named = interactive or names[-1:] == ["."] or "".join(names[-1:]).endswith("/")
    folder = names.pop() if (takes_folder and named) or (verb == "LIST" and names) else ""
    where = folder if folder.startswith("/") or verb in PROMPT_ONLY else join(base, folder)
    return Command(verb, tuple(names), canonical(where), frozenset(options))


# --- dfc ----------------------------------------------------------------------------------------------------

CLASSIC_USAGE: Final = """Usage: dfc [--conf FILE] [FOLDER] [dfc.conf]            the prompt
       dfc [--conf FILE] [dfc.conf] list [folder/]       names in a folder
       dfc [--conf FILE] [dfc.conf] get NAME... [folder/]
       dfc [--conf FILE] [dfc.conf] put FILE... [folder/]
       dfc [--conf FILE] [dfc.conf] mkdir FOLDER
       dfc [--conf FILE] [dfc.conf] rm [-r] NAME...
Without a conf: ./dfc.conf, ~/dfc.conf, then where dfs looks. More: dfs --help"""


@frozen
class ClassicForm:
    """What the words after `dfc` mean. ``command``: empty for the prompt."""

    conf: str | None = None
    folder: str | None = None
    command: tuple[str, ...] = ()
    wants_help: bool = False


def classic_form(words: Sequence[str], conf: object = None) -> ClassicForm:
    """Return what the words after `dfc` mean; a verb wins over a file of that name. ``conf``: named already.

    Raises:
        ConfigError: they have none of its forms.
    """
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option in {"-h", "--help"}:
            return ClassicForm(wants_help=True)
        if option not in {"-c", "--conf"} or not (equals or rest):
            raise ConfigError(f"not understood: {printable(option)}", next_step="See dfc --help.")
        conf = value if equals else rest.pop(0)
    before: list[str] = []
    while rest and not (command := _classic_command(rest)):
        before.append(rest.pop(0))
    command = _classic_command(rest)
    if len(before) > 2 or (conf is not None and len(before) > 1):
        raise ConfigError(
            f"no verb among {printable(' '.join(before))}", next_step="Use one of list, get, put, mkdir, rm."
        )
    if conf is not None:
        return ClassicForm(str(conf), before[0] if before else None, command)
    if len(before) == 2:
        return ClassicForm(before[1], before[0], command)
    return ClassicForm(before[0] if before else None, None, command)


def _classic_command(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command that begins here, given as words or as one string; () if none does."""
    if not words:
        return ()
    if _is_classic(words[0]):
        return tuple(words)
    if len(words) == 1 and " " in words[0]:
        split = split_words(words[0])
        return tuple(split) if split and _is_classic(split[0]) else ()
    return ()


def _is_classic(word: str) -> bool:
    """Return whether a word begins a command of `dfc`."""
    return bool(verb := verb_of(word)) and verb not in PROMPT_ONLY - {"HELP", "QUIT", "EXIT"}
