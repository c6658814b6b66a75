"""Repair in the background of a node: the keyless powers of a healer's account, on its own thread.

Every so often it enters each vault of the cluster, brings back nodes that lost state, and has missing and bad
shares made again. Where there is nothing to do it only asks; what cannot be done is logged once.
"""

import logging
import random
import threading
from typing import Final

from dfs.cluster import open_entered, users_to_repair
from dfs.core.errors import ConfigError, DfsError, NotInitialisedError
from dfs.core.paths import printable
from dfs.core.places import load_conf
from dfs.core.registry import Registry
from dfs.core.settings import ClientConf, NodeConf
from dfs.core.units import count_text, size_text

FIRST_S: Final = 30.0  # after the start: the other nodes may be starting, too

log: Final = logging.getLogger("dfs")


class Tender:
    """Repairs all vaults from time to time, from `start` to `stop`."""

    def __init__(self, conf: ClientConf, registry: Registry, interval_s: float) -> None:
        self._conf = conf
        self._registry = registry
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._complaints: dict[str, tuple[str, ...]] = {}  # of the last run, by user; "" = of all
        self._thread = threading.Thread(target=self._run, name="dfs-tender", daemon=True)

    def start(self) -> None:
        """Begin; the first run is soon."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more. What is under way ends with the process; every step of it stands alone."""
        self._stopped.set()

    def _run(self) -> None:
        wait_s = min(FIRST_S, self._interval_s)
        while not self._stopped.wait(wait_s):
            self.tend()
            wait_s = self._interval_s * random.uniform(0.75, 1.25)  # noqa: S311 - nodes need not do so at once

    def tend(self) -> None:
        """Repair every vault once; failures are logged, and the next run tries again."""
        try:
            users = users_to_repair(self._conf, registry=self._registry)
        except DfsError as error:
            self._complain("", error.what)
            return
        self._complain("")
        for user in users:
            if self._stopped.is_set():
                return
            try:
                self._tend_one(user)
            except NotInitialisedError:
                continue  # an account that has stored nothing yet
            except DfsError as error:
                self._complain(user, error.what)

    def _tend_one(self, user: str) -> None:
        with open_entered(self._conf, user, registry=self._registry) as cluster:
            done = cluster.repair()
            names = dict(cluster.nodes)
        if done.shares or done.registers or done.joined:
            log.warning(
                "repair of the vault of %s: %s, %s (read %s, wrote %s)%s",
                printable(user),
                "1 entry" if done.registers == 1 else f"{done.registers} entries",
                count_text(done.shares, "share"),
                size_text(done.read_size),
                size_text(done.written_size),
                "".join(f", {names[node]} counts again" for node in done.joined),
            )
        self._complain(user, *(f"left: {reason}" for reason in done.left))

    def _complain(self, user: str, *reasons: str) -> None:
        """Log what is wrong, unless it is what was wrong the last time."""
        if self._complaints.get(user, ()) != reasons:
            for reason in reasons:
                log.warning("repair%s: %s", f" of the vault of {printable(user)}" if user else "", reason)
        self._complaints[user] = reasons


def tender_of(conf: NodeConf, registry: Registry) -> Tender:
    """Return what repairs in the background, as a node's conf asks for.

    Raises:
        ConfigError: the conf names no client conf for it, or one without a key file.
    """
    if not conf.heal_conf:
        raise ConfigError(
            "--heal needs the conf of a healer's account",
            next_step='Write it into the server conf: [heal] conf = "FILE".',
        )
    client = load_conf(conf.heal_conf)
    if not client.key_file:
        raise ConfigError(
            f"{conf.heal_conf} has no key_file",
            next_step="A healer logs in by key: nobody is there to ask.",
        )
    return Tender(client, registry, conf.heal_interval)
