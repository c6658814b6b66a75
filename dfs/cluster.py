"""The public Python API of dfs, and the place where plugins, conf and shell are joined.

`open_cluster` returns a `Cluster`: one user's vault on a set of nodes. The command line has no logic of its
own.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, Self

import dfs
from dfs.batches import get_batches, put_batches
from dfs.core import limits, vaults
from dfs.core.classic import NodeAddress
from dfs.core.client import Client, ClientOptions, Opened, Place
from dfs.core.credentials import KnownMarks, KnownNodes, LoginSecret, kdf_of
from dfs.core.env import RealEnv
from dfs.core.errors import ConflictError, DfsError, NodeError, PeerIdentityError, ProtocolError
from dfs.core.interface import NodeCertificate, Transport, TransportOptions
from dfs.core.kept import login_secret
from dfs.core.link import Trust
from dfs.core.pace import Pace, PacedTransport
from dfs.core.paths import canonical, printable
from dfs.core.places import load_conf as load_conf, state_folder, system_user
from dfs.core.records import evolve, frozen
from dfs.core.registry import Registry
from dfs.core.remembering import Memories
from dfs.core.settings import ClientConf, Conf, NodeConf
from dfs.core.spans import Span
from dfs.core.types import Entry, EntryKind, NodeId, Outcome, Version
from dfs.names import Names
from dfs.plugins import BUILTIN
from dfs.streams import RemoteFile
from dfs.watching import Watch, WatchedContent, WatchedSink, settle

if TYPE_CHECKING:  # what only put and get need is imported there: a listing is quicker without
    from dfs.core.effects import Operation
    from dfs.core.getting import Got, Sink
    from dfs.core.putting import Content, Making, Put
    from dfs.core.repairing import Scope
    from dfs.core.standing import Checked, NodeStanding, Repaired


class Progress(Protocol):
    """Called with bytes done, from one thread."""

    def __call__(self, size: int, /) -> object:
        """So many more plain bytes are stored or fetched."""


def _ignore(_size: int, /) -> None: ...


@frozen
class NodeTraffic:
    """What went to and from a node since the cluster was opened; sizes in bytes on the wire.

    ``busy_s``: what its requests took, added up.
    """

    name: str
    address: str
    sent_size: int
    received_size: int
    request_count: int
    down: str  # why it is left out, "" while it is used
    error: DfsError | None = None  # the same, as it was met
    busy_s: float = 0.0


@frozen
class Upload:
    """A file to store: its content and remote path."""

    content: "Content"
    path: str


@frozen
class Download:
    """A file to fetch, or a part of it. ``local``: where to; ``clobber``: an existing file is replaced.

    ``resume``: what an interrupted try left is gone on with, and kept if this one is interrupted too.
    """

    path: str
    local: str
    clobber: bool = True
    span: Span = Span()
    resume: bool = False


def open_cluster(
    conf: ClientConf | str | None = None,
    *,
    registry: Registry | None = None,
    state: Path | None = None,
    secret: LoginSecret | None = None,
) -> "Cluster":
    """Log in and open the vault of a conf (a path, or None to look for one), making the vault if it is new.

    Raises:
        ConfigError, LoginError, NotInitialisedError, QuorumError, PeerIdentityError.
    """
    settings = conf if isinstance(conf, ClientConf) else load_conf(conf)
    secret = secret or login_secret(settings)
    options = client_options(settings, registry or make_registry(settings), state or state_folder(), secret)
    return _opened(settings, options, state or state_folder())


def open_entered(conf: ClientConf, user: str, *, registry: Registry | None = None) -> "Cluster":
    """Open the vault of another user with the login of a healer: for `Cluster.repair` and `Cluster.status`.

    Raises:
        ForbiddenError: the login is no healer's. ConfigError, LoginError, NotInitialisedError, QuorumError.
    """
    secret = login_secret(conf)
    options = client_options(conf, registry or make_registry(conf), state_folder(), secret)
    marks = KnownMarks(state_folder(), conf.realm, user).load()
    return _opened(conf, evolve(options, entering=user, known_marks=marks), state_folder())


def users_to_repair(conf: ClientConf, *, registry: Registry | None = None) -> list[str]:
    """Return whose vaults a healer may enter. Raises: ForbiddenError: the login is no healer's; others."""
    secret = login_secret(conf)
    client = Client(client_options(conf, registry or make_registry(conf), state_folder(), secret))
    try:
        return client.users()
    finally:
        client.close()


