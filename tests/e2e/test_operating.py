"""A node in operation: its numbers, its end and its restart under load, its unit and its container files."""

import json
import random
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import COMMAND, MakeCluster, free_port

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"


def test_numbers_of_a_real_node(make_cluster: MakeCluster) -> None:
    pytest.importorskip("prometheus_client")
    port = free_port()
    cluster = make_cluster(1, "--metrics", str(port))
    cluster.dfs("put", str(cluster.file("f", b"x" * 100)))
    cluster.dfs("ls", conf=cluster.conf(password="wrong", name="wrong.conf"), status=12)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    counts = {name: float(value) for name, value in re.findall(r"^(dfs_\S+) (\S+)$", text, re.MULTILINE)}
    assert counts['dfs_requests_total{message="Accept"}'] >= 1
    assert counts['dfs_errors_total{error="LoginError"}'] >= 1
    assert counts["dfs_received_bytes_total"] > 500
    assert counts["dfs_sent_bytes_total"] > 500
    assert counts['dfs_vault_active{user="Alice"}'] == 1
    assert cluster.nodes[0].end(signal.SIGTERM) == 0


def test_restarts_one_by_one_under_load_lose_nothing(cluster: Any) -> None:
    """Each node is told to stop and started again while files come in; every OK holds."""
    contents = {f"{index:03}": random.Random(index).randbytes(200_000) for index in range(100)}
    for name, content in contents.items():
        cluster.file(f"many/{name}", content)
    folder = str(cluster.folder / "local" / "many")
    cluster.dfs("ls")
    putting = cluster.start("--json", "put", "-r", folder)
    for node in cluster.nodes:
        assert node.end(signal.SIGTERM) == 0
        node.start()
    told, _ = putting.communicate(timeout=100)
    assert putting.returncode in {0, 3, 7, 14}, told
    for file in json.loads(told)["data"]["files"]:
        if file.get("version"):  # it was said to be stored
            assert cluster.got(file["path"]) == contents[file["path"].removeprefix("many/")]
    cluster.dfs("put", "-r", folder, status=None)
    cluster.dfs("repair")
    checked = cluster.dfs("check", "--read-data").stdout
    assert b"100 files" in checked


def test_a_second_signal_ends_it_at_once(cluster: Any) -> None:
    """A peer that is in the middle of a request, and silent, would be waited for otherwise."""
    node = cluster.nodes[0]
    node.process.send_signal(signal.SIGTERM)
    assert node.end(signal.SIGTERM) in {0, 1}  # 0: it had ended before
    node.start()
    assert node.end(signal.SIGTERM) == 0


# --- Files for service managers and containers --------------------------------------------------------------


def test_the_unit_is_sound() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    unit = str(PACKAGING / "dfs-node.service")
    checked = subprocess.run(
        [analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    faults = [
        line for line in checked.stderr.splitlines() if "dfs-node" in line and "not executable" not in line
    ]
    assert faults == []
    judged = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=20", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-2000:]


def test_commands_in_unit_and_container_files_are_understood(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Every line that starts dfs there is one that dfs takes."""
    unit = (PACKAGING / "dfs-node.service").read_text()
    (start,) = re.findall(r"^ExecStart=\S+/dfs (.+)$", unit, re.MULTILINE)
    docker = (PACKAGING / "Dockerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (\[.+\])$", docker, re.MULTILINE)
    (words,) = re.findall(r"^CMD (\[.+\])$", docker, re.MULTILINE)
    assert json.loads(entry) == ["dfs"]
    for line in (start.split(), json.loads(words)):
        assert line[0] == "serve"
        ended = subprocess.run(
            [*COMMAND, *line, "--help"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr


def test_the_compose_file_names_four_nodes_and_what_they_need() -> None:
    text = (PACKAGING / "compose.yaml").read_text()
    services = text.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    assert re.findall(r"^  (dfs\d):$", services, re.MULTILINE) == ["dfs1", "dfs2", "dfs3", "dfs4"]
    assert re.findall(r"\"127\.0\.0\.1:(\d+):7771\"", text) == ["7771", "7772", "7773", "7774"]
    variables = set(re.findall(r"\b(DFS_[A-Z_]+)\b", text + (PACKAGING / "Dockerfile").read_text()))
    from dfs.core.settings import NodeConf, settings

    assert variables <= {setting.variable for setting in settings(NodeConf).values()}
