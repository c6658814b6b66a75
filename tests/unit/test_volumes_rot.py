"""Bit rot in the database of a vault: what changed is found or refused, never taken for what was written."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from dfs.core import messages
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import DfsError
from dfs.core.interface import StoreOptions, View
from dfs.core.messages import Floor
from dfs.plugins import volumes
from dfs.testing.stores import DIRECTORY, ballot, read, register_key
from tests.unit.node_bench import DIGEST, KEY, Bench, bench_of, claim, item, mine

STEP_SIZE = 113  # bytes from one flip to the next; of a page's 4096 that is some 36


def options_of(folder: Path) -> StoreOptions:
    return StoreOptions(
        directory=str(folder), files=RealFiles(), env=RealEnv(), inline_size_max=64, reserve_size=0
    )


def picture(bench: Bench) -> object:
    """All that the vault says it keeps."""

    def work(view: View) -> object:
        return (
            view.registers(DIRECTORY, b"", 100),
            [view.claims(key, ballot(1)) for key in (KEY, register_key(2))],
            view.lacking(b"", 100),
            view.directories(b"", 10),
            view.counts(),
        )

    store = bench.vault.store
    shares = [(key, read(store, key)) for key in store.shares(None, 100)]
    return store.view(work), shares, bench.vault.login_reply()


def findings(bench: Bench) -> list[str]:
    """Scrub to the end and return what was bad."""
    told: list[str] = []
    for _ in range(20):
        step = bench.vault.scrub()
        told += step.findings
        if step.ended:
            return told
    raise AssertionError("it does not end")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node that keeps something of every kind."""
    folder = tmp_path_factory.mktemp("rot") / "node"
    with closing(volumes.make(options_of(folder))) as store:
        bench = bench_of(store).active()
        for number in (1, 2, 3, 4):
            bench.keep(mine(number), body=bytes((number,)) * (5 if number % 2 else 30_000))
        bench.accept(item(1, b"\x01one", claims=[claim(1), claim(2)]))
        bench.confirm(1)
        second = item(1, b"\x01two", claims=[claim(3), claim(4), claim(5)], lenient=True)
        bench.accept(evolve(second, key=register_key(2)))
        bench.ask(messages.RaiseFloors(DIGEST, (Floor(DIRECTORY, ballot(1)),)))
        assert findings(bench) == []
    return folder


def places(content: bytes, first: int) -> Iterator[int]:
    """Where to flip a bit: nothing far from anything that is not zero."""
    for place in range(first, len(content), STEP_SIZE):
        if any(content[max(0, place - 16) : place + 16]):
            yield place


@pytest.mark.parametrize("first", range(0, STEP_SIZE, 29))
def test_no_flipped_bit_of_the_database_changes_anything_unnoticed(
    whole: Path, tmp_path: Path, first: int
) -> None:
    content = (whole / "ines" / "vault.db").read_bytes()
    with closing(volumes.make(options_of(shutil.copytree(whole, tmp_path / "whole")))) as store:
        expected = picture(bench_of(store))
    folder = tmp_path / "rotten"
    outcomes = {"told": 0, "refused": 0, "as before": 0}
    for place in places(content, first):
        shutil.copytree(whole, folder)
        rotten = bytearray(content)
        rotten[place] ^= 1 << (place % 8)
        (folder / "ines" / "vault.db").write_bytes(rotten)
        try:
            with closing(volumes.make(options_of(folder))) as store:
                bench = bench_of(store)
                if findings(bench):
                    outcomes["told"] += 1
                else:
                    found = picture(bench)
                    assert found == expected, f"byte {place}"
                    outcomes["as before"] += 1
        except DfsError:
            outcomes["refused"] += 1
        shutil.rmtree(folder)
    assert outcomes["told"] + outcomes["refused"] > outcomes["as before"], outcomes
