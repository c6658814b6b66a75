"""What crosses the wire: each byte once, nothing twice, nothing readable."""

import random
import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

SIZE = 24 * 1024 * 1024
CONTENT = random.Random(5).randbytes(SIZE)


def _bytes(told: bytes, what: str) -> int:
    found = re.search(rf"{what}[^\d]*(\d+)".encode(), told)
    assert found, told
    return int(found.group(1))


def test_get_moves_each_byte_once_and_a_second_put_almost_nothing(cluster: Any) -> None:
    path = str(cluster.file("once", CONTENT))
    first = cluster.dfs("put", path, "--stats").stderr
    second = cluster.dfs("put", path, "--stats").stderr
    assert _bytes(first, "sent_bytes") > 2 * SIZE
    assert _bytes(second, "sent_bytes") < 0.01 * _bytes(first, "sent_bytes")
    target = cluster.folder / "out"
    told = cluster.dfs("get", "once", "-o", str(target), "--stats").stderr
    assert target.read_bytes() == CONTENT
    sealed = SIZE + 16 * (SIZE // (4 * 1024 * 1024))
    assert sealed <= _bytes(told, "received_bytes") <= 1.02 * sealed


@pytest.mark.parametrize(
    ("chunker", "changed", "chunk_size"),
    [
        ("fixed", CONTENT[: SIZE // 2] + bytes(4096) + CONTENT[SIZE // 2 + 4096 :], 4 << 20),
        ("fastcdc", b"!" + CONTENT, 4 << 20),
    ],
)
def test_only_what_changed_is_sent(cluster: Any, chunker: str, changed: bytes, chunk_size: int) -> None:
    if chunker == "fastcdc":
        pytest.importorskip("pyfastcdc")
    cluster.environment["DFS_CHUNKER"] = chunker
    path = cluster.file("report", CONTENT)
    cluster.dfs("put", str(path))
    path.write_bytes(changed)
    told = cluster.dfs("put", str(path), "--stats").stderr
    assert 0 < _bytes(told, "sent_bytes") < 2 * chunk_size + (64 << 10)
    assert cluster.got("report") == changed


def test_a_put_that_was_killed_goes_on_where_it_was(cluster: Any) -> None:
    cluster.dfs("ls")  # makes the vault
    path = cluster.file("begun", CONTENT)
    first = cluster.start("put", str(path))

    def share_count() -> int:
        (database,) = cluster.nodes[0].directory.glob("*/vault.db")
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
            return int(rows.execute("SELECT COUNT(*) FROM shares").fetchone()[0])

    while first.poll() is None and share_count() < 2:
        pass
    first.kill()
    first.wait()
    told = cluster.dfs("put", str(path), "--stats").stderr
    assert _bytes(told, "sent_bytes") < 2 * SIZE
    assert cluster.got("begun") == CONTENT


class Recorder:
    """A proxy that writes down every byte both ways."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(source, sink))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                self.seen += piece
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            each.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def recorders(cluster: Any) -> Iterator[list[Recorder]]:
    made = [Recorder(node.port) for node in cluster.nodes]
    yield made
    for recorder in made:
        recorder.close()


def _secrets(passage: bytes) -> list[bytes]:
    names = ["hidden-folder-name", "quarterly-figures.txt"]
    return [b"white rabbit", *(name.encode() for name in names), passage]


@pytest.mark.parametrize("transport", ["tls", "tcp"])
def test_nothing_readable_on_the_wire_or_on_the_nodes(make_cluster: Any, transport: str) -> None:
    cluster = make_cluster(4, "--transport", transport, flags=("--transport", transport))
    recorders = [Recorder(node.port) for node in cluster.nodes]
    try:
        passage = b"The figures of this quarter are nobody's business but ours."
        conf = cluster.folder / "proxied.conf"
        servers = "".join(
            f"Server {node.name} 127.0.0.1:{recorder.port}\n"
            for node, recorder in zip(cluster.nodes, recorders, strict=True)
        )
        conf.write_text(f"{servers}Username: Alice\nPassword: white rabbit\n")
        conf.chmod(0o600)
        path = cluster.file("quarterly-figures.txt", passage)
        large = cluster.file("hidden-folder-name.large", passage * 2000 + CONTENT[:100_000])
        cluster.dfs("put", str(path), str(large), "--to", "hidden-folder-name/", conf=conf)
        assert cluster.dfs("ls", "hidden-folder-name", conf=conf).stdout.count(b"\n") == 2
        cluster.dfs("get", "-r", "hidden-folder-name", "-o", str(cluster.folder / "out"), conf=conf)
        wire = b"".join(bytes(recorder.seen) for recorder in recorders)
        assert len(wire) > 100_000
        kept = b"".join(
            path.read_bytes()
            for node in cluster.nodes
            for path in node.directory.rglob("*")
            if path.is_file()
        )
        assert len(kept) > 100_000
        for secret in _secrets(passage):
            assert secret not in wire
            assert secret not in kept
    finally:
        for recorder in recorders:
            recorder.close()
