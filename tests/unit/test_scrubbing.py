"""Scrubbing the real store: every kind of damage to what is kept is found, and nothing else."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, messages, node, scrubbing
from dfs.core.bulk_rows import LackingStripe
from dfs.core.env import RealEnv, RealFiles
from dfs.core.errors import StoreError
from dfs.core.interface import Store, StoreOptions, Transaction
from dfs.core.scrubbing import Step
from dfs.core.types import RegisterRow
from dfs.plugins import volumes
from dfs.testing.stores import ballot, body_of, register_key
from tests.unit.node_bench import DIGEST, HERE, KEY, Bench, bench_of, claim, item, mine

SMALL, LARGE = 5, 20_000
WALL_S = 1_700_000_000


def options_of(folder: Path) -> StoreOptions:
    return StoreOptions(
        directory=str(folder), files=RealFiles(), env=RealEnv(), inline_size_max=64, reserve_size=0
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(volumes.make(options_of(tmp_path / "node"))) as opened:
        yield opened


@pytest.fixture
def bench(store: Store, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two registers, each claiming a small and a large share."""
    bench = bench_of(store).active()
    for number in (1, 2, 3, 4):
        keep(bench, number)
    bench.accept(item(1, claims=[claim(1), claim(2)]))
    bench.accept(evolve(item(1, claims=[claim(3), claim(4)]), key=register_key(2)))
    monkeypatch.setattr(bench.env, "wall_s", lambda: WALL_S)
    return bench


def keep(bench: Bench, number: int) -> None:
    body = body_of(mine(number), LARGE if number % 2 else SMALL)
    head = messages.ShareHead(mine(number), len(body), xxh3_128_digest(body))
    bench.ask(messages.Store((head,)), body)


def scrub(bench: Bench, count_max: int = 100) -> list[Step]:
    """Scrub to the end."""
    steps = [bench.vault.scrub(count_max)]
    while not steps[-1].ended:
        steps.append(bench.vault.scrub(count_max))
        assert len(steps) < 100, "it does not end"
    return steps


def findings(bench: Bench) -> list[str]:
    return [finding for step in scrub(bench) for finding in step.findings]


def lacking(bench: Bench) -> list[LackingStripe]:
    return list(bulk_rows.decode_lacking(bench.ask(messages.Lacking(DIGEST, b"")).bulk[0]))


def change_rows(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "node" / "ines" / "vault.db")) as database, database:
        assert database.execute(statement).rowcount == 1


def test_what_is_whole_is_read_once_and_left_alone(bench: Bench) -> None:
    steps = scrub(bench)
    assert sum(step.size for step in steps) == 2 * (LARGE + SMALL) + 2 * len(item(1).value)
    assert findings(bench) == []
    assert lacking(bench) == []
    assert bench.reply(messages.Status()).scrubbed_s == WALL_S


@pytest.mark.parametrize("count_max", [1, 2, 3])
def test_it_goes_on_after_a_restart(store: Store, bench: Bench, count_max: int) -> None:
    sizes = [step.size for step in scrub(bench, count_max)]
    again: list[int] = []
    while len(again) < len(sizes):
        again.append(bench_of(store).vault.scrub(count_max).size)
    assert again == sizes
    assert sum(sizes) == 2 * (LARGE + SMALL) + 2 * len(item(1).value)


def test_a_step_ends_when_it_has_read_enough(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "STEP_SIZE", 100)
    assert [step.size for step in scrub(bench) if step.size > 100] == [LARGE, SMALL + LARGE]


@pytest.mark.parametrize("number", [1, 2])
def test_a_flipped_bit_of_a_share_is_found_told_once_and_repaired(
    bench: Bench, tmp_path: Path, number: int
) -> None:
    if number % 2:
        (path,) = (tmp_path / "node" / "ines" / "volumes").iterdir()
        content = bytearray(path.read_bytes())
        content[content.index(body_of(mine(number), LARGE)) + LARGE - 1] ^= 1
        path.write_bytes(content)
    else:
        change_rows(tmp_path, "UPDATE shares SET body = x'0102030405' WHERE rowid = 2")
    (finding,) = findings(bench)
    assert finding.startswith(f"share {HERE} of stripe {mine(number).stripe.hex()}")
    assert findings(bench) == []
    assert lacking(bench) == [LackingStripe(claim(number), (HERE,))]
    assert bench.reply(messages.Status()).corrupt_count == 1
    keep(bench, number)
    assert lacking(bench) == []
    assert findings(bench) == []


def test_a_volume_that_was_cut_is_found(bench: Bench, tmp_path: Path) -> None:
    (path,) = (tmp_path / "node" / "ines" / "volumes").iterdir()
    path.write_bytes(path.read_bytes()[: LARGE + 100])
    assert len(findings(bench)) == 1
    assert lacking(bench) == [LackingStripe(claim(3), (HERE,))]


def test_a_share_whose_row_is_gone_is_owed(bench: Bench, tmp_path: Path) -> None:
    change_rows(tmp_path, "DELETE FROM shares WHERE rowid = 3")
    (finding,) = findings(bench)
    assert "1 shares" in finding
    assert findings(bench) == []
    assert lacking(bench) == [LackingStripe(claim(3), (HERE,))]
    assert bench.reply(messages.Status()).owed_count == 1


