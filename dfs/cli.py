"""The `dfs` command: options, sub-commands, exit codes. What commands do is elsewhere, imported when called.

Only click and light modules are imported here: `dfs --help` must be quick (test_cli.py has the list).
"""

import errno
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from dfs.context import Context
from dfs.core.errors import ConfigError, DfsError
from dfs.interrupts import Interruptible
from dfs.output import DEGRADED, INTERRUPTED, OK
from dfs.plugins import BUILTIN

if TYPE_CHECKING:
    from dfs.core.spans import Span
    from dfs.core.types import Version

COMMANDS: Final = BUILTIN["dfs_commands"]
ALIASES: Final = {"heal": "repair", "server": "serve", "shell": "client", "list": "ls"}
NO_CONF: Final = """\
No conf found (./dfc.conf, ~/dfc.conf, ./dfs.toml, ~/.config/dfs/config.toml, /etc/dfs/config.toml).
Start with one of:
  dfs demo     watch files survive dead nodes      dfs serve --dir DFS1 --port 7771   run a node
  dfs init     make a conf                         dfs client   use a cluster         dfs --help   everything
"""
OPTIONS_NOTE: Final = "The options of dfs --help can stand here too."
COLLECT_AFTER: Final = (
    50_000  # objects; at Python's 700 a tenth of a small command goes into searching its imports
)
UNWRITABLE: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF})
KEPT: Final = "What was done before is done."
CONTEXT: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# Option names, what --help says, how click reads it. All are accepted before and after the command word.
GLOBAL_OPTIONS: Final[Sequence[tuple[Sequence[str], str, Mapping[str, Any]]]] = (
    (("-c", "--conf"), "The conf to use.", {"metavar": "FILE"}),
    (("-C", "--cluster"), "Of the confs found, the one of this cluster.", {"metavar": "NAME"}),
    (("-u", "--user"), "The user to log in as.", {"metavar": "NAME"}),
    (("-v", "--verbose"), "Say who answers; twice: how each node is.", {"count": True}),
    (("-q", "--quiet"), "Say nothing but errors.", {"is_flag": True}),
    (("-y", "--yes"), "Answer every question with yes.", {"is_flag": True}),
    (("--json",), "Print one JSON object.", {"is_flag": True}),
    (("--json-lines",), "Print a JSON object for each result.", {"is_flag": True}),
    (("--progress/--no-progress",), "Show how far a transfer is.", {"default": None}),
    (("--strict/--no-strict",), "Whether less redundancy than asked for ends with 3.", {"default": None}),
    (("--stats",), "Print bytes, round trips and seconds by node.", {"is_flag": True}),
    (("--jobs",), "Chunks worked on at once.", {"metavar": "N"}),
    (("--timeout",), "How long one request may take.", {"metavar": "DURATION"}),
    (("--limit-up",), "No more than so many bytes a second to all nodes.", {"metavar": "RATE"}),
    (("--limit-down",), "No more than so many bytes a second from all nodes.", {"metavar": "RATE"}),
    (("--transport",), "How bytes travel: tls, tcp.", {"metavar": "NAME"}),
    (("--geometry",), "Shares needed and in all.", {"metavar": "'2 of 4'"}),
    (("--cipher",), "The cipher of new files.", {"metavar": "NAME"}),
    (("--compressor",), "The compressor of new files.", {"metavar": "NAME"}),
    (("--code",), "The erasure code of new files.", {"metavar": "NAME"}),
    (("--placement",), "The placement of new files.", {"metavar": "NAME"}),
    (
        ("--allow-insecure",),
        "A cipher that protects nothing.",
        {"metavar": "NAME", "multiple": True},
    ),
    (("--plugin",), "A Python file with plugins.", {"metavar": "FILE", "multiple": True}),
    (("--log-json",), "Append what is said, and how it ends, as JSON lines.", {"metavar": "FILE"}),
    (("--no-color",), "No colours, no redrawing.", {"is_flag": True}),
    (("--debug",), "Show where an unexpected error came from.", {"is_flag": True}),
)
SWITCHES: Final = {"progress", "strict"}  # flags that can also be given as --no-…