def _opened(conf: ClientConf, options: ClientOptions, state: Path) -> "Cluster":
    client = Client(options)
    try:
        opened = client.open_entered() if options.entering else client.open()
        memories = Memories(state, conf.realm, options.entering or options.user)
        return Cluster(client, opened, conf, memories, options)
    except BaseException:
        client.close()
        raise


def make_registry(conf: Conf) -> Registry:
    """Return the registry with the built-in plugins and what the conf allows.

    A node imports only what its conf names: without ``[plugins] allow`` the packages that its transport,
    store and sections of plugins are called after (``NAME`` or ``dfs-NAME``).
    """
    allow: Collection[str] = conf.plugins_allow
    if isinstance(conf, NodeConf) and not allow:
        named = (conf.transport, conf.store, *conf.plugins)
        allow = {text for name in named for text in (name, f"dfs-{name}")}
    return Registry(BUILTIN, allow, conf.plugins_block, clock=time.perf_counter)


def client_options(conf: ClientConf, registry: Registry, state: Path, secret: LoginSecret) -> ClientOptions:
    """Return what a client of a conf is made of. Raises: ConfigError, PluginError."""
    user = conf.user or system_user()
    known = known_nodes(state)
    pins = {node.address: node.certificate for node in conf.nodes if node.certificate}
    if not conf.ca:
        pins = {**known.load(), **pins}
    names = {node.transport or conf.transport for node in conf.nodes}
    transports = {name: _transport(conf, registry, name, pins) for name in names}
    if conf.limit_up or conf.limit_down:
        up, down = Pace(conf.limit_up, RealEnv()), Pace(conf.limit_down, RealEnv())
        transports = {name: PacedTransport(each, up, down) for name, each in transports.items()}
    return ClientOptions(
        places=[
            Place(
                node.name, node.address, transports[node.transport or conf.transport], node.weight, node.zone
            )
            for node in conf.nodes
        ],
        realm=conf.realm,
        user=user,
        kdf=kdf_of(conf),
        secret=secret,
        trust=Trust(
            pins, conf.trust == "first-use" or bool(conf.ca), partial(_learn, known, pins, bool(conf.ca))
        ),
        env=RealEnv(),
        registry=registry,
        version=dfs.__version__,
        sections=conf.plugins,
        allow_insecure=conf.allow_insecure,
        geometry_needed=conf.geometry_needed,
        geometry_total=conf.geometry_total,
        recipe={
            name: getattr(conf, name) for name in ("cipher", "compressor", "code", "placement", "chunker")
        },
        jobs=conf.jobs,
        connect_timeout_s=conf.connect_timeout,
        request_timeout_s=conf.request_timeout,
        known_marks=KnownMarks(state, conf.realm, user).load(),
    )


def known_nodes(state: Path | None = None) -> KnownNodes:
    """Return the certificates of first use."""
    return KnownNodes((state or state_folder()) / "known_nodes")


def node_certificates(
    conf: ClientConf, registry: Registry, state: Path | None = None
) -> list[NodeCertificate]:
    """Return what each node of a conf shows and is known by; nobody logs in."""
    known = known_nodes(state).load()
    env = RealEnv()

    def certificate(node: NodeAddress) -> NodeCertificate:
        shown, reason = b"", ""
        try:
            transport = _transport(conf, registry, node.transport or conf.transport, {})
            stream = transport.connect(node.address, env.monotonic_s() + conf.connect_timeout)
            try:
                stream.handshake(env.monotonic_s() + conf.connect_timeout)
                shown = stream.channel_binding
            finally:
                stream.close()
        except (NodeError, PeerIdentityError, ProtocolError) as error:
            reason = error.what
        pinned = node.certificate or b""
        return NodeCertificate(node.name, node.address, known.get(node.address, b""), pinned, shown, reason)

    return [certificate(node) for node in conf.nodes]


