"""The interactive client and its one-shot form `dfc`: the words of the original over the public Python API.

The cluster is opened with the first command and kept; the conf is read again when it changed on disk. At the
prompt everything is printed on stdout; one-shot, stdout carries the names of LIST and nothing else.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import evolve

from dfs import texts
from dfs.context import Context
from dfs.core.classic import split_words
from dfs.core.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    DfsError,
    IncompleteError,
    LoginError,
    NotFoundError,
    NotInitialisedError,
    PeerIdentityError,
    QuorumError,
    RealmError,
    SealedError,
    UnknownOutcomeError,
)
from dfs.core.paths import canonical, join, name_of, printable
from dfs.core.records import frozen
from dfs.core.types import EntryKind, NodeId, Outcome, OutcomeKind
from dfs.output import DEGRADED, INTERRUPTED, OK, worst
from dfs.terminal import on_terminal, plain_reader, terminal_reader
from dfs.verbs import (
    CLASSIC_USAGE,
    ENDING,
    Command,
    UsageError,
    classic_form,
    parse_command,
    usages,
    verb_of,
    wrong,
)

if TYPE_CHECKING:
    from dfs.cluster import Cluster, NodeTraffic
    from dfs.core.folders import Listed
    from dfs.core.getting import Got

T = TypeVar("T")
DOWNLOADS: Final = "Download"
USAGE: Final = 2
LEFT_OUT: Final = (AuthError, PeerIdentityError, RealmError)  # the node is up, and not used all the same


@frozen
class _Silent:
    """A node of the conf, when none of them let itself be met."""

    name: str
    address: str
    down: str


@frozen
class _Job:
    """One file of a PUT or GET: as typed, remote and local."""

    name: str
    path: str
    local: str
    error: DfsError | None = None


class Console:
    """One user's session with a cluster, at the prompt or for one command.

    Args:
        flags: of the command line, as `Context` takes them; ``conf`` is the path of the conf.
        folder: of local files (the form ``client FOLDER CONF`` of the original): PUT reads there, and GET
            writes to ``Download/<user>_<name>``. None: both use the current folder.
        interactive: texts of the prompt, all on stdout.
    """

    def __init__(
        self, flags: Mapping[str, object], *, folder: str | None = None, interactive: bool = True
    ) -> None:
        self._flags: Final = dict(flags)
        self._folder: Final = folder
        self._interactive: Final = interactive
        self._cluster: Cluster | None = None
        self._conf_file = ""
        self._stamp: tuple[int, int, int] | None = None
        self._down: frozenset[str] = frozenset()  # addresses told to be down
        self._all_told = False  # by this command
        self._notes: set[str] = set()

    # The session

    def run(self) -> int:
        """Read and run commands until the end of input; returns the status of the session."""
        try:
            code = self._start()
            return self._loop() if code == OK else code
        except KeyboardInterrupt:
            self._say("")
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
            cluster = self._opened()
        except (QuorumError, NotInitialisedError) as error:
            self._fail(error)
            return OK
        except AuthError as error:
            return self._fail(error)
        self._tell_down()
        if cluster.is_incomplete:
            self._bring_back(cluster)
        if on_terminal():
            self._say(self._greeting(cluster))
        self._flush()
        return OK

    def _bring_back(self, cluster: "Cluster") -> None:
        """Repair, unasked, as a node does not count before."""
        self._flush()
        try:
            done = cluster.repair()
        except DfsError as error:
            self._fail(error)
            return
        names = dict(cluster.nodes)
        for node in done.joined:
            self._note(f"{names[node]} is up to date and counts again.")
        for reason in done.left:
            self._note(f"left: {reason}")

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
            read = terminal_reader(state_folder(), self._folder or "", self._remote_names)
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
            self._say(wrong(verb_of((line.split() or [""])[0])), failure=True)
            return USAGE
        return self.execute_words(words) if words else OK

    def execute_words(self, words: Sequence[str]) -> int:
        """Run one command given as words."""
        self._all_told = False
        try:
            return self._execute(parse_command(words, interactive=self._interactive))
        except UsageError as error:
            self._say(error.what, failure=True)
            return error.exit_code
        except DfsError as error:
            return self._fail(error)
        finally:
            self._flush()

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
            case "HELP":
                self._say("\n".join(usages()))
        return OK

    def close(self) -> None:
        """Let go of the cluster."""
        if self._cluster is not None:
            for text in texts.distrust(self._cluster.node_names, self._cluster.suspicions):
                self._note(f"warning: {text}")
            self._cluster.close()
            self._cluster = None

    # The cluster

    def _opened(self) -> "Cluster":
        """Return the cluster, opened again if the conf changed. Raises: DfsError."""
        from dfs.cluster import open_cluster

        if self._cluster is not None and self._stamp == _stamp(self._conf_file):
            self._cluster.refresh()
            return self._cluster
        self.close()
        context = Context()
        context.flags.update(self._flags)
        conf = context.conf()
        self._conf_file, self._stamp = conf.file, _stamp(conf.file)
        try:
            self._cluster = open_cluster(conf, registry=context.registry)
        except QuorumError as error:
            if error.reasons:
                silent = [
                    _Silent(node.name, node.address, error.reasons.get(node.address, ""))
                    for node in conf.nodes
                ]
                self._tell_all_down(silent)
            raise
        if self._cluster.made:
            self._note(texts.vault_made(len(self._cluster.node_names)))
        for note in self._cluster.notes:
            self._note(f"warning: {note}")
        return self._cluster

    def _tell_down(self) -> bool:
        """Name the nodes found down since the last command; returns whether all are."""
        states = self._cluster.traffic() if self._cluster is not None else []
        for state in states:
            if isinstance(state.error, LEFT_OUT):
                self._note(f"warning: {state.error.line}")
        down = [state for state in states if state.down and not isinstance(state.error, LEFT_OUT)]
        if down and len(down) == len(states):
            self._tell_all_down(down)
            return True
        if self._interactive:
            for place, state in enumerate(states, start=1):
                if state in down and state.address not in self._down:
                    self._say(texts.node_down(place, state))
        self._down = frozenset(state.address for state in down)
        return False

    def _tell_all_down(self, states: "Sequence[NodeTraffic | _Silent]") -> None:
        if not self._all_told:
            self._say(texts.all_down(states), failure=True)
        self._all_told = True
        self._down = frozenset(state.address for state in states)

    # Words

    def _say(self, text: str, *, failure: bool = False) -> None:
        """Print for the user: at the prompt on stdout; one-shot on stderr what is no name of LIST."""
        stream = sys.stdout if self._interactive else sys.stderr
        if self._interactive or failure or text:
            stream.write(f"{text}\n")

    def _note(self, text: str) -> None:
        """Say once a session, on stderr, what deserves attention."""
        if text not in self._notes:
            self._notes.add(text)
            sys.stdout.flush()
            sys.stderr.write(f"{text}\n")

    def _stale(self) -> None:
        sys.stdout.flush()
        sys.stderr.write(f"{texts.STALE}\n")

    def _flush(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    def _fail(self, error: DfsError, text: str = "") -> int:
        """Say why something could not be done and return its exit code."""
        if isinstance(error, QuorumError):
            if not text and (self._all_told or self._tell_down()):
                return error.exit_code
            error = self._refusal() or error
        if isinstance(error, AuthError):
            self.close()  # the next command logs in anew
        if isinstance(error, SealedError):
            text = texts.SEALED
        elif isinstance(error, LoginError):
            text = texts.INVALID_LOGIN
        self._say(text or error.line, failure=True)
        return error.exit_code

    def _refusal(self) -> AuthError | None:
        """Log in anew if nodes are up but none answers, and return why they refuse: it may have changed."""
        if self._cluster is None or any(state.down for state in self._cluster.traffic()):
            return None
        self.close()
        try:
            self._opened()
        except AuthError as error:
            return error
        except DfsError:  # the fault that brought us here is told
            return None
        return None

    # Commands

    def _list(self, command: Command) -> int:
        try:
            cluster = self._opened()
            listed = cluster.ls(command.folder)
        except NotFoundError as error:
            return self._fail(error, texts.FOLDER_UNKNOWN)
        self._tell_down()
        lines = self._listing(cluster, listed, long="-l" in command.options)
        if self._interactive:
            self._say("\n".join([texts.FILES_ARE, *(lines or [texts.NO_FILE])]))
        else:
            sys.stdout.writelines(f"{line}\n" for line in lines)
        if any(item.stale for item in listed):
            self._stale()
        return OK

    @staticmethod
    def _listing(cluster: "Cluster", listed: "Sequence[Listed]", *, long: bool) -> list[str]:
        return (
            texts.long_rows(listed, cluster.nodes) if long else [texts.listed_name(item) for item in listed]
        )

    def _mkdir(self, command: Command) -> int:
        path = canonical(command.names[0])
        try:
            self._opened().mkdir(path)
        except ConflictError as error:
            return self._fail(error, error.what)
        self._tell_down()
        self._say(f"{printable(path)}/ created.")
        return OK

    def _rm(self, command: Command) -> int:
        codes = []
        for name in command.names:
            try:
                removed = self._opened().rm(canonical(name), recursive="-r" in command.options)
            except NotFoundError as error:
                codes.append(self._fail(error, texts.FILE_UNKNOWN))
            except DfsError as error:
                codes.append(self._fail(error))
            else:
                self._tell_down()
                self._say(f"{texts.count_text(len(removed), 'name')} removed.")
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
            cluster = self._opened()
            labels = cluster.node_names
            jobs = [evolve(job, local=self._target(cluster, job)) for job in jobs]
            clobber = "--no-clobber" not in command.options
            clock = Context().env.monotonic_s
            started_s = clock()
            results = cluster.get_files(
                [Download(job.path, job.local, clobber) for job in jobs if job.error is None]
            )
            seconds = clock() - started_s
            self._tell_down()
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
            path = join(folder, canonical(name)) if canonical(name) else ""
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
        self._say(f"{texts.FILE_SAVED}  {shown}" if self._interactive else shown)
        if got.suspects:
            names = texts.listing(sorted(texts.label_name(labels, node) for node in got.suspects))
            self._note(f"warning: {names} sent damaged shares of {printable(job.path)}; the file is whole")
        if got.stale:
            self._stale()

    def _get_failed(self, job: _Job, error: DfsError, *, alone: bool) -> int:
        text = ""
        if isinstance(error, IncompleteError):
            text = texts.FILE_INCOMPLETE if self._interactive else f"{printable(job.name)} is incomplete"
        elif isinstance(error, NotFoundError):
            text = texts.FILE_UNKNOWN if alone else f"{printable(job.name)}: {texts.FILE_UNKNOWN}"
        return self._fail(error, text)

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
                cluster = self._opened()
                self._tell_cipher(cluster, cluster.conf.cipher)
                results = cluster.put_files(contents, allow_degraded=degraded)
            except (QuorumError, NotInitialisedError) as failure:
                results = [failure] * len(contents)
            self._tell_down()
        codes = []
        for job, result in _in_order(checked, results):
            if isinstance(result, DfsError):
                codes.append(self._put_failed(job, result, alone=len(jobs) == 1))
            else:
                codes.append(self._sent(job, result))
        return worst(codes)

    def _tell_cipher(self, cluster: "Cluster", cipher: str) -> None:
        if warning := texts.insecure(cipher, cluster.conf.allow_insecure):
            self._note(f"warning: {warning}")

    def _upload(self, name: str, folder: str) -> _Job:
        local = name if self._folder is None else os.path.join(self._folder, name)
        try:
            base = canonical(os.path.basename(name.rstrip("/")))
        except DfsError as error:
            return _Job(name, "", local, error)
        return _Job(name, join(folder, base), local)

    def _sent(self, job: _Job, outcome: Outcome) -> int:
        detail = texts.detail(outcome)
        self._say(f"{texts.FILE_SENT}  {detail}" if self._interactive else f"{printable(job.path)}  {detail}")
        if outcome.kind is OutcomeKind.OK:
            return OK
        if not self._interactive and self._cluster is not None:
            line = texts.degraded_line(outcome, self._cluster.node_names, self._cluster.traffic())
            self._say(line, failure=True)
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
        return self._fail(error, text)

    def _remote_names(self, folder: str) -> list[str]:
        """Return the names in a remote folder; a Tab says nothing about faults, the command will."""
        try:
            listed = self._opened().ls(folder)
        except DfsError:
            return []
        return [name_of(each.entry.path) + "/" * (each.entry.kind is EntryKind.FOLDER) for each in listed]


# --- Small parts --------------------------------------------------------------------------------------------


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


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


def run_client(context: Context, words: Sequence[str], command: str | None) -> int:
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
    console = Console(flags, folder=form.folder)
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
