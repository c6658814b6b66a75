"""What a plugin implements: behaviours (Protocols), their options, and the objects that declare them.

Common duties. A `Buffer` is C-contiguous, one-dimensional, items of one byte. Sources may be read-only slices
at any offset; they are never changed or kept after return. A target is a writable memoryview of exactly the
stated size that overlaps no source; another size is a ValueError. After an exception a target's content is
undefined. Heavy calls release the GIL. A behaviour translates its library's exceptions into DfsError; nothing
else escapes. A ``deadline_s`` is a value of the monotonic clock, not a duration.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from attrs.validators import and_, ge, instance_of, is_callable, le

from dfs.core.records import field, frozen
from dfs.core.types import (
    Ballot,
    Buffer as Buffer,
    Claim,
    DirectoryId,
    Geometry,
    Node,
    RegisterKey,
    RegisterRow,
    Scope,
    Settings,
    ShareKey,
)

if TYPE_CHECKING:
    import sqlite3

    import click

T = TypeVar("T")


# --- Transports ---------------------------------------------------------------------------------------------


class Stream(Protocol):
    """One connection. At most one thread sends and one receives; `close`: any thread, twice is fine."""

    @property
    def peer(self) -> str:
        """Address of the other end, for messages."""

    @property
    def channel_binding(self) -> bytes:
        """SHA-256 of the server's certificate on both ends, b"" without one. Valid after `handshake`."""

    @property
    def can_send_file(self) -> bool:
        """Whether `send_file` is there."""

    @property
    def unsent_size(self) -> int:
        """Bytes that were to be sent when a deadline passed, and were not."""

    def fileno(self) -> int:
        """The descriptor to wait on; -1 when there is none."""

    def pending(self) -> int:
        """Bytes already received and decrypted inside the stream, which a selector cannot see."""

    def handshake(self, deadline_s: float) -> None:
        """Finish the transport's own greeting.

        Raises: PeerIdentityError: not the pinned peer. TimedOutError: the next call goes on with it.
            UnreachableError, RemoteProtocolError.
        """

    def send(self, buffers: Sequence[Buffer], deadline_s: float) -> None:
        """Send all bytes of all buffers in order.

        Raises: TimedOutError: the deadline passed; what is left is kept and goes first with the next call,
            which may bring nothing new. UnreachableError: the peer is gone.
        """

    def send_file(self, descriptor: int, offset: int, size: int, deadline_s: float) -> None:
        """Send ``size`` bytes of an open file from ``offset``; only if `can_send_file`.

        Raises: TimedOutError: as with `send`, which goes on with it; the file must stay open until then.
            UnreachableError; CorruptShareError: the file ended early.
        """

    def receive_into(self, target: memoryview, deadline_s: float) -> int:
        """Receive 1..len(target) bytes; 0 means the peer ended the stream.

        Raises: TimedOutError: nothing came and nothing is lost, it may be called again. UnreachableError.
        """

    def close(self) -> None:
        """End the stream at once; a send or receive blocked in another thread raises UnreachableError."""


class Listener(Protocol):
    """A bound address. `close` may come from any thread, wakes `accept`, twice is fine."""

    @property
    def address(self) -> str:
        """The real ``host:port``, after port 0 was resolved."""

    def fileno(self) -> int:
        """The descriptor to wait on; -1 when there is none."""

    def accept(self, deadline_s: float) -> Stream:
        """Return the next connection, before its handshake.

        Raises: TimedOutError: none came. UnreachableError: closed.
        """

    def close(self) -> None:
        """Stop listening."""


class Transport(Protocol):
    """How bytes travel. Thread-safe. Policy decides whether one that is not confidential may be used."""

    @property
    def confidential(self) -> bool:
        """Whether a listener on the wire reads nothing."""

    def connect(self, address: str, deadline_s: float) -> Stream:
        """Connect to ``host:port``; the handshake is a step of its own.

        Raises: UnreachableError: refused or no route. TimedOutError.
        """

    def listen(self, address: str) -> Listener:
        """Bind ``host:port``; host "" is every address, port 0 a free one.

        Raises: BusyError: the address is in use. ConfigError: it is none.
        """


