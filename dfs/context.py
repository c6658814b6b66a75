"""What a command line has to work with: its flags, and what is made from them when first needed."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, Final

from dfs.core.errors import ConfigError, DfsError, LoginError, NoConfError, NotFoundError, NotInitialisedError
from dfs.core.paths import printable
from dfs.output import DEGRADED, OK, Output, worst
from dfs.plugins import BUILTIN
from dfs.progress import Meter
from dfs.surroundings import Surroundings
from dfs.users import UsersOfNodes

if TYPE_CHECKING:
    from dfs.beginning import Beginning
    from dfs.cluster import Cluster, NodeTraffic
    from dfs.confs import Confs
    from dfs.core.credentials import LoginSecret
    from dfs.core.explanations import Explanation
    from dfs.core.folders import Listed
    from dfs.core.interface import Env, NodeCertificate
    from dfs.core.registry import PluginStatus, Registry
    from dfs.core.settings import ClientConf, NodeConf
    from dfs.doctor import Finding
    from dfs.measuring import Rate
    from dfs.passwords import Passwords

# Flags that are keys of the client conf, by the name of the field.
CONF_FLAGS: Final = {
    **{name: name for name in ("user", "jobs", "transport", "cipher", "compressor", "code", "placement")},
    **{name: name for name in ("geometry", "strict")},
    "timeout": "request_timeout",
    "limit_up": "limit_up",
    "limit_down": "limit_down",
}
OPENING: Final = (*CONF_FLAGS, "conf", "cluster", "plugin", "allow_insecure")  # they decide what is opened
DEFAULT_CLUSTER: Final = "dfs"  # the prefix that means the cluster of the conf, whatever its name


class Context(UsersOfNodes):
    """One run of `dfs`; what plugins see of it is interface.CommandContext. Used by one thread.

    ``session``: it is run within this one, and shares its cluster unless it has flags that mean another.
    """

    def __init__(self, session: Surroundings | None = None) -> None:
        self.session: Final = session
        self.flags: dict[str, object] = dict(session.flags) if session is not None else {}
        self.output: Final = Output()
        self.output.json = bool(self.flags.get("json"))
        self.output.json_lines = bool(self.flags.get("json_lines"))
        self.output.quiet = bool(self.flags.get("quiet"))
        if "log_json" in self.flags:
            self.output.log_to(str(self.flags["log_json"]))
        self._codes: list[int] = []
        self._conf: ClientConf | None = None
        self._registry: Registry | None = None
        self._cluster: Cluster | None = None
        self._before: Mapping[str, NodeTraffic] | None = None  # by address, of a shared cluster

    # What becomes of the command

    @property
    def status(self) -> int:
        """The exit code so far."""
        return worst(self._codes)

    def end(self, code: int) -> None:
        """Note the exit code of a part."""
        self._codes.append(code)

    def fail(self, error: Exception, text: str = "") -> None:
        """Tell of an error and go on. Raises: any other exception than a DfsError."""
        if not isinstance(error, DfsError):
            raise error
        self.end(error.exit_code)
        self.output.error(error, text)

    def degrade(self, text: str, *, strict: bool = True) -> None:
        """Tell of less redundancy than asked for, unless ``text`` is ""; an exit code only where the conf or
        ``strict`` says so.
        """
        if text:
            self.output.warn(text, prefix="")
        wanted = self.strict
        self.end(DEGRADED if (strict if wanted is None else wanted) else OK)

    @property
    def strict(self) -> bool | None:
        """Whether less redundancy than asked for is a failure; None: as the command would have it."""
        try:
            return self.conf().strict
        except ConfigError:  # of a command that needs no conf
            flag = self.flags.get("strict")
            return flag if isinstance(flag, bool) else None

    def emit(self, kind: str, values: Mapping[str, object], text: str = "") -> None:
        """Print one result."""
        if kind:
            self.output.record(kind, values, text)
        else:
            self.output.values(values, text)

    def note(self, text: str) -> None:
        """Say what was done, to people only."""
        self.output.note(text)

    def meter(self, label: str, total_size: int | None) -> closing[Meter]:
        """Show how far something is, while it lasts."""
        return closing(self.output.meter(self.progress, printable(label), total_size, plain=self.plain))

    def redraw(self) -> None:
        """Begin what replaces all that was printed before: on a terminal it is cleared.

        Raises: ConfigError: all is to be one JSON object.
        """
        if self.output.json:
            raise ConfigError("--json prints one object at the end", next_step="Use --json-lines.")
        self.output.clear(plain=self.plain)

    def confirm(self, question: str) -> bool:
        """Ask on the terminal."""
        if self.flags.get("yes"):
            return True
        if not sys.stdin.isatty():
            raise ConfigError(f"{question} There is no terminal to ask on", next_step="Answer with --yes.")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @property
    def asks(self) -> bool:
        """Whether there is somebody to ask."""
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.output.structured

    def ask(self, question: str, default: str = "") -> str:
        """Ask for a line; an empty one, or the end of all, is ``default``."""
        sys.stdout.flush()
        sys.stderr.write(f"{question} [{default}]: " if default else f"{question}: ")
        sys.stderr.flush()
        return sys.stdin.readline().strip() or default

    # What it is made of

    @property
    def env(self) -> "Env":
        """Clocks and entropy."""
        from dfs.core.env import RealEnv

        return RealEnv()

    @property
    def plain(self) -> bool:
        """Whether nothing may be coloured or redrawn."""
        off = self._conf is not None and self._conf.color == "off"
        asked = self.flags.get("no_color") or os.environ.get("NO_COLOR")
        return bool(off or asked or os.environ.get("TERM") == "dumb")

    @property
    def progress(self) -> str:
        """auto, on or off."""
        wanted = self.flags.get("progress")
        if wanted is None:
            return self._conf.progress if self._conf is not None else "auto"
        return "on" if wanted else "off"

    def conf(self) -> "ClientConf":
        """Return the client conf with environment and flags. Raises: ConfigError."""
        if self._conf is None and self._shared():
            self._conf = self._shared_cluster().conf
        if self._conf is None:
            self._conf = self._load_conf()
            for warning in (*self._conf.warnings, *self._open_password(self._conf)):
                self.output.warn(warning)
        return self._conf

    def _load_conf(self) -> "ClientConf":
        from dfs.core.conf import apply_flags, parse_duration
        from dfs.core.places import load_conf

        conf = load_conf(self._conf_path())
        flags = self._conf_flags()
        if allowed := self.flags.get("allow_insecure"):
            flags["allow_insecure"] = [*conf.allow_insecure, *(allowed if isinstance(allowed, tuple) else ())]
        if "request_timeout" in flags:
            try:
                parse_duration(str(flags["request_timeout"]))
            except ConfigError as error:  # so that it names the flag as people know it
                raise ConfigError(f"--timeout: {error.what}") from None
        return apply_flags(conf, flags)

    def _conf_flags(self) -> dict[str, object]:
        """Return the flags that are keys of the conf, by field."""
        return {field: self.flags[flag] for flag, field in CONF_FLAGS.items() if flag in self.flags}

    @property
    def conf_named(self) -> str | None:
        """The file of --conf, or of DFS_CONF."""
        named = self.flags.get("conf") or os.environ.get("DFS_CONF")
        return None if named is None else str(named)

    def _conf_path(self) -> str | None:
        """Return the file named by --conf, or the one that --cluster means; None to look for one."""
        named, cluster = self.conf_named, self.flags.get("cluster")
        if cluster is None:
            return named
        from dfs.core.conf import parse_client
        from dfs.core.places import conf_candidates, read_conf

        there = (
            [str(named)] if named is not None else [str(each) for each in conf_candidates() if each.is_file()]
        )
        for path in there:
            if parse_client(read_conf(path), path).cluster == cluster:
                return path
        raise NoConfError(f"no conf of a cluster {cluster!r} ({', '.join(there) or 'no conf at all'})")

    @staticmethod
    def _open_password(conf: "ClientConf") -> list[str]:
        """Return a warning if a password in the conf can be read by others."""
        if not conf.users or os.name != "posix" or not os.stat(conf.file).st_mode & 0o077:
            return []
        return [f"{conf.file} holds a password that others can read; close it: chmod 600 {conf.file}"]

    def option(self, section: str, key: str) -> str | None:
        """A value of the conf, or None."""
        conf = self.conf()
        value = conf.plugins[section].get(key) if section in conf.plugins else getattr(conf, key, None)
        return None if value is None else str(value)

    @property
    def registry(self) -> "Registry":
        """All plugins the conf lets in. Raises: ConfigError, PluginError: a file of --plugin is broken."""
        if self._registry is None:
            from dfs.cluster import make_registry
            from dfs.core.registry import Registry

            try:
                self._registry = make_registry(self.conf())
            except NoConfError:
                self._registry = Registry(BUILTIN, clock=time.perf_counter)
            self._load_files(self._registry)
        return self._registry

    def node_registry(self, conf: "NodeConf") -> "Registry":
        """Return the plugins a node's conf lets in."""
        from dfs.cluster import make_registry

        registry = make_registry(conf)
        self._load_files(registry)
        return registry

    def _load_files(self, registry: "Registry") -> None:
        files = self.flags.get("plugin")
        for path in files if isinstance(files, tuple) else ():
            registry.load_file(path)

    def plugins(self) -> "Sequence[PluginStatus]":
        """Every plugin and every failure."""
        from dfs.core.registry import PluginStatus

        status = self.registry.status()
        failures = self.registry.failures()
        return [
            *status,
            *(PluginStatus("", "", "", each.source, "", reason=each.reason) for each in failures),
        ]

    # The cluster

    def cluster(self) -> "Cluster":
        """Log in, once. Raises: DfsError."""
        if self._shared():
            return self._shared_cluster()
        if self._cluster is None:
            conf = self.conf()
            secret = _deriving(conf)  # takes as long as the imports that follow
            from dfs.cluster import open_cluster
            from dfs.texts import vault_made

            try:
                self._cluster = open_cluster(conf, registry=self.registry, secret=secret)
            except LoginError as error:
                if not secret.was_kept:
                    raise
                raise LoginError(
                    error.what, next_step="What dfs login kept is out of date: dfs login."
                ) from None
            if self._cluster.made:
                self.output.note(vault_made(len(self._cluster.node_names), conf.key_file))
            for note in self._cluster.notes:
                self.output.warn(note)
            self._introduce(self._cluster)
        return self._cluster

    def _shared(self) -> bool:
        """Whether the command works on the cluster of its session."""
        return self.session is not None and all(
            self.flags.get(name) == self.session.flags.get(name) for name in OPENING
        )

    def _shared_cluster(self) -> "Cluster":
        assert self.session is not None
        cluster = self.session.opened()
        if self._before is None:
            self._before = {state.address: state for state in cluster.traffic()}
        return cluster

    def clusters(self) -> "Iterator[tuple[str, Cluster]]":
        """The open cluster; of a healer's login all vaults, one after the other."""
        from dfs.core.errors import ForbiddenError

        try:
            cluster = self.cluster()
        except ForbiddenError:
            yield from self._entered()
        else:
            yield "", cluster

    def _entered(self) -> "Iterator[tuple[str, Cluster]]":
        from dfs.cluster import open_entered, users_to_repair

        for user in users_to_repair(self.conf(), registry=self.registry):
            try:
                with open_entered(self.conf(), user, registry=self.registry) as cluster:
                    yield user, cluster
            except NotInitialisedError:
                continue  # an account that has stored nothing yet
            except DfsError as error:
                self.fail(error)

    def _introduce(self, cluster: "Cluster") -> None:
        """Say with -v who answers, with -vv how each node is."""
        verbosity = self.flags.get("verbose", 0)
        if not isinstance(verbosity, int) or not verbosity:
            return
        nodes = cluster.traffic()
        up_count = sum(not node.down for node in nodes)
        needed, total = cluster.geometry
        self.output.note(
            f"{cluster.user} at {cluster.conf.cluster}: {up_count} of {len(nodes)} nodes,"
            f" any {needed} of {total} shares bring a file back"
        )
        for node in nodes if verbosity > 1 else ():
            self.output.note(f"{node.name} {node.address} {node.down or 'up'}")

    def passwords(self) -> "Passwords":
        """What opens the vault of the conf's user."""
        from dfs.passwords import Passwords

        return Passwords(self.conf(), self.registry)

    def new_key_file(self, path: str) -> bytes:
        """Make a key file; its public login key."""
        from dfs.passwords import make_key_file

        return make_key_file(path)

    def private_file(self, path: str, content: str) -> None:
        """Make a file that is its owner's alone."""
        from dfs.core.credentials import private_file

        private_file(path, content)

    def remote(self, path: str) -> str:
        """Return the canonical remote path of an argument, without its cluster."""
        from dfs.core.paths import canonical

        cluster, colon, rest = path.partition(":")
        if colon and cluster in {DEFAULT_CLUSTER, self.conf().cluster}:
            return canonical(rest)
        return canonical(path) if self.session is None else self.session.place(path)

    def matched(self, paths: Sequence[str]) -> Sequence[str]:
        """Return the canonical paths of arguments, patterns replaced by what is like them."""
        found: list[str] = []
        for path in paths:
            try:
                found.extend(self.cluster().match(self.remote(path)))
            except (ConfigError, NotFoundError) as error:
                self.fail(error)
        return list(dict.fromkeys(found))

    @staticmethod
    def entry_summary(item: "Listed", *, full: bool = False) -> Mapping[str, object]:
        """Return what programs are told of an entry."""
        from dfs.entries import entry_record

        return entry_record(item, full=full)

    def binary_output(self) -> BinaryIO:
        """Return stdout for bytes."""
        if self.output.structured:
            raise ConfigError("the bytes of a file and --json both want stdout")
        return sys.stdout.buffer

    @property
    def pictorial(self) -> bool:
        """Whether drawings may use more than ASCII."""
        return sys.stdout.isatty() and not self.plain and "utf" in (sys.stdout.encoding or "").lower()

    def confs(self) -> "Confs":
        """Conf files, to show and to change."""
        from dfs.confs import Confs

        return Confs(self.conf, self._node_conf)

    def beginning(self, flags: "Mapping[str, object]") -> "Beginning":
        """A conf to be made."""
        from dfs.beginning import Beginning

        return Beginning({**self._conf_flags(), **flags})

    def findings(self, *, node: bool) -> "Iterator[Finding]":
        """What may be wrong with this machine and the nodes."""
        from dfs import doctor
        from dfs.core.settings import NodeConf

        doors = doctor.Doors(
            client=self.conf,
            node=self._node_conf,
            registry=lambda: self.node_registry(self._node_conf() or NodeConf()) if node else self.registry,
            cluster=self.cluster,
            certificates=self.certificates,
        )
        return doctor.of_node(doors) if node else doctor.of_client(doors)

    @staticmethod
    def formats() -> "Mapping[str, int]":
        """Return the numbers of what this dfs writes."""
        from dfs.core.manifest import ENTRY_FORMAT
        from dfs.core.settings import FORMAT
        from dfs.core.wire import WIRE_VERSION

        return {"wire": WIRE_VERSION, "entry": ENTRY_FORMAT, "conf": FORMAT}

    def explanations(self) -> "Mapping[str, Explanation]":
        """What error codes mean."""
        from dfs.core.explanations import EXPLANATIONS

        return EXPLANATIONS

    # Nodes

    def certificates(self) -> "list[NodeCertificate]":
        """What each node shows, and what is known of it."""
        from dfs.cluster import node_certificates

        return node_certificates(self.conf(), self.registry)

    def trust(self, address: str, certificate: bytes) -> None:
        """Know a node by this certificate."""
        from dfs.cluster import known_nodes

        known_nodes().learn(address, certificate)

    def rates(self, *, disk: str, net: bool, seconds: float) -> "Iterator[Rate]":
        """How fast this machine and the cluster are."""
        from dfs import measuring

        yield from measuring.stages(self._conf_if_any(), self.registry, seconds)
        yield from measuring.disk(disk, seconds)
        if net:
            yield from measuring.cluster(self.cluster(), seconds)

    @staticmethod
    def suggested_jobs(rates: "Sequence[Rate]") -> int:
        """How many chunks to work on at once."""
        from dfs.measuring import suggested_jobs

        return suggested_jobs(rates)

    # The end

    def close(self) -> None:
        """Show what was asked for with --stats, name nodes that lied, and let go of the cluster."""
        if self.session is not None and self._before is not None:
            self._tell_traffic(self.session.opened())
        if self._cluster is None:
            return
        from dfs.texts import distrust

        for text in distrust(self._cluster.node_names, self._cluster.suspicions):
            self.output.warn(text)
        self._tell_traffic(self._cluster)
        self._cluster.close()
        self._cluster = None

    def _tell_traffic(self, cluster: "Cluster") -> None:
        """Show, and write into the log, what went to and from nodes; each where it is asked for."""
        journal = self.output.journal
        if journal is None and not self.flags.get("stats"):
            return
        from dfs.traffic import since, traffic_lines

        nodes = since(self._before, cluster.traffic())
        if journal is not None:
            journal.traffic(nodes)
        if self.flags.get("stats"):
            sys.stderr.writelines(f"{line}\n" for line in traffic_lines(nodes))


def _deriving(conf: "ClientConf") -> "LoginSecret":
    """Start the derivation of a conf's login keys, asking for the password if need be."""
    from dfs.core.env import leave_no_core
    from dfs.core.kept import login_secret

    leave_no_core()
    return login_secret(conf)
