"""The contract of transports over `unix`, and what sockets in a folder have of their own."""

import os
import socket
import time
from pathlib import Path

import dfs_unix
import pytest

from dfs.core.api import BusyError, ConfigError, TransportOptions
from dfs.testing import TransportContract


class TestUnix(TransportContract):
    (plugin,) = dfs_unix.dfs_transports()
    address = "node:0"


def make(folder: Path) -> dfs_unix.UnixTransport:
    made = dfs_unix.make(TransportOptions(values={"directory": str(folder)}))
    assert isinstance(made, dfs_unix.UnixTransport)
    return made


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    listener = make(tmp_path / "run").listen("node:7")
    assert os.stat(tmp_path / "run").st_mode & 0o777 == 0o700
    assert (tmp_path / "run" / "node-7.sock").exists()
    listener.close()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "node-7.sock"))
    listener = make(tmp_path).listen("node:7")
    with pytest.raises(BusyError):
        make(tmp_path).listen("node:7")
    client = make(tmp_path).connect("node:7", time.monotonic() + 10)
    client.close()
    listener.close()


def test_a_path_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        make(tmp_path / ("x" * 100)).listen("node:7")
