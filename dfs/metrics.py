"""A node's numbers for Prometheus, served over plain HTTP where the conf says; nothing else imports this.

They say how much, never what: no path or name of a file is known here. Users are labels, so the address is
for those who may know them; it is 127.0.0.1 unless another one is named.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from dfs.core.errors import BusyError, UnknownPluginError
from dfs.core.messages import MESSAGES
from dfs.core.tally import ServerStanding
from dfs.core.types import VaultState
from dfs.core.units import split_address

VAULT_GAUGES: Final = (
    ("used_bytes", "Bytes of shares that a vault keeps.", "used_size"),
    ("free_bytes", "Bytes that its disk still takes.", "free_size"),
    ("shares", "Shares that a vault keeps.", "share_count"),
    ("owed_shares", "Shares that should be here and are not: repair is due.", "owed_count"),
    ("corrupt_shares", "Shares that were found bad: repair is due.", "corrupt_count"),
    ("scrubbed_timestamp_seconds", "When the last scrub of all shares ended, 0 = never.", "scrubbed_s"),
)


class Metrics:
    """Serves the numbers of a node from `start` to `stop`."""

    def __init__(self, address: str) -> None:
        """Raises: UnknownPluginError: what it needs is not installed."""
        try:
            import prometheus_client
        except ImportError:
            raise UnknownPluginError(
                "metrics need the package prometheus-client",
                next_step="Install it: pip install 'dfs[metrics]', or leave metrics out.",
            ) from None
        self._library: Final[Any] = prometheus_client
        self._address = address
        self._server: Any = None

    def start(self, standing: Callable[[], ServerStanding]) -> None:
        """Listen. Raises: BusyError: the address is in use, or is none of this machine."""
        registry = self._library.CollectorRegistry()
        registry.register(NodeNumbers(standing))
        self._library.ProcessCollector(registry=registry)
        machine, port = split_address(self._address)
        try:
            self._server, _ = self._library.start_http_server(port, addr=machine, registry=registry)
        except OSError as error:
            raise BusyError(
                f"metrics on {self._address}: {error.strerror}", next_step="Take another address for metrics."
            ) from None

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class NodeNumbers:
    """The families of a node (prometheus_client's Collector, which need not be a base class)."""

    def __init__(self, standing: Callable[[], ServerStanding]) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Any]:
        """Ask the node, and yield what it says."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        now = self._standing()
        yield InfoMetricFamily("dfs_node", "The node.", {"name": now.name, "version": now.version})
        yield GaugeMetricFamily("dfs_connections", "Open connections.", now.connection_count)
        requests = CounterMetricFamily("dfs_requests", "Requests that came, by message.", labels=["message"])
        for code, count in sorted(now.tally.requests.items()):
            requests.add_metric([MESSAGES[code][0].__name__], count)
        yield requests
        errors = CounterMetricFamily("dfs_errors", "Requests that were refused, by error.", labels=["error"])
        for name, count in sorted(now.tally.errors.items()):
            errors.add_metric([name], count)
        yield errors
        for direction in ("received", "sent"):
            size = getattr(now.tally, f"{direction}_size")
            yield CounterMetricFamily(f"dfs_{direction}_bytes", f"Bytes of frames {direction}.", size)
        for name, text, field in VAULT_GAUGES:
            gauge = GaugeMetricFamily(f"dfs_vault_{name}", text, labels=["user"])
            for user, vault in now.vaults:
                gauge.add_metric([user], getattr(vault, field))
            yield gauge
        yield from self._states(now)

    @staticmethod
    def _states(now: ServerStanding) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        read_only = GaugeMetricFamily("dfs_vault_read_only", "1: its disk failed.", labels=["user"])
        active = GaugeMetricFamily(
            "dfs_vault_active", "1: it counts; 0: it must be repaired.", labels=["user"]
        )
        for user, vault in now.vaults:
            read_only.add_metric([user], int(bool(vault.read_only)))
            active.add_metric([user], int(vault.state is VaultState.ACTIVE))
        yield read_only
        yield active
