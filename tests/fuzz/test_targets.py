"""Every parser takes any bytes: what it gives is a value or an error of dfs, within bounded memory."""

import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from dfs.core import limits, messages
from tests.fuzz.drive import figures
from tests.fuzz.target import CORPUS, INPUT_SIZE_MAX, MEMORY_MAX, Target
from tests.fuzz.targets import TARGETS

CORPUS_COUNT_MAX = 200
CORPUS_SIZE_MAX = 300 * limits.KIB
EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


def mangled(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Seeds with a piece of any bytes in the place of some of theirs, and any bytes at all."""

    def mangle(seed: bytes, piece: bytes, offset: int, size: int) -> bytes:
        start = offset % (len(seed) + 1)
        return seed[:start] + piece + seed[start + size :]

    offsets = st.integers(0, INPUT_SIZE_MAX)
    near = st.builds(mangle, st.sampled_from(seeds), st.binary(max_size=12), offsets, st.integers(0, 24))
    return near | st.binary(max_size=200)


@EACH
def test_any_bytes_give_a_value_or_an_error_of_dfs(target: Target) -> None:
    seeds = [*target.seeds(), *target.corpus()]

    @settings(max_examples=60, deadline=None, database=None)
    @given(mangled(seeds))
    def check(raw: bytes) -> None:
        target.run(raw)

    check()


@EACH
def test_what_is_kept_is_parsed_within_bounds(target: Target) -> None:
    """The corpus holds what the fuzzers found worth keeping, and every input that once did harm."""
    taken = []
    for raw in (*target.seeds(), *target.corpus()):
        tracemalloc.start()
        try:
            taken.append(target.run(raw))
            assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
        finally:
            tracemalloc.stop()
    assert any(taken), "some input must be right, or nothing behind the first check is ever reached"


@EACH
def test_long_nonsense_costs_little(target: Target) -> None:
    for piece in (b"\x00", b"\xff", b"\x91", b"\xdc\x10\x00", b"\xc1", b"[", b"a=", b"\n", b"'", b'"a'):
        tracemalloc.start()
        try:
            target.run(piece * (limits.CONTROL_SIZE_MAX // len(piece)))
            assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
        finally:
            tracemalloc.stop()


def test_the_corpus_is_small_and_nobodys_left_over() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) <= CORPUS_COUNT_MAX
    assert sum(path.stat().st_size for path in files) <= CORPUS_SIZE_MAX
    assert {path.parent.name for path in files} <= TARGETS.keys()


def test_every_decoder_of_core_has_a_target() -> None:
    """A new parser comes with a target: each function that reads bytes is named in one of their files."""
    folder = Path(__file__).parent
    targets = "".join(path.read_text("utf-8") for path in folder.glob("*_targets.py"))
    core = folder.parents[1] / "dfs/core"
    readers = {
        name
        for path in core.glob("*.py")
        for name in re.findall(
            r"^def ((?:decode|parse|open|unwrap|read)_\w+)", path.read_text("utf-8"), re.MULTILINE
        )
    }
    others = {
        *("decode_run", "parse_size", "parse_duration", "parse_rate"),  # behind all others; behind confs
        *("read_client", "read_conf", "read_users"),  # behind those that parse files
        *("open_stripe", "open_doubtful", "open_wrap", "open_node"),  # work on what was decoded
        *("read_registers",),  # an operation
    }
    assert {name for name in readers - others if name not in targets} == set()


def test_every_message_has_a_seed() -> None:
    codes = sorted(messages.MESSAGES)
    asked = {raw[0] for raw in TARGETS["control"].seeds() if raw[0] < len(codes)}
    assert {codes[index] for index in asked} == set(codes)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("#14\tINITED cov: 32 rss: 62Mb\nDone 20000 in 2 second(s)\n", (20_000, 10_000, 62)),
        (
            (
                "#9 DONE rss: 61Mb\nDone 90 runs in 3 second(s)\nstat::number_of_executed_units: 90\n"
                "stat::average_exec_per_sec:     30\nstat::peak_rss_mb:              66\n"
            ),
            (90, 30, 66),
        ),
        ("it never began", (0, 0, 0)),
    ],
)
def test_what_a_fuzzer_tells_is_understood(told: str, expected: tuple[int, int, int]) -> None:
    assert figures(told) == expected
