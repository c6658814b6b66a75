"""The public Python API of dfs, and the place where plugins, conf and shell are joined.

`open_cluster` returns a `Cluster`: one user's vault on a set of nodes. The command line has no logic of its
own.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, Self, TypeVar

import dfs
from dfs.core import folders, limits
from dfs.core.classic import NodeAddress
from dfs.core.client import Client, ClientOptions, Opened, Place
from dfs.core.credentials import KnownNodes, LoginSecret, kdf_of
from dfs.core.effects import Operation
from dfs.core.env import RealEnv
from dfs.core.errors import ConfigError, DfsError, NodeError, PeerIdentityError, ProtocolError
from dfs.core.folders import Listed
from dfs.core.interface import NodeCertificate, Transport, TransportOptions
from dfs.core.link import Link, Trust
from dfs.core.paths import canonical
from dfs.core.places import load_conf as load_conf, state_folder, system_user
from dfs.core.records import frozen
from dfs.core.registry import Registry
from dfs.core.settings import ClientConf, Conf
from dfs.core.types import Entry, EntryKind, NodeId, Outcome, Version
from dfs.plugins import BUILTIN

if TYPE_CHECKING:  # what only put and get need is imported there: a listing is quicker without
    from dfs.core.getting import Got, Sink
    from dfs.core.putting import Content, Making, Put

T = TypeVar("T")
BATCH_COUNT: Final = 400  # files stored or fetched by one operation
BATCH_SIZE: Final = 64 * limits.MIB


class Progress(Protocol):
    """Called with bytes done, from one thread."""

    def __call__(self, size: int, /) -> object:
        """So many more plain bytes are stored or fetched."""


def _ignore(_size: int, /) -> None:
    """Take progress nobody watches."""


@frozen
class NodeTraffic:
    """What went to and from a node since the cluster was opened; sizes in bytes on the wire."""

    name: str
    address: str
    sent_size: int
    received_size: int
    request_count: int
    down: str  # why it is left out, "" while it is used
    error: DfsError | None = None  # the same, as it was met


@frozen
class Upload:
    """A file to store: its content and remote path."""

    content: "Content"
    path: str


@frozen
class Download:
    """A file to fetch. ``local``: where to; ``clobber``: an existing file is replaced."""

    path: str
    local: str
    clobber: bool = True


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
    secret = secret or LoginSecret(settings, settings.user or system_user())
    options = client_options(settings, registry or make_registry(settings), state or state_folder(), secret)
    client = Client(options)
    try:
        return Cluster(client, client.open(), settings)
    except BaseException:
        client.close()
        raise


def make_registry(conf: Conf) -> Registry:
    """Return the registry with the built-in plugins and what the conf allows."""
    return Registry(BUILTIN, conf.plugins_allow, conf.plugins_block)


def client_options(conf: ClientConf, registry: Registry, state: Path, secret: LoginSecret) -> ClientOptions:
    """Return what a client of a conf is made of. Raises: ConfigError, PluginError."""
    user = conf.user or system_user()
    known = known_nodes(state)
    pins = {**known.load(), **{node.address: node.certificate for node in conf.nodes if node.certificate}}
    if conf.ca:
        pins = {}
    names = {node.transport or conf.transport for node in conf.nodes}
    transports = {name: _transport(conf, registry, name, pins) for name in names}
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
            "cipher": conf.cipher,
            "compressor": conf.compressor,
            "code": conf.code,
            "placement": conf.placement,
            "chunker": conf.chunker,
        },
        jobs=conf.jobs,
        connect_timeout_s=conf.connect_timeout,
        request_timeout_s=conf.request_timeout,
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


class Cluster:
    """One user's vault, open. A context manager; one command at a time.

    Paths are remote paths with "/"; the root is "". Batches end as a list with an `Outcome` or `Got` or the
    error of each file, in order; single-file methods raise.
    """

    def __init__(self, client: Client, opened: Opened, conf: ClientConf) -> None:
        self._client: Final = client
        self._vault = opened.vault
        self.conf: Final = conf
        self.made: Final = opened.made
        self.notes: Final = opened.notes
        self.node_names: Final = dict(opened.vault.names)
        self._making: Making | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        self._client.close()

    # Files

    def put_files(
        self,
        uploads: Sequence[Upload],
        *,
        if_version: Version | None = None,
        if_absent: bool = False,
        allow_degraded: bool = False,
        progress: Progress = _ignore,
    ) -> "list[Put]":
        """Store files; folders on the way are made.

        What stops one batch is the error of it and of all that follow.

        Raises:
            ConfigError: new files cannot be made as the conf says.
        """
        from dfs.core import putting

        making = self._made(allow_degraded=allow_degraded, progress=progress)
        outcomes: list[Put] = []
        for batch in _batches(uploads):
            items = [
                putting.PutItem(canonical(upload.path), upload.content, self._fresh(), if_version, if_absent)
                for upload in batch
            ]
            try:
                outcomes.extend(self._client.run(putting.put_files(self._vault, items, making)))
            except DfsError as error:
                return [*outcomes, *[error] * (len(uploads) - len(outcomes))]
            finally:
                for upload in batch:
                    getattr(upload.content, "close", _nothing)()
        return outcomes

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
        self, downloads: Sequence[Download], *, progress: Progress = _ignore
    ) -> "list[Got | DfsError]":
        """Fetch files; each appears at its place only whole and verified.

        What stops one batch is the error of it and of all that follow.
        """
        from dfs.core import getting

        results: list[Got | DfsError] = []
        for first in range(0, len(downloads), BATCH_COUNT):
            items = [
                getting.GetItem(canonical(download.path), partial(_file_sink, download))
                for download in downloads[first : first + BATCH_COUNT]
            ]
            try:
                results.extend(
                    self._client.run(getting.get_files(self._vault, items, self._client.slots(), progress))
                )
            except DfsError as error:
                return [*results, *[error] * (len(downloads) - len(results))]
        return results

    def get(
        self, path: str, target: str | BinaryIO, *, clobber: bool = True, progress: Progress = _ignore
    ) -> "Got":
        """Fetch one file to a local path or into an open binary stream. Raises: DfsError."""
        from dfs.core import getting

        slots = self._client.slots()
        if isinstance(target, str):
            item = getting.GetItem(canonical(path), partial(_file_sink, Download(path, target, clobber)))
        else:
            item = getting.GetItem(canonical(path), partial(_stream_sink, target))
            slots = slots[:1]  # one slot: the chunks come in order
        (got,) = self._client.run(getting.get_files(self._vault, [item], slots, progress))
        if isinstance(got, DfsError):
            raise got
        return got

    # Names

    def ls(self, path: str = "") -> list[Listed]:
        """Return the entries of a folder by name. Raises: NotFoundError, ConflictError, QuorumError."""
        return self._run(folders.list_folder(self._vault, canonical(path)))

    def walk(self, path: str = "") -> list[Listed]:
        """Return everything below a folder, folders before what is in them."""
        return self._run(folders.walk(self._vault, canonical(path)))

    def stat(self, path: str) -> Listed:
        """Return one entry. Raises: NotFoundError, QuorumError."""
        return self._run(folders.stat(self._vault, canonical(path)))

    def mkdir(self, path: str, *, existing_is_fine: bool = False) -> None:
        """Make a folder and those above it. Raises: ConflictError: it is there already."""
        wanted = canonical(path)
        if not wanted:
            raise ConfigError("the root folder is always there")
        self._run(folders.make_folder(self._vault, wanted, existing_is_fine=existing_is_fine))

    def rm(self, path: str, *, recursive: bool = False, if_version: Version | None = None) -> list[str]:
        """Remove a file, or with ``recursive`` a folder and all below it; returns the paths removed."""
        wanted = canonical(path)
        if recursive and (not wanted or self.stat(wanted).entry.kind is EntryKind.FOLDER):
            return self._run(folders.remove_folder(self._vault, wanted))
        if not wanted:
            raise ConfigError("the root folder cannot be removed", next_step="Use rm -r to empty it.")
        outcomes = self._run(
            folders.remove_entries(self._vault, [wanted], kind=EntryKind.FILE, if_version=if_version)
        )
        outcome = outcomes[wanted]
        if isinstance(outcome, DfsError):
            raise outcome
        return [wanted]

    # Nodes

    def refresh(self) -> None:
        """Look whether nodes that were down at the login are back. Commands try all others themselves."""
        self._vault = self._client.refresh(self._vault)

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
            )
            for link in self._links()
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

    def _links(self) -> Iterator[Link]:
        return self._client.all_links()

    def _run(self, operation: Operation[T]) -> T:
        return self._client.run(operation)

    def _fresh(self) -> Version:
        return Version(os.urandom(limits.OPERATION_ID_SIZE))

    def _made(self, *, allow_degraded: bool, progress: Callable[[int], object]) -> "Making":
        stages = self._client.stages(self._vault)
        from dfs.core.putting import Making

        return Making(stages, self._client.plugins.chunker(), self._client.slots(), allow_degraded, progress)


def _nothing() -> None:
    """Close nothing."""


def _file_sink(download: Download, _entry: Entry) -> "Sink":
    from dfs.core.local import FileSink

    return FileSink(download.local, clobber=download.clobber)


def _stream_sink(target: BinaryIO, _entry: Entry) -> "Sink":
    from dfs.core.local import StreamSink

    return StreamSink(target)


def _batches(uploads: Sequence[Upload]) -> Iterator[list[Upload]]:
    batch: list[Upload] = []
    size = 0
    for upload in uploads:
        item_size = upload.content.size or 0
        if batch and (len(batch) == BATCH_COUNT or size + item_size > BATCH_SIZE):
            yield batch
            batch, size = [], 0
        batch.append(upload)
        size += item_size
    if batch:
        yield batch
