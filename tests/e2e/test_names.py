"""Names from elsewhere: whoever has the keys may write any, and they steer no reader and lead none astray."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from dfs.cluster import load_conf, open_cluster
from dfs.core import manifest
from dfs.core.types import Entry

NO_NAMES = (
    *("../climb", "t1/../../climb", "/climb", "t3//climb", ".."),
    *("a\x00b", "red\x1b[31m", "new\nline", "b\x07l"),
)
ESCAPES = (b"\x1b", b"\x00", b"\x07", "\u202e".encode(), b"\x9b")


@contextmanager
def another_program(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> Iterator[None]:
    """Write entries as a program would that does not keep to our rules: these paths instead of those."""
    encode: Callable[[Entry], bytes] = manifest.encode_entry
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "encode_entry", lambda e: encode(evolve(e, path=names.get(e.path, e.path))))
        yield


def store(cluster: Any, monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", cluster.environment["XDG_STATE_HOME"])
    source = cluster.file("content", b"evil" * 1000)
    with (
        another_program(monkeypatch, names),
        open_cluster(load_conf(str(cluster.conf()))) as writer,
    ):
        for path in names:
            writer.put(path, str(source))


def escapes_in(ended: "subprocess.CompletedProcess[bytes]") -> list[bytes]:
    return [escape for escape in ESCAPES if escape in ended.stderr + ended.stdout]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_names_that_are_none_are_refused_and_write_nothing(
    make_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(1)
    folders = {f"t{number}": evil for number, evil in enumerate(NO_NAMES)}
    store(cluster, monkeypatch, {f"{folder}/x": evil for folder, evil in folders.items()})
    inner = cluster.folder / "a" / "b"
    inner.mkdir(parents=True)
    before = tree(cluster.folder.parent)
    for folder in ["/", *folders]:
        ended = cluster.dfs("get", "-r", folder, "-o", str(inner / "got"), status=6, cwd=inner)
        assert b"does not belong there" in ended.stderr
        assert not escapes_in(ended)
    made = tree(cluster.folder.parent) - before
    assert all(path.startswith(("state", f"{cluster.folder.name}/a/b/got")) for path in made), made
    assert not [path for path in made if "climb" in path]
    for words in (("ls", "-R"), ("ls", "-l", "t0"), ("--json", "ls", "-R")):
        assert not escapes_in(cluster.dfs(*words, status=None))


def test_names_that_would_steer_a_terminal_are_escaped(
    make_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(1)
    name = "gpj.\u202eexe"  # no control character, and yet it turns what follows round
    store(cluster, monkeypatch, {name: name})
    assert cluster.dfs("ls").stdout == b"gpj.\\u202eexe\n"
    assert "\u202e".encode() not in cluster.dfs("ls", "-l").stdout
    told = json.loads(cluster.dfs("--json", "ls").stdout)
    assert [entry["path"] for entry in told["data"]["entries"]] == [name], "programs get it as it is"
    for words in (("get", name), ("rm", name)):
        ended = cluster.dfs(*words)
        assert "\u202e".encode() not in ended.stderr + ended.stdout


def test_links_are_not_followed_either_way(make_cluster: Any) -> None:
    cluster = make_cluster(1)
    outside = cluster.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"not for the cluster")
    source = cluster.folder / "source"
    (source / "real").mkdir(parents=True)
    (source / "real" / "f").write_bytes(b"f")
    (source / "folder").symlink_to(outside)
    (source / "file").symlink_to(outside / "secret")
    (source / "real" / "round").symlink_to(source)
    cluster.dfs("put", "-r", str(source))
    assert cluster.names("-R") == ["source/", "source/real/", "source/real/f"]

    target = cluster.folder / "target"
    (target / "source").mkdir(parents=True)
    (target / "source" / "real").symlink_to(outside)
    cluster.dfs("get", "-r", "source", "-o", str(target), status=9)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    (target / "source" / "real").unlink()
    (target / "source" / "real").mkdir()
    (target / "source" / "real" / "f").symlink_to(outside / "secret")
    cluster.dfs("get", "-r", "source", "-o", str(target), status=9)
    assert (outside / "secret").read_bytes() == b"not for the cluster"
