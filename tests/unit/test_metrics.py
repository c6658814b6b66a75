"""A node's numbers for Prometheus: what they say, where they are served, and what it needs."""

import builtins
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dfs.core.errors import BusyError, UnknownPluginError
from dfs.core.messages import CODES, Hello, Read, StatusReply
from dfs.core.tally import ServerStanding, Tally
from dfs.core.types import VaultState
from dfs.metrics import Metrics

prometheus = pytest.importorskip("prometheus_client")


def standing() -> ServerStanding:
    tally = Tally()
    tally.asked(CODES[Hello], 100)
    tally.asked(CODES[Read], 200)
    tally.asked(CODES[Read], 200)
    tally.failed("LoginError")
    tally.sent_size = 4000
    reply = StatusReply(VaultState.ACTIVE, 5000, 6000, "", 7, 1, 2, 1_700_000_000)
    failed = StatusReply(VaultState.JOINING, 0, 0, "its disk failed", 0, 0, 0, 0)
    return ServerStanding("N1", "1.2", 3, tally, [("odile", reply), ("tom", failed)])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def served() -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    metrics = Metrics(address)
    metrics.start(standing)
    yield address
    metrics.stop()


def scraped(address: str) -> Mapping[str, float]:
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
        text = page.read().decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_all_numbers_are_there(served: str) -> None:
    numbers = scraped(served)
    expected = {
        "dfs_node_info[('name', 'N1'), ('version', '1.2')]": 1,
        "dfs_connections[]": 3,
        "dfs_requests_total[('message', 'Hello')]": 1,
        "dfs_requests_total[('message', 'Read')]": 2,
        "dfs_errors_total[('error', 'LoginError')]": 1,
        "dfs_received_bytes_total[]": 500,
        "dfs_sent_bytes_total[]": 4000,
        "dfs_vault_used_bytes[('user', 'odile')]": 5000,
        "dfs_vault_free_bytes[('user', 'odile')]": 6000,
        "dfs_vault_shares[('user', 'odile')]": 7,
        "dfs_vault_owed_shares[('user', 'odile')]": 1,
        "dfs_vault_corrupt_shares[('user', 'odile')]": 2,
        "dfs_vault_scrubbed_timestamp_seconds[('user', 'odile')]": 1_700_000_000,
        "dfs_vault_read_only[('user', 'odile')]": 0,
        "dfs_vault_read_only[('user', 'tom')]": 1,
        "dfs_vault_active[('user', 'odile')]": 1,
        "dfs_vault_active[('user', 'tom')]": 0,
    }
    assert {name: numbers[name] for name in expected} == expected
    assert numbers["process_open_fds[]"] > 0


def test_an_address_in_use_is_told(served: str) -> None:
    with pytest.raises(BusyError, match="metrics on 127"):
        Metrics(served).start(standing)


def test_without_the_package_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UnknownPluginError) as caught:
        Metrics("127.0.0.1:1")
    assert "pip install 'dfs[metrics]'" in caught.value.line


def test_a_node_that_never_started_has_nothing_to_stop() -> None:
    Metrics("127.0.0.1:1").stop()
