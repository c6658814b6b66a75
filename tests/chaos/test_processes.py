"""Whole processes killed at their system calls: a real node under a busy client, and a real client.

The threads of a process share nothing that orders their calls, so a point here is the n-th call of a kind by
whichever thread comes to it first; the sweep of every call in one order is in test_kill.py.
"""

import io
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define, field

from dfs.cluster import Cluster, open_cluster
from dfs.core.errors import ConflictError, DfsError, NotFoundError, UnknownOutcomeError
from tests.chaos.deeds import Step, busy
from tests.chaos.kit import needs, python_environment, strace, tally, write_conf, write_user
from tests.e2e.conftest import COMMAND, Node

NODE_CALLS = ("fdatasync", "pwrite64", "pwritev2", "openat", "sendto", "write", "ftruncate", "fsync")
CLIENT_CALLS = ("sendto", "write", "recvfrom", "read", "connect")
STEPS = 12  # that a client does while the node is to be killed
POINT_COUNT_MAX = 400  # of one kind; a session has fewer


@define
class House:
    """Four nodes, and what their files must hold."""

    folder: Path
    nodes: list[Node]
    holds: dict[str, set[bytes | None]] = field(factory=dict)
    points: int = 0
    bad: list[str] = field(factory=list)

    def open(self) -> Cluster:
        """Log in."""
        return open_cluster(str(write_conf(self.folder, self.nodes)), state=self.folder / "state")

    def work(self, steps: Sequence[Step]) -> None:
        """Do steps, noting what may be there after each."""
        with self.open() as cluster:
            for step in steps:
                self._take(cluster, step)

    def _take(self, cluster: Cluster, step: Step) -> None:
        if step.verb not in {"put", "rm"}:
            return
        before = self.holds.get(step.path, {None})
        self.holds[step.path] = {*before, step.content}
        try:
            if step.verb == "put":
                cluster.put(step.path, io.BytesIO(step.content or b""))
            else:
                cluster.rm(step.path)
            self.holds[step.path] = {step.content}
        except UnknownOutcomeError:
            pass
        except NotFoundError:
            self.holds[step.path] = {None}
        except (DfsError, ConflictError):
            self.holds[step.path] = before

    def check(self, point: str) -> None:
        """Read every file and note what is not as it was promised."""
        self.points += 1
        with self.open() as cluster:
            for path, contents in self.holds.items():
                target = io.BytesIO()
                try:
                    cluster.get(path, target)
                    found: bytes | None = target.getvalue()
                except NotFoundError:
                    found = None
                except DfsError as error:
                    self.bad.append(f"{point}: {path}: {error}")
                    continue
                if found not in contents:
                    self.bad.append(f"{point}: {path} is none of {len(contents)} possible contents")
                self.holds[path] = {found}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    environment = python_environment() | {"HOME": str(tmp_path)}
    arguments = ["--listen", "127.0.0.1", "--users", str(write_user(tmp_path))]
    nodes = [
        Node(f"DFS{number}", tmp_path / f"DFS{number}", arguments, environment) for number in range(1, 5)
    ]
    try:
        for node in nodes:
            node.start()
        yield House(tmp_path, nodes)
    finally:
        for node in nodes:
            node.kill()


def node_sweep(house: House, kinds: Sequence[str], numbers: Sequence[int]) -> None:
    """Kill one node at the given calls of each kind, while a client works; then start it again."""
    victim = house.nodes[1]
    house.work(busy(1, STEPS))
    log = str(house.folder / "calls")
    for kind in kinds:
        for number in numbers:
            spec = f"inject={kind}:signal=KILL:when={number}"
            with strace(victim.pid, "-e", f"trace={kind}", "-e", spec, "-o", log):
                house.work(busy(1000 * number + house.points, STEPS))
                assert victim.process is not None
                reached = victim.process.poll() is not None
            if not reached:
                break
            victim.end(signal.SIGKILL)
            victim.start()
            other = house.nodes[house.points % 4]
            if other is not victim:
                other.kill()
            house.check(f"node killed at {kind} {number}")
            if other is not victim:
                other.start()


def client_sweep(house: House, kinds: Sequence[str], numbers: Sequence[int]) -> None:
    """Kill `dfs put` at the given calls of each kind; whatever it did, the next one works."""
    source = house.folder / "book"
    conf = write_conf(house.folder, house.nodes)
    put = [*COMMAND, "--conf", str(conf), "put", str(source)]
    environment = python_environment() | {"HOME": str(house.folder), "XDG_STATE_HOME": str(house.folder)}
    for kind in kinds:
        for number in numbers:
            step = Step("put", "book", 10 * number + len(kind), 700_000)
            source.write_bytes(step.content or b"")
            spec = f"inject={kind}:signal=KILL:when={number}"
            tracer = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={kind}", "-e", spec]
            before = house.holds.get("book", {None})
            ended = subprocess.run(
                [*tracer, *put], env=environment, capture_output=True, timeout=100, check=False
            )
            if ended.returncode in {0, 3}:
                house.holds["book"] = {step.content}
                break
            house.holds["book"] = {*before, step.content}
            house.check(f"client killed at {kind} {number}")


def report(house: House, name: str) -> None:
    tally(f"kill, {name}", points=house.points, bad=len(house.bad))
    assert house.bad == []
    assert house.points >= 3


@needs("strace")
def test_a_real_node_killed_now_and_then(house: House) -> None:
    node_sweep(house, ["fdatasync", "pwrite64"], [3, 8])
    report(house, "real node")


@needs("strace")
@pytest.mark.chaos
def test_a_real_node_killed_at_every_call(house: House) -> None:
    node_sweep(house, NODE_CALLS, range(1, POINT_COUNT_MAX))
    report(house, "real node, every call of the first thread")


@needs("strace")
@pytest.mark.chaos
def test_a_real_client_killed_at_every_call(house: House) -> None:
    client_sweep(house, CLIENT_CALLS, range(1, POINT_COUNT_MAX))
    report(house, "real client")