# --- Stages of a chunk --------------------------------------------------------------------------------------


class Cipher(Protocol):
    """Pure, thread-safe. There is no nonce: the core gives each byte string its own key."""

    @property
    def key_size(self) -> int:
        """Bytes of a key."""

    @property
    def overhead_size(self) -> int:
        """Bytes that sealing adds."""

    @property
    def authenticated(self) -> bool:
        """Whether `open_into` notices every changed bit of source, key and context."""

    def seal_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Seal ``source`` into ``target``, which is len(source) + overhead_size long.

        Raises: ValueError: a size is wrong.
        """

    def open_into(self, key: bytes, context: bytes, source: Buffer, target: memoryview) -> None:
        """Open ``source`` into ``target``, which is len(source) - overhead_size long.

        Raises: IntegrityError: not what was sealed. ValueError: a size is wrong.
        """


class Compressor(Protocol):
    """NOT thread-safe: one `make` a worker, so contexts and buffers are reused."""

    def compress(self, plain: Buffer) -> Buffer | None:
        """Return the packed bytes, or None for "keep it plain". The result is valid until the next call."""

    def decompress_into(self, packed: Buffer, target: memoryview) -> int:
        """Unpack into ``target`` and return the bytes written, never more than len(target).

        Raises: IntegrityError: broken, or larger than the target.
        """


class Code(Protocol):
    """An erasure code. Pure, thread-safe, deterministic for ever. All shares have S = share_size(...)."""

    @property
    def geometry(self) -> Geometry:
        """Its k and n."""

    @property
    def copies(self) -> int:
        """On how many nodes each share goes (2 for split, else 1)."""

    def share_size(self, stripe_size: int) -> int:
        """Bytes of one share of a stripe of ``stripe_size`` bytes (>= 0)."""

    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        """Fill ``parity[j]`` with share k + j; share i < k IS ``stripe[i*S:(i+1)*S]``.

        ``stripe`` is k * S long, zero-padded.

        Raises: ValueError: a size or count is wrong.
        """

    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        """Make the wanted shares (index -> target of S bytes) from any k shares (more are ignored).

        Raises: IncompleteError: fewer than k shares. ValueError: a size or index is wrong.
        """


class Placement(Protocol):
    """Which node holds which share. Pure, thread-safe, deterministic for ever."""

    @property
    def scope(self) -> Scope:
        """What the key is."""

    def facts(self, key: bytes, nodes: Sequence[Node]) -> bytes:
        """What a reader needs beside the key (kept in the manifest, <= FACTS_SIZE_MAX); b"" when nothing.

        For scope CHUNK the key is b"": facts belong to the whole file.
        """

    def place(
        self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]
    ) -> tuple[tuple[Node, ...], ...]:
        """Return ``count`` rows of ``copies`` different nodes, preferred first; row i holds share i.

        ``nodes`` is the group in roster order, count <= len(nodes). For scope NAME and CONTENT ``key`` is b""
        here: the facts say all. Raises: ConfigError: it cannot be done with so few nodes; IntegrityError: bad
        facts.
        """


class Chunker(Protocol):
    """Where chunks end. Pure, thread-safe. The stream comes as windows."""

    @property
    def chunk_size_max(self) -> int:
        """Bytes of the largest chunk."""

    @property
    def fixed(self) -> bool:
        """Whether every boundary is a multiple of chunk_size_max, so that nobody need look at the bytes."""

    def cut(self, window: Buffer, *, final: bool) -> int:
        """Return the size of the next chunk, 1..len(window).

        The window starts at the chunk and has chunk_size_max bytes, fewer only if ``final``.
        """


# --- What a node keeps --------------------------------------------------------------------------------------


class File(Protocol):
    """An open file of a store; offsets and sizes in bytes. OSError escapes: the store knows its meaning."""

    def fileno(self) -> int:
        """The descriptor, -1 when there is none (then `ShareSlice.file_range` is None)."""

    def size(self) -> int:
        """Current length."""

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read 0..len(target) bytes; less than asked only at the end of the file."""

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all bytes of all buffers one after the other from ``offset``."""

    def allocate(self, offset: int, size: int) -> None:
        """Reserve space, reading as zeros; grows the file."""

    def punch(self, offset: int, size: int) -> bool:
        """Give the range back to the file system; False when it cannot."""

    def truncate(self, size: int) -> None:
        """Cut to ``size``."""

    def sync(self) -> None:
        """Put the data on stable storage (fdatasync)."""

    def close(self) -> None:
        """Close; twice is fine."""


class Files(Protocol):
    """The store's door to the file system, where faults can be injected. Paths are absolute."""

    def open(self, path: str, *, create: bool) -> File:
        """Open for reading and writing, mode 0600."""

    def names(self, path: str) -> Sequence[str]:
        """Names in a folder, sorted; empty if there is no such folder."""

    def make_folder(self, path: str) -> None:
        """Make a folder, mode 0700, and its parents; existing is fine; the parent is synced."""

    def remove(self, path: str) -> None:
        """Remove a file; missing is fine."""

    def sync_folder(self, path: str) -> None:
        """Make names in a folder durable."""

    def free_size(self, path: str) -> tuple[int, int]:
        """(free bytes for us, all bytes) of the file system of ``path``."""

    def lock(self, path: str) -> Callable[[], None]:
        """Take an exclusive lock that dies with the process; returns its release.

        Raises: BusyError: another process has it.
        """

    def database(self, path: str, *, read_only: bool) -> "sqlite3.Connection":
        """Open an SQLite database, usable from any one thread at a time, in autocommit mode."""


