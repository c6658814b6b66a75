"""The other processes of floors.py; they load little, so that many can be started.

`append` and `sqlite` say ready, wait for go, work and say done; `answer` is the far end of a connection.
"""

import os
import socket
import sqlite3
import ssl
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

WRITE_SIZE = 2 * 1024 * 1024
SYNC_EVERY = 16  # writes between two fdatasync, 32 MiB
REGISTER_SIZE = 300  # bytes of a row that holds an entry
FRAME_SIZE = 2 * 1024 * 1024
PING_SIZE = 64
HEAD = struct.Struct(">Q")


def work(job: Sequence[str]) -> None:
    """Be one worker of `race`."""
    kind, path, *numbers = job
    sizes_given = [int(number) for number in numbers]
    perform = _appender(path, *sizes_given) if kind == "append" else _committer(path, *sizes_given)
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        perform()
        print("done", flush=True)
        sys.stdin.readline()  # to the end: what is closed now would not count


def _appender(path: str, size: int) -> Callable[[], None]:
    """Write ``size`` bytes in 2 MiB writes, synced every 32 MiB and at the end."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    piece = memoryview(os.urandom(WRITE_SIZE))

    def perform() -> None:
        for number, offset in enumerate(range(0, size, WRITE_SIZE), start=1):
            os.write(descriptor, piece[: min(WRITE_SIZE, size - offset)])
            if number % SYNC_EVERY == 0:
                os.fdatasync(descriptor)
        os.fdatasync(descriptor)

    return perform


def _committer(path: str, count: int, batch: int, share_size: int) -> Callable[[], None]:
    """Commit a share row and a register row for each of ``count`` files, ``batch`` files a transaction."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    for name in ("shares", "registers"):
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
    share, register = os.urandom(share_size), os.urandom(REGISTER_SIZE)

    def perform() -> None:
        for first in range(0, count, batch):
            keys = [(os.urandom(32),) for _ in range(min(batch, count - first))]
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO shares VALUES (?, ?)", [(*key, share) for key in keys])
            database.executemany("INSERT INTO registers VALUES (?, ?)", [(*key, register) for key in keys])
            database.execute("COMMIT")

    return perform


def answer(transport: str, folder: Path) -> None:
    """Be the process at the other end: a frame is its size and so many bytes, the answer 64 bytes."""
    from dfs.core.identity import ensure_certificate

    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = None
        if transport == "tls":
            certificate, key, _ = ensure_certificate(str(folder), "floor")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
        print(listener.getsockname()[1], flush=True)
        plain, _ = listener.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = context.wrap_socket(plain, server_side=True) if context else plain
        buffer = memoryview(bytearray(FRAME_SIZE))
        with connection:
            while receive(connection, buffer[: HEAD.size]):
                (size,) = HEAD.unpack(buffer[: HEAD.size])
                if not receive(connection, buffer[:size]):
                    return
                connection.sendall(buffer[:PING_SIZE])


def receive(connection: socket.socket, target: memoryview) -> bool:
    while target:
        size = connection.recv_into(target)
        if not size:
            return False
        target = target[size:]
    return True


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(sys.argv[2], Path(sys.argv[3]))
    else:
        work(sys.argv[1:])
