"""The door of real nodes: who is kept waiting, who is told what."""

import time
from typing import Any


def test_mistyped_passwords_wait_and_lock_nobody_out(make_cluster: Any) -> None:
    cluster = make_cluster(1)
    good, wrong = cluster.conf(), cluster.conf("Alice", "wrong", "wrong.conf")
    cluster.dfs("ls", conf=good)
    for _ in range(5):
        told = cluster.dfs("ls", conf=wrong, status=12).stderr
        assert b"Invalid Username/Password" in told
    for _ in range(7):  # the delay doubles until it is longer than a command takes
        told = cluster.dfs("ls", conf=wrong, status=None).stderr
        if b"Invalid" not in told:
            break
    assert b"too many failed logins" in told
    assert b"run it again.  (DFS-E604)" in told
    end_s = time.monotonic() + 15
    while cluster.dfs("ls", conf=good, status=None).returncode:
        assert time.monotonic() < end_s, "it is locked out"