class Env(Protocol):
    """The only clocks and entropy: real in env.py, virtual in the simulator."""

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back."""

    def wall_s(self) -> float:
        """Seconds since 1970-01-01 UTC; never used to order anything."""

    def random_bytes(self, size: int) -> bytes:
        """``size`` bytes fit for keys."""


class Staged(Protocol):
    """A share whose bytes were verified and written but have no row yet."""

    @property
    def key(self) -> ShareKey:
        """Its name."""


class ShareSlice(Protocol):
    """An open stored share; its bytes stay until `close`, whatever is collected meanwhile."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def checksum(self) -> bytes:
        """The stored xxh3-128, not verified now."""

    @property
    def file_range(self) -> tuple[int, int] | None:
        """(descriptor, offset) for `Stream.send_file`, valid until `close`; None = not in a file."""

    def read_into(self, target: memoryview, offset: int) -> int:
        """Read up to len(target) bytes from ``offset``. Raises: CorruptShareError: the bytes are gone."""

    def close(self) -> None:
        """Let go of it; twice is fine."""


class View(Protocol):
    """A consistent reading of a vault."""

    def register(self, key: RegisterKey) -> RegisterRow | None:
        """The row with its owed and corrupt counts. Raises: CorruptEntryError: the row fails its digest."""

    def registers(
        self, directory: DirectoryId, after: bytes, count_max: int
    ) -> Sequence[tuple[RegisterKey, RegisterRow | None]]:
        """Rows of a directory with name id > ``after``, by name id; None where a row is corrupt."""

    def missing(self, keys: Sequence[ShareKey]) -> Sequence[ShareKey]:
        """Those of ``keys`` of which no good row is here, in order; a corrupt one counts as missing."""

    def staged_claims(self, claim_set: bytes) -> Sequence[Claim]:
        """The claims staged under a digest, all parts in order; empty when none."""

    def claims(
        self, register: RegisterKey, ballot: Ballot, position: int = 0, count_max: int | None = None
    ) -> Sequence[Claim]:
        """The claims an accepted value holds, in order, from ``position`` on; None: all that follow."""

    def directories(self, after: bytes, count_max: int) -> Sequence[tuple[DirectoryId, int, Ballot]]:
        """Directories with id > ``after`` that have rows or a floor, by id: id, rows, floor or NO_BALLOT."""

    def lacking(self, after: bytes, count_max: int) -> Sequence[tuple[Claim, tuple[int, ...]]]:
        """Claimed stripes with id > ``after`` of which shares are owed or corrupt, by id, and which shares.

        The claim is one of those on the stripe: others may name other nodes.
        """

    def owed(self, keys: Sequence[ShareKey]) -> Sequence[ShareKey]:
        """Those of ``keys`` that `lacking` would name, in order."""

    def counts(self) -> tuple[int, int, int]:
        """How many shares are kept, are owed, and are claimed but corrupt; the other bad ones are rubbish."""

    def usage(self) -> int:
        """Bytes that count against the quota; dfs.core.charges says what takes how many."""

    def floor(self, directory: DirectoryId) -> Ballot:
        """Highest forgotten ballot of the directory, NO_BALLOT when none."""

    def meta(self, name: str) -> bytes | None:
        """A small value kept with the vault (state, roster, mark, incarnation …)."""