def test_what_was_owed_before_is_no_finding(bench: Bench) -> None:
    bench.accept(item(2, claims=[claim(7)], lenient=True))
    assert findings(bench) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE claims SET stripe = zeroblob(32) WHERE position = 0 AND hex(name) LIKE '%01'",
        "UPDATE claims SET rest = x'00' WHERE position = 0 AND hex(name) LIKE '%01'",
        "DELETE FROM claims WHERE position = 1 AND hex(name) LIKE '%01'",
    ],
)
def test_damaged_claims_make_their_entry_corrupt_and_a_replay_brings_them_back(
    bench: Bench, tmp_path: Path, statement: str
) -> None:
    change_rows(tmp_path, statement)
    assert not bench.read().corrupt
    (finding,) = findings(bench)
    assert finding.startswith("the claims of entry")
    assert bench.read().corrupt
    whole = item(1, claims=[claim(1), claim(2)])
    columns = (whole.ballot, whole.value, whole.digest, whole.claim_set, whole.claims)
    replayed = bulk_rows.ReplayItem(KEY, whole.ballot, *columns, b"", False)
    reply = bench.reply(messages.Replay(DIGEST, 1), bulk_rows.encode_replays([replayed]))
    assert [result.status for result in reply.results] == [messages.ACCEPTED]
    assert findings(bench) == []
    assert bench.vault.store.view(lambda view: view.claims(KEY, whole.ballot)) == [claim(1), claim(2)]


def test_a_row_that_fails_its_digest_is_told(bench: Bench, tmp_path: Path) -> None:
    change_rows(tmp_path, "UPDATE registers SET value = x'00' WHERE hex(name) LIKE '%02'")
    (finding,) = findings(bench)
    assert finding.startswith("the entry")


def test_a_flipped_bit_of_a_name_is_found_wherever_the_name_stands(tmp_path: Path) -> None:
    """Rows, their indexes, claims and theirs: what the database itself keeps without a checksum."""
    folder, count, position = tmp_path / "node", 0, 0
    while True:
        with closing(volumes.make(options_of(folder))) as opened:
            bench = bench_of(opened).active()
            bench.keep(mine(77), mine(78))
            bench.accept(item(1, claims=[claim(77), claim(78)]))
            scrub(bench)
        path = folder / "ines" / "vault.db"
        content = bytearray(path.read_bytes())
        position = content.find(mine(77).stripe, position)
        if position < 0:
            break
        content[position + 20] ^= 1
        path.write_bytes(content)
        with closing(volumes.make(options_of(folder))) as opened:
            bench = bench_of(opened)
            try:
                told = bool(findings(bench))
            except StoreError:
                told = bench.vault.store.read_only_reason is not None
            assert told, f"byte {position}"
        shutil.rmtree(folder)
        count, position = count + 1, position + 1
    assert count >= 4


def meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> list[str]:
    """Scrub while something happens between each step's reading and its commit; return the findings."""
    run = bench.vault.commit.run

    def late(work: Callable[[Transaction], object]) -> object:
        change()
        return run(work)

    with monkeypatch.context() as patched:
        patched.setattr(bench.vault, "commit", Late(late))
        return findings(bench)


@define
class Late:
    """A commit that lets others go first."""

    run: Any
    later: Any = None


def test_a_share_that_comes_meanwhile_is_not_owed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_rows(tmp_path, "DELETE FROM shares WHERE rowid = 3")
    body = body_of(mine(3), LARGE)

    def come() -> None:
        staged = [bench.vault.store.stage(mine(3), xxh3_128_digest(body), body)]
        bench.vault.store.transact(lambda transaction: transaction.keep(staged))

    assert len(meanwhile(bench, monkeypatch, come)) == 1
    assert lacking(bench) == []


def test_a_row_written_over_meanwhile_is_not_spoiled_and_owes_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_rows(tmp_path, "DELETE FROM claims WHERE position = 1 AND hex(name) LIKE '%01'")
    change_rows(tmp_path, "DELETE FROM shares WHERE rowid = 3")

    def write_over() -> None:
        row = RegisterRow(ballot(2), ballot(2), b"\x01new", b"d" * 32)

        def work(transaction: Transaction) -> None:
            transaction.set_register(register_key(1), row)
            transaction.set_register(register_key(2), row)

        bench.vault.store.transact(work)

    assert len(meanwhile(bench, monkeypatch, write_over)) == 2
    assert not bench.read().corrupt
    assert bench.reply(messages.Status()).owed_count == 0


def test_a_scrub_that_is_stopped_ends_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.plugins.volumes.rows.CHECK_STEP_COUNT", 1)
    steps = [bench.vault.scrub(stopped=lambda: True) for _ in range(9)]
    assert not any(step.ended for step in steps)
    assert bench.vault.scrubbed_s() == 0
    assert bench.vault.scrub().ended
    assert bench.vault.scrubbed_s() == WALL_S


def test_an_empty_vault_is_scrubbed_too(store: Store) -> None:
    bench = bench_of(store)
    assert len(scrub(bench)) == 2
    assert node.SCRUB_COUNT > 0
