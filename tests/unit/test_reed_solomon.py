"""The code reed-solomon: the contract of codes over every link, its frozen shares, and its way to ISA-L."""

import json
import os
import random
import shutil
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dfs.core.api import (
    Buffer,
    Code,
    CodeOptions,
    ConfigError,
    Geometry,
    PluginError,
    UnknownKeyError,
)
from dfs.plugins import reed_solomon
from dfs.testing import CodeContract
from dfs.testing.contracts.code import CodeVector

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "reed_solomon.json").read_text())["vectors"]
LINKS = ["isal", "table"] if reed_solomon._link_isal() else ["table"]


def frozen() -> tuple[CodeVector, ...]:
    vectors = []
    for vector in VECTORS:
        stripe, size = vector["stripe"], len(vector["stripe"]) // vector["k"]
        parts = (stripe[index * size : (index + 1) * size] for index in range(vector["k"]))
        vectors.append(CodeVector(vector["k"], vector["n"], stripe, (*parts, *vector["parity"])))
    return tuple(vectors)


class TestTable(CodeContract):
    (plugin,) = reed_solomon.dfs_codes()
    vectors = frozen()
    values = {"link": "table"}


@pytest.mark.skipif(LINKS == ["table"], reason="no ISA-L here")
class TestIsal(CodeContract):
    (plugin,) = reed_solomon.dfs_codes()
    vectors = frozen()
    values = {"link": "isal"}


def make(needed: int, total: int, link: str) -> reed_solomon.ReedSolomon:
    code = reed_solomon.make(CodeOptions(geometry=Geometry(needed, total), values={"link": link}))
    assert isinstance(code, reed_solomon.ReedSolomon)
    return code


def encode(code: Code, stripe: bytes) -> list[bytes]:
    """All n shares of a stripe that is a multiple of k long."""
    needed, total = code.geometry.needed, code.geometry.total
    size = len(stripe) // needed
    parity = [bytearray(size) for _ in range(total - needed)]
    code.encode_into(stripe, [memoryview(share) for share in parity])
    return [stripe[index * size : (index + 1) * size] for index in range(needed)] + [bytes(p) for p in parity]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the wheel with ISA-L is there for Linux only"
)
def test_isal_of_the_wheel_is_in_use_by_default() -> None:
    assert make(2, 4, "auto").link == make(2, 4, "isal").link == "isal-pyeclib"
    assert "pyeclib" not in sys.modules


@pytest.mark.parametrize("link", LINKS)
def test_the_largest_geometry_from_its_parity_alone(link: str) -> None:
    code = make(8, 16, link)
    shares = encode(code, random.Random(8).randbytes(8 * 1000))
    made = [bytearray(1000) for _ in range(8)]
    code.decode_into(dict(enumerate(shares[8:], 8)), {i: memoryview(made[i]) for i in range(8)})
    assert made == shares[:8]


