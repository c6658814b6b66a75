"""A node as a process: the ready line, the log, the signals, the forms of its start."""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from dfs.context import Context
from dfs.core import redaction
from dfs.core.errors import ConfigError
from dfs.core.redaction import conceal
from dfs.core.settings import NodeConf
from dfs.serve import JsonFormatter, _set_up_log, node_conf, notify

ROOT = Path(__file__).parents[2]


class Started:
    """A `dfs serve` process in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DFS_")}
        path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dfs", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**kept, "PYTHONPATH": path, "HOME": str(folder), **variables},
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Stop it; returns status and stderr."""
        self.process.send_signal(how)
        _, told = self.process.communicate(timeout=10)
        return self.process.returncode, told

    def told(self) -> tuple[int, str]:
        """Wait for its own end; returns status and stderr."""
        _, told = self.process.communicate(timeout=10)
        return self.process.returncode, told


@pytest.fixture
def started() -> Iterator[list[Started]]:
    nodes: list[Started] = []
    yield nodes
    for node in nodes:
        node.process.kill()
        node.process.communicate()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_one_ready_line_then_silence_and_a_clean_end(
    tmp_path: Path, started: list[Started], how: signal.Signals
) -> None:
    (tmp_path / "dfs.conf").write_text("odile pw\n")
    (tmp_path / "dfs.conf").chmod(0o644)
    node = Started(tmp_path, "serve", "--dir", "N1", "--port", "0", "--listen", "127.0.0.1")
    started.append(node)
    before, _, after = node.line.rstrip("\n").partition(", directory ")
    assert before.startswith("N1 listening on port ")
    port = int(before.split()[-1])
    assert after.startswith("N1 (new), tls SHA256:")
    assert after.endswith(", 1 user (dfs.conf)")
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    status, told = node.end(how)
    assert status == 0
    assert node.process.stdout is not None
    assert len(told.splitlines()) == 1
    assert "1 password in clear text; to convert: dfs user convert --users dfs.conf" in told
    assert "; others can read the file: chmod 600 dfs.conf" in told
    assert (tmp_path / "N1").stat().st_mode & 0o777 == 0o700


def test_without_users_the_ready_line_says_how_to_add_one(tmp_path: Path, started: list[Started]) -> None:
    node = Started(tmp_path, "serve", "--dir", "N1", "--port", "0", "--transport", "tcp")
    started.append(node)
    assert node.line.endswith("tcp, 0 users; add one: dfs user add NAME --users N1/.node/users\n")
    status, told = node.end()
    assert status == 0
    assert "transport tcp is not encrypted" in told


def test_programs_get_an_object_before_it_serves(tmp_path: Path, started: list[Started]) -> None:
    node = Started(tmp_path, "--json", "serve", "--dir", "N1", "--port", "0", "--listen", "127.0.0.1")
    started.append(node)
    values = json.loads(node.line)["data"]
    assert values["node"] == "N1"
    assert values["addresses"][0].startswith("127.0.0.1:")
    assert values["fingerprint"].startswith("SHA256:")
    assert node.end() == (0, "")


