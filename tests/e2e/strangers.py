"""An environment of a stranger: dfs as a wheel, other packages, nothing of this source tree."""

import os
import subprocess
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "packages"


class Stranger:
    """A virtual environment of its own with dfs installed as a wheel, and the packages a test adds."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"
        self.python = str(self.bin / "python")
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.pip("install", str(ROOT), "hatchling")

    def pip(self, *words: str) -> None:
        subprocess.run(
            [self.python, "-m", "pip", "-q", "--disable-pip-version-check", *words],
            check=True,
            env=self.environment,
            timeout=300,
        )

    def install(self, *names: str) -> None:
        self.pip("install", "--no-build-isolation", "--no-deps", *(str(PACKAGES / name) for name in names))

    def uninstall(self, *names: str) -> None:
        self.pip("uninstall", "-y", *names)

    def dfs(self, cluster: Any, conf: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `dfs` of this environment in the folder of a cluster."""
        ended = subprocess.run(
            [self.python, "-m", "dfs", "--conf", str(conf), *words],
            env={**cluster.environment, "PYTHONPATH": ""},
            cwd=cluster.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended


def write_conf(cluster: Any, name: str, lines: str = "", sections: str = "") -> Path:
    """Write a conf of Alice for the nodes of a cluster and return its path."""
    secret = cluster.folder / "secret"
    secret.write_text("white rabbit\n")
    secret.chmod(0o600)
    path: Path = cluster.folder / name
    rows = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    path.write_text(f'format = 1\nuser = "Alice"\npassword_file = "{secret}"\n{lines}{sections}{rows}')
    return path
