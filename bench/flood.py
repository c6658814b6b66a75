"""What a flood costs honest clients: 2,000 idle TLS connections and 500 half-open ones against one node.

Run: python bench/flood.py [--quick] [--idle N] [--half N] [--seconds S]. Starts one `dfs serve`, measures an
honest client on the quiet node, then again under the flood, and prints one JSON line a figure, then a table.
Ends with 1 if a bound is broken: p99 at most twice that of the quiet node, memory of the node at most
256 MiB, no thread for an idle connection, no failed request. The flood comes from other addresses (127.0.1.2
and so on: Linux) and from two processes. Half-open connections stay at their number: who is thrown out comes
back at once, and sends a byte of its greeting now and then.
"""

import argparse
import base64
import io
import json
import multiprocessing
import os
import resource
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

from attrs import define, field

from dfs.cluster import load_conf, open_cluster
from dfs.core import keys, limits, messages, wire
from dfs.core.auth import sign_login
from dfs.core.errors import UnreachableError
from dfs.core.keys import LoginKeys
from dfs.plugins import tls

HONEST = "honest"
CROWD_SIZE = 200  # idle connections of one user and one address
DRIBBLE_S = 3.0  # between two bytes of a half-open connection
GREETING = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)  # how a TLS client begins
MEMORY_MAX = 256 * limits.MIB
THREAD_COUNT_MAX = 40  # and one for each user who was here
RATIO_MAX = 2.0


def login_of(user: str) -> LoginKeys:
    """Return the keys of an account of this benchmark."""
    return keys.login_keys(user.encode().ljust(32, b"."))


@define
class Peer:
    """The least a client must do, from an address of its own."""

    stream: tls.ClientStream
    session: wire.Session = field(factory=wire.Session)

    def ask(self, request: messages.Request) -> messages.Response:
        """Return the reply. Raises: DfsError: refused, or the node went away."""
        self.stream.send([self.session.ask(request)], time.monotonic() + 30)
        header = wire.decode_header(self._receive(limits.HEADER_SIZE))
        control = self._receive(header.control_size)
        return self.session.answered(header, control)[0]

    def _receive(self, size: int) -> bytes:
        body, filled = bytearray(size), 0
        while filled < size:
            came = self.stream.receive_into(memoryview(body)[filled:], time.monotonic() + 30)
            if not came:
                raise UnreachableError("the node ended the connection")
            filled += came
        return bytes(body)

    def log_in(self, user: str, login: LoginKeys | None = None) -> None:
        """Greet and log in, with other keys than the user's own if told so."""
        hello = self.ask(messages.Hello(b"c" * 32, "flood", ()))
        assert isinstance(hello, messages.HelloReply)
        signature = sign_login(
            (login or login_of(user)).seed,
            realm=hello.realm,
            user=user,
            node_id=hello.node_id,
            client_nonce=b"c" * 32,
            node_nonce=hello.nonce,
            channel_binding=self.stream.channel_binding,
        )
        self.ask(messages.Login(user, signature))


