"""Runs a node as a process: its log, its one ready line, its signals."""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import dfs
from dfs.context import Context
from dfs.core.classic import SERVE_USAGE, serve_form
from dfs.core.conf import apply_environment, apply_flags, parse_node
from dfs.core.env import allow_descriptors, leave_no_core
from dfs.core.errors import ConfigError
from dfs.core.paths import printable
from dfs.core.places import NODE_CONF
from dfs.core.records import evolve
from dfs.core.redaction import redacted
from dfs.core.serving import OpenedNode, open_node
from dfs.core.settings import NodeConf
from dfs.core.units import split_address

if TYPE_CHECKING:
    from dfs.core.registry import Registry
    from dfs.metrics import Metrics
    from dfs.tending import Tender

OWN_DESCRIPTOR_COUNT: Final = 512  # vaults, volumes and databases, and connections only told that it is busy
GRACE_S: Final = 5.0  # for requests under way when the node is told to stop
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "text": record.getMessage(),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line)


class Redaction(logging.Filter):
    """Strikes secrets out of a record before anybody writes it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without secrets."""
        record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info:  # what formatters write instead, once it is there
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return True


def serve(context: Context, words: Sequence[str], flags: Mapping[str, object]) -> None:
    """Run a node until it is told to stop (SIGTERM, SIGINT).

    SIGHUP has it open its log anew and read its users file again; a second signal to stop ends it at once.
    """
    heal = bool(flags.get("heal"))
    conf, users_required = node_conf(
        context, words, {name: value for name, value in flags.items() if name != "heal"}
    )
    context.output.journal = None  # what a node has to say is in its own log
    # Blocked in this and so in every later thread, they wait for `sigwait` and never tear into anything.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _set_up_log(conf)
    leave_no_core()
    conf = with_room(conf)
    registry = context.node_registry(conf)
    tender = _tender(conf, registry) if heal else None
    served = _metrics(conf)
    node = open_node(conf, registry=registry, version=dfs.__version__, users_required=users_required)
    node.server.start()
    if served is not None:
        served.start(node.server.standing)
    _warn(conf, node)
    _say_ready(context, conf, node)
    node.accounts.start()
    if tender is not None:
        tender.start()
    notify("READY=1")
    while signal.sigwait(SIGNALS) == signal.SIGHUP:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        _reopen_log()
        node.accounts.reload()
        notify("READY=1")
    notify("STOPPING=1")
    threading.Thread(target=_end_at_once, name="dfs-impatient", daemon=True).start()
    if tender is not None:
        tender.stop()
    node.server.stop(GRACE_S)
    if served is not None:
        served.stop()


def _end_at_once() -> None:
    """End the process at the next signal: who asks twice does not want to wait, and nothing is lost by it."""
    while signal.sigwait(SIGNALS) == signal.SIGHUP:
        pass
    logging.getLogger("dfs").warning("asked twice to stop: requests under way are dropped")
    os._exit(1)


def _metrics(conf: NodeConf) -> "Metrics | None":
    if conf.metrics is None:
        return None
    from dfs.metrics import Metrics

    return Metrics(conf.metrics)


def _tender(conf: NodeConf, registry: "Registry") -> "Tender":
    from dfs.tending import tender_of  # it brings a whole client along

    return tender_of(conf, registry)


def node_conf(context: Context, words: Sequence[str], flags: Mapping[str, object]) -> tuple[NodeConf, bool]:
    """Return the conf of a node and whether its users file must be there."""
    form = serve_form(words) if words else None
    if words and form is None:
        raise ConfigError(f"these words start no node; {SERVE_USAGE}")
    given = dict(flags)
    if form is not None:
        both = [name for name in ("dir", "port", "users") if given.get(name) is not None]
        if both:
            raise ConfigError(f"--{both[0]} and {printable(' '.join(words))!r} both say it; {SERVE_USAGE}")
        given |= {"dir": form.directory, "port": form.port, "users": form.users}
        given["listen"] = given.get("listen") or form.listen
    given["transport"] = context.flags.get("transport")
    if log := context.flags.get("log_json"):
        given |= {"log_file": log, "log_format": "json"}
    if str(given.get("metrics") or "").isdecimal():  # who may look at them is not said, so nobody else
        given["metrics"] = f"127.0.0.1:{given['metrics']}"
    verbosity = context.flags.get("verbose", 0)
    if given.get("log_level") is None and verbosity:
        given["log_level"] = "info" if verbosity == 1 else "debug"
    conf = apply_environment(_read_conf(context), os.environ)
    return apply_flags(conf, given), form is not None and form.users is not None


