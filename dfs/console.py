"""The interactive client and its one-shot form `dfc`: the words of the original over the public Python API.

The cluster is opened with the first command and kept; the conf is read again when it changed on disk. At the
prompt everything is printed on stdout; one-shot, stdout carries the names of LIST and nothing else.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar

from dfs import texts
from dfs.context import Context
from dfs.core.classic import split_words
from dfs.core.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    DfsError,
    IncompleteError,
    NotFoundError,
    NotInitialisedError,
    PeerIdentityError,
    QuorumError,
    RealmError,
    UnknownOutcomeError,
)
from dfs.core.paths import canonical, join, name_of, printable
from dfs.core.records import evolve, frozen
from dfs.core.types import EntryKind, NodeId, Outcome, OutcomeKind
from dfs.output import DEGRADED, INTERRUPTED, OK, worst
from dfs.progress import Meter
from dfs.session import Session
from dfs.terminal import Taken, on_terminal, plain_reader, terminal_reader
from dfs.verbs import (
    CLASSIC_USAGE,
    ENDING,
    MODERN,
    Command,
    UsageError,
    classic_form,
    is_modern,
    parse_command,
    usages,
    verb_of,
    wrong,
)

if TYPE_CHECKING:
    from dfs.cluster import Cluster
    from dfs.core.folders import Listed
    from dfs.core.getting import Got

T = TypeVar("T")
ELSEWHERE: Final = frozenset({"client", "serve"})  # they would take the prompt's place
DOWNLOADS: Final = "Download"
USAGE: Final = 2
LEFT_OUT: Final = (AuthError, PeerIdentityError, RealmError)  # the node is up, and not used all the same


@frozen
class _Job:
    """One file of a PUT or GET: as typed, remote and local."""

    name: str
    path: str
    local: str
    error: DfsError | None = None


@frozen
class OneShot:
    """The commands of `dfs` as the prompt runs them; ``run`` returns a status, ``options`` what one takes."""

    names: frozenset[str]
    aliases: Mapping[str, str]
    options: Callable[[str], Sequence[str]]
    run: Callable[[Context, Sequence[str]], int]


NO_COMMANDS: Final = OneShot(frozenset(), {}, lambda _name: (), lambda _context, _words: OK)


class Console(Session):
    """One user's session with a cluster, at the prompt or for one command.

    Args:
        flags: of the command line, as `Context` takes them; ``conf`` is the path of the conf.
        folder: of local files (the form ``client FOLDER CONF`` of the original): PUT reads there, and GET
            writes to ``Download/<user>_<name>``. None: both use the current folder.
        interactive: texts of the prompt, all on stdout.
        one_shot: what can be run beside the words of the original.
    """

    def __init__(
        self,
        flags: Mapping[str, object],
        *,
        folder: str | None = None,
        interactive: bool = True,
        one_shot: OneShot = NO_COMMANDS,
    ) -> None:
        super().__init__(flags, interactive=interactive)
        self._folder: Final = folder
        self._one_shot: Final = one_shot

    # The session

    def run(self) -> int:
        """Read and run commands until the end of input; returns the status of the session."""
        try:
            code = self._start()
            return self._loop() if code == OK else code
        except KeyboardInterrupt:
            self.say("")
            return INTERRUPTED
        finally:
            self.close()

    def command(self, line: str) -> int:
        """Run one command line and return its status."""
        try:
            return self.execute(line)
        finally:
            self.close()

    def _start(self) -> int:
        """Check conf and login; nodes that are down may come back, so only what a user must mend ends it."""
        try:
            cluster = self.opened()
        except (QuorumError, NotInitialisedError) as error:
            self.fail(error)
            return OK
        except AuthError as error:
            return self.fail(error)
        self.tell_down()
        if cluster.is_incomplete:
            self._bring_back(cluster)
        if on_terminal():
            self.say(self._greeting(cluster))
        self.flush()
        return OK

    def _bring_back(self, cluster: "Cluster") -> None:
        """Repair, unasked, as a node does not count before."""
        self.flush()
        try:
            done = cluster.repair()
        except DfsError as error:
            self.fail(error)
            return
        names = dict(cluster.nodes)
        for node in done.joined:
            self.note(f"{names[node]} is up to date and counts again.")
        for reason in done.left:
            self.note(f"left: {reason}")

    def _greeting(self, cluster: "Cluster") -> str:
        needed, total = cluster.geometry
        up_count = total - len(self._down)
        user = printable(cluster.conf.user or "You")
        place = "" if cluster.conf.cluster == "default" else f" at {printable(cluster.conf.cluster)}"
        survival = texts.survival(up_count - needed)
        return f"{user}{place}: {up_count} of {total} nodes, {survival}. HELP lists commands, Ctrl-D leaves."

    def _loop(self) -> int:
        from dfs.core.places import state_folder

        read = plain_reader()
        if on_terminal():
            taken = Taken(
                self._folder or "", self._remote_names, self._one_shot.names, self._one_shot.options
            )
            read = terminal_reader(state_folder(), taken, self._status_bar)
        while True:
            try:
                line = read()
            except EOFError:
                return OK
            try:
                words = split_words(line)
            except ConfigError:
                words = []
            if len(words) == 1 and verb_of(words[0]) in ENDING:
                return OK
            self.execute(line)

    def execute(self, line: str) -> int:
        """Run one line of the prompt; whatever is wrong with it is printed. Returns its status."""
        try:
            words = split_words(line)
        except ConfigError:
            self.say(wrong(verb_of((line.split() or [""])[0])), failure=True)
            return USAGE
        return self.execute_words(words) if words else OK

    def execute_words(self, words: Sequence[str]) -> int:
        """Run one command given as words."""
        self._all_told = False
        try:
            if name := self._one_shot_name(words):
                return self._run_one_shot([name, *words[1:]])
            return self._execute(parse_command(words, interactive=self.interactive, base=self.folder))
        except UsageError as error:
            self.say(error.what, failure=True)
            return error.exit_code
        except DfsError as error:
            return self.fail(error)
        finally:
            self.flush()

    def _execute(self, command: Command) -> int:
        match command.verb:
            case "LIST":
                return self._list(command)
            case "GET":
                return self._get(command)
            case "PUT":
                return self._put(command)
            case "MKDIR":
                return self._mkdir(command)
            case "RM":
                return self._rm(command)
            case "CD":
                self.say(printable(self.change_folder(command.names[0] if command.names else "/")))
            case "PWD":
                self.say(printable(f"/{self.folder}"))
            case "LCD":
                self.say(printable(self.change_local_folder("".join(command.names))))
            case "HELP":
                self._help()
        return OK

    # Commands

    def _help(self) -> None:
        more = ", ".join(sorted(self._one_shot.names - ELSEWHERE))
        self.say("\n".join([*usages(), *([f"  Also: {more}. NAME --help explains one."] if more else [])]))

    def _one_shot_name(self, words: Sequence[str]) -> str:
        """Return the command of `dfs` that some words mean, "" if they are of the original's language."""
        verb = verb_of(words[0])
        word = words[0].lower()
        name = MODERN.get(verb) or self._one_shot.aliases.get(word, word)
        if name not in self._one_shot.names:
            return ""
        structured = bool(self.flags.get("json") or self.flags.get("json_lines"))
        classic = verb and not structured and not is_modern(words, self._one_shot.options(name))
        return "" if classic else name

    def _run_one_shot(self, words: Sequence[str]) -> int:
        if words[0] in ELSEWHERE:
            raise UsageError(f"{words[0]} is no command of the prompt; run it outside: dfs {words[0]}")
        code = self._one_shot.run(Context(self), words)
        if code == INTERRUPTED:
            self.close()  # what was under way is not waited for
        return code

    def _status_bar(self) -> str:
        up_count, count = self.node_counts
        nodes = f"{up_count} of {count} nodes" if count else "no node yet"
        user = str(self.flags.get("user") or (self._cluster.user if self._cluster is not None else ""))
        return printable("  ".join(filter(None, [nodes, user, f"/{self.folder}"])))

    def _list(self, command: Command) -> int:
        try:
            cluster = self.opened()
            listed = cluster.ls(command.folder)
        except NotFoundError as error:
            return self.fail(error, texts.FOLDER_UNKNOWN)
        self.tell_down()
        lines = self._listing(cluster, listed, long="-l" in command.options)
        if self.interactive:
            self.say("\n".join([texts.FILES_ARE, *(lines or [texts.NO_FILE])]))
        else:
            sys.stdout.writelines(f"{line}\n" for line in lines)
        if any(item.stale for item in listed):
            self.stale()
        return OK

    @staticmethod
    def _listing(cluster: "Cluster", listed: "Sequence[Listed]", *, long: bool) -> list[str]:
        return (
            texts.long_rows(listed, cluster.nodes) if long else [texts.listed_name(item) for item in listed]
        )

    def _mkdir(self, command: Command) -> int:
        path = self.place(command.names[0])
        try:
            self.opened().mkdir(path)
        except ConflictError as error:
            return self.fail(error, error.what)
        self.tell_down()
        self.say(f"{printable(path)}/ created.")
        return OK

    def _rm(self, command: Command) -> int:
        codes = []
        for name in command.names:
            try:
                removed = self.opened().rm(self.place(name), recursive="-r" in command.options)
            except NotFoundError as error:
                codes.append(self.fail(error, texts.FILE_UNKNOWN))
            except DfsError as error:
                codes.append(self.fail(error))
            else:
                self.tell_down()
                self.say(f"{texts.count_text(len(removed), 'name')} removed.")
        return worst(codes)

    def _get(self, command: Command) -> int:
        from dfs.cluster import Download

        jobs = [self._download(name, command.folder) for name in command.names]
        _refuse_twins(jobs)
        wanted = any(job.error is None for job in jobs)
        results: list[Got | DfsError] = []
        labels: Mapping[NodeId, str] = {}
        seconds = 0.0
        if wanted:
            cluster = self.opened()
            labels = cluster.node_names
            jobs = [evolve(job, local=self._target(cluster, job)) for job in jobs]
            clobber = "--no-clobber" not in command.options
            clock = Context().env.monotonic_s
            started_s = clock()
            wanted_files = [Download(job.path, job.local, clobber) for job in jobs if job.error is None]
            with self._meter([job.name for job in jobs], None) as meter:
                results = cluster.get_files(wanted_files, progress=meter)
            seconds = clock() - started_s
            self.tell_down()
            for cipher in sorted(texts.ciphers_of(results)):
                self._tell_cipher(cluster, cipher)
        codes = []
        for job, result in _in_order(jobs, results):
            if isinstance(result, DfsError):
                codes.append(self._get_failed(job, result, alone=len(jobs) == 1))
            else:
                self._got(job, result, texts.got_detail(result, labels, seconds), labels)
        return worst(codes)

    def _download(self, name: str, folder: str) -> _Job:
        try:
            top = "" if self.folder and name.startswith("/") else folder
            path = join(top, canonical(name)) if canonical(name) else ""
            if not path:
                raise NotFoundError(f"{printable(name)} is a folder")
        except DfsError as error:
            return _Job(name, "", "", error)
        return _Job(name, path, name_of(path))

    def _target(self, cluster: "Cluster", job: _Job) -> str:
        """Return where a fetched file goes."""
        if self._folder is None:
            return job.local
        try:
            os.makedirs(DOWNLOADS, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{DOWNLOADS}: {error.strerror}") from None
        return f"{DOWNLOADS}/{cluster.user}_{job.local}"

    def _got(self, job: _Job, got: "Got", detail: str, labels: "Mapping[NodeId, str]") -> None:
        shown = f"{printable(job.path)} -> {printable(job.local)}  {detail}"
        self.say(f"{texts.FILE_SAVED}  {shown}" if self.interactive else shown)
        if got.suspects:
            names = texts.listing(sorted(texts.label_name(labels, node) for node in got.suspects))
            self.note(f"warning: {names} sent damaged shares of {printable(job.path)}; the file is whole")
        if got.stale:
            self.stale()

    def _get_failed(self, job: _Job, error: DfsError, *, alone: bool) -> int:
        text = ""
        if isinstance(error, IncompleteError):
            text = texts.FILE_INCOMPLETE if self.interactive else f"{printable(job.name)} is incomplete"
        elif isinstance(error, NotFoundError):
            text = texts.FILE_UNKNOWN if alone else f"{printable(job.name)}: {texts.FILE_UNKNOWN}"
        return self.fail(error, text)

    def _put(self, command: Command) -> int:
        from dfs.cluster import Upload
        from dfs.core.local import FileContent

        jobs = [self._upload(name, command.folder) for name in command.names]
        _refuse_twins(jobs)
        contents: list[Upload] = []
        checked: list[_Job] = []
        for job in jobs:
            error = job.error
            if error is None:
                try:
                    contents.append(Upload(FileContent(job.local), job.path))
                except DfsError as failure:
                    error = failure
            checked.append(evolve(job, error=error))
        results: list[Outcome | DfsError] = []
        if contents:
            degraded = "--allow-degraded" in command.options
            try:
                cluster = self.opened()
                self._tell_cipher(cluster, cluster.conf.cipher)
                size = sum(upload.content.size or 0 for upload in contents)
                with self._meter([job.name for job in jobs], size) as meter:
                    results = cluster.put_files(contents, allow_degraded=degraded, progress=meter)
            except (QuorumError, NotInitialisedError) as failure:
                results = [failure] * len(contents)
            self.tell_down()
        codes = []
        for job, result in _in_order(checked, results):
            if isinstance(result, DfsError):
                codes.append(self._put_failed(job, result, alone=len(jobs) == 1))
            else:
                codes.append(self._sent(job, result))
        return worst(codes)

    def _meter(self, names: Sequence[str], total_size: int | None) -> closing[Meter]:
        return Context(self).meter(names[0] if len(names) == 1 else f"{len(names)} files", total_size)

    def _tell_cipher(self, cluster: "Cluster", cipher: str) -> None:
        if warning := texts.insecure(cipher, cluster.conf.allow_insecure):
            self.note(f"warning: {warning}")

    def _upload(self, name: str, folder: str) -> _Job:
        local = name if self._folder is None else os.path.join(self._folder, name)
        try:
            base = canonical(os.path.basename(name.rstrip("/")))
        except DfsError as error:
            return _Job(name, "", local, error)
        return _Job(name, join(folder, base), local)

    def _sent(self, job: _Job, outcome: Outcome) -> int:
        detail = texts.detail(outcome)
        self.say(f"{texts.FILE_SENT}  {detail}" if self.interactive else f"{printable(job.path)}  {detail}")
        if outcome.kind is OutcomeKind.OK:
            return OK
        if not self.interactive and self._cluster is not None:
            line = texts.degraded_line(outcome, self._cluster.node_names, self._cluster.traffic())
            self.say(line, failure=True)
        return DEGRADED

    def _put_failed(self, job: _Job, error: DfsError, *, alone: bool) -> int:
        name = printable(job.name)
        if isinstance(error, NotFoundError):
            text = texts.FILE_UNKNOWN if alone else f"{name}: {texts.FILE_UNKNOWN}"
        elif isinstance(error, UnknownOutcomeError):
            text = f"{name} put not confirmed: old or new, never a mix"
        elif isinstance(error, ConfigError):
            text = error.what
        else:
            text = f"{name} put failed\n{error.line}"
        return self.fail(error, text)

    def _remote_names(self, folder: str) -> list[str]:
        """Return the names in a remote folder; a Tab says nothing about faults, the command will."""
        try:
            listed = self.opened().ls(self.place(folder))
        except DfsError:
            return []
        return [name_of(each.entry.path) + "/" * (each.entry.kind is EntryKind.FOLDER) for each in listed]


# --- Small parts --------------------------------------------------------------------------------------------


def _in_order(jobs: Sequence[_Job], results: "Sequence[T | DfsError]") -> "list[tuple[_Job, T | DfsError]]":
    """Return each job with its result; those that failed before have none of their own."""
    following = iter(results)
    return [(job, job.error if job.error is not None else next(following)) for job in jobs]


def _refuse_twins(jobs: Sequence[_Job]) -> None:
    """Raise a ConfigError if two files would get one name."""
    seen: set[str] = set()
    for job in jobs:
        name = name_of(job.path)
        if name and name in seen:
            raise ConfigError(f"two files are named {printable(name)}", next_step="Take them one by one.")
        seen.add(name)


# --- Entrances ----------------------------------------------------------------------------------------------


def run_client(
    context: Context, words: Sequence[str], command: str | None, one_shot: OneShot = NO_COMMANDS
) -> int:
    """Run `dfs client [FOLDER] [CONF]`, or one command of it, and return its status.

    Raises:
        ConfigError: the words have no form, or no conf can be used.
    """
    form = classic_form(words, conf=context.flags.get("conf"))
    if form.command or form.wants_help:
        raise ConfigError(
            f"not understood: {printable(' '.join(words))}", next_step="Use --command TEXT for a command."
        )
    flags = context.flags if form.conf is None else {**context.flags, "conf": form.conf}
    console = Console(flags, folder=form.folder, one_shot=one_shot)
    return console.run() if command is None else console.command(command)


def run_classic(words: Sequence[str]) -> int:
    """Run `dfc` and return its status; ConfigErrors before the first command are left to the caller."""
    form = classic_form(words)
    if form.wants_help:
        sys.stdout.write(f"{CLASSIC_USAGE}\n")
        return OK
    flags: dict[str, object] = {} if form.conf is None else {"conf": form.conf}
    console = Console(flags, folder=form.folder, interactive=not form.command)
    if not form.command:
        return console.run()
    try:
        return console.execute_words(form.command)
    finally:
        console.close()