def _transport(conf: ClientConf, registry: Registry, name: str, pins: Mapping[str, bytes]) -> Transport:
    plugin = registry.get("dfs_transports", name).plugin
    return plugin.make(
        TransportOptions(
            values=conf.plugins.get(name, {}),
            certificate_path=conf.client_certificate,
            key_path=conf.client_key,
            ca_path=conf.ca,
            pins=pins,
        )
    )


def _learn(
    known: KnownNodes,
    pins: dict[str, bytes],
    by_authority: bool,  # noqa: FBT001 - of a partial
    address: str,
    digest: bytes,
) -> None:
    if not by_authority and address not in pins:
        pins[address] = digest
        known.learn(address, digest)


class Cluster(Names):
    """One user's vault, open. A context manager; one command at a time.

    Paths are remote paths with "/"; the root is "". Batches end as a list with an `Outcome` or `Got` or the
    error of each file, in order; single-file methods raise.
    """

    def __init__(
        self, client: Client, opened: Opened, conf: ClientConf, memories: Memories, options: ClientOptions
    ) -> None:
        super().__init__(client, opened, memories, options)
        self.conf: Final = conf
        self.made: Final = opened.made
        self.notes: Final = opened.notes
        self._making: Making | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Files

    def put_files(
        self,
        uploads: Sequence[Upload],
        *,
        if_version: Version | None = None,
        if_absent: bool = False,
        allow_degraded: bool = False,
        progress: Progress = _ignore,
        watch: Watch | None = None,
    ) -> "list[Put]":
        """Store files; folders on the way are made. ``watch`` is told of each file as it is read.

        What stops one batch is the error of it and of all that follow.

        Raises:
            ConfigError: new files cannot be made as the conf says.
        """
        from dfs.core import putting

        making = self._made(allow_degraded=allow_degraded, progress=progress)
        paths = [canonical(upload.path) for upload in uploads]
        outcomes: dict[int, Put] = {}
        for batch in put_batches(self._vault.keys, paths, [upload.content.size for upload in uploads]):
            items = [
                putting.PutItem(
                    paths[index],
                    _watched(uploads[index], watch),
                    Version(os.urandom(limits.OPERATION_ID_SIZE)),
                    if_version,
                    if_absent,
                )
                for index in batch
            ]
            try:
                put_all = partial(putting.put_files, items=items, making=making)
                done = self._run(lambda: put_all(self._vault))  # noqa: B023 - called at once
                outcomes.update(zip(batch, done, strict=True))
            except DfsError as error:
                return [outcomes.get(index, error) for index in range(len(uploads))]
            finally:
                for index in batch:
                    getattr(uploads[index].content, "close", _nothing)()
        return [outcomes[index] for index in range(len(uploads))]

    def put(
        self,
        path: str,
        source: str | BinaryIO,
        *,
        if_version: Version | None = None,
        if_absent: bool = False,
        allow_degraded: bool = False,
        progress: Progress = _ignore,
    ) -> Outcome:
        """Store one file from a local path or an open binary stream. Raises: DfsError."""
        from dfs.core.local import FileContent, content_of

        content: Content
        if isinstance(source, str):
            content = FileContent(source)
        else:
            content = content_of(source, int(RealEnv().wall_s() * 1e9))
        (outcome,) = self.put_files(
            [Upload(content, path)],
            if_version=if_version,
            if_absent=if_absent,
            allow_degraded=allow_degraded,
            progress=progress,
        )
        if isinstance(outcome, DfsError):
            raise outcome
        return outcome

    def get_files(
        self, downloads: Sequence[Download], *, progress: Progress = _ignore, watch: Watch | None = None
    ) -> "list[Got | DfsError]":
        """Fetch files; each appears at its place only whole and verified. ``watch`` is told of each of them.

        What stops one batch is the error of it and of all that follow.
        """
        from dfs.core import getting

        paths = [canonical(one.path) for one in downloads]
        results: dict[int, Got | DfsError] = {}
        for batch in get_batches(self._vault.keys, paths):
            some = [(paths[index], downloads[index]) for index in batch]
            items = [
                getting.GetItem(path, partial(_file_sink, one, watch), one.span, one.resume)
                for path, one in some
            ]
            try:
                get_all = partial(getting.get_files, items=items, slots=self._client.slots())
                done = self._run(lambda: get_all(self._vault, progress=progress, settle=settle))  # noqa: B023
                results.update(zip(batch, done, strict=True))
            except DfsError as error:
                return [results.get(index, error) for index in range(len(downloads))]
        return [results[index] for index in range(len(downloads))]

    def get(
        self,
        path: str,
        target: str | BinaryIO,
        *,
        clobber: bool = True,
        span: Span = Span(),  # noqa: B008 - it is frozen
        progress: Progress = _ignore,
    ) -> "Got":
        """Fetch a file, or a part of it, to a local path or into an open binary stream. Raises: DfsError."""
        from dfs.core import getting
        from dfs.core.local import StreamSink

        slots = self._client.slots()
        if isinstance(target, str):
            item = getting.GetItem(
                canonical(path), partial(_file_sink, Download(path, target, clobber, span), None), span
            )
        else:
            item = getting.GetItem(canonical(path), lambda _entry: StreamSink(target), span)
            slots = slots[:1]  # one slot: the chunks come in order
        (got,) = self._run(lambda: getting.get_files(self._vault, [item], slots, progress))
        if isinstance(got, DfsError):
            raise got
        return got

    def open(self, path: str) -> BufferedReader:
        """Open a file for reading, with seek; only the chunks that are read are fetched, and verified.

        It is one version of it: reading raises ConflictError once another one was stored. Close it before the
        cluster. Raises: NotFoundError, ConflictError: it is a folder. QuorumError.
        """
        entry = self.stat(path).entry
        if entry.kind is not EntryKind.FILE:
            raise ConflictError(f"{printable(entry.path)} is a folder, not a file")

        def fetch(start: int, size: int) -> bytes:
            target = BytesIO()
            got = self.get(entry.path, target, span=Span(start, start + size - 1))
            if got.entry.version != entry.version:
                raise ConflictError(f"{printable(entry.path)} was replaced since it was opened")
            return target.getvalue()

        return BufferedReader(RemoteFile(entry.path, entry.size, fetch))

    # Redundancy

    def check(self, path: str = "", *, read_ratio: float = 0.0) -> "Checked":
        """Return how a file, or all files below a folder, stand.

        ``read_ratio``: the part of all chunks, 0 to 1, whose shares nodes read from disk and hash.
        Raises: NotFoundError, QuorumError.
        """
        from dfs.core import checking

        return self._run(lambda: checking.check(self._vault, canonical(path), read_ratio=read_ratio))

    def lost_without(self, nodes: Collection[NodeId] | int, path: str = "") -> frozenset[str]:
        """Return the files that could not be read any more without these nodes; a number: any so many."""
        from dfs.core import checking

        return self._run(lambda: checking.lost_without(self._vault, canonical(path), nodes))

    def repair(
        self, path: str | None = None, *, plan_only: bool = False, progress: Progress = _ignore
    ) -> "Repaired":
        """Bring nodes up to date and make missing and bad shares again; of a file, a folder or all (None).

        Nodes that lost state are brought back whole, whatever the path, and count again then.
        Raises: NotFoundError, QuorumError.
        """
        from dfs.core import repairing

        def begin() -> "Operation[Repaired]":
            scope = repairing.Scope() if path is None else self._scope(canonical(path))
            slots = self._client.slots()
            return repairing.repair(self._vault, scope, slots, plan_only=plan_only, progress=progress)

        repaired = self._run(begin)
        joined = frozenset(repaired.joined)
        told = self._client.marks()
        self._memories.marks.begin_anew({node: told[node] for node in joined if node in told})
        self._vault = vaults.joined(self._vault, joined)
        return repaired

    @property
    def is_incomplete(self) -> bool:
        """Whether a node lost state and does not count until it is repaired."""
        return bool(self._vault.returning)

    def _scope(self, path: str) -> "Scope":
        from dfs.core.keys import directory_id, register_key
        from dfs.core.repairing import Scope

        keys = self._vault.keys
        if path and self.stat(path).entry.kind is EntryKind.FILE:
            key = register_key(keys, path)
            return Scope(frozenset({key.directory}), frozenset({key}))
        folders_below = [item.entry.path for item in self.walk(path) if item.entry.kind is EntryKind.FOLDER]
        return Scope(frozenset(directory_id(keys, folder) for folder in (path, *folders_below)))

    def status(self) -> "list[NodeStanding]":
        """Return how every node of the vault is, in ring order."""
        from dfs.core.checking import nodes_status
        from dfs.core.standing import NodeStanding

        told, errors = self._run(lambda: nodes_status(self._vault))
        standings = []
        for node, name in self.nodes:
            link = self._client.links.get(node)
            reason = "" if node in told else str(getattr(errors.get(node), "what", "nobody has met it"))
            standing = NodeStanding(node, name, link.address if link is not None else "", reason)
            if link is not None and link.met is not None:
                hello = link.met.hello
                standing = evolve(standing, version=hello.version, incarnation=hello.incarnation)
            if node in told:
                standing = evolve(standing, **told[node])
            standings.append(standing)
        return standings

    def replace(self, name: str, *, plan_only: bool = False, progress: Progress = _ignore) -> "Repaired":
        """Give the empty node at the place of a lost one its id, and bring it up to date.

        A plan is an estimate: about what the other nodes keep.
        Raises: ConfigError, ConflictError, NodeError, QuorumError.
        """
        from dfs.core.standing import Planned, Repaired

        link, lost = self._client.vacancy(self._vault, name)
        if plan_only:
            kept = [standing.used_size for standing in self.status() if not standing.reason]
            size = sum(kept) // max(1, len(kept))
            needed, _ = self.geometry
            return Repaired(Planned(read_size=size * needed, written_size=size))
        known = self._memories.marks.load().get(lost)
        incarnation = known.incarnation + 1 if known is not None else 2
        self._client.adopt(link, lost, incarnation)
        self._reopen()
        return self.repair(progress=progress)

    # Nodes

    @property
    def suspicions(self) -> Mapping[NodeId, str]:
        """Nodes that told what cannot be true since the cluster was opened, and what."""
        return self._vault.suspicions

    def traffic(self) -> list[NodeTraffic]:
        """Return what went to and from each node of the conf."""
        return [
            NodeTraffic(
                link.name,
                link.address,
                link.traffic.sent_size,
                link.traffic.received_size,
                link.traffic.request_count,
                link.down.what if link.down is not None else "",
                link.down,
                link.traffic.busy_s,
            )
            for link in self._client.all_links()
        ]

    @property
    def nodes(self) -> list[tuple[NodeId, str]]:
        """Ids and names of the vault's nodes, in ring order."""
        ids = [node.node_id for node in self._vault.roster.nodes]
        return [(node, self.node_names.get(node, node.hex()[:8]).partition(" ")[0]) for node in ids]

    @property
    def user(self) -> str:
        """Whose vault it is."""
        return self.conf.user or system_user()

    @property
    def geometry(self) -> tuple[int, int]:
        """The k and n of new files."""
        geometry = self._client.stages(self._vault).recipe.geometry
        return geometry.needed, geometry.total

    @property
    def write_threshold(self) -> int:
        """How many nodes of a group must answer for a new file to be stored: max(R, W, H)."""
        return self._client.write_threshold(self._vault)

    def _made(self, *, allow_degraded: bool, progress: Callable[[int], object]) -> "Making":
        stages = self._client.stages(self._vault)
        from dfs.core.putting import Making

        return Making(stages, self._client.plugins.chunker(), self._client.slots(), allow_degraded, progress)


def _nothing() -> None:
    """Close nothing."""


def _watched(upload: Upload, watch: Watch | None) -> "Content":
    return upload.content if watch is None else WatchedContent(upload.content, upload.path, watch)


def _file_sink(download: Download, watch: Watch | None, entry: Entry) -> "Sink":
    from dfs.core.local import FileSink

    content = entry.version.hex() if download.span == Span() and entry.size > limits.SMALL_SIZE_MAX else ""
    sink = FileSink(download.local, clobber=download.clobber, content=content, resume=download.resume)
    return sink if watch is None else WatchedSink(sink, download.path, entry.size, watch)
