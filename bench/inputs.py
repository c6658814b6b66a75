"""The inputs of the works W1 to W6, the same at every run: made from fixed seeds, their digests printed.

W1 random bytes; W2 the Python sources of the running Python, one after the other, in another order at each
pass; W3 many small files of random bytes; W4 is W1 and W2 with nodes killed; W5 is W1 with 4 KiB changed in
the middle; W6 100 bytes. W2 is the same only where the same Python with the same packages is installed.

Run: python bench/inputs.py [--quick] [--into DIR]
"""

import hashlib
import json
import os
import random
import sysconfig
from pathlib import Path
from shutil import rmtree
from typing import Final

from attrs import frozen

from rig import KIB, MIB, BenchError, main, make_parser, workshop

SEED: Final = 20_240_601
SMALL_SIZE: Final = 4 * KIB
CHANGE_SIZE: Final = 4 * KIB
FRESH_STRIDE: Final = MIB  # no chunk is smaller where it matters, so each gets new bytes
PIECE: Final = MIB


@frozen
class Sizes:
    """How large the works are: bytes of W1 and W2, files of W3."""

    random: int
    sources: int
    small_count: int


FULL: Final = Sizes(1024 * MIB, 512 * MIB, 2000)
QUICK: Final = Sizes(64 * MIB, 32 * MIB, 200)


def sizes(*, quick: bool) -> Sizes:
    """Return the sizes of a run."""
    return QUICK if quick else FULL


def make_random(path: Path, size: int, seed: int = SEED) -> None:
    """Write W1: ``size`` random bytes."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        for offset in range(0, size, PIECE):
            file.write(chance.randbytes(min(PIECE, size - offset)))
        file.flush()
        os.fsync(file.fileno())


def make_sources(path: Path, size: int, seed: int = SEED) -> None:
    """Write W2: all .py files of the standard library and of installed packages, pass after pass."""
    folders = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    sources = sorted({source for folder in folders for source in folder.rglob("*.py") if source.is_file()})
    chance, written = random.Random(seed), 0
    with path.open("wb") as file:
        while written < size:
            chance.shuffle(sources)
            before = written
            for source in sources:
                written += file.write(source.read_bytes()[: size - written])
                if written == size:
                    break
            if written == before:
                raise BenchError("no Python source with anything in it is installed")
        file.flush()
        os.fsync(file.fileno())


def make_small(folder: Path, count: int, size: int = SMALL_SIZE, seed: int = SEED) -> None:
    """Write W3: ``count`` files of ``size`` random bytes, in place of what was there."""
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(chance.randbytes(size))


def make_tiny(path: Path) -> None:
    """Write W6: 100 bytes."""
    path.write_bytes(random.Random(SEED).randbytes(100))


def freshen(path: Path, turn: int) -> None:
    """Put new bytes into each MiB of a file, durably, so that no chunk of it is stored already."""
    chance = random.Random(SEED + turn)
    with path.open("r+b") as file:
        for offset in range(0, path.stat().st_size, FRESH_STRIDE):
            file.seek(offset)
            file.write(chance.randbytes(16))
        file.flush()
        os.fsync(file.fileno())


def change_middle(path: Path, turn: int) -> None:
    """Make W5 of a file: 4 KiB in the middle are others, on disk too."""
    middle = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(middle - middle % CHANGE_SIZE)
        file.write(random.Random(SEED - 1 - turn).randbytes(CHANGE_SIZE))
        file.flush()
        os.fsync(file.fileno())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder by name."""
    whole = hashlib.sha256()
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        with each.open("rb") as file:
            while piece := file.read(PIECE):
                whole.update(piece)
    return whole.hexdigest()


def _run() -> None:
    parser = make_parser(__doc__, limit_s=1800)
    parser.add_argument(
        "--into", type=Path, metavar="DIR", help="keep them there; default: they go at the end"
    )
    options = parser.parse_args()
    wanted = sizes(quick=options.quick)
    with workshop(options) as scratch:
        folder: Path = options.into or scratch
        folder.mkdir(parents=True, exist_ok=True)
        make_random(folder / "W1", wanted.random)
        make_sources(folder / "W2", wanted.sources)
        make_small(folder / "W3", wanted.small_count)
        make_random(folder / "W5", wanted.random)
        change_middle(folder / "W5", 0)
        make_tiny(folder / "W6")
        print(f"| work | bytes | files | SHA-256 |\n{'|---' * 4}|")
        lines = []
        for work in ("W1", "W2", "W3", "W5", "W6"):
            path = folder / work
            files = list(path.iterdir()) if path.is_dir() else [path]
            size = sum(file.stat().st_size for file in files)
            found = {"work": work, "bytes": size, "files": len(files), "sha256": digest(path)}
            print(f"| {work} | {size} | {len(files)} | {found['sha256']} |")
            lines.append(json.dumps({"v": 1, "program": "inputs", **found}))
        if options.out is not None:
            with options.out.open("a") as file:
                file.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main(_run)
