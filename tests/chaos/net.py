"""A network of its own: nodes and clients in network namespaces on one bridge, and faults between them.

Every member has a namespace with one address; its rules (nft) are set there. Nothing outside is touched, and
all of it goes with the namespaces.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field

from tests.e2e.conftest import Node

SUBNET: Final = "10.77.0"


def run(*words: str, feed: str | None = None) -> None:
    """Run a command that must succeed."""
    subprocess.run(words, input=feed, text=True, check=True, timeout=20, capture_output=True)


@define
class Member:
    """A place in the network. ``rules``: what is done to packets, by a name for each fault."""

    name: str
    address: str
    rules: dict[str, Sequence[str]] = field(factory=dict)

    @property
    def inside(self) -> tuple[str, ...]:
        """A command that runs another one at this place."""
        return ("ip", "netns", "exec", self.name)

    def spoil(self, fault: str, *rules: str) -> None:
        """Set the rules of a fault; each is ``in`` or ``out`` and an nft rule."""
        self.rules[fault] = rules
        self._apply()

    def restore(self, fault: str) -> None:
        """End a fault."""
        if self.rules.pop(fault, None) is not None:
            self._apply()

    def _apply(self) -> None:
        lines = ["add table inet chaos", "delete table inet chaos", "add table inet chaos"]
        lines += [
            f"add chain inet chaos {way} {{ type filter hook {hook} priority 0; }}"
            for way, hook in (("in", "input"), ("out", "output"))
        ]
        lines += [f"add rule inet chaos {rule}" for rules in self.rules.values() for rule in rules]
        run(*self.inside, "nft", "-f", "-", feed="\n".join(lines))


@contextmanager
def network(count: int, client_count: int) -> Iterator[tuple[list[Member], list[Member]]]:
    """Make namespaces of nodes and clients on one bridge, in a namespace of its own."""
    mark = f"dfs{os.getpid()}"
    hub = f"{mark}-hub"
    numbers = [*range(1, count + 1), *range(101, 101 + client_count)]
    members = [Member(f"{mark}-{number}", f"{SUBNET}.{number}") for number in numbers]
    made: list[str] = []
    try:
        for name in (hub, *(member.name for member in members)):
            run("ip", "netns", "add", name)
            made.append(name)
        run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "bridge", "up")
        for number, member in zip(numbers, members, strict=True):
            name = member.name
            run("ip", "-n", hub, "link", "add", f"to{number}", "type", "veth", "peer", "wire", "netns", name)
            run("ip", "-n", hub, "link", "set", f"to{number}", "master", "bridge", "up")
            run("ip", "-n", name, "addr", "add", f"{member.address}/24", "dev", "wire")
            run("ip", "-n", name, "link", "set", "wire", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield members[:count], members[count:]
    finally:
        for name in made:
            run("ip", "netns", "delete", name)


@define
class FarNode(Node):
    """A `dfs serve` process at a place of its own."""

    place: str = ""

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"{self.place}:{self.port}"


def far_nodes(
    members: Sequence[Member], folder: Path, users: Path, environment: dict[str, str]
) -> list[Node]:
    """Return a node for each member, not started."""
    return [
        FarNode(
            name=f"DFS{number}",
            directory=folder / f"DFS{number}",
            arguments=["--listen", member.address, "--users", str(users)],
            environment=environment,
            prefix=member.inside,
            place=member.address,
        )
        for number, member in enumerate(members, 1)
    ]