class Transaction(View, Protocol):
    """Changes of a vault; only inside `VaultStore.transact`, and it sees its own changes."""

    def set_register(self, key: RegisterKey, row: RegisterRow | None) -> None:
        """Replace or remove a row (its counts owed and corrupt are ignored); claims are separate."""

    def spoil(self, key: RegisterKey) -> None:
        """Let a row count as corrupt until it is replaced: what belongs to it is damaged."""

    def keep(self, staged: Sequence[Staged]) -> None:
        """Make the rows that make staged bytes true; replaces a corrupt row, settles what was owed.

        A share that is there already is kept as it was.
        """

    def claim(self, register: RegisterKey, ballot: Ballot, claims: Sequence[Claim]) -> None:
        """Record claims under a ballot, replacing what that ballot had."""

    def unclaim(self, register: RegisterKey, below: Ballot) -> None:
        """Drop the claims and debts of ballots < ``below``."""

    def stage_claims(
        self, claim_set: bytes, part_index: int, claims: Sequence[Claim], until_s: float
    ) -> None:
        """Keep one CLAIMS part, pinning the stripes it names until ``until_s``."""

    def owe(self, register: RegisterKey, ballot: Ballot, keys: Sequence[ShareKey]) -> None:
        """Record shares this node should hold and lacks; `keep` settles them."""

    def mark_corrupt(self, key: ShareKey) -> None:
        """Remember that a share's bytes are bad; the row stays until it is replaced.

        One that `keep` made or replaced in this transaction is good.
        """

    def set_floor(self, directory: DirectoryId, ballot: Ballot) -> None:
        """Raise the floor; a lower ballot changes nothing."""

    def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small value."""

    def pin(self, keys: Sequence[ShareKey], until_s: float) -> None:
        """Keep shares, even yet to come, from collection until ``until_s``; the later of two pins counts."""

    def unpin(self, now_s: float) -> int:
        """Drop pins and staged claims that ended; returns how many."""

    def renew(self, until_s: float) -> None:
        """Let every pin and staged claim end at ``until_s``: their times are of another start's clock."""

    def collect(self, count_max: int) -> int:
        """Drop up to ``count_max`` shares of stripes without claim and pin; space goes after the commit."""


