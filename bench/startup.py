"""How long a command takes from nothing: `dfs --help`, `dfs ls` and a tiny put and get, beside a bare Python.

Run: python bench/startup.py [--quick] [--transport tls|tcp] [--repeat N]. Prints one JSON line a figure, then
a table. The account has a key file; `dfs ls` with a password, and the derivation alone (Argon2id, 64 MiB),
are lines of their own.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NODE_COUNT = 4
PYTHON = [sys.executable]
DFS = [sys.executable, "-m", "dfs"]
BOUNDS_MS = {"dfs --help": 120, "dfs ls": 250}  # on an idle 2-core machine


@contextmanager
def nodes(folder: Path, transport: str, environment: dict[str, str]) -> Iterator[Path]:
    """Start nodes and yield the conf of a client whose vault is made."""
    from dfs.core.keys import login_keys

    users, started, rows = folder / "users", [], []
    secret = os.urandom(32)
    public_key = base64.b64encode(login_keys(secret).public_key).decode()
    users.write_text(f"ada a fair password\nkay ed25519:{public_key}\n")
    users.chmod(0o600)
    try:
        for number in range(1, NODE_COUNT + 1):
            words = ["serve", "--dir", str(folder / f"DFS{number}"), "--port", "0", "--listen", "127.0.0.1"]
            process = subprocess.Popen(
                [*DFS, *words, "--users", str(users), "--transport", transport],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            started.append(process)
            line = process.stdout.readline() if process.stdout else ""
            port = line.split("listening on port ")[1].split(",")[0]
            rows.append(f"Server DFS{number} 127.0.0.1:{port}\n")
        conf, key = folder / "password.conf", folder / "key"
        conf.write_text("".join(rows) + "Username: ada\nPassword: a fair password\n")
        conf.chmod(0o600)
        key.write_text(f"dfs-key-1 {secret.hex()}\n")
        key.chmod(0o600)
        tables = [f'[[node]]\nname = "{row.split()[1]}"\naddress = "{row.split()[2]}"\n' for row in rows]
        keyed = folder / "client.toml"
        keyed.write_text(f'format = 1\nuser = "kay"\nkey_file = "{key}"\n' + "".join(tables))
        yield keyed
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)
            if process.stdout:
                process.stdout.close()


def timed(command: Sequence[str], environment: dict[str, str], repeat: int) -> list[float]:
    """Return wall milliseconds of so many runs after one that warms up."""
    times = []
    for index in range(repeat + 1):
        started_s = time.perf_counter()
        subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, check=True
        )
        if index:
            times.append((time.perf_counter() - started_s) * 1000)
    return times


def derivation(repeat: int) -> list[float]:
    """Return milliseconds of one password derivation."""
    from dfs.core.keys import KdfParameters, password_secret

    times = []
    for _ in range(repeat):
        started_s = time.perf_counter()
        password_secret(b"a fair password", "dfs", "ada", KdfParameters())
        times.append((time.perf_counter() - started_s) * 1000)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--transport", choices=["tls", "tcp"], default="tls")
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--out")
    options = parser.parse_args()
    repeat = options.repeat or (7 if options.quick else 31)
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DFS_")}
        environment["XDG_STATE_HOME"] = str(folder / "state")
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed dfs is compiled
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        sample = folder / "tiny"
        sample.write_bytes(b"x" * 100)
        with nodes(folder, options.transport, environment) as conf:
            client = [*DFS, "--conf", str(conf), "--transport", options.transport]
            rows["python -c pass"] = timed([*PYTHON, "-c", "pass"], environment, repeat)
            rows["dfs --help"] = timed([*DFS, "--help"], environment, repeat)
            rows["dfs ls"] = timed([*client, "ls"], environment, repeat)
            with_password = [*DFS, "--conf", str(folder / "password.conf"), "--transport", options.transport]
            rows["dfs ls, password"] = timed([*with_password, "ls"], environment, repeat)
            rows["dfs put, 100 bytes"] = timed([*client, "put", str(sample)], environment, repeat)
            rows["dfs get, 100 bytes"] = timed(
                [*client, "get", "tiny", "-o", str(folder / "o")], environment, repeat
            )
        rows["Argon2id alone"] = derivation(repeat)
    report(rows, options.transport, options.out)


def report(rows: dict[str, list[float]], transport: str, out: str | None) -> None:
    """Print one JSON line a figure, then a table with ratios to a bare start."""
    floor_ms = statistics.median(rows["python -c pass"])
    lines = [
        json.dumps(
            {
                "v": 1,
                "program": "startup",
                "op": name,
                "variant": {"transport": transport},
                "median_ms": round(statistics.median(times), 1),
                "min_ms": round(min(times), 1),
                "max_ms": round(max(times), 1),
                "ratio": round(statistics.median(times) / floor_ms, 2),
                "bound_ms": BOUNDS_MS.get(name),
            }
        )
        for name, times in rows.items()
    ]
    print(*lines, sep="\n")
    print(f"\n| {transport} | median ms | min | max | times bare Python | bound ms |")
    print("|---|---|---|---|---|---|")
    for name, times in rows.items():
        figures = f"{statistics.median(times):.0f} | {min(times):.0f} | {max(times):.0f}"
        print(
            f"| {name} | {figures} | {statistics.median(times) / floor_ms:.1f} | {BOUNDS_MS.get(name, '')} |"
        )
    if out:
        with Path(out).open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