def _note_flag(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keep a global flag that was given, wherever it stood."""
    name = str(parameter.name)
    chosen = context.find_object(Context)
    given = value is not None if name in SWITCHES else bool(value)
    if chosen is None or not given:
        return
    before = chosen.flags.get(name)
    if isinstance(value, tuple) and isinstance(before, tuple):
        value = before + value
    chosen.flags[name] = value
    chosen.output.json = bool(chosen.flags.get("json"))
    chosen.output.json_lines = bool(chosen.flags.get("json_lines"))
    chosen.output.quiet = bool(chosen.flags.get("quiet"))
    if name == "log_json":
        chosen.output.log_to(str(value))


def global_options(*, hidden: bool) -> Iterator[click.Option]:
    """Yield fresh options; hidden ones are understood after the command word, shown by `dfs --help` only."""
    for names, text, settings in GLOBAL_OPTIONS:
        yield click.Option(
            names, help=text, hidden=hidden, expose_value=False, callback=_note_flag, **settings
        )


def with_global_options(command: click.Command) -> click.Command:
    """Have a command understand the global options, but for those it has itself."""
    own = {name for parameter in command.params for name in parameter.opts}
    command.params.extend(option for option in global_options(hidden=True) if not own & set(option.opts))
    command.context_settings = {**CONTEXT, **command.context_settings}
    if not (command.epilog or "").endswith(OPTIONS_NOTE):  # a command may be looked up more than once
        command.epilog = "\n\n".join(filter(None, [command.epilog, OPTIONS_NOTE]))
    return command


class Commands(click.Group):
    """The sub-commands: those of this file, and plugins imported when called. Lookups ignore case."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of what comes with dfs."""
        return sorted({*self.commands, *COMMANDS})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and summaries from tables, so that nothing is imported for it."""
        summaries = {name: command.get_short_help_str(72) for name, command in self.commands.items()}
        summaries |= {name: summary for name, (_, summary) in COMMANDS.items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, summaries[name]) for name in self.list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command that comes with dfs; None for any other word."""
        name = cmd_name.lower()
        name = ALIASES.get(name, name)
        if name in self.commands or name not in COMMANDS:
            return self.commands.get(name)
        from dfs.core.registry import Registry

        return self._plugged(Registry(BUILTIN), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word, or the start-up form of the original."""
        context = ctx.ensure_object(Context)
        word, *rest = args
        command = self.get_command(ctx, word) or self._strangers(context, word.lower())
        if command is None and _is_serve_form(args):
            command, rest = SERVE, args
        if command is None:
            raise ConfigError(f"no such command: {word!r}{self._nearest(word)}", next_step="See dfs --help.")
        name = command.name or word
        context.output.command = name
        if ctx.params.get("dry_run"):
            if not any(parameter.name == "dry_run" for parameter in command.params):
                raise ConfigError(f"dfs {name} has no -n", next_step=f"See dfs {name} --help.")
            rest = ["-n", *rest]
        return name, command, rest

    def _strangers(self, context: Context, name: str) -> click.Command | None:
        """Return the command of an installed package or a --plugin file."""
        from dfs.core.errors import PluginError, UnknownPluginError

        try:
            registry = context.registry
        except PluginError:
            raise
        except (
            ConfigError
        ):  # a faulty conf must not keep a server from starting; it says nothing of this word
            return None
        try:
            return self._plugged(registry, name)
        except UnknownPluginError:
            return None

    @staticmethod
    def _plugged(registry: Any, name: str) -> click.Command:  # noqa: ANN401 - Registry is not imported for --help
        from dfs.core.interface import Options

        command: click.Command = registry.get("dfs_commands", name).plugin.make(Options())
        if isinstance(command, click.Group):
            for child in command.commands.values():
                with_global_options(child)
        return with_global_options(command)

    def _nearest(self, word: str) -> str:
        from difflib import get_close_matches

        known = [*self.commands, *COMMANDS, *ALIASES]
        close = get_close_matches(word.lower(), known, n=1, cutoff=0.5)
        return f"; did you mean {close[0]!r}?" if close else ""


def _is_serve_form(args: Sequence[str]) -> bool:
    """Whether bare words start a node. Raises: ConfigError: they mean to, but wrongly."""
    from dfs.core.classic import serve_form

    words = []
    for word in args:
        if word.startswith("-"):
            break
        words.append(word)
    return serve_form(words) is not None


@click.group(cls=Commands, name="dfs", invoke_without_command=True, context_settings=CONTEXT)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, where a command can.")
@click.option("--version", is_flag=True, is_eager=True, help="Print the version.")
@click.pass_context
def cli(ctx: click.Context, *, dry_run: bool, version: bool) -> None:  # noqa: ARG001 - see resolve_command
    """Store files on servers that need not be trusted and may die.

    Paths are remote paths such as photos/2026, or CLUSTER:path.
    """
    context = ctx.ensure_object(Context)
    if version:
        import dfs

        context.emit("", {"version": dfs.__version__}, f"dfs {dfs.__version__}")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        context.output.result(_welcome(ctx))


def _welcome(ctx: click.Context) -> str:
    """Return the help, or where to begin when there is no conf anywhere."""
    from dfs.core.places import conf_candidates

    if any(path.is_file() for path in conf_candidates()):
        return ctx.get_help()
    return NO_CONF.rstrip("\n")


# --- Commands -----------------------------------------------------------------------------------------------


dry_run_option = click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
exclude_option = click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Leave out names or paths like this."
)


@cli.command(short_help="run a node", epilog="Example: dfs serve --dir DFS1 --port 7771")
@click.argument("words", nargs=-1, metavar="[PARENT] [FOLDER PORT [USERS]]")
@click.option("--dir", metavar="DIR", help="Where the node keeps everything; made when missing.")
@click.option("--port", metavar="PORT", help="The port to listen on, 7771 if nothing else; 0: a free one.")
@click.option("--listen", metavar="ADDRESS", help="The address to listen on; all, if nothing else.")
@click.option("--name", metavar="NAME", help="What the node is called; as its directory, if nothing else.")
@click.option("--users", metavar="FILE", help="Who may log in: one NAME ed25519:KEY a line.")
@click.option("--allow-anonymous", is_flag=True, default=None, help="Let in clients without credentials.")
@click.option("--heal", is_flag=True, help="Repair in the background, with the conf of [heal] in the node's.")
@click.option(
    "--metrics", metavar="HOST:PORT", help="Serve counters for Prometheus; a bare PORT: on 127.0.0.1."
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="text, or json: one object a line.")
@click.option("--log-file", metavar="FILE", help="Where the log goes, not stderr; SIGHUP opens it anew.")
@click.pass_obj
def serve(context: Context, /, *, words: tuple[str, ...], **flags: object) -> None:
    """Run a node."""
    from dfs.serve import serve as run

    run(context, words, flags)


@cli.command(
    short_help="use a cluster interactively: LIST, GET, PUT, MKDIR and more",
    epilog="Example: dfs client --conf dfc.conf",
)
@click.argument("words", nargs=-1, metavar="[FOLDER] [CONF]")
@click.option("--command", metavar="TEXT", help="Run one line as if it were typed, and end with its status.")
@click.pass_obj
def client(context: Context, *, words: tuple[str, ...], command: str | None) -> None:
    """Use a cluster interactively: LIST, GET, PUT, MKDIR and more."""
    from dfs.console import OneShot, run_client

    names = frozenset({*cli.commands, *COMMANDS})
    context.end(run_client(context, words, command, OneShot(names, ALIASES, _options_of, _run_within)))


def _options_of(name: str) -> list[str]:
    """Return all options of a command, also those of dfs itself."""
    command = cli.get_command(click.Context(cli), name)
    return [option for parameter in (command.params if command else ()) for option in parameter.opts]


def _run_within(context: Context, arguments: Sequence[str]) -> int:
    """Run one command line of a session and return its exit code."""
    return guarded(context, partial(_invoke, context, list(arguments)))


@cli.command(short_help="store files", epilog="Example: dfs put -r photos --to backup/")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--to", metavar="PATH", help="The remote name, or with / at its end the remote folder.")
@click.option("-r", "--recursive", is_flag=True, help="Store folders and all below them.")
@exclude_option
@click.option("--if-absent", is_flag=True, help="Only if nothing is there yet.")
@click.option("--if-version", metavar="VERSION", help="Only if this version is there (ls --json shows it).")
@click.option("--allow-degraded", is_flag=True, help="Store it even if no further node may be lost.")
@click.option(
    "--mode",
    default="keep",
    metavar="MODE",
    help="Permission bits that get restores: keep, those of the local file, or octal digits such as 644.",
)
@dry_run_option
@click.pass_obj
def put(context: Context, /, *, files: tuple[str, ...], mode: str, **flags: Any) -> None:  # noqa: ANN401 - what the options above say
    """Store files; - is stdin and needs --to.

    The last of several arguments is the remote folder if it ends in / or is one, or the new remote name of a
    single file if there is no such local file.
    """
    from dfs.files import PutOptions, put as run

    flags["if_version"] = _version(flags["if_version"])
    run(context, files, PutOptions(**flags, mode=_mode(mode)))


def _version(text: str | None) -> "Version | None":
    from dfs.core.spans import parse_version

    return None if text is None else parse_version(text)


def _mode(text: str) -> int | None:
    from dfs.core.units import parse_mode

    try:
        return None if text == "keep" else parse_mode(text)
    except ConfigError as error:
        raise ConfigError(f"--mode: {error.what}") from None


@cli.command(short_help="fetch files", epilog="Example: dfs get report.pdf -o /tmp/")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "--output", metavar="LOCAL", help="The local file or folder; - is stdout.")
@click.option("-r", "--recursive", is_flag=True, help="Fetch folders and all below them.")
@exclude_option
@click.option("--range", "part", metavar="A-B", help="Only these bytes: 0-99, 100- or -100 (the last 100).")
@click.option(
    "--resume/--no-resume", help="Go on with what an interrupted get left, and leave it if this one is too."
)
@click.option("--no-clobber", is_flag=True, help="Replace no local file.")
@dry_run_option
@click.pass_obj
def get(context: Context, /, *, paths: tuple[str, ...], part: str | None, **flags: Any) -> None:  # noqa: ANN401 - what the options above say
    """Fetch files into the current folder.

    The last of several arguments is the remote folder of the others if it ends in / or is one.
    """
    from dfs.files import GetOptions, get as run

    run(context, paths, GetOptions(**flags, span=_span(part)))


def _span(text: str | None) -> "Span | None":
    from dfs.core.spans import parse_span

    try:
        return None if text is None else parse_span(text)
    except ConfigError as error:
        raise ConfigError(f"--range: {error.what}") from None


@cli.command(short_help="list a folder", epilog="Example: dfs ls -l photos")
@click.argument("path", default="")
@click.option("-l", "--long", is_flag=True, help="With state, sizes, nodes and time.")
@click.option("-R", "--recursive", is_flag=True, help="Everything below too.")
@click.option(
    "--sort", type=click.Choice(["name", "size", "time"]), default="name", help="Largest or newest first."
)
@click.option("--nodes", is_flag=True, help="Name the nodes that hold their part of each entry.")
@click.pass_obj
def ls(context: Context, /, *, path: str, sort: str, **flags: bool) -> None:
    """List a folder, one file, or what is like a pattern."""
    from dfs.listing import ls as run

    run(context, path, sort=sort, **flags)


SERVE: Final = serve
cli.params.extend(global_options(hidden=False))
for _command in cli.commands.values():
    with_global_options(_command)


# --- From words to a status ---------------------------------------------------------------------------------


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    _open_closed()
    context = Context()
    if asked := os.environ.get("_DFS_COMPLETE"):  # by the script of `dfs completion`
        from dfs.completing import complete

        return complete(cli, context, asked)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold what the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    return guarded(context, partial(_invoke, context, list(arguments)))


def _invoke(context: Context, arguments: list[str]) -> None:
    _refuse_password()
    try:
        with cli.make_context("dfs", arguments, obj=context) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as end:
        context.end(end.exit_code)
    except click.ClickException as error:
        place = getattr(error, "ctx", None)
        command = place.command_path if place is not None else "dfs"
        raise ConfigError(error.format_message().rstrip("."), next_step=f"See {command} --help.") from None


def _refuse_password() -> None:
    from dfs.core.errors import PasswordInEnvironmentError

    if "DFS_PASSWORD" in os.environ:
        raise PasswordInEnvironmentError("DFS_PASSWORD is set, where other programs can read it")


def guarded(context: Context, work: Callable[[], None]) -> int:
    """Do a command's work and return its exit code; every error is told in one line."""
    try:
        with Interruptible():
            try:
                _told(context, work)
            finally:
                context.close()
            context.output.finish(context.status)
    except BrokenPipeError:  # who reads our output has enough
        _write_no_more()
    except OSError as error:  # our output cannot be written
        _write_no_more()
        if context.status in {OK, DEGRADED}:
            failure = ConfigError(f"the output cannot be written: {error.strerror}", kept=KEPT)
            context.end(failure.exit_code)
            sys.stderr.write(f"error: {failure.line}\n")
    except KeyboardInterrupt:  # while it was ending, or a second one
        return INTERRUPTED
    return context.status


def _write_no_more() -> None:
    """Let what is still to be written go nowhere; the end of the process would try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed() -> None:
    """Open standard streams that we were started without, so that no other file gets their numbers."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))


def _told(context: Context, work: Callable[[], None]) -> None:
    try:
        work()
    except DfsError as error:
        _show_traceback(context)
        context.fail(error)
    except (KeyboardInterrupt, click.Abort):
        context.end(INTERRUPTED)
        sys.stderr.write("\ninterrupted: what was stored before is stored; run the same command again\n")
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is None:
            raise  # of our output: files are read and written elsewhere, and tell their names
        _show_traceback(context)
        from dfs.core.redaction import redacted

        context.fail(DfsError(redacted(f"unexpected {type(error).__name__}: {error}")))


def _show_traceback(context: Context) -> None:
    if context.flags.get("debug"):
        import traceback

        from dfs.core.redaction import redacted

        sys.stderr.write(redacted(traceback.format_exc()))


def main() -> None:
    """Run `dfs`."""
    gc.set_threshold(COLLECT_AFTER)
    _leave(run(sys.argv[1:]))


def main_classic() -> None:
    """Run `dfc`, the one-shot commands of the original."""
    gc.set_threshold(COLLECT_AFTER)
    _open_closed()
    context = Context()
    context.output.command = "dfc"

    def work() -> None:
        from dfs.console import run_classic

        _refuse_password()
        context.end(run_classic(sys.argv[1:]))

    _leave(guarded(context, work))


def _leave(code: int) -> NoReturn:
    """End the process at once: taking the interpreter apart takes a sixth of the time of a small command."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(code)  # the interpreter tells what it cannot write
    os._exit(code)