class VaultStore(Protocol):
    """What a node keeps for one vault. Thread-safe."""

    @property
    def read_only_reason(self) -> str | None:
        """Why nothing can be written any more; None while it can."""

    @property
    def used_size(self) -> int:
        """Share bytes kept."""

    @property
    def free_size(self) -> int:
        """Bytes that can still be kept; the reserve is left out."""

    def stage(self, key: ShareKey, checksum: bytes, body: Buffer) -> Staged:
        """Verify xxh3-128 ``checksum`` and write the bytes; no row, not durable yet.

        Raises: CorruptShareError: the checksum does not fit. DiskFullError. StoreError: the disk failed.
        """

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` serially, all or nothing, durable on return (staged bytes first, then rows).

        ``work`` may run again, so it has no other effect. Whatever it raises undoes it and is raised here.
        Raises: StoreError: a sync or commit failed; the vault is read-only from now on. DiskFullError.
        """

    def view(self, work: Callable[[View], T]) -> T:
        """Run ``work`` on what is committed; never waits for a writer."""

    def share(self, key: ShareKey) -> ShareSlice:
        """Open a share. Raises: NotFoundError: no row. CorruptShareError: a row, but bad or missing bytes."""

    def shares(self, after: ShareKey | None, count_max: int) -> Sequence[ShareKey]:
        """Share names in order, for scrub and repair."""

    def verify(self, key: ShareKey) -> None:
        """Re-read a share from disk. Raises: CorruptShareError, NotFoundError."""

    def check(self, stopped: Callable[[], bool]) -> bool:
        """Compare all rows with each other, which takes long; shares are not read.

        False: ``stopped``, asked now and then, said so before the end.
        Raises: StoreError: they are damaged; the vault is read-only from now on.
        """

    def close(self) -> None:
        """Finish and let go of all files."""


class Store(Protocol):
    """Everything a node keeps. Thread-safe; holds an exclusive lock on its directory."""

    def users(self) -> Sequence[str]:
        """Users that have a vault here."""

    def vault(self, user: str, *, create: bool) -> VaultStore:
        """The vault of a user, the same object each time.

        One that is brought back from an older copy has the meta value `RESTORED`: it counts again only when
        everything was replayed to it.

        Raises: NotInitialisedError: absent and not ``create``. StoreError: it cannot be opened.
        """

    def close(self) -> None:
        """Close all vaults."""


# --- Commands -----------------------------------------------------------------------------------------------


@frozen
class NodeCertificate:
    """A node's certificate, as SHA-256; b"" = none. ``known``: from the first use, ``pinned``: in the conf.

    ``reason``: why it showed none, or "".
    """

    name: str
    address: str
    known: bytes
    pinned: bytes
    shown: bytes
    reason: str = ""


class CommandContext(Protocol):
    """What a command gets by ``@click.pass_obj``."""

    @property
    def env(self) -> Env:
        """Clocks and entropy."""

    def option(self, section: str, key: str) -> str | None:
        """A value of the conf, or None."""

    def cluster(self) -> Any:  # noqa: ANN401 - dfs.cluster.Cluster, which lies above this file
        """The open cluster (dfs.cluster.Cluster): the public Python API. It is closed for the command."""

    def clusters(self) -> Iterator[tuple[str, Any]]:
        """The open cluster, with ""; with a healer's login the vault of every user, with the user's name."""

    def passwords(self) -> Any:  # noqa: ANN401 - dfs.passwords.Passwords, see above
        """What opens the vault of the conf's user (dfs.passwords.Passwords)."""

    def new_key_file(self, path: str) -> bytes:
        """Make a key file, 0600; its public login key. Raises: ConflictError: it is there. ConfigError."""

    def private_file(self, path: str, content: str) -> None:
        """Make a file that is its owner's alone. Raises: ConflictError: it is there. ConfigError."""

    def remote(self, path: str) -> str:
        """The canonical remote path of an argument; ``CLUSTER:`` is taken off. Raises: ConfigError."""

    def matched(self, paths: Sequence[str]) -> Sequence[str]:
        """The canonical remote paths of arguments; a pattern stands for the names like it. What fits nothing
        is told of, as `fail` does, and left out.
        """

    def entry_summary(self, item: Any, *, full: bool = False) -> Mapping[str, object]:  # noqa: ANN401
        """What programs are told of an entry (dfs.core.folders.Listed): what `ls` tells, or everything."""

    def binary_output(self) -> BinaryIO:
        """Where the bytes of a file go: stdout. Raises: ConfigError: programs want one JSON object there."""

    @property
    def pictorial(self) -> bool:
        """Whether drawings may use more than ASCII: stdout is a terminal that says it can."""

    def plugins(self) -> Sequence[Any]:
        """Every plugin and every failure to load one (dfs.core.registry.PluginStatus)."""

    def users_path(self, named: str | None) -> str:
        """Where a node's users file is: ``named``, that of its conf, or ./dfs.conf. Raises: ConfigError."""

    def users_file(self, path: str) -> Any:  # noqa: ANN401 - dfs.core.users_file.UsersFile, above this file
        """The users file of a node, empty if it is not there. Raises: ConfigError: all its faults."""

    def user_record(self, name: str, key: str | None, quota: int | None, role: str) -> Any:  # noqa: ANN401
        """A user with this login key, as text; without one it follows from the password or key file of the
        conf, or is asked for.

        Raises: NoPasswordError, SecretFileError, ConfigError.
        """

    def user_summary(self, record: Any) -> Mapping[str, object]:  # noqa: ANN401 - a classic.UserRecord
        """What programs are told of a user: name, public_key, fingerprint, quota and roles."""

    def derived_keys(self, file: Any) -> Mapping[str, bytes]:  # noqa: ANN401 - a UsersFile
        """The login keys of all passwords in a users file, by user; slow on purpose."""

    def login_terms(self) -> str:
        """What clients must agree on with the node, as their confs say it: realm and key derivation."""

    def confs(self) -> Any:  # noqa: ANN401 - dfs.confs.Confs, which lies above this file
        """Conf files, to show, check and convert (dfs.confs.Confs)."""

    def beginning(self, flags: Mapping[str, object]) -> Any:  # noqa: ANN401 - dfs.beginning.Beginning
        """A conf to be made (dfs.beginning.Beginning); ``flags``: settings beside the global options."""

    def findings(self, *, node: bool) -> Iterator[Any]:
        """What may be wrong with a client's side, or a node of this machine (dfs.doctor.Finding)."""

    def rates(self, *, disk: str, net: bool, seconds: float) -> Iterator[Any]:
        """How fast this machine, the folder ``disk`` and, if ``net``, the cluster are (measuring.Rate)."""

    def suggested_jobs(self, rates: Sequence[Any]) -> int:
        """How many chunks to work on at once, by what was measured."""

    def new_certificate(self, directory: str | None, *, plan_only: bool) -> NodeCertificate:
        """Make the node in a directory (None: that of its conf) another certificate; ``known``: its former,
        ``shown``: its new one, none if it is only planned. Raises: ConfigError: there is none of its own.
        """

    def formats(self) -> Mapping[str, int]:
        """The numbers of what this dfs writes: the wire, entries, confs."""

    def explanations(self) -> Mapping[str, Any]:
        """What each error code means (dfs.core.explanations.Explanation)."""

    def certificates(self) -> Sequence[NodeCertificate]:
        """Of all nodes of the conf; connects to each, but logs in nowhere."""

    def trust(self, address: str, certificate: bytes) -> None:
        """Know a node by this certificate from now on."""

    @property
    def asks(self) -> bool:
        """Whether somebody sits at a terminal who can be asked."""

    def ask(self, question: str, default: str = "") -> str:
        """Ask for a line; an empty one is ``default``."""

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; ``--yes`` answers. Raises: ConfigError: there is no terminal."""

    def emit(self, kind: str, values: Mapping[str, object], text: str = "") -> None:
        """Print one result: ``text`` for people, if any; as JSON a record in the list ``kind``.

        With kind "" the values are the JSON result itself. Control characters are escaped.
        """

    def note(self, text: str) -> None:
        """Say on stderr what was done; nothing to programs."""

    def fail(self, error: Exception) -> None:
        """Tell of an error (DfsError) and go on; the exit status follows from the worst."""

    def end(self, code: int) -> None:
        """Note the exit code of a part, as `fail` does with an error's."""

    def degrade(self, text: str) -> None:
        """Tell on stderr, unless it is "", of too little redundancy: exit code 3, or 0 with `--no-strict`."""

    def meter(self, label: str, total_size: int | None) -> AbstractContextManager[Callable[[int], object]]:
        """Show on stderr how far something is, while it lasts; it is called with the bytes done since."""

    def redraw(self) -> None:
        """Begin what replaces all that was printed before."""


# --- Options and plugin objects -----------------------------------------------------------------------------

NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
NAME_SIZE_MAX = 32
SUMMARY_SIZE_MAX = 72


@frozen(kw_only=True)
class Options:
    """``values``: the plugin's conf section; `make` refuses an unknown key with a ConfigError."""

    values: Settings = field(factory=dict)


@frozen(kw_only=True)
class CodeOptions(Options):
    """What a code is made for."""

    geometry: Geometry


@frozen(kw_only=True)
class PlacementOptions(Options):
    """``rank(key, nodes)``: the core's weighted, zone-aware rendezvous order of nodes, best first."""

    rank: Callable[[bytes, Sequence[Node]], tuple[Node, ...]]


@frozen(kw_only=True)
class StoreOptions(Options):
    """Where a store keeps its files, through which door. ``inline_size_max``, ``reserve_size``: bytes."""

    directory: str
    files: Files
    env: Env
    inline_size_max: int
    reserve_size: int | None = None  # None: the larger of 2 % of the disk and 64 MiB


@frozen(kw_only=True)
class TransportOptions(Options):
    """Paths of PEM files; for clients also ``pins``: address -> SHA-256 of the certificate (DER)."""

    certificate_path: str | None = None
    key_path: str | None = None
    ca_path: str | None = None
    pins: Mapping[str, bytes] = field(factory=dict)


def _check_name(_plugin: object, _attribute: object, value: str) -> None:
    if not NAME_PATTERN.fullmatch(value) or len(value) > NAME_SIZE_MAX:
        raise ValueError(f"a plugin name is a-z, 0-9 and single dashes, at most {NAME_SIZE_MAX}: {value!r}")


def _check_summary(_plugin: object, _attribute: object, value: str) -> None:
    if not 1 <= len(value) <= SUMMARY_SIZE_MAX or "\n" in value:
        raise ValueError(f"a plugin summary is one line of 1 to {SUMMARY_SIZE_MAX} characters: {value!r}")


@frozen(kw_only=True)
class Plugin:
    """``name``: what a conf says. ``summary``: one line for `dfs plugins`."""

    name: str = field(validator=and_(instance_of(str), _check_name))
    summary: str = field(validator=and_(instance_of(str), _check_summary))


@frozen(kw_only=True)
class FormatPlugin(Plugin):
    """``format_version``: 1..255, written into manifests; a new one for every change of the bytes made."""

    format_version: int = field(default=1, validator=and_(instance_of(int), ge(1), le(255)))


@frozen(kw_only=True)
class TransportPlugin(Plugin):
    """Declares a transport. ``needs_certificate``: a node without one makes its own at the first start."""

    make: Callable[[TransportOptions], Transport] = field(validator=is_callable())
    needs_certificate: bool = False


@frozen(kw_only=True)
class CipherPlugin(FormatPlugin):
    """Declares a cipher."""

    make: Callable[[Options], Cipher] = field(validator=is_callable())


@frozen(kw_only=True)
class CompressorPlugin(FormatPlugin):
    """Declares a compressor. ``codec``: its byte; 0 plain, 1 zstd, 2-127 ours, 128-255 others'."""

    make: Callable[[Options], Compressor] = field(validator=is_callable())
    codec: int = field(validator=and_(instance_of(int), ge(0), le(255)))


def _as_it_is(geometry: Geometry) -> Geometry:
    return geometry


@frozen(kw_only=True)
class CodePlugin(FormatPlugin):
    """Declares an erasure code. ``fit``: the nearest geometry it can do (split needs all shares, replicate
    one).
    """

    make: Callable[[CodeOptions], Code] = field(validator=is_callable())
    fit: Callable[[Geometry], Geometry] = field(default=_as_it_is, validator=is_callable())


@frozen(kw_only=True)
class PlacementPlugin(FormatPlugin):
    """Declares a placement."""

    make: Callable[[PlacementOptions], Placement] = field(validator=is_callable())


@frozen(kw_only=True)
class ChunkerPlugin(Plugin):
    """Declares a chunker; a reader never needs it."""

    make: Callable[[Options], Chunker] = field(validator=is_callable())


@frozen(kw_only=True)
class StorePlugin(FormatPlugin):
    """Declares a store; the format version is written into its directory.

    ``durable``: False for one that keeps nothing when its process ends, for tests only.
    """

    make: Callable[[StoreOptions], Store] = field(validator=is_callable())
    durable: bool = True


@frozen(kw_only=True)
class CommandPlugin(Plugin):
    """Declares a sub-command of `dfs`."""

    make: Callable[[Options], "click.Command"] = field(validator=is_callable())