def product(left: int, right: int) -> int:
    """Multiply in GF(2^8) by shifting, as the textbook does."""
    total = 0
    for bit in range(8):
        if right >> bit & 1:
            total ^= left << bit
    for bit in range(14, 7, -1):
        if total >> bit & 1:
            total ^= 0x11D << (bit - 8)
    return total


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_pieces_leave_no_seam(over: int, link: str) -> None:
    size = reed_solomon.PIECE_SIZE + over
    first, second, parity = encode(make(2, 3, link), random.Random(size).randbytes(2 * size))
    left, right = (next(x for x in range(256) if product(x, base) == 1) for base in (2, 3))  # 1 / (2 ^ j)
    for index in (0, 1, size // 2, *range(size - 3, size)):
        assert parity[index] == product(left, first[index]) ^ product(right, second[index])


@pytest.mark.parametrize("link", LINKS)
def test_wrong_sizes_counts_and_indexes_are_refused(link: str) -> None:
    code = make(2, 4, link)
    room = [memoryview(bytearray(b"\xa5" * 4)) for _ in range(3)]
    for stripe, parity in (
        (b"abcdefg", room[:2]),  # no multiple of k
        (b"abcdefgh", room[:1]),
        (b"abcdefgh", room),
        (b"abcdefgh", [room[0], room[1][:3]]),
        (b"abcdefghij", room[:2]),
        (b"abcdefgh", [room[0], room[1].toreadonly()]),
        (b"abcdefgh", [room[0], memoryview(bytearray(8))[::2]]),
        (memoryview(bytes(16))[::2], room[:2]),
        (memoryview(bytes(8)).cast("I"), room[:2]),
        (memoryview(bytes(8)).cast("B", (2, 4)), room[:2]),
    ):
        with pytest.raises(ValueError):
            code.encode_into(stripe, parity)
    decoding: list[tuple[dict[int, Buffer], dict[int, memoryview]]] = [
        ({0: b"abcd", 1: b"efg"}, {2: room[0]}),
        ({0: b"abcd", 1: b"efgh", 2: b"x"}, {3: room[0]}),
        ({0: b"abc", 1: b"efg"}, {2: room[0]}),
        ({0: b"abcd", 1: b"efgh"}, {4: room[0]}),
        ({0: b"abcd", 1: b"efgh"}, {-1: room[0]}),
        ({0: b"abcd", 4: b"efgh"}, {1: room[0]}),
        ({0: b"abcd", 1: b"efgh"}, {2: room[0].toreadonly()}),
        ({0: b"abcd", 1: memoryview(bytes(8))[::2]}, {2: room[0]}),
    ]
    for shares, wanted in decoding:
        with pytest.raises(ValueError):
            code.decode_into(shares, wanted)
    assert all(target == b"\xa5" * 4 for target in room)


@given(st.integers(0, 1 << 40), st.integers(1, 16))
def test_share_size(stripe_size: int, needed: int) -> None:
    size = make(needed, 16, "table").share_size(stripe_size)
    assert needed * (size - 1) < stripe_size <= needed * size or stripe_size == size == 0


@pytest.mark.skipif(LINKS == ["table"], reason="no ISA-L here")
def test_isal_is_handed_nothing_it_could_overrun() -> None:
    link = reed_solomon._link_isal()
    assert link is not None
    multiply = link.prepare((b"\1\1", b"\1\2"))
    room = [memoryview(bytearray(4)) for _ in range(2)]
    for sources, targets in (
        ([b"abcd", b"efg"], room),
        ([b"abcd", b"efgh"], [room[0], room[1][:3]]),
        ([b"abcd"], room),
        ([b"abcd", b"efgh", b"ijkl"], room),
        ([b"abcd", b"efgh"], room[:1]),
    ):
        with pytest.raises(ValueError):
            multiply(sources, targets)
    with pytest.raises(BufferError):
        multiply([b"abcd", b"efgh"], [room[0], room[1].toreadonly()])
    held = bytearray(b"efgh")
    multiply([b"abcd", held], room)
    held.extend(b"let go of after the call")  # a BufferError here if an export were left
    assert room[0] == bytes(a ^ b for a, b in zip(b"abcd", b"efgh", strict=True))


def test_products_are_kept_but_not_for_ever() -> None:
    code = make(8, 16, "table")
    shares = encode(code, bytes(range(8)))
    for chosen in list(combinations(range(16), 8))[-reed_solomon.LOSSES_KEPT_MAX - 9 :]:
        code.decode_into({index: shares[index] for index in chosen}, {0: memoryview(bytearray(1))})
    kept = code._product.cache_info()
    assert (kept.currsize, kept.hits) == (reed_solomon.LOSSES_KEPT_MAX, 0)
    code.decode_into({index: shares[index] for index in range(8, 16)}, {0: memoryview(bytearray(1))})
    assert code._product.cache_info().hits == 1


def wrong_prepare(rows: reed_solomon.Rows) -> reed_solomon.Product:
    return reed_solomon.TABLE.prepare(tuple(row[::-1] for row in rows))


def overrunning_prepare(rows: reed_solomon.Rows) -> reed_solomon.Product:
    multiply = reed_solomon.TABLE.prepare(rows)

    def overrun(sources: object, targets: list[memoryview]) -> None:
        multiply(sources, targets)  # type: ignore[arg-type]
        targets[-1].obj[-1] ^= 1  # type: ignore[index]

    return overrun  # type: ignore[return-value]


@pytest.mark.parametrize("prepare", [wrong_prepare, overrunning_prepare])
def test_a_link_that_computes_or_writes_wrongly_is_found_out(prepare: object) -> None:
    assert reed_solomon._agrees(reed_solomon.TABLE)
    assert not reed_solomon._agrees(reed_solomon.Link("bad", prepare))  # type: ignore[arg-type]


def test_libraries_that_do_not_fit_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / reed_solomon.WHEEL_FOLDER
    folder.mkdir()
    (folder / "libisal-broken.so.2").write_bytes(b"no library")
    monkeypatch.chdir(tmp_path)  # a relative entry would find it as well
    monkeypatch.setattr(sys, "path", ["", "relative", str(tmp_path / "missing"), str(tmp_path)])
    monkeypatch.setattr(reed_solomon, "SYSTEM_NAMES", ("libc.so.6", "libisal-that-is-not.so.9"))
    names = [(name, os.path.basename(path)) for name, path in reed_solomon._candidates()]
    assert names == [
        ("isal-pyeclib", "libisal-broken.so.2"),
        ("isal-system", "libc.so.6"),  # loads, but lacks the functions
        ("isal-system", "libisal-that-is-not.so.9"),
    ]
    monkeypatch.setattr(reed_solomon, "_link_isal", reed_solomon._link_isal.__wrapped__)
    assert make(2, 4, "auto").link == "table"
    with pytest.raises(PluginError, match="no ISA-L that works"):
        make(2, 4, "isal")


@pytest.mark.skipif(LINKS == ["table"], reason="no ISA-L here")
def test_a_system_library_is_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = reed_solomon._link_isal()
    assert link is not None
    path = next(path for name, path in reed_solomon._candidates() if name == link.name)
    shutil.copy(path, tmp_path / "libisal.so.2")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(reed_solomon, "SYSTEM_NAMES", (str(tmp_path / "libisal.so.2"),))
    monkeypatch.setattr(reed_solomon, "_link_isal", reed_solomon._link_isal.__wrapped__)
    code = make(2, 4, "auto")
    assert code.link == "isal-system"
    assert encode(code, b"abcdefgh") == encode(make(2, 4, "table"), b"abcdefgh")


def test_declaration() -> None:
    (plugin,) = reed_solomon.dfs_codes()
    code = plugin.make(CodeOptions(geometry=Geometry(2, 4)))
    assert (plugin.name, plugin.format_version, code.copies, code.geometry) == (
        "reed-solomon",
        1,
        1,
        Geometry(2, 4),
    )
    with pytest.raises(ConfigError, match="link is auto, isal or table, not 'zfec'"):
        make(2, 4, "zfec")
    with pytest.raises(UnknownKeyError, match="reed-solomon has no option 'linc': it has link"):
        plugin.make(CodeOptions(geometry=Geometry(2, 4), values={"linc": "table"}))