def knock(port: int, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection without a word said."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def connect(port: int, context: ssl.SSLContext, source: str = "127.0.0.1") -> Peer:
    """Return a peer after its TLS handshake."""
    stream = tls.ClientStream(context, None, knock(port, source), f"127.0.0.1:{port}")
    stream.handshake(time.monotonic() + 30)
    return Peer(stream)


def client_context() -> ssl.SSLContext:
    """Return a context that believes every certificate: who the node is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# --- The flood ----------------------------------------------------------------------------------------------


def source_of(number: int) -> str:
    """Return another address of this machine."""
    return f"127.0.{1 + number // 250}.{2 + number % 250}"


def be_idle(port: int, count: int, ready: Event, stop: Event) -> None:
    """Log in so many times and stay silent; each connection must still answer at the end."""
    context = client_context()
    peers = []
    for number in range(count):
        peer = connect(port, context, source_of(number // CROWD_SIZE))
        peer.log_in(f"idle{number // CROWD_SIZE}")
        peers.append(peer)
    ready.set()
    stop.wait()
    for peer in peers:
        peer.ask(messages.Ping())


def be_half_open(port: int, count: int, ready: Event, stop: Event) -> None:
    """Keep so many connections in the middle of their greeting; who is thrown out comes back at once."""
    selector = selectors.DefaultSelector()
    due: dict[socket.socket, tuple[float, int]] = {}

    def begin(number: int) -> None:
        sock = socket.socket()
        sock.bind((source_of(100 + number % 50), 0))
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
        due[sock] = time.monotonic() + DRIBBLE_S * (number % 100) / 100, number

    for number in range(count):
        begin(number)
    ready.set()
    sent: dict[socket.socket, int] = {}
    while not stop.is_set():
        for key, _ in selector.select(0.05):  # it has nothing to say but that it is over
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            selector.unregister(sock)
            sock.close()
            sent.pop(sock, None)
            begin(due.pop(sock)[1])
        now_s = time.monotonic()
        for sock, (due_s, number) in due.items():
            if now_s >= due_s:
                place = sent.get(sock, 0)
                try:
                    sock.send(GREETING[place : place + 1])
                except (BlockingIOError, ConnectionError):
                    continue  # the selector tells
                sent[sock] = place + 1
                due[sock] = now_s + DRIBBLE_S, number


@contextmanager
def flood(port: int, idle_count: int, half_count: int) -> Iterator[None]:
    """Have both floods run; raises if one failed."""
    stop = multiprocessing.Event()
    processes = []
    for act, count in ((be_idle, idle_count), (be_half_open, half_count)):
        ready = multiprocessing.Event()
        process = multiprocessing.Process(target=act, args=(port, count, ready, stop), daemon=True)
        process.start()
        processes.append(process)
        while not ready.wait(0.2):
            if not process.is_alive():
                raise SystemExit(f"{act.__name__} failed")
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(60)
    if any(process.exitcode for process in processes):
        raise SystemExit("an idle connection was lost")


# --- The node -----------------------------------------------------------------------------------------------


@define
class Node:
    """A real `dfs serve`."""

    process: "subprocess.Popen[str]"
    port: int

    def figure(self, name: str) -> int:
        """Return a number of /proc/PID/status: VmRSS and VmHWM in bytes, Threads."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(f"{name}:"))
        value = line.split()[1:]
        return int(value[0]) * (limits.KIB if value[1:] == ["kB"] else 1)

    @property
    def descriptor_count(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def serving(folder: Path, idle_count: int) -> Iterator[Node]:
    """Start a node that knows the honest user and those who are idle."""
    names = [HONEST, *(f"idle{number}" for number in range(-(-idle_count // CROWD_SIZE)))]
    lines = [f"{name} ed25519:{base64.b64encode(login_of(name).public_key).decode()}\n" for name in names]
    users = folder / "users"
    users.write_text("".join(lines))
    command = [sys.executable, "-m", "dfs", "serve", "--dir", str(folder / "node"), "--port", "0"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1", "--users", str(users)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield Node(process, int(line.split("listening on port ")[1].split(",")[0]))
        finally:
            process.terminate()


# --- The honest client --------------------------------------------------------------------------------------


def conf_of(folder: Path, port: int) -> Path:
    """Write the conf of the honest client."""
    key = folder / "key"
    key.write_text(f"dfs-key-1 {HONEST.encode().ljust(32, b'.').hex()}\n")
    key.chmod(0o600)
    conf = folder / "client.toml"
    conf.write_text(
        f'format = 1\nuser = "{HONEST}"\nkey_file = "{key}"\n'
        f'[[node]]\nname = "node"\naddress = "127.0.0.1:{port}"\n'
    )
    return conf


def measured(folder: Path, node: Node, seconds: float) -> dict[str, list[float]]:
    """Return milliseconds of what an honest client does, each kind as often as it may in its time."""
    context = client_context()
    times: dict[str, list[float]] = {}

    def log_in() -> None:
        peer = connect(node.port, context)
        peer.log_in(HONEST)
        peer.stream.close()

    with ExitStack() as stack:
        cluster = stack.enter_context(closing(open_cluster(load_conf(str(conf_of(folder, node.port))))))
        peer = connect(node.port, context)
        stack.callback(peer.stream.close)
        peer.log_in(HONEST)
        acts: dict[str, Callable[[], object]] = {
            "request": lambda: peer.ask(messages.Status()),
            "connect and log in": log_in,
            "put 16 KiB": lambda: cluster.put("sample", io.BytesIO(os.urandom(16 * limits.KIB))),
            "get 16 KiB": lambda: cluster.get("sample", str(folder / "got")),
        }
        for name, act in acts.items():
            act()
            end_s = time.monotonic() + seconds / len(acts)
            took = times.setdefault(name, [])
            while time.monotonic() < end_s:
                started_s = time.perf_counter()
                act()
                took.append((time.perf_counter() - started_s) * 1000)
    return times


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--half", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--out")
    options = parser.parse_args()
    seconds = options.seconds or (12.0 if options.quick else 60.0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as name, serving(Path(name), options.idle) as node:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        quiet = measured(folder, node, seconds)
        before = node.figure("VmRSS"), node.figure("Threads")
        with flood(node.port, options.idle, options.half):
            flooded = measured(folder, node, seconds)
            memory, threads = node.figure("VmHWM"), node.figure("Threads")
            descriptors = node.descriptor_count
    report(options, quiet, flooded)
    print(
        f"\nnode: {before[0] / limits.MIB:.0f} MiB quiet, at most {memory / limits.MIB:.0f} MiB flooded;"
        f" {before[1]} then {threads} threads; {descriptors} descriptors under the flood"
    )
    ratios = [p99(flooded[act]) / p99(quiet[act]) for act in quiet]
    users = 1 + options.idle // CROWD_SIZE
    if max(ratios) > RATIO_MAX or memory > MEMORY_MAX or threads > THREAD_COUNT_MAX + users:
        raise SystemExit("a bound is broken")
    if descriptors < options.idle + options.half // 2:
        raise SystemExit("there was no flood")


def report(
    options: argparse.Namespace, quiet: dict[str, list[float]], flooded: dict[str, list[float]]
) -> None:
    """Print one JSON line a figure, then a table."""
    lines = [
        json.dumps({
            "v": 1,
            "program": "flood",
            "op": act,
            "variant": {"idle": options.idle, "half": options.half},
            "quiet_p50_ms": round(statistics.median(times), 2),
            "quiet_p99_ms": round(p99(times), 2),
            "flooded_p50_ms": round(statistics.median(flooded[act]), 2),
            "flooded_p99_ms": round(p99(flooded[act]), 2),
            "ratio_p99": round(p99(flooded[act]) / p99(times), 2),
            "bound": RATIO_MAX,
        })
        for act, times in quiet.items()
    ]  # fmt: skip
    print(*lines, sep="\n")
    print("\n| | quiet p50 ms | p99 | flooded p50 | p99 | times quiet p99 |\n|---|---|---|---|---|---|")
    for act, times in quiet.items():
        left = f"{statistics.median(times):.2f} | {p99(times):.2f}"
        right = f"{statistics.median(flooded[act]):.2f} | {p99(flooded[act]):.2f}"
        print(f"| {act} | {left} | {right} | {p99(flooded[act]) / p99(times):.2f} |")
    if options.out:
        with Path(options.out).open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
