"""The client where the system is another one: without the modules and calls that only Unix has."""

import subprocess
import sys

from tests.e2e.conftest import COMMAND, Cluster

WITHOUT = """
import os, signal, socket, sys

for name in ("fcntl", "resource", "pwd", "grp", "syslog"):
    sys.modules[name] = None
for module, names in {
    os: "O_CLOEXEC O_NOFOLLOW geteuid getuid getegid getgid fork sendfile posix_fallocate fdatasync",
    signal: "SIGHUP pthread_sigmask sigwait SIG_SETMASK",
    socket: "AF_UNIX",
}.items():
    for name in names.split():
        vars(module).pop(name, None)
from dfs.cli import run
sys.exit(run(sys.argv[1:]))
"""


def run(cluster: Cluster, *words: str) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, *cluster.command(*words)[len(COMMAND) :]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=cluster.environment,
        cwd=cluster.folder,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def test_the_client_does_without_what_only_unix_has(cluster: Cluster) -> None:
    body = bytes(range(256)) * 9000
    run(cluster, "put", str(cluster.file("f", body)))
    assert run(cluster, "ls").stdout == "f\n"
    run(cluster, "get", "f", "-o", "back")
    assert (cluster.folder / "back").read_bytes() == body
    run(cluster, "version")
    run(cluster, "doctor")
    assert run(cluster, "client", "--command", "LIST").stdout == "Files in the Servers are:\nf\n"
