"""`dfs version`."""

import platform
from typing import Any

import dfs


def test_it_tells_what_runs_here(bare_home: Any) -> None:
    line, formats = bare_home.dfs("version")
    assert formats == "formats: wire 1, entry 1, conf 1"
    assert line.startswith(f"dfs {dfs.__version__}, Python {platform.python_version()}, ")
    assert bare_home.json("version")["data"]["plugin_api"] == 1


def test_a_faulty_conf_does_not_matter(bare_home: Any) -> None:
    bare_home.write("dfc.conf", b"nonsense\n")
    bare_home.dfs("version")
