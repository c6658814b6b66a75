"""A client that is busy for a while and notes what it saw.

`python -m tests.chaos.patron CONF STATE SEED SECONDS`

Each file holds the random bytes that follow from 16 bytes of its own, so that whoever reads it knows which it
is and whether all of it is right. Prints one JSON line an operation; seconds 0: reads every file once.
"""

import io
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dfs.cluster import Cluster, open_cluster
from dfs.core.errors import ConflictError, DfsError, NotFoundError, UnknownOutcomeError

PATHS: Final = [f"shelf{number % 2}/book{number}" for number in range(5)]
SIZES: Final = (40, 900, 5_000, 60_000, 700_000)


def body_of(token: str, size: int) -> bytes:
    """Return the bytes that follow from a token."""
    return f"{token} {size:<10} ".encode() + random.Random(token).randbytes(size)


def token_of(body: bytes) -> str:
    """Return which bytes these are; "WRONG" when they are none that anybody wrote."""
    head = body[:27].decode("latin-1").split()
    right = len(head) == 2 and head[1].isdecimal() and body_of(head[0], int(head[1])) == body
    return head[0] if right else "WRONG"


class Patron:
    """One busy client."""

    def __init__(self, cluster: Cluster, seed: str) -> None:
        self._cluster: Final = cluster
        self._dice: Final = random.Random(seed)

    def act(self) -> None:
        """Do something to some file."""
        path = self._dice.choice(PATHS)
        verb = self._dice.choices(["get", "put", "add", "rm"], [5, 4, 1, 1])[0]
        if verb in {"put", "add"}:
            token = f"{self._dice.getrandbits(60):015x}"
            body = body_of(token, self._dice.choice(SIZES))
            self._note(verb, path, token, lambda: self._put(path, body, absent=verb == "add"))
        elif verb == "rm":
            self._note(verb, path, "", lambda: self._remove(path))
        else:
            self.read(path)

    def read(self, path: str) -> None:
        """Read a file."""
        self._note("get", path, "", lambda: self._get(path))

    def _put(self, path: str, body: bytes, *, absent: bool) -> str:
        self._cluster.put(path, io.BytesIO(body), if_absent=absent)
        return ""

    def _remove(self, path: str) -> str:
        self._cluster.rm(path)
        return ""

    def _get(self, path: str) -> str:
        target = io.BytesIO()
        got = self._cluster.get(path, target)
        token = token_of(target.getvalue())
        return f"stale {token}" if got.stale else token

    def _note(self, verb: str, path: str, token: str, do: Callable[[], str]) -> None:
        begun = time.monotonic_ns()
        try:
            seen, how = do(), "done"
        except UnknownOutcomeError as error:
            seen, how = str(error), "unknown"
        except NotFoundError as error:
            seen, how = str(error), "absent"
        except ConflictError as error:
            seen, how = str(error), "conflict"
        except DfsError as error:
            seen, how = f"{type(error).__name__}: {error}", "failed"
        line = [begun, time.monotonic_ns(), verb, path, token, how, seen]
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def main(conf: str, state: str, seed: str, seconds: str) -> None:
    """Be busy."""
    end_s = time.monotonic() + float(seconds)
    while True:
        try:
            cluster = open_cluster(conf, state=Path(state))
        except DfsError:
            if time.monotonic() >= end_s:
                raise
            continue  # the network is cut just now
        with cluster:
            patron = Patron(cluster, seed)
            if not float(seconds):
                for path in PATHS:
                    patron.read(path)
            while time.monotonic() < end_s:
                patron.act()
                cluster.refresh()
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
