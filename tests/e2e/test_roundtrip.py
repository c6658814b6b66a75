"""Files come back byte for byte, whatever their size, bytes and names."""

import hashlib
import os
import random
import sysconfig
from pathlib import Path
from typing import Any

import pytest

CHUNK = 4 * 1024 * 1024
SIZES = (0, 1, 2, 3, 5, 1023, 1025, CHUNK - 1, CHUNK, CHUNK + 1)
NAMES = (
    "with blank.txt",
    ".hidden",
    "x.1",
    "two..dots",
    "quote\"double'single",
    "back\\slash",
    "résumé.pdf",
    "日本.txt",
    "-dash",
    "MiXeD cAsE",
    "a" * 251 + ".txt",
    "é" * 127,
    "[incomplete]",
)


def test_every_size_comes_back(cluster: Any) -> None:
    paths = [cluster.file(f"size-{size}", random.Random(size).randbytes(size)) for size in SIZES]
    cluster.dfs("put", *map(str, paths))
    assert cluster.names() == sorted(path.name for path in paths)
    for path in paths:
        assert cluster.got(path.name) == path.read_bytes(), path.name


def test_all_byte_values_and_text_come_back(cluster: Any) -> None:
    contents = {
        "bytes": bytes(range(256)) * 40,
        "zeros": bytes(3 * CHUNK + 17),
        "text": b"delimiters ### -#####- \r\n\0" * 9000,
    }
    for name, content in contents.items():
        cluster.dfs("put", str(cluster.file(name, content)))
    for name, content in contents.items():
        assert cluster.got(name) == content, name


def test_names_come_back(cluster: Any) -> None:
    paths = [cluster.file(name, name.encode()) for name in NAMES]
    cluster.dfs("put", "--to", "box/", "--", *map(str, paths))
    target = cluster.folder / "all"
    cluster.dfs("get", "-r", "box", "-o", str(target))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        name: name.encode() for name in NAMES
    }
    assert len(cluster.names("box")) == len(NAMES)


def test_a_pipe_goes_in_and_out(cluster: Any) -> None:
    content = random.Random(7).randbytes(CHUNK + 12345)
    cluster.dfs("put", "-", "--to", "piped", stdin=content)
    assert cluster.dfs("get", "piped", "-o", "-").stdout == content


def _tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in root.rglob("*")
        if path.is_file() or path.is_dir()
    }


@pytest.mark.long
def test_the_standard_library_comes_back(cluster: Any) -> None:
    """Thousands of real files, put recursively, listed and got back identical."""
    source = cluster.folder / "lib"
    source.mkdir()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in library.rglob("*"):
        inside = path.relative_to(library)
        if (
            path.is_symlink()
            or not path.is_file()
            or {"site-packages", "__pycache__"}.intersection(inside.parts)
        ):
            continue
        (source / inside).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, source / inside) if path.stat().st_dev == source.stat().st_dev else (
            source / inside
        ).write_bytes(path.read_bytes())
    expected = _tree(source)
    assert len(expected) > 1000
    cluster.dfs("put", "-r", str(source))
    listed = {name.rstrip("/") for name in cluster.names("-R", "lib")}
    assert {name.removeprefix("lib/") for name in listed} == set(expected)
    target = cluster.folder / "back"
    cluster.dfs("get", "-r", "lib", "-o", str(target))
    assert _tree(target) == expected


@pytest.mark.long
def test_300_mib_come_back(cluster: Any) -> None:
    path = cluster.folder / "large"
    source = random.Random(300)
    with path.open("wb") as file:
        for _ in range(300):
            file.write(source.randbytes(1024 * 1024))
    cluster.dfs("put", str(path))
    target = cluster.folder / "large.back"
    cluster.dfs("get", "large", "-o", str(target))
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()