def _read_conf(context: Context) -> NodeConf:
    path = context.conf_named
    if path is None and not os.path.exists(NODE_CONF):
        return NodeConf()
    named = path or NODE_CONF
    try:
        with open(named, "rb") as file:
            return parse_node(file.read(), named)
    except OSError as error:
        raise ConfigError(f"{named}: {error.strerror}", file=named) from None


def _set_up_log(conf: NodeConf) -> None:
    handler = _log_file(conf.log_file) if conf.log_file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if conf.log_format == "json" else logging.Formatter(LOG_FORMAT))
    log = logging.getLogger("dfs")
    log.handlers = [handler]
    log.filters = [Redaction()]
    log.propagate = False
    threading.excepthook = _tell_crash
    log.setLevel(conf.log_level.upper())


def _log_file(path: str) -> logging.Handler:
    """Return what writes to a log file; one that was moved away is made anew with the next line."""
    from logging.handlers import WatchedFileHandler

    try:
        return WatchedFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the log file {path}: {error.strerror}") from None


def _reopen_log() -> None:
    """Open the log file anew, also when nothing was moved."""
    log = logging.getLogger("dfs")
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()  # the next line opens it
    log.info("told to reload: the log was opened anew, the users file is read again")


def with_room(conf: NodeConf) -> NodeConf:
    """Let this process have the descriptors that its conf needs; returns what of it the system allows."""
    allowed = allow_descriptors(conf.max_connections + OWN_DESCRIPTOR_COUNT)
    room = max(1, allowed - OWN_DESCRIPTOR_COUNT)
    if room >= conf.max_connections:
        return conf
    logging.getLogger("dfs").warning(
        "the system allows this process %d open files: %d connections instead of %d; raise it (ulimit -n)",
        *(allowed, room, conf.max_connections),
    )
    return evolve(conf, max_connections=room)


def _tell_crash(crash: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, where the log's own rules hold."""
    name = crash.thread.name if crash.thread else "?"
    if crash.exc_value is not None and crash.exc_type is not SystemExit:
        told = (crash.exc_type, crash.exc_value, crash.exc_traceback)
        logging.getLogger("dfs").critical("the thread %s ended by a bug", name, exc_info=told)


def _warn(conf: NodeConf, node: OpenedNode) -> None:
    log = logging.getLogger("dfs")
    for warning in dict.fromkeys((*conf.warnings, *node.accounts.warnings)):
        log.warning("%s", warning)
    if not node.confidential:
        log.warning(
            "transport %s is not encrypted: who is on the way sees who stores how much", conf.transport
        )


def _say_ready(context: Context, conf: NodeConf, node: OpenedNode) -> None:
    """Print the ready line, which scripts wait for."""
    port = split_address(node.server.address)[1]
    fingerprint = f"SHA256:{node.fingerprint.hex()}" if node.fingerprint else ""
    short = f" SHA256:{node.fingerprint.hex()[:4]}..{node.fingerprint.hex()[-2:]}" if fingerprint else ""
    directory = _short(conf.dir or "")
    # Only programs are told: to know it, all vaults have to be opened.
    vaults, size = node.server.kept() if context.output.structured else (0, 0)
    context.output.values(
        {
            "node": node.name,
            "addresses": [node.server.address],
            "transport": conf.transport,
            "fingerprint": fingerprint,
            "dir": conf.dir,
            "vaults": vaults,
            "bytes": size,
            "users": node.accounts.count,
            "metrics": conf.metrics,
        },
        f"{node.name} listening on port {port}, directory {directory}{' (new)' if node.fresh else ''},"
        f" {conf.transport}{short}, {_users_text(node)}",
    )
    context.output.finish(context.status)


def _short(path: str) -> str:
    """Return a path as seen from the current folder, if it lies below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def _users_text(node: OpenedNode) -> str:
    path, count = _short(node.users_path), node.accounts.count
    if not count:
        return f"0 users; add one: dfs user add NAME --users {path}"
    return f"{count} user{'' if count == 1 else 's'} ({path})"


def notify(text: str) -> None:
    """Tell the service manager, if one asked for it (sd_notify)."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    if place.startswith("@"):  # an abstract name of Linux
        place = "\0" + place[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
            door.sendto(text.encode(), place)
    except OSError as error:
        logging.getLogger("dfs").warning("the service manager cannot be told: %s", error.strerror)