@pytest.mark.parametrize(
    ("words", "directory"),
    [
        (("serve", "DFS", "DFS1"), "DFS/DFS1"),
        (("serve", "DFS1/"), "DFS1"),
        (("/DFS1",), "DFS1"),
        (("./dfs1",), "dfs1"),
        (("1",), "DFS1"),
    ],
)
def test_the_start_up_forms_of_the_original(
    tmp_path: Path, started: list[Started], words: tuple[str, ...], directory: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    node = Started(tmp_path, *words, str(port))
    started.append(node)
    assert f"listening on port {port}, directory {directory} (new)" in node.line
    assert (tmp_path / directory).is_dir()
    assert node.end()[0] == 0


def test_a_busy_port_and_a_locked_directory_are_11(tmp_path: Path, started: list[Started]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = Started(tmp_path, "serve", "N1", str(port))
        started.append(refused)
        status, told = refused.told()
    assert status == 11
    assert len(told.splitlines()) == 1
    assert f"127.0.0.1:{port}" in told
    first = Started(tmp_path, "serve", "--dir", "N1", "--port", "0")
    second = Started(tmp_path, "serve", "--dir", "N1", "--port", "0")
    started += [first, second]
    assert second.told()[0] == 11
    assert first.end()[0] == 0


def test_sighup_reads_the_users_again(tmp_path: Path, started: list[Started]) -> None:
    node = Started(tmp_path, "serve", "--dir", "N1", "--port", "0", "--users", "users")
    started.append(node)
    (tmp_path / "users").write_text("odile ed25519:wrong\n")
    node.process.send_signal(signal.SIGHUP)
    assert node.process.stderr is not None
    assert "bad ed25519 key" in node.process.stderr.readline()
    assert node.end()[0] == 0


def test_the_supervisor_is_told(tmp_path: Path, started: list[Started]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        node = Started(tmp_path, "serve", "--dir", "N1", "--port", "0", **variables)
        started.append(node)
        assert systemd.recv(100) == b"READY=1"
        assert node.end()[0] == 0
        assert systemd.recv(100) == b"STOPPING=1"


def test_an_abstract_place_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"dfs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")
        assert select.select([systemd], [], [], 5)[0]
        assert systemd.recv(100) == b"READY=1"


def test_a_supervisor_that_is_gone_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with caplog.at_level(logging.WARNING, "dfs"):
        notify("READY=1")
    assert "cannot be told" in caplog.text


def test_a_reload_is_told_to_the_supervisor(tmp_path: Path, started: list[Started]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        node = Started(
            tmp_path, "serve", "--dir", "N1", "--port", "0", NOTIFY_SOCKET=str(tmp_path / "notify")
        )
        started.append(node)
        assert systemd.recv(100) == b"READY=1"
        node.process.send_signal(signal.SIGHUP)
        assert systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.recv(100) == b"READY=1"
        assert node.end()[0] == 0


def test_a_log_file_that_was_moved_away_is_made_anew(tmp_path: Path, started: list[Started]) -> None:
    words = ("serve", "--dir", "N1", "--port", "0", "--log-file", "node.log", "--log-format", "json")
    node = Started(tmp_path, *words, "--log-level", "info")
    started.append(node)
    log = tmp_path / "node.log"
    first = json.loads(log.read_text().splitlines()[0])
    assert (first["level"], first["text"].split(" ")[:2]) == ("info", ["N1", "serves"])
    log.rename(tmp_path / "node.log.1")
    node.process.send_signal(signal.SIGHUP)
    status, told = node.end()
    assert (status, told) == (0, "")
    assert "reload" not in (tmp_path / "node.log.1").read_text()
    assert "the log was opened anew" in log.read_text()


def test_a_log_file_that_cannot_be_written_is_told_at_once(tmp_path: Path, started: list[Started]) -> None:
    node = Started(tmp_path, "serve", "--dir", "N1", "--port", "0", "--log-file", "none/node.log")
    started.append(node)
    status, told = node.told()
    assert status == 2
    assert "the log file none/node.log: No such file" in told
    assert not (tmp_path / "N1").exists()


def test_a_bare_port_of_metrics_is_this_machines_alone() -> None:
    conf, _ = node_conf(Context(), [], {"metrics": "9177"})
    assert conf.metrics == "127.0.0.1:9177"
    conf, _ = node_conf(Context(), [], {"metrics": "0.0.0.0:9177"})
    assert conf.metrics == "0.0.0.0:9177"


# --- The conf -----------------------------------------------------------------------------------------------


def test_flags_win_over_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text('format = 1\ndir = "from-file"\nname = "file"\nport = 1\nlisten = "a"\n')
    monkeypatch.setenv("DFS_NAME", "variable")
    monkeypatch.setenv("DFS_PORT", "2")
    context = Context()
    context.flags.update(conf=str(file), transport="tcp")
    conf, required = node_conf(context, [], {"port": "3", "allow_anonymous": True})
    assert (conf.dir, conf.name, conf.port, conf.listen) == ("from-file", "variable", 3, "a")
    assert (conf.transport, conf.allow_anonymous, required) == ("tcp", True, False)


def test_a_form_says_where_and_who() -> None:
    conf, required = node_conf(Context(), ["DFS1", "7771", "people"], {})
    assert (conf.dir, conf.port, conf.users, conf.listen) == ("DFS1", 7771, "people", "127.0.0.1")
    assert required
    conf, required = node_conf(Context(), ["DFS1", "7771"], {"listen": "10.0.0.1"})
    assert (conf.listen, required) == ("10.0.0.1", False)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["a", "b", "c", "d"], {}),
        (["word"], {}),
        (["DFS1", "7771"], {"dir": "x"}),
        (["D", "1"], {"port": "2"}),
    ],
)
def test_words_that_start_nothing_are_refused(words: list[str], flags: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="usage: dfs serve"):
        node_conf(Context(), words, flags)


def test_a_conf_that_is_not_there_is_named() -> None:
    context = Context()
    context.flags["conf"] = "no-such.toml"
    with pytest.raises(ConfigError, match=r"no-such\.toml"):
        node_conf(context, [], {})


@pytest.mark.parametrize(
    ("limit", "soft", "room"), [(10_000, 128, 4096), (1_000, 128, 488), (4608, 4608, 4096), (600, 600, 88)]
)
def test_a_node_asks_for_the_descriptors_its_connections_need(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limit: int, soft: int, room: int
) -> None:
    """In a process of its own: what is given up cannot be taken back."""
    program = (
        "import resource, sys; from dfs.serve import with_room; from dfs.core.settings import NodeConf\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {limit}))\n"
        "print(with_room(NodeConf()).max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ended.stdout.split() == [str(room), str(min(limit, max(soft, 4608)))]
    assert ("ulimit" in ended.stderr) == (room < 4096)


def test_secrets_are_struck_out_of_every_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(redaction, "_forms", set())
    conceal("white rabbit")
    log = logging.getLogger("dfs")
    kept = log.handlers, log.filters, log.propagate, log.level, threading.excepthook
    try:
        for log_format in ("text", "json"):
            _set_up_log(evolve(NodeConf(), log_format=log_format))
            log.warning("%s said: %r", "Alice", "white rabbit")
            try:
                int("white rabbit")
            except ValueError:
                log.exception("a bug")
            crashed = threading.Thread(target=lambda: int("white rabbit"), name="dfs-mole")
            crashed.start()
            crashed.join()
    finally:
        log.handlers, log.filters, log.propagate, log.level, threading.excepthook = kept
    told = capsys.readouterr().err
    assert "rabbit" not in told
    assert told.count("'***'") == 6, "the words; the lines of code that hold them not counted"
    assert told.count("Traceback") == 4
    assert told.count("the thread dfs-mole ended by a bug") == 2


def test_the_log_can_be_read_by_programs() -> None:
    record = logging.LogRecord("dfs", logging.WARNING, "file", 1, "vault of %s", ("odile",), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["text"]) == ("warning", "vault of odile")
