"""A session: a cluster that is opened once and used by many commands, and what is said meanwhile.

The conf is read again when it changed on disk. At the prompt everything is printed on stdout; one-shot,
stdout carries the names of LIST and nothing else.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from typing import TYPE_CHECKING, Final

from dfs import texts
from dfs.context import Context
from dfs.core.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    DfsError,
    LoginError,
    PeerIdentityError,
    QuorumError,
    RealmError,
    SealedError,
)
from dfs.core.paths import canonical, join, printable
from dfs.core.records import frozen
from dfs.core.types import EntryKind
from dfs.journal import Journal
from dfs.output import error_record

if TYPE_CHECKING:
    from dfs.cluster import Cluster, NodeTraffic

LEFT_OUT: Final = (AuthError, PeerIdentityError, RealmError)  # the node is up, and not used all the same


@frozen
class _Silent:
    """A node of the conf, when none of them let itself be met."""

    name: str
    address: str
    down: str


class Session:
    """What lasts from one command to the next.

    Args:
        flags: of the command line, as `Context` takes them; ``conf`` is the path of the conf.
        interactive: texts of the prompt, all on stdout.
    """

    def __init__(self, flags: Mapping[str, object], *, interactive: bool) -> None:
        self.flags: Final = dict(flags)
        self.interactive: Final = interactive
        self.folder = ""  # remote, canonical: where names begin that do not begin with "/"
        self._home = os.curdir  # where the session began, once it is elsewhere
        self._cluster: Cluster | None = None
        self._conf_file = ""
        self._stamp: tuple[int, int, int] | None = None
        self._down: frozenset[str] = frozenset()  # addresses told to be down
        self._all_told = False  # by this command
        self._notes: set[str] = set()
        self._journal = Journal(str(flags["log_json"])) if "log_json" in flags else None

    @property
    def node_counts(self) -> tuple[int, int]:
        """How many nodes were up when last used, of how many; (0, 0) before anything is known."""
        states = self._cluster.traffic() if self._cluster is not None else []
        return sum(not state.down for state in states), len(states)

    # Folders

    def place(self, word: str) -> str:
        """Return the canonical path of a remote name as typed. Raises: ConfigError."""
        return canonical(word if word.startswith("/") else join(self.folder, word))

    def change_folder(self, word: str) -> str:
        """Go to a remote folder; ``..`` leads up. Raises: NotFoundError, ConflictError, others."""
        parts: list[str] = []
        for part in (word if word.startswith("/") else f"{self.folder}/{word}").split("/"):
            parts = parts[:-1] if part == ".." else [*parts, part]
        folder = canonical("/".join(parts))
        if folder:
            entry = self.opened().stat(folder).entry
            if entry.kind is not EntryKind.FOLDER:
                raise ConflictError(f"{printable(folder)} is a file, not a folder")
        self.folder = folder
        return f"/{folder}"

    def change_local_folder(self, word: str) -> str:
        """Go to a local folder. Raises: ConfigError: it cannot be gone to."""
        try:
            self._home = self._home if os.path.isabs(self._home) else os.getcwd()
            os.chdir(os.path.expanduser(word or "~"))
            return os.getcwd()
        except OSError as error:
            raise ConfigError(f"{printable(word)}: {error.strerror}") from None

    def close(self) -> None:
        """Let go of the cluster."""
        if self._cluster is not None:
            for text in texts.distrust(self._cluster.node_names, self._cluster.suspicions):
                self.note(f"warning: {text}")
            self._cluster.close()
            self._cluster = None

    # The cluster

    def opened(self) -> "Cluster":
        """Return the cluster, opened again if the conf changed. Raises: DfsError."""
        from dfs.cluster import open_cluster

        if self._cluster is not None and self._stamp == _stamp(self._conf_file):
            self._cluster.refresh()
            return self._cluster
        self.close()
        context = Context()
        context.flags.update(self.flags)
        try:
            with chdir(self._home):  # whatever the conf names is named from where the session began
                conf = context.conf()
                self._conf_file = os.path.join(self._home, conf.file)
                self._stamp = _stamp(self._conf_file)
                self._cluster = open_cluster(conf, registry=context.registry)
        except QuorumError as error:
            if error.reasons:
                silent = [
                    _Silent(node.name, node.address, error.reasons.get(node.address, ""))
                    for node in conf.nodes
                ]
                self.tell_all_down(silent)
            raise
        if self._cluster.made:
            self.note(texts.vault_made(len(self._cluster.node_names), conf.key_file))
        for note in self._cluster.notes:
            self.note(f"warning: {note}")
        return self._cluster

    def tell_down(self) -> bool:
        """Name the nodes found down since the last command; returns whether all are."""
        states = self._cluster.traffic() if self._cluster is not None else []
        for state in states:
            if isinstance(state.error, LEFT_OUT):
                self.note(f"warning: {state.error.line}")
        down = [state for state in states if state.down and not isinstance(state.error, LEFT_OUT)]
        if down and len(down) == len(states):
            self.tell_all_down(down)
            return True
        if self.interactive:
            for place, state in enumerate(states, start=1):
                if state in down and state.address not in self._down:
                    self.say(texts.node_down(place, state))
        self._down = frozenset(state.address for state in down)
        return False

    def tell_all_down(self, states: "Sequence[NodeTraffic | _Silent]") -> None:
        """Say that no node answers, once a command."""
        if not self._all_told:
            self.say(texts.all_down(states), failure=True)
        self._all_told = True
        self._down = frozenset(state.address for state in states)

    # Words

    def say(self, text: str, *, failure: bool = False) -> None:
        """Print for the user: at the prompt on stdout; one-shot on stderr what is no name of LIST."""
        stream = sys.stdout if self.interactive else sys.stderr
        if self.interactive or failure or text:
            stream.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Say once a session, on stderr, what deserves attention."""
        if text not in self._notes:
            self._notes.add(text)
            self._log("info", text)
            sys.stdout.flush()
            sys.stderr.write(f"{text}\n")

    def stale(self) -> None:
        """Say that what was read may not be the newest."""
        sys.stdout.flush()
        sys.stderr.write(f"{texts.STALE}\n")

    def flush(self) -> None:
        """Let everything be seen."""
        sys.stdout.flush()
        sys.stderr.flush()

    def fail(self, error: DfsError, text: str = "") -> int:
        """Say why something could not be done and return its exit code."""
        if isinstance(error, QuorumError):
            if not text and (self._all_told or self.tell_down()):
                return error.exit_code
            error = self.refusal() or error
        if isinstance(error, AuthError):
            self.close()  # the next command logs in anew
        if isinstance(error, SealedError):
            text = texts.SEALED
        elif isinstance(error, LoginError):
            text = texts.INVALID_LOGIN
        self._log("error", text or error.line, error_record(error))
        self.say(text or error.line, failure=True)
        return error.exit_code

    def _log(self, level: str, text: str, more: Mapping[str, object] | None = None) -> None:
        if self._journal is not None:
            self._journal.line(level, "client", text, more)

    def refusal(self) -> AuthError | None:
        """Log in anew if nodes are up but none answers, and return why they refuse: it may have changed."""
        if self._cluster is None or any(state.down for state in self._cluster.traffic()):
            return None
        self.close()
        try:
            self.opened()
        except AuthError as error:
            return error
        except DfsError:  # the fault that brought us here is told
            return None
        return None


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
